# SPDX-License-Identifier: Apache-2.0
"""What jobs used against what was asked for: the utilisation check.

Each comparison is of one resource of one job: its peak, and by which part that is above (or, negative, below) the request. What is
above by more than the tolerance is a violation.

CPU: two looks at the kernel's clock may each be off by one tick (10 ms, ``USER_HZ``), so a job that is held to its CPUs shows
up to 2% more at one look a second, and more at shorter ones, as of a job that was over sooner. So much of it is never a
violation. Of memory, what processes share is counted for each of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from otel_hwmetrics.display.report.endings import memory_peak, starved
from otel_hwmetrics.display.report.material import is_over
from otel_hwmetrics.display.words import change, duration, number, rounded, share, size
from otel_hwmetrics.recording.nouns import Job, Stat

MEMORY: Final = "Memory"
CPU: Final = "CPU"
RUNTIME: Final = "Runtime"
GPU_MEMORY: Final = "GPU memory"
GPUS: Final = "GPUs"

RESOURCES: Final = {MEMORY: "By", CPU: "{cpu}", RUNTIME: "s", GPU_MEMORY: "By", GPUS: "{gpu}"}
"""What is compared, in this order, with its unit."""

_TICKS: Final = 0.02
"""Seconds by which the CPU time between two looks may seem longer: a tick at its beginning and one at its end."""
_SHOWN: Final = 1e-3
"""The least that a difference shows as: +0.1%."""


@dataclass(frozen=True)
class Comparison:
    """One resource of one job.

    Attributes:
        job: The job.
        resource: A word of `RESOURCES`.
        specified: What was asked for, in its unit.
        peak: The most that was used, in its unit; None where it is not known.
        p95: What it was below for 95 % of the time; None where it is not known, and of what does not vary.
        tolerance: By which part it may be above.
    """

    job: Job
    resource: str
    specified: float
    peak: float | None
    p95: float | None = None
    tolerance: float = 0.0

    @property
    def over(self) -> float | None:
        """By which part the peak is above what was asked for; negative below; None where it is not known, or nothing was to be used."""
        return None if self.peak is None or self.specified <= 0 else self.peak / self.specified - 1

    @property
    def violated(self) -> bool:
        """Whether more was used than was asked for, by more than the tolerance and by so much that it shows.

        Of memory also where the job was killed for want of it: what it would have used is not known, and is more.
        """
        if self.peak is None:
            return False
        if self.killed:
            return True
        if self.over is None:
            return self.peak > 0
        return self.over > self.tolerance + 1e-12 and rounded(self.over, 3) >= _SHOWN

    @property
    def killed(self) -> bool:
        """Whether it is of memory, for want of which the job was killed."""
        return self.resource == MEMORY and starved(self.job)

    @property
    def by(self) -> str:
        """Who asked: ``argument``, ``slurm``; empty where it is not known."""
        return self.job.request.by.get(_FIELDS[self.resource], "")

    @property
    def texts(self) -> tuple[str, str, str, str]:
        """For people: what was asked for, the peak, the 95th percentile, by how much that is over."""
        specified = _shown(self.resource, self.specified)
        if self.resource == CPU:
            noun = "CPU" if self.specified == 1 else "CPUs"
            specified = f"{number(100 * self.specified, 1)}% ({number(self.specified)} {noun})"
        over = "over" if self.over is None and self.violated else change(self.over)
        return specified, _shown(self.resource, self.peak), _shown(self.resource, self.p95), over


_FIELDS: Final = {MEMORY: "memory", CPU: "cpus", RUNTIME: "runtime", GPU_MEMORY: "gpu_memory", GPUS: "gpus"}


def comparisons(jobs: Iterable[Job], interval: float = 1.0, tolerance: float | None = None) -> list[Comparison]:
    """Everything that jobs asked for against what they used; those that did not begin are left out.

    Args:
        jobs: In the order in which they are told.
        interval: Seconds between two looks at them.
        tolerance: By which part a peak may be above what was asked for. By default none; of CPU never less than what its
            measuring may be off.
    """
    return [each for job in jobs if job.started_ns is not None for each in _of(job, interval, tolerance or 0.0)]


def cpu_error(interval: float) -> float:
    """The part by which a peak of CPU may seem higher than it is, at so many seconds between two looks; 2% at least."""
    return max(_TICKS, _TICKS / interval) if interval > 0 else _TICKS


def error_of(job: Job, interval: float) -> float:
    """Likewise of a job, which may have been over before the second look at it."""
    return cpu_error(min(interval, job.runtime or interval))


def violations(found: Iterable[Comparison]) -> list[Comparison]:
    """Those in which more was used than was asked for."""
    return [each for each in found if each.violated]


def without_request(jobs: Iterable[Job]) -> list[Job]:
    """Jobs that began, of which nobody said what they need."""
    return [job for job in jobs if job.started_ns is not None and not any(True for _ in _asked(job))]


def remarks(jobs: Iterable[Job], run: str = "") -> list[str]:
    """What else is to be said of jobs: killed for memory, not over yet, lost. A text each.

    Args:
        jobs: Of a run.
        run: Its id, where several are told of.
    """
    where = f" of run {run}" if run else ""
    return [
        text
        for job in jobs
        if job.started_ns is not None
        for text in _remarks(job, f"Job {job.id}{where} ({job.name})")
    ]


def _remarks(job: Job, name: str) -> Iterator[str]:
    if starved(job):
        used = (memory_peak(job) or 0.0) / (job.request.memory or 1)
        yield (
            f"{name} was killed (SIGKILL) with {100 * used:.1f}% of its memory in use: most likely for want of memory. "
            "It needs more than its peak."
        )
    elif job.exit_code not in (0, None):
        yield f"{name} failed: had it gone on, it might have used more."
    if not is_over(job):
        state = "still runs" if job.state == "running" else "was lost"
        yield f"{name} {state}: its peaks and its runtime are those until it was last heard of."


def _asked(job: Job) -> Iterator[tuple[str, float]]:
    for resource, field in _FIELDS.items():
        value = getattr(job.request, field)
        if value is not None:
            yield resource, float(value)


def _of(job: Job, interval: float, tolerance: float) -> Iterator[Comparison]:
    for resource, specified in _asked(job):
        allowed = max(tolerance, error_of(job, interval)) if resource == CPU else tolerance
        peak, p95 = _used(job, resource)
        yield Comparison(job, resource, specified, peak, p95, allowed)


_FIGURES: Final = {MEMORY: "memory", CPU: "cpu", GPU_MEMORY: "gpu_memory_most", GPUS: "gpus"}


def _used(job: Job, resource: str) -> tuple[float | None, float | None]:
    if resource == RUNTIME:
        return job.runtime, None
    stat: Stat | None = job.summary.figures.get(_FIGURES[resource])
    if resource == MEMORY:
        return memory_peak(job), stat and stat.p95
    if stat is None:
        return None, None
    return stat.peak, None if resource == GPUS else stat.p95


def _shown(resource: str, value: float | None) -> str:
    if resource == CPU:
        return share(value)
    return {"By": size, "s": duration, "{gpu}": number}[RESOURCES[resource]](value)
