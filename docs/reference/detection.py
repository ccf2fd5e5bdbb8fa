# SPDX-License-Identifier: Apache-2.0
"""The page that tells how soon alerts find faults, from what the simulation found out last (``make soak``)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from otel_hwmetrics.alerts.builtin import RULES
from otel_hwmetrics.alerts.rule import Rule, Severity
from words import anchor, prose, table

FIGURES: Final = Path(__file__).with_suffix(".json")
"""What was found out: `alerts.simulation.measure` among the tests writes it, and ``tests/alerts/test_soak.py`` holds it."""

MARK: Final = "<!-- Written by generate.py from detection.json, which `make soak` writes. -->"

ABOUT: Final = """\
How soon each [alert](alerts.md) finds what it is there for, and what the alerts make of machines on which nothing fails. \
Both are simulated, by [`tests/alerts/simulation`](../../tests/alerts/simulation): a training with its start, steps, slow \
batches, checkpoints, evaluations and epochs, on a machine that is looked at once a second, with what there is of noise, late \
samples and clocks that are set. All chance is seeded with `{seed}`, so that the figures are the same wherever they are made. \
`make soak` makes them anew; tests hold this page against them."""

ABOUT_HEALTHY: Final = """\
How many alerts began to fire, by severity. Nothing above info should: {healthy}"""

ABOUT_FAULTS: Final = """\
Each fault begins {minutes:.0f} min into a training on eight GPUs, right after a sample, so that the figures hold the time \
until the next one; what a source reads seldom is found as much later. All figures are seconds. *For* is how long the rule's \
condition must hold, *resolved* how long after the fault's end the alert was: a dash where only a repair ends the fault. *Also* \
is what else fired because of it, with the seconds after which it did, and on how many devices if on several."""


def detection() -> str:
    """The page of detection."""
    figures: dict[str, Any] = json.loads(FIGURES.read_text(encoding="utf-8"))
    runs = figures["healthy"].values()
    faults = ("rule", "severity", "what fails", "for", "found after", "resolved", "also")
    healthy = ("nothing fails, with", "snapshots", "hours", *(severity.value for severity in Severity), "which")
    blocks = [
        MARK,
        "# Detection",
        ABOUT.format(seed=figures["seed"]),
        "## Nothing fails",
        ABOUT_HEALTHY.format(healthy=_summary(next(iter(runs)))),
        table(healthy, *(_of_run(run) for run in runs)),
        "## Something fails",
        ABOUT_FAULTS.format(minutes=figures["injected_at"] / 60),
        table(faults, *(row for rule in RULES for row in _of_rule(rule, figures["faults"]))),
    ]
    return "\n\n".join(blocks) + "\n"


def _summary(run: Mapping[str, Any]) -> str:
    """The first and longest run in a sentence."""
    counts = ", ".join(f"{_count(run, severity)} of {severity.value}" for severity in Severity)
    return f"in the {run['snapshots']:,} snapshots of {run['hours']:g} h of the first run {counts}."


def _count(run: Mapping[str, Any], severity: Severity) -> int:
    return sum(run["fired"].get(severity.value, {}).values())


def _of_run(run: Mapping[str, Any]) -> tuple[str, ...]:
    """A healthy run: its title, its length, how many alerts fired, and which."""
    which = {name: count for rules in run["fired"].values() for name, count in rules.items()}
    return (
        prose(run["title"]),
        f"{run['snapshots']:,}",
        f"{run['hours']:g}",
        *(str(_count(run, severity)) for severity in Severity),
        ", ".join(f"{_link(name)} {count}" for name, count in which.items()),
    )


def _of_rule(rule: Rule, faults: list[dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    """A row for each fault that a rule is to find."""
    for fault in faults:
        found = fault["rules"].get(rule.name)
        if found is not None:
            yield (
                _link(rule.name),
                rule.severity.value,
                prose(fault["title"]),
                f"{rule.for_seconds:g}",
                _seconds(found["delay"]) + _in_time(fault, found["delay"]),
                _seconds(found["resolved"]),
                ", ".join(_also(fault, rule.name)),
            )


def _also(fault: Mapping[str, Any], but: str) -> Iterator[str]:
    """What else fired because of a fault, the others that are to find it first."""
    others = {name: {**told, "devices": 1} for name, told in fault["rules"].items() if name != but}
    for name, told in {**others, **fault["also"]}.items():
        devices = f" on {told['devices']}" if told["devices"] > 1 else ""
        yield f"{_link(name)} {_seconds(told['delay'])}{devices}"


def _in_time(fault: Mapping[str, Any], delay: float | None) -> str:
    """How long before something is full that is told, of a fault that fills something up."""
    full = fault.get("full")
    return "" if full is None or delay is None else f", {full - delay:.0f} before it is full"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _link(rule: str) -> str:
    return f"[{rule}](alerts.md#{anchor(rule)})"
