# SPDX-License-Identifier: Apache-2.0
"""Histograms: what is recorded, who hears of it, and that it is forgotten where nothing is to be shown any more."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import set_span_in_context

from otel_hwmetrics.catalog import training as rows
from otel_hwmetrics.instruments import NO_SPAN, Feed, Instruments
from otel_hwmetrics.model import Series

SERIES = Series(rows.STEP_DURATION_HISTOGRAM)
ROW = rows.STEP_DURATION_HISTOGRAM


class Says:
    """What the process has a say in."""

    def __init__(self, *, shows: bool = True, signs: bool = True) -> None:
        self._shows, self._signs = shows, signs

    def shows(self, series: Series, at: float = 0.0) -> bool:  # noqa: ARG002
        """Whether it is exported here."""
        assert series is SERIES
        return self._shows

    def signs(self, series: Series) -> bool:
        """Whether it says of which process it is."""
        assert series is SERIES
        return self._signs

    def more(self, _: Series) -> float:
        """Nothing."""
        return 0.0


class Values:
    """Values that somebody may take."""

    def __init__(self, *values: float) -> None:
        self.values: Sequence[float] = values
        self.taken = 0

    def __call__(self) -> Sequence[float]:
        """Take them."""
        self.taken += 1
        return self.values


def feed(shown: frozenset[str] | None = None, voice: Says | None = None, context: Context = NO_SPAN) -> Feed:
    """One that has no samples."""
    return Feed(lambda _: None, lambda: None, shown, lambda: context, voice)


def points(reader: InMemoryMetricReader) -> list[Any]:
    """The points of the histogram in one collection."""
    data = reader.get_metrics_data()
    found = [
        metric
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == ROW.name
    ]
    assert all((metric.unit, metric.description) == ("s", ROW.description) for metric in found)
    return [point for metric in found for point in metric.data.data_points]


def test_values_fall_into_the_row_s_buckets() -> None:
    """Each once, for every reader; the buckets grow by the factor of two, from less than a millisecond to an hour."""
    readers = InMemoryMetricReader(), InMemoryMetricReader()
    instruments = Instruments(provider := MeterProvider(readers))
    instruments.feed(feed(voice=Says(signs=False)))
    for _ in range(2):
        assert instruments.record(SERIES, Values(0.3, 0.0001, 5000.0))
    for reader in readers:
        (point,) = points(reader)
        assert point.explicit_bounds == ROW.boundaries
        assert (point.count, point.sum) == (6, pytest.approx(2 * 5000.3001))
        assert point.bucket_counts[0] == point.bucket_counts[-1] == 2
        assert point.bucket_counts[ROW.boundaries.index(0.5)] == 2
        assert dict(point.attributes) == {}
    assert {after / before for before, after in zip(ROW.boundaries, ROW.boundaries[1:], strict=False)} == {2.0}
    assert ROW.boundaries[0] < 0.0002
    assert ROW.boundaries[-1] > 3600
    del provider


def test_a_view_makes_it_an_exponential_one() -> None:
    """As the page of metrics says."""
    reader = InMemoryMetricReader()
    view = View(instrument_name=ROW.name, aggregation=ExponentialBucketHistogramAggregation())
    instruments = Instruments(provider := MeterProvider([reader], views=[view]))
    instruments.feed(feed())
    instruments.record(SERIES, Values(0.25, 0.5, 8.0))
    (point,) = points(reader)
    assert (point.count, point.scale > 0) == (3, True)
    del provider


@pytest.mark.parametrize(
    ("given", "taken", "heard"),
    [
        pytest.param(feed(), 1, 1, id="all is shown"),
        pytest.param(feed(frozenset({ROW.name})), 1, 1, id="this is shown"),
        pytest.param(feed(frozenset({"hw.power"})), 1, 0, id="others are shown"),
        pytest.param(feed(voice=Says(shows=False)), 1, 0, id="this process is silent"),
        pytest.param(feed(voice=Says()), 1, 1, id="this process has a say"),
        pytest.param(None, 0, 0, id="nothing is shown"),
    ],
)
def test_who_hears(given: Feed | None, taken: int, heard: int) -> None:
    """What nobody wants is taken and let go; while nothing is shown it is left where it is."""
    reader, values = InMemoryMetricReader(), Values(1.0)
    instruments = Instruments(provider := MeterProvider([reader]))
    if given is not None:
        instruments.feed(given)
    assert instruments.record(SERIES, values) == bool(taken)
    assert values.taken == taken
    found = points(reader)
    assert len(found) == heard
    for point in found:
        assert point.attributes["process.pid"] == os.getpid()  # the Resource does not tell
    del provider


def test_no_values_make_no_point() -> None:
    """A job that tells no steps has no empty histogram."""
    reader = InMemoryMetricReader()
    instruments = Instruments(provider := MeterProvider([reader]))
    instruments.feed(feed())
    assert instruments.record(SERIES, Values())
    assert points(reader) == []
    del provider


@pytest.mark.parametrize("temporality", [AggregationTemporality.CUMULATIVE, AggregationTemporality.DELTA])
def test_what_was_recorded_is_forgotten_with_the_feed(temporality: AggregationTemporality) -> None:
    """Nothing is exported from then on, though the SDK would repeat it for ever; another feed begins anew."""
    reader = InMemoryMetricReader(preferred_temporality={Histogram: temporality})
    provider = MeterProvider([reader])
    other = provider.get_meter("another").create_histogram("mine")
    instruments = Instruments(provider)
    for values in ((1.0, 2.0), (4.0,)):
        instruments.feed(feed())
        instruments.record(SERIES, Values(*values))
        other.record(1.0)
        assert [(point.count, point.sum) for point in points(reader)] == [(len(values), sum(values))]
        instruments.record(SERIES, Values(8.0))
        instruments.feed(None)
        instruments.feed(None)
        assert points(reader) == []
        assert not instruments.record(SERIES, Values(1.0))
    other.record(1.0)
    data = reader.get_metrics_data()
    assert data is not None
    ((metric,),) = ([each.metrics[0]] for each in data.resource_metrics[0].scope_metrics)
    assert metric.name == "mine"  # what others have recorded is theirs


def test_a_feed_ends_though_the_sdk_is_stuck() -> None:
    """In a forked child a lock of the SDK may be taken for ever."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    instruments = Instruments(provider)
    instruments.feed(feed())
    instruments.record(SERIES, Values(1.0))
    with ExitStack() as stack:
        for storage in provider._measurement_consumer._reader_storages.values():
            stack.enter_context(storage._lock)
        thread = threading.Thread(target=instruments.feed, args=(None,), daemon=True)
        thread.start()
        thread.join(20)
        assert not thread.is_alive()
    assert points(reader) == []


def test_the_largest_leads_to_the_span_that_was_open() -> None:
    """A slow step's exemplar; the others have none."""
    reader = InMemoryMetricReader()
    instruments = Instruments(provider := MeterProvider([reader]))
    span = TracerProvider().get_tracer("training").start_span("epoch")
    instruments.feed(feed(context=set_span_in_context(span, Context())))
    instruments.record(SERIES, Values(0.1, 7.0, 0.2))
    (point,) = points(reader)
    assert [(each.value, each.span_id) for each in point.exemplars] == [(7.0, span.get_span_context().span_id)]
    del provider


THROUGH_A_LIFE = """
    import os, time
    from opentelemetry import metrics
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    import otel_hwmetrics as hw

    reader = InMemoryMetricReader()

    def counts():
        data = reader.get_metrics_data()
        return [point.count for resource in (data.resource_metrics if data else ()) for scope in resource.scope_metrics
                for metric in scope.metrics if metric.name.endswith("step.duration.histogram") for point in metric.data.data_points]

    def train(steps):
        for _ in hw.steps(range(steps)):
            pass

    def until(wanted):
        deadline = time.monotonic() + 20
        while (found := counts()) != wanted and time.monotonic() < deadline:
            time.sleep(0.05)
        return found

    options = {"sources": ("training",), "sample_interval": 0.2}
    train(3)
    hw.instrument(**options)
    train(4)
    time.sleep(0.5)  # looks at which nobody hears
    metrics.set_meter_provider(MeterProvider([reader]))
    print("late", until([7]))

    pid = os.fork()
    if not pid:
        found = counts()
        hw.instrument(**options)
        train(2)
        os._exit(0 if (found, until([2])) == ([], [2]) else 1)
    print("child", os.waitpid(pid, 0)[1])

    train(1)
    print("parent", until([8]))
    hw.uninstrument()
    train(5)
    print("off", counts())
    hw.instrument(**options)
    print("again", until([5]))
"""


def test_it_is_told_once_through_all_that_may_happen() -> None:
    """Steps before `instrument()` and before there is a provider; a child's apart from its parent's; off, and on again."""
    script = textwrap.dedent(THROUGH_A_LIFE)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.stderr == ""
    assert done.stdout == "late [7]\nchild 0\nparent [8]\noff []\nagain [5]\n"
