# SPDX-License-Identifier: Apache-2.0
"""A comparison for people, and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from otel_hwmetrics.display.compare.figures import Measured
from otel_hwmetrics.display.compare.judging import BETTER, WORSE, Compared, Comparison, Finding, value_of
from otel_hwmetrics.display.table import Column, Give, table
from otel_hwmetrics.display.words import change, counted, duration, iso, rounded, when

VERSION: Final = 1
"""Of the JSON; a greater one may leave out or change what is there now, the same one only adds."""
ALIKE: Final = "Nothing differs by more than the runs themselves vary."
ELSE_ALIKE: Final = (
    "B did not come to a good end, as A did. Nothing else differs by more than the runs themselves vary."
)


def as_text(comparison: Comparison, width: int | None = None) -> Iterator[str]:
    """The lines of a comparison.

    Args:
        comparison: What was found.
        width: Columns of the terminal; None for any number.
    """
    yield from table(
        (Column(""), Column("run", give=Give.CUT), Column("id"), Column("began"), Column("took", right=True)),
        [_heading("A", comparison.a), _heading("B", comparison.b)],
        width,
    )
    yield ""
    columns = (Column("", give=Give.CUT), *(Column(head, right=True) for head in ("A", "B", "change")), Column(""))
    yield from table(columns, [_row(each) for each in comparison.figures], width)
    for title, findings in (("Worse", comparison.worse), ("Better", comparison.better)):
        if findings:
            yield from ("", title)
            yield from (f"  {finding.text}" for finding in findings)
    if not comparison.worse and not comparison.better:
        yield from ("", ELSE_ALIKE if comparison.a.ended and not comparison.b.ended else ALIKE)
    if comparison.different:
        yield from ("", "Not the same")
        heads = (Column("", give=Give.WRAP), Column("A", give=Give.WRAP), Column("B", give=Give.WRAP))
        yield from table(heads, comparison.different, width, indent="  ")
    yield from (line for note in comparison.notes for line in ("", f"Note: {note}."))


def _heading(which: str, run: Measured) -> tuple[str, ...]:
    return (which, run.name, run.id, when(run.started_ns), duration(run.runtime))


def _row(each: Compared) -> tuple[str, ...]:
    counts = [figure.count for figure in (each.a, each.b) if figure is not None and figure.count is not None]
    several = (
        "" if not counts else f" ({counted(counts[0], 'time')}{f', {counts[-1]}' if len(set(counts)) > 1 else ''})"
    )
    if each.change is None:
        by = "-"
    elif each.row.share:
        points = rounded(100 * each.change, 1)
        by = f"{points:+.1f} points" if points else "0.0 points"
    else:
        by = change(each.change)
    verdict = each.verdict if each.verdict in (WORSE, BETTER) else ""
    return (
        f"{each.row.title}{several}",
        *(value_of(figure, each.row.unit) for figure in (each.a, each.b)),
        by,
        verdict,
    )


def as_data(comparison: Comparison, failing: float | None = None) -> dict[str, Any]:
    """The same for programs; null for what is not known. docs/how-to/exports.md says what is in it.

    Args:
        comparison: What was found.
        failing: The percent of ``--fail-on-worse``; None where it is not given.
    """
    return {
        "version": VERSION,
        "a": _run(comparison.a),
        "b": _run(comparison.b),
        "figures": [_figure(each) for each in comparison.figures],
        "worse": [_finding(each) for each in comparison.worse],
        "better": [_finding(each) for each in comparison.better],
        "different": [{"what": what, "a": a, "b": b} for what, a, b in comparison.different],
        "notes": list(comparison.notes),
        "failing": None if failing is None else [each.key for each in comparison.beyond(failing)],
    }


def _run(run: Measured) -> dict[str, Any]:
    return {
        "id": run.id,
        "name": run.name,
        "started": iso(run.started_ns),
        "runtime": run.runtime,
        "ended": run.ended,
        "steps": run.steps,
        "machine": dict(run.machine),
    }


def _figure(each: Compared) -> dict[str, Any]:
    return {
        "key": each.key,
        "title": each.row.title,
        "unit": each.row.unit,
        "a": None if each.a is None else each.a.value,
        "b": None if each.b is None else each.b.value,
        "pieces": [0 if figure is None else len(figure.pieces) for figure in (each.a, each.b)],
        "change": each.change,
        "share": each.row.share,
        "verdict": each.verdict,
    }


def _finding(each: Finding) -> dict[str, Any]:
    return {"key": each.key, "text": each.text, "by": each.by}
