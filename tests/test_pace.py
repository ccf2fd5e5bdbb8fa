# SPDX-License-Identifier: Apache-2.0
"""What is slowed, and what becomes of it: its readings, the alerts on them, what is said."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from types import SimpleNamespace

import pytest

from otel_hwmetrics import pace
from otel_hwmetrics.alerts.builtin import RULES
from otel_hwmetrics.alerts.engine import Engine
from otel_hwmetrics.alerts.rule import State
from otel_hwmetrics.catalog import system
from otel_hwmetrics.config import Config
from otel_hwmetrics.model import Reading, Series, Snapshot
from otel_hwmetrics.pace import Pace, in_words
from otel_hwmetrics.runners import ThreadRunner
from otel_hwmetrics.sampler import Sampler
from otel_hwmetrics.sources.base import Batch, Source
from otel_hwmetrics.sources.gpu.nvidia import NvidiaSource
from otel_hwmetrics.testing import FakeGpu, FakeNvml, ManualClock
from otel_hwmetrics.windows import Accumulator

PATIENT = 20.0
"""Real seconds that are never waited for where all is well, however busy the machine is."""
USED = Series(system.MEMORY_UTILIZATION, {system.MEMORY_STATE: "used"})
PRESSURE = next(rule for rule in RULES if rule.name == "host_memory_pressure")
"""It must last for five seconds."""
EIGHT_GPUS = 0.031
"""Of a CPU, that eight scripted GPUs took in the slowest hour so far, everything on."""


class Memory(Source):
    """The host's memory, by a script; where that has nothing to say the look fails."""

    name = "system"

    def __init__(self, clock: ManualClock, used: Callable[[float], float | None]) -> None:
        self.clock = clock
        self.used = used
        self.began = clock.monotonic()
        self.looks = 0

    def read(self) -> Batch:
        """One reading."""
        self.looks += 1
        batch, now = Batch(), self.clock.monotonic()
        used = self.used(now - self.began)
        if used is None:
            batch.lose("OSError")
        else:
            batch.readings.append(Reading(USED, used, now))
        return batch


class Aside(Memory):
    """The same on a thread of its own, which may be held up."""

    may_hang = True

    def __init__(self, clock: ManualClock, used: Callable[[float], float | None]) -> None:
        super().__init__(clock, used)
        self.free = threading.Event()
        self.free.set()

    def read(self) -> Batch:
        """One reading, once nothing is in the way."""
        batch = super().read()
        assert self.free.wait(PATIENT)
        return batch


class Alerts:
    """A judge that remembers every step."""

    def __init__(self, clock: ManualClock) -> None:
        self.engine = Engine([PRESSURE])
        self.steps: list[tuple[float, State]] = []
        self._clock = clock
        self._began = clock.monotonic()

    def judge(self, snapshot: Snapshot) -> None:
        """Judge it."""
        now = self._clock.monotonic() - self._began
        self.steps += [(now, step.state) for step in self.engine.evaluate(snapshot)]

    def readings(self, at: float) -> Iterable[Reading]:
        """How the alerts stand."""
        return self.engine.readings(at)

    def glance(self, snapshot: Callable[[], Snapshot]) -> None:
        """Nothing."""

    def tell(self) -> None:
        """Nothing."""


class Slowed:
    """A sampler of one source with a slower cadence than its samples."""

    def __init__(
        self, used: Callable[[float], float | None], every: float, make: Callable[..., Memory] = Memory
    ) -> None:
        self.clock = ManualClock(start=1000.0)
        self.source = make(self.clock, used)
        self.alerts = Alerts(self.clock)
        self.sampler = Sampler([self.source], self.alerts, Accumulator(), clock=self.clock, source_timeout=PATIENT)
        (self.runner,) = self.sampler.runners
        self.runner.every, self.sampler.pace.slowed = every, every > 0

    def run(self, seconds: int) -> list[int]:
        """Take a sample a second, and in between one for an export; gives the seconds that had no reading."""
        missing = []
        for second in range(seconds):
            for regular in (True, False):
                sample = self.sampler.sample(regular=regular)
                if regular and USED not in sample.points:
                    missing.append(second)
                self.clock.advance(0.5)
        return missing


@pytest.mark.parametrize("every", [4.0, 8.0, 32.0])
def test_a_spike_of_one_second_is_no_alert_however_long_it_is_told(every: float) -> None:
    """One reading that is told for eight seconds does not last for five."""
    slowed = Slowed(lambda now: 0.95 if int(now) == 32 else 0.5, every)
    assert slowed.run(80) == []
    assert State.PENDING in [state for _, state in slowed.alerts.steps]
    assert State.FIRING not in [state for _, state in slowed.alerts.steps]


@pytest.mark.parametrize(("every", "fires", "over"), [(0.0, 14, 48), (4.0, 16, 48), (8.0, 16, 48), (32.0, 64, 96)])
def test_what_lasts_is_an_alert_at_its_second_reading(every: float, fires: float, over: float) -> None:
    """Two readings in a row that find it are evidence for the time between them, as with samples so far apart."""
    until = 80 if every == 32.0 else 48
    slowed = Slowed(lambda now: 0.95 if 8 <= now < until else 0.5, every)
    slowed.run(130)
    told = [(at, state) for at, state in slowed.alerts.steps if state in {State.FIRING, State.RESOLVED}]
    assert told == [(fires, State.FIRING), (over, State.RESOLVED)]


@pytest.mark.parametrize("every", [0.0, 4.0, 16.0])
def test_a_look_that_fails_once_costs_one_sample(every: float) -> None:
    """And not those of a slow cadence until the next one."""
    slowed = Slowed(lambda now: None if now == 16 else 0.5, every)
    assert slowed.run(40) == [16]
    assert slowed.runner.lost == {"OSError": 1}


def test_a_slowed_source_that_fails_for_long_is_not_asked_at_every_sample() -> None:
    """It was slowed because it is costly, and a look that fails may be, too."""
    slowed = Slowed(lambda _: None, 16.0)
    assert slowed.run(64) == list(range(64))
    assert slowed.source.looks == 5
    assert not slowed.runner.up


def test_while_a_slowed_look_is_late_what_was_told_is_told_once_more() -> None:
    """A look that always takes longer than a sample waits for would leave a hole at each of its turns."""
    slowed = Slowed(lambda _: 0.5, 4.0, Aside)
    source, sampler, runner = slowed.source, slowed.sampler, slowed.runner
    assert isinstance(source, Aside)
    assert isinstance(runner, ThreadRunner)
    runner.start()
    assert runner.wait_opened(PATIENT)
    sampler.sample()
    slowed.clock.advance(4)
    source.free.clear()
    sampler._source_timeout = 0.01
    there = []
    for second in range(3):
        there.append(USED in sampler.sample().points)
        slowed.clock.advance(0.3)
        if second == 0:
            assert (runner.up, dict(runner.lost)) == (True, {})
    assert there == [True, False, False]
    assert runner.lost == {"timeout": 2}
    source.free.set()
    sampler._source_timeout = PATIENT
    with runner._condition:
        assert runner._condition.wait_for(lambda: not runner._busy, PATIENT)
    assert USED in sampler.sample().points
    sampler.stop(PATIENT)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    """The time of the budget."""
    made = ManualClock(start=1000.0)
    monkeypatch.setattr(pace, "time", SimpleNamespace(monotonic=made.monotonic))
    return made


def test_eight_gpus_fit_into_the_defaults(clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody with a machine of eight healthy GPUs is warned, or has them read less often; with one GPU that is too much."""
    with FakeNvml([FakeGpu() for _ in range(8)]), caplog.at_level(logging.INFO):
        sampler = Sampler(
            [NvidiaSource("all", {})],
            Alerts(clock),
            Accumulator(),
            source_timeout=PATIENT,
            cpu_budget=Config().cpu_budget,
        )
        (runner,) = sampler.runners
        assert isinstance(runner, ThreadRunner)
        runner.start()
        assert runner.wait_opened(PATIENT)
        try:
            sampler.sample()
        finally:
            sampler.stop(PATIENT)
        assert runner.gpus == 8
        for _ in range(3600):
            sampler.pace.spend(EIGHT_GPUS, regular=True)
            sampler.pace.step()
            clock.advance(1)
        assert sampler.pace.interval == 1.0
        assert not sampler.pace.slowed
        assert "cpu_budget" not in caplog.text
        runner.gpus = 1
        for _ in range(600):
            sampler.pace.spend(EIGHT_GPUS, regular=True)
            sampler.pace.step()
            clock.advance(1)
    assert "takes 3.1 % of a CPU, more than the 1.5 % that cpu_budget=0.01 allows with 1 GPU." in caplog.text


def test_a_load_that_comes_and_goes_is_warned_of_once_an_hour(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Epochs of ten minutes, each too costly in its first half: what follows the first warning is for who asks for it."""
    kept = Pace([], 0.01, 1.0)
    due = 0.0
    with caplog.at_level(logging.INFO):
        for second in range(6 * 3600):
            if second >= due:
                kept.spend(0.05 if second % 600 < 300 else 0.001, regular=True)
                kept.step()
                due = second + kept.interval
            clock.advance(1)
    told = [record.levelno for record in caplog.records if "and less often where that is not enough" in record.msg]
    assert 4 <= told.count(logging.WARNING) <= 7
    assert told.count(logging.INFO) > 10


def test_a_share_in_words_is_as_exact_as_it_takes() -> None:
    """That one percent is more than one percent would help nobody; the option by the name and the value that it has."""
    assert in_words(0.01, 0) == "1 % that cpu_budget=0.01 allows"
    assert in_words(0.0125, 8) == "6.25 % that cpu_budget=0.0125 allows with 8 GPUs"
    assert "takes 1.04 % of a CPU, more than the 1 % that" in pace._EXHAUSTED % (
        1.04,
        in_words(0.01, 0),
        "all every 32 s",
    )
