# SPDX-License-Identifier: Apache-2.0
"""Which GPUs are meant to work: those that the job uses, while it trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from otel_hwmetrics.alerts.conditions import Condition, Finding, Readings, Totals, Watcher
from otel_hwmetrics.alerts.gpus import GENERAL
from otel_hwmetrics.alerts.rule import show_seconds
from otel_hwmetrics.alerts.subjects import Memory, Subject
from otel_hwmetrics.catalog import gpu, gpu_activity, training
from otel_hwmetrics.model import Snapshot, Unit

WORKED: Final = 0.05
"""Share of the time from which a GPU has done some work: what loads data onto it, or looks at it, stays below that."""


@dataclass(frozen=True)
class AtWork(Condition):
    """What a condition finds of a GPU, once that is meant to work.

    That is once it has worked; one on which the job's processes only have memory is still being prepared, but not for ever.
    Nothing is found of a GPU that nobody uses, nor any more of one that the job has given up. Nor, for a while, between two
    loops of a job that tells its loops: what it does there, loading, validating on the CPU, is no step's.

    Attributes:
        of: The condition.
        patience: Seconds for which a GPU may be prepared, and that may lie between two loops.
    """

    of: Condition
    patience: float = 900.0

    @property
    def unit(self) -> Unit:
        """The condition's."""
        return self.of.unit

    @property
    def evidence(self) -> tuple[str, ...]:
        """The condition's."""
        return self.of.evidence

    def watcher(self, totals: Totals) -> Watcher:
        """Somebody who looks, and remembers."""
        return _AtWork(self.of.watcher(totals), self.patience)

    def __str__(self) -> str:
        return (
            f"{self.of}, once the GPU was busy or the job has had memory on it for {show_seconds(self.patience)}, and not in the "
            f"first {show_seconds(self.patience)} after a loop"
        )


class _Gpu:
    """What is known of one GPU's use."""

    __slots__ = ("held_since", "told", "worked")

    def __init__(self) -> None:
        self.worked = False
        self.held_since: float | None = None  # since when the job's processes have memory on it
        self.told = False

    def holds(self, now: float, memory: float) -> None:
        """The job's processes have so much memory on it."""
        if memory > 0:
            self.held_since = now if self.held_since is None else self.held_since
        elif self.held_since is not None:  # given up; where the job's processes are not to be seen it is always 0
            self.held_since, self.worked = None, False


class _AtWork:
    def __init__(self, of: Watcher, patience: float) -> None:
        self._of = of
        self._patience = patience
        self._gpus = Memory(_Gpu)
        self._between_since: float | None = None
        self._utilization = Readings(gpu.UTILIZATION, GENERAL)
        self._memory = Readings(gpu_activity.PROCESS_MEMORY)

    def look(self, snapshot: Snapshot) -> dict[Subject, Finding]:
        now = snapshot.window.end
        for subject, reading in self._memory.of(snapshot):
            each = self._gpus.of(subject)
            if each is not None:
                each.holds(now, reading.value)
        for subject, reading in self._utilization.of(snapshot):
            each = self._gpus.of(subject)
            if each is not None and reading.value >= WORKED:
                each.worked = True
        resting = self._rests(snapshot)
        found: dict[Subject, Finding] = {}
        for subject, finding in self._of.look(snapshot).items():
            each = self._gpus.of(subject)
            if each is None:
                continue
            if self._is_meant_to_work(each, now):
                each.told = True
                found[subject] = Finding(None) if resting else finding
            elif each.told:
                found[subject] = Finding(None)
        return found

    def _is_meant_to_work(self, each: _Gpu, now: float) -> bool:
        return each.worked or (each.held_since is not None and now - each.held_since >= self._patience)

    def _rests(self, snapshot: Snapshot) -> bool:
        """Whether the job is between two loops, and not for long yet."""
        if not snapshot.of(training.STEPS) or snapshot.of(training.STEP_AGE):
            self._between_since = None
            return False
        if self._between_since is None:
            self._between_since = snapshot.window.end
        return snapshot.window.end - self._between_since < self._patience
