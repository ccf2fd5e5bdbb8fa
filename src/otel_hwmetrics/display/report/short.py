# SPDX-License-Identifier: Apache-2.0
"""A run in a few lines, for the end of a job's own output."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from otel_hwmetrics.display.report.alarms import alarms, named
from otel_hwmetrics.display.report.endings import ending, memory_peak, starved
from otel_hwmetrics.display.report.material import Material, gathered
from otel_hwmetrics.display.report.usage import comparisons, violations
from otel_hwmetrics.display.table import plain
from otel_hwmetrics.display.words import counted, duration, energy, gpu_hours, share, size
from otel_hwmetrics.recording import Run
from otel_hwmetrics.recording.nouns import SKIPPED, WAITING, Job, Stat

MOST_JOBS = 12
"""Jobs that are told of; of more the report tells."""


def short_summary(run: Run) -> str:
    """A run in a few lines, without an end of line: how each job ended, what it used, what was too much, and where to see more.

    Raises:
        RecordingError: A file cannot be read.
    """
    return "\n".join(short_lines(gathered(run)))


def short_lines(material: Material) -> list[str]:
    """Likewise of what was read already."""
    lines = [line for job in material.jobs[:MOST_JOBS] for line in _of_job(job, material)]
    if (more := len(material.jobs) - MOST_JOBS) > 0:
        lines.append(f"and {counted(more, 'more job')}")
    if not material.jobs:
        lines.append(f"{plain(material.name)}: no job was recorded")
    if not material.alerts_of and (told := named(alarms(material.alerts))):
        lines.append(f"  alerts: {told}")
    if material.paths:
        lines.append(f"  more: otel-hwmetrics report {shlex.quote(plain(material.paths[0]))}")
    return lines


def _of_job(job: Job, material: Material) -> Iterator[str]:
    name = plain(job.name)
    if job.started_ns is None:
        yield f"{name}: {'did not begin' if job.state in (WAITING, SKIPPED) else job.state}"
        return
    killed = ", most likely for want of memory" if starved(job) else ""
    yield f"{name}: {ending(job)}{killed}, {duration(job.runtime)}"
    for used in ([_cpu(job), _memory(job)], [_gpus(job)]):
        if any(used):
            yield f"  {'; '.join(each for each in used if each)}"
    over = violations(comparisons([job], material.interval))
    if over:
        texts = (f"{each.resource} {each.texts[1]} of {each.texts[0]} ({each.texts[3]})" for each in over)
        yield f"  more than was asked for: {', '.join(texts)}"
    if told := named(alarms(material.alerts_of.get(job.id, ()))):
        yield f"  alerts: {told}"


def _cpu(job: Job) -> str:
    stat = job.summary.figures.get("cpu")
    if stat is not None:
        return f"CPU {_both(stat)}"
    return "" if job.summary.cpu_seconds is None else f"CPU time {duration(job.summary.cpu_seconds)}"


def _both(stat: Stat) -> str:
    return f"{share(stat.mean)} on average, {share(stat.peak)} at most"


def _memory(job: Job) -> str:
    peak = memory_peak(job)
    return "" if peak is None else f"memory {size(peak)} at most"


def _gpus(job: Job) -> str:
    figures, summary = job.summary.figures, job.summary
    parts = []
    if activity := figures.get("gpu_activity"):
        parts.append(f"GPUs {share(activity.mean)} busy")
    if memory := figures.get("gpu_memory_most"):
        parts.append(f"{size(memory.peak)} of a GPU's memory at most")
    if summary.energy is not None:
        parts.append(energy(summary.energy))
    if summary.gpu_idle_seconds:
        parts.append(f"{gpu_hours(summary.gpu_idle_seconds)} idle")
    return ", ".join(parts)
