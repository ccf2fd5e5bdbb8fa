# SPDX-License-Identifier: Apache-2.0
"""What got worse between two runs and what got better, in words; nothing of what may be noise."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from otel_hwmetrics.display.compare.figures import Figure, Measured
from otel_hwmetrics.display.compare.noise import differ, differ_in_turn
from otel_hwmetrics.display.compare.rows import NEITHER, ROWS, Row, of_span
from otel_hwmetrics.display.words import counted, number, rounded, shown
from otel_hwmetrics.recording.nouns import DONE, FAILED, LOST, SKIPPED, Job, RecordedAlert

WORSE: Final = "worse"
BETTER: Final = "better"
SAME: Final = "same"
"""No change, or none that is more than noise."""
NOT_JUDGED: Final = "not judged"

_SAME_WORK: Final = 0.01
_CHANCE: Final = 3.0
_SHORT: Final = 10  # seconds
SPANS: Final = 8
"""Names of training spans that are compared, those that took the most time in either run."""
_NAMED: Final = 4  # of processes that failed
_BAD: Final = (FAILED, LOST, SKIPPED)
_RANK: Final = {"critical": 0, "warning": 1, "info": 2}


@dataclass(frozen=True)
class Compared:
    """One figure of both runs.

    Attributes:
        key: Which, ``span.NAME`` for a training span.
        row: What is known of such a figure.
        a: Of the first; None where it is not known.
        b: Of the second.
        change: By how much the second differs: a ratio of the first, of a share in points; None where one is missing.
        verdict: `WORSE`, `BETTER`, `SAME` or `NOT_JUDGED`.
    """

    key: str
    row: Row
    a: Figure | None
    b: Figure | None
    change: float | None
    verdict: str


@dataclass(frozen=True)
class Finding:
    """Something that got worse or better.

    Attributes:
        key: The figure's; ``alert.RULE``, ``job.NAME``.
        text: A sentence without its full stop.
        by: By how much, as a ratio, above 0; None for what has no measure: an alert, a job that failed.
        counts: Whether it is bad enough to fail for, whatever the measure.
    """

    key: str
    text: str
    by: float | None = None
    counts: bool = True


@dataclass(frozen=True)
class Comparison:
    """Two runs.

    Attributes:
        a: The first, the one from which it is seen.
        b: The second.
        figures: Each with its verdict.
        worse: In words, the worst first.
        better: Likewise.
        different: What they ran on and with that is not the same: what, in the first, in the second.
        notes: What is not judged, and why.
    """

    a: Measured
    b: Measured
    figures: Sequence[Compared]
    worse: Sequence[Finding]
    better: Sequence[Finding]
    different: Sequence[tuple[str, str | None, str | None]]
    notes: Sequence[str]

    def beyond(self, percent: float) -> list[Finding]:
        """What got worse by more than so many percent, or has no measure and is bad enough."""
        return [
            each for each in self.worse if (each.counts if each.by is None else rounded(100 * each.by, 1) > percent)
        ]


def compared(a: Measured, b: Measured) -> Comparison:
    """Compare two runs."""
    notes = list(_notes(a, b))
    figures = [*_figures(a, b, same_work=not notes)]
    findings = {verdict: [_finding(each) for each in _to_tell(figures, verdict)] for verdict in (WORSE, BETTER)}
    for verdict in (WORSE, BETTER):
        findings[verdict].sort(key=lambda each: -(each.by or 0))
    for verdict, finding in (*_of_jobs(a, b), *_of_alerts(a.alerts, b.alerts)):
        findings[verdict].append(finding)
    keys = dict.fromkeys([*a.machine, *b.machine])
    different = [
        (key, a.machine.get(key), b.machine.get(key)) for key in keys if a.machine.get(key) != b.machine.get(key)
    ]
    return Comparison(a, b, figures, findings[WORSE], findings[BETTER], different, notes)


def _notes(a: Measured, b: Measured) -> Iterator[str]:
    """Why what is of the whole run cannot be compared; nothing where it can."""
    rest = "what is of the whole run is not judged"
    unfinished = [name for name, run in (("A", a), ("B", b)) if not run.ended]
    epochs = [run.spans["epoch"].count if "epoch" in run.spans else None for run in (a, b)]
    if unfinished:
        yield f"{' and '.join(unfinished)} did not come to a good end: {rest}"
    elif a.steps is not None and b.steps is not None:
        if abs(a.steps - b.steps) > max(_SAME_WORK * max(a.steps, b.steps), a.unseen, b.unseen):
            yield f"A made {number(a.steps, 0)} steps, B {number(b.steps, 0)}: {rest}"
    elif None not in epochs and epochs[0] != epochs[1]:
        yield f"A made {counted(epochs[0] or 0, 'epoch')}, B {epochs[1]}: {rest}"
    elif None in epochs and a.machine.get("command") != b.machine.get("command"):
        yield f"A and B ran different commands, and how much work that was is not known: {rest}"


def _figures(a: Measured, b: Measured, *, same_work: bool) -> Iterator[Compared]:
    same_batch = all(_alike(a.figures.get(key), b.figures.get(key)) for key in ("step.samples", "step.tokens"))
    for key, row in ROWS.items():
        one, other = a.figures.get(key), b.figures.get(key)
        if one is not None or other is not None:
            fair = (same_work or not row.whole) and (same_batch or key not in ("step.time", "energy.step"))
            yield _compared(key, row, one, other, fair=fair)
    for name in _longest(a.spans, b.spans):
        one, other = a.spans.get(name), b.spans.get(name)
        row = of_span(name, alone=1 in [each.count for each in (one, other) if each is not None])
        yield _compared(f"span.{name}", row, one, other, fair=same_work or not row.whole)


def _longest(a: Mapping[str, Figure], b: Mapping[str, Figure]) -> list[str]:
    """The names of spans that took the most time, of both runs together: what one run has of them is there of the other, too."""
    took = {
        name: max(figure.value * (figure.count or 1) for run in (a, b) if (figure := run.get(name)) is not None)
        for name in [*a, *b]
    }
    return sorted(took, key=lambda name: -took[name])[:SPANS]


def _alike(one: Figure | None, other: Figure | None) -> bool:
    return one is None or other is None or abs(one.value - other.value) <= _SAME_WORK * max(one.value, other.value)


def _compared(key: str, row: Row, one: Figure | None, other: Figure | None, *, fair: bool) -> Compared:
    if one is None or other is None:
        return Compared(key, row, one, other, None, NOT_JUDGED)
    apart = other.value - one.value
    change = apart if row.share else apart / one.value if one.value else None
    if row.better == NEITHER or change is None or not fair:
        return Compared(key, row, one, other, change, NOT_JUDGED)
    told = differ(one.pieces, other.pieces)
    if told is False and one.count is not None:
        told = differ_in_turn(one.pieces, other.pieces)
    least = row.unsure if told is None else row.least
    if told is False or abs(change) < least:
        return Compared(key, row, one, other, change, SAME)
    return Compared(key, row, one, other, change, BETTER if (change > 0) == (row.better > 0) else WORSE)


def _to_tell(figures: Sequence[Compared], verdict: str) -> list[Compared]:
    """Those of a verdict; but a longer run only where no step and no repeated span says the same already."""
    found = [each for each in figures if each.verdict == verdict]
    fine = [each for each in found if each.row.unit == "s" and not each.row.whole]
    return [
        each for each in found if not (fine and each.row.whole and each.row.unit == "s" and each.key != "cpu.seconds")
    ]


def _finding(each: Compared) -> Finding:
    change = each.change or 0.0
    values = " -> ".join(value_of(figure, each.row.unit) for figure in (each.a, each.b))
    percent = f"{number(rounded(100 * abs(change), 1), 1)}%"
    text = (each.row.more if change > 0 else each.row.less).format(by=percent, values=values)
    return Finding(each.key, text, abs(change))


def value_of(figure: Figure | None, unit: str) -> str:
    """A figure as people read it; a short time so finely that a few percent of it are seen."""
    if figure is not None and unit == "s" and 1 <= figure.value < _SHORT:
        return f"{figure.value:.2f} s"
    return shown(None if figure is None else figure.value, unit)


def _of_jobs(a: Measured, b: Measured) -> Iterator[tuple[str, Finding]]:
    """Jobs of one name by their worst; where each run has one name alone, whatever it is called."""
    before, after = _by_name(a.jobs), _by_name(b.jobs)
    if len(before) == len(after) == 1:
        before = dict(zip(after, before.values(), strict=True))
    for name, jobs in after.items():
        found = _of_name(name, before.get(name, ()), jobs)
        if found is not None:
            yield found[0], Finding(f"job.{name}", found[1])


def _by_name(jobs: Sequence[Job]) -> dict[str, list[Job]]:
    found: dict[str, list[Job]] = {}
    for job in jobs:
        found.setdefault(job.name, []).append(job)
    return found


def _of_name(name: str, before: Sequence[Job], after: Sequence[Job]) -> tuple[str, str] | None:
    """What got worse or better of the jobs of a name, in words; None for nothing."""
    were, are = ([job for job in jobs if job.state in _BAD] for jobs in (before, after))
    if len(before) <= 1 and len(after) == 1:
        was = f"and was {before[0].state}" if before else "and A has no such job"
        if len(are) > len(were):
            code = f" (exit code {after[0].exit_code})" if after[0].exit_code else ""
            return WORSE, f"job {name} is {after[0].state}, {was}{code}"
        better = were and after[0].state == DONE
        return (BETTER, f"job {name} is {after[0].state}, {was}") if better else None
    if len(are) > len(were):
        which = "; ".join(_standing(job) for job in are[:_NAMED]) + ("; ..." if len(are) > _NAMED else "")
        said = f"{len(were)} of {len(before)}" if before else "A has no such job"
        return (
            WORSE,
            f"job {name} came to no good end in {len(are)} of {len(after)} processes ({which}), before: {said}",
        )
    if were and all(job.state == DONE for job in after):
        return BETTER, f"job {name} is done in {counted(len(after), 'process', 'processes')}, before it was not"
    return None


def _standing(job: Job) -> str:
    """One of several jobs of a name, and how it ended."""
    which = "" if job.rank is None else f"rank {job.rank} "
    code = f", exit code {job.exit_code}" if job.exit_code else ""
    return f"{which}{job.state}{f' on {job.host}' if job.host else ''}{code}"


def _of_alerts(a: Sequence[RecordedAlert], b: Sequence[RecordedAlert]) -> Iterator[tuple[str, Finding]]:
    """Alerts that only one of the runs had, or one of them clearly more often."""
    before, after = (Counter(alert.rule for alert in alerts) for alerts in (a, b))
    severity = {alert.rule: alert.severity for alert in (*a, *b)}
    rules = sorted(severity, key=lambda rule: (_RANK.get(severity[rule], len(_RANK)), rule))
    for rule in rules:
        counts = severity[rule] != "info"
        if not before[rule]:
            text = f"new alert: {rule}{_where(rule, b)}, {counted(after[rule], 'time')}"
            yield WORSE, Finding(f"alert.{rule}", text, counts=counts)
        elif not after[rule]:
            yield BETTER, Finding(f"alert.{rule}", f"no more: alert {rule}{_where(rule, a)}", counts=counts)
        elif abs(after[rule] - before[rule]) > _CHANCE * math.sqrt(after[rule] + before[rule]):
            text = f"alert {rule} fired {counted(after[rule], 'time')}, before {before[rule]}"
            yield (WORSE if after[rule] > before[rule] else BETTER), Finding(f"alert.{rule}", text, counts=counts)


def _where(rule: str, alerts: Sequence[RecordedAlert]) -> str:
    devices = sorted({alert.device for alert in alerts if alert.rule == rule and alert.device})
    return f" on {', '.join(devices)}" if devices else ""
