# SPDX-License-Identifier: Apache-2.0
"""From options to rules: those of the package with other settings, and those that users write.

A rule of one's own is a table with a ``metric`` in it. What cannot be taken is told and passed over; the rest counts,
and what a weaker place says, or the package, stands in for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from string import Formatter
from types import MappingProxyType
from typing import Any, NamedTuple

from otel_hwmetrics.alerts.builtin import RULES
from otel_hwmetrics.alerts.engine import in_order
from otel_hwmetrics.alerts.refusals import REFUSED, Refusals, Told, nearest
from otel_hwmetrics.alerts.rule import Rule, Side
from otel_hwmetrics.alerts.settings import SETTINGS, refused_amount
from otel_hwmetrics.alerts.written import written
from otel_hwmetrics.config import FAMILIES, OPTIONS, Config, ConfigError, RuleSettings, flat_options

_BUILTIN = {rule.name: rule for rule in RULES}
_PATTERN = re.compile(r"[a-z0-9_*?]*[*?][a-z0-9_*?]*")
_FIELDS = {"device", "value", "threshold", "beyond"}

_OF_ONE = {"threshold", "clear"}
"""Settings that are in the unit of one rule, and mean something else, or nothing, to the next one."""
_HOLD_BACK = {"for", "keep_firing_for", "samples", "warm_up", "cool_down", "inhibited_by", "silent_in"}
"""Settings without which a rule of one's own would ring more often than it was meant to."""

_Book = Mapping[str, list[Told]]
"""By rule what is said of it, the weakest place first."""


class Rulebook(NamedTuple):
    """The rules, and what was wrong with what options said of them.

    Attributes:
        rules: Those that are switched on, in the table's order, one's own last.
        errors: One for each setting that could not be taken; a rule then has its next best one.
    """

    rules: tuple[Rule, ...]
    errors: tuple[ConfigError, ...]


def rulebook(config: Config) -> Rulebook:
    """The rules that these options make. Never raises: what is wrong comes back as errors."""
    refusals = Refusals()
    own = {said.rule for said in config.rules if "metric" in said.settings and not _PATTERN.fullmatch(said.rule)}
    book: _Book = {name: [] for name in [*_BUILTIN, *sorted(own - _BUILTIN.keys())]}
    for said in config.rules:
        _take(book, said, refusals)
    made: list[Rule] = []
    for name, told in book.items():
        rule = _BUILTIN.get(name) or written(name, told, refusals)
        if rule is not None:
            rule = _changed(rule, told, refusals)
            switches = [each.value for each in told if each.key == "enabled"]
            made += [rule] if not switches or switches[-1] else []
    made = _silenced(made, book, refusals)
    for pattern in config.profile_on_alert:
        if not any(_is_meant(pattern, name) for name in book):
            refusals.refuse_pattern("profile_on_alert", pattern, book)
    return Rulebook(tuple(made) if config.alerts else (), refusals.errors)


def _take(book: _Book, said: RuleSettings, refusals: Refusals) -> None:
    """Take what one place says of one rule, or of several."""
    names = [name for name in book if _is_meant(said.rule, name)]
    if not names:
        _refuse_name(book, said, refusals)
    for key, value in said.settings.items():
        if key not in SETTINGS:
            refusals.refuse_key(said, key, SETTINGS)
            continue
        if key in _OF_ONE and len(names) > 1:
            refusals.refuse(Told(names[0], key, value, said), f"it is said of one rule, and this means {len(names)}")
            continue
        for name in names:
            told = Told(name, key, value, said)
            if SETTINGS[key].own and name in _BUILTIN:
                instead = "it has a 'threshold'" if key in {"above", "below"} else "give one of your own another name"
                refusals.refuse(told, f"it is of rules of your own, and this one comes with the package; {instead}")
                continue
            try:
                book[name].append(told._replace(value=SETTINGS[key].parse(value)))
            except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
                why = f"; {error}" if isinstance(error, ConfigError) else ""
                refusals.refuse(told, f"it takes {SETTINGS[key].allowed}{why}")
                needed = SETTINGS[key].own or (name not in _BUILTIN and key in _HOLD_BACK)
                book[name] += [told._replace(value=REFUSED)] if needed else []


def _is_meant(pattern: str, name: str) -> bool:
    return pattern == name or (_PATTERN.fullmatch(pattern) is not None and fnmatchcase(name, pattern))


def _refuse_name(book: _Book, said: RuleSettings, refusals: Refusals) -> None:
    if said.option:
        options = [*(option for name in book for option in flat_options(name)), *FAMILIES, *OPTIONS]
        of = "of a rule there are alert_<rule>, alert_<rule>_threshold and alert_<rule>_for"
        refusals.refuse_name(said, options, f"{of}; the rules are {', '.join(book)}")
    else:
        own = any(key in SETTINGS and SETTINGS[key].own for key in said.settings)
        there_are = "a rule of your own takes a 'metric'" if own else f"there are {', '.join(book)}"
        refusals.refuse_name(
            said, () if own else book, there_are if own else f"{there_are}; one of your own has a 'metric'"
        )


def _changed(rule: Rule, told: Sequence[Told], refusals: Refusals) -> Rule:
    """A rule with other settings, one after the other; the last one of a kind counts."""
    for each in told:
        if each.key in _FIELDS_OF:
            why = _CHECKS[each.key](each, rule) if each.key in _CHECKS else ""
            if why:
                refusals.refuse(each, why)
            else:
                value: Any = float(each.value) if each.key == "threshold" else each.value
                rule = replace(rule, **{_FIELDS_OF[each.key]: value})
    for each in reversed([each for each in told if each.key == "clear"]):
        why = _not_clear(each, rule)
        if not why:
            return replace(rule, slack=abs(rule.threshold - each.value))
        refusals.refuse(each, why)
    return rule


def _no_threshold(told: Told, rule: Rule) -> str:
    return refused_amount(told.value, rule.condition)


def _no_message(told: Told, rule: Rule) -> str:
    allowed = _FIELDS | set(rule.condition.evidence)
    used = {field for _, field, _, _ in Formatter().parse(told.value) if field is not None}
    return "" if used <= allowed else f"it takes no fields but {', '.join(f'{{{word}}}' for word in sorted(allowed))}"


def _not_clear(told: Told, rule: Rule) -> str:
    above = rule.side is Side.ABOVE
    if told.value > rule.threshold if above else told.value < rule.threshold:
        way = "less" if above else "more"
        return f"it takes {rule.threshold:g} or {way}, since the rule fires {rule.side.value} {rule.threshold:g}"
    return refused_amount(told.value, rule.condition)


_FIELDS_OF = MappingProxyType(
    {key: key for key in ("threshold", "samples", "severity", "message", "advice", "silent_in", "adaptive")}
    | {"for": "for_seconds", "keep_firing_for": "keep_firing_seconds"}
    | {"warm_up": "warm_up_seconds", "cool_down": "cool_down_seconds"}
)
"""A rule's fields by the settings that are nothing else."""
_CHECKS: Mapping[str, Callable[[Told, Rule], str]] = MappingProxyType(
    {"threshold": _no_threshold, "message": _no_message, "advice": _no_message}
)
"""Why a setting is none of this very rule, as a sentence; empty if it is."""


def _silenced(rules: list[Rule], book: _Book, refusals: Refusals) -> list[Rule]:
    """The rules, silenced by those that options name; never in a circle."""
    for number, rule in enumerate(rules):
        for told in reversed([each for each in book[rule.name] if each.key == "inhibited_by"]):
            unknown = [pattern for pattern in told.value if not any(_is_meant(pattern, name) for name in book)]
            if unknown:
                refusals.refuse(told, f"it takes rules, and {unknown[0]!r} is none; {nearest(unknown[0], book)}")
                continue
            if rule.name in told.value:
                refusals.refuse(told, "it takes other rules: none can silence itself")
                continue
            by = [name for pattern in told.value for name in book if name != rule.name and _is_meant(pattern, name)]
            changed = [*rules]
            changed[number] = replace(rule, inhibited_by=tuple(dict.fromkeys(by)))
            if _in_order(changed):
                rules = changed
                break
            refusals.refuse(told, "it takes rules that are not silenced by this one, nor by one that it silences")
    return rules


def _in_order(rules: Iterable[Rule]) -> bool:
    try:
        in_order(rules)
    except ValueError:
        return False
    return True
