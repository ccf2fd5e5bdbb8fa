# SPDX-License-Identifier: Apache-2.0
"""What we cost, and how often the sampler looks at the machine therefore."""

from __future__ import annotations

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
_SLOWER: Final = (
    "otel_hwmetrics takes %.2g %% of a CPU, more than its cpu_budget of %.2g %%. %s every %.3g s from now on, and less often "
    "where that is not enough; it comes back to every %.3g s once that fits. A greater cpu_budget (0 for no limit) or a "
    "longer sample_interval keeps it steady."
)
_EXHAUSTED: Final = (
    "otel_hwmetrics takes %.2g %% of a CPU, more than its cpu_budget of %.2g %%, and looks as seldom as it may (%s). Fewer "
    "sources cost less."
)
_BACK: Final = "otel_hwmetrics fits into its cpu_budget of %.2g %% again: %s every %.3g s."


class Pace:
    """Keeps account of our CPU time, and slows what costs too much. Used on the sampler's thread, but where it says so.

    Args:
        runners: Of the sources.
        share: Of a CPU, that we may take; 0 for any.
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
        if budget is not None and budget.charge(now, self._looks, self._other(now)):
            change = budget.decide({runner.source.name: runner.cpu_time for runner in self._runners})
            if change is not None:
                self._apply()
                self._say(change)

    def _apply(self) -> None:
        rests = {}
        if self._budget is not None:
            self._interval, rests = self._budget.interval, self._budget.rests
        self.slowed = bool(rests)
        for runner in self._runners:
            runner.stale_after = self.stale_after
            runner.every = rests.get(runner.source.name, 0.0)

    def _say(self, change: Change) -> None:
        who = "It looks at the machine" if change.source == ALL else f"Most of it is for {change.source}, which is read"
        if change.exhausted:
            rests = [(runner.source.name, runner.every) for runner in self._runners if runner.every]
            cadences = ", ".join(f"{name} every {every:.3g} s" for name, every in [("all", self._interval), *rests])
            _logger.warning(_EXHAUSTED, 100 * change.share, 100 * self._share, cadences)
        elif change.left:
            _logger.warning(_SLOWER, 100 * change.share, 100 * self._share, who, change.every, self._asked)
        elif change.back:
            what = "the machine is looked at" if change.source == ALL else f"{change.source} is read"
            _logger.info(_BACK, 100 * self._share, what, change.every)

    def readings(self, at: float) -> Iterator[Reading]:
        """How often the machine is looked at, and each source read. From any thread."""
        if not self._interval:
            return
        yield Reading(_INTERVAL, self._interval, at)
        for runner in self._runners:
            if runner.known:
                yield Reading(runner.series_interval, max(self._interval, runner.every), at)
