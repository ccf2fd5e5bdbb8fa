# SPDX-License-Identifier: Apache-2.0
"""One NVIDIA GPU, or one MIG instance: its handle, and what it is part of."""

from __future__ import annotations

from typing import Any, Final

from otel_hwmetrics.sources.base import Clock
from otel_hwmetrics.sources.gpu.base import Identity
from otel_hwmetrics.sources.gpu.device import Device, within
from otel_hwmetrics.sources.gpu.nvidia.ours import Ours

_MOST_MILLIWATTS: Final = 100_000_000
# Beyond what any board can have.


class Gpu(Device):
    """A device of NVML.

    Attributes:
        nvml: The module.
        handle: NVML's, valid until the driver goes.
        links: How many NVLinks it has.
        ours: Tells the job's processes from others'.
        instance: The MIG GPU instance's id below ``parent``; None for a whole GPU.
        parent: The handle of the GPU that a MIG instance is part of.
    """

    def __init__(  # noqa: PLR0913 - what a device is
        self,
        nvml: Any,
        handle: Any,
        identity: Identity,
        clock: Clock,
        *,
        instance: int | None = None,
        parent: Any = None,
        ours: Ours | None = None,
    ) -> None:
        super().__init__(identity, clock)
        self.nvml = nvml
        self.handle = handle
        self.instance = instance
        self.parent = parent
        self.ours = Ours() if ours is None else ours
        self.links = 0


def watts(milliwatts: float) -> float:
    """Milliwatts as watts.

    Raises:
        ValueError: It is a sentinel or garbage.
    """
    return within(milliwatts, _MOST_MILLIWATTS, "power") / 1000
