# SPDX-License-Identifier: Apache-2.0
"""The step clock's sums: never less than they were, never more than the truth, whenever one looks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_hwmetrics.stepclock import SUSPENDING, Look, StepClock
from otel_hwmetrics.testing import ManualClock

Op = tuple[Any, ...]
"""`("pass", quarters)`, `("look",)`, `("step",)`, `("enter", phase)`, `("leave", phase)`, `("loop", Script)`."""


@dataclass(frozen=True)
class Script:
    """A loop: what happens as it begins, while each batch is waited for, and while it is worked on."""

    beginning: list[Op]
    rounds: list[tuple[list[Op], list[Op]]]
    ending: str
    last: list[Op]


class Left(Exception):
    """A loop is left by it."""


@dataclass
class Truth:
    """What should be counted, by adding up each stretch of time as it passes; slow and obvious."""

    time: ManualClock
    begun: bool = False
    waits: bool = False
    steps: int = 0
    spent: float = 0.0
    completed: float = 0.0
    waited: float = 0.0
    longest: float = 0.0
    present: float = 0.0  # of the step that is under way
    under_way: bool = False
    waiting: bool = False
    owner: object = None
    phases: list[str] = field(default_factory=list)

    @property
    def suspended(self) -> bool:
        """Whether time stands still."""
        return not SUSPENDING.isdisjoint(self.phases)

    def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        self.time.advance(seconds)
        if self.under_way and not self.suspended:
            self.spent += seconds
            self.present += seconds
            self.waited += seconds if self.waiting else 0.0

    def end_step(self) -> None:
        """A step has ended."""
        self.steps += 1
        self.completed += self.present
        self.longest = max(self.longest, self.present)
        self.present = 0.0

    def step(self) -> None:
        """`step` was called."""
        if self.owner is None and not self.suspended:
            self.present = self.present if self.under_way else 0.0
            self.begun = self.under_way = True
            self.end_step()

    def ask(self, loop: object) -> None:
        """A loop asks for data."""
        if self.owner is None and not self.suspended:
            self.owner, self.under_way, self.present = loop, True, 0.0
        if self.owner is loop:
            self.waiting = True

    def close(self, loop: object, *, ends_a_step: bool) -> None:
        """A loop is over."""
        if self.owner is loop:
            if ends_a_step and not self.suspended:
                self.end_step()
            self.owner, self.under_way, self.waiting = None, False, False

    def look(self) -> Look:
        """What is to be told now."""
        return Look(
            begun=self.begun,
            steps=self.steps,
            time=self.spent,
            completed=self.completed,
            waited=self.waited if self.waits else None,
            age=self.present if self.under_way and self.steps else None,
            looping=self.owner is not None,
            phases=(tuple(self.phases),) if self.phases else (),
        )


class Run:
    """Does what a script says with a real clock and with the truth at once, and compares them at each look."""

    def __init__(self) -> None:
        self.time = ManualClock(start=1000.0)
        self.clock, self.truth = StepClock(self.time.monotonic), Truth(self.time)
        self.looks = [Look(False, 0, 0.0, 0.0, None, None, False, ())]

    def do(self, ops: list[Op]) -> None:
        """Do one after the other."""
        for name, *arguments in ops:
            getattr(self, f"_{name}")(*arguments)

    def _pass(self, quarters: int) -> None:
        self.truth.pass_time(quarters / 4)

    def _look(self) -> None:
        look, before = self.clock.look(), self.looks[-1]
        assert look == self.truth.look()
        assert (look.steps, look.time, look.completed, look.waited or 0.0) >= (
            *(before.steps, before.time, before.completed, before.waited or 0.0),
        )
        assert self.clock.longest() == (self.truth.longest or None)
        self.truth.longest = 0.0
        self.looks.append(look)

    def _step(self) -> None:
        self.clock.step()
        self.truth.step()

    def _enter(self, phase: str) -> None:
        self.clock.enter(phase)
        self.truth.phases.append(phase)

    def _leave(self, phase: str) -> None:
        self.clock.leave(phase)
        if phase in self.truth.phases:
            self.truth.phases.reverse()
            self.truth.phases.remove(phase)
            self.truth.phases.reverse()

    def _loop(self, script: Script) -> None:
        loop, left = ScriptedLoader(self, script), False
        try:
            for number in self.clock.steps(loop):
                self.do(script.rounds[number][1])
                if script.ending in {"error", "break"} and number == len(script.rounds) - 1:
                    left = True
                    break_or_raise(script.ending)
                    break
        except Left:
            pass
        self.truth.close(loop, ends_a_step=left)


class ScriptedLoader:
    """Batches, and what happens until they come."""

    def __init__(self, run: Run, script: Script) -> None:
        self._run = run
        self._script = script

    def __iter__(self) -> Iterator[int]:
        truth, beginning = self._run.truth, object()
        truth.ask(beginning)
        if truth.owner is beginning:
            truth.begun = truth.waits = True
        self._run.do(self._script.beginning)
        truth.close(beginning, ends_a_step=False)
        truth.ask(self)
        return self._batches()

    def _batches(self) -> Iterator[int]:
        truth = self._run.truth
        for number, (wait, _) in enumerate(self._script.rounds):
            self._run.do(wait)
            if truth.owner is self:
                truth.waiting = False
            yield number
            if truth.owner is self and not truth.suspended:
                truth.end_step()
            truth.ask(self)
        self._run.do(self._script.last)
        if self._script.ending == "error of the loader":
            raise Left


def break_or_raise(ending: str) -> None:
    """Raise, if it is to end so."""
    if ending == "error":
        raise Left


PHASES = st.sampled_from(["checkpoint", "evaluation", "train", "mine"])
MOMENTS: st.SearchStrategy[Op] = st.one_of(
    st.tuples(st.just("pass"), st.integers(0, 40)),
    st.tuples(st.just("look")),
    st.tuples(st.just("look")),
    st.tuples(st.just("step")),
    st.tuples(st.just("enter"), PHASES),
    st.tuples(st.just("leave"), PHASES),
)


def loops(ops: st.SearchStrategy[Op]) -> st.SearchStrategy[Op]:
    """Loops in which such things happen."""
    some = st.lists(ops, max_size=4)
    scripts = st.builds(
        Script,
        beginning=some,
        rounds=st.lists(st.tuples(some, some), max_size=3),
        ending=st.sampled_from(["no more data", "break", "error", "error of the loader"]),
        last=some,
    )
    return st.one_of(ops, st.tuples(st.just("loop"), scripts))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.recursive(MOMENTS, loops, max_leaves=25), max_size=8))
def test_sums_are_the_truth_at_every_look(ops: list[Op]) -> None:
    """For any order of waits, steps, calls, phases, loops within loops, ends and looks: to the last bit, never falling."""
    run = Run()
    run.do([*ops, ("look",), ("pass", 4), ("look",)])
