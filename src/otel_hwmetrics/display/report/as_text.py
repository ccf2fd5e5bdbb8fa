# SPDX-License-Identifier: Apache-2.0
"""A report as text for people: what the run was, results by job, training spans, alerts, totals."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import tzinfo
from typing import Final

from otel_hwmetrics.display.report.alarms import Alarm, alarms, worst
from otel_hwmetrics.display.report.endings import exit_word, memory_peak, run_state
from otel_hwmetrics.display.report.material import ENDED, Material
from otel_hwmetrics.display.report.phases import Phase, phases
from otel_hwmetrics.display.report.slowest import Slowest, slowest, who, who_word
from otel_hwmetrics.display.report.totals import Prices, totals
from otel_hwmetrics.display.report.totals_text import totals_lines
from otel_hwmetrics.display.report.usage import remarks
from otel_hwmetrics.display.table import Column, Give, plain, table, text_columns, wrapped
from otel_hwmetrics.display.words import (
    clock,
    counted,
    duration,
    energy,
    number,
    offset,
    power,
    share,
    size,
    when,
)
from otel_hwmetrics.recording.nouns import PARENT, Job

MOST_SPANS: Final = 20
"""Training spans that are told of where not all are asked for."""
MOST_ALERTS: Final = 15
"""Rows of the table of alerts."""
_INDENT: Final = "  "
_DAY: Final = 86400

JOBS: Final = (
    Column("ID", right=True),
    Column("Job", give=Give.CUT),
    Column("Exit"),
    Column("Runtime", right=True),
    Column("CPU peak", right=True),
    Column("CPU avg", right=True),
    Column("Mem peak", right=True),
    Column("Mem avg", right=True),
    Column("Procs", right=True, optional=True),
    Column("Alerts", give=Give.LEAVE, optional=True),
)
GPUS: Final = (
    Column("ID", right=True),
    Column("Job", give=Give.CUT),
    Column("GPUs", right=True, optional=True),
    Column("Activity", right=True, optional=True),
    Column("p95", right=True, optional=True),
    Column("Mem peak", right=True, optional=True),
    Column("Power", right=True, optional=True),
    Column("Energy", right=True, optional=True),
    Column("Hottest", right=True, optional=True, give=Give.LEAVE),
    Column("Idle", right=True, optional=True, give=Give.LEAVE),
)
SPANS: Final = (
    Column("Span", give=Give.CUT),
    Column("Rank", give=Give.CUT, optional=True),
    Column("Took", right=True),
    Column("GPU", right=True, optional=True),
    Column("Energy", right=True, optional=True),
    Column("GPU mem", right=True, optional=True),
    Column("CPU time", right=True, optional=True),
    Column("Mem peak", right=True, optional=True, give=Give.LEAVE),
    Column("Stalled", optional=True, give=Give.LEAVE),
    Column("Data wait", right=True, optional=True, give=Give.LEAVE),
    Column("Alerts", optional=True, give=Give.WRAP),
)
ALARMS: Final = (
    Column("First"),
    Column("Severity"),
    Column("Alert"),
    Column("Host", give=Give.CUT, optional=True),
    Column("Rank", right=True, optional=True),
    Column("Device", give=Give.CUT, optional=True),
    Column("Times", right=True),
    Column("Fired for", right=True),
    Column("Span", give=Give.LEAVE, optional=True),
    Column("Message", give=Give.WRAP),
)


def report(
    material: Material,
    width: int | None = None,
    *,
    all_spans: bool = False,
    prices: Prices | None = None,
    zone: tzinfo | None = None,
) -> list[str]:
    """Lines of a report.

    Args:
        material: The run.
        width: Columns that it may take; None for any number.
        all_spans: Whether every training span is told of.
        prices: At which totals are also told as costs.
        zone: Of the times; local time by default.
    """
    prices = prices or Prices()
    parts = [
        head(material, width, zone),
        _jobs(material, width),
        _gpus(material.jobs, width),
        _spans(material, width, all_spans=all_spans),
        _alerts(material, width, zone),
        totals_lines(totals(material.jobs, prices), prices),
        [line for text in remarks(material.jobs) for line in _wrapped(plain(text), width)],
    ]
    lines: list[str] = []
    for part in parts:
        lines += [*([""] if lines and part else []), *part]
    return [fitting for line in lines for fitting in _fitting(line, width)]


def head(material: Material, width: int | None = None, zone: tzinfo | None = None) -> list[str]:
    """What the run was: name, id, when, where, by whom it was recorded."""
    until = f" to {when(material.ended_ns, zone)}" if material.state == ENDED else ""
    versions = dict.fromkeys(about.versions.get("otel-hwmetrics", "") for about in material.abouts)
    launchers = sum(about.role == PARENT for about in material.abouts)
    writers = [
        "otel-hwmetrics run" if launchers else "",
        counted(len(material.abouts) - launchers, "process", "processes") if len(material.abouts) > launchers else "",
    ]
    told = {
        "when": f"{when(material.started_ns, zone)}{until} ({duration(material.seconds)}); {run_state(material)}",
        "host": ", ".join(material.hosts),
        "recorded": f"by {' and '.join(filter(None, writers))}, a look every {number(material.interval)} s"
        + "".join(f", version {version}" for version in versions if version),
        "tags": ", ".join(f"{key}={value}" for key, value in material.tags.items()),
        "file": (material.paths[0] if material.paths else "")
        + (f" and {counted(len(material.paths) - 1, 'more file')}" if len(material.paths) > 1 else ""),
    }
    lines = [plain(f"Run {material.name} ({material.id})" if material.name != material.id else f"Run {material.id}")]
    for label, text in told.items():
        lines += _wrapped(plain(text), width, f"{_INDENT}{label:<9} ") if text else []
    return lines


def _jobs(material: Material, width: int | None) -> list[str]:
    if not material.jobs:
        return ["No job was recorded."]
    rows = [
        (
            f"{job.id}", job.name, exit_word(job), duration(job.runtime),
            _share(job, "cpu", 0), _share(job, "cpu", 1), size(memory_peak(job)), _size(job, "memory", 1),
            _number(job, "processes", 0), worst(alarms(material.alerts_of.get(job.id, ()))),
        )
        for job in material.jobs
    ]  # fmt: skip
    return ["Jobs", *table(JOBS, rows, width, indent=_INDENT)]


def _gpus(jobs: Sequence[Job], width: int | None) -> list[str]:
    seen = [job for job in jobs if _has_gpus(job)]
    if not seen:
        return []
    rows = []
    for job in seen:
        idle, there = job.summary.gpu_idle_seconds, job.summary.gpu_seconds
        rows.append(
            (
                f"{job.id}", job.name, _number(job, "gpus", 0), _share(job, "gpu_activity", 1), _share(job, "gpu_activity", 2),
                _size(job, "gpu_memory_most", 0), power(_stat(job, "gpu_power", 1)), energy(job.summary.energy),
                _hottest(job), share(idle / there) if idle is not None and there else None,
            )
        )  # fmt: skip
    return ["GPUs", *table(GPUS, rows, width, indent=_INDENT)]


def _has_gpus(job: Job) -> bool:
    """Whether there is anything to say of its GPUs: it has used one, or asked for one and used none."""
    peaks = [stat.peak for name, stat in job.summary.figures.items() if name.startswith("gpu")]
    return job.summary.energy is not None or any(peaks) or bool(peaks and job.request.gpus)


def _spans(material: Material, width: int | None, *, all_spans: bool) -> list[str]:
    found = phases(material.spans, material.alerts)
    if not found:
        return []
    ranks = len({who(phase) for phase in found})
    together = slowest(found) if ranks > 1 and not all_spans else [Slowest(phase) for phase in found]
    chosen = together if all_spans else _chosen(together)
    rows = [_span_row(each.phase, _rank_word(each, all_spans=all_spans) if ranks > 1 else "") for each in chosen]
    note = f" (of each that of the slowest of {ranks} ranks; --spans shows all)" if ranks > 1 and not all_spans else ""
    lines = [f"Training spans{note}", *table(SPANS, rows, width, indent=_INDENT)]
    if (more := len(together) - len(chosen)) > 0:
        lines.append(f"{_INDENT}and {counted(more, 'more span')}: --spans shows all")
    return lines


def _rank_word(each: Slowest, *, all_spans: bool) -> str:
    return who_word(each.phase) if all_spans else f"{who_word(each.phase)} of {each.of}"


def _chosen(found: Sequence[Slowest]) -> list[Slowest]:
    """The outermost levels that fit; of the level that does not, the first."""
    by_depth = sorted(range(len(found)), key=lambda place: (found[place].phase.depth, place))
    return [found[place] for place in sorted(by_depth[:MOST_SPANS])]


def _span_row(phase: Phase, rank: str) -> tuple[str | None, ...]:
    told = phase.figures
    stall = phase.stall
    activity = told.get("gpu.utilization", told.get("gpu.sm.activity"))
    return (
        f"{'  ' * phase.depth}{phase.label}",
        rank,
        duration(phase.seconds) if phase.seconds is not None else "no end",
        share(activity),
        energy(told.get("gpu.energy")),
        size(told.get("gpu.memory.peak")),
        duration(told.get("cpu.time")),
        size(told.get("memory.peak")),
        f"{stall[0]} {duration(stall[1])}" if stall else None,
        share(told.get("data.wait.share")),
        ", ".join(phase.alerts),
    )


def _alerts(material: Material, width: int | None, zone: tzinfo | None) -> list[str]:
    found = alarms(material.alerts)
    if not found:
        return []
    labels = {phase.span.span_id: phase.label for phase in phases(material.spans)}
    days = material.seconds > _DAY or (
        clock(material.started_ns, zone, day=True)[:5] != clock(material.heard_ns, zone, day=True)[:5]
    )
    hosts, ranks = {each.host for each in found}, {each.rank for each in found}
    where = len(hosts) > 1, len(ranks) > 1
    rows = [_alarm_row(each, labels, zone, days=days, where=where) for each in found[:MOST_ALERTS]]
    lines = [f"Alerts (times at {offset(found[0].first_ns, zone)})", *table(ALARMS, rows, width, indent=_INDENT)]
    if (more := len(found) - MOST_ALERTS) > 0:
        lines.append(f"{_INDENT}and {more} more, none of them more severe: --json has all")
    return lines


def _alarm_row(
    each: Alarm, labels: dict[str, str], zone: tzinfo | None, *, days: bool, where: tuple[bool, bool]
) -> tuple[str | None, ...]:
    host = each.host if where[0] else None
    rank = f"{each.rank}" if where[1] and each.rank is not None else None
    lasted = [duration(each.seconds)] if each.seconds else []
    return (
        clock(each.first_ns, zone, day=days), each.severity, each.rule, host, rank, each.device,
        f"{each.times}",
        ", ".join([*lasted, *(["no end"] if each.open_since_ns is not None else [])]),
        labels.get(each.span_id), each.message,
    )  # fmt: skip


def _stat(job: Job, figure: str, place: int) -> float | None:
    stat = job.summary.figures.get(figure)
    return None if stat is None else stat[place]


def _share(job: Job, figure: str, place: int) -> str:
    return share(_stat(job, figure, place))


def _size(job: Job, figure: str, place: int) -> str:
    return size(_stat(job, figure, place))


def _number(job: Job, figure: str, place: int) -> str:
    return number(_stat(job, figure, place), 1)


def _hottest(job: Job) -> str | None:
    peak = _stat(job, "gpu_temperature", 0)
    return None if peak is None else f"{peak:.0f} °C"


def _fitting(line: str, width: int | None) -> list[str]:
    """A line in lines that fit; tables do already."""
    if width is None or text_columns(line) <= width:
        return [line]
    text = line.lstrip()
    return _wrapped(text, width, " " * (len(line) - len(text)))


def _wrapped(text: str, width: int | None, label: str = "") -> list[str]:
    if width is None:
        return [f"{label}{text}"]
    parts = wrapped(text, max(8, width - len(label)))
    return [f"{' ' * len(label) if place else label}{part}" for place, part in enumerate(parts)]
