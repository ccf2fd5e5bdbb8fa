# SPDX-License-Identifier: Apache-2.0
"""Watches jobs from outside, all their processes, however many they are, at the looks of one thread."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from otel_hwmetrics import redaction
from otel_hwmetrics._guard import guard
from otel_hwmetrics.jobs.children import Child, Ending
from otel_hwmetrics.jobs.gpus import Claim, GpuLists, Visible, gpus_of
from otel_hwmetrics.model import Snapshot
from otel_hwmetrics.recording.nouns import DONE, FAILED, RUNNING, SKIPPED, Job, JobSample, Totals
from otel_hwmetrics.sinks.recorder_gpus import GpuUse
from otel_hwmetrics.sinks.recorder_jobs import JobLook
from otel_hwmetrics.sources.tree.census import DEFUNCT
from otel_hwmetrics.sources.tree.forest import Forest, Tree

SHORTEST: Final = 0.2
"""Seconds over which CPU time says how many CPUs were busy: the kernel counts it by the hundredth of a second."""
YOUNG: Final = 1.0
"""Seconds for which a job is looked at between two looks at the machine."""
PATIENCE: Final = 1.0
"""Seconds that the launcher's thread waits for a look that is under way."""
PROC: Final = "/proc"

_logger = redaction.logger()


class _Seat:
    """A job, and how far it was watched. Under the watch's lock."""

    def __init__(self, job: Job, visible: Visible) -> None:
        self.job = job
        self.visible = visible
        self.tree: Tree | None = None
        self.began = 0.0  # by the monotonic clock
        self.counted = (0.0, 0.0)  # CPU seconds as of when they last made a figure
        self.first: JobSample | None = None  # of a look that came too early to be told
        self.totals = Totals()
        self.gpus = GpuUse()


class Watch:
    """The jobs of a run, for who records them: see `otel_hwmetrics.sinks.recorder_jobs.JobWatch`.

    `begin`, `look`, `end` and `skip` are called on the launcher's thread, `looked` on the sampler's.

    Args:
        jobs: All of them, as they are before any has begun, each with the GPUs that it may use.
        lists: Who has memory on which GPU.
    """

    def __init__(self, jobs: Sequence[tuple[Job, Visible]], lists: GpuLists) -> None:
        self._lists = lists
        self._lock = threading.Lock()
        self._seats = {job.id: _Seat(job, visible) for job, visible in jobs}
        self._news: list[JobLook] = []
        self._forest: Forest | None = None
        now = time.time_ns()
        self._news += [(job, JobSample(now), Totals()) for job, _ in jobs]

    def begin(self, number: int, child: Child) -> None:
        """A job has begun."""
        with self._held() as free:
            seat = self._seats[number]
            seat.job = replace(seat.job, state=RUNNING, started_ns=child.started_ns)
            seat.began = time.monotonic() - min(YOUNG, max(0.0, (time.time_ns() - child.started_ns) / 1e9))
            seat.counted = (0.0, seat.began)
            with guard("watching a job's processes"):
                seat.tree = self._plant(child.pid) if free else None
            self._news.append((seat.job, JobSample(child.started_ns), seat.totals))

    def _plant(self, pid: int) -> Tree | None:
        if self._forest is None:
            if os.readlink(f"{PROC}/self") != str(os.getpid()):
                _logger.warning("%s is of another numbering of processes than ours: jobs are not watched", PROC)
                return None
            self._forest = Forest(PROC)
        try:
            return self._forest.plant(pid)
        except (OSError, ValueError) as error:
            _logger.warning("process %d cannot be watched: %s", pid, error)
            return None

    def look(self) -> None:
        """Look at young jobs between two looks at the machine: they may end before the next."""
        with self._held() as free, guard("looking at young jobs"):
            now = time.monotonic()
            if free:
                self._news += self._look(
                    time.time_ns(), None, [s for s in self._seats.values() if now - s.began < YOUNG]
                )

    def looked(self, snapshot: Snapshot) -> Iterable[JobLook]:
        """See `JobWatch`."""
        with self._lock:
            news, self._news = self._news, []
            return [*news, *self._look(snapshot.time_unix_nano, snapshot, [*self._seats.values()])]

    @contextmanager
    def _held(self) -> Iterator[bool]:
        """The lock, on the launcher's thread; whether it was to be had, and nobody else is at the processes.

        A look that hangs does not keep the launcher from passing on signals and exit codes.
        """
        held = self._lock.acquire(timeout=PATIENCE)
        try:
            yield held
        finally:
            if held:
                self._lock.release()

    def _look(self, at_ns: int, snapshot: Snapshot | None, wanted: Sequence[_Seat]) -> list[JobLook]:
        seats = [seat for seat in self._seats.values() if seat.tree is not None]
        if self._forest is None or not seats:
            return []
        self._forest.look()
        if snapshot is not None:
            self._count_gpus(snapshot, seats)
        looks = [self._look_at(seat, at_ns, snapshot) for seat in seats if seat in wanted]
        return [look for look in looks if look is not None]

    def _look_at(self, seat: _Seat, at_ns: int, snapshot: Snapshot | None) -> JobLook | None:
        census = seat.tree.census if seat.tree is not None else None
        if census is None or not census.states:  # somebody could not be read: this look says nothing
            return None
        since = seat.counted[1]
        cpu = self._cpu(seat, census.at, census.user, census.system)
        alive = sum(census.states.values()) - census.states[DEFUNCT]
        sample = JobSample(
            at_ns,
            cpu=cpu,
            memory=None if census.resident is None or not alive else float(census.resident),
            processes=float(alive) if alive else None,
            **(seat.gpus.figures if snapshot is not None else {}),
        )
        if snapshot is None and census.at - since < SHORTEST:
            # A look speaks of the time since the one before: without how many CPUs were busy, that would be forgotten.
            seat.first = seat.first or (sample if alive else None)
            return None
        return seat.job, sample, seat.totals

    def _cpu(self, seat: _Seat, at: float, user: float | None, system: float | None) -> float | None:
        """How many CPUs were busy since that was last said; None over too short a time."""
        if user is None or system is None:
            return None
        seat.totals = seat.totals._replace(cpu_seconds=user + system)
        spent, since = seat.counted
        if at - since < SHORTEST:
            return None
        seat.counted = (user + system, at)
        return max(0.0, user + system - spent) / (at - since)

    def _count_gpus(self, snapshot: Snapshot, seats: Sequence[_Seat]) -> None:
        for seat in seats:
            pids = seat.tree.members.keys() if seat.tree is not None else ()
            claim = Claim(pids, seat.began, seat.visible, len(seats) == 1)
            found = gpus_of(self._lists, snapshot, claim)
            memory, told = ({}, False) if found is None else found
            seat.gpus.look(snapshot, memory, told=told)
            seat.totals = seat.totals._replace(
                energy=seat.gpus.energy, gpu_idle_seconds=seat.gpus.idle_seconds, gpu_seconds=seat.gpus.seconds
            )

    def last_look(self, numbers: Iterable[int]) -> None:
        """Look at jobs that have ended, while the kernel still tells what they used."""
        with self._held() as free, guard("looking at a job for the last time"):
            if free:
                self._news += self._look(time.time_ns(), None, [self._seats[number] for number in numbers])

    def end(self, number: int, ending: Ending) -> None:
        """A job has ended, and was waited for."""
        with self._held() as free:
            seat = self._seats[number]
            if free and seat.tree is not None and self._forest is not None:
                with guard("watching a job's processes no longer"):
                    self._forest.uproot(seat.tree)
            seat.tree = None
            state = FAILED if ending.code else DONE
            seat.job = replace(seat.job, state=state, ended_ns=ending.at_ns, exit_code=ending.code)
            # The kernel's sum is exact, but for those whom nobody of the job has waited for; the looks have these, too.
            spent = max(ending.cpu_seconds, seat.totals.cpu_seconds or 0.0)
            seat.totals = seat.totals._replace(cpu_seconds=spent, max_rss=ending.max_rss)
            lasted = (ending.at_ns - (seat.job.started_ns or ending.at_ns)) / 1e9
            sample = JobSample(ending.at_ns)
            if seat.counted == (0.0, seat.began) and lasted > 0:  # too short for any look to be told
                sample = (seat.first or sample)._replace(at_ns=ending.at_ns, cpu=spent / lasted)
            self._news.append((seat.job, sample, seat.totals))

    def skip(self, number: int, *, failed: bool = False, code: int | None = None) -> None:
        """A job will not begin: what it waits for has failed, or it cannot be started (``failed``)."""
        with self._held():
            seat = self._seats[number]
            now = time.time_ns()
            seat.job = replace(seat.job, state=FAILED if failed else SKIPPED, exit_code=code)
            self._news.append((seat.job, JobSample(now), Totals()))

    def ended(self, time_unix_nano: int, exit_code: int | None) -> Iterable[JobLook]:  # noqa: ARG002 - of `JobWatch`
        """See `JobWatch`: what was not told yet. How jobs end is told when they do."""
        with self._held():
            news, self._news = self._news, []
            return news

    def close(self) -> None:
        """Let go of the kernel's files."""
        with self._held() as free:
            forest, self._forest = self._forest, None
            for seat in self._seats.values():
                seat.tree = None
            if free and forest is not None:
                forest.close()
