# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: RUF009 - the calls are `dataclasses.field`
"""Errors of the memory, and what the driver thinks should be done."""

from __future__ import annotations

from dataclasses import dataclass

from otel_hwmetrics.testing.gpu.settings import COUNT, Settings, quantity, switch, wholes
from otel_hwmetrics.testing.values import Value

_ACTIONS = 15


@dataclass(frozen=True, kw_only=True)
class Health(Settings):
    """Memory errors, all counters, and the repairs that follow from them.

    Attributes:
        ecc: Whether error correction is on.
        ecc_corrected_volatile: Corrected errors since the driver was loaded.
        ecc_uncorrected_volatile: Uncorrected errors since then.
        ecc_corrected_aggregate: Corrected errors in the board's life.
        ecc_uncorrected_aggregate: Uncorrected errors in the board's life.
        row_remapping: Whether the board repairs memory by row (Ampere and newer).
        remapped_correctable: Rows remapped for corrected errors.
        remapped_uncorrectable: Rows remapped for uncorrected errors.
        remap_pending: 1 where a repair waits for the next reset.
        remap_failure: 1 where a repair was not possible.
        remap_histogram: How many banks have all their spare rows, most, some, few and none.
        page_retirement: Whether the board repairs memory by page (before Ampere).
        retired_single_bit: Pages retired for single bit errors.
        retired_double_bit: Pages retired for double bit errors.
        retired_pending: 1 where a retirement waits for the next restart.
        recovery_action: What the driver asks for, one of NVML_GPU_RECOVERY_ACTION_*: 0 is nothing, 1 a reset.
    """

    ecc: bool = switch(default=True)
    ecc_corrected_volatile: Value = quantity(0, COUNT)
    ecc_uncorrected_volatile: Value = quantity(0, COUNT)
    ecc_corrected_aggregate: Value = quantity(0, COUNT)
    ecc_uncorrected_aggregate: Value = quantity(0, COUNT)
    row_remapping: bool = switch(default=True)
    remapped_correctable: Value = quantity(0, COUNT)
    remapped_uncorrectable: Value = quantity(0, COUNT)
    remap_pending: Value = quantity(0, 1)
    remap_failure: Value = quantity(0, 1)
    remap_histogram: tuple[int, int, int, int, int] = wholes((640, 0, 0, 0, 0), 5, COUNT)
    page_retirement: bool = switch(default=False)
    retired_single_bit: Value = quantity(0, COUNT)
    retired_double_bit: Value = quantity(0, COUNT)
    retired_pending: Value = quantity(0, 1)
    recovery_action: Value = quantity(0, _ACTIONS)
