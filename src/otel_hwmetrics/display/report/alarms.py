# SPDX-License-Identifier: Apache-2.0
"""Alerts of a run, put together: how often each fired, for how long, the worst first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from otel_hwmetrics.recording.nouns import RecordedAlert

FIRING: Final = "firing"
RANKS: Final = {"critical": 3, "warning": 2, "info": 1}
"""How bad a severity is; a word that is not known is the least."""


@dataclass
class Alarm:
    """One rule on one device of one host, told by one rank.

    Attributes:
        rule: Its name.
        device: What it is about; empty for the host.
        severity: The worst that was told.
        message: What was said when it fired last.
        times: How often it began to fire.
        seconds: How long it fired, of the times whose end was told.
        open_since_ns: Since when it fires; None where its end was told.
        first_ns: When it first fired.
        last_ns: When it last began to.
        span_id: The training span that it first fired on; empty for none.
        host: Where.
        rank: Whose; None for none.
    """

    rule: str
    device: str
    severity: str
    message: str = ""
    times: int = 0
    seconds: float = 0.0
    open_since_ns: int | None = None
    first_ns: int = 0
    last_ns: int = 0
    span_id: str = ""
    host: str = ""
    rank: int | None = None

    @property
    def weight(self) -> int:
        """How bad it is, as a number."""
        return RANKS.get(self.severity, 0)


def alarms(alerts: Iterable[RecordedAlert]) -> list[Alarm]:
    """Alerts by host, rank, rule and device, the worst first, then the most frequent, then the earliest.

    One that fires on though nothing can be read any more is told of again, and did not begin to fire again.
    """
    found: dict[tuple[object, ...], Alarm] = {}
    for alert in alerts:
        key = alert.host, alert.rank, alert.rule, alert.device
        if alert.state != FIRING:
            if (known := found.get(key)) is not None and known.open_since_ns is not None:
                known.seconds += max(0.0, (alert.at_ns - known.open_since_ns) / 1e9)
                known.open_since_ns = None
            continue
        new = Alarm(
            alert.rule, alert.device, alert.severity, first_ns=alert.at_ns, host=alert.host, rank=alert.rank
        )  # fmt: skip
        known = found.setdefault(key, new)
        known.severity = max(known.severity, alert.severity, key=lambda each: RANKS.get(each, 0))
        known.message = alert.message
        known.span_id = known.span_id or alert.span_id
        if known.open_since_ns is None:
            known.times += 1
            known.open_since_ns = known.last_ns = alert.at_ns
    return sorted(found.values(), key=lambda each: (-each.weight, -each.times, each.first_ns, each.rule, each.device))


def worst(found: Iterable[Alarm]) -> str:
    """A few words: how many of each severity, the worst first: ``1 critical, 3 warning``; empty for none."""
    counts: dict[str, int] = {}
    for alarm in sorted(found, key=lambda each: -each.weight):
        counts[alarm.severity] = counts.get(alarm.severity, 0) + alarm.times
    return ", ".join(f"{count} {severity}" for severity, count in counts.items())


def named(found: Iterable[Alarm], most: int = 3) -> str:
    """The worst by name, with how often: ``gpu_hot (warning) 3 times``; of more than ``most`` the rest as a number."""
    by_rule: dict[tuple[str, str], int] = {}
    for alarm in found:
        key = alarm.rule, alarm.severity
        by_rule[key] = by_rule.get(key, 0) + alarm.times
    texts = [
        f"{rule} ({severity}){f' {times} times' if times > 1 else ''}" for (rule, severity), times in by_rule.items()
    ]
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")
