# SPDX-License-Identifier: Apache-2.0
"""The alerts' own metrics: which are active, how often they began and ended, how long they fired."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from otel_hwmetrics.alerts.instance import Instance
from otel_hwmetrics.alerts.rule import Rule, State
from otel_hwmetrics.alerts.transition import TOLD, Transition
from otel_hwmetrics.catalog import own
from otel_hwmetrics.model import Attribute, Reading, Series

_SHOWN = (State.PENDING, State.FIRING)


class Tally:
    """Keeps count for an engine.

    A rule's counters are told from the moment when one of its alerts is pending for the first time: at 0, so that a backend
    sees the first growth, and not before, or most of what is exported would be zeros of rules that nothing comes of.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._of_rule: dict[str, dict[str, Attribute]] = {
            rule.name: {own.ALERT_RULE: rule.name, own.ALERT_SEVERITY: rule.severity.value} for rule in rules
        }
        self._transitions = {
            (rule.name, state): Series(
                own.ALERT_TRANSITIONS, {**self._of_rule[rule.name], own.ALERT_STATE: state.value}
            )
            for rule in rules
            for state in TOLD
        }
        self._times = {rule.name: Series(own.ALERT_TIME, self._of_rule[rule.name]) for rule in rules}
        self._counts: dict[Series, float] = {}
        self._active: dict[Instance, tuple[tuple[State, Series], ...]] = {}

    def made(self, transition: Transition) -> None:
        """A step was made."""
        name = transition.rule.name
        if transition.state is State.PENDING and self._times[name] not in self._counts:
            self._counts |= {self._transitions[name, state]: 0 for state in TOLD} | {self._times[name]: 0.0}
        if transition.told and not transition.blind:
            self._counts[self._transitions[name, transition.state]] += 1

    def lasted(self, rule: Rule, seconds: float) -> None:
        """One of its alerts has fired for so long."""
        self._counts[self._times[rule.name]] += seconds

    def counted(self, at: float) -> Iterator[Reading]:
        """The counters."""
        for series, count in self._counts.items():
            yield Reading(series, count, at)

    def standing(self, instance: Instance, at: float) -> Iterator[Reading]:
        """Whether an alert is pending or fires; nothing of one that never was, or of which nothing is known."""
        if not instance.met or instance.state is State.UNKNOWN:
            return
        if instance not in self._active:
            attributes = self._of_rule[instance.rule.name] | _identity(instance)
            self._active[instance] = tuple(
                (state, Series(own.ALERT_ACTIVE, {**attributes, own.ALERT_STATE: state.value})) for state in _SHOWN
            )
        for state, series in self._active[instance]:
            yield Reading(series, int(instance.state is state), at)


def _identity(instance: Instance) -> dict[str, Attribute]:
    return {key: value for key, value in instance.subject.attributes.items() if key in own.ALERT_SUBJECT}
