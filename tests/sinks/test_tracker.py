# SPDX-License-Identifier: Apache-2.0
"""Which span is the training's, through the real SDK; and that knowing the open ones harms nobody."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Decision, Sampler, StaticSampler
from opentelemetry.trace import INVALID_SPAN, Span, StatusCode, Tracer
from opentelemetry.util._once import Once

import otel_hwmetrics
from alarms import alert
from otel_hwmetrics import _guard
from otel_hwmetrics.catalog import SCHEMA_URL
from otel_hwmetrics.sinks import tracker as tracking
from otel_hwmetrics.sinks.matching import Matcher
from otel_hwmetrics.sinks.spans import SpanSink
from otel_hwmetrics.sinks.tracker import SpanTracker, training_span, watch


@pytest.fixture
def tracker(monkeypatch: pytest.MonkeyPatch) -> SpanTracker:
    """A tracker that is on, in the place of the process's own."""
    fresh = SpanTracker()
    fresh.on = True
    monkeypatch.setattr(tracking, "TRACKER", fresh)
    return fresh


@pytest.fixture
def provider(tracker: SpanTracker) -> TracerProvider:
    """An SDK provider that the tracker has joined."""
    made = TracerProvider()
    assert tracker.attach(made)
    return made


@pytest.fixture
def tracer(provider: TracerProvider) -> Tracer:
    """A tracer of it."""
    return provider.get_tracer("training")


@pytest.fixture
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """No global provider is set yet, and the one that the test sets is gone after it."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", Once())
    monkeypatch.setattr(trace, "_set_tracer_provider", trace._set_tracer_provider)


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in production."""
    monkeypatch.setattr(_guard, "LOUD", False)
    before = _guard.faults.copy()
    yield
    _guard.faults.clear()
    _guard.faults.update(before)


T = TypeVar("T")


def on_thread(work: Callable[[], T]) -> T:
    """What the work gives on a thread of its own."""
    given: list[T] = []
    thread = threading.Thread(target=lambda: given.append(work()))
    thread.start()
    thread.join()
    return given[0]


class RecordOnly(StaticSampler):
    """Records every span for processors and exports none."""

    def __init__(self) -> None:
        super().__init__(Decision.RECORD_ONLY)


def test_without_an_open_span_there_is_no_target(tracker: SpanTracker, tracer: Tracer) -> None:
    """Before the first and after the last."""
    assert tracker.target() is None
    tracer.start_span("step").end()
    assert tracker.target() is None


def test_unwatched_the_innermost_open_span_of_the_main_thread_is_the_target(
    tracker: SpanTracker, tracer: Tracer
) -> None:
    """Whether it is the current one or not; when it ends, the one around it."""
    with tracer.start_as_current_span("epoch") as epoch:
        assert tracker.target() is epoch
        step = tracer.start_span("step")
        assert tracker.target() is step
        with tracer.start_as_current_span("forward") as forward:
            assert tracker.target() is forward
        assert tracker.target() is step
        step.end()
        assert tracker.target() is epoch


def test_spans_that_end_out_of_order_leave_the_others(tracker: SpanTracker, tracer: Tracer) -> None:
    """The outer may end first."""
    outer, inner = tracer.start_span("outer"), tracer.start_span("inner")
    outer.end()
    assert tracker.target() is inner
    inner.end()
    assert tracker.target() is None


def test_watched_beats_inner_unwatched(tracker: SpanTracker, tracer: Tracer) -> None:
    """A span that somebody chose stays the target while it is open, whatever is opened within."""
    with tracer.start_as_current_span("epoch") as epoch:
        assert watch(epoch) is epoch
        with tracer.start_as_current_span("step") as step:
            assert tracker.target() is epoch
            watch(step)
            with tracer.start_as_current_span("forward"):
                assert tracker.target() is step
        assert tracker.target() is epoch


def test_when_the_watched_one_ends_the_innermost_open_is_next(tracker: SpanTracker, tracer: Tracer) -> None:
    """Alerts are not lost for the want of a watched span."""
    with tracer.start_as_current_span("run") as run:
        with tracer.start_as_current_span("epoch") as epoch:
            watch(epoch)
        assert tracker.target() is run


def test_watching_the_outer_after_the_inner_keeps_the_inner(tracker: SpanTracker, tracer: Tracer) -> None:
    """Innermost is by when they were opened, not by when they were watched."""
    outer, inner = tracer.start_span("outer"), tracer.start_span("inner")
    watch(inner)
    watch(outer)
    assert tracker.target() is inner
    inner.end()
    assert tracker.target() is outer
    outer.end()


def test_spans_of_other_threads_are_no_targets(tracker: SpanTracker, tracer: Tracer) -> None:
    """A data-loading thread's span has nothing to do with the training's, whichever is the innermost."""
    other = on_thread(lambda: tracer.start_span("loading"))
    assert tracker.target() is None
    with tracer.start_as_current_span("step") as step:
        late = on_thread(lambda: tracer.start_span("loading"))
        assert tracker.target() is step
    other.end()
    late.end()


def test_the_thread_that_watches_is_the_training_s(tracker: SpanTracker, tracer: Tracer) -> None:
    """Its innermost watched span is the target, before any of the main thread's; when it has none open, these are."""
    with tracer.start_as_current_span("main") as main:
        watched = on_thread(lambda: watch(tracer.start_span("training")))
        assert tracker.target() is watched
        with tracer.start_as_current_span("later"):
            assert tracker.target() is watched
        watched.end()
        assert tracker.target() is main


def test_the_thread_that_watched_last_is_the_training_s(tracker: SpanTracker, tracer: Tracer) -> None:
    """Watching again on the main thread takes it back."""
    worker = on_thread(lambda: watch(tracer.start_span("training")))
    with tracer.start_as_current_span("main") as main:
        watch(main)
        assert tracker.target() is main
    worker.end()


def test_a_span_handed_to_the_training_thread_is_the_training_s(tracker: SpanTracker, tracer: Tracer) -> None:
    """Opened on one thread and watched on another, it beats the unwatched ones of that other thread."""
    handed = on_thread(lambda: tracer.start_span("training"))
    own: list[Span] = []

    def train() -> Span | None:
        own.append(tracer.start_span("of this thread"))
        watch(handed)
        own.append(tracer.start_span("inner"))
        return tracker.target()

    assert on_thread(train) is handed
    assert tracker.target() is handed
    handed.end()
    for span in own:
        span.end()
    assert tracker._open == {}


def test_a_span_ended_on_another_thread_is_forgotten(tracker: SpanTracker, tracer: Tracer) -> None:
    """It is known by its id, wherever it ends."""
    span = tracer.start_span("step")
    on_thread(span.end)
    assert tracker.target() is None
    assert tracker._open == {}


@pytest.mark.parametrize("sampler", [ALWAYS_OFF, RecordOnly()], ids=["dropped", "recorded only"])
def test_what_is_not_sampled_is_no_target(tracker: SpanTracker, sampler: Sampler) -> None:
    """Nobody would see the event; the sampled span around it takes it, watched or not."""
    unsampled_provider, sampled_provider = TracerProvider(sampler=sampler), TracerProvider()
    tracker.attach(unsampled_provider)
    tracker.attach(sampled_provider)
    with sampled_provider.get_tracer("t").start_as_current_span("run") as run:
        with unsampled_provider.get_tracer("t").start_as_current_span("step", context=Context()) as step:
            assert not step.get_span_context().trace_flags.sampled
            assert watch(step) is step
            assert tracker.target() is run
        assert tracker.target() is run
    assert tracker.target() is None


def test_watching_what_is_not_recording_is_harmless(tracker: SpanTracker, tracer: Tracer) -> None:
    """The invalid span of an application without SDK, and a span that has ended."""
    ended = tracer.start_span("step")
    ended.end()
    with tracer.start_as_current_span("epoch") as epoch:
        watch(epoch)
        assert watch(INVALID_SPAN) is INVALID_SPAN
        assert watch(ended) is ended
        on_thread(lambda: watch(ended))
        assert tracker.target() is epoch


def test_spans_that_are_never_ended_are_let_go(tracker: SpanTracker, tracer: Tracer) -> None:
    """The tracker keeps nothing alive."""
    span = tracer.start_span("forgotten")
    watch(tracer.start_span("forgotten, and watched"))
    gc.collect()
    assert len(tracker._open) == 1
    assert tracker.target() is span
    del span
    gc.collect()
    assert tracker._open == {}
    assert tracker.target() is None


def test_it_joins_a_provider_once(tracker: SpanTracker) -> None:
    """However often it is asked to; and each provider that there is."""
    first, second = TracerProvider(), TracerProvider()
    for _ in range(3):
        assert tracker.attach(first)
        assert tracker.attach(second)
    for joined in (first, second):
        assert joined._active_span_processor._span_processors.count(cast("Any", tracker)) == 1


def test_it_joins_the_global_provider_in_the_moment_when_it_is_set(tracker: SpanTracker, unset: None) -> None:
    """`instrument()` may come first: the first span after `set_tracer_provider` is known."""
    early = trace.get_tracer("training")
    assert not tracker.attach()
    assert not tracker.attach()
    late = TracerProvider()
    trace.set_tracer_provider(late)
    with early.start_as_current_span("step") as step:
        assert tracker.target() is step
    assert tracker.attach()
    assert late._active_span_processor._span_processors.count(cast("Any", tracker)) == 1


def test_switched_off_it_does_not_join_a_late_provider(tracker: SpanTracker, unset: None) -> None:
    """After `uninstrument()` nothing of ours is added to what the application sets; `instrument()` again joins it."""
    assert not tracker.attach()
    tracker.reset()
    late = TracerProvider()
    trace.set_tracer_provider(late)
    assert late._active_span_processor._span_processors == ()
    tracker.on = True
    assert tracker.attach()


def test_a_span_that_matches_is_watched_without_being_told(tracker: SpanTracker, tracer: Tracer) -> None:
    """By the option `alert_spans`; an unwatched one within it is not the target."""
    tracker.watches = Matcher(("epoch",))
    with tracer.start_as_current_span("train") as train:
        assert tracker.target() is train
        with tracer.start_as_current_span("Epoch 3") as epoch, tracer.start_as_current_span("forward"):
            assert tracker.target() is epoch
            assert tracker.watched(9) == [epoch]
        assert tracker.watched(9) == []


def test_a_match_on_another_thread_does_not_make_it_the_training_s(tracker: SpanTracker, tracer: Tracer) -> None:
    """Only `watch()` does: a server that evaluates requests is not what trains, nor does it tell of a phase."""
    tracker.watches = Matcher(("eval",))
    serving = on_thread(lambda: tracer.start_span("evaluate request"))
    assert tracker.target() is None
    assert tracker.phase() == ""
    assert tracker.watched_target() is serving
    with tracer.start_as_current_span("main") as main:
        assert tracker.target() is main
        with tracer.start_as_current_span("eval") as own:
            assert tracker.target() is own
            assert tracker.watched_target() is own
    serving.end()


def test_the_watched_ones_are_told_innermost_first(tracker: SpanTracker, tracer: Tracer) -> None:
    """Of every thread; those that are only open are not among them."""
    with tracer.start_as_current_span("train") as train, tracer.start_as_current_span("epoch") as epoch:
        watch(train)
        other = on_thread(lambda: watch(tracer.start_span("other")))
        tracer.start_span("unwatched")
        watch(epoch)
        assert tracker.watched(9) == [other, epoch, train]
        assert tracker.watched(2) == [other, epoch]
        other.end()


def test_the_phase_is_that_of_the_innermost_span_that_tells_one(tracker: SpanTracker, tracer: Tracer) -> None:
    """Of training spans alone; by their names."""
    tracker.watches = Matcher(("all",))
    assert tracker.phase() == ""
    with tracer.start_as_current_span("train"):
        assert tracker.phase() == ""
        with tracer.start_as_current_span("validation"), tracer.start_as_current_span("step"):
            assert tracker.phase() == "evaluation"
            with tracer.start_as_current_span("save_checkpoint"):
                assert tracker.phase() == "checkpoint"
        assert tracker.phase() == ""


def test_a_span_is_greeted_once_when_it_becomes_a_training_span(tracker: SpanTracker, tracer: Tracer) -> None:
    """By its name as it opens, or by `watch()`; on its own thread."""
    greeted: list[tuple[Span, int]] = []
    tracker.watches = Matcher(("epoch",))
    tracker.greet = lambda span: greeted.append((span, threading.get_ident()))
    with tracer.start_as_current_span("run") as run, tracer.start_as_current_span("epoch") as epoch:
        watch(epoch)
        watch(run)
        watch(run)
        other = on_thread(lambda: (watch(tracer.start_span("x")), threading.get_ident()))
    assert greeted == [(epoch, threading.get_ident()), (run, threading.get_ident()), other]


def test_a_training_span_parts_before_it_ends(tracker: SpanTracker, provider: TracerProvider) -> None:
    """However it ends; and what goes wrong then is not the training's."""
    parted: list[bool] = []
    tracker.part = lambda span: parted.append(span.is_recording())
    with training_span("epoch", tracer_provider=provider):
        pass
    with pytest.raises(KeyError), training_span("epoch", tracer_provider=provider):
        raise KeyError
    assert parted == [True, True]


def test_what_goes_wrong_at_the_parting_harms_nobody(
    tracker: SpanTracker, provider: TracerProvider, quiet: None
) -> None:
    """The span ends, and the training's own error passes."""
    tracker.part = lambda _: 1 / 0
    with training_span("epoch", tracer_provider=provider) as span:
        pass
    assert not span.is_recording()
    assert _guard.faults["summing up a span"] == 1


class Foreign:
    """A tracer provider without `add_span_processor`."""

    def __init__(self) -> None:
        self.inner = TracerProvider()

    def get_tracer(self, *named: Any) -> Tracer:
        """As the API says."""
        return self.inner.get_tracer(*named)


def test_spans_of_a_foreign_provider_are_targets_when_they_are_watched(tracker: SpanTracker, unset: None) -> None:
    """It cannot be joined, so its spans are known by `watch` alone, and their end by asking them."""
    foreign = cast("trace.TracerProvider", Foreign())
    assert not tracker.attach(foreign)
    tracer = foreign.get_tracer("training")
    with tracer.start_as_current_span("unseen"):
        assert tracker.target() is None
        with tracer.start_as_current_span("epoch") as epoch:
            watch(epoch)
            assert tracker.target() is epoch
        assert tracker.target() is None
    del epoch
    gc.collect()
    assert tracker._open == {}


def test_a_foreign_span_that_ended_on_the_training_thread_does_not_hide_the_main_one_s(tracker: SpanTracker) -> None:
    """Its end is not told, so it is asked; then the main thread's innermost is next."""
    ours = TracerProvider()
    tracker.attach(ours)
    foreign = Foreign().get_tracer("training")
    with ours.get_tracer("t").start_as_current_span("main") as main:
        ended = on_thread(lambda: watch(foreign.start_span("epoch")))
        assert tracker.target() is ended
        ended.end()
        assert tracker.target() is main


def test_a_span_watched_before_instrument_is_a_target_after_it(tracker: SpanTracker, tracer: Tracer) -> None:
    """The script may open its span first."""
    tracker.on = False
    with tracer.start_as_current_span("epoch") as epoch:
        assert tracker.target() is None
        watch(epoch)
        tracker.on = True
        assert tracker.target() is epoch


def test_switched_off_it_notes_nothing(tracker: SpanTracker, tracer: Tracer) -> None:
    """A provider cannot lose a processor, so it must cost nothing."""
    tracker.on = False
    with tracer.start_as_current_span("step"):
        assert tracker._open == {}
        assert tracker.target() is None


def test_reset_forgets_open_spans_and_their_later_end_is_harmless(tracker: SpanTracker, tracer: Tracer) -> None:
    """Uninstrument within a span, instrument again within the same span."""
    with tracer.start_as_current_span("run") as run:
        watch(run)
        tracker.reset()
        assert not tracker.on
        assert tracker.target() is None
        with tracer.start_as_current_span("between"):
            tracker.on = True
            assert tracker.target() is None
        with tracer.start_as_current_span("after") as after:
            assert tracker.target() is after
    assert tracker.target() is None
    assert tracker._open == {}


def test_ten_thousand_spans_leave_nothing_behind(tracker: SpanTracker, tracer: Tracer) -> None:
    """Nor do the events that were put onto them."""
    sink = SpanSink(tracker)
    for _ in range(10_000):
        with tracer.start_as_current_span("request"):
            pass
    for _ in range(100):
        with tracer.start_as_current_span("step") as step:
            sink.on_alert(alert(span=watch(step)))
    del step
    gc.collect()
    assert tracker._open == tracker._watched == {}
    assert len(sink._rooms) == 0


def nest(tracer: Tracer, number: int) -> None:
    """Open and end 500 spans, two at a time."""
    for _ in range(250):
        with tracer.start_as_current_span("outer") as outer:
            if number % 2:
                watch(outer)
            tracer.start_span("inner").end()


def test_threads_of_spans_leave_nothing_behind(
    tracker: SpanTracker, tracer: Tracer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight threads open and end 500 spans each while another tells alerts; no fault, nothing left."""
    # An event may lose the race against the end of its span; the SDK says so in its log.
    monkeypatch.setattr(logging.getLogger("opentelemetry.sdk.trace"), "disabled", True)
    done = threading.Event()

    def tell() -> None:
        sink = SpanSink(tracker)
        while not done.is_set():
            sink.on_alert(alert(span=tracker.target()))
            sink.fires([alert().transition.rule])
            sink.settle()

    with ThreadPoolExecutor(9) as pool:
        telling = pool.submit(tell)
        opening = [pool.submit(nest, tracer, number) for number in range(8)]
        try:
            for each in opening:
                each.result()
        finally:
            done.set()
        telling.result()
    assert tracker._open == tracker._watched == {}
    assert tracker.target() is None


class HostileError(Exception):
    """What a hostile span raises."""


class Hostile:
    """A span whose every method fails."""

    def __getattr__(self, name: str) -> Any:
        raise HostileError(name)


def test_a_hostile_span_harms_nobody_in_production(tracker: SpanTracker, quiet: None) -> None:
    """Whatever a processor is given, starting and ending spans goes on; the faults are counted."""
    hostile = cast("Any", Hostile())
    tracker.on_start(hostile)
    tracker.on_end(hostile)
    assert watch(hostile) is hostile
    assert _guard.faults["noting a span's start"] == 1
    assert _guard.faults["noting a span's end"] == 1
    assert _guard.faults["watching a span"] == 1


def test_a_span_that_cannot_be_held_weakly_harms_nobody_in_production(tracker: SpanTracker, quiet: None) -> None:
    """It is not tracked; its owner notices nothing."""

    class Slotted(trace.NonRecordingSpan):
        __slots__ = ()

        def is_recording(self) -> bool:
            return True

    span = Slotted(trace.SpanContext(1, 2, is_remote=False, trace_flags=trace.TraceFlags(1)))
    tracker.on_start(span)
    assert watch(span) is span
    tracker.on_end(span)


def test_under_tests_a_hostile_span_is_told(tracker: SpanTracker) -> None:
    """The guard is loud here, so the test above tests something."""
    for call in (tracker.on_start, tracker.on_end, watch):
        with pytest.raises(HostileError):
            call(cast("Any", Hostile()))


def test_it_is_all_that_the_sdk_asks_of_a_processor(provider: TracerProvider) -> None:
    """Flushing and shutting the provider down go through it."""
    provider.get_tracer("t").start_span("step").end()
    assert provider.force_flush()
    provider.shutdown()


def finished(exporter: InMemorySpanExporter) -> ReadableSpan:
    """The one span that was exported."""
    (span,) = exporter.get_finished_spans()
    return span


@pytest.fixture
def exporter(provider: TracerProvider) -> InMemorySpanExporter:
    """Holds what the provider exports."""
    made = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(made))
    return made


def test_training_span_opens_a_watched_span(
    tracker: SpanTracker, provider: TracerProvider, tracer: Tracer, exporter: InMemorySpanExporter
) -> None:
    """Current within the block, a target even with others inside, ended after it; ours by scope and schema."""
    with training_span("epoch", attributes={"epoch": 3}, tracer_provider=provider) as epoch:
        assert trace.get_current_span() is epoch
        inner = tracer.start_span("inner")
        assert tracker.target() is epoch
        inner.end()
    assert trace.get_current_span() is INVALID_SPAN
    assert tracker.target() is None
    span = exporter.get_finished_spans()[-1]
    assert (span.name, dict(span.attributes or {}), span.status.status_code) == (
        "epoch",
        {"epoch": 3},
        StatusCode.UNSET,
    )
    assert span.instrumentation_scope is not None
    assert span.instrumentation_scope.name == "otel_hwmetrics"
    assert span.instrumentation_scope.version == otel_hwmetrics.__version__
    assert span.instrumentation_scope.schema_url == SCHEMA_URL


def test_training_span_is_a_decorator(
    tracker: SpanTracker, provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    """Each call is a span of its own, also a call within a call; value and arguments pass."""

    @training_span("epoch", tracer_provider=provider)
    def train(depth: int, *, more: int = 0) -> tuple[int, Span | None]:
        """Train."""
        if depth:
            train(depth - 1)
        return depth + more, tracker.target()

    result, target = train(1, more=5)
    assert result == 6
    first, second = exporter.get_finished_spans()
    assert target is not None
    assert first.parent is not None
    assert first.parent.span_id == target.get_span_context().span_id
    assert train.__name__ == "train"
    train(0)
    assert len(exporter.get_finished_spans()) == 3
    assert {span.name for span in exporter.get_finished_spans()} == {"epoch"}
    assert second.parent is None


def test_exceptions_pass_through_a_training_span_and_are_recorded(
    tracker: SpanTracker, provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    """The very same exception; the span has the error's status and event, and is ended."""
    error = RuntimeError("CUDA out of memory")
    with pytest.raises(RuntimeError) as raised, training_span("epoch", tracer_provider=provider):
        raise error
    assert raised.value is error
    span = finished(exporter)
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "RuntimeError: CUDA out of memory"
    assert [event.name for event in span.events] == ["exception"]
    assert tracker.target() is None


def test_a_training_span_is_of_the_global_provider_by_default(tracker: SpanTracker, unset: None) -> None:
    """Without any SDK it does nothing, and the block runs."""
    with training_span("epoch") as span:
        assert not span.is_recording()
    trace.set_tracer_provider(TracerProvider())
    with training_span("epoch") as span:
        assert span.is_recording()
        assert tracker.target() is span


class Notes:
    """A journal that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []

    def began(self, span: Any) -> None:
        """A start."""
        self.told.append(("began", span.get_span_context().span_id))

    def ended(self, span: Any) -> None:
        """An end, with its time."""
        assert span.end_time
        self.told.append(("ended", span.get_span_context().span_id))

    def gone(self, span_id: int) -> None:
        """None told of."""
        self.told.append(("gone", span_id))


@pytest.mark.parametrize("met", [True, False])
def test_a_recording_is_told_of_each_end_once_whoever_made_the_span(tracker: SpanTracker, *, met: bool) -> None:
    """Also where a provider has not met us, and where an exception ends the span."""
    made = TracerProvider()
    assert not met or tracker.attach(made)
    notes = tracker.journal = Notes()
    with (
        pytest.raises(ZeroDivisionError),
        training_span("epoch", tracer_provider=made) as outer,
        training_span("step", tracer_provider=made) as inner,
    ):
        raise ZeroDivisionError
    first, second = (span.get_span_context().span_id for span in (outer, inner))
    assert notes.told == [("began", first), ("began", second), ("ended", second), ("ended", first)]


def test_a_recording_is_told_of_a_training_span_that_is_let_go_unended(tracker: SpanTracker, tracer: Tracer) -> None:
    """Of no other, and of none that has ended."""
    notes = tracker.journal = Notes()
    tracer.start_span("of no interest")
    span = tracer.start_span("epoch")
    tracker.watch(span)
    span.end()
    span = tracer.start_span("epoch")
    tracker.watch(span)
    number = span.get_span_context().span_id
    del span
    gc.collect()
    assert notes.told[2:] == [("began", number), ("gone", number)]
