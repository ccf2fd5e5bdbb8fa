# SPDX-License-Identifier: Apache-2.0
"""The job that is this process and its whole tree, as each look at the machine sees it."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from otel_hwmetrics import redaction
from otel_hwmetrics.catalog import gpu, gpu_activity, process, tree
from otel_hwmetrics.folders import host
from otel_hwmetrics.model import Reading, Snapshot
from otel_hwmetrics.ranks import RANK, identity
from otel_hwmetrics.recording.nouns import DONE, FAILED, Job, JobSample, Request, Totals
from otel_hwmetrics.sinks.recorder_gpus import GpuUse
from otel_hwmetrics.sinks.recorder_jobs import JobLook

_LONGEST: Final = 2000  # characters of a command


def command_line(argv: Sequence[str]) -> str:
    """A command as a shell takes it, without its secrets; of a long one the beginning."""
    text = redaction.text(shlex.join(str(word) for word in redaction.data(list(argv))))
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def script_name(argv: Sequence[str]) -> str:
    """What a run is called that nobody has named: as its script is, else its module or the interpreter."""
    path = argv[0] if argv and argv[0] not in ("", "-c", "-m", "-") else sys.executable or "python"
    name = os.path.basename(path)
    if name in ("__main__.py", "__init__.py"):
        name = os.path.basename(os.path.dirname(path)) or name
    return redaction.text(name)[:128] or "python"


class OwnJob:
    """This process and its descendants as one job, which is watched from within. See `JobWatch`.

    Args:
        name: What people call it.
        request: What was asked for.
        tags: Words of the user's.
    """

    def __init__(self, name: str, request: Request, tags: Mapping[str, str] | None = None) -> None:
        argv = getattr(sys, "orig_argv", None) or [sys.executable or "python", *getattr(sys, "argv", [])]
        rank = identity().get(RANK)
        self._job = Job(
            id=1,
            name=name,
            command=command_line(argv),
            request=request,
            tags=dict(tags or {}),
            host=host(),
            rank=rank if isinstance(rank, int) else None,
        )
        self._gpus = GpuUse()
        self._spent: tuple[float, float] | None = None  # CPU seconds, and when they were read
        self._cpu: float | None = None
        self._totals = Totals()

    def looked(self, snapshot: Snapshot) -> Iterable[JobLook]:
        """What it used since the look before. Called by the sampler, on its thread."""
        at_ns = snapshot.time_unix_nano
        if self._job.started_ns is None:
            self._job = replace(self._job, started_ns=at_ns - round(_uptime(snapshot) * 1e9))
        self._count_cpu(snapshot)
        memory, told = _memory(snapshot)
        figures = self._gpus.look(snapshot, memory, told=told)
        sample = JobSample(
            at_ns,
            cpu=self._cpu,
            memory=_sum(snapshot.of(tree.MEMORY_USAGE) or snapshot.of(process.MEMORY_USAGE)),
            processes=_sum(snapshot.of(tree.PROCESS_COUNT)),
            **figures,
        )
        self._totals = Totals(
            cpu_seconds=None if self._spent is None else self._spent[0],
            energy=self._gpus.energy,
            gpu_idle_seconds=self._gpus.idle_seconds,
            gpu_seconds=self._gpus.seconds,
            max_rss=_max_rss(),
        )
        yield self._job, sample, self._totals

    def ended(self, time_unix_nano: int, exit_code: int | None) -> Iterable[JobLook]:
        """That it is over: done, unless it is known to have failed."""
        job = self._job
        if job.started_ns is None:
            job = replace(job, started_ns=time_unix_nano)
        job = replace(
            job,
            state=FAILED if exit_code else DONE,
            ended_ns=max(time_unix_nano, job.started_ns or 0),
            exit_code=exit_code,
        )
        spent = [each for each in (self._totals.cpu_seconds, _cpu_seconds()) if each is not None]
        totals = self._totals._replace(cpu_seconds=max(spent, default=None), max_rss=_max_rss())
        yield job, JobSample(time_unix_nano), totals

    def _count_cpu(self, snapshot: Snapshot) -> None:
        """How many CPUs were busy with it since its CPU time was last read; at the first look, since it began."""
        readings = snapshot.of(tree.CPU_TIME) or snapshot.of(process.CPU_TIME)
        if not readings:
            self._spent = self._cpu = None
            return
        spent, at = sum(reading.value for reading in readings), readings[0].at
        before, began = self._spent or (0.0, at - _uptime(snapshot))
        if at > began:
            self._cpu = max(0.0, spent - before) / (at - began)
        self._spent = spent, at


def _memory(snapshot: Snapshot) -> tuple[dict[str, float], bool]:
    """Of each GPU of the job the memory that is the job's, and whether the driver tells which are; all used where not."""
    ours = snapshot.of(gpu_activity.PROCESS_MEMORY)
    if ours:
        return {str(each.attributes[gpu.HW_ID]): each.value for each in ours if each.value > 0}, True
    used = snapshot.of(gpu.MEMORY_USAGE)
    may = [each for each in used if gpu.CUDA_ORDINAL in each.attributes] or used
    return {str(each.attributes[gpu.HW_ID]): each.value for each in may}, False


def _sum(readings: Iterable[Reading]) -> float | None:
    values = [reading.value for reading in readings]
    return float(sum(values)) if values else None


def _uptime(snapshot: Snapshot) -> float:
    """Seconds since this process began; 0 where that is not known."""
    return next((reading.value for reading in snapshot.of(process.UPTIME)), 0.0)


def _max_rss() -> int | None:
    """Bytes: the most memory that this process has had, or one of those that it has waited for. getrusage(2)."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def _cpu_seconds() -> float:
    """Of this process, and of those that it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
