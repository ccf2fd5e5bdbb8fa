# SPDX-License-Identifier: Apache-2.0
"""Steps timed on the GPU: told when the GPU has come to their end, by calls that neither wait, nor initialise, nor spoil."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from otel_hwmetrics import _guard
from otel_hwmetrics.integrations.gpu_time import MOST_AHEAD, MOST_READ, UNUSED_FOR, GpuTime
from otel_hwmetrics.stepclock import StepClock


class Cuda:
    """As ``torch.cuda``, with a GPU whose clock and progress are moved by hand.

    Attributes:
        now: Milliseconds by the GPU's clock, when it will have done what was given to it.
        done: Up to where it has come.
        calls: Everything that was called, but for asking whether CUDA is initialised.
    """

    def __init__(self) -> None:
        self.initialized = True
        self.capturing = False
        self.device = 0
        self.reserved = {0: 1 << 20}
        self.backend = "native"
        self.lost = False
        self.now = self.done = 0.0
        self.calls: list[str] = []
        self.events = 0

    def is_initialized(self) -> bool:
        """Whether the job has initialised CUDA."""
        return self.initialized

    def is_current_stream_capturing(self) -> bool:
        """Whether what is called becomes part of a graph."""
        return bool(self._called("is_current_stream_capturing", self.capturing))

    def current_device(self) -> int:
        """The device that is current to the thread."""
        return int(self._called("current_device", self.device))

    def memory_reserved(self, device: int) -> int:
        """What the job has taken of it."""
        return int(self._called("memory_reserved", self.reserved.get(device, 0)))

    def get_allocator_backend(self) -> str:
        """Whose books these are."""
        return self.backend

    def Event(self, *, enable_timing: bool) -> Event:  # noqa: N802 - as it is called there
        """A mark."""
        assert enable_timing
        self.events += 1
        return Event(self)

    def _called(self, name: str, answer: Any) -> Any:
        self.calls.append(name)
        if self.lost:
            raise RuntimeError("CUDA error: unspecified launch failure\nCUDA kernel errors might be ...")
        return answer


class Event:
    """As ``torch.cuda.Event``: of the device on which it is recorded first, and no other."""

    def __init__(self, cuda: Cuda) -> None:
        self.cuda, self.device, self.at = cuda, -1, 0.0

    def record(self) -> None:
        """Mark where the stream has got to."""
        assert not self.cuda.capturing
        assert self.cuda.reserved.get(self.cuda.device), "a context would be created"
        self.cuda._called("record", None)
        if self.device not in {-1, self.cuda.device}:
            raise RuntimeError("Event device does not match recording stream's device")
        self.device, self.at = self.cuda.device, self.cuda.now

    def query(self) -> bool:
        """Whether the GPU has come to it."""
        assert not self.cuda.capturing
        return bool(self.cuda._called("query", self.at <= self.cuda.done))

    def elapsed_time(self, end: Event) -> float:
        """Milliseconds from one to another."""
        assert self.at <= self.cuda.done
        assert end.at <= self.cuda.done
        if self.device != end.device:
            raise RuntimeError("Both events must be on the same device")
        return float(self.cuda._called("elapsed_time", end.at - self.at))


class Training:
    """Steps, each of which gives the GPU work for some milliseconds."""

    def __init__(self) -> None:
        self.cuda = Cuda()
        self.clock = StepClock()
        self.gpu_time = GpuTime(type("torch", (), {"cuda": self.cuda}), self.clock)

    def step(self, milliseconds: float = 2.0) -> None:
        """One."""
        self.gpu_time.begin()
        self.cuda.now += milliseconds
        self.gpu_time.end()

    @property
    def told(self) -> float | None:
        """Milliseconds that the clock was told of."""
        seconds = self.clock.look().gpu_time
        return None if seconds is None else round(seconds * 1e3, 6)


@pytest.fixture
def training() -> Training:
    """On one GPU."""
    return Training()


def test_a_step_is_told_when_the_gpu_has_done_it(training: Training) -> None:
    """Not before, and with nothing that waits for it; each once, in order."""
    cuda = training.cuda
    for _ in range(3):
        training.step(2.0)
    assert training.told is None
    cuda.done = 4.0
    training.step(8.0)
    assert training.told == 4.0
    cuda.done = 100.0
    training.step(1.0)
    training.step(1.0)
    assert training.told == 3 * 2.0 + 8.0 + 1.0 + 1.0
    assert set(cuda.calls) == {
        *("is_current_stream_capturing", "current_device", "memory_reserved", "record", "query", "elapsed_time")
    }


def test_marks_are_used_again(training: Training) -> None:
    """As many as there are steps that the GPU is behind, and not one a step."""
    for _ in range(100):
        training.cuda.done = training.cuda.now - 2.0
        training.step()
    assert training.cuda.events <= 8
    assert training.told == pytest.approx(98 * 2.0, abs=4.0)


def test_a_gpu_far_behind_is_not_followed_step_by_step(training: Training) -> None:
    """So many steps are known to be under way; what is beyond is not timed; catching up takes no training thread long."""
    for _ in range(3 * MOST_AHEAD):
        training.step()
    assert training.cuda.events == 2 * MOST_AHEAD
    training.cuda.done = training.cuda.now
    before = training.cuda.calls.count("elapsed_time")
    training.gpu_time.begin()
    assert training.cuda.calls.count("elapsed_time") - before == MOST_READ
    for _ in range(MOST_AHEAD):
        training.cuda.done = training.cuda.now
        training.step()
    assert training.told == pytest.approx(2 * MOST_AHEAD * 2.0, abs=8.0)


def test_an_end_without_a_beginning_times_nothing(training: Training) -> None:
    """Nor does a beginning that another one follows upon: that one counts."""
    training.gpu_time.end()
    training.gpu_time.begin()
    training.cuda.now += 50.0
    training.step()
    training.gpu_time.end()
    training.cuda.done = training.cuda.now
    training.gpu_time.end()
    assert training.told == 2.0


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda cuda: setattr(cuda, "initialized", False), id="CUDA is not initialised"),
        pytest.param(lambda cuda: setattr(cuda, "capturing", True), id="the stream is captured into a graph"),
        pytest.param(lambda cuda: cuda.reserved.clear(), id="the job has nothing on the device"),
        pytest.param(lambda cuda: setattr(cuda, "backend", "cudaMallocAsync"), id="whether it has is not known"),
    ],
)
def test_nothing_is_touched_that_must_not_be(training: Training, make: Callable[[Cuda], object]) -> None:
    """No mark, no question, no context."""
    make(training.cuda)
    for _ in range(3):
        training.step()
    assert training.cuda.events == 0
    assert not {"record", "query"} & set(training.cuda.calls)
    assert training.told is None
    if not training.cuda.initialized:
        assert training.cuda.calls == []


def test_it_begins_when_the_job_has_begun_to_use_the_device(training: Training) -> None:
    """Which is asked for once in a while only, since that copies the allocator's books."""
    training.cuda.reserved.clear()
    for _ in range(UNUSED_FOR + 1):
        training.step()
    assert training.cuda.calls.count("memory_reserved") == 1
    training.cuda.reserved[0] = 1
    for _ in range(UNUSED_FOR):
        training.step()
    training.cuda.done = training.cuda.now
    training.step()
    assert training.told is not None
    assert training.cuda.calls.count("memory_reserved") == 2


def test_a_capture_that_begins_later_is_not_spoilt(training: Training) -> None:
    """Steps that were under way are asked for when it is over, and a step within which it begins or ends is not timed."""
    training.step()
    training.gpu_time.begin()
    training.cuda.capturing = True
    training.cuda.now += 50.0
    training.gpu_time.end()
    training.gpu_time.begin()
    training.cuda.capturing = False
    training.cuda.done = training.cuda.now
    training.gpu_time.end()
    assert training.told == 2.0


def test_another_device_gets_marks_of_its_own(training: Training) -> None:
    """What begins on one and ends on another is not told; what is under way on one is told while another is current."""
    cuda = training.cuda
    cuda.reserved[1] = 1
    training.step(2.0)
    training.gpu_time.begin()
    cuda.device = 1
    training.gpu_time.end()
    for _ in range(3):
        training.step(4.0)
        cuda.done = cuda.now
    cuda.device = 0
    for _ in range(3):
        training.step(8.0)
        cuda.done = cuda.now
    training.gpu_time.end()
    assert training.told == 2.0 + 3 * 4.0 + 3 * 8.0


@pytest.mark.parametrize("step", ["begin", "end"])
def test_a_gpu_that_is_lost_is_let_alone(training: Training, step: str) -> None:
    """No fault of ours, one word in the log, and not one call more: the job has its own error to read."""
    training.step()
    training.cuda.done = training.cuda.now
    training.cuda.lost = True
    getattr(training.gpu_time, step)()
    after = len(training.cuda.calls)
    for _ in range(5):
        training.step()
    assert len(training.cuda.calls) == after
    assert training.told is None or training.told == 2.0
    assert not _guard.faults


def test_a_build_that_lacks_something_costs_the_time_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training goes on."""
    monkeypatch.setattr(_guard, "LOUD", False)
    gpu_time = GpuTime(type("torch", (), {"cuda": object()}), StepClock())
    gpu_time.begin()
    gpu_time.end()
    assert sum(_guard.faults.values()) == 2


@pytest.mark.parametrize("milliseconds", [0.0, -1.0, float("nan")])
def test_what_is_no_time_is_not_told(training: Training, monkeypatch: pytest.MonkeyPatch, milliseconds: float) -> None:
    """A driver may say anything."""
    monkeypatch.setattr(Event, "elapsed_time", lambda *_: milliseconds)
    training.cuda.done = 100.0
    training.step()
    training.step()
    assert training.told is None
