# SPDX-License-Identifier: Apache-2.0
"""What a run holds of each job, as arrays: all that pictures are made of."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

import numpy as np

from otel_hwmetrics.catalog import gpu
from otel_hwmetrics.display.plots.picture import Times, Values
from otel_hwmetrics.model import Attribute
from otel_hwmetrics.recording import Recording, Run
from otel_hwmetrics.recording.nouns import (
    FIGURES,
    PARENT,
    Job,
    JobSample,
    Minute,
    RecordedAlert,
    RecordedSeries,
    RecordedSpan,
)

_AT_ONCE: Final = 250_000
"""Looks that are read at once: as objects they take ten times the memory of the arrays that they become."""
_OFTENEST: Final = 0.05
_SECOND: Final = 1_000_000_000
_MINUTE: Final = 60 * _SECOND

_OF_DEVICES: Final[Mapping[str, str]] = {
    gpu.UTILIZATION.name: "gpu_activity",
    gpu.MEMORY_USAGE.name: "gpu_memory",
    gpu.TEMPERATURE.name: "gpu_temperature",
    gpu.POWER.name: "gpu_power",
    gpu.ENERGY.name: "gpu_power",
}
"""Which figure of a job a metric of one GPU is a part of."""
_CHOSEN: Final = {gpu.HW_GPU_TASK: "general", gpu.POWER_SCOPE: "gpu"}
"""Of several series of one metric and one GPU those with these attributes."""


@dataclass(frozen=True)
class Device:
    """A GPU of a job.

    Attributes:
        name: ``GPU 0``.
        figures: Times and values, in SI units and without NaN, by the names of `FIGURES`.
    """

    name: str
    figures: Mapping[str, tuple[Times, Values]]


@dataclass(frozen=True)
class Seen:
    """What was seen of a job.

    Attributes:
        run: What people call the run.
        job: The job.
        times: Of each look.
        figures: A value a look, in SI units, by the names of `FIGURES`; NaN where it is not known, and without those that never are.
        devices: Its GPUs one by one, where these are known.
        spans: Training spans, of one process.
        alerts: Of each of its processes, by their time.
        notes: What has to be known to read it, in sentences.
    """

    run: str
    job: Job
    times: Times
    figures: Mapping[str, Values]
    devices: tuple[Device, ...] = ()
    spans: tuple[RecordedSpan, ...] = ()
    alerts: tuple[tuple[RecordedAlert, ...], ...] = ()
    notes: tuple[str, ...] = ()


def seen(run: Run, job: Job, start_ns: int | None = None, end_ns: int | None = None, jobs: Sequence[Job] = ()) -> Seen:
    """Read all of a job.

    Args:
        run: Whose it is.
        job: As `Run.jobs` has it.
        start_ns: None for its beginning.
        end_ns: None for its end.
        jobs: All of the run, where it has others.

    Raises:
        RecordingError: A file cannot be read.
    """
    times, figures = _columns(run, job, start_ns, end_ns)
    writers = _writers(run, job, jobs)
    spans, notes = _spans(writers, start_ns, end_ns)
    devices, more = _devices(run, job, figures, _span(job, start_ns, end_ns), alone=len(jobs) < 2)  # noqa: PLR2004 - itself
    alerts = tuple(
        tuple(each for each in writer.alerts() if end_ns is None or each.at_ns <= end_ns) for writer in writers
    )
    return Seen(run.name, job, times, figures, devices, spans, alerts, (*notes, *more))


def from_samples(samples: Sequence[JobSample]) -> tuple[Times, dict[str, Values]]:
    """Looks as columns; a figure that is known at no look is left out."""
    if not samples:
        return np.empty(0, np.int64), {}
    at, *columns = zip(*samples, strict=True)
    told = {name: np.array(column, np.float64) for name, column in zip(FIGURES, columns, strict=True)}
    return np.array(at, np.int64), {name: each for name, each in told.items() if not np.isnan(each).all()}


def _columns(run: Run, job: Job, start_ns: int | None, end_ns: int | None) -> tuple[Times, dict[str, Values]]:
    parts = [from_samples(part) for part in _parts(run, job, start_ns, end_ns)]
    times = np.concatenate([at for at, _ in parts]) if parts else np.empty(0, np.int64)
    figures: dict[str, Values] = {}
    for name in FIGURES:
        if any(name in known for _, known in parts):
            absent = (known.get(name, np.full(len(at), np.nan)) for at, known in parts)
            figures[name] = np.concatenate(list(absent))
    return times, figures


def _parts(run: Run, job: Job, start_ns: int | None, end_ns: int | None) -> Iterator[list[JobSample]]:
    begin, end = _span(job, start_ns, end_ns)
    if begin is None or end is None:
        yield run.job_samples(job.id, start_ns, end_ns)
        return
    often = max(_OFTENEST, min((each.interval for each in run.abouts if each.interval > 0), default=1.0))
    step = round(_AT_ONCE * often * 1e9)
    edges = [*range(begin, end, step), end]
    last = len(edges) - 1
    for number, edge in enumerate(edges[1:] or edges, 1):
        # What lies before the job's beginning or after its end belongs to it, too.
        first = start_ns if number == 1 else edges[number - 1]
        yield run.job_samples(job.id, first, end_ns if number >= last else edge - 1)


def _span(job: Job, start_ns: int | None, end_ns: int | None) -> tuple[int | None, int | None]:
    begin = job.started_ns if start_ns is None else start_ns
    end = (job.ended_ns or job.heard_ns) if end_ns is None else end_ns
    return begin, end if begin is None or end is None else max(begin, end)


def _writers(run: Run, job: Job, jobs: Sequence[Job]) -> list[Recording]:
    """Whose spans and alerts are the job's: its own processes'."""
    if len(jobs) < 2:  # noqa: PLR2004 - itself
        return list(run.recordings)
    if not any(each.about.role == PARENT for each in run.recordings):
        return [each for each in run.recordings if (each.about.rank, each.about.host) == (job.rank, job.host)]
    children = (each for each in run.recordings if each.about.role != PARENT)
    return [each for each in children if _owners(each, jobs) == [job.id]]


def _owners(recording: Recording, jobs: Sequence[Job]) -> list[int]:
    """Which of a launcher's jobs a process may be a part of: by when it began, its name and its command."""
    about = recording.about
    possible = [
        each
        for each in jobs
        if each.host == about.host
        and each.started_ns is not None
        and each.started_ns <= about.started_ns <= (each.ended_ns or each.heard_ns or about.started_ns)
    ]
    for own in recording.jobs():
        words = own.command.partition(" ")[2]
        for alike in (
            [each for each in possible if each.name == own.name],
            [each for each in possible if words and each.command.endswith(f" {words}")],
        ):
            possible = alike or possible
    return [each.id for each in possible]


def _within(first_ns: int, last_ns: int | None, start_ns: int | None, end_ns: int | None) -> bool:
    begins_before = end_ns is None or first_ns <= end_ns
    return begins_before and (start_ns is None or last_ns is None or last_ns >= start_ns)


def _spans(
    writers: Sequence[Recording], start_ns: int | None, end_ns: int | None
) -> tuple[tuple[RecordedSpan, ...], list[str]]:
    """Those of the first process that has any: what others of a distributed job go through at the same time is the same."""
    told = {
        writer: spans
        for writer in writers
        if (
            spans := tuple(each for each in writer.spans() if _within(each.started_ns, each.ended_ns, start_ns, end_ns))
        )
    }
    if not told:
        return (), []
    first, spans = next(iter(told.items()))
    rank = first.about.rank
    who = f"rank {rank}" if rank is not None else f"process {first.about.pid}"
    return spans, [f"Training spans are those of {who}, one of {len(told)} that have any."] if len(told) > 1 else []


def _devices(
    run: Run,
    job: Job,
    figures: Mapping[str, Values],
    span: tuple[int | None, int | None],
    *,
    alone: bool,
) -> tuple[tuple[Device, ...], list[str]]:
    """The GPUs one by one, where those that were seen on the job's machine are the job's."""
    begin, end = span
    found: dict[str, dict[str, tuple[Times, Values]]] = {}
    since = 0
    for recording in run.recordings:
        if job.host and recording.about.host != job.host:
            continue
        chosen = _series(recording.series())
        numbers = [each.id for _, _, each in chosen]
        told = recording.values_of(numbers, begin, end) if chosen else {}
        minutes = recording.minutes_of(numbers, begin, end) if chosen else {}
        for name, figure, series in chosen:
            if figure not in found.setdefault(name, {}):
                whole, known_from = _whole(series, told[series.id], minutes[series.id])
                if len(whole[0]):
                    since, found[name][figure] = max(since, known_from), whole
    devices = [Device(name, figures_of) for name, figures_of in found.items() if figures_of]
    devices.sort(key=lambda each: (len(each.name), each.name))
    used = figures.get("gpus")
    if not alone if used is None else float(np.nanmax(used)) != len(devices):
        return (), []  # others' GPUs among them, and it is not known which
    return tuple(devices), (
        ["The oldest of what single GPUs did is kept by the minute: the lowest and the highest of each."]
        if since
        else []
    )


def _series(known: Sequence[RecordedSeries]) -> list[tuple[str, str, RecordedSeries]]:
    """Of each GPU and figure the series that tells it: the GPU's name, the figure, the series; power before energy."""
    names = {each.attributes.get(gpu.HW_ID): _name(each.attributes) for each in known if _is_device(each)}
    chosen: dict[tuple[str, str], RecordedSeries] = {}
    for metric, figure in _OF_DEVICES.items():
        for each in known:
            attributes = each.attributes
            wanted = all(attributes.get(key, value) == value for key, value in _CHOSEN.items())
            if each.metric != metric or gpu.GPU_INDEX not in attributes or not wanted:
                continue
            owner = attributes.get(gpu.HW_ID if _is_device(each) else gpu.HW_PARENT)
            chosen.setdefault((names.get(owner) or _name(attributes), figure), each)
    return [(name, figure, each) for (name, figure), each in chosen.items()]


def _is_device(series: RecordedSeries) -> bool:
    return gpu.GPU_INDEX in series.attributes and gpu.HW_SENSOR_LOCATION not in series.attributes


def _name(attributes: Mapping[str, Attribute]) -> str:
    device = gpu.HW_SENSOR_LOCATION not in attributes
    return str(attributes.get(gpu.HW_NAME) or "") * device or f"GPU {attributes[gpu.GPU_INDEX]}"


def _whole(
    series: RecordedSeries, detail: tuple[array[int], array[float]], minutes: Sequence[Minute]
) -> tuple[tuple[Times, Values], int]:
    """A series over the whole job: every look as far back as there are any, before that the lowest and highest by the minute.

    Returns:
        Times and values; and until when it is by the minute, 0 where it is not at all.
    """
    times, values = np.array(detail[0], np.int64), np.array(detail[1], np.float64)
    first = int(times[0]) if len(times) else None
    old = [each for each in minutes if first is None or each.start_ns + _MINUTE <= first]
    grows = series.metric == gpu.ENERGY.name
    if old:
        points = (
            ((each.start_ns + _MINUTE - 1, each.last),)
            if grows
            else ((each.start_ns + _MINUTE // 4, each.low), (each.start_ns + 3 * _MINUTE // 4, each.high))
            for each in old
        )
        at, level = zip(*chain.from_iterable(points), strict=True)
        times = np.concatenate([np.array(at, np.int64), times])
        values = np.concatenate([np.array(level, np.float64), values])
    until = old[-1].start_ns + _MINUTE if old else 0
    return (_growth(times, values) if grows else (times, values)), until


def _growth(times: Times, values: Values) -> tuple[Times, Values]:
    """How fast a counter grows by the second; not where it began anew."""
    seconds, grown = np.diff(times) / _SECOND, np.diff(values)
    there = (seconds > 0) & (grown >= 0)
    return times[1:][there], grown[there] / seconds[there]
