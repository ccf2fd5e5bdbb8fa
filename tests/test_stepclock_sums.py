# SPDX-License-Identifier: Apache-2.0
"""The step clock's sums: never less than they were, never more than the truth, whenever one looks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_hwmetrics.stepclock import SUSPENDING, Look, StepClock
from otel_hwmetrics.testing import ManualClock

Op = tuple[Any, ...]
"""`("pass", quarters)`, `("look",)`, `("enter", phase)`, `("leave", phase)`, `("loop", Script)`; `("step",)`, `("see",)` for one
that is seen; `("wait",)`, `("come",)`, `("rest",)`, and `("begun", ago, waited)` in quarters."""


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
    laps: list[float] = field(default_factory=list)
    present: float = 0.0  # of the step that is under way
    over: float = -inf  # when something was last that does not count again
    told: bool = False
    seen: bool = False
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
        self.laps.append(self.present)
        self.longest = max(self.longest, self.present)
        self.present = 0.0

    def step(self, *, seen: bool = False) -> None:
        """`step` was called; or `step_seen`."""
        if self.owner is not None or self.suspended or (seen and self.told):
            return
        counted, self.seen, self.told = self.seen and not seen, seen, not seen
        if counted:
            return
        if self.under_way:
            self.end_step()
        else:
            self.steps += 1
            self.present = 0.0
        self.begun = self.under_way = True

    def wait(self) -> None:
        """`begin_wait` was called."""
        if self.owner is None and not self.suspended:
            self.present = self.present if self.under_way else 0.0
            self.begun = self.waits = self.under_way = self.waiting = True

    def come(self) -> None:
        """`end_wait` was called."""
        self.waiting = self.waiting and self.owner is not None

    def rest(self) -> None:
        """`rest` was called."""
        if self.owner is None:
            self.over = self.time.monotonic() if self.under_way else self.over
            self.told = self.seen = self.under_way = self.waiting = False

    def has_begun(self, ago: float, waited: float) -> None:
        """`has_begun` was called."""
        if self.owner is None and not self.suspended and not self.under_way:
            self.present = min(ago, self.time.monotonic() - self.over)
            self.spent += self.present
            self.waited += min(waited, self.present)
            self.begun = self.waits = self.under_way = True

    def ask(self, loop: object) -> None:
        """A loop asks for data."""
        if self.owner is None and not self.suspended:
            self.owner, self.under_way, self.present = loop, True, 0.0
            self.told = self.seen = False
        if self.owner is loop:
            self.waiting = True

    def close(self, loop: object, *, ends_a_step: bool) -> None:
        """A loop is over."""
        if self.owner is loop:
            if ends_a_step and not self.suspended:
                self.end_step()
            self.owner, self.under_way, self.waiting = None, False, False
            self.over = self.time.monotonic()

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
        assert self.clock.durations() == self.truth.laps
        self.truth.longest, self.truth.laps = 0.0, []
        self.looks.append(look)

    def _step(self) -> None:
        self.clock.step()
        self.truth.step()

    def _see(self) -> None:
        self.clock.step_seen()
        self.truth.step(seen=True)

    def _wait(self) -> None:
        began = not (self.truth.owner is not None or self.truth.suspended or self.truth.waiting)
        assert self.clock.begin_wait() == began
        self.truth.wait()

    def _come(self) -> None:
        self.clock.end_wait()
        self.truth.come()

    def _rest(self) -> None:
        self.clock.rest()
        self.truth.rest()

    def _begun(self, ago: int, waited: int) -> None:
        self.clock.has_begun(ago / 4, waited / 4)
        self.truth.has_begun(ago / 4, waited / 4)

    def _enter(self, phase: str) -> None:
        self.clock.enter(phase)
        self.truth.phases.append(phase)

    def _leave(self, phase: str) -> None:
        self.clock.leave(phase)
        suspended = self.truth.suspended
        if phase in self.truth.phases:
            self.truth.phases.reverse()
            self.truth.phases.remove(phase)
            self.truth.phases.reverse()
        if suspended and not self.truth.suspended:
            self.truth.over = self.time.monotonic()

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
    st.tuples(st.sampled_from(["see", "wait", "wait", "come", "rest"])),
    st.tuples(st.just("begun"), st.integers(0, 40), st.integers(0, 40)),
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
    """For any order of waits, steps, calls of every kind, phases, loops within loops, ends and looks: to the last bit, never falling."""
    run = Run()
    run.do([*ops, ("look",), ("pass", 4), ("look",)])
