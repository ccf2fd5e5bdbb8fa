# SPDX-License-Identifier: Apache-2.0
"""What the hardware did while a training span was open, summed up on the span."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Span, Tracer

from otel_hwmetrics.catalog import framework, gpu, gpu_activity, pressure, process, summary, training, tree
from otel_hwmetrics.model import Metric, Reading, Series, Snapshot, Window
from otel_hwmetrics.sinks.matching import Matcher
from otel_hwmetrics.sinks.summary import MOST_SPANS, PATIENCE, Summaries
from otel_hwmetrics.sinks.tracker import SpanTracker

EPOCH = 1_700_000_000
"""Seconds; the monotonic clock of these tests is seconds since then."""


def nanoseconds(at: float) -> int:
    """The wall clock at a second of these tests."""
    return round((EPOCH + at) * 1e9)


Told = tuple[Metric, dict[str, Any], float]


def on_gpu(metric: Metric, value: float, device: str = "GPU-a", **more: Any) -> Told:
    """A reading of a GPU."""
    attributes = {gpu.HW_ID: device, gpu.HW_TYPE: "gpu", **more}
    if metric in (gpu.UTILIZATION, gpu.UTILIZATION_PEAK):
        attributes[gpu.HW_GPU_TASK] = "general"
    return metric, attributes, value


def snapshot(start: float, end: float, *told: Told) -> Snapshot:
    """What there was between two seconds."""
    readings = [Reading(Series(metric, attributes), value, end) for metric, attributes, value in told]
    return Snapshot(readings, Window(start, end), nanoseconds(end))


class World:
    """Summaries, their tracker, and a tracer whose spans begin when the test says so."""

    def __init__(self) -> None:
        self.tracker = SpanTracker()
        self.tracker.on = True
        self.tracker.watches = Matcher(("all",))
        provider = TracerProvider()
        self.tracker.attach(provider)
        self.tracer: Tracer = provider.get_tracer("t")
        self.now = 0.0
        self.asked: list[float] = []
        self.fresh: Callable[[float], object] = self.asked.append
        self.summaries = Summaries(self.tracker, 0.2, lambda: nanoseconds(self.now))
        self.summaries.start(self._fresh)

    def _fresh(self, wait: float) -> None:
        self.fresh(wait)

    def span(self, at: float, name: str = "epoch") -> Span:
        """A span that begins at that second."""
        return self.tracer.start_span(name, start_time=nanoseconds(at))

    def look(self, start: float, end: float, *told: Told) -> None:
        """A regular look."""
        self.now = end
        self.summaries.on_snapshot(snapshot(start, end, *told))


@pytest.fixture
def world() -> World:
    """An empty one."""
    return World()


def sums(span: Span) -> dict[str, Any]:
    """What is told of a span, by the last part of the attributes' names; but not of how much of it."""
    attributes = span.attributes  # type: ignore[attr-defined]
    told = {key.removeprefix("hwmetrics.summary."): value for key, value in attributes.items() if "summary" in key}
    return {key: value for key, value in told.items() if key != "time"}


def summed(span: Span) -> float | None:
    """How much of a span the sums are of, in seconds."""
    attributes = span.attributes  # type: ignore[attr-defined]
    return attributes.get(summary.SUMMED_TIME.name)  # type: ignore[no-any-return]


def test_every_figure_is_told(world: World) -> None:
    """Growth of counters, means and peaks of levels; by the names and in the types of their rows."""
    world.look(0, 1)
    span = world.span(1)

    def told(second: int) -> list[Told]:
        """Two GPUs; counters that grow each second, levels that differ."""
        both = (("GPU-a", 1), ("GPU-b", 2))
        return [
            *(on_gpu(gpu.ENERGY, 100.0 * second * factor, device) for device, factor in both),
            *(on_gpu(gpu.UTILIZATION, 0.4 * factor, device) for device, factor in both),
            *(on_gpu(gpu.UTILIZATION_PEAK, 0.45 * factor, device) for device, factor in both),
            *(on_gpu(gpu_activity.SM_ACTIVITY, 0.2 * factor, device) for device, factor in both),
            *(on_gpu(gpu_activity.TENSOR_ACTIVITY, 0.1 * factor, device) for device, factor in both),
            *(on_gpu(gpu.MEMORY_USAGE, 1e9 * factor, device) for device, factor in both),
            *(on_gpu(gpu.MEMORY_PEAK, 1.5e9 * factor, device) for device, factor in both),
            (framework.TORCH_ALLOCATED, {framework.TORCH_DEVICE: "cuda:0"}, 7e8 + second),
            *(
                on_gpu(gpu_activity.THROTTLE_TIME, share * second, "GPU-a", **{gpu_activity.THROTTLE_CAUSE: cause})
                for cause, share in (("hw_thermal", 0.5), ("sw_thermal", 0.25), ("sw_power_cap", 0.9))
            ),
            *((tree.CPU_TIME, {process.CPU_MODE: mode}, 2.0 * second) for mode in ("user", "system")),
            (tree.MEMORY_USAGE, {}, 5e9 - second),
            (tree.DISK_IO, {process.IO_DIRECTION: "read"}, 1000 * second),
            (tree.DISK_IO, {process.IO_DIRECTION: "write"}, 10 * second),
            *(
                (
                    pressure.STALL_TIME,
                    {pressure.RESOURCE: what, pressure.KIND: kind, pressure.SCOPE: scope},
                    share * second,
                )
                for what, share in (("cpu", 0.1), ("memory", 0.2), ("io", 0.3))
                for kind in ("some", "full")
                for scope, share in (("host", share), ("cgroup", share / 2))
            ),
            (training.DATA_WAIT_TIME, {}, 0.25 * second),
            (training.STEP_TIME, {}, 1.0 * second),
        ]

    for second in range(1, 12):
        world.look(second - 1, second, *told(second))
    expected = {
        summary.SUMMED_TIME: 10.0,
        summary.GPU_ENERGY: 3000.0,
        summary.GPU_UTILIZATION: 0.6,
        summary.GPU_UTILIZATION_PEAK: 0.9,
        summary.SM_ACTIVITY: 0.3,
        summary.SM_ACTIVITY_PEAK: 0.4,
        summary.TENSOR_ACTIVITY: 0.15,
        summary.TENSOR_ACTIVITY_PEAK: 0.2,
        summary.GPU_MEMORY_PEAK: 3_000_000_000,
        summary.TORCH_MEMORY_PEAK: 700_000_011,
        summary.THROTTLED_TIME: 5.0,
        summary.CPU_TIME: 40.0,
        summary.MEMORY_PEAK: 4_999_999_999,
        summary.BYTES_READ: 10_000,
        summary.BYTES_WRITTEN: 100,
        summary.STALL_CPU: 0.5,
        summary.STALL_MEMORY: 1.0,
        summary.STALL_IO: 1.5,
        summary.DATA_WAIT_SHARE: 0.25,
    }
    assert set(expected) == set(summary.FIGURES)
    attributes = span.attributes  # type: ignore[attr-defined]
    assert dict(attributes) == pytest.approx({figure.name: value for figure, value in expected.items()})
    whole = {figure.name for figure in summary.FIGURES if figure.unit.value == "By"}
    assert {name for name, value in attributes.items() if isinstance(value, int)} == whole


def test_what_cannot_be_read_is_not_told(world: World) -> None:
    """No zero stands for it."""
    world.look(0, 1)
    span = world.span(1)
    for second in range(2, 5):
        world.look(second - 1, second, on_gpu(gpu.ENERGY, 7.0 * second))
    assert sums(span) == {"gpu.energy": 14.0}


def test_a_span_that_began_between_two_looks_has_its_part(world: World) -> None:
    """Half a second of two: a quarter of what was used between them is the one's before it."""
    world.look(0, 2, on_gpu(gpu.ENERGY, 100.0))
    span = world.span(2.5)
    world.look(2, 4, on_gpu(gpu.ENERGY, 300.0))
    world.look(4, 5, on_gpu(gpu.ENERGY, 400.0))
    assert sums(span) == {"gpu.energy": pytest.approx(150.0 + 100.0)}
    assert summed(span) == 2.5


def test_a_span_that_began_before_us_is_summed_up_from_our_first_look_on(world: World) -> None:
    """Of what was before nothing is known."""
    span = world.span(-1000)
    world.look(0, 1, on_gpu(gpu.ENERGY, 100.0))
    assert sums(span) == {}
    world.look(1, 2, on_gpu(gpu.ENERGY, 150.0))
    assert sums(span) == {"gpu.energy": 50.0}
    assert summed(span) == 1.0


def test_what_comes_late_counts_from_there_on_and_what_goes_stays_as_it_was(world: World) -> None:
    """A GPU that is met in the middle, and one that falls off the bus."""
    span = world.span(0)
    world.look(0, 1, on_gpu(gpu.ENERGY, 10.0))
    world.look(1, 2, on_gpu(gpu.ENERGY, 20.0), on_gpu(gpu.ENERGY, 1000.0, "GPU-b"))
    world.look(2, 3, on_gpu(gpu.ENERGY, 1007.0, "GPU-b"))
    assert sums(span) == {"gpu.energy": 10.0 + 7.0}


def test_peaks_of_the_time_before_the_span_are_not_the_span_s(world: World) -> None:
    """The window of its first look began before it."""
    world.look(0, 1, on_gpu(gpu.MEMORY_USAGE, 5.0), on_gpu(gpu.MEMORY_PEAK, 99.0))
    span = world.span(1.5)
    world.look(1, 2, on_gpu(gpu.MEMORY_USAGE, 6.0), on_gpu(gpu.MEMORY_PEAK, 50.0))
    world.look(2, 3, on_gpu(gpu.MEMORY_USAGE, 6.0), on_gpu(gpu.MEMORY_PEAK, 7.0))
    assert sums(span) == {"gpu.memory.peak": 7}


def test_a_mean_is_over_time_and_not_over_looks(world: World) -> None:
    """A look that was late speaks of more time."""
    span = world.span(0)
    world.look(0, 0)
    world.look(0, 1, on_gpu(gpu.UTILIZATION, 0.0))
    world.look(1, 4, on_gpu(gpu.UTILIZATION, 1.0))
    assert sums(span)["gpu.utilization"] == pytest.approx(1.0)  # from its first reading on
    world.look(4, 5, on_gpu(gpu.UTILIZATION, 0.0))
    assert sums(span)["gpu.utilization"] == pytest.approx(0.75)


def test_a_short_span_has_no_sums_and_waits_for_nothing(world: World) -> None:
    """One that lives between two looks."""
    world.look(0, 1, on_gpu(gpu.ENERGY, 10.0))
    span = world.span(1.2)
    world.summaries.part(span)
    span.end()
    world.look(1, 2, on_gpu(gpu.ENERGY, 20.0))
    assert sums(span) == {}
    assert world.asked == []


def test_at_its_end_a_training_span_is_exact(world: World) -> None:
    """It has the machine looked at once more, and what that look tells is on it before it ends."""
    world.look(0, 1, on_gpu(gpu.ENERGY, 10.0))
    span = world.span(1)
    for second in (2, 3):
        world.look(second - 1, second, on_gpu(gpu.ENERGY, 10.0 * second))
    world.fresh = lambda _: world.summaries.glance(lambda: snapshot(3, 3.4, on_gpu(gpu.ENERGY, 34.0)))
    world.now = 3.4
    world.summaries.part(span)
    assert sums(span) == {"gpu.energy": pytest.approx(24.0)}
    span.end()
    world.look(3, 4, on_gpu(gpu.ENERGY, 40.0))
    assert sums(span) == {"gpu.energy": pytest.approx(24.0)}


def test_a_last_look_changes_nothing_of_the_next_regular_one(world: World) -> None:
    """Means of other spans do not count the time twice."""
    outer, inner = world.span(0, "run"), world.span(0, "epoch")
    world.look(0, 0)
    world.look(0, 1, on_gpu(gpu.UTILIZATION, 1.0))
    world.fresh = lambda _: world.summaries.glance(lambda: snapshot(1, 1.5, on_gpu(gpu.UTILIZATION, 0.0)))
    world.summaries.part(inner)
    inner.end()
    world.look(1, 2, on_gpu(gpu.UTILIZATION, 0.5))
    assert sums(outer)["gpu.utilization"] == pytest.approx(0.5)


def test_a_glance_is_worked_out_only_if_a_span_waits_for_it(world: World) -> None:
    """Every export is one."""

    def never() -> Snapshot:
        raise AssertionError

    world.span(0)
    world.look(0, 1)
    world.summaries.glance(never)


@pytest.mark.parametrize(("age", "waits"), [(1.0, 0.01), (10.0, 0.1), (100.0, 0.2), (1e6, 0.2)])
def test_the_end_of_a_span_waits_for_a_hundredth_of_its_length_at_most(world: World, age: float, waits: float) -> None:
    """And never longer than an export does: training is not slowed."""
    assert PATIENCE == 0.01
    span = world.span(0)
    world.look(0, 0)
    world.now = age
    world.summaries.part(span)
    assert world.asked == [pytest.approx(waits)]


def test_a_span_that_did_not_wait_long_enough_keeps_the_last_sums(world: World) -> None:
    """It ends; the look that comes late finds it ended, and says nothing to anybody."""
    span = world.span(0)
    world.look(0, 1, on_gpu(gpu.ENERGY, 10.0))
    world.look(1, 2, on_gpu(gpu.ENERGY, 20.0))
    world.summaries.part(span)
    span.end()
    world.summaries.glance(lambda: snapshot(2, 3, on_gpu(gpu.ENERGY, 30.0)))
    assert sums(span) == {"gpu.energy": 10.0}
    assert summed(span) == 1.0


def test_a_span_that_did_not_wait_long_enough_has_all_that_is_known(world: World) -> None:
    """Also what an old one was not told yet."""
    span = world.span(0)
    for second in range(1, 1206):
        world.look(second - 1, second, on_gpu(gpu.ENERGY, float(second)))
    world.now = 1205
    assert sums(span)["gpu.energy"] < 1204.0
    world.summaries.part(span)
    assert sums(span) == {"gpu.energy": 1204.0}


def test_a_regular_look_that_was_under_way_is_not_the_last_one(world: World) -> None:
    """It is older than what the end of the span waits for."""
    world.look(0, 1, on_gpu(gpu.ENERGY, 10.0))
    span = world.span(1)

    def fresh(_: float) -> None:
        world.look(1, 2, on_gpu(gpu.ENERGY, 20.0))
        world.summaries.glance(lambda: snapshot(2, 2.5, on_gpu(gpu.ENERGY, 25.0)))

    world.look(1, 1.5, on_gpu(gpu.ENERGY, 15.0))
    world.fresh, world.now = fresh, 2.4
    world.summaries.part(span)
    assert sums(span) == {"gpu.energy": pytest.approx(15.0)}


def test_a_span_of_little_more_than_a_sample_has_sums(world: World) -> None:
    """From its first look on."""
    world.look(0, 1, on_gpu(gpu.ENERGY, 10.0))
    span = world.span(1.1)
    world.look(1, 2, on_gpu(gpu.ENERGY, 20.0))
    assert sums(span) == {"gpu.energy": pytest.approx(9.0)}
    assert summed(span) == pytest.approx(0.9)


def test_an_old_span_is_updated_more_seldom(world: World) -> None:
    """Each second while it is young, each ten when it is old."""
    span = world.span(0)
    told: list[float] = []
    for second in range(1, 1200):
        world.look(second - 1, second, on_gpu(gpu.ENERGY, float(second)))
        energy = sums(span).get("gpu.energy")
        if energy is not None and (not told or energy != told[-1]):
            told.append(energy)
    assert told[:30] == [float(second) for second in range(1, 31)]
    gaps = [later - earlier for earlier, later in pairwise(told)]
    assert gaps == sorted(gaps)
    assert gaps[-1] == 10.0


def test_of_many_training_spans_the_innermost_are_summed_up(world: World) -> None:
    """However many are open, a look takes as long."""
    spans = [world.span(0, f"span {number}") for number in range(100)]
    for second in (1, 2):
        world.look(second - 1, second, on_gpu(gpu.ENERGY, float(second)))
    assert [bool(sums(span)) for span in spans] == [False] * (100 - MOST_SPANS) + [True] * MOST_SPANS


def test_spans_that_are_gone_are_let_go(world: World) -> None:
    """Nothing of theirs is kept."""
    for second in range(1, 10):
        span = world.span(second - 1)
        world.look(second - 1, second, on_gpu(gpu.ENERGY, float(second)))
        span.end()
    del span
    assert len(world.summaries._spans) == 0


@given(st.lists(st.tuples(st.floats(0.1, 3), st.floats(0, 500)), min_size=3, max_size=20), st.data())
def test_the_energy_of_spans_in_a_row_is_that_of_the_whole(
    looks: list[tuple[float, float]], data: st.DataObject
) -> None:
    """Whenever they begin and end: each is interpolated at its start and exact at its end, and nothing is lost or twice."""
    world = World()
    at, energy = 0.0, 0.0
    world.look(-1, 0, on_gpu(gpu.ENERGY, 0.0))
    outer, inner = world.span(0, "run"), world.span(0)
    parts: list[float] = []

    def end(span: Span) -> float:
        """End a span with a last look; gives its energy."""
        world.now = at
        world.fresh = lambda _: world.summaries.glance(lambda: snapshot(at, at, on_gpu(gpu.ENERGY, energy)))
        world.summaries.part(span)
        span.end()
        return float(sums(span).get("gpu.energy", 0.0))

    for seconds, joules in looks:
        world.look(at, at + seconds, on_gpu(gpu.ENERGY, energy + joules))
        at, energy = at + seconds, energy + joules
        if data.draw(st.booleans()):  # an epoch ends with this look, and the next one begins
            parts.append(end(inner))
            inner = world.span(at)
    parts.append(end(inner))
    assert end(outer) == pytest.approx(energy, abs=1e-6)
    assert sum(parts) == pytest.approx(energy, abs=1e-6)
