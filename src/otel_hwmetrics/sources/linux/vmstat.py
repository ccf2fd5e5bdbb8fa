# SPDX-License-Identifier: Apache-2.0
"""/proc/vmstat: swapping and page faults since boot.

The names and their order are those of `enum vm_event_item` in the kernel's include/linux/vm_event_item.h, which keeps
each pair together. Pure: bytes to values.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_SWAPPED: Final = (b"\npswpin ", re.compile(rb"\npswpin (\d{1,19})\npswpout (\d{1,19})\n"))
_FAULTS: Final = (b"\npgfault ", re.compile(rb"\npgfault (\d{1,19})\npgmajfault (\d{1,19})\n"))


class VirtualMemory(NamedTuple):
    """Counts since boot; None for what a kernel does not tell.

    Attributes:
        swapped_in: Pages read from swap; a kernel without swap has none.
        swapped_out: Pages written to swap.
        faults: Page faults of either kind.
        major_faults: Of them, those that waited for a disk.
    """

    swapped_in: int | None
    swapped_out: int | None
    faults: int | None
    major_faults: int | None


def parse(content: bytes) -> VirtualMemory:
    """What the file tells.

    Raises:
        ValueError: A line of ours is not a number, or there is none of them.
    """
    found = VirtualMemory(*_pair(content, *_SWAPPED), *_pair(content, *_FAULTS))
    if found.faults is None and found.swapped_in is None:
        raise ValueError("/proc/vmstat tells neither of swapping nor of faults")
    return found


def _pair(content: bytes, begin: bytes, pattern: re.Pattern[bytes]) -> tuple[int, int] | tuple[None, None]:
    # From the end: events come after the zones and nodes, of which there are more lines with each kernel.
    start = content.rfind(begin)
    if start < 0:
        return None, None
    match = pattern.match(content, start)
    if match is None:
        raise ValueError(f"/proc/vmstat has no pair of numbers at {begin.decode().strip()}")
    first, second = match.groups()
    return int(first), int(second)
