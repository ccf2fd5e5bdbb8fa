# SPDX-License-Identifier: Apache-2.0
"""Which job is next: those that wait for nobody any more, in their order, as many at once as may run."""

from __future__ import annotations

from collections.abc import Sequence

from otel_hwmetrics.jobs.spec import JobSpec


class Schedule:
    """The jobs of a run by their numbers, from 1 on.

    Args:
        jobs: All of them; whom they wait for is among them, and nobody waits for itself.
        at_once: How many may run.
    """

    def __init__(self, jobs: Sequence[JobSpec], at_once: int) -> None:
        self._blockers = [set(job.blocked_by) for job in jobs]
        self._names = [job.name for job in jobs]
        self._waiting = list(range(len(jobs)))
        self._running: set[int] = set()
        self._at_once = at_once
        self._done: set[str] = set()
        self._lost: set[str] = set()
        self._over = False

    @property
    def is_over(self) -> bool:
        """Whether nothing runs and nothing waits."""
        return not self._waiting and not self._running

    def ready(self) -> int | None:
        """The number of a job that is to be begun now, which counts as running from then on; None for none."""
        if len(self._running) >= self._at_once or self._over:
            return None
        for place in self._waiting:
            if self._done >= self._blockers[place]:
                self._waiting.remove(place)
                self._running.add(place)
                return place + 1
        return None

    def ended(self, number: int, *, failed: bool) -> list[int]:
        """A job has ended; gives the numbers of those that will not begin for it."""
        self._running.discard(number - 1)
        (self._lost if failed else self._done).add(self._names[number - 1])
        skipped: list[int] = []
        while lost := [place for place in self._waiting if self._blockers[place] & self._lost]:
            for place in lost:
                self._waiting.remove(place)
                self._lost.add(self._names[place])
                skipped.append(place + 1)
        return skipped

    def stop(self) -> list[int]:
        """Begin no more jobs; gives the numbers of those that waited."""
        self._over = True
        left, self._waiting = [place + 1 for place in self._waiting], []
        return left
