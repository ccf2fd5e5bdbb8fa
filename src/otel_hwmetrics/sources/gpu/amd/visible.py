# SPDX-License-Identifier: Apache-2.0
"""Which GPUs ROCm leaves to the job, and by what numbers the job calls them.

The kernel's compute driver (KFD) numbers GPUs in an order of its own and hides those that a container was not given. Of
these ROCm's runtime takes what ``ROCR_VISIBLE_DEVICES`` says, and of those HIP takes what ``HIP_VISIBLE_DEVICES`` says or,
where that is empty, ``CUDA_VISIBLE_DEVICES``. ``GPU_DEVICE_ORDINAL`` is for OpenCL alone.
https://rocm.docs.amd.com/en/latest/conceptual/gpu-isolation.html; the finer points are those of the runtimes' sources
(``amd_filter_device.cpp`` of ROCR-Runtime, ``rocdevice.cpp`` of clr).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from otel_hwmetrics.sources.base import Unsupported
from otel_hwmetrics.sources.gpu.amd.sysfs import Address, read

_SHORTEST: Final = 5
_LONGEST: Final = 20
# Of a UUID that the runtime looks at: "GPU-" and 1 to 16 digits.


class Node(NamedTuple):
    """A GPU, or a part of one, that ROCm can use.

    Attributes:
        address: Where it is on PCI.
        uuid: ``GPU-`` and 16 hexadecimal digits; empty for models without.
    """

    address: Address
    uuid: str


def nodes(root: str) -> list[Node] | None:
    """The GPUs that the kernel shows to ROCm in this container, in ROCm's order; None without the compute driver.

    Args:
        root: Where /sys is.
    """
    topology = os.path.join(root, "class", "kfd", "kfd", "topology", "nodes")
    try:
        numbers = sorted(int(name) for name in os.listdir(topology) if name.isdecimal())
    except OSError:
        return None
    return [node for node in (_node(os.path.join(topology, str(number))) for number in numbers) if node is not None]


def _node(path: str) -> Node | None:
    try:
        pairs = (
            line.split() for line in read(os.path.join(path, "properties")).decode("ascii", "replace").splitlines()
        )
        properties = {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}  # noqa: PLR2004 - name and value
    except (OSError, ValueError, Unsupported):
        # No permission: a GPU of somebody else's.
        return None
    if not properties.get("simd_count"):
        return None  # a CPU
    location, serial = properties.get("location_id", 0), properties.get("unique_id", 0)
    address = Address(properties.get("domain", 0), location >> 8 & 0xFF, location >> 3 & 0x1F, location & 0x7)
    return Node(address, f"GPU-{serial:016x}" if serial else "")


def visible(environ: Mapping[str, str], uuids: Sequence[str]) -> list[int]:
    """The places of the GPUs that the environment leaves to the job, in the job's order.

    Args:
        environ: The environment.
        uuids: Of ROCm's GPUs in ROCm's order; empty for a model without.
    """
    left = _by_runtime(environ.get("ROCR_VISIBLE_DEVICES"), uuids)
    setting = environ.get("HIP_VISIBLE_DEVICES") or environ.get("CUDA_VISIBLE_DEVICES") or ""
    return [left[place] for place in _by_hip(setting, [uuids[place] for place in left])]


def _by_runtime(setting: str | None, uuids: Sequence[str]) -> list[int]:
    """Empty leaves none; the list ends at its first invalid entry and at one that was there already."""
    if setting is None:
        return list(range(len(uuids)))
    chosen: list[int] = []
    for entry in setting.split(","):
        token = entry.strip().upper()
        place = _by_uuid(token, uuids) if token.startswith("G") else _integer(token)
        if place is None or not 0 <= place < len(uuids) or place in chosen:
            break
        chosen.append(place)
    return chosen


def _by_uuid(token: str, uuids: Sequence[str]) -> int | None:
    """A UUID may be cut short, as long as it stays unique."""
    if not _SHORTEST <= len(token) <= _LONGEST:
        return None
    matching = [place for place, uuid in enumerate(uuids) if uuid.upper().startswith(token)]
    return matching[0] if len(matching) == 1 else None


def _integer(token: str) -> int | None:
    # C's strtol with base 0: decimal, 0x… hexadecimal, 0… octal.
    sign, digits = (-1, token[1:]) if token.startswith("-") else (1, token.removeprefix("+"))
    base = 16 if digits.startswith("0X") else 8 if digits.startswith("0") and len(digits) > 1 else 10
    if not digits.removeprefix("0X").isalnum() or not digits.isascii():
        return None
    try:
        return sign * int(digits.removeprefix("0X"), base)
    except ValueError:
        return None


def _by_hip(setting: str, uuids: Sequence[str]) -> list[int]:
    """Empty is not set; the list ends at its first invalid entry, and an entry twice counts once."""
    if not setting:
        return list(range(len(uuids)))
    chosen: list[int] = []
    for token in setting.split(","):
        if "GPU-" in token:
            place = next((place for place, uuid in enumerate(uuids) if token in uuid), None)
        else:
            # No spaces, signs or leading zeros: the number is written back and compared.
            place = int(token) if token.isdecimal() and token == str(int(token)) else None
        if place is None or place >= len(uuids):
            break
        if place not in chosen:
            chosen.append(place)
    return chosen


def settings(environ: Mapping[str, str]) -> str:
    """The variables that are set, for a message."""
    names = ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")
    return ", ".join(f"{name}={environ[name]!r}" for name in names if name in environ) or "the environment"
