# SPDX-License-Identifier: Apache-2.0
"""Training spans of a run: epochs and the like, with what the hardware did meanwhile, as they had it summed up."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from otel_hwmetrics.display.report.alarms import FIRING
from otel_hwmetrics.recording.nouns import RecordedAlert, RecordedSpan

PREFIX: Final = "hwmetrics.summary."
"""What the attributes begin with; `otel_hwmetrics.catalog.summary` has them all."""
ALERTS: Final = "hwmetrics.alerts"
"""The attribute that names the alerts that fired while a span was open."""
EPOCH: Final = "hwmetrics.training.epoch"
PHASE: Final = "hwmetrics.training.phase"
STALLS: Final = ("cpu", "memory", "io")

_DEEPEST: Final = 64


@dataclass(frozen=True)
class Phase:
    """A training span.

    Attributes:
        span: It.
        depth: How many spans of this run are around it.
        figures: What was summed up, by the attribute's name without its prefix, in SI units.
        alerts: Names of the rules that fired meanwhile, the worst first.
        label: Its name, and its epoch's number where that is not in it.
    """

    span: RecordedSpan
    depth: int
    figures: Mapping[str, float] = field(default_factory=dict)
    alerts: tuple[str, ...] = ()
    label: str = ""

    @property
    def seconds(self) -> float | None:
        """How long it took; None where nobody saw its end."""
        end = self.span.ended_ns
        return None if end is None else max(0.0, (end - self.span.started_ns) / 1e9)

    @property
    def stall(self) -> tuple[str, float] | None:
        """What work stood still for most, and for how many seconds; None where it did not, or is not known."""
        found = [(kind, self.figures[f"stall.{kind}"]) for kind in STALLS if f"stall.{kind}" in self.figures]
        longest = max(found, key=lambda each: each[1], default=None)
        return longest if longest is not None and longest[1] > 0 else None


def phases(spans: Sequence[RecordedSpan], alerts: Iterable[RecordedAlert] = ()) -> list[Phase]:
    """The training spans in the order of their beginning, each before what is within it."""
    known = {span.span_id: span for span in spans}
    fired: dict[str, dict[str, None]] = {}
    for alert in alerts:
        if alert.state == FIRING and alert.span_id:
            fired.setdefault(alert.span_id, {})[alert.rule] = None
    within: dict[str, list[RecordedSpan]] = {}
    for span in sorted(spans, key=lambda each: (each.started_ns, each.span_id)):
        within.setdefault(span.parent_id if span.parent_id in known else "", []).append(span)
    found: list[Phase] = []
    waiting = [(span, 0) for span in reversed(within.get("", []))]
    seen: set[str] = set()
    while waiting:
        span, depth = waiting.pop()
        if span.span_id in seen:
            continue
        seen.add(span.span_id)
        found.append(_phase(span, min(depth, _DEEPEST), tuple(fired.get(span.span_id, ()))))
        waiting += [(each, depth + 1) for each in reversed(within.get(span.span_id, []))]
    return found


def _phase(span: RecordedSpan, depth: int, fired: tuple[str, ...]) -> Phase:
    figures = {
        key.removeprefix(PREFIX): float(value)
        for key, value in span.attributes.items()
        if key.startswith(PREFIX)
        and isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
    }
    told = span.attributes.get(ALERTS)
    names = tuple(name.strip() for name in told.split(",") if name.strip()) if isinstance(told, str) else fired
    return Phase(span, depth, figures, names, _label(span.name, span.attributes))


def _label(name: str, attributes: Mapping[str, Any]) -> str:
    epoch, phase = attributes.get(EPOCH), attributes.get(PHASE)
    parts = [name]
    if isinstance(epoch, int) and not isinstance(epoch, bool) and str(epoch) not in name.split():
        parts.append(f"{epoch}")
    if isinstance(phase, str) and phase not in name:
        parts.append(f"({phase})")
    return " ".join(parts)
