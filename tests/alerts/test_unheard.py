# SPDX-License-Identifier: Apache-2.0
"""Rules of one's own that find nothing to judge."""

from __future__ import annotations

from typing import Any

import pytest

from otel_hwmetrics.alerts.builtin import RULES
from otel_hwmetrics.alerts.engine import Engine
from otel_hwmetrics.alerts.rulebook import rulebook
from otel_hwmetrics.alerts.unheard import PATIENCE, Unheard
from otel_hwmetrics.catalog import system
from otel_hwmetrics.config import resolve
from otel_hwmetrics.model import Reading, Series, Snapshot, Window

MEMORY = {"metric": "system.memory.usage", "above": 1}


def told(rules: dict[str, Any], seconds: int = round(3 * PATIENCE)) -> list[tuple[int, str]]:
    """What is told, each second, of rules of one's own on a host with free and used memory."""
    config, errors = resolve({"rules": rules}, {})
    made = rulebook(config)
    assert (errors, made.errors) == ((), ())
    engine, unheard = Engine(made.rules), Unheard(made.rules)
    said = []
    for at in range(seconds):
        readings = [
            Reading(Series(system.MEMORY_USAGE, {system.MEMORY_STATE: state}), 7e9, at) for state in ("used", "free")
        ]
        snapshot = Snapshot(readings, Window(at - 1, at), at * 10**9)
        engine.evaluate(snapshot)
        said += [(at, text) for text in unheard.look(snapshot, engine.judged)]
    return said


def test_a_slip_in_a_value_is_told_with_the_values_that_there_are() -> None:
    """Once, after a minute."""
    why = "there is no system.memory.usage with system.memory.state=usedd; system.memory.state is used or free"
    assert told({"mine": {**MEMORY, "where": {"system.memory.state": "usedd"}}}) == [
        (60, f"rule 'mine' has had nothing to judge for 60 s: {why}")
    ]


def test_a_metric_that_is_not_read_here_is_told() -> None:
    """Of an aggregate, too."""
    rule = {"metric": "system.network.io", "aggregate": "rate", "over": "1m", "above": 1}
    why = "nothing is read of what it looks at, the growth a second of system.network.io over 60 s"
    assert told({"mine": rule}) == [(60, f"rule 'mine' has had nothing to judge for 60 s: {why}")]


@pytest.mark.parametrize("rules", [{}, {"mine": {**MEMORY, "where": {"system.memory.state": ["used", "usedd"]}}}])
def test_of_what_is_judged_nothing_is_said(rules: dict[str, Any]) -> None:
    """Nor of the package's own rules, of which no machine has all."""
    assert len(RULES) > 30
    assert told(rules) == []
