# SPDX-License-Identifier: Apache-2.0
"""Recordings of whatever a test wants to have read, written by the real writer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from struct import pack

from otel_hwmetrics.model import Series
from otel_hwmetrics.recording import Writer
from otel_hwmetrics.recording.nouns import About, Job, JobSample, RecordedAlert, RecordedSpan, Totals
from recorded import SECOND, START, about

Look = tuple[int, Mapping[Series, float]]


def write(
    path: Path,
    looks: Sequence[Look] = (),
    *,
    who: About | None = None,
    spans: Sequence[RecordedSpan] = (),
    alerts: Sequence[RecordedAlert] = (),
    jobs: Sequence[tuple[Job, Sequence[JobSample]]] = (),
    detail: float = 86400.0,
) -> Path:
    """Write a recording.

    Args:
        path: The file.
        looks: When, and what was read.
        who: Its writer.
        spans: Training spans.
        alerts: Alerts.
        jobs: Jobs with the looks at them.
        detail: Seconds for which every look is kept.
    """
    who = who or about()
    writer = Writer(str(path), who, detail=detail)
    for job, samples in jobs:
        writer.job(job)
        for sample in samples:
            writer.sample(job.id, sample, Totals())
    for at_ns, values in looks:
        writer.look(at_ns, tuple(values), pack(f"{len(values)}d", *values.values()))
        if at_ns // SECOND % 60 == 0:
            writer.commit(at_ns)
    for span in spans:
        writer.span(span)
    for alert in alerts:
        writer.alert(alert)
    writer.close(max((at_ns for at_ns, _ in looks), default=START + 60 * SECOND))
    return path


def process(rank: int, **changes: object) -> About:
    """Who writes, one process of several."""
    return replace(about(), rank=rank, world_size=2, pid=4000 + rank, **changes)  # type: ignore[arg-type] # of a test's choosing
