# SPDX-License-Identifier: Apache-2.0
"""What runs came to, as text for people."""

from __future__ import annotations

from typing import Final

from otel_hwmetrics.display.report.totals import Prices, Totals
from otel_hwmetrics.display.words import duration, share

_INDENT: Final = "  "


def totals_lines(sums: Totals, prices: Prices) -> list[str]:
    """Lines of it; none where nothing is known."""
    lines = []
    if sums.cpu_seconds is not None:
        lines.append(f"CPU time   {duration(sums.cpu_seconds)}")
    if sums.energy is not None:
        cost = "" if sums.energy_cost is None else f", costs {sums.energy_cost:.2f} at {prices.kwh:g} a kWh"
        lines.append(f"Energy     {sums.energy / 3.6e6:.3f} kWh of GPUs{cost}")
    if sums.gpu_seconds is not None:
        cost = "" if sums.gpu_cost is None else f", costs {sums.gpu_cost:.2f} at {prices.gpu_hour:g} an hour"
        lines.append(f"GPU-hours  {sums.gpu_seconds / 3600:.2f}{cost}")
    if sums.gpu_idle_seconds is not None and sums.gpu_seconds:
        cost = "" if sums.gpu_idle_cost is None else f", costs {sums.gpu_idle_cost:.2f}"
        part = share(sums.gpu_idle_seconds / sums.gpu_seconds)
        lines.append(f"  idle     {sums.gpu_idle_seconds / 3600:.2f} ({part}){cost}")
    return ["Totals", *(f"{_INDENT}{line}" for line in lines)] if lines else []
