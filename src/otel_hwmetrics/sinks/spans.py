# SPDX-License-Identifier: Apache-2.0
"""Alerts as events on the training span that was open.

Alerts are found on the sampler's thread, and context does not cross threads, so it cannot see the span that the
training is in. A span processor keeps the open ones instead. It is on the hot path of every span of the application:
it never raises, takes no lock, and does little more than one dictionary entry (some 3 µs a span).
"""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import Span, TracerProvider
from opentelemetry.util.types import AttributeValue

from otel_hwmetrics import __version__
from otel_hwmetrics._guard import guard
from otel_hwmetrics.alerts.engine import Transition
from otel_hwmetrics.catalog import SCHEMA_URL, own
from otel_hwmetrics.sinks.base import event_attributes

EVENTS_A_SPAN = 32
"""Most events of ours on one span. The SDK keeps 128 and drops the oldest, which would be the user's."""
EVENTS_AN_ALERT = 2
"""Most events of one rule on one device on one span: that it began, and that it ended. So an alert that comes and goes
takes no room from the one that matters."""


class _Open:
    """One open span and the thread that it is of; held weakly, since not everybody ends what they start."""

    __slots__ = ("reference", "thread", "watched")

    def __init__(self, span: Span, on_gone: Any) -> None:
        self.reference = weakref.ref(span, on_gone)
        self.thread = threading.current_thread()  # the object: identifiers are used again
        self.watched = False


def _leaves(span: Span) -> bool:
    """Whether what is put onto the span now will leave the process: it is open, and no sampler has dropped it."""
    return span.is_recording() and span.get_span_context().trace_flags.sampled


class SpanTracker:
    """Knows which spans are open on which thread. One for the process: a provider cannot lose a processor again.

    An SDK span processor by its methods and not by inheritance, since the package needs only the API. The open spans
    are in one dictionary that is changed by single operations, which the interpreter makes atomic.
    """

    def __init__(self) -> None:
        self.on = False
        self._open: dict[int, _Open] = {}  # by span id, the innermost of each thread last
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
            with guard("noting a span's start"):
                if _leaves(span):
                    self._note(span)

    def on_end(self, span: Any) -> None:
        """A span was ended, on whatever thread."""
        if self.on:
            with guard("noting a span's end"):
                self._forget(span.get_span_context().span_id)

    def _on_ending(self, span: Any) -> None:
        """Nothing: attributes and events are frozen by now (https://github.com/open-telemetry/opentelemetry-python/issues/5614)."""

    def shutdown(self) -> None:
        """Nothing to release."""

    def force_flush(self, timeout_millis: int = 30000) -> bool:  # noqa: ARG002 - the SDK's signature
        """Nothing to flush."""
        return True

    def watch(self, span: Span) -> None:
        """Prefer this span, open on this thread, which from now on is the training's."""
        if not _leaves(span):
            return
        entry = self._open.get(span.get_span_context().span_id)
        if entry is None:  # of a provider that has not met us, or started while we were off
            entry = self._note(span)
        entry.watched = True
        entry.thread = threading.current_thread()
        self._training_thread = weakref.ref(entry.thread)

    def target(self) -> Span | None:
        """The span that an alert belongs to: on the training's thread the innermost watched one, else the innermost.

        The training's thread is the one that watched a span last; the main thread, if none did or no span of it is open.
        """
        innermost_first = reversed(self._open.copy().values())  # a copy, since the other threads go on
        live = [entry for entry in innermost_first if (span := entry.reference()) is not None and span.is_recording()]
        training = self._training_thread() if self._training_thread is not None else None
        for thread in (training, threading.main_thread()):
            candidates = [entry for entry in live if entry.thread is thread]
            if candidates:
                return next((entry for entry in candidates if entry.watched), candidates[0]).reference()
        return None

    def reset(self) -> None:
        """Forget every span, and be off."""
        self.on = False
        self._open.clear()
        self._training_thread = None

    def _note(self, span: Span) -> _Open:
        span_id = span.get_span_context().span_id
        entry = self._open[span_id] = _Open(span, lambda _: self._forget(span_id))
        return entry

    def _forget(self, span_id: int) -> None:
        self._open.pop(span_id, None)


TRACKER = SpanTracker()


class SpanSink:
    """Puts each transition onto the training span as an event, as long as there is room for ours."""

    def __init__(self) -> None:
        self._counts: weakref.WeakKeyDictionary[Span, Counter[object]] = weakref.WeakKeyDictionary()

    def on_transition(self, transition: Transition, span: Span | None) -> None:
        """Add the event, unless the span has ended or has enough of this alert or of ours."""
        if span is None or not span.is_recording():
            return
        counts = self._counts.setdefault(span, Counter())
        alert = (transition.rule.name, transition.subject.key)
        if counts[alert] < EVENTS_AN_ALERT and counts[SpanSink] < EVENTS_A_SPAN:
            counts.update((alert, SpanSink))
            span.add_event(own.ALERT_EVENT, event_attributes(transition), transition.time_unix_nano)
        else:
            counts[own.ALERT_EVENTS_DROPPED] += 1
            span.set_attribute(own.ALERT_EVENTS_DROPPED, counts[own.ALERT_EVENTS_DROPPED])


def watch(span: Span) -> Span:
    """Have alerts put onto a span that you opened yourself, on this thread, for as long as it is open.

    Without this they go to the innermost open span of the main thread. A span that is not recording, or that was not
    sampled, is passed over.

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

    A context manager, ``with training_span("epoch"):``, and a decorator.

    An exception passes through and is recorded on the span, as OpenTelemetry's own context manager does.

    Args:
        name: Of the span.
        attributes: Of the span.
        tracer_provider: The global one by default.
    """
    tracer = trace.get_tracer("otel_hwmetrics", __version__, tracer_provider, SCHEMA_URL)
    with tracer.start_as_current_span(name, attributes=attributes) as span:
        yield watch(span)
