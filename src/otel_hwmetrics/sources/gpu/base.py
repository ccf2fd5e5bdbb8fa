# SPDX-License-Identifier: Apache-2.0
"""What GPUs have in common, whoever made them: which one it is, as attributes."""

from __future__ import annotations

from dataclasses import dataclass

from opentelemetry.semconv._incubating.attributes.hw_attributes import HwTypeValues

from otel_hwmetrics.catalog import gpu as rows
from otel_hwmetrics.model import Attribute


@dataclass(frozen=True)
class Identity:
    """Which GPU it is.

    Attributes:
        uuid: The driver's own, as DCGM and CUDA write it (``GPU-…``).
        index: The driver's number for it.
        model: Marketing name.
        vendor: Maker.
        driver_version: Of the kernel driver.
        ordinal: CUDA's (ROCm's) number for it in this job, where that can be known.
        parent: The UUID of the GPU that this is a part of (a MIG instance); None for a whole GPU.
        part: What tells the part from its siblings, for its name.
    """

    uuid: str
    index: int
    model: str
    vendor: str
    driver_version: str | None
    ordinal: int | None = None
    parent: str | None = None
    part: str = ""

    @property
    def name(self) -> str:
        """What people call it: ``GPU 0``, ``GPU 0 MIG 2``."""
        return f"GPU {self.index} {self.part}".rstrip()

    def device(self) -> dict[str, Attribute]:
        """Attributes of what is measured on the GPU as a whole."""
        attributes: dict[str, Attribute] = {
            rows.HW_ID: self.uuid,
            rows.HW_NAME: self.name,
            rows.HW_TYPE: HwTypeValues.GPU.value,
            rows.HW_VENDOR: self.vendor,
            rows.HW_MODEL: self.model,
            rows.GPU_INDEX: self.index,
        }
        if self.driver_version:
            attributes[rows.HW_DRIVER_VERSION] = self.driver_version
        if self.ordinal is not None:
            attributes[rows.CUDA_ORDINAL] = self.ordinal
        if self.parent is not None:
            attributes[rows.HW_PARENT] = self.parent
        return attributes

    def sensor(self, kind: str, location: str) -> dict[str, Attribute]:
        """Attributes of a sensor on it, which is a component of its own in the conventions, with the GPU as parent."""
        own: dict[str, Attribute] = {
            rows.HW_ID: f"{self.uuid}/{kind}/{location}",
            rows.HW_NAME: f"{self.name} {location} {kind}",
            rows.HW_PARENT: self.uuid,
            rows.HW_SENSOR_LOCATION: location,
        }
        # A sensor has no hw.type in the conventions.
        return {key: value for key, value in self.device().items() if key != rows.HW_TYPE} | own
