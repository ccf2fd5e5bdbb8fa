# SPDX-License-Identifier: Apache-2.0
"""What rows of rules share."""

from __future__ import annotations

from typing import TypedDict

from otel_hwmetrics.alerts.rule import Side
from otel_hwmetrics.stepclock import CHECKPOINT, EVALUATION

RECENT = 300.0
"""Seconds for which an event counts: an alert on one is resolved when so long none has come."""

QUIET = (CHECKPOINT, EVALUATION)
"""Phases in which GPUs may well wait."""


class _Any(TypedDict):
    side: Side
    threshold: float
    slack: float
    for_seconds: float


def has(for_seconds: float = 0.0) -> _Any:
    """The threshold of rules that fire on any at all: a flag that is set, an error that came."""
    return _Any(side=Side.ABOVE, threshold=0.0, slack=0.0, for_seconds=for_seconds)
