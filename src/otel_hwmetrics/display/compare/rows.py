# SPDX-License-Identifier: Apache-2.0
"""The figures that are compared: which way is better, what is worth telling, and in what words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

LOWER: Final = -1
HIGHER: Final = 1
NEITHER: Final = 0
"""Which way is better."""


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        title: In the table.
        unit: By UCUM.
        better: `LOWER`, `HIGHER`, or `NEITHER`: only shown.
        least: The smallest change that is told, where the spread within the runs says that it is no chance.
        unsure: Likewise where there is no spread to be had.
        share: Whether it is a share of the time, whose change is told in points, as it is, and not by what it was.
        whole: Whether it is of the whole run, and so comparable only where both did the same work.
        more: What is said where it is more, with ``{by}`` and ``{values}``.
        less: What is said where it is less.
    """

    title: str
    unit: str
    better: int = NEITHER
    least: float = 0.02
    unsure: float = 0.10
    share: bool = False
    whole: bool = False
    more: str = ""
    less: str = ""


_TIME = "{by} longer ({values})"
_SHORT = "{by} less time ({values})"

ROWS: Final[Mapping[str, Row]] = MappingProxyType(
    {
        "runtime": Row(
            "Runtime", "s", LOWER, unsure=0.05, whole=True,
            more=f"The run takes {_TIME}", less=f"The run takes {_SHORT}",
        ),
        "step.time": Row("Step", "s", LOWER, more=f"Steps take {_TIME}", less=f"Steps take {_SHORT}"),
        "samples": Row(
            "Samples a second", "{sample}", HIGHER,
            more="{by} more samples a second ({values})", less="{by} fewer samples a second ({values})",
        ),
        "tokens": Row(
            "Tokens a second", "{token}", HIGHER,
            more="{by} more tokens a second ({values})", less="{by} fewer tokens a second ({values})",
        ),
        "data.wait": Row(
            "Waiting for data", "1", LOWER, share=True, unsure=0.05,
            more="Training waits for data {by} more of the time ({values})",
            less="Training waits for data {by} less of the time ({values})",
        ),
        "gpu.activity": Row(
            "GPU activity", "1", HIGHER, share=True, unsure=0.05,
            more="GPUs are idle {by} less of the time (busy {values})",
            less="GPUs are idle {by} more of the time (busy {values})",
        ),
        "gpu.memory.peak": Row(
            "GPU memory, peak", "By", LOWER, unsure=0.05,
            more="GPU memory peaks {by} higher ({values})", less="GPU memory peaks {by} lower ({values})",
        ),
        "gpu.power": Row("GPU power", "W"),
        "gpu.temperature.peak": Row("GPU temperature, peak", "Cel"),
        "cpu": Row("CPUs busy", "{cpu}"),
        "cpu.seconds": Row(
            "CPU time", "s", LOWER, unsure=0.10, whole=True,
            more="The run takes {by} more CPU time ({values})", less="The run takes {by} less CPU time ({values})",
        ),
        "memory.peak": Row(
            "Memory, peak", "By", LOWER, unsure=0.05,
            more="Memory peaks {by} higher ({values})", less="Memory peaks {by} lower ({values})",
        ),
        "energy": Row(
            "GPU energy", "J", LOWER, unsure=0.05, whole=True,
            more="GPUs use {by} more energy ({values})", less="GPUs use {by} less energy ({values})",
        ),
        "energy.step": Row(
            "GPU energy a step", "J", LOWER, unsure=0.05,
            more="A step takes {by} more GPU energy ({values})", less="A step takes {by} less GPU energy ({values})",
        ),
    }
)  # fmt: skip
"""In the order in which people read them."""


def of_span(name: str, *, alone: bool) -> Row:
    """The row of a training span's name.

    Args:
        name: As it was recorded.
        alone: Whether a run has one of them.
    """
    words = f"{name[:1].upper()}{name[1:]}s" if name.isalpha() and not name.endswith("s") else f"Spans {name!r}"
    words, take = (f"Span {name!r}", "takes") if alone else (words, "take")
    return Row(
        f"Span {name!r}", "s", LOWER, whole=alone, more=f"{words} {take} {_TIME}", less=f"{words} {take} {_SHORT}"
    )
