# SPDX-License-Identifier: Apache-2.0
"""Rules of one's own that find nothing to judge: a slip in a value of `where` looks like a machine on which all is well."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from otel_hwmetrics.alerts.builtin import RULES
from otel_hwmetrics.alerts.conditions import Extreme, Readings
from otel_hwmetrics.alerts.over import Over
from otel_hwmetrics.alerts.rule import Rule, show_seconds
from otel_hwmetrics.model import Snapshot

PATIENCE = 60.0
"""Seconds after which it is told: a driver may take half a minute to start."""
MOST_VALUES = 8
"""Values of an attribute that are named."""

_OURS = {rule.name for rule in RULES}


class Unheard:
    """Tells, once of each, of rules that users wrote and that have found no series. Used by one thread at a time.

    Args:
        rules: Those that are judged; the package's own are passed over, since no machine has everything.
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._rules = [rule for rule in rules if rule.name not in _OURS]
        self._since: float | None = None

    def look(self, snapshot: Snapshot, judged: Callable[[str], bool]) -> Iterator[str]:
        """What there is to tell, a sentence for each rule.

        Args:
            snapshot: What was read.
            judged: Says of a rule, by its name, whether it ever found something to judge.
        """
        if not self._rules:
            return
        now = snapshot.window.end
        self._since = now if self._since is None else self._since
        if now - self._since < PATIENCE:
            return
        rules, self._rules = self._rules, []
        for rule in rules:
            if not judged(rule.name):
                yield f"rule {rule.name!r} has had nothing to judge for {show_seconds(now - self._since)}: {_why(rule, snapshot)}"


def _why(rule: Rule, snapshot: Snapshot) -> str:
    condition = rule.condition
    if not isinstance(condition, Extreme | Over) or not (readings := snapshot.of(condition.metric)):
        return f"nothing is read of what it looks at, {condition}"
    there: dict[str, dict[str, None]] = {key: {} for key in condition.where}
    for reading in readings:
        for key, values in there.items():
            values[str(reading.attributes.get(key))] = None
    told = "; ".join(f"{key} is {' or '.join([*values][:MOST_VALUES])}" for key, values in there.items())
    return f"there is no {Readings(condition.metric, condition.where)}; {told}"
