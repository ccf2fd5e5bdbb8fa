# SPDX-License-Identifier: Apache-2.0
"""/proc/diskstats: what each block device has done since boot.

https://docs.kernel.org/admin-guide/iostats.html. Pure: bytes to values.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

SECTOR: Final = 512
"""Bytes; whatever the device's own sectors are (Documentation/ABI/testing/procfs-diskstats)."""

_COLUMNS: Final = 4  # major, minor, name, and the counters as one
# Operations under way, the ninth counter, are no count: some drivers let it fall below zero.
_COUNTERS: Final = re.compile(rb"(\d{1,19})" + rb" (\d{1,19})" * 7 + rb" \d+" + rb" (\d{1,19})" + rb" \d+(?: \d+)*")


class Disk(NamedTuple):
    """Counts since boot; times in milliseconds, which wrap at 2**32 (49 days of work) on kernels before 5.0."""

    reads: int
    reads_merged: int
    sectors_read: int
    read_ms: int
    writes: int
    writes_merged: int
    sectors_written: int
    write_ms: int
    io_ms: int


def records(content: bytes) -> tuple[dict[bytes, bytes], int]:
    """The counters of each device by its name, not taken apart: most devices are partitions and loops.

    And the number of lines that have no name or no counters.

    Raises:
        ValueError: No line is of a device though there are some, or the last one is cut off.
    """
    if content and not content.endswith(b"\n"):
        raise ValueError("/proc/diskstats ends within a line")
    lines = [line.split(None, _COLUMNS - 1) for line in content.splitlines()]
    found = {columns[2]: columns[3] for columns in lines if len(columns) == _COLUMNS}
    odd = sum(len(columns) != _COLUMNS for columns in lines) if len(found) < len(lines) else 0
    if odd and not found:
        raise ValueError("/proc/diskstats has no line of a device")
    return found, odd


def parse(record: bytes) -> Disk:
    """The counters of one device.

    Raises:
        ValueError: They are not the eleven or more of kernels since 2.6.25.
    """
    match = _COUNTERS.fullmatch(record)
    if match is None:
        raise ValueError("/proc/diskstats has a device without its counters")
    return Disk._make(map(int, match.groups()))
