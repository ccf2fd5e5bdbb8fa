# SPDX-License-Identifier: Apache-2.0
"""The rules that come with the package: one row each, with the thresholds and durations that options change."""

from __future__ import annotations

from otel_hwmetrics.alerts.builtin import gpu, host, own, training
from otel_hwmetrics.alerts.rule import Rule

RULES: tuple[Rule, ...] = (*training.RULES, *gpu.RULES, *host.RULES, *own.RULES)
"""Every row, in the order in which people read them."""

__all__ = ["RULES"]
