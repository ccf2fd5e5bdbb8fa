# SPDX-License-Identifier: Apache-2.0
"""What an alert is about: one device, one error of it, one filesystem, one source; or the host."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Generic, TypeVar

from opentelemetry.semconv._incubating.attributes.hw_attributes import HwTypeValues

from otel_hwmetrics.catalog import gpu, own
from otel_hwmetrics.model import Attribute, Series


@dataclass(frozen=True, eq=False)
class Subject:
    """What an alert is about. Two are the same if their keys are, whatever else is known of either.

    Attributes:
        key: A device's ``hw.id``; of what has none, an attribute that tells it from its like; empty for the host.
        attributes: What is known of it, for the event.
        whole: The key of the device that it is a part of, as an XID of a GPU is; empty if it is a part of nothing else.
    """

    key: str
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    whole: str = ""

    # Written out: they are asked thousands of times a second, and a text knows its hash.
    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Subject) and self.key == other.key)

    def __hash__(self) -> int:
        return hash(self.key)

    @property
    def name(self) -> str:
        """What people call it; empty for the host."""
        attributes = self.attributes
        if gpu.HW_NAME in attributes:
            return str(attributes[gpu.HW_NAME])
        if gpu.CUDA_ORDINAL in attributes:  # an allocator's: it knows a GPU's UUID, and not its name
            return f"cuda:{attributes[gpu.CUDA_ORDINAL]}"
        return str(attributes.get(gpu.HW_ID) or next(iter(attributes.values()), self.key))

    def part(self, name: str, value: Attribute) -> Subject:
        """What an attribute tells from the like of it on the same device; people call it as they call the device."""
        attributes = MappingProxyType({**self.attributes, name: value})
        return Subject(f"{self.key}/{name}={value}", attributes, self.key)


HOST = Subject("")

MOST_SUBJECTS = 512
"""Subjects of one rule; further ones, which are met later, are passed over."""

T = TypeVar("T")


class Memory(Generic[T]):
    """What a watcher remembers of each subject, of so many as an engine judges at most. Used by one thread at a time.

    Args:
        make: Makes it when a subject is met.
    """

    __slots__ = ("_known", "_make")

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._known: dict[str, T] = {}

    def of(self, subject: Subject) -> T | None:
        """What is remembered of a subject; None of one that is passed over."""
        if subject.key not in self._known and len(self._known) < MOST_SUBJECTS:
            self._known[subject.key] = self._make()
        return self._known.get(subject.key)


@lru_cache(maxsize=4096)
def subject_of(series: Series) -> Subject:
    """What a series is of. A sensor speaks for the device that it sits on."""
    attributes = series.attributes
    # A MIG instance has a parent, too, but is a device of its own; only a sensor has a location.
    parent = attributes.get(gpu.HW_PARENT) if gpu.HW_SENSOR_LOCATION in attributes else None
    if isinstance(parent, str):
        return Subject(parent, MappingProxyType(_of_parent(attributes, parent)))
    key = attributes.get(gpu.HW_ID)
    if not isinstance(key, str):
        return _without_id(attributes)
    return Subject(key, MappingProxyType({name: value for name, value in attributes.items() if name in gpu.DEVICE}))


def _of_parent(attributes: Mapping[str, Attribute], parent: str) -> dict[str, Attribute]:
    """What a sensor tells of the device that it sits on."""
    kept = {name: value for name, value in attributes.items() if name in gpu.DEVICE}
    del kept[gpu.HW_PARENT]
    # "GPU 0 memory temperature" with the id "<that of the GPU>/temperature/memory" sits on "GPU 0".
    kind = str(kept.pop(gpu.HW_ID, "")).removeprefix(f"{parent}/").partition("/")[0]
    name = str(kept.pop(gpu.HW_NAME, "")).removesuffix(f" {kind}")
    name = name.removesuffix(f" {attributes[gpu.HW_SENSOR_LOCATION]}")
    if gpu.GPU_INDEX in kept:
        kept[gpu.HW_TYPE] = HwTypeValues.GPU.value
        name = name or f"GPU {kept[gpu.GPU_INDEX]}"
    return {gpu.HW_ID: parent, **({gpu.HW_NAME: name} if name else {}), **kept}


def _without_id(attributes: Mapping[str, Attribute]) -> Subject:
    for identity in own.ALERT_IDENTITIES:
        if identity in attributes:
            value = attributes[identity]
            return Subject(f"{identity}={value}", MappingProxyType({identity: value}))
    return HOST
