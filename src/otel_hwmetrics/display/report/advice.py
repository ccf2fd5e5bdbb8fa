# SPDX-License-Identifier: Apache-2.0
"""What to ask for next time: what was used, and a buffer.

- Memory and GPU memory: the peak and 15%, to a whole GiB (half a GiB below 4 GiB); rounded to the nearest where at least 10%
  are left of the buffer, else up.
- Runtime: the longest and 25%, up to a whole minute (five minutes from an hour on, an hour from a day on).
- CPUs: the peak up to the next CPU, without what measuring may be off.
- GPUs: as many as were in use.

Of several jobs of one name, as the same job in several runs or the ranks of one, the one that used most counts. Of those that
ran at the same time, as ranks do, that is what one of them needs; how many there were on a node, and the memory of all of them
together, is told beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from typing import Final

from otel_hwmetrics.display.report.endings import memory_peak, starved
from otel_hwmetrics.display.report.together import Together, together
from otel_hwmetrics.display.report.usage import error_of
from otel_hwmetrics.recording.nouns import DONE, Job

MEMORY_BUFFER: Final = 0.15
"""What is added to the peak of memory."""
LEAST_BUFFER: Final = 0.10
"""What is left of it, when it is rounded."""
RUNTIME_BUFFER: Final = 0.25
"""What is added to the longest runtime."""

_GIB: Final = 2**30
_FINE_BELOW: Final = 4 * _GIB
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_Run = tuple[list[Job], float]


@dataclass(frozen=True)
class Advice:
    """What a job should ask for. None where nothing is known.

    Attributes:
        name: Of the job.
        runs: How many jobs of this name that is from.
        cpus: CPUs of each job, a whole number.
        memory: Bytes of each job.
        runtime: Seconds.
        gpus: GPUs of each job, a whole number.
        gpu_memory: Bytes of each GPU.
        peak_cpus: What that is made of: the most that was used.
        peak_memory: Likewise, bytes.
        peak_runtime: Likewise, seconds.
        peak_gpu_memory: Likewise, bytes.
        unsure: Why one of these jobs may need more than was seen; empty for no reason.
        tasks: How many ran at the same time.
        nodes: On how many hosts.
        tasks_per_node: How many on one host at the most.
        node_memory: Bytes of all jobs on a host together.
        peak_node_memory: What that is made of.
    """

    name: str
    runs: int = 1
    cpus: int | None = None
    memory: int | None = None
    runtime: int | None = None
    gpus: int | None = None
    gpu_memory: int | None = None
    peak_cpus: float | None = None
    peak_memory: float | None = None
    peak_runtime: float | None = None
    peak_gpu_memory: float | None = None
    unsure: str = ""
    tasks: int = 1
    nodes: int = 1
    tasks_per_node: int = 1
    node_memory: int | None = None
    peak_node_memory: float | None = None

    @property
    def several(self) -> bool:
        """Whether several ran at the same time, as ranks do."""
        return self.tasks > 1

    @property
    def node_cpus(self) -> int | None:
        """CPUs of all jobs on a host."""
        return None if self.cpus is None else self.cpus * self.tasks_per_node

    @property
    def node_gpus(self) -> int | None:
        """GPUs of all jobs on a host."""
        return None if self.gpus is None else self.gpus * self.tasks_per_node

    @property
    def empty(self) -> bool:
        """Whether nothing is known."""
        return all(each is None for each in (self.cpus, self.memory, self.runtime, self.gpus, self.gpu_memory))


def advice(runs: Iterable[tuple[Iterable[Job], float]]) -> list[Advice]:
    """What to ask for, by the jobs' names, in the order in which they come.

    Args:
        runs: The jobs of each, with the seconds between two looks at them. Jobs that never began say nothing.
    """
    by_name: dict[str, list[_Run]] = {}
    for jobs, interval in runs:
        named: dict[str, list[Job]] = {}
        for job in jobs:
            if job.started_ns is not None:
                named.setdefault(job.name, []).append(job)
        for name, several in named.items():
            by_name.setdefault(name, []).append((several, interval))
    found = (_of(name, several) for name, several in by_name.items())
    return [each for each in found if not each.empty]


def _of(name: str, runs: list[_Run]) -> Advice:
    each_job = [job for jobs, _ in runs for job in jobs]
    cpus = [(_peak(job, "cpu"), error_of(job, interval)) for jobs, interval in runs for job in jobs]
    held = [(peak, peak / (1 + error)) for peak, error in cpus if peak is not None]
    memory = _most(_memory(job) for job in each_job)
    runtime = _most(job.runtime for job in each_job)
    most = reduce(Together.most, (together([(job, _memory(job)) for job in jobs]) for jobs, _ in runs))
    gpus = _most(_peak(job, "gpus") for job in each_job)
    gpu_memory = _most(_peak(job, "gpu_memory_most") for job in each_job)
    return Advice(
        name,
        len(each_job),
        cpus=max((max(1, math.ceil(least - 1e-9)) for _, least in held), default=None),
        memory=None if memory is None else memory_for(memory),
        runtime=None if not runtime else runtime_for(runtime),
        gpus=None if gpus is None else math.ceil(gpus),
        gpu_memory=memory_for(gpu_memory) if gpu_memory else None,
        peak_cpus=_most(peak for peak, _ in held),
        peak_memory=memory,
        peak_runtime=runtime,
        peak_gpu_memory=gpu_memory or None,
        unsure=_unsure(each_job),
        tasks=most.tasks,
        nodes=most.nodes,
        tasks_per_node=most.tasks_per_node,
        node_memory=None if most.node_memory is None else memory_for(most.node_memory),
        peak_node_memory=most.node_memory,
    )


def memory_for(peak: float) -> int:
    """Bytes to ask for, where so many were in use."""
    step = _GIB // 2 if peak * (1 + MEMORY_BUFFER) < _FINE_BELOW else _GIB
    nearest = max(1, math.floor(peak * (1 + MEMORY_BUFFER) / step + 0.5)) * step
    return nearest if nearest >= peak * (1 + LEAST_BUFFER) else nearest + step


def runtime_for(longest: float) -> int:
    """Seconds to ask for, where it took so many."""
    wanted = longest * (1 + RUNTIME_BUFFER)
    step = _MINUTE if wanted <= _HOUR else 5 * _MINUTE if wanted <= _DAY else _HOUR
    return math.ceil(wanted / step - 1e-9) * step


def _memory(job: Job) -> float | None:
    """The most memory of a job; where it was killed for want of it, at least all that it had."""
    peak = memory_peak(job)
    return max(peak or 0.0, float(job.request.memory or 0)) if starved(job) else peak


def _peak(job: Job, figure: str) -> float | None:
    stat = job.summary.figures.get(figure)
    return None if stat is None else stat.peak


def _most(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _unsure(jobs: list[Job]) -> str:
    if any(starved(job) for job in jobs):
        return "killed for want of memory: it may need yet more"
    if any(job.exit_code is None for job in jobs):
        return "its end was not seen: it may need more"
    if any(job.state != DONE or job.exit_code for job in jobs):
        return "it failed: had it gone on, it might have used more"
    return ""
