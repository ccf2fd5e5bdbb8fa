# SPDX-License-Identifier: Apache-2.0
"""What is told to the step clock by calls: waits, samples, the GPU's time, steps that are seen; and how long each was."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from otel_hwmetrics import _guard
from otel_hwmetrics.stepclock import Look, StepClock
from otel_hwmetrics.stepclock.hand import KEPT
from otel_hwmetrics.testing import ManualClock


@pytest.fixture
def time() -> ManualClock:
    """Time that moves by hand; quarters of seconds are exact."""
    return ManualClock(start=1000.0)


@pytest.fixture
def clock(time: ManualClock) -> StepClock:
    """A clock that goes by it."""
    return StepClock(time.monotonic)


def counted(look: Look) -> tuple[int, float, float, float | None]:
    """Steps, time in them, that of those that ended, waiting for data."""
    return look.steps, look.time, look.completed, look.waited


def slowly(time: ManualClock, batches: int) -> Iterator[int]:
    """Batches that take a second each to come."""
    for batch in range(batches):
        time.advance(1.0)
        yield batch


# Waiting outside of loops


def test_a_loop_of_one_s_own_can_tell_what_it_waits_for(time: ManualClock, clock: StepClock) -> None:
    """The first step begins with the first wait, so all of them have a length; a present wait is told while it lasts."""
    seen: list[tuple[int, float, float, float | None]] = []
    for _ in range(2):
        with clock.waiting_for_data():
            time.advance(1.0)
            seen.append(counted(clock.look()))
        time.advance(3.0)
        clock.step()
        seen.append(counted(clock.look()))
    assert seen == [(0, 1.0, 0.0, 1.0), (1, 4.0, 4.0, 1.0), (1, 5.0, 4.0, 2.0), (2, 8.0, 8.0, 2.0)]
    assert clock.durations() == [4.0, 4.0]


def test_a_wait_within_another_is_part_of_it(time: ManualClock, clock: StepClock) -> None:
    """As of a loader within a loader; one object is good for both, and as a decorator."""
    waiting = clock.waiting_for_data()

    @waiting
    def load(depth: int) -> None:
        time.advance(1.0)
        if depth:
            load(depth - 1)
        time.advance(1.0)

    load(2)
    time.advance(5.0)
    assert counted(clock.look()) == (0, 11.0, 0.0, 6.0)
    with pytest.raises(KeyError, match="a file is gone"), waiting:
        raise KeyError("a file is gone")
    time.advance(5.0)
    assert counted(clock.look()) == (0, 16.0, 0.0, 6.0)


def test_waits_count_only_where_steps_do(time: ManualClock, clock: StepClock) -> None:
    """Not within a loop of `steps`, which knows itself; not within an evaluation, however the two overlap."""
    with clock.phase("eval"):
        with clock.waiting_for_data():
            time.advance(9.0)
        assert not clock.begin_wait()
    assert clock.look() == Look(False, 0, 0.0, 0.0, None, None, False, (), None)
    for _ in clock.steps(slowly(time, 2)):
        assert not clock.begin_wait()
        time.advance(1.0)
        clock.end_wait()
    assert counted(clock.look()) == (2, 4.0, 4.0, 2.0)
    assert clock.begin_wait()
    time.advance(1.0)
    clock.enter("eval")
    time.advance(9.0)
    clock.end_wait()
    clock.leave("eval")
    assert counted(clock.look()) == (2, 5.0, 4.0, 3.0)
    assert clock.begin_wait()
    time.advance(1.0)
    for _ in clock.steps([0]):  # the wait is over with that, and so is the step that was under way
        time.advance(1.0)
    clock.end_wait()
    time.advance(9.0)
    assert counted(clock.look()) == (3, 7.0, 5.0, 4.0)


def test_what_knows_that_training_is_over_can_say_so(time: ManualClock, clock: StepClock) -> None:
    """No step is expected from then on, and none under way is counted; where nothing began nothing ends."""
    clock.rest()
    clock.end_wait()
    assert clock._hands == []
    for _ in range(2):
        clock.step()
        time.advance(2.0)
        clock.step()
        time.advance(3.0)
        clock.rest()
        clock.rest()
        time.advance(600.0)
        assert clock.look().age is None
    assert counted(clock.look()) == (4, 10.0, 4.0, None)
    assert clock.durations() == [2.0, 2.0]
    for _ in clock.steps([0, 1]):
        time.advance(1.0)
        clock.rest()
        assert clock.look().looping
    assert clock.look().steps == 6


def test_a_step_that_is_seen_and_told_counts_once(time: ManualClock, clock: StepClock) -> None:
    """By an optimizer and by the job, in whichever order; what is seen counts again where the job is at rest."""
    for _ in range(3):
        time.advance(1.0)
        clock.step_seen()
        clock.step()
    assert clock.look().steps == 3
    clock.rest()
    for _ in range(3):
        clock.step()
        clock.step_seen()
    assert clock.look().steps == 6
    clock.rest()
    for _ in range(3):
        clock.step_seen()
    assert clock.look().steps == 9
    for _ in clock.steps("ab"):
        assert clock.loops_here()
        clock.step_seen()
    with clock.phase("eval"):
        clock.step_seen()
    assert clock.look().steps == 11
    assert not clock.loops_here()


def test_a_first_step_may_be_known_of_late(time: ManualClock, clock: StepClock) -> None:
    """What a thread did before it turned out to train was its first step, but for what has counted and what never does."""
    time.advance(10.0)
    clock.has_begun(4.0, 1.0)
    clock.step()
    assert counted(clock.look()) == (1, 4.0, 4.0, 1.0)
    clock.has_begun(4.0, 1.0)  # another is under way
    clock.rest()
    time.advance(2.0)
    clock.has_begun(100.0, 50.0)
    clock.step()
    assert counted(clock.look()) == (2, 6.0, 6.0, 3.0)
    clock.rest()
    with clock.phase("eval"):
        time.advance(10.0)
        clock.has_begun(4.0, 1.0)
    time.advance(1.0)
    clock.has_begun(4.0, 0.0)
    clock.step()
    assert counted(clock.look()) == (3, 7.0, 7.0, 3.0)


# Samples, tokens, the GPU's time, and the length of each step


def test_samples_and_tokens_are_told_where_the_job_tells_them(clock: StepClock) -> None:
    """By the call, within a loop of `steps` too; by the loop of each batch; within an evaluation by neither."""
    clock.step()
    assert (clock.look().samples, clock.look().tokens) == (None, None)
    clock.step(samples=32)
    clock.step(tokens=7)
    assert (clock.look().samples, clock.look().tokens) == (32, 7)
    for batch in clock.steps(["ab", "c"], samples=len):
        clock.step(tokens=len(batch) * 10)
    assert (clock.look().samples, clock.look().tokens, clock.look().steps) == (35, 37, 5)
    with clock.phase("eval"):
        clock.step(samples=1000)
        list(clock.steps(["abc"], samples=len))
    for _ in clock.steps(["a"], tokens=len):
        list(clock.steps(["bcd", "ef"], samples=len, tokens=len))  # part of the step
        with clock.phase("eval"):
            list(clock.steps(["bcd", "ef"], samples=len))
    assert (clock.look().samples, clock.look().tokens) == (35, 38)


class Tensor:
    """On a GPU: to ask it for its value would wait for that."""

    def __index__(self) -> int:
        raise AssertionError("waited for the GPU")

    __int__ = __float__ = __index__


@pytest.mark.parametrize("told", [Tensor(), 3.5, "3", -1])
def test_what_is_no_number_of_things_is_passed_over(
    clock: StepClock, monkeypatch: pytest.MonkeyPatch, told: Any
) -> None:
    """And the step counts; a tensor is not asked, and neither is it kept."""
    monkeypatch.setattr(_guard, "LOUD", False)
    clock.step(samples=told, tokens=5)
    assert list(clock.steps("ab", samples=lambda _: told)) == ["a", "b"]
    assert list(clock.steps("ab", samples=lambda _: 1 // 0)) == ["a", "b"]
    assert (clock.look().steps, clock.look().samples) == (5, None)
    assert dict(_guard.faults) == {"counting samples": 5}


def test_a_loop_that_counts_samples_lets_go_of_its_loader_at_once(clock: StepClock) -> None:
    """As one that does not."""
    closed: list[str] = []

    def batches() -> Iterator[str]:
        try:
            yield from "abc"
        finally:
            closed.append("finally")

    for _ in clock.steps(batches(), samples=len):
        break
    assert closed == ["finally"]


def test_time_on_the_gpu_is_added_up(clock: StepClock) -> None:
    """Of every thread; absent until it is told."""
    assert clock.look().gpu_time is None
    clock.tell_gpu_time(0.25)
    thread = threading.Thread(target=clock.tell_gpu_time, args=(0.5,))
    thread.start()
    thread.join()
    for _ in range(2):
        assert clock.look().gpu_time == 0.75


def test_the_length_of_each_step_is_told_once(time: ManualClock, clock: StepClock) -> None:
    """In order; but for a first call, of which none is known. Those of threads that have ended are not lost."""

    def train(length: float) -> None:
        for _ in clock.steps(range(2)):
            time.advance(length)
        clock.step()
        time.advance(2 * length)
        clock.step()

    train(1.0)
    assert clock.durations() == [1.0, 1.0, 2.0]
    assert clock.durations() == []
    thread = threading.Thread(target=train, args=(4.0,))
    thread.start()
    thread.join()
    clock.look()
    assert clock._hands[1:] == []
    assert clock.durations() == [4.0, 4.0, 8.0]
    assert clock.durations() == []


def test_no_more_lengths_are_kept_than_may_be(time: ManualClock, clock: StepClock) -> None:
    """Of a job that nobody watches, the newest; also of its threads together."""

    def train() -> None:
        for number in clock.steps(range(KEPT + 2)):
            time.advance(number)

    train()
    assert clock.durations() == [float(number) for number in range(2, KEPT + 2)]
    for _ in range(2):
        thread = threading.Thread(target=train)
        thread.start()
        thread.join()
        clock.look()
    assert clock.durations() == [float(number) for number in range(2, KEPT + 2)]
