# SPDX-License-Identifier: Apache-2.0
"""The step clock: what a loop sees of it, what it counts, what it leaves out, and what threads and forks do to it."""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

import otel_hwmetrics as hw
from otel_hwmetrics import _guard
from otel_hwmetrics.stepclock import CLOCK, MOST_PHASES, Look, StepClock, Steps
from otel_hwmetrics.stepclock.clock import SWEPT_EVERY
from otel_hwmetrics.testing import ManualClock


class Loader:
    """As a DataLoader: has a length, can be gone through again, and takes its time, by a clock of ours.

    Args:
        time: What moves as it loads.
        batches: How many there are.
        wait: Seconds that each takes to come.
        start: Seconds that it takes to begin.
        last: Seconds that it takes to find that there are no more.
    """

    def __init__(
        self, time: ManualClock, batches: int, wait: float = 0.0, start: float = 0.0, last: float = 0.0
    ) -> None:
        self.time, self.batches, self.wait, self.start, self.last = time, batches, wait, start, last

    def __iter__(self) -> Iterator[int]:
        self.time.advance(self.start)
        return self._batches()

    def _batches(self) -> Iterator[int]:
        for batch in range(self.batches):
            self.time.advance(self.wait)
            yield batch
        self.time.advance(self.last)

    def __len__(self) -> int:
        return self.batches


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


# What a loop sees


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: [object(), object()], id="list"),
        pytest.param(lambda: (object(),), id="tuple"),
        pytest.param(list, id="empty list"),
        pytest.param(lambda: {"a": 1, "b": 2}, id="dict"),
        pytest.param(lambda: "batch", id="string"),
        pytest.param(lambda: range(5), id="range"),
        pytest.param(lambda: Loader(ManualClock(), 3), id="loader"),
    ],
)
def test_what_can_be_gone_through_again_can_be_still(make: Callable[[], Any]) -> None:
    """The same objects in the same order, each time; as long and as true as it was."""
    iterable = make()
    steps = StepClock().steps(iterable)
    assert (len(steps), bool(steps)) == (len(iterable), bool(iterable))
    for _ in range(2):
        assert [id(each) for each in steps] == [id(each) for each in iterable]


def test_what_can_be_gone_through_once_can_be_once(clock: StepClock) -> None:
    """A generator is at its end then; it has no length, and says so as it always did."""
    steps = clock.steps(each for each in "ab")
    assert bool(steps)
    with pytest.raises(TypeError, match=r"object of type 'generator' has no len\(\)"):
        len(steps)
    assert list(steps) == ["a", "b"]
    assert list(steps) == []


def test_next_begins_a_loop_that_the_next_one_goes_on_with(clock: StepClock) -> None:
    """So the first batch can be looked at before the loop, and is not lost or trained on twice."""
    steps = clock.steps([1, 2, 3])
    assert next(steps) == 1
    assert list(steps) == [2, 3]
    assert list(steps) == [1, 2, 3]
    assert next(iter(steps)) == 1
    empty: Steps[int] = clock.steps([])
    for _ in range(2):
        with pytest.raises(StopIteration):
            next(empty)


def test_a_loop_that_next_has_gone_through_is_not_gone_on_with(clock: StepClock) -> None:
    """Nor one that broke: the next ``for`` has an epoch of its own. Who calls `next` again is told that it is over."""
    steps = clock.steps([1, 2])
    assert [next(steps), next(steps), next(steps, None), next(steps, None)] == [1, 2, None, None]
    assert [list(steps), list(steps)] == [[1, 2], [1, 2]]

    class Breaks:
        broken = False

        def __iter__(self) -> Iterator[int]:
            yield 1
            if not self.broken:
                self.broken = True
                raise KeyError("a file is gone")
            yield 2

    breaking = clock.steps(Breaks())
    assert next(breaking) == 1
    with pytest.raises(KeyError, match="a file is gone"):
        next(breaking)
    assert next(breaking, None) is None
    assert list(breaking) == [1, 2]


def test_what_is_no_iterable_is_a_type_error_at_the_loop(clock: StepClock) -> None:
    """As without us, and the clock goes on."""
    with pytest.raises(TypeError, match="'int' object is not iterable"):
        for _ in clock.steps(5):  # type: ignore[arg-type]
            pass
    assert list(clock.steps("ab")) == ["a", "b"]
    assert clock.look().steps == 2


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), SystemExit(3), StopIteration("mine")])
@pytest.mark.parametrize("where", ["body", "beginning", "loader"])
def test_what_is_raised_goes_through(clock: StepClock, where: str, error: BaseException) -> None:
    """The very exception, from the loader, as it begins, or from the body of the loop; and the loop is over."""

    class Raising:
        def __iter__(self) -> Iterator[int]:
            if where == "beginning":
                raise error
            return self

        def __next__(self) -> int:
            if where == "loader":
                raise error
            return 1

    def train() -> None:
        for _ in clock.steps(Raising()):
            raise error

    if where == "loader" and isinstance(error, StopIteration):
        train()  # that is how a loader says that it is at its end
    else:
        with pytest.raises(type(error)) as raised:
            train()
        assert raised.value is error
    assert not clock.look().looping
    assert clock.look().steps == (where == "body")


@pytest.mark.parametrize("inside", [False, True], ids=["counted", "within another"])
def test_a_loop_that_is_left_lets_go_of_its_loader_at_once(clock: StepClock, *, inside: bool) -> None:
    """A generator is closed as it is by a bare loop: its `finally` has run when the line after the loop does."""
    closed: list[str] = []

    def batches() -> Iterator[int]:
        try:
            yield from range(10)
        except GeneratorExit:
            closed.append("exit")
            raise
        finally:
            closed.append("finally")

    for _ in clock.steps("a" if inside else "") or [0]:
        for batch in clock.steps(batches()):
            if batch == 3:
                break
        assert closed == ["exit", "finally"]
    assert not clock.look().looping


# What is counted


def test_a_loop_tells_steps_and_what_of_them_is_waiting(time: ManualClock, clock: StepClock) -> None:
    """From request to request is a step; until the batch comes is waiting, in it; so is the beginning and the end."""
    assert clock.look() == Look(False, 0, 0.0, 0.0, None, None, False, ())
    for _ in clock.steps(Loader(time, 4, wait=1.0, start=5.0, last=0.5)):
        time.advance(3.0)
    assert counted(clock.look()) == (4, 5.0 + 4 * 4.0 + 0.5, 16.0, 5.0 + 4 * 1.0 + 0.5)
    assert clock.longest() == 4.0


def test_what_lasts_is_told_while_it_lasts(time: ManualClock, clock: StepClock) -> None:
    """A wait of ten minutes is seen a second after it began, and nothing jumps when it ends; likewise a step."""
    seen: list[tuple[int, float, float, float | None]] = []

    def batches() -> Iterator[int]:
        for _ in range(2):
            for _ in range(3):
                time.advance(200.0)
                seen.append(counted(clock.look()))
            yield 0

    for _ in clock.steps(batches()):
        seen.append(counted(clock.look()))
        time.advance(50.0)
        seen.append(counted(clock.look()))
    assert seen == [
        *((0, wait, 0.0, wait) for wait in (200.0, 400.0, 600.0, 600.0)),
        (0, 650.0, 0.0, 600.0),
        *((1, 650.0 + wait, 650.0, 600.0 + wait) for wait in (200.0, 400.0, 600.0, 600.0)),
        (1, 1300.0, 650.0, 1200.0),
    ]
    assert counted(clock.look()) == (2, 1300.0, 1300.0, 1200.0)


def test_a_call_tells_a_step_and_nothing_of_data(time: ManualClock, clock: StepClock) -> None:
    """As many steps as calls, the time between them; of waiting nothing is known, and nothing told."""
    for _ in range(4):
        time.advance(2.0)
        clock.step()
    assert counted(clock.look()) == (4, 6.0, 6.0, None)
    time.advance(1.0)
    assert counted(clock.look()) == (4, 7.0, 6.0, None)


def test_a_call_within_a_loop_does_nothing(time: ManualClock, clock: StepClock) -> None:
    """The loop knows itself; on another thread it counts."""
    for _ in clock.steps(range(3)):
        time.advance(1.0)
        clock.step()
    assert counted(clock.look()) == (3, 3.0, 3.0, 0.0)
    clock.step()
    time.advance(2.0)
    clock.step()
    assert counted(clock.look()) == (5, 5.0, 5.0, 0.0)


def test_a_loop_takes_over_from_calls(time: ManualClock, clock: StepClock) -> None:
    """What had lasted since the last call was told, and stays; it is no step."""
    clock.step()
    time.advance(2.0)
    clock.step()
    time.advance(7.0)
    for _ in clock.steps(range(2)):
        time.advance(1.0)
    assert counted(clock.look()) == (4, 2.0 + 7.0 + 2.0, 4.0, 0.0)
    assert clock.look().age is None


def test_a_loop_within_a_loop_is_part_of_its_step(time: ManualClock, clock: StepClock) -> None:
    """Of loops on one thread that counts which was opened first, however often they are wrapped or joined."""
    for _ in clock.steps(clock.steps(Loader(time, 2, wait=1.0))):
        for _ in clock.steps(Loader(time, 5, wait=1.0)):
            time.advance(1.0)
    assert counted(clock.look()) == (2, 22.0, 22.0, 2.0)


def test_a_loop_that_goes_on_when_the_first_is_over_counts_from_there(time: ManualClock, clock: StepClock) -> None:
    """Two that are gone through side by side: one counts, then the other, never both."""
    longer, shorter = iter(clock.steps(Loader(time, 5, wait=1.0))), iter(clock.steps(Loader(time, 2, wait=1.0)))
    next(shorter)
    next(longer)
    next(shorter)
    assert list(shorter) == []
    assert clock.look().steps == 2
    assert list(longer) == [1, 2, 3, 4]
    assert clock.look().steps == 2 + 4


@pytest.mark.parametrize(
    ("ending", "expected"),
    [
        pytest.param("no more data", (3, 12.5, 12.0, 3.5), id="no more data"),
        pytest.param("break", (2, 8.0, 8.0, 2.0), id="break"),
        pytest.param("an error", (2, 8.0, 8.0, 2.0), id="an error"),
        pytest.param("an error of the loader", (2, 8.5, 8.0, 2.5), id="an error of the loader"),
    ],
)
def test_how_a_loop_ends(
    time: ManualClock, clock: StepClock, ending: str, expected: tuple[int, float, float, float]
) -> None:
    """Where it is left a step ends; where data is waited for none does, and the wait is told."""

    def batches() -> Iterator[int]:
        for _ in range(2 if ending == "an error of the loader" else 3):
            time.advance(1.0)
            yield 0
        time.advance(0.5)
        if ending == "an error of the loader":
            raise OSError

    def train() -> None:
        for number, _ in enumerate(clock.steps(batches()), 1):
            time.advance(3.0)
            if number == 2 and ending == "break":
                break
            if number == 2 and ending == "an error":
                raise OSError

    with suppress(OSError):
        train()
    for _ in range(2):
        assert counted(clock.look()) == expected
        time.advance(100.0)  # and nothing goes on


def test_loops_one_after_the_other_are_added_up(time: ManualClock, clock: StepClock) -> None:
    """What lies between them is nobody's step."""
    for _ in range(3):
        for _ in clock.steps(Loader(time, 2, wait=1.0)):
            time.advance(2.0)
        time.advance(60.0)
    assert counted(clock.look()) == (6, 18.0, 18.0, 6.0)


def test_the_longest_step_is_exact(time: ManualClock, clock: StepClock) -> None:
    """Of all that ended since the last question, seen or not; none, where none did."""
    durations = iter([1.0, 9.0, 2.0, 4.0, 3.0])
    loop = iter(clock.steps(range(5)))
    told: list[float | None] = [clock.longest()]
    for step, _ in enumerate(loop, 1):
        time.advance(next(durations))
        if step in {1, 4}:
            told += [clock.longest(), clock.longest()]
    told += [clock.longest(), clock.longest()]
    assert told == [None, None, None, 9.0, None, 4.0, None]


# The heartbeat


def test_the_age_is_the_time_since_the_last_step(time: ManualClock, clock: StepClock) -> None:
    """Told from the first step's end on, while a loop is open; a new loop begins anew."""
    ages: list[float | None] = []

    def tick(seconds: float = 1.0) -> None:
        time.advance(seconds)
        ages.append(clock.look().age)

    for _ in clock.steps(range(2)):
        tick()
        tick()
    tick(500.0)
    for _ in clock.steps(range(2)):
        tick()
    assert ages == [None, None, 1.0, 2.0, None, 1.0, 1.0]


def test_with_calls_alone_the_age_is_told_from_the_first_on(time: ManualClock, clock: StepClock) -> None:
    """Nobody says when such a training is over."""
    assert clock.look().age is None
    clock.step()
    time.advance(3.0)
    assert clock.look().age == 3.0
    clock.step()
    assert clock.look().age == 0.0


# Phases


def test_what_comes_after_the_last_call_is_no_step_in_a_phase_or_after_a_loop(
    time: ManualClock, clock: StepClock
) -> None:
    """Nobody tells which call was the last: so what is done with what was trained is to be in one, as `step` says."""
    clock.step()
    time.advance(1.0)
    with clock.phase("checkpoint"):
        time.advance(900.0)
        assert clock.look().age == 1.0
    assert clock.look().age == 1.0
    with clock.phase("upload"):
        time.advance(900.0)
        assert clock.look().age == 901.0
    for _ in clock.steps(()):
        pass
    assert clock.look().age is None


@pytest.mark.parametrize(
    ("called", "name", "suspends"),
    [
        *(
            (called, "checkpoint", True)
            for called in ("checkpoint", "Checkpoint", " CHECKPOINT ", "checkpointing", "ckpt")
        ),
        *(
            (called, "evaluation", True)
            for called in ("evaluation", "eval", "Evaluate", "validation", "validate", "VAL", "test", "testing")
        ),
        ("train", "train", False),
        ("Training", "train", False),
        ("Warm-up", "Warm-up", False),
        ("evaluations", "evaluations", False),
        ("", "other", False),
        (" ", "other", False),
    ],
)
def test_a_phase_s_name_says_whether_it_suspends(
    time: ManualClock, clock: StepClock, called: str, name: str, *, suspends: bool
) -> None:
    """One word for what means the same, and one's own name for what is one's own."""
    for _ in clock.steps(range(2)):
        time.advance(1.0)
        with clock.phase(called):
            assert clock.look().phases == ((name,),)
            time.advance(10.0)
    assert clock.look().phases == ()
    assert clock.phases_met == (name,)
    assert counted(clock.look()) == ((2, 2.0, 2.0, 0.0) if suspends else (2, 22.0, 22.0, 0.0))


def test_time_stands_still_within_a_checkpoint(time: ManualClock, clock: StepClock) -> None:
    """For sums, age and the longest step; before and after it they go on."""
    seen: list[tuple[float, float | None, float | None]] = []

    def tick() -> None:
        time.advance(1.0)
        look = clock.look()
        seen.append((look.time, look.waited, look.age))

    def batches() -> Iterator[int]:
        for _ in range(2):
            tick()
            with clock.phase("checkpoint"):
                tick()
            yield 0

    for _ in clock.steps(batches()):
        tick()
        with clock.phase("evaluation"), clock.phase("mine"):
            tick()
            with clock.phase("checkpoint"):
                tick()
            tick()
        tick()
    assert seen[:7] == [(1, 1, None)] * 2 + [(2, 1, None)] * 4 + [(3, 1, None)]
    assert seen[7:] == [(4, 2, 1)] * 2 + [(5, 2, 2)] * 4 + [(6, 2, 3)]
    assert clock.longest() == 3.0


def test_nothing_counts_within_an_evaluation(time: ManualClock, clock: StepClock) -> None:
    """Neither loops nor calls; a loop that lasts longer than the phase counts from then on."""
    with clock.phase("eval"):
        for _ in clock.steps(Loader(time, 3, wait=1.0)):
            time.advance(1.0)
            clock.step()
    assert clock.look() == Look(False, 0, 0.0, 0.0, None, None, False, ())
    loop = iter(clock.steps(Loader(time, 9, wait=1.0)))
    with clock.phase("eval"):
        next(loop)
        next(loop)
    assert counted(clock.look())[0] == 0
    next(loop)
    time.advance(2.0)
    next(loop)
    assert counted(clock.look()) == (1, 4.0, 3.0, 2.0)
    with clock.phase("eval"):  # the same, within a step: what it asks for now is evaluated, not trained on
        next(loop)
        next(loop)
        del loop
    assert counted(clock.look()) == (1, 4.0, 3.0, 2.0)


def test_phases_nest_and_end_however_they_end(clock: StepClock) -> None:
    """The innermost is last; an exception goes through; one object is good for many uses, and as a decorator."""
    evaluation = clock.phase("evaluation")

    @evaluation
    def nested(depth: int) -> tuple[tuple[str, ...], ...]:
        with clock.phase("mine"):
            return nested(depth - 1) if depth else clock.look().phases

    assert nested(1) == (("evaluation", "mine", "evaluation", "mine"),)
    with pytest.raises(ValueError, match="mine"), evaluation, clock.phase("mine"):
        raise ValueError("mine")
    assert clock.look().phases == ()
    assert clock.phases_met == ("evaluation", "mine")


def test_phases_may_be_told_by_calls_in_any_order(time: ManualClock, clock: StepClock) -> None:
    """As frameworks' callbacks do: what is not open is closed without a word, and the outer may end first."""
    clock.leave("checkpoint")
    clock.step()
    clock.enter("evaluation")
    clock.enter("checkpoint")
    clock.enter("mine")
    time.advance(5.0)
    clock.leave("evaluation")
    assert clock.look().phases == (("checkpoint", "mine"),)
    time.advance(5.0)
    clock.leave("checkpoint")
    time.advance(1.0)
    clock.leave("checkpoint")
    assert clock.look().phases == (("mine",),)
    assert clock.look().age == 1.0


def test_there_are_not_too_many_names(clock: StepClock) -> None:
    """Sixteen, and the rest is `other`; those that mean something to us always have their own."""
    for number in range(100):
        with clock.phase(f"phase {number}"):
            pass
    for name in ("checkpoint", "eval", "train"):
        with clock.phase(name):
            pass
    met = clock.phases_met
    assert len(set(met) - {"other"}) == MOST_PHASES == 16
    assert set(met) >= {"phase 0", "phase 12", "other", "checkpoint", "evaluation", "train"}


def test_a_phase_that_cannot_be_told_is_passed_over(clock: StepClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no name is a fault that training does not notice."""
    monkeypatch.setattr(_guard, "LOUD", False)
    with clock.phase(5):  # type: ignore[arg-type]
        pass
    assert sum(_guard.faults.values()) == 2


# At the next step


def test_it_calls_at_the_next_step_on_the_training_thread(clock: StepClock) -> None:
    """Once, when a step has ended and before the next batch is asked for; asked again, at the end of the step after."""
    events: list[str] = []

    def call(name: str, again: int = 0) -> Callable[[], None]:
        def called() -> None:
            assert threading.current_thread() is threading.main_thread()
            events.append(f"{name} {clock.look().steps}")
            if again:
                clock.at_next_step(call(name, again - 1))

        return called

    def batches() -> Iterator[int]:
        for number in range(4):
            events.append(f"batch {number}")
            yield number

    other = threading.Thread(target=lambda: clock.at_next_step(call("a")))
    other.start()
    other.join()
    clock.at_next_step(call("b", again=2))
    for _ in clock.steps(batches()):
        pass
    assert events == ["batch 0", "a 1", "b 1", "batch 1", "b 2", "batch 2", "b 3", "batch 3"]


def test_every_end_of_a_step_calls(clock: StepClock) -> None:
    """Also that of a loop that is left, and a call of `step`; within an evaluation no step ends."""
    called: list[int] = []
    clock.at_next_step(lambda: called.append(1))
    with clock.phase("evaluation"):
        list(clock.steps("abc"))
        clock.step()
    assert not called
    for _ in clock.steps("abc"):
        break
    assert called == [1]
    clock.at_next_step(lambda: called.append(2))
    clock.step()
    assert called == [1, 2]


def test_what_is_called_has_the_time_of_the_next_step(time: ManualClock, clock: StepClock) -> None:
    """It holds training up, and that is told; but it is no waiting for data."""
    clock.at_next_step(lambda: time.advance(5.0))
    for _ in clock.steps(Loader(time, 2, wait=1.0)):
        time.advance(1.0)
    assert counted(clock.look()) == (2, 9.0, 9.0, 2.0)
    assert clock.longest() == 7.0


def test_what_is_called_cannot_harm_training(clock: StepClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it raises is counted and passed over, and the next one is called."""
    monkeypatch.setattr(_guard, "LOUD", False)
    called: list[int] = []
    clock.at_next_step(lambda: 1 / 0)
    clock.at_next_step(lambda: called.append(1))
    assert list(clock.steps("ab")) == ["a", "b"]
    assert called == [1]
    assert dict(_guard.faults) == {"calling back at the end of a step": 1}


def test_nothing_is_called_on_a_thread_that_only_lets_go_of_a_loop(clock: StepClock) -> None:
    """Python's collector may run on any thread; what is to be called waits for a step on the right one."""
    called: list[threading.Thread] = []
    loops = [iter(clock.steps("abc"))]
    next(loops[0])
    clock.at_next_step(lambda: called.append(threading.current_thread()))
    other = threading.Thread(target=loops.clear)
    other.start()
    other.join()
    assert not called
    assert (clock.look().steps, clock.look().looping) == (1, False)
    clock.step()
    assert called == [threading.main_thread()]


# Threads and forks


class Trainer:
    """A thread that trains, one move at a time."""

    def __init__(self, clock: StepClock) -> None:
        self.clock = clock
        self._thread = ThreadPoolExecutor(1)
        self._loop: Iterator[int] = iter(())

    def do(self, move: Callable[[], object]) -> None:
        """Have something done on it."""
        self._thread.submit(move).result(20)

    def begin(self, loader: Iterable[int]) -> None:
        """Get the first batch."""

        def begin() -> None:
            self._loop = iter(self.clock.steps(loader))
            next(self._loop)

        self.do(begin)

    def next(self) -> None:
        """Get the next batch."""
        self.do(lambda: next(self._loop, None))

    def end(self) -> None:
        """End the thread, whatever is open on it."""
        self._thread.shutdown()
        gc.collect()


def test_two_threads_are_added_up_and_the_younger_step_is_the_age(time: ManualClock, clock: StepClock) -> None:
    """Each has its own steps, waits and phases."""
    one, two = Trainer(clock), Trainer(clock)
    one.begin(Loader(time, 9, wait=1.0))
    two.begin(range(9))
    time.advance(2.0)
    one.next()
    assert counted(clock.look()) == (1, (1 + 3) + 3, 3.0, 2.0)
    two.next()
    assert clock.look().age == 0.0
    time.advance(4.0)
    two.do(lambda: clock.enter("checkpoint"))
    time.advance(4.0)
    assert clock.look().phases == (("checkpoint",),)
    assert clock.look().age == 4.0
    one.next()
    assert clock.look().age == 1.0
    assert clock.look().steps == 3
    for trainer in (one, two):
        trainer.end()


def test_what_a_thread_did_outlives_it(time: ManualClock, clock: StepClock) -> None:
    """Its sums stay, its longest step is told, it has no age any more, and nothing is kept of it besides."""
    for _ in range(20):
        trainer = Trainer(clock)
        trainer.begin(Loader(time, 3, wait=1.0))
        time.advance(2.0)
        trainer.next()
        time.advance(2.0)
        clock.look()
        trainer.end()
        time.advance(100.0)
        look = clock.look()
    assert (look.steps, look.completed, look.age, look.looping) == (20, 60.0, None, False)
    assert look.time == 20 * 6.0
    assert clock.longest() == 3.0
    assert len(clock._hands) == 0


def test_nothing_is_kept_of_short_threads_though_nobody_looks(time: ManualClock, clock: StepClock) -> None:
    """Who only imports us has no sampler that would clear away; and what they did is not lost by that."""

    def two_steps() -> None:
        clock.step()
        time.advance(2.0)
        clock.step()

    for _ in range(500):
        thread = threading.Thread(target=two_steps)
        thread.start()
        thread.join()
    assert len(clock._hands) <= SWEPT_EVERY
    look = clock.look()
    assert (look.steps, look.completed, look.age) == (1000, 1000.0, None)
    assert clock.longest() == 2.0


def test_a_new_thread_waits_for_nobody_who_looks(clock: StepClock) -> None:
    """It leaves what there is to clear away to them."""
    with clock._looking:
        for _ in range(2 * SWEPT_EVERY):
            thread = threading.Thread(target=clock.step)
            thread.start()
            thread.join(20)
    assert clock.look().steps == 2 * SWEPT_EVERY


IN_A_CHILD = """
    import os
    import otel_hwmetrics as hw
    from otel_hwmetrics.stepclock import CLOCK

    def in_child(act):
        pid = os.fork()
        if pid == 0:
            try:
                os._exit(0 if act() else 1)
            except BaseException:
                os._exit(99)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    class Loader:
        '''Its worker is forked while the first batch is waited for, and says that it has done steps.'''
        def __iter__(self):
            def work():
                for _ in range(100):
                    hw.step()
                return CLOCK.look().steps == 100
            codes.append(in_child(work))
            return iter(range(3))

    codes, called = [], []

    def train_on():
        fresh = not CLOCK.look().begun and CLOCK.phases_met == () and CLOCK.look().phases == ()
        rest = list(loop)
        still = CLOCK.look().steps
        return fresh and rest == [1, 2] and still == 0 and not called and list(hw.steps("ab")) and CLOCK.look().steps == 2

    loop = iter(hw.steps(Loader()))
    with hw.phase("checkpoint"):
        pass
    with hw.phase("mine"):
        next(loop)
        CLOCK.at_next_step(lambda: called.append(1))
        with CLOCK._looking:  # as if another thread was looking right then
            codes.append(in_child(train_on))
    codes.append(list(loop) == [1, 2])
    print(codes, called, CLOCK.look().steps, CLOCK.phases_met)
"""


def test_a_forked_child_has_a_fresh_clock() -> None:
    """Workers do not move their parent's; a loop that is gone on with in the child counts in neither."""
    script = textwrap.dedent(IN_A_CHILD)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    assert done.stdout == "[0, 0, True] [1] 3 ('checkpoint', 'mine')\n"


# The public names


def test_the_public_names_move_the_clock_of_the_process() -> None:
    """`hw.steps`, `hw.step` and `hw.phase`, by real time."""
    CLOCK.reset()
    with hw.phase("mine"):
        assert list(hw.steps([1, 2])) == [1, 2]
    hw.step()
    look = CLOCK.look()
    assert (look.steps, CLOCK.phases_met) == (3, ("mine",))
    assert look.age is not None
    assert 0 < look.completed < 10
    assert 0 < (look.waited or 0) < 10
    CLOCK.reset()
    assert not CLOCK.look().begun
