# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: RUF009 - the calls are `dataclasses.field`
"""PCI Express and NVLink."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from otel_hwmetrics.testing.gpu.settings import BYTES, BYTES_PER_SECOND, COUNT, Settings, quantity, whole, wholes
from otel_hwmetrics.testing.values import Value

MOST_LINKS: Final = 18
"""NVML_NVLINK_MAX_LINKS of the oldest binding that is allowed; later ones have more."""


@dataclass(frozen=True, kw_only=True)
class Pcie(Settings):
    """PCI Express. Errors are counters: the script says what they show.

    Attributes:
        pcie_tx: Bytes a second to the host; the byte counter is its integral.
        pcie_rx: Bytes a second from the host, likewise.
        pcie_counter_bits: Width of the byte counters, after which they wrap; 32 makes NVML tell them as unsigned int.
        pcie_counter_offset: What both byte counters showed at install.
        pcie_generation: The link's, now.
        pcie_width: The link's lanes, now.
        pcie_generation_max: What the GPU and the slot can do together.
        pcie_width_max: Likewise in lanes.
        gpu_pcie_generation_max: What the GPU alone can do.
        pcie_replays: Packets sent again.
        pcie_correctable_errors: Errors that were corrected.
        pcie_non_fatal_errors: Errors that were not, and lost a packet.
        pcie_fatal_errors: Errors that were not, and broke the link.
    """

    pcie_tx: Value = quantity(0.0, BYTES_PER_SECOND)
    pcie_rx: Value = quantity(0.0, BYTES_PER_SECOND)
    pcie_counter_bits: int = whole(64, 16, 64)
    pcie_counter_offset: int = whole(0, 0, BYTES, "bytes")
    pcie_generation: Value = quantity(5, 8)
    pcie_width: Value = quantity(16, 32)
    pcie_generation_max: int = whole(5, 1, 8)
    pcie_width_max: int = whole(16, 1, 32)
    gpu_pcie_generation_max: int = whole(5, 1, 8)
    pcie_replays: Value = quantity(0, COUNT)
    pcie_correctable_errors: Value = quantity(0, COUNT)
    pcie_non_fatal_errors: Value = quantity(0, COUNT)
    pcie_fatal_errors: Value = quantity(0, COUNT)


@dataclass(frozen=True, kw_only=True)
class NvLinks(Settings):
    """NVLink, all links together: bytes are spread over the links that are up, errors are those of link 0.

    Attributes:
        nvlinks: How many there are; 0 makes every question about them NOT_SUPPORTED.
        nvlink_generation: 5 (Blackwell) counts bytes and errors in other fields than those before.
        nvlink_tx: Bytes of data a second, sent; the counters are its integral.
        nvlink_rx: Received, likewise.
        nvlinks_down: The links that are not active.
        nvlink_crc_flit_errors: Counter of checksum errors in flow control.
        nvlink_crc_data_errors: Counter of checksum errors in data.
        nvlink_replays: Counter of packets sent again.
        nvlink_recoveries: Counter of link recoveries.
    """

    nvlinks: int = whole(MOST_LINKS, 0, MOST_LINKS)
    nvlink_generation: int = whole(4, 1, 5)
    nvlink_tx: Value = quantity(0.0, BYTES_PER_SECOND)
    nvlink_rx: Value = quantity(0.0, BYTES_PER_SECOND)
    nvlinks_down: Collection[int] = wholes((), None, MOST_LINKS - 1)
    nvlink_crc_flit_errors: Value = quantity(0, COUNT)
    nvlink_crc_data_errors: Value = quantity(0, COUNT)
    nvlink_replays: Value = quantity(0, COUNT)
    nvlink_recoveries: Value = quantity(0, COUNT)
