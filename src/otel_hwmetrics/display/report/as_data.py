# SPDX-License-Identifier: Apache-2.0
"""A report for programs: plain values in SI units, null for what is not known, by the schema in docs/reference/report.schema.json.

What is there keeps its name and its meaning for as long as `VERSION` stands; more may be added.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from otel_hwmetrics.display.report.advice import Advice
from otel_hwmetrics.display.report.alarms import alarms
from otel_hwmetrics.display.report.endings import memory_peak, starved
from otel_hwmetrics.display.report.formats import iso_duration
from otel_hwmetrics.display.report.material import Material
from otel_hwmetrics.display.report.phases import Phase, phases
from otel_hwmetrics.display.report.totals import Prices, totals
from otel_hwmetrics.display.report.usage import RESOURCES, Comparison, violations
from otel_hwmetrics.display.words import iso
from otel_hwmetrics.recording import RunFiles
from otel_hwmetrics.recording.nouns import FIGURES, Job, RecordedAlert

REPORT: Final = "otel_hwmetrics.report"
CHECK: Final = "otel_hwmetrics.check"
RUNS: Final = "otel_hwmetrics.runs"
VERSION: Final = 1

Data = dict[str, Any]


def reports(materials: Iterable[Material], prices: Prices | None = None) -> Data:
    """Runs, with everything that a report tells of them and more."""
    return {"schema": REPORT, "version": VERSION, "runs": [_run(each, prices or Prices()) for each in materials]}


def runs(found: Iterable[tuple[RunFiles, Material | None]]) -> Data:
    """A list of runs; of one that cannot be read what its name tells."""
    return {
        "schema": RUNS,
        "version": VERSION,
        "runs": [
            {
                "run_id": files.run,
                "name": files.name,
                "state": None if material is None else material.state,
                "started": iso(files.started_ns if material is None else material.started_ns),
                "ended": None if material is None else iso(material.ended_ns),
                "seconds": None if material is None else material.seconds,
                "jobs": None if material is None else len(material.jobs),
                "hosts": None if material is None else list(material.hosts),
                "files": list(files.paths),
            }
            for files, material in found
        ],
    }


def check(
    checked: Sequence[tuple[Material, Sequence[Comparison]]],
    advised: Iterable[Advice],
    *,
    everything: bool,
    prices: Prices | None = None,
) -> Data:
    """What was used against what was asked for.

    Args:
        checked: Runs, each with its comparisons.
        advised: What to ask for next time.
        everything: Whether also what is no violation is told of, as ``results``.
        prices: At which totals are also told as costs.
    """
    told = [(material, each) for material, found in checked for each in found]
    over = [_comparison(run, each) for run, each in told if each.violated]
    data: Data = {
        "schema": CHECK,
        "version": VERSION,
        "run_id": checked[0][0].id if len(checked) == 1 else None,
        "runs": [
            {"run_id": each.id, "name": each.name, "state": each.state, "started": iso(each.started_ns)}
            for each, _ in checked
        ],
        "total_results": sum(job.started_ns is not None for material, _ in checked for job in material.jobs),
        "over_utilization_count": len(over),
        "violations": over,
        "recommendations": [_advice(each) for each in advised],
        "totals": _totals([job for material, _ in checked for job in material.jobs], prices or Prices()),
    }
    return data | {"results": [_comparison(run, each) for run, each in told]} if everything else data


def _run(material: Material, prices: Prices) -> Data:
    return {
        "run_id": material.id,
        "name": material.name,
        "state": material.state,
        "started": iso(material.started_ns),
        "ended": iso(material.ended_ns),
        "last_heard": iso(material.heard_ns),
        "seconds": material.seconds,
        "hosts": list(material.hosts),
        "tags": dict(material.tags),
        "files": list(material.paths),
        "writers": [
            {
                "role": about.role,
                "host": about.host,
                "pid": about.pid,
                "rank": about.rank,
                "interval": about.interval,
                "granularity": about.granularity,
                "versions": dict(about.versions),
            }
            for about in material.abouts
        ],
        "jobs": [_job(job, material.alerts_of.get(job.id)) for job in material.jobs],
        "spans": [_span(each) for each in phases(material.spans, material.alerts)],
        "alerts": [_alert(each) for each in material.alerts],
        "totals": _totals(material.jobs, prices),
    }


def _totals(jobs: Iterable[Job], prices: Prices) -> Data:
    sums = totals(jobs, prices)
    return {
        "cpu_seconds": sums.cpu_seconds,
        "gpu_energy_joules": sums.energy,
        "gpu_seconds": sums.gpu_seconds,
        "gpu_idle_seconds": sums.gpu_idle_seconds,
        "energy_cost": sums.energy_cost,
        "gpu_cost": sums.gpu_cost,
        "gpu_idle_cost": sums.gpu_idle_cost,
    }


def _job(job: Job, alerts: Sequence[RecordedAlert] | None) -> Data:
    asked = job.request
    return {
        "job_id": job.id,
        "job_name": job.name,
        "command": job.command,
        "state": job.state,
        "exit_code": job.exit_code,
        "killed_for_memory": starved(job),
        "host": job.host,
        "rank": job.rank,
        "started": iso(job.started_ns),
        "ended": iso(job.ended_ns),
        "runtime_seconds": job.runtime,
        "tags": dict(job.tags),
        "requested": {
            "cpus": asked.cpus,
            "memory_bytes": asked.memory,
            "runtime_seconds": asked.runtime,
            "gpus": asked.gpus,
            "gpu_memory_bytes": asked.gpu_memory,
            "by": dict(asked.by),
        },
        "used": _used(job),
        "alerts": None if alerts is None else _alarms(alerts),
    }


def _used(job: Job) -> Data:
    summary = job.summary
    figures: Mapping[str, Any] = {
        name: None if (stat := summary.figures.get(name)) is None else dict(stat._asdict()) for name in FIGURES
    }
    return {
        **figures,
        "memory_peak_bytes": memory_peak(job),
        "max_rss_bytes": summary.max_rss,
        "cpu_seconds": summary.cpu_seconds,
        "gpu_energy_joules": summary.energy,
        "gpu_seconds": summary.gpu_seconds,
        "gpu_idle_seconds": summary.gpu_idle_seconds,
        "looks": summary.looks,
    }


def _alarms(alerts: Iterable[RecordedAlert]) -> list[Data]:
    return [
        {
            "rule": each.rule,
            "severity": each.severity,
            "device": each.device or None,
            "host": each.host or None,
            "rank": each.rank,
            "times": each.times,
            "seconds": each.seconds,
            "ended": each.open_since_ns is None,
            "first": iso(each.first_ns),
            "message": each.message,
        }
        for each in alarms(alerts)
    ]


def _span(phase: Phase) -> Data:
    span = phase.span
    return {
        "trace_id": span.trace_id,
        "span_id": span.span_id,
        "parent_id": span.parent_id or None,
        "host": span.host or None,
        "rank": span.rank,
        "name": span.name,
        "label": phase.label,
        "depth": phase.depth,
        "started": iso(span.started_ns),
        "ended": iso(span.ended_ns),
        "seconds": phase.seconds,
        "status": span.status,
        "summary": dict(phase.figures),
        "alerts": list(phase.alerts),
    }


def _alert(alert: RecordedAlert) -> Data:
    return {
        "at": iso(alert.at_ns),
        "rule": alert.rule,
        "state": alert.state,
        "severity": alert.severity,
        "device": alert.device or None,
        "host": alert.host or None,
        "rank": alert.rank,
        "message": alert.message,
        "span_id": alert.span_id or None,
    }


def _comparison(run: Material, each: Comparison) -> Data:
    specified, peak, p95, over = each.texts
    return {
        "run_id": run.id,
        "run_started": iso(run.started_ns),
        "job_id": each.job.id,
        "job_name": each.job.name,
        "resource_type": each.resource,
        "specified": specified,
        "peak_used": peak if each.peak is not None else None,
        "p95_used": p95 if each.p95 is not None else None,
        "over_utilization": over if each.peak is not None else None,
        "violation": each.violated,
        "unit": RESOURCES[each.resource],
        "specified_value": each.specified,
        "peak_used_value": each.peak,
        "p95_used_value": each.p95,
        "over_utilization_ratio": each.over,
        "tolerance_ratio": each.tolerance,
        "specified_by": each.by or None,
        "killed_for_memory": each.killed,
    }


def _advice(each: Advice) -> Data:
    return {
        "job_name": each.name,
        "jobs": each.runs,
        "cpus": each.cpus,
        "memory_bytes": each.memory,
        "runtime_seconds": each.runtime,
        "runtime": None if each.runtime is None else iso_duration(each.runtime),
        "gpus": each.gpus,
        "gpu_memory_bytes": each.gpu_memory,
        "caveat": each.unsure or None,
        "tasks": each.tasks,
        "nodes": each.nodes,
        "tasks_per_node": each.tasks_per_node,
        "node_memory_bytes": each.node_memory,
    }


def violated(checked: Iterable[tuple[Material, Sequence[Comparison]]]) -> bool:
    """Whether any job used more than it asked for."""
    return any(violations(found) for _, found in checked)
