# SPDX-License-Identifier: Apache-2.0
"""/proc/meminfo: what the memory is used for.

https://docs.kernel.org/filesystems/proc.html, "meminfo". Pure: bytes to values.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_LABELS: Final = (
    b"MemTotal:",
    b"MemFree:",
    b"MemAvailable:",
    b"Buffers:",
    b"Cached:",
    b"SwapTotal:",
    b"SwapFree:",
    b"Shmem:",
    b"SReclaimable:",
    b"SUnreclaim:",
)
_SIZE: Final = rb" +(\d{1,15}) kB\n"
_OTHERS: Final = rb"(?:.*\n)*?"
# One pass in C over the order that the kernel has kept since 2.6.19, and that lxcfs and gVisor keep, too; some sixty
# lines taken apart in Python cost thrice as much.
_FORMAT: Final = re.compile(
    _LABELS[0]
    + _SIZE
    + _LABELS[1]
    + _SIZE
    + b"".join(b"(?:" + _OTHERS + label + _SIZE + b")?" for label in _LABELS[2:])
)


class Memory(NamedTuple):
    """Bytes; None for what a kernel does not tell.

    Attributes:
        total: Usable by Linux.
        free: Used for nothing at all.
        available: To be had without swapping; since 3.14.
        buffers: Cached blocks of block devices.
        cached: The page cache, with what is shared.
        swap_total: Swap space.
        swap_free: Of it, unused.
        shared: tmpfs and shared memory.
        slab_reclaimable: The kernel's caches that it gives up under pressure.
        slab_unreclaimable: Those that it does not.
    """

    total: int
    free: int
    available: int | None
    buffers: int | None
    cached: int | None
    swap_total: int | None
    swap_free: int | None
    shared: int | None
    slab_reclaimable: int | None
    slab_unreclaimable: int | None


def parse(content: bytes) -> Memory:
    """What the file tells, in bytes.

    Raises:
        ValueError: It does not begin with total and free memory, or another line of ours is not a size.
    """
    match = _FORMAT.match(content)
    if match is None:
        raise ValueError("/proc/meminfo does not begin with MemTotal and MemFree")
    sizes = match.groups()
    if None not in sizes:
        return Memory._make([int(size) * 1024 for size in sizes])
    for label, size in zip(_LABELS, sizes, strict=True):
        if size is None and b"\n" + label in content:
            raise ValueError(f"/proc/meminfo has no size of {label.decode()[:-1]}, or not in its place")
    return Memory._make([int(size) * 1024 if size is not None else None for size in sizes])
