# SPDX-License-Identifier: Apache-2.0
"""One flat name for one series, for loggers that know names and numbers alone.

The name is the metric's and, behind a ``/``, a part for its device and one for the value of each further attribute, in the
order of the metric's row: ``hw.gpu.utilization/gpu_0.general``, ``system.memory.usage/used``, ``system.uptime``. It follows
from the series alone, so it is the same in every snapshot and in every run, but where two devices of one kind have one name.

- **Devices.** A GPU is ``gpu_`` and the number by which the driver's tools call it, with its vendor before that if it is
  not NVIDIA's: ``gpu_0``, ``amd_gpu_0``. A MIG instance is ``gpu_0_mig_1_0``; an allocator ``cuda_`` and CUDA's ordinal; any
  other device goes by its ``hw.name``, else by its ``hw.id``. What is further known of a device (model, driver, UUID) is left
  out. Devices that have all this in common, which no source of ours tells of, have ``--`` and a digest each while they
  are there together.
- **Missing attributes.** A value is told with its key, ``key--value``, where one before it in the row is missing.
- **Characters.** Letters, digits, ``_`` and ``-`` stay. A value with anything else, or of more than 64 characters, has
  ``_`` in its place and ends in ``--`` and eight digits of its SHA-256, so that two values never have one name: a file
  system at ``/data`` is ``data--bd47413b``. Likewise a name of more than 250 characters.

So names are of letters, digits and ``._-/``, which MLflow, W&B and TensorBoard take as they are, and each of them groups by
what is before the ``/``. There is one at most, since MLflow may keep what is before another in a file of that name.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from otel_hwmetrics.model import Attribute, Series

# By their names in the conventions and in the catalog, which is on a floor above (tests/test_as_dict.py compares them).
HW_ID: Final = "hw.id"
HW_NAME: Final = "hw.name"
HW_VENDOR: Final = "hw.vendor"
HW_DRIVER_VERSION: Final = "hw.driver_version"
GPU_INDEX: Final = "hwmetrics.gpu.index"
CUDA_ORDINAL: Final = "hwmetrics.cuda.ordinal"
OF_DEVICES: Final = frozenset(
    {
        *(HW_ID, HW_NAME, GPU_INDEX, CUDA_ORDINAL),
        *(HW_VENDOR, HW_DRIVER_VERSION, "hw.parent", "hw.type", "hw.model"),
    }
)
"""Attributes that together tell one device, and are one part of the name."""

NVIDIA: Final = "nvidia"

LONGEST: Final = 64
"""Characters of a part that are kept as they are."""
LONGEST_NAME: Final = 250
"""What MLflow takes (mlflow.utils.validation.MAX_ENTITY_KEY_LENGTH)."""

_CLEAN: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?")
_ANYTHING_ELSE: Final = re.compile(r"[^A-Za-z0-9_-]+")
_MIG: Final = re.compile(r"MIG (\d+(?:/\d+)*)")


@lru_cache(maxsize=8192)
def flat_name(series: Series) -> str:
    """The name of a series. From any thread."""
    parts = ".".join(_parts(series))
    name = f"{series.metric.name}/{parts}" if parts else series.metric.name
    return _cut(name)


def told_apart(name: str, series: Series) -> str:
    """The name of a series that shares its `flat_name` with another. It outlives an update of the driver."""
    lasting = sorted((key, value) for key, value in series.attributes.items() if key != HW_DRIVER_VERSION)
    return _cut(f"{name}--{_digest(repr(lasting))}")


def _cut(name: str) -> str:
    """The name itself where it is short enough."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 10]}--{_digest(name)}"


def _parts(series: Series) -> Iterator[str]:
    attributes = series.attributes
    device = _device(attributes)
    if device:
        yield device
    missing = False
    for key in (*series.metric.attributes, *sorted(set(attributes) - set(series.metric.attributes))):
        if key in OF_DEVICES:
            continue
        if key in attributes:
            value = _legal(_as_text(attributes[key]))
            yield f"{key}--{value}" if missing or key not in series.metric.attributes else value
        missing = missing or key not in attributes


def _device(attributes: Mapping[str, Attribute]) -> str:
    name = str(attributes.get(HW_NAME, ""))
    if GPU_INDEX in attributes:
        part = _MIG.search(name)
        vendor = _legal(str(attributes.get(HW_VENDOR, NVIDIA)).lower().replace(" ", "_"))
        maker = f"{vendor}_" if vendor != NVIDIA else ""
        return f"{maker}gpu_{attributes[GPU_INDEX]}" + (f"_mig_{part[1].replace('/', '_')}" if part is not None else "")
    if CUDA_ORDINAL in attributes:
        return f"cuda_{attributes[CUDA_ORDINAL]}"
    if name:
        return _legal(name.lower().replace(" ", "_"))
    return _legal(str(attributes[HW_ID])) if HW_ID in attributes else ""


def _as_text(value: Attribute) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _legal(text: str) -> str:
    """The text itself where nothing is wrong with it."""
    if len(text) <= LONGEST and "--" not in text and _CLEAN.fullmatch(text):
        return text
    kept = _ANYTHING_ELSE.sub("_", text).strip("_-")[:LONGEST]
    return f"{kept}--{_digest(text)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
