# SPDX-License-Identifier: Apache-2.0
"""How forecasts fare in noise: how often they see what is not there, and how soon what is. All chance is seeded."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from itertools import accumulate
from statistics import median

import pytest

from otel_hwmetrics.alerts.forecast import Envelope, Point, leak, time_left, trend

pytestmark = pytest.mark.no_cover  # it would take three times as long; others see to that

Noise = Callable[[random.Random, int], list[float]]
"""So many values, one a second; most of them scatter by about 1."""


def seeded(seed: object) -> random.Random:
    """Chance that is the same in every run."""
    return random.Random(str(seed))  # noqa: S311 - noise, not secrets


def gauss(rng: random.Random, count: int) -> list[float]:
    """Independent."""
    return [rng.gauss(0, 1) for _ in range(count)]


def autoregressive(phi: float) -> Noise:
    """Each value keeps so much of the one before."""

    def noise(rng: random.Random, count: int) -> list[float]:
        fresh = math.sqrt(1 - phi * phi)
        shocks = [rng.gauss(0, 1), *[fresh * rng.gauss(0, 1) for _ in range(count - 1)]]
        return list(accumulate(shocks, lambda last, shock: phi * last + shock))

    return noise


def walk(rng: random.Random, count: int) -> list[float]:
    """Each value keeps all of the one before."""
    return list(accumulate(gauss(rng, count)))


def sawtooth(period: float) -> Noise:
    """A garbage collector's: it rises for so many seconds, and falls at once."""

    def noise(rng: random.Random, count: int) -> list[float]:
        phase = rng.random()
        return [3.5 * ((at / period + phase) % 1) + rng.gauss(0, 0.1) for at in range(count)]

    return noise


def passes(rng: random.Random, count: int) -> list[float]:
    """Forward and backward passes: activations come and go at a step's pace, which is not that of the samples."""
    step = rng.uniform(0.7, 7)
    return [3 * math.sin(math.pi * at / step) ** 2 + rng.gauss(0, 0.2) for at in range(count)]


def spikes(rng: random.Random, count: int) -> list[float]:
    """Once in a while far up and back."""
    return [rng.gauss(0, 1) + (rng.random() < 0.01) * rng.uniform(5, 30) for _ in range(count)]


def jump(rng: random.Random, count: int) -> list[float]:
    """Once to another level: an evaluation begins, a larger batch comes."""
    when, height = rng.uniform(0, count), rng.uniform(1, 20)
    return [(at >= when) * height + rng.gauss(0, 1) for at in range(count)]


def stairs_to_a_plateau(rng: random.Random, count: int) -> list[float]:
    """An allocator's reserve: some steps, and then it has what it needs."""
    end = rng.uniform(0.1, 0.6) * count
    steps = [rng.uniform(0, end) for _ in range(rng.randint(2, 6))]
    return [5 * sum(at >= step for step in steps) + rng.gauss(0, 0.3) for at in range(count)]


def ramp_to_a_plateau(rng: random.Random, count: int) -> list[float]:
    """A cache that fills, and then is full."""
    end = rng.uniform(0.1, 0.6) * count
    return [20 * min(1, at / end) + rng.gauss(0, 1) for at in range(count)]


STATIONARY: dict[str, Noise] = {
    "gauss": gauss,
    "autoregressive 0.5": autoregressive(0.5),
    "autoregressive 0.8": autoregressive(0.8),
    "autoregressive 0.95": autoregressive(0.95),
    "autoregressive 0.99": autoregressive(0.99),
    "sawtooth of 30 s": sawtooth(30),
    "sawtooth of 120 s": sawtooth(120),
    "sawtooth of 300 s": sawtooth(300),
    "passes": passes,
    "spikes": spikes,
}
AIMLESS: dict[str, Noise] = {
    "walk": walk,
    "jump": jump,
    "stairs to a plateau": stairs_to_a_plateau,
    "ramp to a plateau": ramp_to_a_plateau,
}


@pytest.mark.parametrize("count", [30, 60])
@pytest.mark.parametrize("slope", [0, 0.3])
def test_the_interval_holds_the_slope_as_often_as_it_says(count: int, slope: float) -> None:
    """Through independent noise, nominally 95 %: caution makes it somewhat more, and not all."""
    rng, held = seeded((count, slope)), 0
    for _ in range(300):
        found = trend([Point(at, slope * at + rng.gauss(0, 1)) for at in range(count)])
        held += found is not None and found.low <= slope <= found.high
    assert 0.93 <= held / 300 <= 0.995


@pytest.mark.parametrize("phi", [0.3, 0.6, 0.9, 1.0])
def test_the_interval_knows_what_autocorrelation_costs(phi: float) -> None:
    """Between the points themselves: Sen's own interval would hold 85, 70, 42 and 28 %."""
    noise = walk if phi == 1 else autoregressive(phi)
    rng, held = seeded(phi), 0
    for _ in range(300):
        found = trend([Point(*each) for each in enumerate(noise(rng, 30))])
        held += found is not None and found.low <= 0 <= found.high
    assert held / 300 >= (0.8 if phi == 1 else 0.87)


@pytest.mark.parametrize("noise", [*STATIONARY, *AIMLESS])
def test_what_goes_nowhere_is_hardly_ever_said_to_rise(noise: str) -> None:
    """Ten minutes of it, in 30 buckets: at a confidence of 99 %, four in a hundred of the worst, one in all of them."""
    rng, rising = seeded(noise), 0
    for _ in range(100):
        envelope = Envelope(max, span=600, buckets=30)
        for at, value in enumerate((STATIONARY | AIMLESS)[noise](rng, 600)):
            envelope.add(at, value)
        found = trend(envelope.points(), confidence=0.99)
        rising += found is not None and found.rising
    assert rising <= (4 if noise in {"walk", "jump"} else 2)


def through(noise: Noise, rng: random.Random, lasting: int) -> tuple[int | None, float | None]:
    """After ten minutes around 100 what is left falls to 0 in this time, through noise that scatters by 3.

    Returns:
        How many seconds later that is said first, to one who looks every 10 s; and, when for ten minutes there was
        nothing but ramp, what is still expected until the lows reach 0, as a share of what it really takes.
    """
    envelope, seen, low = Envelope(min, span=600, buckets=30), None, 100.0
    for at, value in enumerate(noise(rng, 600 + lasting), -600):
        if at == 0:
            low = median(value for _, value in envelope.points())
        envelope.add(at, 100 - max(0, at) * 100 / lasting - 3 * value)
        if at == 600 or (at > 0 and at % 10 == 0 and seen is None):
            found = trend(envelope.points(), confidence=0.99)
            outlook = time_left(found) if found is not None else None
            seen = at if outlook is not None and seen is None else seen
            if at == 600 and outlook is not None:
                return seen, outlook.expected / (lasting * low / 100 - at)
    return seen, None


@pytest.mark.parametrize("lasting", [900, 3600])
@pytest.mark.parametrize("noise", [name for name in STATIONARY if name != "sawtooth of 300 s"])
def test_a_real_ramp_is_seen_in_time(noise: str, lasting: int) -> None:
    """When most of the ten minutes that are looked back on are ramp; and when all are, what is expected is about right."""
    told = [through(STATIONARY[noise], seeded((noise, lasting, run)), lasting) for run in range(5)]
    delays = [delay for delay, _ in told if delay is not None]
    assert len(delays) == len(told)
    assert median(delays) <= 600
    assert all(1 / 1.8 < expected < 1.8 for _, expected in told if expected is not None)


# Leaks: the memory of a run of 12,000 steps, in MiB.

STEPS, LOOKS = 12_000, range(600, 12_001, 600)


def scaled(noise: Noise, size: float) -> Noise:
    """A noise in MiB."""
    return lambda rng, count: [size * value for value in noise(rng, count)]


def collected(rng: random.Random, count: int) -> list[float]:
    """What a garbage collector frees every few hundred or thousand steps."""
    return scaled(sawtooth(rng.uniform(200, 2000)), 100)(rng, count)


def cache_by_use(rng: random.Random, count: int) -> list[float]:
    """A cache whose misses get ever rarer."""
    pace = rng.uniform(0.02, 0.1) * count
    return [4096 * (1 - math.exp(-at / pace)) + rng.gauss(0, 20) for at in range(count)]


MEMORY: dict[str, Noise] = {
    "gauss": scaled(gauss, 100),
    "autoregressive 0.99": scaled(autoregressive(0.99), 200),
    "a garbage collector": collected,
    "a jump": scaled(jump, 300),
    "stairs to a plateau": scaled(stairs_to_a_plateau, 200),
    "a cache that is filled": scaled(ramp_to_a_plateau, 200),
    "a cache that learns": cache_by_use,
}


def leaking(noise: Noise, rng: random.Random, rate: float) -> dict[int, float]:
    """After which steps a leak is seen, and how many MiB a step are said to leak; 8 GiB are in use to begin with."""
    envelope, seen = Envelope(min, span=640, buckets=64, whole_run=True), {}
    for step, value in enumerate(noise(rng, STEPS), 1):
        envelope.add(step, 8192 + rate * step + value)
        if step in LOOKS:
            points = envelope.points(unfinished=False)
            growth = leak(points, share=0.06, lasting=800, confidence=0.99)
            if growth is not None:
                seen[step] = growth.slope
    return seen


@pytest.mark.parametrize("noise", MEMORY)
def test_what_does_not_leak_is_not_said_to(noise: str) -> None:
    """Nor is what did grow, once it has stood still for as long again."""
    rng = seeded(noise)
    seen = [leaking(MEMORY[noise], rng, rate=0) for _ in range(6)]
    grows = noise in {"stairs to a plateau", "a cache that is filled", "a cache that learns"}
    assert [steps for steps in seen if steps and (STEPS in steps or not grows)] == []


@pytest.mark.parametrize("noise", MEMORY)
def test_a_leak_is_found_through_any_noise(noise: str) -> None:
    """Half a MiB a step, which takes 1,024 steps to 512 MiB: within 6,000, and most often 3,000; the pace is right."""
    rng = seeded(noise)
    seen = [leaking(MEMORY[noise], rng, rate=0.5) for _ in range(5)]
    first = [min(steps) for steps in seen]
    assert max(first) <= 6000
    assert median(first) <= 3000
    assert all(each[max(each)] == pytest.approx(0.5, rel=0.4) for each in seen)
