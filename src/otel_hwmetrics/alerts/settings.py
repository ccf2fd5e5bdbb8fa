# SPDX-License-Identifier: Apache-2.0
"""What rules can be told by options: the table of settings, each with what it takes and what it means."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from string import Formatter
from types import MappingProxyType
from typing import Any, NamedTuple

from otel_hwmetrics.alerts.conditions import Condition
from otel_hwmetrics.alerts.over import Aggregate
from otel_hwmetrics.alerts.rule import Adaptive, Severity
from otel_hwmetrics.config import ConfigError, duration
from otel_hwmetrics.config.kinds import (
    parse_count,
    parse_number,
    parse_one_of,
    parse_seconds,
    parse_switch,
    parse_texts,
)
from otel_hwmetrics.model import Attribute, Kind, Metric, Ratio, Unit
from otel_hwmetrics.stepclock.phases import meant, near

LAST = "last"
"""The aggregate that is none: the value as it is now."""


class Setting(NamedTuple):
    """One thing that a rule can be told.

    Attributes:
        parse: Makes the value from a string or a native one; raises ValueError, TypeError or KeyError.
        allowed: What it takes, in words, for messages and documentation.
        help: What it means, one sentence.
        own: Whether it is of rules that users write, and of no others.
    """

    parse: Callable[[Any], Any]
    allowed: str
    help: str
    own: bool = False


class Seconds(float):
    """A number that was written as a length of time: a threshold of seconds takes it, and no other."""


_DURATION = "seconds, a number >= 0, or as 5m"
_NUMBER = "a number, in the metric's unit; a ratio is 0 to 1, and seconds may be written as 5m"
_TEXT = "a text"
_SHORTEST = 0.1  # as of a window that has rates
_number = parse_number(float("-inf"))


def _amount(value: Any) -> float:
    try:
        return _number(value)
    except ValueError:
        return Seconds(duration(value))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _template(value: Any) -> str:
    # What a value looks like is the message's affair: no format of one's own, no attribute, no conversion.
    if any(form or conversion for _, _, form, conversion in Formatter().parse(_text(value))):
        raise ValueError(value)
    return str(value)


def _where(value: Any) -> Mapping[str, Attribute | frozenset[Attribute]]:
    if not isinstance(value, Mapping):
        raise TypeError(value)
    return MappingProxyType({_text(key): _choice(each) for key, each in value.items()})


def _choice(value: Any) -> Attribute | frozenset[Attribute]:
    if isinstance(value, list | tuple | set | frozenset) and value:
        return frozenset(_attribute(each) for each in value)
    return _attribute(value)


def _attribute(value: Any) -> Attribute:
    if not isinstance(value, str | int | float | bool):
        raise TypeError(value)
    return value


_ADAPTIVE: Mapping[str, Callable[[Any], Any]] = MappingProxyType(
    {"deviation": parse_number(0.1), "window": parse_seconds(1.0), "warm_up": parse_count(2, 1_000_000)}
)


def _adaptive(value: Any) -> Adaptive | None:
    if isinstance(value, Mapping):
        return Adaptive(**{key: _ADAPTIVE[key](each) for key, each in value.items()})
    return Adaptive() if parse_switch(value) else None


def _rule_names(value: Any) -> tuple[str, ...]:
    names = parse_texts(value)
    if not all(re.fullmatch(r"[a-z*?][a-z0-9_*?]*", name) for name in names):
        raise ValueError(value)
    return names


def _phases(value: Any) -> tuple[str, ...]:
    names = parse_texts(value)
    slip = next((name for name in names if near(name)), "")
    if slip:
        raise ConfigError(f"did you mean {near(slip)!r}?")
    return tuple(dict.fromkeys(map(meant, names)))


SETTINGS: Mapping[str, Setting] = MappingProxyType(
    {
        "enabled": Setting(parse_switch, "true or false", "Whether the rule is judged."),
        "threshold": Setting(_amount, _NUMBER, "Beyond this the condition holds."),
        "clear": Setting(_amount, _NUMBER, "Where a firing alert is resolved: on the other side of the threshold."),
        "for": Setting(duration, _DURATION, "How long the condition must hold before the alert fires."),
        "keep_firing_for": Setting(
            duration, _DURATION, "How long it must be clear again before the alert is resolved."
        ),
        "samples": Setting(
            parse_count(1, 1_000_000),
            "a whole number from 1 to 1000000",
            "So many samples must have found that it holds, too.",
        ),
        "warm_up": Setting(duration, _DURATION, "How long after a device was first seen nothing of it counts."),
        "cool_down": Setting(duration, _DURATION, "How long after it was resolved an alert does not fire again."),
        "severity": Setting(
            lambda value: Severity(parse_one_of(*(each.value for each in Severity))(value)),
            "info, warning or critical",
            "How bad it is.",
        ),
        "message": Setting(
            _template,
            f"{_TEXT} with {{device}}, {{value}}, {{threshold}}, {{beyond}} where they belong",
            "One sentence on what is the case.",
        ),
        "advice": Setting(_template, _TEXT, "What to do about it; told when it fires."),
        "inhibited_by": Setting(
            _rule_names, "a list of rules by name or pattern", "Rules that silence this one while they fire."
        ),
        "silent_in": Setting(
            _phases,
            "a list of phases (checkpoint, evaluation, or names of your own)",
            "Phases of training in which it is silent.",
        ),
        "adaptive": Setting(
            _adaptive,
            "true, false, or a table of deviation (a number >= 0.1), window (seconds, a number >= 1, or as 30m) and warm_up "
            "(a whole number from 2 to 1000000)",
            "Whether what is unusual in this run counts, too, beside the threshold: further than so many times the usual "
            "scatter from what was usual in the window, once there were so many readings.",
        ),
        "metric": Setting(_text, "the name of a metric", "What is looked at.", own=True),
        "where": Setting(
            _where,
            "a table of the metric's attributes, each with a value or a list of values",
            "Which of the metric's series are looked at.",
            own=True,
        ),
        "aggregate": Setting(
            parse_one_of(LAST, *(each.value for each in Aggregate)),
            f"{LAST}, {', '.join(each.value for each in Aggregate)}",
            "What is made of the values: of counters increase and rate, of others mean, min and max, each over a length of "
            "time; or last, the value as it is now, of a counter its total so far.",
            own=True,
        ),
        "over": Setting(
            parse_seconds(_SHORTEST),
            f"seconds, a number >= {_SHORTEST:g}, or as 5m",
            "Over how long that is made.",
            own=True,
        ),
        "above": Setting(_amount, _NUMBER, "Fires above this.", own=True),
        "below": Setting(_amount, _NUMBER, "Fires below this.", own=True),
    }
)
"""Every setting by its key."""


def refused_amount(value: float, condition: Condition) -> str:
    """Why this can be no threshold of a condition, as a sentence; empty if it can."""
    if condition.unit is Unit.RATIO and not 0 <= value <= 1 and _is_share(condition):
        return "it takes a ratio, a number from 0 to 1"  # a share above 1 would never be reached: 90 is not 90 %
    if condition.unit is not Unit.SECOND and isinstance(value, Seconds):
        return f"it takes a number, in the metric's unit ({condition.unit.value})"
    return ""


def _is_share(condition: Condition) -> bool:
    metric = getattr(condition, "metric", None)
    if not isinstance(metric, Metric):
        return True
    # What is no share: a code, a generation, seconds a second of several CPUs, bytes that were read for each that was
    # asked for; time of time and periods of periods are.
    of = metric.derivation.of.unit if isinstance(metric.derivation, Ratio) else None
    return metric.kind is Kind.GAUGE and of in {None, Unit.SECOND, Unit.PERIOD}
