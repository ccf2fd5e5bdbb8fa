# SPDX-License-Identifier: Apache-2.0
"""The state machine: unknown, inactive, pending, firing, resolved, for each rule and device.

Modelled on Prometheus' alerting rules
(https://prometheus.io/docs/prometheus/latest/configuration/alerting_rules/), with three answers to every question:
the condition holds, it does not, there is no reading. Without a reading a firing alert goes on firing (a GPU that
fell off the bus did not cool down), and the clock of a pending one stands still: "for 60 s" means 60 s of evidence, and
a sample that came without its GPU is none, against it neither. A gap longer than that starts it over.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from otel_hwmetrics.alerts.conditions import Rule, State, Subject
from otel_hwmetrics.catalog import gpu, own
from otel_hwmetrics.model import Attribute, Reading, Series, Snapshot, Unit, Window

JITTER = 0.05
"""Share of a sample's window, or of "for" where that is shorter, by which evidence may be short: samples come some
milliseconds early or late, and "for 5 s" at one a second means the sample 5 s on, not the sixth."""

_TOLD = (State.FIRING, State.RESOLVED)


@dataclass(frozen=True)
class Transition:
    """One alert's step from one state to another.

    Attributes:
        rule: Which rule.
        subject: On which device.
        before: The state left.
        state: The state entered.
        value: What was read, in the condition's unit; None when the step is due to no reading.
        time_unix_nano: When, by the wall clock.
        duration: Entering firing: seconds that the condition has held. Entering resolved: seconds that it fired.
    """

    rule: Rule
    subject: Subject
    before: State
    state: State
    value: float | None
    time_unix_nano: int
    duration: float

    @property
    def told(self) -> bool:
        """Whether people are told of it: it began to fire, or was resolved."""
        return self.state in _TOLD

    @property
    def message(self) -> str:
        """For people: what is the case, and while it fires what to do about it."""
        rule, resolved = self.rule, self.state is State.RESOLVED
        unit = rule.condition.unit
        threshold = _show(rule.threshold, unit)
        text = rule.message.format(
            device=self.subject.attributes.get(gpu.HW_NAME, self.subject.key),
            value=_show(self.value, unit),
            threshold=threshold,
            beyond=f"{'no longer ' if resolved else ''}{rule.side.value} {threshold}",
        )
        return f"Resolved after {self.duration:.0f} s: {text}" if resolved else f"{text} {rule.advice}".rstrip()


def _show(value: float | None, unit: Unit) -> str:
    if value is None:
        return "?"
    if unit is Unit.RATIO:
        return f"{value:.0%}"
    if unit is Unit.CELSIUS:
        return f"{value:.0f} °C"
    return f"{value:g} {unit.value}"


class _Instance:
    """One rule on one device."""

    __slots__ = ("_blind", "_seen", "_series", "rule", "since", "state", "subject")

    def __init__(self, rule: Rule, subject: Subject) -> None:
        self.rule = rule
        self.subject = subject
        self.state = State.UNKNOWN
        self.since = 0.0  # pending: now, less the evidence; firing: when it began
        self._seen = 0.0  # when it was read last
        self._blind = False  # whether that was not the last look
        common: dict[str, Attribute] = {
            own.ALERT_RULE: rule.name,
            own.ALERT_SEVERITY: rule.severity.value,
            **{key: subject.attributes[key] for key in (gpu.HW_ID, gpu.GPU_INDEX) if key in subject.attributes},
        }
        self._series = {
            state: Series(own.ALERT_ACTIVE, {**common, own.ALERT_STATE: state.value})
            for state in (State.PENDING, State.FIRING)
        }

    def next(self, value: float | None, window: Window) -> Iterator[State]:
        """The states that follow from a value, one after the other; none when nothing changes."""
        now = window.end
        if value is None:
            patient = self.state is State.PENDING and now - self._seen <= self.rule.for_seconds
            if not patient and self.state not in (State.FIRING, State.UNKNOWN):
                yield State.UNKNOWN
            self._blind = True
            return
        if self._blind and self.state is State.PENDING:
            self.since += now - self._seen
        self._seen, self._blind = now, False
        if self.state is State.FIRING:
            if self.rule.clears(value):
                yield State.RESOLVED
            return
        if not self.rule.holds(value):
            if self.state is not State.INACTIVE:
                yield State.INACTIVE
            return
        if self.state is not State.PENDING:
            yield State.PENDING
        enough = self.rule.for_seconds - JITTER * min(window.seconds, self.rule.for_seconds)
        if now - self.since >= enough:
            yield State.FIRING

    def active(self, at: float) -> Iterator[Reading]:
        if self.state is not State.UNKNOWN:
            for state, series in self._series.items():
                yield Reading(series, int(self.state is state), at)


class Engine:
    """Walks every rule over every snapshot. Used by one thread at a time; its only memory is the alerts' states."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._instances: dict[Rule, dict[str, _Instance]] = {rule: {} for rule in rules}
        self._entered = {(rule.name, state): 0 for rule in rules for state in _TOLD}
        self._counters = {
            (rule.name, state): Series(
                own.ALERT_TRANSITIONS,
                {
                    own.ALERT_RULE: rule.name,
                    own.ALERT_SEVERITY: rule.severity.value,
                    own.ALERT_STATE: state.value,
                },
            )
            for rule in rules
            for state in _TOLD
        }

    def evaluate(self, snapshot: Snapshot) -> list[Transition]:
        """Judge one snapshot; snapshots come in the order of their time.

        Returns:
            Every step that was made, pending and unknown ones too, rule by rule.
        """
        steps: list[Transition] = []
        for rule, instances in self._instances.items():
            values = rule.condition.values(snapshot)
            for subject in values:
                if subject.key not in instances:
                    instances[subject.key] = _Instance(rule, subject)
            for instance in instances.values():
                steps += self._walk(instance, values.get(instance.subject), snapshot)
        return steps

    def _walk(self, instance: _Instance, value: float | None, snapshot: Snapshot) -> Iterator[Transition]:
        now = snapshot.window.end
        for state in instance.next(value, snapshot.window):
            before, since = instance.state, instance.since
            instance.state = state
            if state in (State.PENDING, State.FIRING):
                instance.since = now
            if state in _TOLD:
                self._entered[instance.rule.name, state] += 1
            duration = now - since if state in _TOLD else 0.0
            yield Transition(instance.rule, instance.subject, before, state, value, snapshot.time_unix_nano, duration)

    def readings(self, at: float) -> Iterator[Reading]:
        """How every alert stands, as readings of ``hwmetrics.alert.*``."""
        for instances in self._instances.values():
            for instance in instances.values():
                yield from instance.active(at)
        for key, series in self._counters.items():
            yield Reading(series, self._entered[key], at)
