# SPDX-License-Identifier: Apache-2.0
"""Alerts that go out together, and the message that tells of them. Nothing here sends or waits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import NamedTuple
from urllib.parse import unquote

from otel_hwmetrics import redaction
from otel_hwmetrics.alerts.rule import Severity, State
from otel_hwmetrics.ranks import RANK, ranks
from otel_hwmetrics.sinks.base import Alert

LINES = 20
"""Most alerts that a message tells of one by one; the rest is counted."""
LINE = 500
"""Most characters of one of its lines, and of its title."""

Key = tuple[str, str]
"""What one alert is known by: its rule and its subject."""


@dataclass(frozen=True)
class Entry:
    """What happened to one alert since it was last told of.

    Attributes:
        alert: Its latest step.
        fired: How often it began to fire.
        since: Monotonic seconds: when its first step came.
    """

    alert: Alert
    fired: int
    since: float

    @property
    def resolved(self) -> bool:
        """Whether it is over."""
        return self.alert.state is State.RESOLVED


class Group:
    """Alerts that go out together: of each, all that happened to it is one entry.

    Args:
        room: Most alerts that it holds.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._entries: dict[Key, Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def since(self) -> float:
        """Monotonic seconds: when the first of its alerts came; it has to have one."""
        return min(entry.since for entry in self._entries.values())

    @property
    def urgent(self) -> bool:
        """Whether one of its alerts is critical, and began to fire."""
        return any(entry.fired and entry.alert.severity is Severity.CRITICAL for entry in self._entries.values())

    @property
    def entries(self) -> Mapping[Key, Entry]:
        """What there is, by alert."""
        return self._entries

    def add(self, alert: Alert, at: float) -> bool:
        """Put a step to what is known of its alert; False where there is no room for another alert."""
        began = alert.state is State.FIRING and not alert.blind
        return self._put(_key(alert), Entry(alert, int(began), at))

    def give_back(self, older: Mapping[Key, Entry]) -> int:
        """Put what could not be told before what came meanwhile; gives how many alerts there was no room for."""
        newer, self._entries = self._entries, dict(older)
        return sum(not self._put(key, entry) for key, entry in newer.items())

    def _put(self, key: Key, entry: Entry) -> bool:
        before = self._entries.get(key)
        if before is not None:
            entry = Entry(entry.alert, before.fired + entry.fired, before.since)
        elif len(self._entries) >= self._room:
            return False
        self._entries[key] = entry
        return True


def _key(alert: Alert) -> Key:
    return (alert.name, alert.transition.subject.key)


class Message(NamedTuple):
    """A notification.

    Attributes:
        title: One line: how bad, how many, where.
        body: One line an alert, the worst first.
        severity: The worst of those that fire; info where it tells of none, and others do; None when nothing fires.
    """

    title: str
    body: str
    severity: Severity | None


def compose(entries: Iterable[Entry], place: str, others: int = 0) -> Message:
    """Tell of alerts; there has to be one.

    Args:
        entries: The alerts.
        place: Where they are from, as `place_of` says it.
        others: How many fire beside these, and were told: an end is not the all-clear then, on which a pager service
            would close the incident.
    """
    ordered = sorted(
        entries, key=lambda entry: (entry.resolved, -entry.alert.severity.rank, entry.alert.time_unix_nano)
    )
    lines = [_line(entry) for entry in ordered[:LINES]]
    if len(ordered) > LINES:
        lines.append(f"and {len(ordered) - LINES} more: {_counted(ordered[LINES:])}")
    headline, worst = _headline(ordered), ordered[0].alert.severity
    if ordered[0].resolved:
        headline += f", {others} still firing" if others else ""
        return Message(_short(f"{headline} on {place}"), "\n".join(lines), Severity.INFO if others else None)
    return Message(_short(f"{headline} on {place}"), "\n".join(lines), worst)


def _headline(ordered: Sequence[Entry]) -> str:
    first = ordered[0]
    how = "resolved" if first.resolved else first.alert.severity.value
    if len(ordered) == 1:
        return f"{how}: {_named(first.alert)}"
    resolved = sum(entry.resolved for entry in ordered)
    if resolved in (0, len(ordered)):
        return f"{how}: {len(ordered)} alerts"
    return f"{how}: {_alerts(len(ordered) - resolved)}, {resolved} resolved"


def _alerts(number: int) -> str:
    return "1 alert" if number == 1 else f"{number} alerts"


def _counted(entries: Sequence[Entry]) -> str:
    words = Counter("resolved" if entry.resolved else entry.alert.severity.value for entry in entries)
    return ", ".join(f"{number} {word}" for word, number in words.items())


def _named(alert: Alert) -> str:
    return f"{alert.name} ({alert.device})" if alert.device else alert.name


def _line(entry: Entry) -> str:
    alert = entry.alert
    at = datetime.fromtimestamp(alert.time_unix_nano // 1_000_000_000, timezone.utc)
    text = _short(f"{_state(entry)}: {_named(alert)}, {alert.severity.value}, {at:%H:%M:%S} UTC: {alert.message}")
    return f"{text} [trace {alert.trace_id}]" if alert.trace_id.strip("0") else text


def _state(entry: Entry) -> str:
    over = "resolved" if entry.resolved else "firing"
    if entry.fired > 1:
        return f"fired {entry.fired} times, {over}"
    if entry.fired:
        return "fired and resolved" if entry.resolved else "firing"
    return "resolved" if entry.resolved else "still firing"


def _short(text: str) -> str:
    """A text on one line, and not too long."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return line if len(line) <= LINE else line[: LINE - 1] + "…"


def place_of(environ: Mapping[str, str], host: str) -> str:
    """Where alerts are from: host, rank and the name of the job, as far as they are known."""
    rank = ranks(environ).get(RANK)
    job = environ.get("OTEL_SERVICE_NAME") or _service_name(environ) or environ.get("SLURM_JOB_NAME", "")
    return ", ".join(part for part in (host, "" if rank is None else f"rank {rank}", redaction.text(job)) if part)


def _service_name(environ: Mapping[str, str]) -> str:
    """By the Resource's variable: https://opentelemetry.io/docs/specs/otel/resource/sdk/."""
    for pair in environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
        name, _, value = pair.partition("=")
        if name.strip() == "service.name":
            return unquote(value.strip())
    return ""
