# SPDX-License-Identifier: Apache-2.0
"""What a rule says: a condition, how long it must hold, what silences it, and how it is told."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from otel_hwmetrics.alerts.conditions import Condition, Finding
from otel_hwmetrics.model import Unit


class Severity(str, Enum):
    """How bad it is, by the words of Prometheus alerting practice."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"

    def __str__(self) -> str:
        """The word, in every version of Python."""
        return self.value

    @property
    def rank(self) -> int:
        """0 for the least."""
        return tuple(Severity).index(self)


class State(str, Enum):
    """Where an alert stands on one subject.

    ``UNKNOWN``: nothing could be read. ``INACTIVE``: the condition does not hold. ``PENDING``: it holds, not yet for
    long enough. ``FIRING``: it has. ``RESOLVED``: it fired and does so no more; left again at the next look.
    """

    UNKNOWN = "unknown"
    INACTIVE = "inactive"
    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"

    def __str__(self) -> str:
        """The word, in every version of Python."""
        return self.value


class Side(Enum):
    """On which side of its threshold a rule fires."""

    ABOVE = "above"
    BELOW = "below"


@dataclass(frozen=True)
class Adaptive:
    """A second reason to fire: a value that is far from what is usual in this run. It never replaces the threshold.

    Attributes:
        deviation: How far, on the rule's side, in scales of the usual scatter (1.4826 times the median absolute
            deviation: a standard deviation, where the scatter is normal).
        window: Seconds of the past that say what is usual; a lasting change of level is usual after half of them.
        warm_up: Readings before anything is usual.
    """

    deviation: float = 6.0
    window: float = 1800.0
    warm_up: int = 60


@dataclass(frozen=True)
class Rule:
    """One alert rule.

    Attributes:
        name: Also the stem of its options: ``alert_<name>``, ``alert_<name>_threshold``, ``alert_<name>_for``.
        severity: How bad it is.
        condition: What is looked at.
        side: Above or below the threshold.
        threshold: Strictly beyond this it holds; in the condition's unit.
        slack: How far back across the threshold it must come before a firing alert is resolved.
        for_seconds: How long it must hold before it fires.
        message: One sentence for people on what is the case; ``{device}``, ``{value}``, ``{threshold}``, ``{beyond}``
            ("above 80 °C", resolved "no longer above 80 °C") and the words of the condition's evidence are filled in.
        advice: What it may come to, and what to do about it; told when it fires.
        samples: At least so many looks must have found that it holds.
        keep_firing_seconds: How long it must be clear before a firing alert is resolved.
        warm_up_seconds: How long after a subject was first seen nothing of it counts: what begins is not usual yet.
        cool_down_seconds: How long after it was resolved it cannot fire again.
        inhibited_by: Rules that silence it while they fire on the same subject, or on the host.
        silent_in: Phases of training in which it is silent.
        adaptive: When what is unusual in this run counts, too; None for never.

    Raises:
        ValueError: The row contradicts itself.
    """

    name: str
    severity: Severity
    condition: Condition
    side: Side
    threshold: float
    slack: float
    for_seconds: float
    message: str
    advice: str = ""
    samples: int = 1
    keep_firing_seconds: float = 0.0
    warm_up_seconds: float = 0.0
    cool_down_seconds: float = 0.0
    inhibited_by: tuple[str, ...] = ()
    silent_in: tuple[str, ...] = ()
    adaptive: Adaptive | None = None

    def __post_init__(self) -> None:
        lengths = (self.for_seconds, self.keep_firing_seconds, self.warm_up_seconds, self.cool_down_seconds)
        if self.slack < 0 or self.samples < 1 or min(lengths) < 0:
            raise ValueError(f"{self.name}: slack and lengths of time cannot be negative, nor can it fire on no look")
        if self.name in self.inhibited_by:
            raise ValueError(f"{self.name}: it cannot silence itself")

    @property
    def clear(self) -> float:
        """Where a firing alert is resolved; the value itself is clear already."""
        beyond = -self.slack if self.side is Side.ABOVE else self.slack
        return float(f"{self.threshold + beyond:.12g}")  # 0.3 - 0.1 is not 0.2, and utilization comes in such steps

    def holds(self, finding: Finding) -> bool:
        """Whether the condition holds: beyond the threshold or, for an adaptive rule, far from what is usual."""
        if finding.value is None:
            return False
        unusual = self.adaptive is not None and self._unusual(finding) > self.adaptive.deviation
        return unusual or self.beyond(finding.value)

    def beyond(self, value: float) -> bool:
        """Whether a value is beyond the threshold."""
        return value > self.threshold if self.side is Side.ABOVE else value < self.threshold

    def clears(self, finding: Finding) -> bool:
        """Whether a firing alert is resolved: back across the slack and, for an adaptive rule, half as unusual."""
        if finding.value is None:
            return True
        back = finding.value <= self.clear if self.side is Side.ABOVE else finding.value >= self.clear
        return back and (self.adaptive is None or self._unusual(finding) <= self.adaptive.deviation / 2)

    def worse(self, one: float | None, other: float | None) -> float | None:
        """The one of two values that is further on the rule's side; the one that there is."""
        if one is None or other is None:
            return one if other is None else other
        return max(one, other) if self.side is Side.ABOVE else min(one, other)

    def _unusual(self, finding: Finding) -> float:
        deviation = finding.deviation or 0.0
        return deviation if self.side is Side.ABOVE else -deviation


_BYTES = ("B", "kB", "MB", "GB", "TB", "PB")
_PLURALS = {"child": "children", "process": "processes"}


def show(value: float | None, unit: Unit) -> str:
    """A value for people: 91%, 82 °C, 12 min, 3.4 GB."""
    if value is None:
        return "?"
    if unit is Unit.RATIO:
        return _percent(100 * value)
    if unit is Unit.CELSIUS:
        return f"{value:.0f} °C"
    if unit is Unit.SECOND:
        return show_seconds(value)
    if unit in (Unit.BYTE, Unit.BYTE_PER_SECOND):
        return show_bytes(value) + ("/s" if unit is Unit.BYTE_PER_SECOND else "")
    return f"{value:g} {_named(unit, value)}"


def _percent(value: float) -> str:
    """Two digits, and more where they tell a value from nothing or from all."""
    digits = 2 if abs(value) < 10 else 3 if 99 <= abs(value) < 100 else 0  # noqa: PLR2004 - where two digits end
    return f"{value:.{digits}g}%" if digits else f"{value:.0f}%"


def _named(unit: Unit, value: float) -> str:
    """A unit behind a number: ``W``, ``1 error``, ``2 errors``."""
    name = unit.value
    if not name.startswith("{"):
        return name
    thing, _, per = name[1:].partition("}")
    return (thing if value == 1 else _PLURALS.get(thing, f"{thing}s")).replace("_", " ") + per


def show_seconds(seconds: float) -> str:
    """A length of time for people, in the unit that has one to three digits."""
    if seconds < 120:  # noqa: PLR2004 - two minutes: "1 min" would be half as long again or not
        return f"{seconds:.3g} s"
    for length, name, upto in ((60, "min", 7200), (3600, "h", 172800)):
        if seconds < upto:
            return f"{seconds / length:.0f} {name}"
    return f"{seconds / 86400:.0f} days"


def show_bytes(value: float) -> str:
    """Bytes for people, by powers of a thousand."""
    sized = abs(value)
    for name in _BYTES:
        if sized < 1000 or name == _BYTES[-1]:  # noqa: PLR2004 - the next one's size
            break
        sized /= 1000
    return f"{'-' if value < 0 else ''}{sized:.3g} {name}"
