# SPDX-License-Identifier: Apache-2.0
"""Lists of CPUs as sysfs writes them, and the clock speeds in /proc/cpuinfo. Pure: bytes to values."""

from __future__ import annotations

import re
from typing import Final

_RANGE: Final = re.compile(rb"(\d{1,6})(?:-(\d{1,6}))?")
_PROCESSOR: Final = re.compile(rb"^processor\s*: (\d{1,6})\n", re.MULTILINE)
_MHZ: Final = re.compile(rb"^cpu MHz\s*: (\d{1,7}\.\d{1,6})\n", re.MULTILINE)
_KHZ: Final = re.compile(rb"(\d{1,10})\n?")


def numbers(content: bytes) -> list[int]:
    """The CPUs of a list such as ``0-3,8``; https://docs.kernel.org/admin-guide/cputopology.html.

    Raises:
        ValueError: It is no such list.
    """
    found: list[int] = []
    for part in content.strip().split(b","):
        match = _RANGE.fullmatch(part)
        if match is None:
            raise ValueError("this is no list of CPUs")
        first = int(match[1])
        last = int(match[2] or first)
        if last < first:
            raise ValueError("a list of CPUs goes backwards")
        found += range(first, last + 1)
    return found


def frequency(content: bytes) -> float:
    """Hertz, of a cpufreq file, which has kHz; https://docs.kernel.org/admin-guide/pm/cpufreq.html.

    Raises:
        ValueError: It is no frequency, or 0, as of a CPU that does not tell.
    """
    match = _KHZ.fullmatch(content)
    if match is None or int(match[1]) == 0:
        raise ValueError("this is no frequency")
    return int(match[1]) * 1e3


def frequencies(content: bytes) -> dict[int, float]:
    """Hertz by CPU, of /proc/cpuinfo; empty on architectures that do not tell (Arm).

    Raises:
        ValueError: Some CPUs have a speed and others have not.
    """
    processors, speeds = _PROCESSOR.findall(content), _MHZ.findall(content)
    if speeds and len(speeds) != len(processors):
        raise ValueError("/proc/cpuinfo has CPUs without a speed")
    return {int(number): float(mhz) * 1e6 for number, mhz in zip(processors, speeds, strict=False)}
