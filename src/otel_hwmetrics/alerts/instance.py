# SPDX-License-Identifier: Apache-2.0
"""The state machine of one rule on one subject: unknown, inactive, pending, firing, resolved.

Modelled on Prometheus' alerting rules
(https://prometheus.io/docs/prometheus/latest/configuration/alerting_rules/), with three answers to every question:
the condition holds, it does not, there is no reading. Without a reading a firing alert goes on firing (a GPU that
fell off the bus did not cool down), and the clock of a pending one stands still: "for 60 s" means 60 s of evidence, and
a sample that came without its GPU is none, against it neither. A gap longer than that starts it over. The clock that
says for how long it has been over stands still likewise; and both do over a time in which nobody looked, since the
machine slept or the job was stopped.

What is told again, of a source that is read less often than samples are taken, is no evidence either: a spike of one
second that is told for eight did not last for five. The clocks run, but only what was read since makes it fire, or be over.

What is found while a rule is silenced, or of a subject that is new, is no evidence that it holds; that it does not
hold is seen at any time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from otel_hwmetrics.alerts.conditions import Finding
from otel_hwmetrics.alerts.rule import Rule, State
from otel_hwmetrics.alerts.subjects import Subject

JITTER = 0.05
"""Share of a sample's window, or of "for" where that is shorter, by which evidence may be short: samples come some
milliseconds early or late, and "for 5 s" at one a second means the sample 5 s on, not the sixth."""
BLIND_AFTER = 10.0
"""Seconds without a reading after which a firing alert says that it fires blind; fewer are a source that was late."""


class Moment(NamedTuple):
    """What an instance is to know of a look.

    Attributes:
        now: When, in seconds of the monotonic clock.
        window: Seconds since the look before.
        stopped: Whether that is far longer than usual: nobody can say what was in between.
        silent: Whether it is silenced by a phase of the training.
        inhibitor: The rule that silences it; empty for none.
        read: When the oldest of that was read which it is judged by, where sources are read less often than looked for.
    """

    now: float
    window: float
    stopped: bool = False
    silent: bool = False
    inhibitor: str = ""
    read: float = math.inf


class Step(NamedTuple):
    """One step of an instance.

    Attributes:
        state: The state entered.
        duration: As in `Transition`.
        superseded_by: As in `Transition`.
    """

    state: State
    duration: float = 0.0
    superseded_by: str = ""


class Instance:
    """One rule on one subject.

    Attributes:
        rule: The rule.
        subject: What it is about.
        state: Where it stands.
        peak: The worst value since it last began to hold.
        met: Whether it was ever pending: before that there is nothing to show of it.
    """

    __slots__ = (
        "_blind_told",
        "_born",
        "_clear_since",
        "_cool_until",
        "_counted",
        "_seen",
        "_since",
        "_unread",
        "looks",
        "met",
        "peak",
        "rule",
        "state",
        "subject",
    )

    def __init__(self, rule: Rule, subject: Subject, now: float) -> None:
        self.rule = rule
        self.subject = subject
        self.state = State.UNKNOWN
        self.peak: float | None = None
        self.met = False
        self.looks = 0  # that found it to hold, since it is pending
        self._born = now
        self._since = 0.0  # pending: now, less the evidence; firing: when it began
        self._seen = now  # when there was evidence last
        self._counted = -math.inf  # when a look counted last: what was read by then counts no more
        self._unread = False  # whether the last look gave none
        self._blind_told = False
        self._clear_since: float | None = None
        self._cool_until = now

    def rests(self, finding: Finding | None) -> bool:
        """Whether there is no step to be made: it is inactive, and stays so. The usual case, of hundreds each second."""
        return self.state is State.INACTIVE and finding is not None and not self.rule.holds(finding)

    def steps(self, finding: Finding | None, moment: Moment) -> Iterator[Step]:
        """The steps that follow from what was found, in their order; each is made when the next one is asked for."""
        holds = finding is not None and self.rule.holds(finding)
        muted = moment.silent or moment.inhibitor or moment.now - self._born < self.rule.warm_up_seconds
        if self.state is State.FIRING:
            yield from self._while_firing(finding, moment)
        elif finding is None or (holds and muted):
            yield from self._without_evidence(moment.now, State.UNKNOWN if finding is None else State.INACTIVE)
        elif holds:
            yield from self._while_it_holds(finding, moment)
        elif self.state is not State.INACTIVE:
            yield self._enter(State.INACTIVE)

    def _enter(self, state: State, duration: float = 0.0, superseded_by: str = "") -> Step:
        self.state = state
        return Step(state, duration, superseded_by)

    def _without_evidence(self, now: float, state: State) -> Iterator[Step]:
        patient = self.state is State.PENDING and now - self._seen <= self.rule.for_seconds
        self._unread = True
        if not patient and self.state is not state:
            yield self._enter(state)

    def _while_it_holds(self, finding: Finding, moment: Moment) -> Iterator[Step]:
        now, rule = moment.now, self.rule
        if self.state is not State.PENDING:
            self._since, self.looks, self.peak, self.met = now, 0, None, True
            yield self._enter(State.PENDING)
        else:
            self._since += self._unseen(moment)
        self._seen, self._unread = now, False
        self.peak = rule.worse(self.peak, finding.value)
        if self.looks and not self._counts(moment):
            return
        self.looks, self._counted = self.looks + 1, now
        lasted = _lasted(now - self._since, rule.for_seconds, moment)
        if lasted and self.looks >= rule.samples and now >= self._cool_until:
            evidence, self._since = now - self._since, now
            self._clear_since, self._blind_told = None, False
            yield self._enter(State.FIRING, evidence)

    def _while_firing(self, finding: Finding | None, moment: Moment) -> Iterator[Step]:
        now, rule = moment.now, self.rule
        if moment.inhibitor:
            yield self._resolve(now, moment.inhibitor)
        elif finding is None:
            self._unread = True
            if now - self._seen >= max(BLIND_AFTER, 3 * moment.window) and not self._blind_told:
                self._blind_told = True
                yield Step(State.FIRING, now - self._seen)
        else:
            unseen = self._unseen(moment)
            self._seen, self._unread, self._blind_told = now, False, False
            if not rule.clears(finding):
                self._clear_since = None
                self.peak = rule.worse(self.peak, finding.value)
                return
            if self._clear_since is None:
                self._clear_since = now
            else:
                self._clear_since += unseen
                if not self._counts(moment):
                    return
            self._counted = now
            if _lasted(now - self._clear_since, rule.keep_firing_seconds, moment):
                yield self._resolve(now)

    def _counts(self, moment: Moment) -> bool:
        """Whether everything that it is judged by was read since a look counted last."""
        return moment.read > self._counted

    def _unseen(self, moment: Moment) -> float:
        """Seconds since there was evidence last, if they are more than one look's."""
        return moment.now - self._seen if self._unread or moment.stopped else 0.0

    def _resolve(self, now: float, superseded_by: str = "") -> Step:
        self._cool_until = now + self.rule.cool_down_seconds
        return self._enter(State.RESOLVED, now - self._since, superseded_by)


def _lasted(evidence: float, asked: float, moment: Moment) -> bool:
    """Whether the evidence is as long as was asked, give or take the jitter of samples."""
    return evidence >= asked - JITTER * min(moment.window, asked)
