# SPDX-License-Identifier: Apache-2.0
"""The energy counters of CPU packages and their memory (RAPL) in sysfs, Intel's and AMD's.

https://docs.kernel.org/power/powercap/powercap.html; the kernel's drivers/powercap/intel_rapl_common.c. Since kernels of
November 2020 only root may read them (CVE-2020-8694).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

_PACKAGE: Final = re.compile(r"package-\d+(?:-die-\d+)?")
_ZONE: Final = re.compile(r"(intel-rapl[a-z-]*):(\d+)")
_MEMORY: Final = re.compile(r"intel-rapl[a-z-]*:\d+:\d+")
_NUMBER: Final = re.compile(rb"(\d{1,19})\n?")
_STEPS: Final = 2**32
"""Values of the hardware's register (ENERGY_STATUS_MASK)."""


class Zone(NamedTuple):
    """One energy counter.

    Attributes:
        path: The file with its microjoules.
        package: Whose it is, by the driver's name: ``package-0``, ``package-0-die-1``.
        memory: Whether it counts the package's memory, which is not part of the package's own count.
        size: After how many microjoules it begins again at 0.
    """

    path: str
    package: str
    memory: bool
    size: int


def microjoules(content: bytes) -> int:
    """The number in a file.

    Raises:
        ValueError: There is none.
    """
    match = _NUMBER.fullmatch(content)
    if match is None:
        raise ValueError("this is no energy")
    return int(match[1])


def zones(sys_root: str = "/sys") -> list[Zone]:
    """Every package and its memory, each once. What cannot be read is not there.

    A package has parts (cores, graphics), which its count includes, and on some machines the whole platform has a count
    that includes the packages: neither is told, lest sums count them twice. Some kernels show the same package a second
    time through another interface (``intel-rapl-mmio``).
    """
    found: dict[tuple[str, bool], Zone] = {}
    top = f"{sys_root}/class/powercap"
    for entry in sorted(_entries(top), key=_order):
        package = _word(f"{top}/{entry}/name")
        if not _ZONE.fullmatch(entry) or not _PACKAGE.fullmatch(package):
            continue
        for zone in (_zone(f"{top}/{entry}", package, memory=False), *_memories(f"{top}/{entry}", package)):
            if zone is not None:
                found.setdefault((zone.package, zone.memory), zone)
    return list(found.values())


def _memories(directory: str, package: str) -> Iterator[Zone | None]:
    for entry in sorted(_entries(directory)):
        if _MEMORY.fullmatch(entry) and _word(f"{directory}/{entry}/name") == "dram":
            yield _zone(f"{directory}/{entry}", package, memory=True)


def _zone(directory: str, package: str, *, memory: bool) -> Zone | None:
    try:
        with open(f"{directory}/max_energy_range_uj", "rb") as file:
            highest = microjoules(file.read(64))
    except (OSError, ValueError):  # gone, or a counter that wraps nobody knows where
        return None
    if not highest:
        return None
    # The file has the last of the register's values; the one after it is 0 again, one step on.
    size = highest + -(-highest // (_STEPS - 1))
    return Zone(f"{directory}/energy_uj", package, memory, size)


def _order(entry: str) -> tuple[str, int]:
    """Processor registers first, then whatever else there is; packages by their numbers."""
    match = _ZONE.fullmatch(entry)
    return (match[1], int(match[2])) if match else ("~", 0)


def _entries(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:  # no RAPL, or a container in which it is hidden
        return []


def _word(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(128).decode("ascii", "replace").strip()
    except OSError:  # gone, or hidden
        return ""
