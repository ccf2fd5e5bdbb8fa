# SPDX-License-Identifier: Apache-2.0
"""What a recording holds, as plain values: who wrote it, jobs, what they used, spans, alerts, files.

Times are nanoseconds since the epoch (``_ns``), everything else is in SI units; what was not known is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NamedTuple

from otel_hwmetrics.model import Attribute, Kind

FIGURES: Final = MappingProxyType(
    {
        "cpu": (
            "{cpu}",
            "CPUs that were busy with the job: 1.5 is one and a half of them. The mean since the look before.",
        ),
        "memory": ("By", "Physical memory of the job's processes, a shared page once for each of them."),
        "processes": ("{process}", "Processes of the job."),
        "gpus": (
            "{gpu}",
            "GPUs that processes of the job have memory on; where the driver does not tell, those it may use.",
        ),
        "gpu_activity": ("1", "Share of time in which these GPUs were busy, the mean of them."),
        "gpu_memory": ("By", "Memory of these GPUs that is the job's, all together; where not told, all that is used."),
        "gpu_memory_most": ("By", "Likewise, of the GPU of which it uses most."),
        "gpu_power": ("W", "Power that these GPUs drew, all together."),
        "gpu_temperature": ("Cel", "Temperature of the hottest of these GPUs."),
    }
)
"""The figures of a job: each with its unit and what it is. Columns of samples and summaries have these names."""

PARENT: Final = "launcher"
"""The role of a writer that started the jobs and watches them from outside (``otel-hwmetrics run``)."""
PROCESS: Final = "process"
"""The role of a writer that is a process of the job itself (`otel_hwmetrics.instrument`)."""

SUMMARY: Final = "summary"
TIME_SERIES: Final = "time_series"

WAITING: Final = "waiting"
RUNNING: Final = "running"
DONE: Final = "done"
FAILED: Final = "failed"
SKIPPED: Final = "skipped"
"""States of a job; it is skipped where a job that it waits for has failed."""
LOST: Final = "lost"
"""Never written: what a reader calls a running job of which nothing was heard any more, since its recorder was killed."""


@dataclass(frozen=True)
class Request:
    """What was asked for. None: nobody said.

    Attributes:
        cpus: CPUs.
        memory: Bytes.
        runtime: Seconds.
        gpus: GPUs.
        gpu_memory: Bytes of each GPU.
        by: Who said so, of each of these that is known: ``argument``, ``file``, ``slurm``, ``cgroup``, ``kubernetes``.
    """

    cpus: float | None = None
    memory: int | None = None
    runtime: float | None = None
    gpus: float | None = None
    gpu_memory: int | None = None
    by: Mapping[str, str] = field(default_factory=dict)


class Stat(NamedTuple):
    """One figure over a job or a span: its highest value, its mean over time, and what it was below for 95 % of the time."""

    peak: float
    mean: float
    p95: float


@dataclass(frozen=True)
class Summary:
    """What a job used from its beginning to its end, or until now.

    Attributes:
        looks: How many looks that is from.
        seconds: The time that they cover.
        figures: By the names of `FIGURES`; those of which nothing is known are not there.
        cpu_seconds: CPU time; exact, where the kernel has told it at the end (wait4(2)).
        energy: Joules of its GPUs.
        gpu_idle_seconds: GPU-seconds in which a GPU of the job did next to nothing (activity below 5 %).
        gpu_seconds: GPU-seconds that its GPUs were there for.
        max_rss: Bytes: the most memory that one of its processes has had, by the kernel (getrusage(2)); None without it.
    """

    looks: int = 0
    seconds: float = 0.0
    figures: Mapping[str, Stat] = field(default_factory=dict)
    cpu_seconds: float | None = None
    energy: float | None = None
    gpu_idle_seconds: float | None = None
    gpu_seconds: float | None = None
    max_rss: int | None = None


@dataclass(frozen=True)
class Job:
    """A job: a command and its whole tree of processes, or the process that records itself and its tree.

    Attributes:
        id: Its number, from 1; unique within a run once `otel_hwmetrics.recording.Run` has joined the files.
        name: What people call it.
        command: Without secrets.
        state: A word of this module.
        started_ns: None before it began.
        ended_ns: None while it runs, and where nobody saw its end.
        heard_ns: When the last was written of it.
        exit_code: As subprocess has it: negative for the signal that ended it; None where nobody saw.
        request: What was asked for.
        tags: Words of the user's.
        blocked_by: Names of the jobs that it waits for.
        host: Where it ran.
        rank: Of the process in a distributed job; None for none.
        summary: What it used.
    """

    id: int
    name: str
    command: str = ""
    state: str = RUNNING
    started_ns: int | None = None
    ended_ns: int | None = None
    heard_ns: int | None = None
    exit_code: int | None = None
    request: Request = field(default_factory=Request)
    tags: Mapping[str, str] = field(default_factory=dict)
    blocked_by: tuple[str, ...] = ()
    host: str = ""
    rank: int | None = None
    summary: Summary = field(default_factory=Summary)

    @property
    def runtime(self) -> float | None:
        """Seconds from its beginning to its end, or to when it was last heard of; None before it began."""
        end = self.ended_ns or self.heard_ns
        return None if self.started_ns is None or end is None else max(0.0, (end - self.started_ns) / 1e9)


class JobSample(NamedTuple):
    """One look at a job. The figures are those of `FIGURES`, in its order.

    Attributes:
        at_ns: When.
    """

    at_ns: int
    cpu: float | None = None
    memory: float | None = None
    processes: float | None = None
    gpus: float | None = None
    gpu_activity: float | None = None
    gpu_memory: float | None = None
    gpu_memory_most: float | None = None
    gpu_power: float | None = None
    gpu_temperature: float | None = None


class JobPart(NamedTuple):
    """What a job did over one of several parts of the time.

    Attributes:
        number: Which part, from 0.
        figures: By the names of `FIGURES`, of those that are known of it: how many looks that is from, and their mean.
    """

    number: int
    figures: Mapping[str, tuple[int, float]]


class Totals(NamedTuple):
    """What a job has used by one look, beside the figures: sums from its beginning on. None where it is not known.

    Attributes:
        cpu_seconds: CPU time.
        energy: Joules of its GPUs.
        gpu_idle_seconds: GPU-seconds in which a GPU did next to nothing.
        gpu_seconds: GPU-seconds.
        max_rss: Bytes, of one process.
    """

    cpu_seconds: float | None = None
    energy: float | None = None
    gpu_idle_seconds: float | None = None
    gpu_seconds: float | None = None
    max_rss: int | None = None


@dataclass(frozen=True)
class About:
    """Who writes a recording.

    Attributes:
        run: What all files of one run have in common.
        name: What people call the run.
        role: `PARENT` or `PROCESS`.
        host: The machine.
        pid: The process.
        rank: Its place in a distributed job; None for none.
        world_size: Likewise.
        started_ns: When it began to write.
        heard_ns: When the last was written.
        ended_ns: When it was closed in good order; None where it was not.
        interval: Seconds between two looks.
        batch: Seconds between two writings.
        granularity: `SUMMARY` or `TIME_SERIES`.
        versions: By package.
        resource: The process's Resource, as far as it was known.
        tags: Words of the user's.
    """

    run: str
    name: str
    role: str = PROCESS
    host: str = ""
    pid: int = 0
    rank: int | None = None
    world_size: int | None = None
    started_ns: int = 0
    heard_ns: int = 0
    ended_ns: int | None = None
    interval: float = 1.0
    batch: float = 5.0
    granularity: str = TIME_SERIES
    versions: Mapping[str, str] = field(default_factory=dict)
    resource: Mapping[str, Attribute] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RecordedSeries:
    """A series as it was recorded.

    Attributes:
        id: Its number in its file.
        metric: Name.
        unit: By UCUM.
        kind: A counter's values are totals, those of others levels.
        attributes: By key.
    """

    id: int
    metric: str
    unit: str
    kind: Kind
    attributes: Mapping[str, Attribute]


class Minute(NamedTuple):
    """One series over one minute.

    Attributes:
        start_ns: Where the minute begins.
        looks: How many values that is from.
        mean: Of them.
        low: The least.
        high: The most.
        last: The last; of a counter what grows.
    """

    start_ns: int
    looks: int
    mean: float
    low: float
    high: float
    last: float


@dataclass(frozen=True)
class RecordedSpan:
    """A training span.

    Attributes:
        trace_id: 32 hexadecimal digits.
        span_id: 16 hexadecimal digits.
        parent_id: Likewise; empty for none.
        name: Its name.
        started_ns: When it began.
        ended_ns: When it ended; None where nobody saw.
        status: ``unset``, ``ok``, ``error``.
        attributes: As they were at its end, what the hardware did included (``hwmetrics.summary.*``).
        host: Where who wrote it was, once `otel_hwmetrics.recording.Run` has joined the files; else empty.
        rank: Likewise of a process in a distributed job; None for none.
    """

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    started_ns: int
    ended_ns: int | None
    status: str = "unset"
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    host: str = field(default="", compare=False)
    rank: int | None = field(default=None, compare=False)


@dataclass(frozen=True)
class RecordedAlert:
    """An alert that was told of: it began to fire, was resolved, or fires on though nothing can be read any more.

    Attributes:
        at_ns: When.
        rule: Its name.
        state: ``firing`` or ``resolved``.
        severity: ``info``, ``warning`` or ``critical``.
        device: What it is about; empty for the host.
        message: For people.
        trace_id: Of the training span; empty for none.
        span_id: Likewise.
        attributes: Of its event.
        host: Where who wrote it was, once `otel_hwmetrics.recording.Run` has joined the files; else empty.
        rank: Likewise of a process in a distributed job; None for none.
    """

    at_ns: int
    rule: str
    state: str
    severity: str
    device: str
    message: str
    trace_id: str = ""
    span_id: str = ""
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    host: str = field(default="", compare=False)
    rank: int | None = field(default=None, compare=False)


class RecordedFile(NamedTuple):
    """Another file of the run: a ``profile``, a ``flight`` recording.

    Attributes:
        at_ns: Since when it is known of.
        kind: What it is.
        path: Where it was written.
    """

    at_ns: int
    kind: str
    path: str
