# SPDX-License-Identifier: Apache-2.0
"""What a path lies on: the mount that holds it, and the disks below that, through partitions, volumes and RAID.

https://docs.kernel.org/admin-guide/sysfs-rules.html and Documentation/ABI/stable/sysfs-block.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from typing import Final

from otel_hwmetrics.sources.linux.mounts import Mount

_DEEPEST: Final = 16
"""Devices on devices; loops of links are none of the kernel's."""


def holder(path: str, mounts: Iterable[Mount]) -> Mount | None:
    """The mount that holds a path, whether the path exists or not; None only where not even the root is shown.

    Args:
        path: Absolute and without symbolic links.
        mounts: In the order in which they were made: of two at one place the later one is seen.
    """
    seen = {mount.point: mount for mount in mounts}
    while path not in seen:
        above = os.path.dirname(path)
        if above == path:
            return None
        path = above
    return seen[path]


def below(mount: Mount, sys_root: str = "/sys") -> tuple[str, ...]:
    """The names of the whole disks that the filesystem lies on, as /proc/diskstats has them, sorted.

    Empty where it lies on none, as at a server or in memory, or where the kernel does not show it. Of ZFS none is known.
    """
    found: set[str] = set()
    if mount.number.startswith("0:"):
        for name in _of_pool(mount, sys_root):
            _descend(f"{sys_root}/class/block/{name}", sys_root, found)
    else:
        _descend(f"{sys_root}/dev/block/{mount.number}", sys_root, found)
    return tuple(sorted(found))


def _descend(device: str, sys_root: str, found: set[str], depth: int = 0) -> None:
    directory = os.path.realpath(device)
    if depth > _DEEPEST or not os.path.isdir(directory):
        return
    if os.path.exists(f"{directory}/partition"):
        directory = os.path.dirname(directory)
    members = _entries(f"{directory}/slaves")
    for member in members:
        _descend(f"{sys_root}/class/block/{member}", sys_root, found, depth + 1)
    if not members:
        found.add(os.path.basename(directory).replace("!", "/"))  # as sysfs writes a slash in a name


def _of_pool(mount: Mount, sys_root: str) -> list[str]:
    """The members of the btrfs that a filesystem's first device belongs to."""
    if mount.type != "btrfs":
        return []
    first = os.path.basename(os.path.realpath(mount.source))
    for path in glob.glob(f"{glob.escape(sys_root)}/fs/btrfs/*/devices/{glob.escape(first)}"):
        return _entries(os.path.dirname(path))
    return []


def _entries(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:  # it has none, or the device is gone
        return []
