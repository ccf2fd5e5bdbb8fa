# SPDX-License-Identifier: Apache-2.0
"""What we cost, and how often the sampler looks at the machine therefore."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Final

from otel_hwmetrics import redaction
from otel_hwmetrics.budget import ALL, Budget, Change
from otel_hwmetrics.catalog import own
from otel_hwmetrics.model import Reading, Series
from otel_hwmetrics.runners import STALE_AFTER, Runner, ThreadRunner
from otel_hwmetrics.threads import Bystanders

_logger = redaction.logger()

_INTERVAL: Final = Series(own.SAMPLING_INTERVAL)
PER_GPU: Final = 0.5
"""What each GPU that is read adds to what we may take, as a part of `cpu_budget`: the promise of one percent is for host and
process, and each GPU costs up to 0.35 % of a CPU at a sample a second (docs/overhead.md)."""
QUIET: Final = 3600.0
"""Seconds between two warnings: a load that comes and goes is told of once an hour, in between at INFO."""
_SLOWER: Final = (
    "otel_hwmetrics takes %.3g %% of a CPU, more than the %s. %s every %.3g s from now on, and less often where that is not "
    "enough; it comes back to every %.3g s once that fits. A greater cpu_budget (0 for no limit) or a longer sample_interval "
    "keeps it steady."
)
_EXHAUSTED: Final = "otel_hwmetrics takes %.3g %% of a CPU, more than the %s, and looks as seldom as it may (%s). Fewer sources cost less."
_BACK: Final = "otel_hwmetrics fits again into the %s: %s every %.3g s."


def allowed(share: float, gpus: int) -> float:
    """Of a CPU, that we may take with so many GPUs; 0 for any.

    Args:
        share: The option ``cpu_budget``.
        gpus: How many there are readings of.
    """
    return share * (1 + PER_GPU * gpus)


def in_words(share: float, gpus: int) -> str:
    """What we may take, for messages."""
    beside = f" with {gpus} GPU{'s' if gpus > 1 else ''}" if gpus else ""
    return f"{100 * allowed(share, gpus):.3g} % that cpu_budget={share:g} allows{beside}"


class Pace:
    """Keeps account of our CPU time, and slows what costs too much. Used on the sampler's thread, but where it says so.

    Args:
        runners: Of the sources.
        share: Of a CPU, that we may take, beside what GPUs add to it; 0 for any.
        interval: Seconds between two regular looks, as it was asked for; 0 for none.
    """

    def __init__(self, runners: Sequence[Runner], share: float, interval: float) -> None:
        self.sampler: threading.Thread | None = None
        """The thread whose time `spend` is told."""
        self.slowed = False
        """Whether a source has a slower cadence than samples."""
        self._runners = runners
        self._aside = [runner for runner in runners if isinstance(runner, ThreadRunner)]
        self._budget = Budget(share, interval) if share and interval else None
        self._share = share
        self._asked = self._interval = interval
        self._bystanders = Bystanders(lambda: {self.sampler, *(runner.life.thread for runner in self._aside)})
        self._looks = 0.0
        self._exports = 0.0  # what looks for exports took
        self._formatting = 0.0
        self._by_sources = 0.0  # on their threads, so far
        self._warned_at: dict[bool, float] = {}  # by whether it was exhausted
        self._apply()

    @property
    def interval(self) -> float:
        """Seconds between two regular looks, now; 0 for none. From any thread."""
        return self._interval

    @property
    def stale_after(self) -> float:
        """Seconds after which the last sample is no longer the present. From any thread."""
        return max(STALE_AFTER, 3 * self._interval)

    def spend(self, seconds: float, *, regular: bool) -> None:
        """Book CPU time of the sampler's thread, and what the sources' threads have taken meanwhile."""
        by_sources = 0.0
        for runner in self._aside:
            by_sources += runner.cpu_time
        seconds += by_sources - self._by_sources
        self._by_sources = by_sources
        if regular:
            self._looks += seconds
        else:
            self._exports += seconds

    def format(self, seconds: float) -> None:
        """Book CPU time of a reader's thread. From any thread: of two at once, one may be lost."""
        self._formatting += seconds

    def _other(self, at: float) -> float:
        return self._exports + self._formatting + self._bystanders.cpu_time(at)

    def cpu_time(self, at: float) -> float:
        """Seconds of CPU time that we have taken so far."""
        return self._looks + self._other(at)

    def step(self) -> None:
        """Slow down or come back after a regular look, if the budget says so."""
        budget, now = self._budget, time.monotonic()
        if budget is None:
            return
        budget.allow(allowed(self._share, self._gpus))
        if budget.charge(now, self._looks, self._other(now)):
            costs = {runner.source.name: runner.cpu_time for runner in self._runners}
            change = budget.decide(costs, self._looks + self._exports)
            if change is not None:
                self._apply()
                self._say(change, now)

    @property
    def _gpus(self) -> int:
        return sum(runner.gpus for runner in self._runners)

    def _apply(self) -> None:
        rests = {}
        if self._budget is not None:
            self._interval, rests = self._budget.interval, self._budget.rests
        self.slowed = bool(rests)
        for runner in self._runners:
            runner.stale_after = self.stale_after
            runner.every = rests.get(runner.source.name, 0.0)

    def _say(self, change: Change, now: float) -> None:
        allows = in_words(self._share, self._gpus)
        level = logging.INFO
        if (change.exhausted or change.left) and now - self._warned_at.get(change.exhausted, -math.inf) >= QUIET:
            self._warned_at[change.exhausted], level = now, logging.WARNING
        who = "It looks at the machine" if change.source == ALL else f"Most of it is for {change.source}, which is read"
        if change.exhausted:
            rests = [(runner.source.name, runner.every) for runner in self._runners if runner.every]
            cadences = ", ".join(f"{name} every {every:.3g} s" for name, every in [("all", self._interval), *rests])
            _logger.log(level, _EXHAUSTED, 100 * change.share, allows, cadences)
        elif change.left:
            _logger.log(level, _SLOWER, 100 * change.share, allows, who, change.every, self._asked)
        elif change.back:
            what = "the machine is looked at" if change.source == ALL else f"{change.source} is read"
            _logger.info(_BACK, allows, what, change.every)

    def readings(self, at: float) -> Iterator[Reading]:
        """How often the machine is looked at, and each source read. From any thread."""
        if not self._interval:
            return
        yield Reading(_INTERVAL, self._interval, at)
        for runner in self._runners:
            if runner.known:
                yield Reading(runner.series_interval, max(self._interval, runner.every), at)
