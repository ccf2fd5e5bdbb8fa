# SPDX-License-Identifier: Apache-2.0
"""Rules that users write: a metric, what is made of it, and the side on which it is too much."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from otel_hwmetrics.alerts.conditions import Condition, Extreme
from otel_hwmetrics.alerts.over import Aggregate, Over
from otel_hwmetrics.alerts.refusals import REFUSED, Refusals, Told, nearest
from otel_hwmetrics.alerts.rule import Rule, Severity, Side
from otel_hwmetrics.alerts.settings import LAST, refused_amount
from otel_hwmetrics.catalog import METRICS, own
from otel_hwmetrics.config import FAMILIES, OPTIONS, RuleSettings
from otel_hwmetrics.model import Kind, Metric

_METRICS = {metric.name: metric for metric in METRICS if metric.kind is not Kind.HISTOGRAM}
"""Those that have a reading at each look; what a histogram is made of is read otherwise, too."""
_OF_ALERTS = {metric.name for metric in (own.ALERT_ACTIVE, own.ALERT_TRANSITIONS, own.ALERT_TIME)}
_OF_THE_JOB = ("process.", "container.", "hwmetrics.tree.", "hwmetrics.training.")
"""How metrics begin that are of the job, and not of the host or a device."""
_NAME = re.compile(r"[a-z][a-z0-9_]*(?<!_threshold)(?<!_for)")
_NAMES = (
    "needs another name: one of small letters, digits and _, that does not end in _threshold or _for and with alert_ "
    "before it is no other option"
)


def written(name: str, told: Sequence[Told], refusals: Refusals) -> Rule | None:
    """The rule that a user wrote, before the settings that all rules have; None where none can be made of it.

    Args:
        name: What it is called.
        told: What is said of it, the weakest place first.
        refusals: Gets what is wrong.
    """
    kept = [each for each in told if each.value is not REFUSED]
    if {each.key for each in told} > {each.key for each in kept}:
        return None  # as was told already; without it the rule would be another one
    told, metrics = kept, [each for each in kept if each.key == "metric"]
    said = metrics[-1].said
    if not _NAME.fullmatch(name) or {f"alert_{name}"} & {*OPTIONS, *FAMILIES}:
        refusals.refuse_rule(said, _NAMES)
        return None
    metric, side = _metric(metrics, refusals), _side(told, said, refusals)
    condition = _condition(told, metric, side, refusals) if metric is not None and side is not None else None
    if metric is None or side is None or condition is None:
        return None
    if why := refused_amount(side.value, condition):
        refusals.refuse(side, why)
        return None
    return Rule(
        name,
        Severity.WARNING,
        condition,
        Side(side.key),
        float(side.value),
        slack=0.0,
        for_seconds=0.0,
        message=f"{metric.name}{'' if metric.name.startswith(_OF_THE_JOB) else ' of {device}'} is {{value}} ({{beyond}}).",
    )


def _metric(told: Sequence[Told], refusals: Refusals) -> Metric | None:
    for each in reversed(told):
        if each.value in _OF_ALERTS:
            refusals.refuse(each, "it takes a metric that is not made of alerts: those are judged before")
            continue
        if each.value in _METRICS:
            return _METRICS[each.value]
        hint = nearest(each.value, _METRICS, "docs/reference/metrics.md has them all")
        refusals.refuse(each, f"it takes the name of a metric; {hint}")
    return None


def _side(told: Sequence[Told], said: RuleSettings, refusals: Refusals) -> Told | None:
    """On which side it fires, and beyond what; the strongest place may say another one than a weaker."""
    keys = {side.value for side in Side}
    side = next((each for each in reversed(told) if each.key in keys), None)
    if side is None and not any(keys & each.said.settings.keys() for each in told):
        refusals.refuse_rule(said, "takes one of 'above' and 'below', and has neither")
    if side is not None and keys <= side.said.settings.keys():
        refusals.refuse_rule(side.said, "takes one of 'above' and 'below', and has both")
        return None
    return side


def _condition(told: Sequence[Told], metric: Metric, side: Told, refusals: Refusals) -> Condition | None:
    by_key = {each.key: each for each in told}  # the last one said, which counts
    where = _where(told, metric, refusals)
    aggregate, over = by_key.get("aggregate"), by_key.get("over")
    if where is None:
        return None
    if aggregate is None or aggregate.value == LAST:
        if over is None:
            return Extreme(metric, where, lowest=side.key == Side.BELOW.value)
        refusals.refuse(over, f"it takes an 'aggregate' beside it that is not {LAST}")
        return None
    if over is None:
        refusals.refuse(aggregate, "it takes an 'over' beside it, such as 5m")
        return None
    try:
        return Over(metric, Aggregate(aggregate.value), over.value, where, Side(side.key))
    except ValueError as error:
        refusals.refuse(aggregate, f"{error}")
        return None


def _where(told: Sequence[Told], metric: Metric, refusals: Refusals) -> Mapping[str, Any] | None:
    """Which series are meant, by the strongest place that names attributes of the metric; None where each is wrong."""
    said = [each for each in told if each.key == "where"]
    for each in reversed(said):
        wrong = [key for key in each.value if key not in metric.attributes]
        if not wrong:
            return dict(each.value)
        hint = nearest(wrong[0], metric.attributes, f"it has {', '.join(metric.attributes) or 'none'}")
        refusals.refuse(each, f"it takes attributes of {metric.name}, and {wrong[0]!r} is none; {hint}")
    return None if said else {}
