# SPDX-License-Identifier: Apache-2.0
"""What options say of a rule, setting by setting, and why some of it cannot be taken."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from otel_hwmetrics.config import ConfigError, RuleSettings, show

REFUSED: Final = object()
"""The value of a setting that could not be taken."""


class Told(NamedTuple):
    """One setting of one rule.

    Attributes:
        rule: The rule's name.
        key: The setting's.
        value: What it is set to.
        said: By whom, maybe of several rules at once.
    """

    rule: str
    key: str
    value: Any
    said: RuleSettings


class Refusals:
    """Collects what is wrong: once for what was written once, of however many rules."""

    def __init__(self) -> None:
        self._errors: dict[tuple[str, str, str], ConfigError] = {}

    @property
    def errors(self) -> tuple[ConfigError, ...]:
        """All of them, in the order in which they were met."""
        return tuple(self._errors.values())

    def refuse(self, told: Told, why: str) -> None:
        """A setting cannot be taken, and what it takes, as a sentence of which the setting is "it"."""
        said = told.said
        shown = f"{show(said.settings.get(told.key))} ({said.place})"
        if said.option:
            text = f"option {said.option!r} is {shown}; as {told.key!r} of the rule {told.rule!r} {why}"
        else:
            of = f", for the rule {told.rule!r}" if said.rule != told.rule else ""
            text = f"rule {said.rule!r}: {told.key!r} is {shown}; {why}{of}"
        self._add(said, told.key, text)

    def refuse_key(self, said: RuleSettings, key: Any, known: Iterable[str]) -> None:
        """There is no such setting."""
        name = key if isinstance(key, str) else show(key)
        shown = f"{show(said.settings.get(key))} ({said.place})"
        self._add(
            said, name, f"rule {said.rule!r}: {name!r} is {shown}; there is no such setting, {nearest(name, known)}"
        )

    def refuse_name(self, said: RuleSettings, known: Iterable[str], otherwise: str) -> None:
        """There is no such rule, or no such option of one."""
        what, name = ("option", said.option) if said.option else ("rule", said.rule)
        self._add(said, "", f"there is no {what} {name!r} ({said.place}); {nearest(name, known, otherwise)}")

    def refuse_pattern(self, option: str, pattern: str, known: Iterable[str]) -> None:
        """An option names a rule that there is not."""
        said = RuleSettings(pattern, {}, option=option)
        self._add(
            said, pattern, f"option {option!r} names {pattern!r}, and there is no such rule; {nearest(pattern, known)}"
        )

    def refuse_rule(self, said: RuleSettings, why: str) -> None:
        """A rule cannot be made of what was said of it."""
        self._add(said, "", f"rule {said.rule!r} ({said.place}) {why}")

    def _add(self, said: RuleSettings, key: str, text: str) -> None:
        self._errors.setdefault((said.place, said.option or said.rule, key), ConfigError(text))


def nearest(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """For a name that is not known: the nearest one that is, else what there is."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]!r}?" if near else otherwise or f"there are {', '.join(names)}"
