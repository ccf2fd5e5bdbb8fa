# SPDX-License-Identifier: Apache-2.0

"""What one scripted GPU reports: its settings, a module per subject."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from otel_hwmetrics.testing.gpu.activity import Utilization
from otel_hwmetrics.testing.gpu.board import ARCHITECTURES, Board
from otel_hwmetrics.testing.gpu.health import Health
from otel_hwmetrics.testing.gpu.inside import FakeMig, FakeProcess
from otel_hwmetrics.testing.gpu.links import NvLinks, Pcie
from otel_hwmetrics.testing.gpu.power import Clocks, Power, Thermals
from otel_hwmetrics.testing.gpu.settings import names, parts, switch, whole
from otel_hwmetrics.testing.values import InvalidValueError, Signal, Value, is_number, signal

__all__ = ["ARCHITECTURES", "FakeGpu", "FakeMig", "FakeProcess", "InvalidValueError", "Signal", "Value", "is_number"]

# What a signed or unsigned number of 64 bits can be; one more wraps.
_LOWEST_FIELD = -(2.0**63)
_HIGHEST_FIELD = 2.0**64


@dataclass(frozen=True, kw_only=True)
class FakeGpu(Board, Utilization, Power, Thermals, Clocks, Pcie, NvLinks, Health):
    """One scripted GPU: by default an H100 that is well and idle.

    The rest of its settings is described where they are declared, in the classes this one is made of.

    Attributes:
        processes: Who uses it.
        mig: The devices that MIG splits it into; with any, MIG mode is on.
        mig_capable: Whether it can be split.
        max_mig_devices: Into how many at most.
        fields: Values that `nvmlDeviceGetFieldValues` gives in place of those that follow from the rest, by name
            (`"NVML_FI_DEV_..."`) or number, in NVML's own unit.
        unsupported_fields: Names or numbers of fields that answer NVML_ERROR_NOT_SUPPORTED.
        unsupported: Names of C functions that answer NVML_ERROR_NOT_SUPPORTED.

    Raises:
        ValueError: A value is not allowed; the message names the field, the value and what is.
    """

    processes: Collection[FakeProcess] = parts(FakeProcess)
    mig: Collection[FakeMig] = parts(FakeMig)
    mig_capable: bool = switch(default=True)
    max_mig_devices: int = whole(7, 0, 7)
    fields: Mapping[str | int, Value] = field(default_factory=dict)
    unsupported_fields: Collection[str | int] = names("NVML fields")
    unsupported: Collection[str] = names("NVML functions")

    def __post_init__(self) -> None:
        """Check every setting but the names of what NVML has, which only `FakeNvml` knows."""
        super().__post_init__()
        if not isinstance(self.fields, Mapping):
            raise InvalidValueError(self.fields, "fields", "a table of NVML fields")
        self.field_signals()

    def field_signals(self) -> dict[str | int, Signal]:
        """Return the checked values of `fields`.

        Raises:
            ValueError: A value is not allowed.
        """
        return {
            key: signal(f"fields.{key}", value, _LOWEST_FIELD, _HIGHEST_FIELD) for key, value in self.fields.items()
        }
