# SPDX-License-Identifier: Apache-2.0
"""Rows to instruments. Nearly all are observable; a callback only formats what the sampler has, and reads no hardware.

The SDK cannot take an instrument back, and drops the callbacks of one that is made twice
(https://github.com/open-telemetry/opentelemetry-python/issues/2454). So the instruments of a meter provider are made
once, and ask a feed; without a feed they yield nothing, and nothing is exported.

A histogram is not observable: what it is of is recorded on the sampler's thread (`otel_hwmetrics.histograms`).
"""

from __future__ import annotations

import math
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple, Protocol

from opentelemetry import metrics
from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
from opentelemetry.trace import INVALID_SPAN, set_span_in_context

from otel_hwmetrics import __version__, forks, ranks
from otel_hwmetrics._guard import guard
from otel_hwmetrics.catalog import METRICS, PER_PROCESS, SCHEMA_URL, own
from otel_hwmetrics.histograms import RECORDING, Histograms, forget
from otel_hwmetrics.model import Attribute, Kind, Metric, Reading, Series, Snapshot
from otel_hwmetrics.windows import SHORTEST, Sample, between

SCOPE = "otel_hwmetrics"
"""The name of the instrumentation scope."""

NO_SPAN = set_span_in_context(INVALID_SPAN, Context())
"""A context without a span. An empty one would not do: the SDK takes whatever is current on the thread for it."""


class Voice(Protocol):
    """What this process has a say in."""

    def shows(self, series: Series, at: float = math.inf) -> bool:
        """Whether a series is exported here, of the look at that moment."""
        ...

    def signs(self, series: Series) -> bool:
        """Whether it has to say which process it is of."""
        ...

    def more(self, series: Series) -> float:
        """What is added to a counter's total, to go on from what another process has exported."""
        ...


class Feed(NamedTuple):
    """Where samples come from.

    Attributes:
        fresh: Gives a sample for this export; None when there is none to be had. It is given the seconds that it may
            take at the most.
        first: Gives the first sample after `instrument()`, which the first export's window reaches back to.
        shown: The names of the metrics that are exported; None for all.
        context: Gives the context of the exemplars of one collection.
        voice: What of it is exported, and how.
        health: Gives the readings of `own.HEALTH`, which need no sample; asked once a collection, after the sample.
        spent: Is told what a callback cost, in seconds of CPU time.
    """

    fresh: Callable[[float], Sample | None]
    first: Callable[[], Sample | None]
    shown: frozenset[str] | None = None
    context: Callable[[], Context] = lambda: NO_SPAN
    voice: Voice | None = None
    health: Callable[[], Iterable[Reading]] = tuple
    spent: Callable[[float], object] = lambda _: None


OF_THE_TIME = 0.25
"""Share of the time that a collection may take, for a look at the machine; the SDK drops all of one that takes longer."""

_HEALTH = {metric.name for metric in own.HEALTH}


class Collections:
    """Tells one collection of the SDK from the next, and gives each its snapshot.

    The SDK calls every callback once for every collection of every reader, one collection after the other, and tells
    the callbacks nothing of either. So a collection is new when a callback is called that the last one had already.
    A periodic reader's window reaches back to its own last collection; it is told by its thread, which is a daemon
    and the reader's for life. Whoever else collects (a scrape on a thread made for it, a `force_flush` on one of the
    application's) has the time since anybody's last collection, if that is time enough for rates.
    """

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._served: set[str] = set()
        self._snapshot: Snapshot | None = None
        self._health: dict[str, list[Reading]] = {}
        self._recent: deque[Sample] = deque(maxlen=8)  # the newest first
        self._last_of: weakref.WeakKeyDictionary[threading.Thread, Sample] = weakref.WeakKeyDictionary()
        self._begun = False
        self.number = 0  # of the collection that is under way
        self.patience = math.inf  # of the collection that is under way, with a look at the machine
        self.voice = feed.voice
        self.context = NO_SPAN  # of the collection that is under way
        self.at = math.inf  # when the machine was looked at, for the collection that is under way

    def snapshot_for(self, metric: Metric) -> Snapshot | None:
        """The snapshot of the collection that asks for this metric. Called under the SDK's lock."""
        if not self._begun or metric.name in self._served:
            self._begun = True
            self.number += 1
            self._served.clear()
            self._snapshot = self._collect()
            self.at = math.inf if self._snapshot is None else self._snapshot.window.end
            self._health = {}
            for reading in self._feed.health():
                self._health.setdefault(reading.metric.name, []).append(reading)
            self.context = self._feed.context()
        self._served.add(metric.name)
        return self._snapshot

    def readings_of(self, metric: Metric) -> Iterable[Reading]:
        """What is told of this metric in the collection that asks for it. Called under the SDK's lock."""
        snapshot = self.snapshot_for(metric)
        if metric.name in _HEALTH:
            return self._health.get(metric.name, ())
        return snapshot.of(metric) if snapshot is not None else ()

    def open_context(self) -> Context:
        """The context of what is recorded now."""
        return self._feed.context()

    def spent(self, seconds: float) -> None:
        """Tell what a callback cost."""
        self._feed.spent(seconds)

    def _collect(self) -> Snapshot | None:
        sample = self._feed.fresh(self.patience)
        if sample is None:
            return None
        earlier = self._start(sample)
        self._last_of[threading.current_thread()] = sample
        self._recent.appendleft(sample)
        return between(earlier, sample)

    def _start(self, sample: Sample) -> Sample | None:
        """Where the window of this collection begins."""
        thread = threading.current_thread()
        if thread.daemon and thread in self._last_of:
            return self._last_of[thread]
        return next((each for each in self._recent if sample.at - each.at >= SHORTEST), self._feed.first())


class Instruments:
    """Every row's instrument on one meter provider."""

    def __init__(self, provider: MeterProvider) -> None:
        """Make them. Takes the SDK's lock for each, so it may wait for a collection that is under way."""
        self._provider = weakref.ref(provider)
        self._collections: Collections | None = None
        self._shown: frozenset[str] | None = None
        self._identity: dict[str, Attribute] = {}
        self._identified = 0  # in which collection
        meter = provider.get_meter(SCOPE, __version__, SCHEMA_URL)
        self._histograms = Histograms(meter)
        create = {
            Kind.COUNTER: meter.create_observable_counter,
            Kind.UP_DOWN_COUNTER: meter.create_observable_up_down_counter,
            Kind.GAUGE: meter.create_observable_gauge,
        }
        for metric in METRICS:
            if metric.kind in create:
                callback = partial(self._observe, metric)
                create[metric.kind](metric.name, [callback], unit=metric.unit.value, description=metric.description)

    @property
    def fed(self) -> bool:
        """Whether they show anything."""
        return self._collections is not None

    def feed(self, feed: Feed | None) -> None:
        """Show what this feed gives; None: show nothing."""
        self._shown = feed.shown if feed is not None else None
        self._collections = Collections(feed) if feed is not None else None
        self._identified = 0
        if feed is None:
            with guard("forgetting what was recorded"), RECORDING:
                forget(self._real_provider())

    def record(self, series: Series, take: Callable[[], Sequence[float]]) -> bool:
        """Record values of a histogram; False where nobody hears of them yet, or any more. On the sampler's thread.

        Args:
            series: What they are values of.
            take: Gives them; not called where nobody hears.
        """
        with RECORDING:  # who lets go of the feed waits for its end, and then has all of it forgotten
            collections, name = self._collections, series.metric.name
            if collections is None or _is_proxy(self._real_provider()):
                return False
            values, voice = take(), collections.voice
            wanted = self._shown is None or name in self._shown
            if not values or not wanted or not (voice is None or voice.shows(series)):
                return True
            signed = name in PER_PROCESS if voice is None else voice.signs(series)
            attributes = {**series.attributes, **(self._missing_identity() if signed else {})}
            self._histograms.record(series.metric, values, attributes, (collections.open_context(), NO_SPAN))
            return True

    def _observe(self, metric: Metric, options: CallbackOptions) -> Iterable[Observation]:
        collections = self._collections
        observations: list[Observation] = []
        if collections is not None and (self._shown is None or metric.name in self._shown):
            started = time.thread_time()
            collections.patience = OF_THE_TIME * options.timeout_millis / 1e3
            with guard(f"showing {metric.name}"):
                observations = list(self._format(metric, collections.readings_of(metric), collections))
            collections.spent(time.thread_time() - started)
        return observations

    def _format(self, metric: Metric, readings: Iterable[Reading], collections: Collections) -> Iterable[Observation]:
        voice, context = collections.voice, collections.context
        signed = voice is None and metric.name in PER_PROCESS
        for reading in readings:
            series, total = reading.series, reading.value
            if voice is not None:
                if not voice.shows(series, collections.at):
                    continue
                signed = voice.signs(series)
                total += voice.more(series) if metric.kind is Kind.COUNTER else 0
            value = round(total) if metric.integer else float(total)
            attributes = (
                {**series.attributes, **self._process_identity(collections.number)} if signed else series.attributes
            )
            yield Observation(value, attributes, context)

    def _process_identity(self, collection: int) -> dict[str, Attribute]:
        """What the Resource does not tell of this process.

        Asked in each collection: by the first one with metrics the provider is real, and a launcher may tell a process its
        rank when that runs already, as Ray Train does. A Resource cannot learn of it.
        """
        if self._identified != collection:
            self._identity = self._missing_identity()
            self._identified = collection
        return self._identity

    def _missing_identity(self) -> dict[str, Attribute]:
        return ranks.missing_from(resource_attributes(self._real_provider()))

    def _real_provider(self) -> MeterProvider:
        """The provider that stands behind, as far as there is one by now."""
        provider = self._provider()
        return metrics.get_meter_provider() if provider is None or _is_proxy(provider) else provider


def record(series: Series, take: Callable[[], Sequence[float]]) -> None:
    """Record values of a histogram, where something is shown. On the sampler's thread.

    By one instrument alone: where two are equal, which is with the API's proxy, the SDK has one for both.

    Args:
        series: What they are values of.
        take: Gives them; called when somebody hears of them, so that what keeps them until then can go on keeping them.
    """
    for instruments in tuple(_made.values()):
        if instruments.record(series, take):
            return


def resource_attributes(provider: MeterProvider) -> dict[str, object] | None:
    """The attributes of a meter provider's Resource; None when it cannot be seen.

    The SDK's MeterProvider has no public way to its Resource (its TracerProvider has), so the private one is tried,
    and not found means not told.
    """
    resource = getattr(getattr(provider, "_sdk_config", None), "resource", None)
    attributes = getattr(resource, "attributes", None)
    return dict(attributes) if attributes is not None else None


def adds_up(provider: MeterProvider | None, environ: Mapping[str, str]) -> bool:
    """Whether a backend adds up the growth that it is told of (delta temporality), as far as can be seen.

    By the reader, which has no public way to it either, or by the environment:
    https://opentelemetry.io/docs/specs/otel/metrics/sdk_exporters/otlp/#additional-environment-variable-configuration
    """
    told = [
        getattr(temporality, "name", "")
        for reader in _readers_of(provider or metrics.get_meter_provider())
        for kind, temporality in getattr(reader, "_instrument_class_temporality", {}).items()
        if kind.__name__.endswith("ObservableCounter")
    ]
    if told:
        return "DELTA" in told
    return environ.get("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "").lower() == "delta"


def _readers_of(provider: object) -> Iterable[object]:
    """The readers of the SDK's provider, where they are private to each version of it."""
    before = getattr(getattr(provider, "_sdk_config", None), "metric_readers", ())  # up to 1.42
    readers: Iterable[object] = getattr(provider, "_metric_readers", before)
    return readers


_lock = threading.Lock()
_made: weakref.WeakKeyDictionary[MeterProvider, Instruments] = weakref.WeakKeyDictionary()


def instruments_of(provider: MeterProvider | None) -> list[Instruments]:
    """The instruments to feed so that this provider (the global one by default) shows them; made at first asking.

    More than one where the API's proxy was there first: what was made on it lives on in the real provider, and there
    the SDK keeps the first of two equal instruments, so both are fed and one of them is heard.
    """
    current = metrics.get_meter_provider()
    target = provider or current
    with _lock:
        wanted = [target]
        if target is current:
            wanted += [known for known in _made if known is not target and _is_proxy(known)]
        for each in wanted:
            if each not in _made:
                _made[each] = Instruments(each)
        return [_made[each] for each in wanted]


def _is_proxy(provider: MeterProvider) -> bool:
    return provider.__class__.__name__ == "_ProxyMeterProvider"  # private to the API, like its only instance


def _awaited() -> Iterator[forks.Awaited]:
    """What a fork waits for: instruments that are being made, and collections that ask ours."""
    yield forks.Awaited(_lock)
    for provider in _providers():
        consumer = getattr(provider, "_measurement_consumer", None)
        yield forks.Awaited(getattr(consumer, "_lock", None), partial(_mend, consumer))


def _providers() -> set[object]:
    """The providers that show something of ours."""
    fed = [provider for provider, instruments in _made.items() if instruments.fed]
    return {metrics.get_meter_provider() if _is_proxy(provider) else provider for provider in fed}


def _mend(consumer: object) -> None:
    """A child was forked in the middle of a collection: let it collect, and tell nothing that its parent has observed."""
    for storage in getattr(consumer, "_reader_storages", {}).values():
        if hasattr(storage, "_lock"):
            storage._lock = threading.RLock()  # noqa: SLF001 - the SDK's, and there is no other way
        kept = getattr(storage, "_instrument_view_instrument_matches", {})
        for instrument, matches in tuple(kept.items()):
            if instrument.instrumentation_scope.name == SCOPE:
                del kept[instrument]
                continue
            for match in matches:
                for each in (match, *getattr(match, "_attributes_aggregation", {}).values()):
                    lock = getattr(each, "_lock", None)
                    if lock is not None and lock.locked():
                        lock.release()


@forks.in_child
def _free_exports() -> None:
    """Let a child export though it was forked in the middle of an export, which may take seconds: the SDK does not.

    `PeriodicExportingMetricReader._at_fork_reinit` starts the reader's thread anew, and leaves it that lock.
    """
    for provider in _providers():
        for reader in _readers_of(provider):
            lock = getattr(reader, "_export_lock", None)
            if lock is not None:
                forks.free(lock)


forks.wait_for(_awaited)
