# SPDX-License-Identifier: Apache-2.0
"""The soak's GPUs: busy, and now and then hot, idle, full or at their limit, by a script that is drawn from a seed."""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable
from typing import Any, Final

from otel_hwmetrics.testing import FakeGpu

HALF_A_DAY: Final = 43_200
"""Seconds after which the script begins again."""
GIB: Final = 1024**3


def script(chance: random.Random, usual: float, episodes: list[tuple[float, int, int]]) -> Callable[[float], float]:
    """A quantity over half a day: usual, and now and then something else, or that in turns of some seconds.

    Args:
        chance: Where its numbers come from.
        usual: What it is most of the time.
        episodes: What it may be instead, for how long, and in turns of how many seconds; 0 for all of the time.
    """
    course = array("d", [usual]) * HALF_A_DAY
    at = chance.randint(100, 600)
    while at < HALF_A_DAY:
        value, lasts, turn = chance.choice(episodes)
        lasts = chance.randint(lasts // 2, lasts)
        for second in range(at, min(HALF_A_DAY, at + lasts)):
            if not turn or (second // turn) % 2:
                course[second] = value
        at += lasts + chance.randint(100, 600)
    return lambda seconds: course[int(seconds) % HALF_A_DAY]


def board(chance: random.Random, *, whole: bool) -> FakeGpu:
    """A GPU that is busy, and now and then hot, idle, full or at its limit.

    Args:
        chance: Where its numbers come from.
        whole: With all that a board of today tells; else with what was asked for ten years ago, which is quicker.
    """
    told: dict[str, Any] = {
        "temperature": script(
            chance, 60.0, [(84.0, 90, 0), (95.0, 60, 0), (83.0, 60, 2), (81.0, 90, 7), (30.0, 60, 0)]
        ),
        "utilization": script(chance, 0.95, [(0.0, 700, 0), (0.3, 900, 0), (0.0, 60, 5)]),
        "memory_used": script(chance, 40 * GIB, [(75 * GIB, 60, 0), (75 * GIB, 60, 4), (79 * GIB, 30, 0), (0, 60, 0)]),
        "power": script(chance, 350.0, [(690.0, 300, 0), (75.0, 60, 0)]),
    }
    if not whole:
        slow = ("BAR1MemoryInfo", "ClockInfo", "MaxClockInfo", "EncoderUtilization", "DecoderUtilization")
        links = ("PcieThroughput", "CurrPcieLinkGeneration", "CurrPcieLinkWidth", "PcieReplayCounter")
        limits = ("MaxPcieLinkGeneration", "MaxPcieLinkWidth", "PerformanceState", "TemperatureThreshold")
        lacks = tuple(f"nvmlDeviceGet{name}" for name in ("FieldValues", "Samples", *slow, *links, *limits))
        told |= {"architecture": "pascal", "gpm": False, "nvlinks": 0, "unsupported": lacks}
        told |= {"ecc": False, "row_remapping": False, "energy_counter": False}
    return FakeGpu(**told)
