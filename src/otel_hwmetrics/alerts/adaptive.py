# SPDX-License-Identifier: Apache-2.0
"""What is usual in this run, learned for the rules that ask for it, as a second reason to fire."""

from __future__ import annotations

import math

from otel_hwmetrics.alerts.baseline import Baseline
from otel_hwmetrics.alerts.conditions import Finding, Totals, Watcher
from otel_hwmetrics.alerts.rule import Adaptive, Rule
from otel_hwmetrics.alerts.subjects import Memory, Subject
from otel_hwmetrics.model import Snapshot

EVIDENCE = ("baseline", "deviation", "baseline_count")
"""What the finding of an adaptive rule tells beside its condition's evidence: what is usual, how far from it the value
is in its usual scatter, and how many values that was learned from."""

SMALLEST_SHARE = 0.02
"""Scatter that is always allowed for, as a share of what is usual and of the rule's threshold: a series that never moved,
or that was always 0, is not unusual at its first wiggle."""
SUSPECT = 3.0
"""Scales from which a value may be none of those that are usual, at least: who learned only what is near the middle would
find the scatter ever smaller."""


def watcher_of(rule: Rule, totals: Totals) -> Watcher:
    """Who looks for a rule: its condition's watcher and, if it is adaptive, somebody who learns what is usual."""
    watcher = rule.condition.watcher(totals)
    return watcher if rule.adaptive is None else _Learner(watcher, rule.adaptive, SMALLEST_SHARE * abs(rule.threshold))


class _Learner:
    """Tells of every finding how usual its value is."""

    def __init__(self, watcher: Watcher, adaptive: Adaptive, floor: float) -> None:
        self._watcher = watcher
        self._suspect = max(SUSPECT, adaptive.deviation / 2)
        self._baselines = Memory(
            lambda: Baseline(adaptive.window, adaptive.warm_up, floor=floor, floor_share=SMALLEST_SHARE)
        )

    def look(self, snapshot: Snapshot) -> dict[Subject, Finding]:
        findings = self._watcher.look(snapshot)
        return {subject: self._judged(subject, finding, snapshot.window.end) for subject, finding in findings.items()}

    def _judged(self, subject: Subject, finding: Finding, now: float) -> Finding:
        value = finding.value
        baseline = self._baselines.of(subject)
        if value is None or baseline is None:
            return finding
        usual = baseline.now()
        deviation = usual.deviation(value) if usual is not None else math.nan
        known = math.isfinite(deviation)  # without any scatter all else would be infinitely far out
        baseline.learn(now, value, suspect=known and abs(deviation) > self._suspect)
        if usual is None or not known:
            return finding
        told = dict(zip(EVIDENCE, (usual.location, deviation, usual.count), strict=True))
        return Finding(value, {**finding.evidence, **told}, deviation)
