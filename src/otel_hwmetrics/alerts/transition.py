# SPDX-License-Identifier: Apache-2.0
"""One alert's step from one state to another, and how it is told to people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter

from otel_hwmetrics import redaction
from otel_hwmetrics.alerts.conditions import Finding
from otel_hwmetrics.alerts.rule import Rule, State, show, show_bytes, show_seconds
from otel_hwmetrics.alerts.subjects import Subject
from otel_hwmetrics.model import Attribute, Unit

TOLD = (State.FIRING, State.RESOLVED)
"""States whose entering people are told of."""

_NOTHING_WRONG = {State.INACTIVE: "does not hold", State.UNKNOWN: "cannot be judged: nothing is read"}
"""States of which a rule's own message would tell a fault that there is not."""


@dataclass(frozen=True)
class Transition:
    """One alert's step from one state to another.

    Attributes:
        rule: Which rule.
        subject: On what.
        before: The state left; the same as ``state`` where a firing alert can be read no more.
        state: The state entered.
        finding: What was found; None when the step is due to no reading.
        time_unix_nano: When, by the wall clock.
        duration: Entering firing: seconds of evidence that it holds. Entering resolved: seconds that it fired. Blind:
            seconds without a reading.
        peak: The worst value since it began to hold; None before that.
        superseded_by: The rule whose firing resolved this alert, which says the same better; empty for none.
    """

    rule: Rule
    subject: Subject
    before: State
    state: State
    finding: Finding | None
    time_unix_nano: int
    duration: float
    peak: float | None = None
    superseded_by: str = ""

    @property
    def value(self) -> float | None:
        """What was read, in the condition's unit; None when nothing was, or nothing that has a value."""
        return self.finding.value if self.finding is not None else None

    @property
    def blind(self) -> bool:
        """Whether it fires on, though nothing can be read of it any more."""
        return self.before is self.state

    @property
    def told(self) -> bool:
        """Whether people are told of it: it began to fire, was resolved, or fires blind."""
        return self.state in TOLD

    @property
    def message(self) -> str:
        """For people: what is the case, and while it fires what to do about it. Without secrets, whoever wrote the rule."""
        return redaction.text(self._message)

    @property
    def _message(self) -> str:
        rule = self.rule
        if self.state in _NOTHING_WRONG:
            return f"{self._subject}{rule.name} {_NOTHING_WRONG[self.state]}."
        if self.blind:
            told = f"{self._subject}no" if self._subject else "No"
            return f"{told} reading for {show_seconds(self.duration)}; {rule.name} fires on."
        if self.state is not State.RESOLVED:
            return f"{self._fill(rule.message)} {self._fill(rule.advice)}".rstrip()
        said = _words(rule.message)
        after = f"Resolved after {show_seconds(self.duration)}"
        if self.peak is not None and self.peak != rule.threshold and "value" in said:
            after += f", at worst {show(self.peak, rule.condition.unit)}"
        if self.superseded_by:
            return f"{after}: superseded by {self.superseded_by}."
        if self.value is None or "beyond" not in said or said & set(rule.condition.evidence):
            # What there was to say of it is no more the case.
            return f"{after}: {self._subject}{rule.name} is over."
        return f"{after}: {self._fill(rule.message)}"

    @property
    def _subject(self) -> str:
        return f"{self.subject.name}: " if self.subject.name else ""

    def _fill(self, text: str) -> str:
        rule, unit = self.rule, self.rule.condition.unit
        evidence = self.finding.evidence if self.finding is not None else {}
        words = {word: _shown(word, evidence) for word in rule.condition.evidence}
        return text.format(
            device=self.subject.name or "the host",
            value=show(self.value, unit),
            threshold=show(rule.threshold, unit),
            beyond=self._beyond(evidence),
            **words,
        )

    def _beyond(self, evidence: Mapping[str, Attribute]) -> str:
        """Beyond what it is, or was: its threshold or, of an adaptive rule, what is usual."""
        rule, over = self.rule, self.state is State.RESOLVED
        worst = self.peak if over else self.value
        if rule.adaptive is None or worst is None or rule.beyond(worst):
            return f"{'no longer ' if over else ''}{rule.side.value} {show(rule.threshold, rule.condition.unit)}"
        usual, deviation = (evidence.get(word) for word in ("baseline", "deviation"))
        if over or not isinstance(usual, int | float) or not isinstance(deviation, int | float):
            return f"{'no longer ' if over else ''}{rule.side.value} what is usual in this run"
        of_usual = f"{rule.side.value} the usual {show(usual, rule.condition.unit)}"
        return f"{of_usual} by {abs(deviation):.1f} times its scatter"


def _words(text: str) -> set[str]:
    """The fields of a message."""
    return {field for _, field, _, _ in Formatter().parse(text) if field}


def _shown(word: str, evidence: Mapping[str, Attribute]) -> str:
    """A word of the evidence for people; what it is of is in its last part."""
    value = evidence.get(word, "?")
    if not isinstance(value, int | float) or isinstance(value, bool):
        return str(value)
    if word.endswith("_seconds"):
        return show_seconds(value)
    if word.endswith("_bytes"):
        return show_bytes(value)
    if word.endswith("_share"):
        return show(value, Unit.RATIO)
    return f"{value:g}"
