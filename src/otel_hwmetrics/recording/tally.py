# SPDX-License-Identifier: Apache-2.0
"""Peak, mean and 95th percentile of figures as they come, without keeping them."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Final

from otel_hwmetrics.recording.nouns import FIGURES, JobSample, Stat, Summary, Totals

ERROR: Final = 0.01
"""How far a 95th percentile may be above the truth, as a part of it; never below. As DDSketch does it
(https://arxiv.org/abs/1908.10693)."""
_GROWTH: Final = math.log1p(ERROR)
STEADY: Final = 0.95
"""Seconds that a peak of CPU is of, or more: over less the kernel's clock, which has hundredths, may show CPUs that there are
not. A little less than a second, since looks are never quite a second apart."""
_SHARE: Final = 0.95
_NOTHING: Final = -(2**31)  # the bin of what is not above zero


class Tally:
    """One figure over time. Memory grows with the logarithm of its range: a few kilobytes at most.

    Args:
        least: Seconds over which the figure is to be had at the least for its peak: shorter times are put together until they
            are as long. What is left over counts for the mean alone.
    """

    def __init__(self, least: float = 0.0) -> None:
        self.peak = -math.inf
        self._least = least
        self._open = (0.0, 0.0)  # the integral and the seconds of what is put together
        self._integral = 0.0
        self._seconds = 0.0
        self._bins: defaultdict[int, float] = defaultdict(float)  # seconds

    def add(self, value: float, seconds: float) -> None:
        """It was ``value`` for so many seconds; a moment counts for the peak alone."""
        self._rise(value, seconds)
        if seconds > 0:
            self._integral += value * seconds
            self._seconds += seconds
            self._bins[math.ceil(math.log(value) / _GROWTH) if value > 0 else _NOTHING] += seconds

    def _rise(self, value: float, seconds: float) -> None:
        integral, over = self._open[0] + value * seconds, self._open[1] + seconds
        if seconds <= 0 or seconds >= self._least:
            self.peak = max(self.peak, value)
        elif over >= self._least:
            self.peak = max(self.peak, integral / over)
        else:
            self._open = integral, over
            return
        if seconds > 0:
            self._open = 0.0, 0.0

    @property
    def stat(self) -> Stat:
        """What it came to."""
        if not self._seconds:
            return Stat(self.peak, self.peak, self.peak)
        mean = self._integral / self._seconds
        # What the peak leaves out may be above it: of a job that is over before a peak could be told, that is all there is.
        peak = max(self.peak, mean) if self._least else self.peak
        return Stat(peak, mean, min(peak, self._below(_SHARE)))

    def _below(self, share: float) -> float:
        left = share * self._seconds
        for place in sorted(self._bins):
            left -= self._bins[place]
            if left <= 0:
                break
        return 0.0 if place == _NOTHING else math.exp(place * _GROWTH)


def any_figure(sample: JobSample) -> bool:
    """Whether a look at a job says anything but when it was."""
    return any(value is not None for value in sample[1:])


class JobTally:
    """What a job has used so far.

    Args:
        started_ns: When it began, nanoseconds since the epoch; None where that is not known.
        interval: Seconds between two regular looks. A peak of CPU is of so many, or of `STEADY` where that is less.
    """

    def __init__(self, started_ns: int | None = None, interval: float = 1.0) -> None:
        self._last_ns = started_ns
        self._looks = 0
        self._seconds = 0.0
        self._figures: dict[str, Tally] = {"cpu": Tally(min(STEADY, STEADY * interval))}
        self._known: set[str] = set()
        self._totals = Totals()

    def add(self, sample: JobSample, totals: Totals) -> None:
        """Take one look into account: it speaks of the time since the look before. Without any figure, totals alone count."""
        told = {name: value for name, value in totals._asdict().items() if value is not None}
        self._totals = self._totals._replace(**told)
        if not any_figure(sample):
            return
        seconds = 0.0 if self._last_ns is None else max(0.0, (sample.at_ns - self._last_ns) / 1e9)
        self._last_ns = sample.at_ns
        self._looks += 1
        self._seconds += seconds
        for name, value in zip(FIGURES, sample[1:], strict=True):
            if value is not None and math.isfinite(value):
                self._figures.setdefault(name, Tally()).add(value, seconds)
                self._known.add(name)

    @property
    def is_new(self) -> bool:
        """Whether nothing is known yet."""
        return not self._looks and self._totals == Totals()

    @property
    def summary(self) -> Summary:
        """What it came to."""
        figures = {name: self._figures[name].stat for name in FIGURES if name in self._known}
        return Summary(self._looks, self._seconds, figures, **self._totals._asdict())
