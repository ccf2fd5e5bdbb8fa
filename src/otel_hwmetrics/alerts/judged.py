# SPDX-License-Identifier: Apache-2.0
"""What a rule judges: what is this process's own, or what each process of the job sees as well."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from otel_hwmetrics.alerts.conditions import Condition
from otel_hwmetrics.alerts.rule import Rule
from otel_hwmetrics.model import Metric


def judged_by(rule: Rule) -> frozenset[Metric]:
    """The metrics that a rule's values are of; what its condition takes for a sign beside them is not among them."""
    return frozenset(_metrics_in((rule.condition,)))


def _metrics_in(values: Iterable[object]) -> Iterator[Metric]:
    for value in values:
        if isinstance(value, Metric):
            yield value
        elif isinstance(value, Condition):
            yield from value.also
            yield from _metrics_in(vars(value).values())
        elif isinstance(value, tuple):
            yield from _metrics_in(value)
