# SPDX-License-Identifier: Apache-2.0
"""When a profiler is on, and that it never stays on: a scripted PyTorch, on a real step clock.

What is in the files is tested with the real one: tests/frameworks.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from alarms import alert
from otel_hwmetrics import _guard
from otel_hwmetrics._guard import faults
from otel_hwmetrics.folders import Folder
from otel_hwmetrics.sinks import profile as profiling
from otel_hwmetrics.sinks.profile import Profiles
from otel_hwmetrics.stepclock import StepClock
from otel_hwmetrics.testing import ManualClock


class FakeTorch:
    """As much of PyTorch as makes a profile; as with the real one, only who started a profiler can stop it.

    Attributes:
        owner: The thread on which a profiler is on.
        started: How often one was started.
        failing: Which of its parts raise: "start", "stop", "snapshot".
    """

    def __init__(self) -> None:
        self.owner: threading.Thread | None = None
        self.started = 0
        self.failing: set[str] = set()
        self.profiler = SimpleNamespace(profile=self._profile, ProfilerActivity=SimpleNamespace(CPU=1, CUDA=2))
        self.cuda = SimpleNamespace(
            is_initialized=lambda: "snapshot" in self.failing,
            memory=SimpleNamespace(_snapshot=lambda: self._fail("snapshot")),
        )
        self.autograd = SimpleNamespace(
            _profiler_enabled=lambda: self.owner is threading.current_thread(),
            _disable_profiler=self._off,
            profiler=SimpleNamespace(_is_profiler_enabled=False, _run_on_profiler_stop=self._flag_off),
        )

    @property
    def on(self) -> bool:
        """Whether a profiler is on, or PyTorch believes so."""
        return self.owner is not None or self.autograd.profiler._is_profiler_enabled

    def _profile(self, **_: Any) -> FakeTorch:
        return self

    def start(self) -> None:
        """Switch the profiler on."""
        assert self.owner is None
        self.autograd.profiler._is_profiler_enabled = True
        self.owner = threading.current_thread()
        self._fail("start")
        self.started += 1

    def stop(self) -> None:
        """Switch it off."""
        self._fail("stop")
        self._off()
        self._flag_off()

    def export_chrome_trace(self, path: str) -> None:
        """Write the trace."""
        assert not self.on
        Path(path).write_text("{}", encoding="utf-8")

    def _off(self) -> None:
        assert self.owner is threading.current_thread()
        self.owner = None

    def _flag_off(self) -> None:
        self.autograd.profiler._is_profiler_enabled = False

    def _fail(self, part: str) -> None:
        if part in self.failing:
            raise RuntimeError(f"{part} failed")


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> FakeTorch:
    """It is loaded."""
    made = FakeTorch()
    monkeypatch.setitem(sys.modules, "torch", made)
    return made


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    """By which profiles are overdue."""
    made = ManualClock()
    monkeypatch.setattr(profiling, "time", made)
    return made


@pytest.fixture
def clock() -> StepClock:
    """Training has begun."""
    made = StepClock()
    list(made.steps(range(1)))
    return made


@pytest.fixture
def make(torch: FakeTorch, time: ManualClock, clock: StepClock, tmp_path: Path) -> Iterator[Callable[..., Profiles]]:
    """Makes the profiles of that training; nobody writes any more at the end."""

    def made(steps: int = 3, limit: int = 2) -> Profiles:
        return Profiles(("*",), steps, limit, lambda: Folder(str(tmp_path)), clock)

    yield made
    settled()


def settled() -> None:
    """Wait until nobody writes any more."""
    for thread in threading.enumerate():
        if thread.name == "hwmetrics-profile":
            thread.join(60)


def written(path: str | None) -> bool:
    """Whether a promised file is there, once all are written."""
    settled()
    assert path is not None
    return Path(path).exists()


def asked(profiles: Profiles, second: int = 1) -> str | None:
    """For an alert that fires in that second."""
    return profiles.path_for(alert(at=second * 10**9))


# Where it ends


def test_it_ends_with_its_steps(make: Callable[..., Profiles], torch: FakeTorch, clock: StepClock) -> None:
    """Neither before nor after."""
    path = asked(make(steps=3))
    on = [torch.on for _ in clock.steps(range(6))]
    assert on == [False, True, True, True, False, False]
    assert written(path)


def test_it_ends_where_the_loop_does(make: Callable[..., Profiles], torch: FakeTorch, clock: StepClock) -> None:
    """What comes after the last step, an evaluation or a save, is not recorded; the steps that there were are written."""
    path = asked(make(steps=5))
    list(clock.steps(range(3)))
    assert not torch.on
    assert written(path)


@pytest.mark.parametrize("leave", ["break", "raise"])
def test_it_ends_where_the_loop_is_left(
    leave: str, make: Callable[..., Profiles], torch: FakeTorch, clock: StepClock
) -> None:
    """Likewise."""
    path = asked(make(steps=5))

    def train() -> None:
        for number in clock.steps(range(9)):
            if number == 2:
                assert torch.on
                if leave == "raise":
                    raise KeyError
                break

    if leave == "raise":
        with pytest.raises(KeyError):
            train()
    else:
        train()
    assert not torch.on
    assert written(path)


@pytest.mark.parametrize("phase", ["checkpoint", "eval"])
def test_it_ends_where_steps_stand_still(
    phase: str, make: Callable[..., Profiles], torch: FakeTorch, clock: StepClock
) -> None:
    """Within a step, too, and in a loop of one's own; other phases are part of it."""
    path = asked(make(steps=5))
    for _ in range(3):
        clock.step()
    with clock.phase("forward"):
        assert torch.on
    assert torch.on
    with clock.phase(phase):
        assert not torch.on
    assert written(path)


def test_a_loop_within_a_step_does_not_end_it(
    make: Callable[..., Profiles], torch: FakeTorch, clock: StepClock
) -> None:
    """Gradient accumulation, say: it is part of the step."""
    asked(make(steps=2))
    on = []
    for _ in clock.steps(range(4)):
        list(clock.steps(range(2)))
        on.append(torch.on)
    assert on == [False, True, True, False]


def test_one_that_began_with_the_last_step_begins_again(
    make: Callable[..., Profiles], torch: FakeTorch, clock: StepClock
) -> None:
    """No empty file is written: the next epoch's steps are in it."""
    path = asked(make(steps=2))
    list(clock.steps(range(1)))
    assert not torch.on
    assert not written(path)
    on = [torch.on for _ in clock.steps(range(4))]
    assert on == [False, True, True, False]
    assert torch.started == 2
    assert written(path)


def test_one_in_which_no_step_ever_ends_begins_a_few_times(
    make: Callable[..., Profiles], torch: FakeTorch, clock: StepClock
) -> None:
    """Where each step has its evaluation, what there is of one is written."""
    path = asked(make(steps=2))
    for _ in clock.steps(range(6)):
        with clock.phase("eval"):
            assert not torch.on
    assert torch.started == profiling.TRIES
    assert written(path)


@pytest.mark.parametrize("call", ["step", "phase", "end of a phase"])
def test_it_ends_at_its_deadline(
    call: str, make: Callable[..., Profiles], torch: FakeTorch, clock: StepClock, time: ManualClock
) -> None:
    """A loop of one's own is over, and nobody says so: the next call of any kind ends it, with the steps that it has."""
    path = asked(make(steps=5))
    clock.step()
    clock.step()
    clock.step()
    clock.enter("mine")
    time.advance(profiling.LONGEST - 1.0)
    clock.enter("yours")
    assert torch.on
    time.advance(2.0)
    if call == "step":
        clock.step()
    elif call == "phase":
        clock.enter("save")
    else:
        clock.leave("mine")
    assert not torch.on
    assert written(path)


def test_stopping_ends_it(make: Callable[..., Profiles], torch: FakeTorch, clock: StepClock) -> None:
    """At once on its own thread; the steps that there were are written, and it is not begun again."""
    profiles = make(steps=5)
    path = asked(profiles)
    for number in clock.steps(range(6)):
        if number == 3:
            assert torch.on
            profiles.stop()
            assert not torch.on
    assert torch.started == 1
    assert written(path)
    assert asked(profiles, 2) is None
    assert profiles.request("demand", 1, 0) is None


def test_stopping_from_another_thread_ends_it_with_the_next_step(
    make: Callable[..., Profiles], torch: FakeTorch, clock: StepClock
) -> None:
    """Nobody else can stop a profiler."""
    profiles = make(steps=5)
    path = asked(profiles)
    on = []
    for number in clock.steps(range(6)):
        if number == 3:
            with ThreadPoolExecutor(1) as pool:
                pool.submit(profiles.stop).result()
        on.append(torch.on)
    assert on == [False, True, True, True, False, False]
    assert written(path)


def test_one_that_is_stopped_before_a_step_had_ended_is_not_made(
    make: Callable[..., Profiles], torch: FakeTorch, clock: StepClock, caplog: pytest.LogCaptureFixture
) -> None:
    """And a line says so, since an event has its path."""
    profiles = make()
    path = asked(profiles)
    for number in clock.steps(range(2)):
        if number == 1:
            profiles.stop()
            assert not torch.on
    assert not written(path)
    assert caplog.messages == [f"The profile {path} was not made: it was stopped before a step had ended."]


def test_steps_of_other_threads_neither_count_nor_stop_it(
    make: Callable[..., Profiles], torch: FakeTorch, clock: StepClock
) -> None:
    """It is of the thread on which it began."""
    path = asked(make(steps=2))
    on = []
    with ThreadPoolExecutor(1) as pool:
        for number in clock.steps(range(4)):
            if number:
                pool.submit(list, clock.steps(range(3))).result()
            on.append(torch.on)
    assert on == [False, True, True, False]
    assert written(path)


def test_one_whose_thread_is_gone_does_not_keep_the_next_alert_from_its_profile(
    make: Callable[..., Profiles], torch: FakeTorch, clock: StepClock
) -> None:
    """With the thread its profiler ended, and nothing can be had of it."""
    profiles = make(steps=2)
    asked(profiles)
    thread = threading.Thread(target=clock.step)
    thread.start()
    thread.join()
    assert torch.started == 1
    torch.owner = None
    torch._flag_off()
    path = asked(profiles, 2)
    for _ in range(4):
        clock.step()
    assert written(path)
    assert asked(profiles, 3) is None  # both were begun, and there may be two


# Faults


@pytest.mark.parametrize("part", ["start", "stop"])
def test_whatever_fails_no_profiler_stays_on(
    part: str, make: Callable[..., Profiles], torch: FakeTorch, clock: StepClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To stop one asks the GPU, which may report an error. It is counted, and the next profile is not in its way."""
    monkeypatch.setattr(_guard, "LOUD", False)
    profiles = make(steps=1)
    torch.failing = {part}
    path = asked(profiles)
    list(clock.steps(range(4)))
    assert not torch.on
    assert not written(path)
    assert list(faults.values()) == [1]
    torch.failing = set()
    path = asked(profiles, 2)
    list(clock.steps(range(4)))
    assert written(path)


def test_a_fault_before_the_stop_leaves_no_profiler_on(
    make: Callable[..., Profiles], torch: FakeTorch, clock: StepClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of ours, say."""
    monkeypatch.setattr(_guard, "LOUD", False)
    path = asked(make(steps=3))
    for number in clock.steps(range(4)):
        if number == 1:
            assert torch.on
            monkeypatch.setattr(profiling, "time", None)
    assert not torch.on
    assert not written(path)
    assert faults == {"going on with a profile": 1}


def test_a_fault_after_the_stop_costs_the_files_alone(
    make: Callable[..., Profiles], torch: FakeTorch, clock: StepClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The snapshot of the memory fails; training goes on, and the next alert has its profile."""
    monkeypatch.setattr(_guard, "LOUD", False)
    profiles = make(steps=1)
    torch.failing = {"snapshot"}
    asked(profiles)
    assert len(list(clock.steps(range(4)))) == 4
    assert not torch.on
    torch.failing = set()
    assert asked(profiles, 2) is not None


# How many


def test_one_that_never_begins_costs_no_other_alert_its_profile(
    make: Callable[..., Profiles], torch: FakeTorch, clock: StepClock, time: ManualClock
) -> None:
    """Training hangs, or profiles itself, when an alert fires; of what is begun there are no more than may be."""
    profiles = make(steps=1, limit=1)
    for second in range(5):
        assert asked(profiles, second) is not None
        time.advance(profiling.PATIENCE + 1.0)
    torch.autograd.profiler._is_profiler_enabled = True
    for second in range(5, 10):
        assert asked(profiles, second) is not None
        list(clock.steps(range(1)))
    torch.autograd.profiler._is_profiler_enabled = False
    path = asked(profiles, 10)
    list(clock.steps(range(3)))
    assert written(path)
    assert torch.started == 1
    assert asked(profiles, 11) is None


def test_on_demand_there_are_as_many_as_one_likes(
    make: Callable[..., Profiles], torch: FakeTorch, clock: StepClock
) -> None:
    """They take none of the alerts'."""
    profiles = make(steps=1, limit=1)
    for second in range(3):
        path = profiles.request("demand", 1, second * 10**9)
        list(clock.steps(range(3)))
        assert written(path)
    assert asked(profiles, 4) is not None


@pytest.mark.parametrize(
    ("steps", "refusal"),
    [
        ("5", TypeError("profile takes a whole number of steps, not '5'")),
        (2.0, TypeError("profile takes a whole number of steps, not 2.0")),
        (None, TypeError("profile takes a whole number of steps, not None")),
        (0, ValueError("profile takes a number of steps from 1 to 1000, not 0")),
        (-3, ValueError("profile takes a number of steps from 1 to 1000, not -3")),
        (1001, ValueError("profile takes a number of steps from 1 to 1000, not 1001")),
    ],
)
def test_a_number_of_steps_that_is_none_is_refused_at_the_call(
    steps: Any, refusal: Exception, make: Callable[..., Profiles], torch: FakeTorch, clock: StepClock
) -> None:
    """Not in a step, where nobody would see it; nothing is begun."""
    with pytest.raises(type(refusal)) as raised:
        make().request("demand", steps, 0)
    assert str(raised.value) == str(refusal)
    list(clock.steps(range(3)))
    assert torch.started == 0
