# SPDX-License-Identifier: Apache-2.0
"""Moments made by hand, for what looks at snapshots."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from otel_hwmetrics.alerts.conditions import Condition, Finding, Totals, Watcher
from otel_hwmetrics.catalog import gpu
from otel_hwmetrics.model import Attribute, Metric, Reading, Series, Snapshot, Window

Attributes = Mapping[str, Attribute]
Told = tuple[Metric, Attributes, float]
"""A metric, the attributes of a series, its value."""


def gpu_attributes(index: int = 0, **more: Attribute) -> dict[str, Attribute]:
    """A GPU's attributes, as its source gives them."""
    attributes: dict[str, Attribute] = {
        gpu.HW_ID: f"GPU-{index}",
        gpu.HW_NAME: f"GPU {index}",
        gpu.HW_TYPE: "gpu",
        gpu.HW_VENDOR: "NVIDIA",
        gpu.HW_MODEL: "H200",
        gpu.GPU_INDEX: index,
    }
    return attributes | more


def sensor_attributes(index: int = 0, location: str = "gpu", kind: str = "temperature") -> dict[str, Attribute]:
    """The attributes of a sensor on a GPU, likewise."""
    device = {key: value for key, value in gpu_attributes(index).items() if key != gpu.HW_TYPE}
    return device | {
        gpu.HW_ID: f"GPU-{index}/{kind}/{location}",
        gpu.HW_NAME: f"GPU {index} {location} {kind}",
        gpu.HW_PARENT: f"GPU-{index}",
        gpu.HW_SENSOR_LOCATION: location,
    }


def snapshot(at: float, told: Iterable[Told], *, window: float = 1.0) -> Snapshot:
    """What is read at a moment, all at that moment."""
    readings = [Reading(Series(metric, attributes), value, at) for metric, attributes, value in told]
    return Snapshot(readings, Window(at - window, at), round(at * 1e9))


def watch(condition: Condition, totals: Totals | None = None) -> Watcher:
    """Somebody who looks for it, from where counters stand."""
    return condition.watcher(totals or {})


def once(condition: Condition, *told: Told) -> dict[str, Finding]:
    """What a condition finds at one look, by the key of the subject."""
    return {subject.key: finding for subject, finding in watch(condition).look(snapshot(1.0, told)).items()}


def values(findings: Mapping[str, Finding]) -> dict[str, float | None]:
    """The values alone."""
    return {key: finding.value for key, finding in findings.items()}
