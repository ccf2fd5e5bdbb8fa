# SPDX-License-Identifier: Apache-2.0
"""The step clock has no lock: looks in the midst of a change, and changes in the midst of a look, at every instruction."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from queue import SimpleQueue
from threading import Thread
from types import FrameType
from typing import Any

import pytest

from otel_hwmetrics.stepclock import Look, StepClock
from otel_hwmetrics.stepclock import clock as clock_module
from otel_hwmetrics.stepclock import hand as hand_module
from otel_hwmetrics.testing import ManualClock

CLOCK, HAND = clock_module.__file__, hand_module.__file__


@contextmanager
def at_every_instruction(act: Callable[[], object], of: tuple[str, ...] = (CLOCK, HAND)) -> Iterator[None]:
    """On this thread, do something before every instruction of the clock's own code, where a thread may lose its turn."""

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_filename not in of:
            return None
        # In this order: what is traced is asked of a frame by 3.13 when it is set, and only of one that has a tracer.
        frame.f_trace, frame.f_trace_lines = trace, False
        frame.f_trace_opcodes = True
        if event == "opcode":
            act()
        return trace

    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # 3.12 asks, when the tracer is set, whether any frame has it so
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


class Training:
    """A thread that trains, move by move, and what is true of it; between two moves it may be waiting for data.

    Args:
        at_each: Done before every instruction of the clock's code on that thread.
    """

    def __init__(self, at_each: Callable[[], object] | None = None) -> None:
        self.time = ManualClock(start=1000.0)
        self.clock = StepClock(self.time.monotonic)
        self.steps, self.spent, self.completed, self.waited, self.present = 0, 0.0, 0.0, 0.0, 0.0
        self.under_way = self.waiting = self.suspended = False
        self._at_each = at_each
        self._moves: SimpleQueue[str] = SimpleQueue()
        self._moved: SimpleQueue[None] = SimpleQueue()
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def make(self, move: str) -> None:
        """Have the thread make a move, to its end."""
        self._moves.put(move)
        self._moved.get(timeout=20)
        if move in {"ask", "leave", "step"} and self.under_way:
            self.steps, self.completed, self.present = self.steps + 1, self.completed + self.present, 0.0
        elif move in {"begin", "step"} or (move == "wait" and not self.under_way):
            self.present = 0.0
            self.steps += move == "step"
        self.under_way = self.under_way if move in {"arrive", "enter", "exit"} else move not in {"leave", "rest"}
        self.waiting = self.waiting if move in {"enter", "exit"} else move in {"begin", "ask", "wait"}
        self.suspended = self.suspended if move not in {"enter", "exit"} else move == "enter"

    def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        self.time.advance(seconds)
        if self.under_way and not self.suspended:
            self.spent += seconds
            self.present += seconds
            self.waited += seconds if self.waiting else 0.0

    def end(self) -> None:
        """End the thread."""
        self._moves.put("end")
        self._thread.join(20)

    def _run(self) -> None:
        traced = at_every_instruction(self._at_each) if self._at_each is not None else nullcontext()
        with traced, suppress(EOFError):
            self._serve()

    def _serve(self, *until: str) -> str:
        act: dict[str, Callable[[], object]] = {
            "begin": self._train,
            "step": self.clock.step,
            "wait": self.clock.begin_wait,
            "come": self.clock.end_wait,
            "rest": self.clock.rest,
            "enter": partial(self.clock.enter, "checkpoint"),
            "exit": partial(self.clock.leave, "checkpoint"),
        }
        while True:
            move = self._moves.get()
            if move in until:
                return move
            if move == "end":
                raise EOFError
            act[move]()
            self._moved.put(None)

    def _train(self) -> None:
        for _ in self.clock.steps(self._batches()):
            self._moved.put(None)
            if self._serve("ask", "leave") == "leave":
                break

    def _batches(self) -> Iterator[int]:
        while True:
            self._moved.put(None)
            self._serve("arrive")
            yield 0


STORY: tuple[tuple[str, float], ...] = (
    *(("begin", 1.0), ("arrive", 2.0), ("ask", 4.0), ("arrive", 8.0)),
    *(("enter", 16.0), ("exit", 1.0), ("ask", 2.0), ("enter", 4.0), ("exit", 8.0), ("arrive", 16.0)),
    *(("leave", 100.0), ("step", 1.0), ("step", 2.0), ("enter", 4.0), ("exit", 8.0), ("step", 100.0)),
    *(("wait", 1.0), ("come", 2.0), ("step", 4.0), ("wait", 8.0), ("rest", 16.0), ("wait", 1.0), ("enter", 2.0)),
    *(("exit", 4.0), ("come", 1.0), ("step", 2.0), ("wait", 4.0)),
    *(("begin", 1.0), ("arrive", 2.0), ("ask", 4.0), ("arrive", 8.0), ("leave", 16.0), ("begin", 1.0), ("arrive", 2.0)),
)
"""Every move that there is, from every place where it can be made; and how long each place lasts."""


def play(training: Training, moves: tuple[tuple[str, float], ...]) -> None:
    """Make one move after the other."""
    for move, seconds in moves:
        training.make(move)
        training.pass_time(seconds)


def check_next(look: Look, training: Training) -> None:
    """A look with nothing going on tells the truth."""
    told = (look.steps, look.time, look.completed, look.waited or 0.0, look.age)
    age = training.present if training.under_way and training.steps else None
    assert told == (training.steps, training.spent, training.completed, training.waited, age)


def test_a_look_in_the_midst_of_a_change_never_sees_too_much() -> None:
    """At every instruction of a training thread: the truth at most, and no less than at the look before."""
    looks = [Look(False, 0, 0.0, 0.0, None, None, False, ())]

    def look() -> None:
        before, now = looks[-1], training.clock.look()
        looks.append(now)
        assert before.steps <= now.steps <= training.steps + 1  # of a step that ends, the truth is told a little later
        assert before.time <= now.time <= training.spent
        assert before.completed <= now.completed <= training.completed + training.present
        assert (before.waited or 0.0) <= (now.waited or 0.0) <= training.waited

    training = Training(look)
    for move, seconds in STORY:
        seen, before = len(looks), training.present
        training.make(move)
        assert max((each.age or 0.0 for each in looks[seen:]), default=0.0) <= max(before, training.present)
        training.pass_time(seconds)
        check_next(training.clock.look(), training)
    training.end()
    assert len(looks) > 1000


def once_at(instruction: int, act: Callable[[], object]) -> tuple[Callable[[], None], Callable[[], bool]]:
    """What is to be done before each instruction so that it is done before one; and whether there were so many."""
    left = instruction

    def count() -> None:
        nonlocal left
        left -= 1
        if left == -1:
            act()

    return count, lambda: left < 0


@pytest.mark.parametrize("place", range(1, len(STORY)))
def test_a_change_in_the_midst_of_a_look_is_seen_in_part_at_most(place: int) -> None:
    """Training makes a move or a few before an instruction of a look: nothing counts twice, and the next look is right."""
    for moves in (1, 3):
        instruction, so_many = 0, True
        while so_many:
            training = Training()
            play(training, STORY[:place])
            before = training.clock.look()
            count, reached = once_at(instruction, lambda: play(training, STORY[place : place + moves]))  # noqa: B023
            with at_every_instruction(count, of=(HAND,)):
                look = training.clock.look()
            assert before.steps <= look.steps <= training.steps
            assert before.time <= look.time <= training.spent
            assert before.completed <= look.completed <= training.completed
            assert (before.waited or 0.0) <= (look.waited or 0.0) <= training.waited
            assert look.age is None or look.age <= max(before.age or 0.0, training.present)
            check_next(training.clock.look(), training)
            training.end()
            instruction, so_many = instruction + 1, reached()
        assert instruction > 30


def test_no_longest_step_is_lost_to_a_question() -> None:
    """Asked at any instruction of a step's end: told now or the next time."""
    instruction, so_many = 0, True
    while so_many:
        told: list[float | None] = []
        count, reached = once_at(instruction, lambda: told.append(training.clock.longest()))  # noqa: B023
        training = Training(count)
        play(training, (("begin", 1.0), ("arrive", 5.0), ("ask", 1.0), ("arrive", 1.0), ("ask", 1.0)))
        told += [training.clock.longest(), training.clock.longest()]
        training.end()
        assert [each for each in told if each == 6.0] == [6.0]
        assert told[-1] is None
        instruction, so_many = instruction + 1, reached()
    assert instruction > 50


def test_every_step_s_length_is_told_once() -> None:
    """Taken at any instruction of a step's end, of a loop's or of a call's: now or the next time, and never again."""
    instruction, so_many = 0, True
    while so_many:
        told: list[float] = []
        count, reached = once_at(instruction, lambda: told.extend(training.clock.durations()))  # noqa: B023
        training = Training(count)
        play(training, (("begin", 1.0), ("arrive", 5.0), ("ask", 1.0), ("arrive", 2.0), ("leave", 9.0)))
        play(training, (("step", 7.0), ("step", 8.0), ("step", 9.0)))
        told += training.clock.durations()
        training.end()
        assert told == [6.0, 3.0, 7.0, 8.0]
        instruction, so_many = instruction + 1, reached()
    assert instruction > 100
