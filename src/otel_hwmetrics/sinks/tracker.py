# SPDX-License-Identifier: Apache-2.0
"""Which spans are open, and which of them is the training's.

Alerts are found on the sampler's thread, and context does not cross threads, so it cannot see the span that the
training is in. A span processor keeps the open ones instead. It is on the hot path of every span of the application:
it never raises, takes no lock, and does little more than one dictionary entry (`benchmarks/span_cost.py`).
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from itertools import islice
from operator import attrgetter
from typing import Any, Protocol

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span, TraceFlags, TracerProvider
from opentelemetry.util.types import AttributeValue

from otel_hwmetrics import __version__
from otel_hwmetrics._guard import guard
from otel_hwmetrics.catalog import SCHEMA_URL
from otel_hwmetrics.sinks.ids import by_chance
from otel_hwmetrics.sinks.local_spans import LocalSpan, innermost, local
from otel_hwmetrics.sinks.matching import Matcher, phase_of

# Made once: they are on the application's hot path, and have no state.
_NOTING_A_START = guard("noting a span's start")
_NOTING_AN_END = guard("noting a span's end")


class _Open(weakref.ref[Span]):
    """One open span, what it is to the training, and its thread; held weakly, since not everybody ends what they start."""

    __slots__ = ("name", "number", "span_id", "thread")
    name: str
    number: int
    span_id: int
    thread: threading.Thread

    def live(self) -> Span | None:
        """The span, if it is open still."""
        span = self()
        return span if span is not None and span.is_recording() else None


class Journal(Protocol):
    """What a recording is told of training spans. On the training's thread: it raises nothing and waits for nothing."""

    def began(self, span: Any) -> None:
        """One has begun; once each."""
        ...

    def ended(self, span: Any) -> None:
        """One has ended: as the SDK tells of it, which changes no more. May be said twice of one."""
        ...

    def gone(self, span_id: int) -> None:
        """One is no more, and nobody told of its end. In the middle of whatever Python does, on any thread."""
        ...


def _leaves(span: Span) -> bool:
    """Whether what is put onto the span now will be seen: it is open, and no sampler has dropped it."""
    return span.is_recording() and (span.get_span_context().trace_flags.sampled or isinstance(span, LocalSpan))


class SpanTracker:
    """Knows which spans are open on which thread. One for the process: a provider cannot lose a processor again.

    An SDK span processor by its methods and not by inheritance, since the package needs only the API. The open spans
    are in two dictionaries that are changed by single operations, which the interpreter makes atomic.

    Attributes:
        on: Whether spans are noted.
        watches: Says by its name, and of a span, whether it is a training span without being told so by `watch`.
        greet: Called with each training span that opens, on its thread, while there is something to put onto it.
        part: Called with each `training_span` that is about to end, on its thread.
        journal: Is told of training spans; None where the run is not recorded.
        provider: Whose spans `training_span` opens where it is not told; the global one where this is None.
    """

    def __init__(self) -> None:
        self.on = False
        self.watches: Callable[[str, Span], bool] = Matcher(())
        self.greet: Callable[[Span], object] | None = None
        self.part: Callable[[Span], object] | None = None
        self.journal: Journal | None = None
        self.provider: TracerProvider | None = None
        self._open: dict[int, _Open] = {}  # by span id
        self._watched: dict[int, _Open] = {}  # those of them that are training spans
        self._numbers = itertools.count()  # in the order of opening
        self._on_gone = self._gone  # made once, and not for each span
        self._training_thread: weakref.ref[threading.Thread] | None = None
        self._awaiting = False
        self._attached: weakref.WeakSet[TracerProvider] = weakref.WeakSet()

    def attach(self, provider: TracerProvider | None = None) -> bool:
        """Join a tracer provider (the global one by default); False while it is not there or takes no processors.

        Called again and again until it is True, since a provider may be set long after `instrument()`.
        """
        wanted, provider = provider, provider or trace.get_tracer_provider()
        if provider in self._attached:
            return True
        add = getattr(provider, "add_span_processor", None)  # the API's proxy has none
        if add is None:
            if wanted is None:
                self._await_provider()
            return False
        self._attached.add(provider)
        add(self)
        return True

    def _await_provider(self) -> None:
        """Join the global provider in the moment when it is set, or the first spans of the training would be missed.

        The API tells nobody of that moment; every way to it leads through this private function. Without it (another
        version of the API) the next sample joins.
        """
        original = getattr(trace, "_set_tracer_provider", None)
        if self._awaiting or original is None:
            return
        self._awaiting = True

        @wraps(original)
        def set_and_join(*args: Any, **kwargs: Any) -> None:
            original(*args, **kwargs)
            if self.on:
                with guard("joining the tracer provider"):
                    self.attach()

        trace._set_tracer_provider = set_and_join  # noqa: SLF001 - see above

    def on_start(self, span: Span, parent_context: object = None) -> None:  # noqa: ARG002 - the SDK's signature
        """A span was started, on this thread."""
        if self.on:
            with _NOTING_A_START:
                # Of a span that is not recorded nobody hears; one that no sampler wants leaves the process nowhere.
                context = span.get_span_context()
                if context.trace_flags & TraceFlags.SAMPLED:
                    entry = self._note(span, context.span_id)
                    if self.watches(entry.name, span):
                        self._watch(span, entry)

    def on_end(self, span: Any) -> None:
        """A span was ended, on whatever thread."""
        if self.on:
            with _NOTING_AN_END:
                span_id = span.get_span_context().span_id
                if (journal := self.journal) is not None and span_id in self._watched:
                    journal.ended(span)
                self._forget(span_id)

    def on_exit(self, span: Span) -> None:
        """A span of ours was ended, on this thread; of a provider that has not met us nobody else tells the recording."""
        if self.journal is not None:
            self.on_end(span)

    def _on_ending(self, span: Any) -> None:
        """Nothing: attributes and events are frozen by now (https://github.com/open-telemetry/opentelemetry-python/issues/5614)."""

    def shutdown(self) -> None:
        """Nothing to release."""

    def force_flush(self, timeout_millis: int = 30000) -> bool:  # noqa: ARG002 - the SDK's signature
        """Nothing to flush."""
        return True

    def kept(
        self, span: Span, name: str, attributes: Mapping[str, AttributeValue] | None, context: Context | None = None
    ) -> Span:
        """The same span; where nobody keeps it and the run is recorded, one that is kept in the recording alone.

        Args:
            span: A training span that was just opened, on this thread.
            name: Its name.
            attributes: Those that it began with.
            context: Where it was opened; None for the current one.
        """
        if self.journal is None or not self.on or _leaves(span):
            return span
        with _NOTING_A_START:
            return local(span, name, attributes, context, self.on_end)
        return span

    def watch(self, span: Span) -> None:
        """Prefer this span, open on this thread, which from now on is the training's."""
        if not _leaves(span):
            return
        span_id = span.get_span_context().span_id
        # Not there: it is of a provider that has not met us, or was started while we were off.
        entry = self._open.get(span_id) or self._note(span, span_id)
        entry.thread = threading.current_thread()
        self._training_thread = weakref.ref(entry.thread)
        if span_id not in self._watched:
            self._watch(span, entry)

    def target(self) -> Span | None:
        """The span that an alert belongs to: on the training's thread the innermost watched one, else the innermost.

        The training's thread is the one that called `watch` last, while it lives or a span of it is open; else the main one.
        """
        thread = self.training()
        for spans in (self._watched, self._open):
            span = next((span for entry, span in _innermost_first(spans) if entry.thread is thread), None)
            if span is not None:
                return span
        return None

    def watched(self, most: int) -> list[Span]:
        """The training spans that are open, on whatever thread, the innermost first; so many of them at most."""
        return [span for _, span in islice(_innermost_first(self._watched), most)]

    def watched_target(self) -> Span | None:
        """The innermost training span that is open on the training's thread, else on any."""
        thread = self.training()
        found = [(entry.thread, span) for entry, span in _innermost_first(self._watched)]
        return next((span for each, span in found if each is thread), found[0][1] if found else None)

    def phase(self) -> str:
        """The phase that open spans of the training's thread tell of, the innermost that tells of one; empty for none."""
        thread = self.training()
        told = (phase_of(entry.name) for entry, _ in _innermost_first(self._watched) if entry.thread is thread)
        return next(filter(None, told), "")

    def training(self) -> threading.Thread:
        """The training's thread. From any thread; takes no lock."""
        training = self._training_thread() if self._training_thread is not None else None
        if training is None:
            return threading.main_thread()
        left_open = (entry.thread is training and entry.live() is not None for entry in self._open.copy().values())
        return training if training.is_alive() or any(left_open) else threading.main_thread()

    def reset(self) -> None:
        """Forget every span, and be off."""
        self.on = False
        self.watches = Matcher(())
        self.greet = self.part = self.journal = self.provider = None
        self._open.clear()
        self._watched.clear()
        self._training_thread = None

    def _watch(self, span: Span, entry: _Open) -> None:
        self._watched[entry.span_id] = entry
        if (journal := self.journal) is not None:
            journal.began(span)
        greet = self.greet
        if greet is not None:
            greet(span)

    def _note(self, span: Span, span_id: int) -> _Open:
        entry = _Open(span, self._on_gone)
        entry.span_id = span_id
        entry.number = next(self._numbers)
        entry.name = getattr(span, "name", "")
        entry.thread = threading.current_thread()  # the object: identifiers are used again
        self._open[span_id] = entry
        return entry

    def _gone(self, entry: Any) -> None:
        span_id = entry.span_id
        if (journal := self.journal) is not None and self._watched.get(span_id) is entry:
            with _NOTING_AN_END:
                journal.gone(span_id)
        self._forget(span_id)

    def _forget(self, span_id: int) -> None:
        self._open.pop(span_id, None)
        self._watched.pop(span_id, None)


_BY_NUMBER = attrgetter("number")


def _innermost_first(spans: dict[int, _Open]) -> Iterator[tuple[_Open, Span]]:
    """Those that are open still; over a copy, since the other threads go on."""
    for entry in sorted(spans.copy().values(), key=_BY_NUMBER, reverse=True):
        span = entry.live()
        if span is not None:
            yield entry, span


TRACKER = SpanTracker()


def watch(span: Span) -> Span:
    """Have alerts put onto a span that you opened yourself, on this thread, for as long as it is open.

    Without this they go to the innermost span that the option ``alert_spans`` makes a training span, else to the innermost
    open span of the main thread. A span that is not recording, or that was not sampled, is passed over.

    Returns:
        The same span.
    """
    with guard("watching a span"):
        TRACKER.watch(span)
    return span


@contextmanager
def training_span(
    name: str,
    *,
    attributes: Mapping[str, AttributeValue] | None = None,
    tracer_provider: TracerProvider | None = None,
) -> Iterator[Span]:
    """Open a span that alerts are put onto.

    A context manager, ``with training_span("epoch"):``, and a decorator of plain functions: a coroutine function or a
    generator function has returned before its work begins, so the span of one goes inside of it.

    An exception passes through and is recorded on the span, as OpenTelemetry's own context manager does.

    Args:
        name: Of the span.
        attributes: Of the span.
        tracer_provider: The one that `otel_hwmetrics.instrument` was given, else the global one, by default.

    Yields:
        The span, which is OpenTelemetry's current one meanwhile; where nobody keeps that (there is no SDK, a sampler dropped
        it) and the run is recorded, one that is kept in the recording alone.
    """
    tracer = by_chance(trace.get_tracer("otel_hwmetrics", __version__, tracer_provider or TRACKER.provider, SCHEMA_URL))
    current: Span = INVALID_SPAN
    try:
        with (
            tracer.start_as_current_span(name, attributes=attributes) as current,
            innermost(TRACKER.kept(current, name, attributes)) as span,
        ):
            try:
                yield watch(span)
            finally:
                with guard("summing up a span"):
                    part = TRACKER.part  # once: another thread may be switching us off
                    if part is not None:
                        part(span)
    finally:
        TRACKER.on_exit(current)
