# SPDX-License-Identifier: Apache-2.0
"""What options say of alert rules: which rules there are is known on a floor above, and checked there."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from otel_hwmetrics.config.kinds import ConfigError


class RuleSettings(NamedTuple):
    """What one place says of one rule, or of several.

    Attributes:
        rule: A rule's name, or a pattern (``gpu_*``).
        settings: What is said, by key, as it was written.
        place: Where it was written, for messages.
        option: The option that says it, where that is not ``rules``.
    """

    rule: str
    settings: Mapping[str, Any]
    place: str = ""
    option: str = ""

    @property
    def reach(self) -> int:
        """How many rules it is said of: more of them come first, and are overwritten by what is said of one alone."""
        if "*" in self.rule or "?" in self.rule:
            return 0
        return 1 if self.option in FAMILIES else 2


class Family(NamedTuple):
    """Several rules that one option sets.

    Attributes:
        rules: Their names.
        key: The setting of each.
    """

    rules: tuple[str, ...]
    key: str


_MEMORY = ("gpu_memory_pressure", "gpu_oom_ahead", "host_memory_pressure", "host_memory_stalled", "host_oom_ahead")

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "alert_gpu_underutilization": Family(("gpu_underused", "gpu_idle"), "enabled"),
        "alert_memory_pressure": Family(_MEMORY, "enabled"),
        "gpu_util_threshold": Family(("gpu_underused",), "threshold"),
        "memory_threshold": Family(("gpu_memory_pressure", "host_memory_pressure"), "threshold"),
        "io_wait_threshold": Family(("io_bottleneck",), "threshold"),
    }
)
"""Options that training callbacks know by these names, and the rules that they mean. ``alert_io_bottleneck`` is the
switch of the rule of that name."""

_FLAT = re.compile(r"alert_(?P<rule>[a-z][a-z0-9_]*?)(?P<key>_threshold|_for)?")


def flat_options(rule: str) -> tuple[str, str, str]:
    """The three options of a rule: its switch, its threshold, its duration."""
    return f"alert_{rule}", f"alert_{rule}_threshold", f"alert_{rule}_for"


def flat_setting(option: str, value: Any, place: str) -> list[RuleSettings]:
    """What an option that is no row of the table says of rules: a rule's own, or a family's. Empty if it is neither."""
    family = FAMILIES.get(option)
    if family is not None:
        return [RuleSettings(rule, {family.key: value}, place, option) for rule in family.rules]
    match = _FLAT.fullmatch(option)
    if match is None:
        return []
    key = {"_threshold": "threshold", "_for": "for", None: "enabled"}[match["key"]]
    return [RuleSettings(match["rule"], {key: value}, place, option)]


def parse_rules(value: Any) -> tuple[RuleSettings, ...]:
    """The option ``rules``: a table of tables, or JSON of one. ``rule = false`` is short for ``enabled = false``.

    Raises:
        ConfigError: It is not JSON.
        TypeError: It is no table.
    """
    try:
        table = json.loads(value) if isinstance(value, str) else value
    except json.JSONDecodeError as error:
        raise ConfigError(f"not JSON: {error}") from error
    if isinstance(table, tuple) and all(map(_is_said, table)):
        return table
    if not isinstance(table, Mapping) or not all(isinstance(name, str) for name in table):
        raise TypeError(value)
    return tuple(
        RuleSettings(name, MappingProxyType(dict(said) if isinstance(said, Mapping) else {"enabled": said}))
        for name, said in table.items()
    )


def _is_said(each: Any) -> bool:
    return isinstance(each, RuleSettings) and isinstance(each.rule, str) and isinstance(each.settings, Mapping)
