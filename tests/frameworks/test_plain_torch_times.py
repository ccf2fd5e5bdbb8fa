# SPDX-License-Identifier: Apache-2.0
"""How long the steps of a plain PyTorch training are told to be, loop by loop, by a clock that moves by hand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from torch.utils.data import DataLoader, TensorDataset

import otel_hwmetrics as hw
from otel_hwmetrics.integrations.run import STEPS
from otel_hwmetrics.integrations.torch import course, passes, watch
from otel_hwmetrics.stepclock import CLOCK
from otel_hwmetrics.testing import ManualClock


class Expected(NamedTuple):
    """What is to be told.

    Attributes:
        laps: Seconds of each step whose length is known.
        age: Of the step that is under way at the end; None for none.
        epochs: How many steps each has.
    """

    laps: list[float]
    age: float | None
    epochs: list[object]


class Job:
    """A training in which a batch takes one second.

    Args:
        time: Which moves by that.
    """

    def __init__(self, time: ManualClock) -> None:
        self.time = time
        self.model = torch.nn.Linear(4, 4)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01)

    def learn(self, batch: Any, lasts: float = 1.0) -> torch.Tensor:
        """From one batch, without a step."""
        self.time.advance(lasts)
        loss: torch.Tensor = ((self.model(batch[0]) - 1) ** 2).sum()
        loss.backward()
        return loss

    def step(self, batch: Any, lasts: float = 1.0) -> None:
        """Train on one batch."""
        self.learn(batch, lasts)
        self.optimizer.step()


def batches(count: int) -> DataLoader[Any]:
    """A loader of so many."""
    return DataLoader(TensorDataset(torch.zeros(count, 4)), batch_size=1)


TENSOR = [torch.zeros(1, 4)]


def instrument(exporter: InMemorySpanExporter) -> None:
    """Begin to listen."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    hw.instrument(tracer_provider=provider, integrations="torch", sources="training", alerts=False, flight_recorder=0)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    """All time there is, for the step clock and for PyTorch's integration."""
    clock = ManualClock(start=1000.0)
    CLOCK.reset()
    monkeypatch.setattr(CLOCK, "_now", clock.monotonic)
    monkeypatch.setattr(course, "_now", clock.monotonic)
    for module in (course, passes, watch):
        monkeypatch.setattr(module, "time", SimpleNamespace(time_ns=clock.time_ns))
    return clock


@pytest.fixture
def exporter(time: ManualClock) -> Iterator[InMemorySpanExporter]:
    """Spans that have ended, while it is instrumented."""
    exporter = InMemorySpanExporter()
    instrument(exporter)
    yield exporter
    hw.uninstrument()
    CLOCK.reset()


def zipped(job: Job) -> Expected:
    """Two loaders side by side, epoch after epoch."""
    first, second = batches(3), batches(3)
    for _ in range(3):
        for batch, _ in zip(first, second, strict=False):
            job.step(batch)
    return Expected([1] * 9, None, [3, 3, 3])


def cycled(job: Job) -> Expected:
    """A second loader that is begun anew whenever it has nothing more."""
    first, second = batches(6), batches(2)
    others = iter(second)
    for _ in range(2):
        for batch in first:
            try:
                next(others)
            except StopIteration:
                others = iter(second)
                next(others)
            job.step(batch)
    return Expected([1] * 12, None, [6, 6])


def full_batch(job: Job) -> Expected:
    """A whole pass is accumulated, and the step comes after it; what the first one lasted, nobody knows."""
    loader = batches(4)
    for _ in range(3):
        for batch in loader:
            job.learn(batch)
        job.optimizer.step()
    return Expected([4, 4], 0, [])


def closure(job: Job) -> Expected:
    """LBFGS goes through the loader as often as it likes within a step."""
    loader, rounds = batches(2), []
    job.optimizer = torch.optim.LBFGS(job.model.parameters(), max_iter=2)

    def whole() -> torch.Tensor:
        job.optimizer.zero_grad()
        rounds.append(0)
        return torch.stack([job.learn(batch) for batch in loader]).sum().detach()

    counted = []
    for _ in range(4):
        job.optimizer.step(whole)
        counted.append(len(rounds))
    return Expected([2 * (after - before) for before, after in pairwise(counted)], 0, [])


def inner(job: Job) -> Expected:
    """A loader within the step of another one."""
    adapted = batches(3)
    for _ in batches(4):
        for batch in adapted:
            job.learn(batch)
        job.optimizer.step()
    return Expected([3] * 4, None, [4])


def stray(job: Job) -> Expected:
    """One batch is looked at, long before, by an iterator that stays."""
    loader = batches(3)
    looked_at = iter(loader)
    next(looked_at)
    job.time.advance(500)
    for _ in range(2):
        for batch in loader:
            job.step(batch)
    job.time.advance(500)
    KEPT.append(looked_at)
    return Expected([1] * 6, None, [3, 3])


def retried(job: Job) -> Expected:
    """An epoch fails in the middle of a step, and its exception is kept, with all that it went through."""
    loader = batches(4)

    def epoch(*, fails: bool) -> None:
        for number, batch in enumerate(going := iter(loader)):
            if fails and number == 2:
                raise MemoryError(str(going))
            job.step(batch)

    for fails in (True, False, False):
        try:
            epoch(fails=fails)
        except MemoryError as error:
            KEPT.append(error)
    return Expected([1] * 10, None, [2, 4, 4])


def staged(job: Job) -> Expected:
    """A second stage has a loader of its own, while the iterator of the first one's is still there."""
    first = iter(batches(9))
    for _ in range(3):
        job.step(next(first))
    for batch in batches(4):
        job.step(batch)
    job.time.advance(500)
    KEPT.append(first)
    return Expected([1] * 7, None, [3, 4])


def left(job: Job) -> Expected:
    """A pass is left, and the next one begins much later."""
    loader = batches(9)
    for _ in range(2):
        for number, batch in enumerate(loader):
            job.step(batch)
            if number == 2:
                break
        assert CLOCK.look().age is None
        job.time.advance(500)
    return Expected([1] * 6, None, [3, 3])


def remainder(job: Job) -> Expected:
    """What is left of accumulated batches is a step after the last one's; nothing tells that more are to come."""
    for number, batch in enumerate(batches(5)):
        job.learn(batch)
        if number % 2:
            job.optimizer.step()
    job.time.advance(1)
    job.optimizer.step()
    job.time.advance(500)
    return Expected([2, 2], None, [2])


def evaluated(job: Job) -> None:
    """Left early."""
    with torch.no_grad():
        for number, batch in enumerate(batches(9)):
            job.time.advance(10)
            job.model(batch[0])
            if number == 2:
                break


def evaluated_in_an_epoch(job: Job) -> Expected:
    """An evaluation that is left in an epoch is part of no step; what comes after it is."""
    for number, batch in enumerate(batches(3)):
        job.step(batch)
        if number < 2:
            evaluated(job)
            assert CLOCK.look().phases == ()
            job.time.advance(0.5)
            assert CLOCK.look().age == 0.5
    return Expected([1, 1.5, 1.5], None, [3])


def evaluated_before_tensors(job: Job) -> Expected:
    """Then training goes on without a loader: what the first of these steps lasted, nobody knows."""
    for batch in batches(2):
        job.step(batch)
    evaluated(job)
    assert CLOCK.look().phases == ()
    for _ in range(3):
        job.step(TENSOR)
    evaluated(job)
    for _ in range(3):
        job.step(TENSOR, 2)
    job.time.advance(7)
    return Expected([1, 1, 1, 1, 2, 2, 2], 7, [2])


def validated_with_gradients(job: Job) -> Expected:
    """Nobody waits for a step after a validation that forgets to disable them, and it is part of none."""
    loader, validation = batches(2), batches(3)
    for _ in range(3):
        for batch in loader:
            job.step(batch)
        for batch in validation:
            job.time.advance(10)
            job.model(batch[0])
        assert CLOCK.look().age is None
    return Expected([1] * 6, None, [2, 2, 2])


KEPT: list[object] = []

LOOPS = (
    *(zipped, cycled, full_batch, closure, inner, stray, retried, staged, left, remainder),
    *(evaluated_in_an_epoch, evaluated_before_tensors, validated_with_gradients),
)


@pytest.mark.parametrize("train", LOOPS)
def test_steps_last_for_as_long_as_they_do(
    time: ManualClock, exporter: InMemorySpanExporter, train: Callable[[Job], Expected]
) -> None:
    """Each step its own time, whichever way loaders are gone through, and none where none is under way."""
    expected = train(Job(time))
    look, laps = CLOCK.look(), CLOCK.durations()
    hw.uninstrument()
    KEPT.clear()
    epochs: list[object] = [
        (span.attributes or {})[STEPS] for span in exporter.get_finished_spans() if span.name == "epoch"
    ]
    assert Expected([round(each, 6) for each in laps], look.age, epochs) == expected
    assert look.phases == ()
    assert look.completed == pytest.approx(sum(laps))


def test_an_evaluation_is_closed_that_was_under_way_when_another_thread_began_anew(
    time: ManualClock, exporter: InMemorySpanExporter
) -> None:
    """What comes after it on its thread counts."""
    job = Job(time)

    def anew() -> None:
        hw.uninstrument()
        instrument(exporter)

    for batch in batches(2):
        job.step(batch)
    with torch.no_grad():
        for number, _ in enumerate(batches(4)):
            if number == 2:
                thread = threading.Thread(target=anew)
                thread.start()
                thread.join()
    for batch in batches(3):
        job.step(batch)
    assert (CLOCK.look().steps, CLOCK.look().phases, CLOCK.durations()) == (5, (), [1] * 5)
