# SPDX-License-Identifier: Apache-2.0
"""Profiles of the moment, by the real PyTorch on its CPU."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from alarms import alert
from otel_hwmetrics import _guard
from otel_hwmetrics.alerts.rule import State
from otel_hwmetrics.folders import Folder
from otel_hwmetrics.sinks import profile as profiling
from otel_hwmetrics.sinks.profile import Profiles
from otel_hwmetrics.stepclock import StepClock


class Training:
    """A small training, on its own step clock."""

    def __init__(self) -> None:
        self.clock = StepClock()
        self.model = torch.nn.Linear(32, 32)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01)

    def steps(self, count: int) -> None:
        """Train for so many steps."""
        for _ in self.clock.steps(range(count)):
            self.optimizer.zero_grad()
            self.model(torch.rand(8, 32)).sum().backward()
            self.optimizer.step()


@pytest.fixture
def training() -> Training:
    """One that has begun."""
    made = Training()
    made.steps(1)
    return made


@pytest.fixture
def make(training: Training, tmp_path: Path) -> Callable[..., Profiles]:
    """Makes the profiles of that training."""

    def made(rules: tuple[str, ...] = ("gpu_*",), steps: int = 3, limit: int = 2) -> Profiles:
        return Profiles(rules, steps, limit, lambda: Folder(str(tmp_path)), training.clock)

    return made


def wait(path: str | None) -> Path:
    """Wait until a file is there; it is there as a whole."""
    assert path is not None
    end = time.monotonic() + 60
    while not Path(path).exists():
        assert time.monotonic() < end
        time.sleep(0.01)
    return Path(path)


def events(path: str | None) -> list[dict[str, Any]]:
    """What a trace tells of."""
    found: list[dict[str, Any]] = json.loads(wait(path).read_text())["traceEvents"]
    return found


def settled() -> None:
    """Wait until nobody writes any more."""
    for thread in threading.enumerate():
        if thread.name == "hwmetrics-profile":
            thread.join(60)


@pytest.fixture(autouse=True)
def _all_written() -> Iterator[None]:
    yield
    settled()


def test_the_next_steps_are_profiled_when_a_chosen_alert_fires(
    make: Callable[..., Profiles], training: Training
) -> None:
    """So many, and no more; the path is told before, and has the alert in its name."""
    path = make(steps=3).path_for(alert())
    assert path is not None
    assert "gpu_hot" in path
    assert not Path(path).exists()
    training.steps(10)
    optimizer_steps = [event for event in events(path) if "Optimizer.step#SGD.step" in event.get("name", "")]
    assert len(optimizer_steps) == 3


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ((), {}),
        (("host_*",), {}),
        (("gpu_hot",), {"state": State.RESOLVED}),
        (("gpu_hot",), {"blind": True}),
    ],
)
def test_other_alerts_are_not(make: Callable[..., Profiles], rules: tuple[str, ...], told: dict[str, Any]) -> None:
    """Those that were not chosen, and those that begin nothing."""
    assert make(rules).path_for(alert(**told)) is None


def test_one_at_a_time_and_so_many_a_run(make: Callable[..., Profiles], training: Training) -> None:
    """An alert that fires meanwhile has none; nor has the third."""
    profiles = make(limit=2)
    first = profiles.path_for(alert(at=1))
    assert profiles.path_for(alert(at=2)) is None
    training.steps(5)
    wait(first)
    settled()
    second = profiles.path_for(alert(at=10**10))
    assert second not in (None, first)
    training.steps(5)
    wait(second)
    settled()
    assert profiles.path_for(alert(at=2 * 10**10)) is None


def test_on_demand_it_does_not_count_as_an_alert_s(make: Callable[..., Profiles], training: Training) -> None:
    """A person may ask as often as they like."""
    profiles = make(limit=0)
    assert profiles.path_for(alert()) is None
    path = profiles.request("demand", 2, time.time_ns())
    training.steps(5)
    assert wait(path).stat().st_mode & 0o777 == 0o600


def test_a_job_that_does_not_tell_its_steps_has_none(tmp_path: Path) -> None:
    """Nobody could stop it."""
    profiles = Profiles(("*",), 3, 2, lambda: Folder(str(tmp_path)), StepClock())
    assert profiles.path_for(alert()) is None


def test_a_training_that_hangs_does_not_keep_the_next_alert_from_its_profile(
    make: Callable[..., Profiles], training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has waited in vain is given up, also when the steps go on after all."""
    monkeypatch.setattr(profiling, "PATIENCE", 0.0)
    profiles = make()
    first, second = profiles.path_for(alert(at=1)), profiles.path_for(alert(at=10**10))
    assert None not in (first, second)
    training.steps(6)
    wait(second)
    settled()
    assert not Path(str(first)).exists()


def test_where_the_job_profiles_itself_it_is_left_alone(
    make: Callable[..., Profiles], training: Training, caplog: pytest.LogCaptureFixture
) -> None:
    """Its profile is whole, ours is not made, and a line says so."""
    profiles = make()
    with torch.profiler.profile() as theirs:
        path = profiles.path_for(alert())
        training.steps(6)
    assert any("Optimizer.step#SGD.step" in event.key for event in theirs.key_averages())
    settled()
    assert not Path(str(path)).exists()
    assert [record.message for record in caplog.records if str(path) in record.message]
    assert profiles.path_for(alert(at=10**10)) is not None


def test_a_folder_that_cannot_be_written_to_is_said_and_training_goes_on(
    training: Training, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is raised in a step."""
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    profiles = Profiles(("*",), 1, 1, lambda: Folder(str(in_the_way)), training.clock)
    path = profiles.path_for(alert())
    with caplog.at_level(logging.WARNING):
        training.steps(5)
        settled()
    assert f"The profile {path} could not be written" in caplog.text


def test_without_a_folder_there_is_none(training: Training) -> None:
    """And no promise of one."""
    assert Profiles(("*",), 1, 1, lambda: None, training.clock).path_for(alert()) is None


def test_what_was_not_begun_is_given_up_at_the_stop(make: Callable[..., Profiles], training: Training) -> None:
    """After `uninstrument()` the training is left alone."""
    profiles = make()
    path = profiles.path_for(alert())
    profiles.stop()
    training.steps(5)
    settled()
    assert not Path(str(path)).exists()
    assert profiles.path_for(alert(at=10**10)) is None


def test_no_profiler_is_on_after_the_loop(make: Callable[..., Profiles], training: Training) -> None:
    """So that it does not record the evaluation that follows until memory is full; the steps that there were are there."""
    path = make(steps=5).path_for(alert())
    training.steps(3)
    assert not torch.autograd._profiler_enabled()
    assert not torch.autograd.profiler._is_profiler_enabled
    optimizer_steps = [event for event in events(path) if "Optimizer.step#SGD.step" in event.get("name", "")]
    assert len(optimizer_steps) == 2


def test_no_profiler_is_on_after_the_stop(make: Callable[..., Profiles], training: Training) -> None:
    """In the middle of the loop; what was recorded until then is there."""
    profiles = make(steps=5)
    path = profiles.path_for(alert())
    for number in training.clock.steps(range(6)):
        training.model(torch.rand(8, 32)).sum().backward()
        if number == 2:
            assert torch.autograd._profiler_enabled()
            profiles.stop()
            assert not torch.autograd._profiler_enabled()
    assert [event for event in events(path) if "aten::linear" in event.get("name", "")]


def test_a_profiler_whose_stop_fails_is_switched_off(
    make: Callable[..., Profiles], training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it does where a GPU reports an error; the next alert has its profile."""
    monkeypatch.setattr(_guard, "LOUD", False)
    profiles = make(steps=1)

    def fail(_: torch.profiler.profile) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with monkeypatch.context() as patched:
        patched.setattr(torch.profiler.profile, "stop", fail)
        profiles.path_for(alert(at=1))
        training.steps(4)
    assert not torch.autograd._profiler_enabled()
    path = profiles.path_for(alert(at=10**10))
    training.steps(4)
    assert [event for event in events(path) if "Optimizer.step#SGD.step" in event.get("name", "")]
