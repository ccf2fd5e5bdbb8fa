# SPDX-License-Identifier: Apache-2.0
"""One training as its framework tells it: spans within each other, phases, steps. What the callbacks have in common."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Final, NamedTuple

from opentelemetry.trace import Span, Status, StatusCode
from opentelemetry.util.types import AttributeValue

import otel_hwmetrics as hw
from otel_hwmetrics._guard import guard
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

_telling = threading.local()


def told_by_a_framework() -> bool:
    """Whether a framework tells the training of this thread: then what else could be made out of it is told by nobody."""
    return getattr(_telling, "runs", 0) > 0


class _Open(NamedTuple):
    name: str
    span: Span
    ways_out: ExitStack


class Run:
    """The spans of one training, from the outermost to the innermost. Everything is called on the training's thread.

    Faults of ours are passed over; the framework hears nothing of them. What is not open is not closed, and what is within
    another thing ends with it, so that a framework that leaves a thing out confuses nobody.

    Args:
        framework: Who tells it.
    """

    def __init__(self, framework: str) -> None:
        self._framework = framework
        self._open: list[_Open] = []

    def __bool__(self) -> bool:
        """Whether anything is open."""
        return bool(self._open)

    def is_in(self, name: str) -> bool:
        """Whether a span of that name is open."""
        return any(each.name == name for each in self._open)

    def begin(self, name: str, attributes: Mapping[str, AttributeValue] | None = None) -> None:
        """Open a span within those that are open, and the phase that goes with its name."""
        with guard(f"opening a span of {self._framework}"), ExitStack() as ways_out:
            told = {FRAMEWORK: self._framework, **(attributes or {})}
            span = ways_out.enter_context(hw.training_span(name, attributes=told))
            if name in _PHASES:
                ways_out.enter_context(hw.phase(_PHASES[name]))
            if not self._open:
                _telling.runs = getattr(_telling, "runs", 0) + 1
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

    def _close(self, error: BaseException | None) -> str:
        name, span, ways_out = self._open.pop()
        if not self._open:
            _telling.runs = getattr(_telling, "runs", 1) - 1
        with guard(f"closing a span of {self._framework}"):
            # Of a Ctrl-C or an exit OpenTelemetry's own context manager says nothing: others raise such in good order. An
            # exit with success is none.
            if error is not None and not isinstance(error, Exception) and getattr(error, "code", True):
                span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))
            ways_out.__exit__(*((None, None, None) if error is None else (type(error), error, error.__traceback__)))
        return name
