# SPDX-License-Identifier: Apache-2.0
"""What is known of a run, as figures that can be compared: each with its pieces, whose spread tells how much it varies."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from otel_hwmetrics.catalog import gpu, training
from otel_hwmetrics.display.report.endings import memory_peak
from otel_hwmetrics.model import Metric
from otel_hwmetrics.recording import Recording, Run
from otel_hwmetrics.recording.nouns import PARENT, About, Job, JobPart, RecordedAlert, RecordedSpan

PIECES: Final = 30
"""Parts of a run, of the same length, whose spread is looked at, at most."""
LOOKS: Final = 4
"""Looks of such a part, at the least."""
LONG: Final = 1800
"""Seconds from which on minutes are fine enough for that."""
_NUMBERED: Final = re.compile(r"(.*[^ _./#\d-])[ _./#-]*\d+", re.DOTALL)
_EPOCH: Final = re.compile(r"(?:train(?:ing)?[ _./-]*)?epoch", re.IGNORECASE)


@dataclass(frozen=True)
class Figure:
    """One figure of a run.

    Attributes:
        value: Over the whole run.
        pieces: Over parts of it; empty where there are none.
        count: How many of them that is, of what can be counted; None of what cannot.
    """

    value: float
    pieces: tuple[float, ...] = ()
    count: int | None = None


@dataclass(frozen=True)
class Measured:
    """A run, as far as it is compared.

    Attributes:
        id: Its id.
        name: Its name.
        started_ns: When it began.
        runtime: Seconds.
        ended: Whether it was ended in good order, and all of its jobs have succeeded.
        figures: By key: a key of `otel_hwmetrics.display.compare.rows.ROWS`.
        spans: How long training spans took, by name; those whose names differ by a number at their end are of one name.
        steps: Steps of training; None where they were not counted.
        unseen: How many more there may have been after the last look.
        alerts: Those that began to fire.
        jobs: All of them; processes of a distributed job have the same name.
        machine: What it ran on and with, in words by what that is.
    """

    id: str
    name: str
    started_ns: int
    runtime: float
    ended: bool
    figures: Mapping[str, Figure] = field(default_factory=dict)
    spans: Mapping[str, Figure] = field(default_factory=dict)
    steps: float | None = None
    unseen: float = 0.0
    alerts: Sequence[RecordedAlert] = ()
    jobs: Sequence[Job] = ()
    machine: Mapping[str, str] = field(default_factory=dict)


def measured(run: Run) -> Measured:
    """Gather what is known of a run.

    Raises:
        otel_hwmetrics.recording.RecordingError: It cannot be read.
    """
    jobs = run.jobs()
    runtime = _runtime(run, jobs)
    figures = {"runtime": Figure(runtime)} if runtime else {}
    figures |= _of_jobs(run, jobs, runtime)
    course = _Course(run.recordings)
    figures |= course.figures()
    if "energy" in figures and course.steps:
        figures["energy.step"] = Figure(figures["energy"].value / course.steps)
    return Measured(
        run.id,
        run.name,
        run.started_ns,
        runtime,
        run.ended_ns is not None and all(job.state == "done" for job in jobs),
        figures,
        _spans(run.recordings),
        course.steps,
        2 * max(about.interval for about in run.abouts) * (course.steps or 0.0) / runtime if runtime else 0.0,
        [alert for alert in run.alerts() if alert.state == "firing"],
        jobs,
        _machine(run, jobs),
    )


def _runtime(run: Run, jobs: Sequence[Job]) -> float:
    """Seconds from when the first job began to when the last ended, or was last heard of."""
    began = [job.started_ns for job in jobs if job.started_ns is not None] or [run.started_ns]
    ended = [end for job in jobs if (end := job.ended_ns or job.heard_ns) is not None] or [run.ended_ns or run.heard_ns]
    return max(0, max(ended) - min(began)) / 1e9


def _of_jobs(run: Run, jobs: Sequence[Job], runtime: float) -> Iterator[tuple[str, Figure]]:
    """What the jobs used: sums over them, peaks of the one that had the most."""
    course = _parts(run, jobs)
    for key, name in (("cpu", "cpu"), ("gpu.activity", "gpu_activity"), ("gpu.power", "gpu_power")):
        known = [(job, job.summary.figures[name].mean) for job in jobs if name in job.summary.figures]
        weights = [job.summary.seconds or 1.0 for job, _ in known]
        if not known:
            continue
        whole = math.fsum(mean * weight for (_, mean), weight in zip(known, weights, strict=True))
        several = key == "cpu" and len(known) > 1
        value = whole / (runtime or 1.0) if several else whole / math.fsum(weights)
        yield key, Figure(value, () if several else _pieces(course, name))
    memory = [peak for job in jobs if (peak := memory_peak(job)) is not None]
    if memory:
        yield "memory.peak", Figure(max(memory))
    peaks = (
        ("gpu.memory.peak", "gpu_memory_most"),
        ("gpu.temperature.peak", "gpu_temperature"),
    )
    for key, name in peaks:
        highest = [job.summary.figures[name].peak for job in jobs if name in job.summary.figures]
        if highest:
            yield key, Figure(max(highest))
    for key, total in (
        ("cpu.seconds", [job.summary.cpu_seconds for job in jobs]),
        ("energy", [job.summary.energy for job in jobs]),
    ):
        known_totals = [each for each in total if each is not None]
        if known_totals and (key != "energy" or math.fsum(known_totals) > 0):
            yield key, Figure(math.fsum(known_totals))


def _parts(run: Run, jobs: Sequence[Job]) -> list[JobPart]:
    """What the jobs did over parts of the time that all of them together took, by time."""
    began = [job.started_ns for job in jobs if job.started_ns is not None]
    ended = [end for job in jobs if (end := job.ended_ns or job.heard_ns) is not None]
    start, end = min(began, default=run.started_ns), max(ended, default=run.ended_ns or run.heard_ns)
    found = [part for job in jobs for part in run.job_parts(job.id, start, max(start, end), PIECES)]
    return sorted(found, key=lambda part: part.number)


def _pieces(course: Sequence[JobPart], name: str) -> tuple[float, ...]:
    """A figure over these parts; where a part has few looks, over some of them together."""
    pieces: list[tuple[int, float]] = []
    last = None
    for part in course:
        looks, mean = part.figures.get(name, (0, 0.0))
        if not looks:
            continue
        if pieces and (part.number == last or pieces[-1][0] < LOOKS):
            before, total = pieces[-1]
            pieces[-1] = (before + looks, total + looks * mean)
        else:
            pieces.append((looks, looks * mean))
        last = part.number
    return tuple(total / looks for looks, total in pieces if looks >= LOOKS)


class _Course:
    """How training went by its steps, of all processes that have counted them.

    Attributes:
        steps: That ended, of the process that made the most: each process of a job makes all of them.
    """

    def __init__(self, recordings: Sequence[Recording]) -> None:
        self.steps: float | None = None
        self._totals: dict[str, float] = {}
        self._ratios: dict[tuple[str, str], list[tuple[float, ...]]] = {}
        for recording in recordings:
            self._add(recording)

    def _add(self, recording: Recording) -> None:
        wanted = (training.STEPS, training.STEP_TIME, training.DATA_WAIT_TIME, training.SAMPLES, training.TOKENS)
        names = {metric.name for metric in wanted}
        series = {each.metric: each.id for each in recording.series() if each.metric in names}
        if not {training.STEPS.name, training.STEP_TIME.name} <= series.keys():
            return
        grown = {name: _growth(recording, number) for name, number in series.items()}
        for name, points in grown.items():
            if points:
                self._totals[name] = self._totals.get(name, 0.0) + points[-1][1]
        steps = grown[training.STEPS.name]
        if steps:
            self.steps = max(self.steps or 0.0, steps[-1][1])
        for of, by in _RATIOS.values():
            if of.name in grown and by.name in grown:
                pieces = tuple(_ratios(grown[of.name], grown[by.name]))
                self._ratios.setdefault((of.name, by.name), []).append(pieces)

    def figures(self) -> dict[str, Figure]:
        """What there is of them, by key."""
        found = {}
        for key, (of, by) in _RATIOS.items():
            part, whole = self._totals.get(of.name), self._totals.get(by.name)
            if part is not None and whole:
                pieces = [piece for each in self._ratios.get((of.name, by.name), ()) for piece in each]
                found[key] = Figure(part / whole, tuple(pieces))
        return found


_RATIOS: Final[Mapping[str, tuple[Metric, Metric]]] = {
    "step.time": (training.STEP_TIME, training.STEPS),
    "samples": (training.SAMPLES, training.STEP_TIME),
    "tokens": (training.TOKENS, training.STEP_TIME),
    "data.wait": (training.DATA_WAIT_TIME, training.STEP_TIME),
    "step.samples": (training.SAMPLES, training.STEPS),
    "step.tokens": (training.TOKENS, training.STEPS),
}
"""Figures that are the growth of one counter by that of another."""


def _growth(recording: Recording, series: int) -> list[tuple[int, float]]:
    """A counter's totals, by time; of a long run by the minute."""
    about = recording.about
    if about.heard_ns - about.started_ns > LONG * 1e9:
        return [(minute.start_ns, minute.last) for minute in recording.minutes(series)]
    return list(zip(*recording.values(series), strict=True))


def _ratios(of: Sequence[tuple[int, float]], by: Sequence[tuple[int, float]]) -> Iterator[float]:
    """How much one counter grew by the other, in parts of the time."""
    known = dict(of)
    both = [(at, known[at], value) for at, value in by if at in known]
    parts = min(PIECES, (len(both) - 1) // LOOKS)
    edges = [both[(len(both) - 1) * each // parts] for each in range(parts + 1)] if parts > 0 else []
    for (_, of_before, by_before), (_, of_after, by_after) in pairwise(edges):
        if by_after > by_before:
            yield (of_after - of_before) / (by_after - by_before)


def _spans(recordings: Sequence[Recording]) -> dict[str, Figure]:
    """How long training spans took, by name; the n-th of several processes together."""
    of_files: list[dict[str, list[float]]] = []
    for recording in recordings:
        took: dict[str, list[float]] = {}
        spans = [span for span in recording.spans() if span.ended_ns is not None]
        called = _names(spans)
        for span in spans:
            took.setdefault(called[span.name], []).append((span.ended_ns or 0) / 1e9 - span.started_ns / 1e9)
        of_files.append(took)
    names = dict.fromkeys(name for took in of_files for name in took)
    return {name: _together([took[name] for took in of_files if name in took]) for name in names}


def _names(spans: Sequence[RecordedSpan]) -> dict[str, str]:
    """What spans are compared as, by their names: ``epoch 0``, ``epoch 1`` are epochs.

    So is a single one, as a short run has it; of other names a number counts only where there are several: one ``llama-2`` is none
    of many.
    """
    stems = {span.name: found[1] for span in spans if (found := _NUMBERED.fullmatch(span.name)) is not None}
    each = Counter(stems.values())
    return {
        span.name: stem
        if (stem := stems.get(span.name)) is not None and (each[stem] > 1 or _EPOCH.fullmatch(stem))
        else span.name
        for span in spans
    }


def _together(of_files: Sequence[Sequence[float]]) -> Figure:
    most = max(map(len, of_files))
    turns = [[spans[turn] for spans in of_files if turn < len(spans)] for turn in range(most)]
    pieces = tuple(math.fsum(turn) / len(turn) for turn in turns)
    return Figure(math.fsum(pieces) / most, pieces, most)


def _machine(run: Run, jobs: Sequence[Job]) -> dict[str, str]:
    """What a run ran on and with."""
    abouts = run.abouts
    told: dict[str, str] = {
        "command": "; ".join(dict.fromkeys(job.command for job in jobs if job.command)),
        "host": ", ".join(sorted({about.host for about in abouts if about.host})),
        "processes": str(sum(about.role != PARENT for about in abouts) or len(jobs)),
        "GPUs": _gpus(run, jobs),
        "interval": f"{min(about.interval for about in abouts):g} s",
    }
    for key, of_job in (("CPUs asked for", "cpus"), ("GPUs asked for", "gpus")):
        asked = sorted({f"{value:g}" for job in jobs if (value := getattr(job.request, of_job)) is not None})
        told[key] = ", ".join(asked)
    told |= {f"tag {key}": value for key, value in run.tags.items()}
    told |= {f"version of {package}": version for about in reversed(abouts) for package, version in _versions(about)}
    return {what: words for what, words in told.items() if words}


def _versions(about: About) -> Iterator[tuple[str, str]]:
    yield from about.versions.items()


def _gpus(run: Run, jobs: Sequence[Job]) -> str:
    """The GPUs that were read, by model; or how many the jobs had."""
    models: dict[object, str] = {}
    for recording in run.recordings:
        for series in recording.series():
            if series.metric == gpu.UTILIZATION.name and gpu.HW_ID in series.attributes:
                key = (recording.about.host, series.attributes[gpu.HW_ID])
                models[key] = str(series.attributes.get(gpu.HW_MODEL, "GPU"))
    if models:
        names = sorted(models.values())
        return ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))
    most = max((job.summary.figures["gpus"].peak for job in jobs if "gpus" in job.summary.figures), default=0.0)
    return f"{most:g}" if most else ""
