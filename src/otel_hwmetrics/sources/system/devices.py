# SPDX-License-Identifier: Apache-2.0
"""Which disks and interfaces count, so that their sum is what went through the machine, each byte once.

The kernel counts a byte at every device that it passes: at the partition and its disk, at the RAID and its members, at
the container's end of a cable, the bridge and the card. Here hardware counts, and what stands on it does not; where
there is no hardware to be seen, as in a container, what stands on nothing else does. Linux tells it in sysfs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable
from typing import Final

from otel_hwmetrics.model import Series

JUDGED_FOR: Final = 60.0
"""Seconds for which a judgement holds while the table names the same devices: a card may be made part of a bond."""

_NOT_DISKS: Final = re.compile(r"(loop|ram|zram|zd|drbd|fd|sr)\d")
# Memory, removable media, and what stands on disks without saying so in sysfs: loops, ZFS volumes, DRBD.
_NOT_CABLES: Final = re.compile(r"(ifb|dummy)\d")
_ETHERNET: Final = "1"  # ARPHRD_ETHER of the kernel's include/uapi/linux/if_arp.h


class Counted:
    """The devices of one table that count, each with its series, which are made once for as long as it is there.

    Args:
        judge: Picks from names those that count.
        series_of: Makes the series of a device.
    """

    def __init__(
        self, judge: Callable[[Collection[str]], Iterable[str]], series_of: Callable[[str], tuple[Series, ...]]
    ) -> None:
        self._judge = judge
        self._series_of = series_of
        self._names: Collection[bytes] = ()
        self._due = 0.0
        self._series: dict[bytes, tuple[Series, ...]] = {}

    def among(self, names: Collection[bytes], at: float) -> dict[bytes, tuple[Series, ...]]:
        """Those that count of the names that a table has now, at ``at`` seconds of the monotonic clock."""
        if at >= self._due or names != self._names:
            by_text = {name.decode(errors="replace"): name for name in names}
            counted = [(by_text[text], text) for text in self._judge(by_text)]
            self._series = {name: self._series.get(name) or self._series_of(text) for name, text in counted}
            self._names, self._due = frozenset(names), at + JUDGED_FOR
        return self._series


def disks_that_count(names: Collection[str], sys_root: str = "/sys") -> list[str]:
    """Of the block devices those that stand on no other: no partitions, no volumes, no RAID over its members.

    A device without capacity (an empty slot, a network block device that is not connected) is none.
    """
    block = f"{sys_root}/block"
    if os.path.isdir(block):
        whole = [name for name in names if os.path.isdir(_of_disk(block, name)) and _has_capacity(block, name)]
    else:
        whole = [name for name in names if not _is_partition(name, names)]
    disks = [name for name in whole if not _NOT_DISKS.match(name)]
    # Stacked devices whose members are hidden from us are better than nothing.
    return [name for name in disks if not _entries(f"{_of_disk(block, name)}/slaves")] or disks


def interfaces_that_count(names: Collection[str], sys_root: str = "/sys") -> list[str]:
    """Of the network interfaces those with hardware, else the ends of virtual cables, else all but loopback."""
    net = f"{sys_root}/class/net"
    others = [name for name in names if name != "lo"]
    if not os.path.isdir(net):
        return others
    cards = [name for name in others if _is_card(net, name)]
    return cards or [name for name in others if _is_cable(net, name)] or others


def _of_disk(block: str, name: str) -> str:
    return f"{block}/{name.replace('/', '!')}"  # as sysfs writes a slash in a name


def _has_capacity(block: str, name: str) -> bool:
    return _word(f"{_of_disk(block, name)}/size") != "0"


def _is_partition(name: str, names: Collection[str]) -> bool:
    """By its name alone: sda1 of sda, nvme0n1p1 of nvme0n1."""
    match = re.fullmatch(r"(.+\d)p\d+|(.*\D)\d+", name)
    return match is not None and (match[1] or match[2]) in names


def _is_card(net: str, name: str) -> bool:
    # A card below a bond counts and the bond does not; but a pass-through card below a paravirtual one (Hyper-V's
    # netvsc, virtio's failover) is counted by that one already.
    return os.path.exists(f"{net}/{name}/device") and not os.path.exists(f"{net}/{name}/master/device")


def _is_cable(net: str, name: str) -> bool:
    below = [entry for entry in _entries(f"{net}/{name}") if entry.startswith("lower_")]
    joined = any(os.path.exists(f"{net}/{name}/{what}") for what in ("bridge", "bonding", "master"))
    return _word(f"{net}/{name}/type") == _ETHERNET and not below and not joined and not _NOT_CABLES.match(name)


def _entries(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:  # it has none, or the device is gone
        return []


def _word(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(64).decode("ascii", "replace").strip()
    except OSError:  # old kernels, captured trees, a device that is gone
        return ""
