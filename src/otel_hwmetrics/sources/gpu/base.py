# SPDX-License-Identifier: Apache-2.0
"""What GPUs have in common, whoever made them: attributes, and which of them are the job's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from opentelemetry.semconv._incubating.attributes.hw_attributes import HwTypeValues

from otel_hwmetrics.catalog import gpu as rows
from otel_hwmetrics.model import Attribute

_HIDE_ALL = {"", "-1", "nodevfiles", "none", "void"}


@dataclass(frozen=True)
class Identity:
    """Which GPU it is.

    Attributes:
        uuid: The driver's own, as DCGM and CUDA write it (``GPU-…``).
        index: The driver's number for it.
        model: Marketing name.
        vendor: Maker.
        driver_version: Of the kernel driver.
    """

    uuid: str
    index: int
    model: str
    vendor: str
    driver_version: str | None

    def device(self) -> dict[str, Attribute]:
        """Attributes of what is measured on the GPU as a whole."""
        attributes: dict[str, Attribute] = {
            rows.HW_ID: self.uuid,
            rows.HW_NAME: f"GPU {self.index}",
            rows.HW_TYPE: HwTypeValues.GPU.value,
            rows.HW_VENDOR: self.vendor,
            rows.HW_MODEL: self.model,
            rows.GPU_INDEX: self.index,
        }
        if self.driver_version:
            attributes[rows.HW_DRIVER_VERSION] = self.driver_version
        return attributes

    def sensor(self, kind: str, location: str) -> dict[str, Attribute]:
        """Attributes of a sensor on it, which is a component of its own in the conventions, with the GPU as parent."""
        own: dict[str, Attribute] = {
            rows.HW_ID: f"{self.uuid}/{kind}/{location}",
            rows.HW_NAME: f"GPU {self.index} {location} {kind}",
            rows.HW_PARENT: self.uuid,
            rows.HW_SENSOR_LOCATION: location,
        }
        # A sensor has no hw.type in the conventions.
        return {key: value for key, value in self.device().items() if key != rows.HW_TYPE} | own


def visible(setting: str | None, uuids: Sequence[str]) -> list[int]:
    """The indices of the GPUs that ``CUDA_VISIBLE_DEVICES`` leaves to the job, in its order.

    NVML ignores that variable, so a job on one of eight GPUs would report its neighbours'. CUDA's rules
    (https://docs.nvidia.com/cuda/cuda-c-programming-guide/#cuda-environment-variables): ordinals, or UUIDs that may be
    cut short as long as they stay unique; the list ends at its first invalid entry; an entry twice leaves nothing.
    Ordinals are taken in PCI order, which is CUDA's on machines with one model of GPU. A MIG instance stands for its
    GPU where its name says which (``MIG-GPU-<uuid>/…``); where it does not, every GPU is kept rather than the wrong one.

    Args:
        setting: The variable's value; None when it is not set, which leaves all.
        uuids: UUIDs of the machine's GPUs by index.
    """
    if setting is None:
        return list(range(len(uuids)))
    if setting.strip().lower() in _HIDE_ALL:
        return []
    chosen: list[int] = []
    for part in setting.split(","):
        entry = part.strip()
        if entry.startswith("MIG-"):
            parent = entry.removeprefix("MIG-").split("/")[0]
            if not parent.startswith("GPU-"):
                return list(range(len(uuids)))
            index = _index_of(parent, uuids)
            if index in chosen:
                continue
        else:
            index = _index_of(entry, uuids)
        if index is None:
            break
        if index in chosen:
            return []
        chosen.append(index)
    return chosen


def _index_of(entry: str, uuids: Sequence[str]) -> int | None:
    if entry.isdecimal():
        return int(entry) if int(entry) < len(uuids) else None
    matching = [index for index, uuid in enumerate(uuids) if entry.startswith("GPU-") and uuid.startswith(entry)]
    return matching[0] if len(matching) == 1 else None
