# SPDX-License-Identifier: Apache-2.0
"""The budget: whatever a look costs, looking stays within its share of a CPU, and comes back when it costs less."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from otel_hwmetrics.budget import ALL, CREDIT, DEBT, FITS, HALF, LOOKS, MOST, SLOWEST, STRETCH, Budget, Change

SHARE = 0.01
HOUR = 3600.0

Costs = Callable[[float], Mapping[str, float]]
"""What one look takes at a time, in CPU seconds by source; what belongs to none is `ALL`'s."""


class World:
    """Looks whose costs are ours, at the cadence that the budget gives them."""

    def __init__(
        self, costs: Costs, *, share: float = SHARE, interval: float = 1.0, other: float = 0.0, lump: float = 0.0
    ) -> None:
        self.costs = costs
        self.other = other
        self.lump = lump
        self.budget = Budget(share, interval)
        self.changes: list[tuple[float, Change]] = []
        self.now = self.looks = 0.0
        self.by_source: dict[str, float] = {}
        self._due: dict[str, float] = {}

    def run(self, seconds: float) -> float:
        """Let time pass; gives the share of a CPU that was spent meanwhile."""
        began, before = self.now, self.looks
        while self.now < began + seconds:
            self.look()
            self.now += self.budget.interval
        return (self.looks - before) / (self.now - began) + self.other

    def look(self) -> None:
        """One regular look."""
        for source, cost in self.costs(self.now).items():
            if self.now >= self._due.get(source, 0.0) - 1e-9:
                self._due[source] = self.now + self.budget.rests.get(source, 0.0)
                self.looks += cost
                if source != ALL:
                    self.by_source[source] = self.by_source.get(source, 0.0) + cost
        told = self.now // self.lump * self.lump if self.lump else self.now
        if self.budget.charge(self.now, self.looks, self.other * told):
            change = self.budget.decide(dict(self.by_source), self.looks)
            if change is not None:
                self.changes.append((self.now, change))


def evenly(*costs: float) -> Costs:
    """The same at every look: the sampler's own part, and that of each source."""
    named = dict(zip((ALL, "system", "nvidia", "tree"), costs, strict=False))
    return lambda _: named


def cadences(world: World) -> list[tuple[str, float]]:
    """The steps that were made."""
    return [(change.source, change.every) for _, change in world.changes]


def test_what_fits_is_let_be() -> None:
    """A process without GPUs costs half of the budget: nothing happens, ever."""
    world = World(evenly(0.002, 0.003))
    world.run(24 * HOUR)
    assert world.changes == []
    assert (world.budget.interval, world.budget.rests) == (1.0, {})


def test_what_costs_too_much_as_a_whole_is_done_half_as_often() -> None:
    """No source takes more than half of it: all of them are slowed, and once."""
    world = World(evenly(0.004, 0.004, 0.004))
    world.run(2 * HOUR)
    ((at, change),) = world.changes
    assert (change.source, change.every, change.left, change.back) == (ALL, 2.0, True, False)
    assert change.share == pytest.approx(0.012, rel=0.05)
    assert at == pytest.approx(CREDIT / (0.012 - SHARE) * SHARE, rel=0.05), "once its credit is used up"
    assert world.run(HOUR) == pytest.approx(0.006, rel=0.05)


def test_a_source_that_takes_most_of_it_is_slowed_alone() -> None:
    """A tree of a hundred thousand processes: all else goes on at every second."""
    world = World(evenly(0.001, 0.002, 0.0, 0.1))
    world.run(HOUR)
    assert world.budget.interval == 1.0
    assert world.budget.rests == {"tree": 16.0}
    assert {change.source for _, change in world.changes} == {"tree"}
    assert [change.left for _, change in world.changes] == [True, False, False, False]
    assert world.run(HOUR) <= SHARE


def test_where_one_source_takes_everything_even_so_the_others_go_on() -> None:
    """To slow them would save nothing; that it is not enough is said once."""
    world = World(evenly(0.001, 0.002, 0.0, 5.0))
    world.run(24 * HOUR)
    assert world.budget.interval == 1.0
    assert world.budget.rests == {"tree": MOST}
    assert [change.exhausted for _, change in world.changes] == [False] * 5 + [True]


def test_a_single_costly_look_is_no_reason() -> None:
    """Memory that is counted page by page takes a second, once in a thousand."""
    world = World(lambda now: {ALL: 0.002, "system": 0.003, "tree": 1.0 if now % 1000 < 1 else 0.001})
    world.run(24 * HOUR)
    assert world.changes == []


def test_what_exports_cost_makes_nobody_blind() -> None:
    """To look less often makes them no cheaper; they take half of the budget, and looks have the other."""
    world = World(evenly(0.001, 0.002), other=0.5)
    world.run(24 * HOUR)
    assert world.changes == []
    costly = World(evenly(0.003, 0.003, 0.003), other=0.5)
    costly.run(24 * HOUR)
    assert cadences(costly) == [(ALL, 2.0)]


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([5.0, 30.0, 60.0]), st.floats(0.0, 0.02), st.floats(0.001, 0.02))
@example(5.0, 0.009, 0.0075)
@example(60.0, 0.005, 0.0075)
def test_what_others_cost_counts_as_much_in_lumps_as_evenly(lump: float, other: float, cost: float) -> None:
    """Our threads are counted every five seconds, and exports come once a minute: it is the same total."""
    even, lumpy = (World(evenly(cost), other=other, lump=each) for each in (0.0, lump))
    for world in (even, lumpy):
        world.run(2 * HOUR)
    looks = SHARE - min(other, HALF * SHARE)  # what is left for them; at the edge, either may come first
    assert even.budget.interval == lumpy.budget.interval or any(
        abs(cost / every - looks) < 0.1 * SHARE for every in (1.0, 2.0, 4.0)
    )


def test_a_look_for_an_export_makes_no_source_the_dearest() -> None:
    """Exports have everything read once more: that is no part of the looks which are slowed, but of those that are compared."""
    budget = Budget(SHARE, 1.0)
    changes = []
    costs, looks = {"system": 0.0, "tree": 0.0, "nvidia": 0.0}, 0.0
    for second in range(300):
        for source, cost in (("system", 0.004), ("tree", 0.0045), ("nvidia", 0.0035)):
            costs[source] += 2 * cost
            looks += cost
        if budget.charge(second, looks, looks):
            changes += [budget.decide(dict(costs), 2 * looks)]
    assert [change.source for change in changes if change is not None][:1] == [ALL]


def test_more_gpus_are_allowed_more_at_once_and_fewer_less() -> None:
    """A driver that takes its time tells of its GPUs after some looks; they are not held against it until then."""
    world = World(evenly(0.004, 0.026))
    world.budget.allow(5 * SHARE)
    world.run(HOUR)
    assert world.changes == []
    world.budget.allow(SHARE)
    world.run(HOUR)
    assert cadences(world)[0][0] == "system"


def test_it_comes_back_by_halves_when_it_costs_less() -> None:
    """Within minutes; the last step says that it is the cadence that was asked for."""
    world = World(lambda now: {ALL: 0.04, "system": 0.04} if now < HOUR else {ALL: 0.003, "system": 0.003})
    world.run(HOUR)
    assert world.budget.interval == 8.0
    slowed = len(world.changes)
    world.run(HOUR / 3)
    assert cadences(world)[slowed:] == [(ALL, 4.0), (ALL, 2.0), (ALL, 1.0)]
    assert [change.back for _, change in world.changes[slowed:]] == [False, False, True]
    first, *_, last = [at for at, _ in world.changes[slowed:]]
    assert last - first >= 2 * STRETCH, "each is watched for a while"


def test_a_source_comes_back_alone() -> None:
    """Its processes have ended."""
    world = World(lambda now: {ALL: 0.002, "tree": 0.1 if now < HOUR else 0.001})
    world.run(HOUR)
    world.run(HOUR)
    assert world.budget.rests == {}
    assert [change.back for _, change in world.changes][-1]
    assert {change.source for _, change in world.changes} == {"tree"}


def test_what_would_not_fit_does_not_come_back() -> None:
    """At the edge: half the cost at half the cadence is within the budget, and nobody tries whether the whole is."""
    world = World(evenly(0.0055, 0.0055))
    world.run(24 * HOUR)
    assert cadences(world) == [(ALL, 2.0)]


@pytest.mark.parametrize(("interval", "most"), [(0.2, 6.4), (1.0, 32.0), (5.0, 20.0), (32.0, 32.0), (600.0, 600.0)])
def test_there_is_an_end_to_it(interval: float, most: float) -> None:
    """Thirty-two times as seldom, and every 32 s, at most; what was asked for to be slower stays as it is."""
    world = World(evenly(9.0, 9.0), interval=interval)
    world.run(max(HOUR, 40 * interval))
    assert world.budget.interval == pytest.approx(most)


costs = st.floats(0.0, 2.0)
shares = st.floats(0.001, 0.5)
intervals = st.sampled_from([0.5, 1.0, 2.5, 10.0])


@settings(max_examples=30, deadline=None)
@given(st.lists(costs, min_size=1, max_size=4), shares, intervals, st.floats(0.0, 0.01))
def test_whatever_a_look_costs_the_share_is_kept_or_the_cadence_is_at_its_end(
    each: list[float], share: float, interval: float, other: float
) -> None:
    """In the long run; it goes there without turning round, and stays."""
    world = World(evenly(*each), share=share, interval=interval, other=min(other, share * HALF))
    world.run(4000 * interval)
    spent = world.run(4000 * interval)
    assert not [change for _, change in world.changes if change.back]
    steps = [every for source, every in cadences(world) if source == ALL]
    assert steps == sorted(steps)
    # What its credit and each step allow beside the share, at the most.
    allowed = share + share * (CREDIT + STRETCH * len(world.changes)) / (4000 * interval)
    assert spent <= allowed or any(change.exhausted for _, change in world.changes), (spent, world.changes)
    assert all(every <= max(interval, min(MOST, interval * SLOWEST)) for _, every in cadences(world))


@settings(max_examples=30, deadline=None)
@given(st.lists(costs, min_size=1, max_size=4), st.floats(0.0, 0.5), intervals)
def test_whatever_it_was_it_comes_back_when_the_cost_falls(each: list[float], part: float, interval: float) -> None:
    """To the cadence that was asked for, within three quarters of an hour: one after the other, each step watched for four looks."""
    cheap = part * FITS * SHARE * interval
    world = World(lambda now: evenly(*each)(now) if now < 600 else {ALL: cheap}, interval=interval)
    world.run(600)
    world.run((CREDIT + DEBT) / (1 - part * FITS) + 3 * 5 * LOOKS * MOST + 60)
    assert (world.budget.interval, world.budget.rests) == (interval, {})


@settings(max_examples=20, deadline=None)
@given(costs, intervals, st.integers())
def test_noise_does_not_make_it_go_to_and_fro(cost: float, interval: float, seed: int) -> None:
    """A look costs a quarter more or less than another, as on a machine that others use, too."""
    chance = random.Random(seed)  # noqa: S311 - noise, not secrets
    world = World(lambda _: {ALL: cost * chance.uniform(0.75, 1.25), "system": cost / 3}, interval=interval)
    world.run(8000 * interval)
    assert len(world.changes) <= 8, world.changes
