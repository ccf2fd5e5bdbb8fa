# SPDX-License-Identifier: Apache-2.0
"""One training as its framework tells it: spans within each other, phases, steps. What the callbacks have in common."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Final, NamedTuple

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, Status, StatusCode
from opentelemetry.util.types import AttributeValue

import otel_hwmetrics as hw
from otel_hwmetrics._guard import guard
from otel_hwmetrics.catalog import SCHEMA_URL
from otel_hwmetrics.sinks.ids import by_chance
from otel_hwmetrics.sinks.tracker import TRACKER
from otel_hwmetrics.stepclock import CHECKPOINT, CLOCK, EVALUATION

EPOCH: Final = "hwmetrics.training.epoch"
"""Number of the epoch, from 0."""
STEP: Final = "hwmetrics.training.step"
"""Number of the step within the run, from 0."""
STEPS: Final = "hwmetrics.training.steps"
"""How many steps of training ended within a span."""
FRAMEWORK: Final = "hwmetrics.training.framework"
"""Which framework tells the span: a name of `otel_hwmetrics.integrations.following.FRAMEWORKS`."""

_PHASES: Final = {"validation": EVALUATION, "test": EVALUATION, "evaluation": EVALUATION, "checkpoint": CHECKPOINT}
"""Spans within which no step is expected, by their names."""


class _Local(threading.local):
    def __init__(self) -> None:
        self.runs: list[weakref.ref[Run]] = []  # the outermost first; weak, since not everybody ends what they begin


_LOCAL: Final = _Local()


def told_by_a_framework() -> bool:
    """Whether a framework tells the training of this thread: then what else could be made out of it is told by nobody."""
    return bool(_LOCAL.runs) and any(each() is not None for each in _LOCAL.runs)


class _Open(NamedTuple):
    name: str
    span: Span
    ways_out: ExitStack


class Run:
    """The spans of one training, from the outermost to the innermost. Everything is called on the training's thread.

    None of them is ever OpenTelemetry's current span: the job opens and closes its own when it likes, and would be left with
    one that has ended. Each is a child of the innermost that is open here, of this run or of one that this is within, and the
    first of all a child of what is current. A copy of a run, in this process or another, has nothing open.

    Faults of ours are passed over; the framework hears nothing of them. What is not open is not closed, and what is within
    another thing ends with it, so that a framework that leaves a thing out confuses nobody.

    Args:
        framework: Who tells it.
    """

    def __init__(self, framework: str) -> None:
        self._framework = framework
        self._open: list[_Open] = []
        self._among: list[weakref.ref[Run]] = []  # those of the thread that it began on

    def __bool__(self) -> bool:
        """Whether anything is open."""
        return bool(self._open)

    def __reduce__(self) -> tuple[type[Run], tuple[str]]:
        """How it is copied and pickled: spans that are open can be neither."""
        return Run, (self._framework,)

    def is_in(self, name: str) -> bool:
        """Whether a span of that name is open."""
        return any(each.name == name for each in self._open)

    def begin(self, name: str, attributes: Mapping[str, AttributeValue] | None = None) -> None:
        """Open a span within those that are open, and the phase that goes with its name."""
        with guard(f"opening a span of {self._framework}"), ExitStack() as ways_out:
            tracer = by_chance(trace.get_tracer("otel_hwmetrics", hw.__version__, TRACKER.provider, SCHEMA_URL))
            told = {FRAMEWORK: self._framework, **(attributes or {})}
            parent = self._parent()
            span = TRACKER.kept(tracer.start_span(name, context=parent, attributes=told), name, told, parent)
            ways_out.callback(TRACKER.on_exit, span)
            ways_out.callback(span.end)
            hw.watch(span)
            if name in _PHASES:
                ways_out.enter_context(hw.phase(_PHASES[name]))
            if not self._open:
                self._among = _LOCAL.runs
                self._among.append(weakref.ref(self))
            self._open.append(_Open(name, span, ways_out.pop_all()))

    def end(self, name: str, error: BaseException | None = None) -> None:
        """Close the innermost span of that name, with all that is within it.

        Args:
            name: Its name; nothing is done where none is open.
            error: What ended it, if that was an exception: it is recorded, and the span's status is an error.
        """
        while self.is_in(name):
            if self._close(error) == name:
                return

    def finish(self, error: BaseException | None = None) -> None:
        """Close all that is open, the innermost first."""
        while self._open:
            self._close(error)

    def step(self) -> None:
        """A step of training has ended; where the job says so by itself, it is believed."""
        CLOCK.step_seen()

    def _parent(self) -> Context | None:
        for run in (self, *(found for each in reversed(_LOCAL.runs) if (found := each()) is not None)):
            if run._open:  # noqa: SLF001 - another of this class
                return trace.set_span_in_context(run._open[-1].span)  # noqa: SLF001
        return None

    def _close(self, error: BaseException | None) -> str:
        name, span, ways_out = self._open.pop()
        if not self._open:
            self._among[:] = [each for each in self._among if each() not in (self, None)]
        with guard(f"summing up a span of {self._framework}"):
            part = TRACKER.part  # once: another thread may be switching us off
            if part is not None:
                part(span)
        with guard(f"closing a span of {self._framework}"), ways_out:
            if isinstance(error, Exception):
                span.record_exception(error)
            # Of a Ctrl-C and an exit others record nothing: they are raised in good order. An exit with success is no error.
            if isinstance(error, Exception) or (error is not None and getattr(error, "code", True)):
                span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))
        return name
