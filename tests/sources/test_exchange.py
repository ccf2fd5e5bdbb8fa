# SPDX-License-Identifier: Apache-2.0
"""What DistributedDataParallel has measured is asked for where nobody waits for it, and told as it is."""

from __future__ import annotations

import gc
import weakref
from types import SimpleNamespace

import pytest

from otel_hwmetrics import _guard
from otel_hwmetrics.catalog.distributed import DDP_COMMUNICATION, DDP_EXPOSED
from otel_hwmetrics.model import Reading
from otel_hwmetrics.sources.exchange import ASKED_AGAIN, ASKED_EVERY, TOLD_FOR, Exchange


class Scripted:
    """A logger of a DistributedDataParallel, by what is asked of it."""

    def __init__(self, **told: int) -> None:
        self.told = told
        self.asked = 0

    def _get_ddp_logging_data(self) -> SimpleNamespace:
        self.asked += 1
        if not self.told:
            raise RuntimeError("no data")
        return SimpleNamespace(ints_map=self.told, strs_map={})


class Bench:
    """An exchange with a clock that is moved by hand, which somebody reads."""

    def __init__(self) -> None:
        self.now = 100.0
        self.exchange = Exchange(lambda: self.now)
        self.read()

    def read(self) -> dict[str, float]:
        """What is told."""
        found: dict[str, float] = {}
        for item in self.exchange.readings():
            assert isinstance(item, Reading)
            found[item.metric.name] = item.value
        return found


@pytest.fixture
def bench() -> Bench:
    """One that has asked nobody yet."""
    return Bench()


MEASURED = {"iteration": 10, "backward_comm_time": 40_000_000, "backward_compute_comm_overlap_time": 15_000_000}


def test_what_a_module_has_noted_is_told_afterwards(bench: Bench) -> None:
    """In seconds; the exposed part is what was not hidden. Reading asks nobody: that might wait for a backward pass."""
    logger = Scripted(**MEASURED)
    bench.exchange.noted(logger)
    assert bench.read() == pytest.approx({DDP_COMMUNICATION.name: 0.04, DDP_EXPOSED.name: 0.025})
    bench.now += ASKED_EVERY
    assert bench.read()
    assert logger.asked == 1


def test_nobody_is_asked_for_what_nobody_reads() -> None:
    """As where the source is off."""
    logger = Scripted(**MEASURED)
    Exchange().noted(logger)
    assert not logger.asked


@pytest.mark.parametrize(
    "told",
    [
        {"iteration": 10},
        {"iteration": 10, "backward_comm_time": 0},
        {"iteration": 10, "backward_comm_time": -5, "backward_compute_comm_overlap_time": 3},
    ],
)
def test_what_was_not_measured_is_not_told_and_soon_asked_for_again(bench: Bench, told: dict[str, int]) -> None:
    """Absent is absent; a module measures nothing before its second forward pass."""
    bench.exchange.noted(logger := Scripted(**told))
    assert logger.asked == 1
    assert bench.read() == {}
    logger.told = MEASURED
    bench.exchange.noted(logger)
    assert logger.asked == 1
    bench.now += ASKED_AGAIN
    bench.exchange.noted(logger)
    assert bench.read()


def test_each_is_asked_now_and_then_and_an_old_answer_is_told_no_more(bench: Bench) -> None:
    """A step that was timed is told for a minute, however often the same answer comes, by each of two modules."""
    loggers = Scripted(**MEASURED), Scripted(**MEASURED)
    for _ in range(3):
        for logger in loggers:
            bench.exchange.noted(logger)
    assert [logger.asked for logger in loggers] == [1, 1]
    bench.now += ASKED_EVERY
    bench.exchange.noted(loggers[0])
    assert [logger.asked for logger in loggers] == [2, 1]
    assert bench.read()
    bench.now += TOLD_FOR - ASKED_EVERY + 0.1
    assert bench.read() == {}
    loggers[0].told = {**MEASURED, "iteration": 100}
    bench.exchange.noted(loggers[0])
    assert bench.read()


def test_loggers_live_no_longer_for_it(bench: Bench) -> None:
    """With a logger goes what a whole model has of gradients."""
    logger = Scripted(**MEASURED)
    bench.exchange.noted(logger)
    gone = weakref.ref(logger)
    del logger
    gc.collect()
    assert gone() is None


def test_one_that_fails_leaves_the_others(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The training does not notice."""
    monkeypatch.setattr(_guard, "LOUD", False)
    for logger in (Scripted(), Scripted(**MEASURED)):
        bench.exchange.noted(logger)
    assert bench.read()
    _guard.faults.clear()
