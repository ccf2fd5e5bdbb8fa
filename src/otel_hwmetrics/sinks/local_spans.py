# SPDX-License-Identifier: Apache-2.0
"""Training spans that nobody else keeps: the job has no SDK, or its sampler dropped them, and the run is recorded.

Such a span is one by OpenTelemetry's API, so that alerts and sums go onto it as onto any other; it leaves the process
nowhere but in the recording. It is never OpenTelemetry's current span: a program that passes its context on to others would
tell them of a trace that no backend knows.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanContext, Status, StatusCode, TraceFlags
from opentelemetry.util.types import AttributeValue

from otel_hwmetrics.sinks.ids import OfChance

MOST_ATTRIBUTES: Final = 128
"""Of one span, as the SDK has it by default."""
_IDS: Final = OfChance()

_innermost: ContextVar[LocalSpan | None] = ContextVar("hwmetrics_innermost_local_span", default=None)


class LocalSpan(Span):
    """A span of the recording alone. May be used from several threads, as the SDK's.

    What can be read of it is called as the SDK calls it: ``name``, ``parent``, ``start_time``, ``end_time``, ``status``,
    ``attributes``.

    Args:
        name: Its name.
        attributes: Those that it begins with.
        parent: What it is within; None for nothing.
        trace_id: Of its trace.
        ended: Called with it at its end, on that thread.
        time_ns: The wall clock.
    """

    def __init__(  # noqa: PLR0913 - all that a span is
        self,
        name: str,
        attributes: Mapping[str, AttributeValue] | None,
        parent: SpanContext | None,
        trace_id: int,
        *,
        ended: Callable[[LocalSpan], object],
        time_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.name = name
        self.attributes: dict[str, AttributeValue] = {}
        self.parent = parent
        self.status = Status()
        self.end_time: int | None = None
        self.start_time = time_ns()
        self._context = SpanContext(trace_id, _IDS.generate_span_id(), is_remote=False, trace_flags=TraceFlags())
        self._ended = ended
        self._time_ns = time_ns
        self.set_attributes(attributes or {})

    def get_span_context(self) -> SpanContext:
        """Its ids; it is not sampled."""
        return self._context

    def is_recording(self) -> bool:
        """Whether it is open."""
        return self.end_time is None

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        """Set one, if there is room for it."""
        if self.is_recording() and (key in self.attributes or len(self.attributes) < MOST_ATTRIBUTES):
            self.attributes[key] = value

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Set several."""
        for key, value in attributes.items():
            self.set_attribute(key, value)

    def add_event(self, name: str, attributes: Any = None, timestamp: int | None = None) -> None:
        """Nothing: alerts are in the recording by themselves."""

    def add_link(self, context: SpanContext, attributes: Any = None) -> None:
        """Nothing."""

    def update_name(self, name: str) -> None:
        """Call it something else."""
        if self.is_recording():
            self.name = name

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Say how it went."""
        if self.is_recording():
            self.status = status if isinstance(status, Status) else Status(status, description)

    def record_exception(
        self,
        exception: BaseException,
        attributes: Any = None,
        timestamp: int | None = None,
        escaped: bool = False,  # noqa: FBT001, FBT002 - the API's signature
    ) -> None:
        """Nothing: its status tells of it."""

    def end(self, end_time: int | None = None) -> None:
        """End it, once."""
        if self.end_time is None:
            self.end_time = self._time_ns() if end_time is None else end_time
            self._ended(self)


def local(
    span: Span,
    name: str,
    attributes: Mapping[str, AttributeValue] | None,
    context: Context | None,
    ended: Callable[[LocalSpan], object],
) -> LocalSpan:
    """One in the place of a span that nobody keeps.

    Args:
        span: That one: of a sampler that dropped it, or of the API alone, which passes on what it is within.
        name: Its name.
        attributes: Those that it begins with.
        context: Where it was opened; None for the current one.
        ended: Called with ours at its end.
    """
    current = trace.get_current_span(context)
    outer = current if isinstance(current, LocalSpan) else _innermost.get()
    if outer is not None and outer.is_recording():
        parent = outer.get_span_context()
        return LocalSpan(name, attributes, parent, parent.trace_id, ended=ended)
    # Its trace, if it is of one; and no parent, since that is nowhere in the recording.
    trace_id = span.get_span_context().trace_id or _IDS.generate_trace_id()
    return LocalSpan(name, attributes, None, trace_id, ended=ended)


@contextlib.contextmanager
def innermost(span: Span) -> Iterator[Span]:
    """Have those be within it that open meanwhile, and end it; of a span that others keep, nothing."""
    if not isinstance(span, LocalSpan):
        yield span
        return
    outer = _innermost.get()
    _innermost.set(span)
    try:
        yield span
    except Exception as error:
        span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))
        raise
    finally:
        _innermost.set(outer)  # and not by its token: a generator may be closed in another context
        span.end()
