# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: RUF009 - the calls are `dataclasses.field`
"""What a board is, and its memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from otel_hwmetrics.testing.gpu.settings import BYTES, Settings, choice, quantity, switch, text, whole, wholes
from otel_hwmetrics.testing.values import Value

GIB: Final = 1024**3

ARCHITECTURES: Final = ("kepler", "maxwell", "pascal", "volta", "turing", "ampere", "ada", "hopper", "blackwell")
"""By age; NVML numbers them from 2 on."""


def _usable(owner: Any) -> int:
    usable: int = owner.memory_total - owner.memory_reserved
    return usable


@dataclass(frozen=True, kw_only=True)
class Memory(Settings):
    """Device memory, of a GPU or of a MIG device.

    Attributes:
        memory_total: Device memory in bytes.
        memory_reserved: Bytes the driver keeps; NVML's first memory call counts them as used, the second does not.
        memory_used: Bytes allocated by processes; at most `memory_total - memory_reserved`.
    """

    memory_total: int = whole(80 * GIB, 1, BYTES, "bytes")
    memory_reserved: int = whole(0, 0, lambda owner: owner.memory_total, "bytes")
    memory_used: Value = quantity(0.0, _usable)


@dataclass(frozen=True, kw_only=True)
class Board(Memory):
    """What does not change in a board's life, and its memory.

    Attributes:
        name: The product name.
        uuid: The UUID as NVML prints it, `GPU-xxxxxxxx-xxxx-...`; empty derives one from the index, always the same.
        serial: The serial number; empty is NOT_SUPPORTED, as on consumer boards.
        vbios: The version of the board's firmware.
        pci_bus_id: Where it is plugged in, `00000000:1B:00.0`; empty derives one from the index.
        architecture: One of `ARCHITECTURES`.
        compute_capability: CUDA's, major and minor.
        persistence_mode: Whether the driver stays loaded without a user.
        bar1_total: Bytes that the host can map.
        bar1_used: Bytes of those that are mapped.
    """

    name: str = text("NVIDIA H100 80GB HBM3")
    uuid: str = text("")
    serial: str = text("1654922000001")
    vbios: str = text("96.00.89.00.01")
    pci_bus_id: str = text("")
    architecture: str = choice("hopper", ARCHITECTURES)
    compute_capability: tuple[int, int] = wholes((9, 0), 2, 99)
    persistence_mode: bool = switch(default=True)
    bar1_total: int = whole(128 * GIB, 0, BYTES, "bytes")
    bar1_used: Value = quantity(0.0, lambda board: board.bar1_total)
