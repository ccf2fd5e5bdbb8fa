# SPDX-License-Identifier: Apache-2.0
"""Which runs there are, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import tzinfo
from typing import Final

from otel_hwmetrics.display.report.endings import exit_word
from otel_hwmetrics.display.report.material import Material, gathered
from otel_hwmetrics.display.table import Column, Give, table
from otel_hwmetrics.display.words import duration, when
from otel_hwmetrics.recording import RecordingError, Run, RunFiles
from otel_hwmetrics.recording.nouns import DONE

COLUMNS: Final = (
    Column("Run"),
    Column("Name", give=Give.CUT),
    Column("Started"),
    Column("Took", right=True),
    Column("State"),
    Column("Jobs", right=True),
    Column("Not done", give=Give.WRAP, optional=True),
    Column("Host", give=Give.LEAVE, optional=True),
)
_MOST: Final = 3


def looked_at(files: RunFiles) -> Material | None:
    """What a run holds; None where it cannot be read."""
    try:
        with Run(files.paths) as run:
            return gathered(run)
    except RecordingError:
        return None


def lines(
    found: Sequence[tuple[RunFiles, Material | None]], width: int | None = None, zone: tzinfo | None = None
) -> list[str]:
    """Lines of the table, the runs as they come.

    Args:
        found: Runs, each with what it holds; None where it cannot be read.
        width: Columns that it may take; None for any number.
        zone: Of the times; local time by default.
    """
    if not found:
        return ["There are no recordings here."]
    return table(COLUMNS, [_row(files, material, zone) for files, material in found], width)


def _row(files: RunFiles, material: Material | None, zone: tzinfo | None) -> tuple[str | None, ...]:
    started = when(files.started_ns if material is None else material.started_ns, zone)
    if material is None:
        return (files.run, files.name, started, None, "unreadable", None, None, None)
    odd = [f"{job.name} ({exit_word(job)})" for job in material.jobs if job.state != DONE]
    more = [f"{len(odd) - _MOST} more"] if len(odd) > _MOST else []
    hosts = ", ".join(material.hosts[:_MOST]) + (" …" if len(material.hosts) > _MOST else "")
    return (
        files.run, files.name, started, duration(material.seconds), material.state, f"{len(material.jobs)}",
        ", ".join([*odd[:_MOST], *more]), hosts,
    )  # fmt: skip
