# SPDX-License-Identifier: Apache-2.0
"""The utilisation check as text for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from otel_hwmetrics.display.report.advice import Advice
from otel_hwmetrics.display.report.formats import in_words
from otel_hwmetrics.display.report.material import Material
from otel_hwmetrics.display.report.totals import Prices, totals
from otel_hwmetrics.display.report.totals_text import totals_lines
from otel_hwmetrics.display.report.usage import Comparison, remarks, without_request
from otel_hwmetrics.display.table import Column, Give, plain, table, wrapped
from otel_hwmetrics.display.words import counted, when

COLUMNS: Final = (
    Column("Run", optional=True),
    Column("Job ID", right=True),
    Column("Job Name", give=Give.CUT),
    Column("Resource"),
    Column("Specified", right=True),
    Column("Peak Used", right=True),
    Column("Over-Utilization", right=True),
    Column("P95", right=True, give=Give.LEAVE, optional=True),
    Column("Asked By", give=Give.LEAVE, optional=True),
)
NOTED: Final = ("slurm", "cgroup", "kubernetes")
"""Who may ask without the user's knowing."""
_INDENT: Final = "  "


def check(
    checked: Sequence[tuple[Material, Sequence[Comparison]]],
    advised: Sequence[Advice],
    width: int | None = None,
    *,
    everything: bool = False,
    prices: Prices | None = None,
) -> list[str]:
    """Lines of a check.

    Args:
        checked: Runs, each with its comparisons.
        advised: What to ask for next time; told in a line for each.
        width: Columns that it may take; None for any number.
        everything: Whether also what is no violation is told of.
        prices: At which totals are also told as costs.
    """
    several = len(checked) > 1
    names = _names([material for material, _ in checked]) if several else [""] * len(checked)
    found = [(name, each) for name, (_, compared) in zip(names, checked, strict=True) for each in compared]
    over = sum(each.violated for _, each in found)
    lines = _wrapped(_verdict(checked, over, len(found)), width)
    shown = found if everything else [(name, each) for name, each in found if each.violated]
    if shown:
        lines += ["", *table(COLUMNS, [_row(name, each) for name, each in shown], width)]
    notes = [text for name, (material, _) in zip(names, checked, strict=True) for text in remarks(material.jobs, name)]
    bare = [job for material, _ in checked for job in without_request(material.jobs)]
    if bare and found:
        who = ", ".join(dict.fromkeys(f"{job.name}" for job in bare))
        notes.append(f"Nothing is known of what was asked for by {who}.")
    if found and not everything and over < len(found):
        notes.append("--all shows all comparisons, those within what was asked for included.")
    lines += [line for text in notes for line in ("", *_wrapped(plain(text), width))]
    told = [each for each in advised if in_words(each)]
    if told:
        lines += ["", "Next time ask for (--recommend yaml, sbatch or kubernetes prints it)"]
        for each in told:
            unsure = f" ({each.unsure})" if each.unsure else ""
            lines += _wrapped(f"{plain(each.name)}: {in_words(each)}{unsure}", width, _INDENT)
    prices = prices or Prices()
    sums = totals((job for material, _ in checked for job in material.jobs), prices)
    if sums.energy is not None or sums.gpu_seconds is not None:
        lines += ["", *(part for line in totals_lines(sums, prices) for part in _indented(line, width))]
    return lines


def _names(materials: Sequence[Material]) -> list[str]:
    """The runs' ids; with when it began where several have one id, as those that torchrun has named by its address."""
    ids = [material.id for material in materials]
    return [each.id if ids.count(each.id) == 1 else f"{each.id} of {when(each.started_ns)}" for each in materials]


def _indented(line: str, width: int | None) -> list[str]:
    text = line.lstrip()
    return _wrapped(text, width, " " * (len(line) - len(text)))


def _verdict(checked: Sequence[tuple[Material, Sequence[Comparison]]], over: int, compared: int) -> str:
    if not any(job.started_ns is not None for material, _ in checked for job in material.jobs):
        return "Nothing to check: no job has begun."
    if not compared:
        return (
            "Nothing to check: no job says what it asked for. `otel-hwmetrics run --memory 8g --cpus 4 --runtime PT2H -- COMMAND` "
            "says it, as do SLURM, Kubernetes and a cgroup's limits."
        )
    if not over:
        return f"No job used more than it asked for ({counted(compared, 'comparison')})."
    return f"Found {counted(over, 'resource over-utilization violation')}:"


def _row(name: str, each: Comparison) -> tuple[str | None, ...]:
    specified, peak, p95, over = each.texts
    over = f"{over} (killed)" if each.killed else over
    return (
        name or None, f"{each.job.id}", each.job.name, each.resource, specified, peak, over, p95,
        each.by if each.by in NOTED else "",
    )  # fmt: skip


def _wrapped(text: str, width: int | None, label: str = "") -> list[str]:
    if width is None:
        return [f"{label}{text}"]
    parts = wrapped(text, max(8, width - len(label)))
    return [f"{' ' * len(label)}{part}" for part in parts]
