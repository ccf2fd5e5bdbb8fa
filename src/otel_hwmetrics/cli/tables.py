# SPDX-License-Identifier: Apache-2.0
"""``otel-hwmetrics tables``: what the package knows, for people and for programs."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from typing import Any, TextIO

from otel_hwmetrics.alerts import words
from otel_hwmetrics.alerts.builtin import RULES
from otel_hwmetrics.alerts.refusals import nearest
from otel_hwmetrics.alerts.rule import Rule
from otel_hwmetrics.alerts.rulebook import rulebook
from otel_hwmetrics.config import resolve
from otel_hwmetrics.starting import more_errors

WIDEST = 100
"""Columns of a text, at most."""


def rules(output: TextIO, errors: TextIO, names: Sequence[str] = (), *, as_json: bool) -> int:
    """Print the alert rules that the options of this directory and environment make; gives the exit code.

    Args:
        output: Gets the table.
        errors: Gets what is wrong with options, after the table.
        names: Of the rules that are wanted, or patterns; all if there are none.
        as_json: For programs.
    """
    config, wrong = resolve()
    wrong += tuple(more_errors(config))
    known = [*(rule.name for rule in RULES), *(rule.name for rule in rulebook(config).rules)]
    for name in names:
        if not any(fnmatchcase(each, name) for each in known):
            print(f"error: there is no rule {name!r}; {nearest(name, dict.fromkeys(known))}", file=errors)
            return 2
    on = [rule for rule in rulebook(config).rules if _wanted(rule, names)]
    off = [rule.name for rule in RULES if _wanted(rule, names) and rule.name not in {each.name for each in on}]
    if as_json:
        print(json.dumps([as_data(rule) for rule in on], indent=2), file=output)
    else:
        width = min(WIDEST, shutil.get_terminal_size().columns)
        texts = ["\n".join(as_text(rule, width)) for rule in on]
        texts += ["\n".join(_wrapped("off: ", ", ".join(off), width))] if off else []
        print("\n\n".join(texts), file=output)
    output.flush()
    for error in wrong:
        print(f"error: {error}", file=errors)
    return 1 if wrong else 0


def _wanted(rule: Rule, names: Sequence[str]) -> bool:
    return not names or any(fnmatchcase(rule.name, name) for name in names)


def _wrapped(label: str, text: str, width: int) -> list[str]:
    return textwrap.wrap(
        text,
        width,
        initial_indent=label,
        subsequent_indent=" " * len(label),
        break_long_words=False,
        break_on_hyphens=False,
    )


def as_text(rule: Rule, width: int) -> Iterator[str]:
    """A rule as lines of text; how it came about is said where it is not as the package has it."""
    made = "" if rule in RULES else "  changed" if rule.name in {each.name for each in RULES} else "  yours"
    yield f"{rule.name}  {rule.severity.value}{made}"
    parts = {
        "looks at": str(rule.condition),
        "fires": words.fires(rule),
        "resolved": words.resolved(rule),
        "silent": "; ".join(words.silent(rule)),
        "advice": words.advice(rule),
    }
    for label, text in parts.items():
        if text:
            yield from _wrapped(f"  {label:<9} ", text, width)


def as_data(rule: Rule) -> dict[str, Any]:
    """A rule as plain values; lengths of time in seconds, thresholds in the unit."""
    return {
        "name": rule.name,
        "severity": rule.severity.value,
        "condition": str(rule.condition),
        "unit": rule.condition.unit.value,
        "side": rule.side.value,
        "threshold": rule.threshold,
        "clear": rule.clear,
        "for": rule.for_seconds,
        "keep_firing_for": rule.keep_firing_seconds,
        "samples": rule.samples,
        "warm_up": rule.warm_up_seconds,
        "cool_down": rule.cool_down_seconds,
        "inhibited_by": list(rule.inhibited_by),
        "silent_in": list(rule.silent_in),
        "adaptive": asdict(rule.adaptive) if rule.adaptive is not None else None,
        "message": rule.message,
        "advice": rule.advice,
    }
