# SPDX-License-Identifier: Apache-2.0
"""What a report is made of, read from a run at once. What no report needs is not read: neither looks nor series."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from otel_hwmetrics.recording import Run
from otel_hwmetrics.recording.nouns import DONE, FAILED, LOST, PARENT, RUNNING, About, Job, RecordedAlert, RecordedSpan
from otel_hwmetrics.recording.run import SILENT

ENDED = "ended"
STATES = (ENDED, RUNNING, LOST)
"""How it stands with a run: it was ended in good order, it still runs, or its recorders were killed."""


@dataclass(frozen=True)
class Material:
    """A run, as far as reports tell of it.

    Attributes:
        id: What all its files have in common.
        name: What people call it.
        abouts: Who wrote it, one a file.
        jobs: By number.
        spans: Training spans, by their beginning.
        alerts: By their time.
        alerts_of: Those of each job, by its number; a job is not there where it is not known which alerts are its own.
        paths: Its files.
        started_ns: When the first of its jobs or of its writers began.
        ended_ns: When it was ended in good order; None where it was not.
        heard_ns: When the last was written.
        read_ns: When that was read; decides whether a run whose next job has not begun yet was heard of lately.
        tags: Words of the user's.
    """

    id: str
    name: str
    abouts: tuple[About, ...] = ()
    jobs: tuple[Job, ...] = ()
    spans: tuple[RecordedSpan, ...] = ()
    alerts: tuple[RecordedAlert, ...] = ()
    alerts_of: Mapping[int, tuple[RecordedAlert, ...]] = field(default_factory=dict)
    paths: tuple[str, ...] = ()
    started_ns: int = 0
    ended_ns: int | None = None
    heard_ns: int = 0
    read_ns: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def state(self) -> str:
        """A word of `STATES`. One that was not ended is lost where a job of it is, or where nothing was heard for long."""
        if self.ended_ns is not None:
            return ENDED
        states = {job.state for job in self.jobs}
        late = self.read_ns - self.heard_ns > (SILENT + 3 * self.interval) * 1e9
        return RUNNING if RUNNING in states or (LOST not in states and not late) else LOST

    @property
    def seconds(self) -> float:
        """From its beginning to its end, or to when it was last heard of."""
        return max(0.0, ((self.ended_ns or self.heard_ns) - self.started_ns) / 1e9)

    @property
    def hosts(self) -> tuple[str, ...]:
        """Where its writers and its jobs were, each host once."""
        named = [*(about.host for about in self.abouts), *(job.host for job in self.jobs)]
        return tuple(dict.fromkeys(host for host in named if host))

    @property
    def interval(self) -> float:
        """Seconds between two looks at its jobs."""
        return self.abouts[0].interval if self.abouts else 1.0


def gathered(run: Run) -> Material:
    """Read what a report needs.

    Raises:
        RecordingError: A file cannot be read.
    """
    jobs = run.jobs()
    return Material(
        id=run.id,
        name=run.name,
        abouts=run.abouts,
        jobs=tuple(jobs),
        spans=tuple(run.spans()),
        alerts=tuple(run.alerts()),
        alerts_of=_alerts_of(run, jobs),
        paths=tuple(recording.path for recording in run.recordings),
        started_ns=min([run.started_ns, *(job.started_ns for job in jobs if job.started_ns is not None)]),
        ended_ns=run.ended_ns,
        heard_ns=run.heard_ns,
        read_ns=time.time_ns(),
        tags=run.tags,
    )


def _alerts_of(run: Run, jobs: Sequence[Job]) -> dict[int, tuple[RecordedAlert, ...]]:
    """Of one job, all; of processes that recorded themselves, their own; of a launcher's jobs, by where and when.

    Of a launcher's jobs that ran at the same time on one host it is not known whose an alert is.
    """
    if len(jobs) == 1:
        return {jobs[0].id: tuple(run.alerts())}
    if not any(about.role == PARENT for about in run.abouts):
        counts = [(recording, len(recording.jobs())) for recording in run.recordings]
        if len(jobs) == len(counts) and all(count == 1 for _, count in counts):
            return {
                job.id: tuple(replace(each, host=job.host, rank=job.rank) for each in recording.alerts())
                for job, (recording, _) in zip(jobs, counts, strict=True)
            }
    alone = {job.id for job in jobs if not any(_overlap(job, other) for other in jobs if other.id != job.id)}
    told = run.alerts()
    return {job.id: _within(job, told) for job in jobs if job.id in alone}


def _within(job: Job, told: Iterable[RecordedAlert]) -> tuple[RecordedAlert, ...]:
    end = job.ended_ns or job.heard_ns
    if job.started_ns is None or end is None:
        return ()
    return tuple(alert for alert in told if alert.host == job.host and job.started_ns <= alert.at_ns <= end)


def _overlap(job: Job, other: Job) -> bool:
    """Whether two jobs ran at the same time on one host."""
    spans = [(each.started_ns, each.ended_ns or each.heard_ns) for each in (job, other)]
    (start, end), (others_start, others_end) = spans
    if start is None or others_start is None or job.host != other.host:
        return False
    return (others_end is None or start <= others_end) and (end is None or others_start <= end)


def ran(job: Job) -> bool:
    """Whether it has begun."""
    return job.started_ns is not None


def is_over(job: Job) -> bool:
    """Whether its end was seen."""
    return job.state in (DONE, FAILED)
