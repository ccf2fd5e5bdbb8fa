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
from otel_hwmetrics.model import Metric, Reading, Snapshot
from otel_hwmetrics.ranks import LOCAL_RANK, RANK, identity
from otel_hwmetrics.recording.nouns import DONE, FAILED, Job, JobSample, Request, Totals
from otel_hwmetrics.sinks.recorder_gpus import GpuUse
from otel_hwmetrics.sinks.recorder_jobs import JobLook

YOUNG: Final = 60.0
"""Seconds: a process that is older when it is first looked at did other things before, as a notebook does."""
_LONGEST: Final = 2000  # characters of a command
_OF_EVERYBODY: Final = "device"
_VARIABLES: Final = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")

_recorded_by: int | None = None
"""The last process that began a recording: of this one it is the second, unless that was the parent that it was forked by."""


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

    It began with the process. Where that was recorded before, or is older than `YOUNG`, it begins with the first look: what
    came before belongs to something else.

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
        global _recorded_by  # noqa: PLW0603 - a process has one past
        self._later = _recorded_by == os.getpid()
        _recorded_by = os.getpid()
        self._gpus = GpuUse()
        self._gpu_memory: dict[str, float] = {}  # that is ours, of each GPU as it was last told
        self._trees: set[Metric] = set()  # what was told of the whole tree
        self._spent: tuple[float, float] | None = None  # CPU seconds, and when they were read
        self._spent_before = 0.0  # of these what is not the job's
        self._own_before, self._rss_before = _own_seconds(), _max_rss() or 0  # by the kernel, at the beginning
        self._cpu: float | None = None
        self._totals = Totals()

    def looked(self, snapshot: Snapshot) -> Iterable[JobLook]:
        """What it used since the look before. Called by the sampler, on its thread."""
        at_ns = snapshot.time_unix_nano
        if self._job.started_ns is None:
            self._begin(snapshot)
        self._count_cpu(snapshot)
        memory, told = self._memory_of_gpus(snapshot)
        figures = self._gpus.look(snapshot, memory, told=told)
        sample = JobSample(
            at_ns,
            cpu=self._cpu,
            memory=_sum(self._read(snapshot, tree.MEMORY_USAGE, process.MEMORY_USAGE)),
            processes=_sum(snapshot.of(tree.PROCESS_COUNT)),
            **figures,
        )
        self._totals = Totals(
            cpu_seconds=None if self._spent is None else max(0.0, self._spent[0] - self._spent_before),
            energy=self._gpus.energy,
            gpu_idle_seconds=self._gpus.idle_seconds,
            gpu_seconds=self._gpus.seconds,
            max_rss=self._max_rss(),
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
        kernels = _own_seconds() - self._own_before if self._later else _cpu_seconds()
        totals = self._totals._replace(
            cpu_seconds=max(self._totals.cpu_seconds or 0.0, kernels), max_rss=self._max_rss()
        )
        yield job, JobSample(time_unix_nano), totals

    def _begin(self, snapshot: Snapshot) -> None:
        """It begins with its process, or now."""
        age = _uptime(snapshot)
        self._later = self._later or age > YOUNG
        begun = 0.0 if self._later else age
        self._job = replace(self._job, started_ns=snapshot.time_unix_nano - round(begun * 1e9))

    def _read(self, snapshot: Snapshot, of_tree: Metric, of_process: Metric) -> Sequence[Reading]:
        """What is told of the tree, else of this process alone; but not now of the one and then of the other."""
        if found := snapshot.of(of_tree):
            self._trees.add(of_tree)
            return found
        return () if of_tree in self._trees else snapshot.of(of_process)

    def _count_cpu(self, snapshot: Snapshot) -> None:
        """How many CPUs were busy with it since its CPU time was last read; at the first look, since it began."""
        of_tree = tree.CPU_TIME in self._trees
        readings = self._read(snapshot, tree.CPU_TIME, process.CPU_TIME)
        if not readings:
            self._cpu = None  # the next one is of all the time since
            return
        spent, at = sum(reading.value for reading in readings), readings[0].at
        if self._spent is None:
            self._spent = (spent, at) if self._later else (0.0, at - _uptime(snapshot))
            self._spent_before = self._spent[0]
        elif of_tree != (tree.CPU_TIME in self._trees):
            # So far it was of this process alone: what its children spent before is in the sum, and in no look's figure.
            if self._later:
                self._spent_before += spent - self._spent[0]
            self._spent, self._cpu = (spent, at), None
        before, began = self._spent
        if at > began:
            self._cpu = max(0.0, spent - before) / (at - began)
        self._spent = spent, at

    def _memory_of_gpus(self, snapshot: Snapshot) -> tuple[dict[str, float], bool]:
        """Of each GPU of the job the memory on it that is the job's, and whether the driver tells which are.

        Where it has never told, all that is used on those that the job may use; nothing where that may be another rank's.
        """
        ours = {
            str(each.attributes[gpu.HW_ID]): each.value
            for each in snapshot.of(gpu_activity.PROCESS_MEMORY)
            if each.attributes.get(gpu_activity.PROCESS_SCOPE) != _OF_EVERYBODY
        }
        used = snapshot.of(gpu.MEMORY_USAGE)
        if ours or self._gpu_memory:
            # One that is there, and whose list alone could not be read at this look, is no less the job's.
            there = ours.keys() | {str(each.attributes[gpu.HW_ID]) for each in used}
            self._gpu_memory = {**{each: value for each, value in self._gpu_memory.items() if each in there}, **ours}
            return {each: value for each, value in self._gpu_memory.items() if value > 0}, True
        may = [each for each in used if gpu.CUDA_ORDINAL in each.attributes] or used
        return ({str(each.attributes[gpu.HW_ID]): each.value for each in may} if _may_tell_of(may) else {}), False

    def _max_rss(self) -> int | None:
        most = _max_rss()
        # The kernel keeps the most of the process's whole life: unless it has grown, nobody knows when that was.
        return None if self._later and most is not None and most <= self._rss_before else most


def _may_tell_of(gpus: Sequence[Reading]) -> bool:
    """Whether no other rank of this machine tells of these GPUs, too, where nobody knows whose they are.

    Then the first rank tells of all that it may use; another one of the one that is called by that rank's number, which
    no other rank has. Of others nobody tells: energy that is counted by each rank would be many times what was taken.
    """
    place = identity()
    number = place.get(LOCAL_RANK, place.get(RANK, 0))
    return number == 0 or (
        len(gpus) == 1 and any(os.environ.get(name, "").strip() == str(number) for name in _VARIABLES)
    )


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


def _own_seconds() -> float:
    """Of this process."""
    times = os.times()
    return times.user + times.system
