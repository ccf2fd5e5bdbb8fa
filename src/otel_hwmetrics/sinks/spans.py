# SPDX-License-Identifier: Apache-2.0
"""Alerts as events on training spans, and their names as an attribute."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from opentelemetry.trace import Span

from otel_hwmetrics.alerts.rule import Rule, Severity, State
from otel_hwmetrics.catalog import own
from otel_hwmetrics.sinks.base import Alert
from otel_hwmetrics.sinks.tracker import SpanTracker

EVENTS_A_SPAN = 16
"""Most events of ours on one span. The SDK keeps 128 and drops the oldest, which would be the user's."""
SHARE_OF_ONE = 4
"""Every fourth event may be of one alert, unless that is critical: one that comes and goes takes no room from the others."""
FOR_CRITICAL = 4
"""Every fourth event's room is kept for critical alerts: eight GPUs that idle must not hide the one that is lost."""
MOST_NAMES = 16
"""Names of alerts that a span that opens is told, the worst; and how many more there are. So setting them takes as long
whatever goes wrong."""
MOST_SPANS = 64
"""Training spans that get an alert's name, the innermost ones; nobody nests as deep."""
HOMELESS = 64
"""Alerts that wait for a training span to open, at most; of more the last ones."""


class SpanSink:
    """Puts each alert onto the training span as an event, as long as there is room for ours.

    Args:
        tracker: Knows the open spans, and lets us greet those that open.
        limit: Most events of ours on one span.
    """

    def __init__(self, tracker: SpanTracker, limit: int = EVENTS_A_SPAN) -> None:
        self._tracker = tracker
        self._limit = limit
        self._closed = False
        self._rooms: weakref.WeakKeyDictionary[Span, _Room] = weakref.WeakKeyDictionary()
        self._ranks: dict[str, int] = {}  # how bad alerts are, by name
        self._told: dict[str, str] = {}  # the attribute of a span that opens
        self._homeless: dict[object, Alert] = {}  # those that fire and found no span open

    def fires(self, rules: Iterable[Rule], began: Iterable[Rule] = ()) -> None:
        """Say which alerts fire now, the worst first. Called on each sample, before `on_alert`.

        Args:
            rules: Of those that fire: a training span that opens is told their names.
            began: Of those that began just now: the training spans that are open are told theirs.
        """
        rules, began = list(rules), list(began)
        self._ranks |= {rule.name: rule.severity.rank for rule in (*rules, *began)}
        every = list(dict.fromkeys(rule.name for rule in rules))
        self._told = {own.ALERTS: _listed(every)} if every else {}
        if began:
            for span in self._tracker.watched(MOST_SPANS):
                self._name(span, began)
        self._wait_for_spans()

    def _name(self, span: Span, began: Iterable[Rule]) -> None:
        """Add alerts' names to those that a span has."""
        told = str((getattr(span, "attributes", None) or {}).get(own.ALERTS, "")).split(",")
        names = dict.fromkeys([*(name for name in told if name and name[0] != "+"), *(rule.name for rule in began)])
        hidden = sum(int(name) for name in told if name[:1] == "+")
        span.set_attribute(own.ALERTS, _listed(sorted(names, key=lambda name: -self._ranks.get(name, 0)), hidden))

    def on_alert(self, alert: Alert) -> None:
        """Add the event, unless the span has ended or has enough of this alert or of ours."""
        key = _key(alert)
        homeless = self._homeless.pop(key, None)
        if alert.span is not None and alert.span.is_recording():
            self._add(alert.span, alert, alert.time_unix_nano)
        elif alert.state is State.FIRING:
            self._homeless[key] = alert if homeless is None else homeless
            if len(self._homeless) > HOMELESS:
                self._homeless.pop(next(iter(self._homeless)), None)

    def settle(self) -> None:
        """See to the alerts that found no span. Called on each sample, after `on_alert`."""
        if self._homeless and (span := self._tracker.watched_target()) is not None:
            self._house(span)  # it opened just while the alert was told of
        self._wait_for_spans()

    def close(self) -> None:
        """Put nothing onto spans that open from now on. From any thread."""
        self._closed = True
        self._tracker.greet = None

    def _wait_for_spans(self) -> None:
        # Without either a span that opens has nothing to ask for.
        self._tracker.greet = self._greet if (self._told or self._homeless) and not self._closed else None

    def _greet(self, span: Span) -> None:
        """A training span opens. Called on its own thread, before the training goes on."""
        if self._told:
            span.set_attributes(self._told)
        if self._homeless:
            self._house(span)

    def _house(self, span: Span) -> None:
        for key in tuple(self._homeless):
            alert = self._homeless.pop(key, None)  # the sampler's thread may have been quicker
            if alert is not None:
                began = getattr(span, "start_time", None) or 0
                self._add(span, replace(alert, span=span), max(alert.time_unix_nano, began))

    def _add(self, span: Span, alert: Alert, time_unix_nano: int) -> None:
        room = self._rooms.setdefault(span, _Room(self._limit))
        if room.takes(alert):
            span.add_event(own.ALERT_EVENT, alert.attributes, time_unix_nano)
        else:
            room.dropped += 1
            span.set_attribute(own.ALERT_EVENTS_DROPPED, room.dropped)


class _Room:
    """What room there is for our events on one span.

    Some is kept for the end of each alert whose beginning is there; only the beginning of a critical one takes of that.

    Attributes:
        dropped: Events that found none.
    """

    __slots__ = ("_awaited", "_limit", "_of", "dropped")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._of: Counter[object] = Counter()  # events that are there, by alert
        self._awaited: set[object] = set()  # alerts for whose end there is room
        self.dropped = 0

    def takes(self, alert: Alert) -> bool:
        """Whether there is room for one more, which is then taken."""
        key, critical = _key(alert), alert.severity is Severity.CRITICAL
        began = alert.state is State.FIRING and not alert.blind
        awaited = alert.state is State.RESOLVED and key in self._awaited
        if awaited:
            self._awaited.discard(key)
        room = self._limit if critical or awaited else self._limit - self._limit // FOR_CRITICAL
        kept = 0 if awaited or (critical and began) else len(self._awaited)
        left = room - self._of.total() - kept
        enough = not critical and not awaited and self._of[key] >= max(2, self._limit // SHARE_OF_ONE)
        if left < 1 or enough:
            return False
        self._of[key] += 1
        if left > 1 and began:
            self._awaited.add(key)
        return True


def _key(alert: Alert) -> object:
    """What tells an alert from the others."""
    return alert.name, alert.transition.subject.key


def _listed(names: list[str], hidden: int = 0) -> str:
    """The names of alerts, and how many more there are than fit."""
    hidden += max(0, len(names) - MOST_NAMES)
    return ",".join([*names[:MOST_NAMES], *([f"+{hidden}"] if hidden else [])])
