# SPDX-License-Identifier: Apache-2.0
"""Judging snapshots: every rule on every subject, one snapshot after the other.

Time and data are arguments, and the only memory is that of the alerts and of the conditions' watchers; so a rule is
tested by a story, series in and transitions out. The state machine itself is in `otel_hwmetrics.alerts.instance`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from otel_hwmetrics._guard import guard
from otel_hwmetrics.alerts.adaptive import watcher_of
from otel_hwmetrics.alerts.conditions import Finding, Totals, Watcher
from otel_hwmetrics.alerts.instance import Instance, Moment
from otel_hwmetrics.alerts.judged import judged_by
from otel_hwmetrics.alerts.rule import Rule, State
from otel_hwmetrics.alerts.subjects import HOST, MOST_SUBJECTS, Subject
from otel_hwmetrics.alerts.tally import Tally
from otel_hwmetrics.alerts.transition import Transition
from otel_hwmetrics.catalog import training
from otel_hwmetrics.model import Attribute, Reading, Snapshot

STOPPED = 5.0
"""How many times as long as those before it a window is in which the job was stopped or the machine slept."""
WINDOWS = 8
"""So many before it: on demand the machine is looked at several times at once, and then not for a minute."""
LONGEST_PHASE = 3600.0
"""Seconds for which a phase silences rules: what goes on for longer may hang in it."""

_NO_TOTALS: Totals = MappingProxyType({})


class _Seat:
    """A rule at work: who looks for it, and how it stands on each subject."""

    __slots__ = ("instances", "judging", "metrics", "rule", "watcher")

    def __init__(self, rule: Rule, watcher: Watcher) -> None:
        self.rule = rule
        self.watcher = watcher
        self.instances: dict[str, Instance] = {}
        self.metrics = frozenset(metric.name for metric in judged_by(rule))
        self.judging = guard(f"judging the rule {rule.name}")  # a fault in one takes nothing from the others

    def fires_on(self, subject: Subject) -> bool:
        """Whether it fires on this subject, on a part of it, or on what it is a part of: a device, and always the host."""
        wholes = (subject.key, subject.whole, HOST.key)
        return any(
            instance.state is State.FIRING
            and (instance.subject.key in wholes or (subject.key != HOST.key and instance.subject.whole == subject.key))
            for instance in self.instances.values()
        )


class Engine:
    """Walks every rule over every snapshot. Used by one thread at a time.

    Args:
        rules: In the order in which they are told of, but that a rule comes after those that silence it.
        totals: Where counters stand before the first snapshot, if not at 0.

    Raises:
        ValueError: Rules silence each other in a circle, or two have one name.
    """

    def __init__(self, rules: Sequence[Rule], totals: Totals = _NO_TOTALS) -> None:
        self._seats = {rule.name: _Seat(rule, watcher_of(rule, totals)) for rule in in_order(rules)}
        self._tally = Tally(rules)
        self._windows: deque[float] = deque([math.inf] * WINDOWS, WINDOWS)  # of the last snapshots, in seconds
        self._phases: dict[Attribute, float] = {}  # since when each is on
        self.passed_over = 0
        """How often a subject was not judged, since its rule had enough of them."""

    def evaluate(self, snapshot: Snapshot) -> list[Transition]:
        """Judge one snapshot; snapshots come in the order of their time.

        Returns:
            Every step that was made, pending and unknown ones too, rule by rule.
        """
        now, window = snapshot.window.end, snapshot.window.seconds
        phases = self._silencing(snapshot, now)
        stopped = window > STOPPED * max(self._windows)
        self._windows.append(window)
        aloud = Moment(now, window, stopped)
        silenced = aloud._replace(silent=True)
        steps: list[Transition] = []
        for seat in self._seats.values():
            with seat.judging:
                self._judge(seat, snapshot, aloud if phases.isdisjoint(seat.rule.silent_in) else silenced, steps)
        return steps

    def _judge(self, seat: _Seat, snapshot: Snapshot, moment: Moment, steps: list[Transition]) -> None:
        """One rule on all of its subjects; the steps are added to those that there are."""
        findings = seat.watcher.look(snapshot)
        if not findings and not seat.instances:  # no such device here: most rules, on most machines
            return
        self._meet(seat, findings, moment.now)
        if snapshot.kept and not snapshot.kept.keys().isdisjoint(seat.metrics):
            moment = moment._replace(read=min(at for name, at in snapshot.kept.items() if name in seat.metrics))
        for instance in seat.instances.values():
            finding = findings.get(instance.subject)
            if instance.rests(finding):
                continue
            if instance.state is State.FIRING:
                self._tally.lasted(seat.rule, moment.window)
            inhibited = moment._replace(inhibitor=self._inhibitor(instance))
            steps += self._walk(instance, finding, inhibited, snapshot.time_unix_nano)

    def _silencing(self, snapshot: Snapshot, now: float) -> frozenset[Attribute]:
        """The phases that the training is in, but for those that last too long."""
        on = {reading.attributes[training.PHASE_NAME] for reading in snapshot.of(training.PHASE) if reading.value}
        self._phases = {phase: self._phases.get(phase, now) for phase in on}
        return frozenset(phase for phase, since in self._phases.items() if now - since < LONGEST_PHASE)

    def _meet(self, seat: _Seat, findings: Mapping[Subject, Finding], now: float) -> None:
        for subject in findings:
            if subject.key not in seat.instances:
                if len(seat.instances) >= MOST_SUBJECTS:
                    self.passed_over += 1
                else:
                    seat.instances[subject.key] = Instance(seat.rule, subject, now)

    def _inhibitor(self, instance: Instance) -> str:
        names = instance.rule.inhibited_by
        return (
            next((name for name in names if name in self._seats and self._fires(name, instance)), "") if names else ""
        )

    def _fires(self, name: str, instance: Instance) -> bool:
        return self._seats[name].fires_on(instance.subject)

    def _walk(
        self, instance: Instance, finding: Finding | None, moment: Moment, time_unix_nano: int
    ) -> Iterator[Transition]:
        before = instance.state
        for step in instance.steps(finding, moment):
            transition = Transition(
                instance.rule,
                instance.subject,
                before,
                step.state,
                finding,
                time_unix_nano,
                step.duration,
                instance.peak,
                step.superseded_by,
            )
            self._tally.made(transition)
            yield transition
            before = step.state

    def readings(self, at: float) -> Iterator[Reading]:
        """How every alert stands, as readings of ``hwmetrics.alert.*``."""
        for seat in self._seats.values():
            for instance in seat.instances.values():
                yield from self._tally.standing(instance, at)
        yield from self._tally.counted(at)

    def judged(self, rule: str) -> bool:
        """Whether a rule, by its name, ever found something to judge."""
        return rule in self._seats and bool(self._seats[rule].instances)

    @property
    def firing(self) -> list[Instance]:
        """The alerts that fire now, the worst first."""
        every = [
            each for seat in self._seats.values() for each in seat.instances.values() if each.state is State.FIRING
        ]
        return sorted(every, key=lambda instance: -instance.rule.severity.rank)


def in_order(rules: Iterable[Rule]) -> list[Rule]:
    """The rules, each after those that silence it; else as they come.

    Raises:
        ValueError: They silence each other in a circle, or two have one name.
    """
    waiting = {rule.name: rule for rule in rules}
    if len(waiting) != len(list(rules)):
        raise ValueError("two rules have one name")
    ordered: list[Rule] = []
    while waiting:
        free = [rule for rule in waiting.values() if not set(rule.inhibited_by) & set(waiting)]
        if not free:
            raise ValueError(f"these rules silence each other: {', '.join(waiting)}")
        ordered += free
        for rule in free:
            del waiting[rule.name]
    return ordered
