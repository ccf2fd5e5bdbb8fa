# SPDX-License-Identifier: Apache-2.0
"""One pass of a loader, from the request for its iterator until that has nothing more or is gone."""

from __future__ import annotations

import inspect
import sys
import time
import weakref
from collections.abc import Callable, Iterable
from types import CodeType, FrameType
from typing import Any, Final

from opentelemetry import context
from opentelemetry.trace import Span

from otel_hwmetrics.integrations.run import STEPS
from otel_hwmetrics.integrations.torch import spans

_AT_ONCE: Final = 100_000_000
"""Nanoseconds; a ``for`` asks for the first batch as soon as it has the iterator."""


Place = tuple[CodeType, int]
"""A line that is executed: of which code, and its number."""
_MOST_GENERATORS = 16


def _places(frame: FrameType | None) -> frozenset[Place]:
    """The innermost line that is executed, and those out to the first that is none of a generator that is being closed."""
    found: list[Place] = []
    while frame is not None and len(found) < _MOST_GENERATORS:
        found.append((frame.f_code, frame.f_lineno))
        if not frame.f_code.co_flags & inspect.CO_GENERATOR:
            break
        frame = frame.f_back
    return frozenset(found)


LOOKS_AHEAD: Final = "accelerate.data_loader"
"""Asks for a batch before it hands on the one before:
https://github.com/huggingface/accelerate/blob/main/src/accelerate/data_loader.py."""


def _is_asked_by(module: str) -> bool:
    """Whether a function of that module is among the nearest that are being executed."""
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 - documented, where there are frames at all
    for _ in range(8):
        if frame is not None:
            if frame.f_globals.get("__name__") == module:
                return True
            frame = frame.f_back
    return False


class Known:
    """A set of objects that are held weakly and told apart by what they are, not by what they are equal to."""

    def __init__(self) -> None:
        self._refs: dict[int, weakref.ref[Any]] = {}

    def add(self, thing: object) -> None:
        """Know it for as long as it lives."""
        key = id(thing)
        if key not in self._refs:
            refs = self._refs  # not self: the callback would hold it
            self._refs[key] = weakref.ref(thing, lambda _: refs.pop(key, None))

    def discard(self, thing: object) -> None:
        """Know it no more."""
        self._refs.pop(id(thing), None)

    def __contains__(self, thing: object) -> bool:
        return thing is not None and id(thing) in self._refs


class Pass:
    """A pass; nothing of the job is kept alive by it.

    Attributes:
        key: Of its iterator, while that lives.
        began: When its iterator was asked for, in nanoseconds of the epoch.
        given: When that was there.
        ended: When it was over, where that was noted before anything could be done about it; else None.
        context: OpenTelemetry's when it began.
        left: Which lines were executed when its iterator was let go of, see `was_left_by`.
        job: The job's own training span that was open then.
        batches: How many were asked for.
        asked: When the batch was asked for that is waited for, in seconds of the monotonic clock; else 0.
        waited: Seconds of waiting for batches, while it was not known whether that is training's.
        steps: How many steps of the optimizer there were.
        evaluates: Whether no training is expected in it.
        in_a_row: Requests for its batches since the last sign of training.
        interrupted: Whether there was training between two requests of an evaluation.
        made: How many steps there had been when its iterator was made.
        round: How many there had been when training asked it for a batch the last time; -1 where it never did.
        is_gone: Whether its iterator is gone.
        span: Its epoch's, or evaluation's.
        looks_ahead: Whether a batch is asked for before the step of the one before, so that one more step is to come when
            there is nothing more.
    """

    __slots__ = (
        *("__weakref__", "_iterator", "_loader", "asked", "batches", "began", "context", "ended", "evaluates"),
        *(
            "given",
            "in_a_row",
            "interrupted",
            "is_gone",
            "job",
            "key",
            "left",
            "looks_ahead",
            "made",
            "round",
            "span",
            "steps",
            "waited",
        ),
    )

    def __init__(self, loader: object | None, iterator: object, began: int, gone: Callable[[Pass], object]) -> None:
        this = weakref.ref(self)

        def over(_: object) -> None:  # of the interpreter's memory management, which may be in the middle of anything
            if (it := this()) is not None:
                it.is_gone = True
                if it.ended is None:
                    it.ended = time.time_ns()
                    it.left = _places(sys._getframe(1))  # noqa: SLF001 - documented, where there are frames at all
                gone(it)

        self._loader = None if loader is None else weakref.ref(loader)
        self._iterator = weakref.ref(iterator, over)
        self.key = id(iterator)
        self.began = began
        self.given = time.time_ns()
        self.ended: int | None = None
        self.context = context.get_current()
        self.job = spans.of_the_job()
        self.batches = self.steps = self.in_a_row = 0
        self.asked = 0.0
        self.waited = (self.given - began) / 1e9
        self.evaluates = self.interrupted = self.is_gone = self.looks_ahead = False
        self.made, self.round = 0, -1
        self.span: Span | None = None
        self.left: frozenset[Place] = frozenset()

    @property
    def loader(self) -> object | None:
        """Whose pass it is; None where that is not known, or is gone."""
        return None if self._loader is None else self._loader()

    def end_span(self, at: int | None = None, error: BaseException | None = None) -> None:
        """End its span, if one is open, with what is known of it.

        Args:
            at: When it was over; now by default.
            error: What ended it, if that was an exception.
        """
        span, self.span = self.span, None
        if span is not None:
            spans.end(span, at=at, error=error, attributes={} if self.evaluates else {STEPS: self.steps})

    def takes_over(self, epoch: Pass, steps: int) -> bool:
        """Whether a step is this pass's, which was asked for it, and no more of the pass that steps were of before.

        Args:
            epoch: That one.
            steps: How many there have been before this step.
        """
        if self is epoch or self.given < epoch.given or self.made < epoch.round:
            return False  # it is older, or the other one was asked after it was made
        return epoch.round < steps or self.loader is epoch.loader

    def was_left_by(self, error: BaseException) -> bool:
        """Whether that exception went through where its iterator was let go of; then the pass did not end by itself.

        An interpreter lets go of what a ``for`` goes through on the way out, before anybody is told of the exception. Only the
        innermost function that is being executed then tells: further out are the same ones whatever ends.
        """
        traceback = error.__traceback__
        while traceback is not None:
            if (traceback.tb_frame.f_code, traceback.tb_lineno) in self.left:
                return True
            traceback = traceback.tb_next
        return False

    def enters(self) -> None:
        """The first batch is asked for. An iterator that was made long before that is asked for has not begun with it."""
        self.looks_ahead = _is_asked_by(LOOKS_AHEAD)
        at = time.time_ns()
        if at - self.given > _AT_ONCE:
            self.began, self.waited = at, 0.0
            self.context = context.get_current()
            self.job = spans.of_the_job()


def of_a_step(passes: Iterable[Pass], steps: int, known: Known) -> Pass | None:
    """The pass that a step is of, by those that training has asked for a batch since the step before.

    Args:
        passes: All that there are.
        steps: How many steps there have been before this one.
        known: Loaders whose passes were epochs; theirs go before others.
    """
    asked = [of for of in passes if not of.evaluates and of.round == steps]
    return max(asked, key=lambda of: (of.loader in known, of.given), default=None)
