# SPDX-License-Identifier: Apache-2.0
"""A rule in words, for people who read documentation or a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterator

from otel_hwmetrics.alerts.rule import Rule, Side, show, show_seconds
from otel_hwmetrics.model import Unit


def fires(rule: Rule) -> str:
    """When it fires, as what its condition's value is: ``above 80 °C for 5 s``."""
    lasts = f" for {show_seconds(rule.for_seconds)}" if rule.for_seconds else ""
    seen = f", seen by {rule.samples} samples" if rule.samples > 1 else ""
    text = f"{rule.side.value} {level(rule.threshold, rule)}{lasts}{seen}"
    if rule.adaptive is not None:
        text += f"; or {rule.adaptive.deviation:g} times its usual scatter {rule.side.value} what is usual in this run"
    return text


def resolved(rule: Rule) -> str:
    """When it is resolved, as what its condition's value is: ``78 °C or less``."""
    lasts = f" for {show_seconds(rule.keep_firing_seconds)}" if rule.keep_firing_seconds else ""
    return f"{level(rule.clear, rule)} or {'less' if rule.side is Side.ABOVE else 'more'}{lasts}"


def silent(rule: Rule) -> Iterator[str]:
    """When it is silent: parts of a sentence, none where it never is."""
    if rule.inhibited_by:
        last = rule.inhibited_by[-1]
        names = f"{', '.join(rule.inhibited_by[:-1])} or {last}" if len(rule.inhibited_by) > 1 else last
        yield f"while {names} fires"
    if rule.silent_in:
        yield f"in the phase{'s' if len(rule.silent_in) > 1 else ''} {' and '.join(rule.silent_in)}"
    if rule.warm_up_seconds:
        yield f"in the first {show_seconds(rule.warm_up_seconds)} of what it looks at"
    if rule.cool_down_seconds:
        yield f"within {show_seconds(rule.cool_down_seconds)} after it was resolved"


def advice(rule: Rule) -> str:
    """What to do about it; what only the event knows is in parentheses."""
    if rule.advice == "{advice}":
        return "What helps against this one is in the event."
    return re.sub(r"\{(\w+)\}", r"(\1)", rule.advice)


def level(value: float, rule: Rule) -> str:
    """A value of its condition, as options take it where it is a ratio or a number, and else with its unit."""
    return f"{round(value, 6):g}" if rule.condition.unit is Unit.RATIO else show(value, rule.condition.unit)
