# SPDX-License-Identifier: Apache-2.0
"""What DistributedDataParallel has measured is asked for where nobody waits for it, and told as it is."""

from __future__ import annotations

import gc
import threading

import pytest

from otel_hwmetrics import _guard
from otel_hwmetrics.catalog.distributed import DDP_COMMUNICATION, DDP_EXPOSED
from otel_hwmetrics.model import Reading
from otel_hwmetrics.sources.exchange import ASKED_EVERY, TOLD_FOR, Exchange
from otel_hwmetrics.stepclock import StepClock


class Scripted:
    """A DistributedDataParallel, by what is asked of it."""

    def __init__(self, **told: int) -> None:
        self.told = told
        self.asked_on: list[threading.Thread] = []

    def _get_ddp_logging_data(self) -> dict[str, int]:
        self.asked_on.append(threading.current_thread())
        if not self.told:
            raise RuntimeError("no logger")
        return self.told


class Bench:
    """An exchange with a clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0
        self.steps = StepClock(lambda: self.now)
        self.exchange = Exchange(self.steps, lambda: self.now)

    def read(self) -> dict[str, float]:
        """What is told, as a source would read it, on another thread; then a step ends."""
        found: dict[str, float] = {}

        def read() -> None:
            for item in self.exchange.readings():
                assert isinstance(item, Reading)
                found[item.metric.name] = item.value

        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
        return found

    def step(self) -> None:
        """A step ends."""
        self.steps.step()


@pytest.fixture
def bench() -> Bench:
    """One that knows no module."""
    return Bench()


MEASURED = {"iteration": 10, "backward_comm_time": 40_000_000, "backward_compute_comm_overlap_time": 15_000_000}


def test_it_is_asked_at_the_end_of_a_step_and_told_afterwards(bench: Bench) -> None:
    """On the training's thread, in seconds; the exposed part is what was not hidden."""
    module = Scripted(**MEASURED)
    bench.exchange.know(module)
    assert bench.read() == {}
    assert module.asked_on == []
    bench.step()
    assert module.asked_on == [threading.current_thread()]
    assert bench.read() == pytest.approx({DDP_COMMUNICATION.name: 0.04, DDP_EXPOSED.name: 0.025})


@pytest.mark.parametrize(
    "told",
    [
        {"iteration": 10},
        {"iteration": 10, "backward_comm_time": 0},
        {"iteration": 10, "backward_comm_time": -5, "backward_compute_comm_overlap_time": 3},
    ],
)
def test_what_was_not_measured_is_not_told(bench: Bench, told: dict[str, int]) -> None:
    """Absent is absent."""
    bench.exchange.know(module := Scripted(**told))
    bench.read()
    bench.step()
    assert module.asked_on
    assert bench.read() == {}


def test_it_is_asked_now_and_then_and_an_old_answer_is_told_no_more(bench: Bench) -> None:
    """A step that was timed is told for a minute, however often the same answer comes."""
    bench.exchange.know(module := Scripted(**MEASURED))
    for _ in range(3):
        bench.read()
        bench.step()
    assert len(module.asked_on) == 1
    bench.now += ASKED_EVERY
    bench.read()
    bench.step()
    assert len(module.asked_on) == 2
    assert bench.read()
    bench.now += TOLD_FOR - ASKED_EVERY + 0.1
    assert bench.read() == {}
    module.told = {**MEASURED, "iteration": 100}
    bench.step()
    assert bench.read()


def test_modules_live_no_longer_for_it_and_nobody_is_asked_without_one(bench: Bench) -> None:
    """Nothing is called at a step either."""
    bench.exchange.know(Scripted(**MEASURED))
    gc.collect()
    bench.read()
    assert not bench.steps.is_called_back


def test_a_module_that_fails_leaves_the_others(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The training does not notice."""
    monkeypatch.setattr(_guard, "LOUD", False)
    modules = Scripted(), Scripted(**MEASURED)
    for module in modules:
        bench.exchange.know(module)
    bench.read()
    bench.step()
    assert bench.read()
    _guard.faults.clear()
