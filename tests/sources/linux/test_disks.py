# SPDX-License-Identifier: Apache-2.0
"""What a path lies on: the mount that holds it, and the whole disks below."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import systrees
from otel_hwmetrics.sources.linux import mounts
from otel_hwmetrics.sources.linux.disks import below, holder
from otel_hwmetrics.sources.linux.mounts import Mount

SERVER = (Path(__file__).parents[2] / "data" / "proc" / "server" / "self" / "mountinfo").read_bytes()

HOLDERS = {
    "/": "/",
    "/home/me/data": "/",
    "/data": "/data",
    "/data/sets/one": "/data",
    "/database": "/",  # not /data
    "/srv/one/train": "/srv/one",  # a bind mount
    "/mnt/nfs share/imagenet": "/mnt/nfs share",
    "/pool/home/me": "/pool/home",
    "/fs/home": "/fs/home",
    "/var/lib/docker/overlay2/1/merged/data": "/var/lib/docker/overlay2/1/merged",
    "relative": None,
}


@pytest.mark.parametrize("path", HOLDERS)
def test_the_mount_that_holds_a_path(path: str) -> None:
    """The deepest above it, whether it exists or not."""
    found = holder(path, mounts.parse(SERVER))
    assert (found.point if found is not None else None) == HOLDERS[path]


def test_of_two_mounts_at_one_place_the_later_holds() -> None:
    """As when a file server is mounted where the automounter was."""
    first = Mount("0:70", "/", "/net", True, "autofs", "/etc/auto.net")
    second = Mount("0:71", "/", "/net", True, "nfs4", "filer:/net")
    assert holder("/net/data", [first, second]) == second
    assert holder("/net/data", [second, first]) == first


DISKS = {
    "259:1": ("nvme0n1",),  # a partition
    "253:0": ("nvme0n1",),  # a volume on an encrypted partition
    "9:127": ("sda", "sdb"),  # RAID over a disk and a partition
    "104:1": ("cciss/c0d0",),  # a name with a slash
    "8:99": (),  # not shown
    "0:50": (),  # no block device
}


@pytest.mark.parametrize("number", DISKS)
def test_the_disks_below_a_filesystem(tmp_path: Path, number: str) -> None:
    """By the names that have counters in /proc/diskstats, each once."""
    root = systrees.unpack("server_disks", tmp_path)
    assert below(Mount(number, "/", "/data", True, "xfs", "/dev/x"), root) == DISKS[number]


def test_the_disks_below_a_pool(tmp_path: Path) -> None:
    """Every member of a btrfs, which mountinfo names by its first; of ZFS the kernel does not say."""
    root = systrees.unpack("server_disks", tmp_path)
    assert below(Mount("0:60", "/@", "/fs", True, "btrfs", "/dev/sdc"), root) == ("sdc", "sdd")
    assert below(Mount("0:60", "/@", "/fs", True, "btrfs", "/dev/other"), root) == ()
    assert below(Mount("0:61", "/", "/pool", True, "zfs", "tank"), root) == ()


def test_devices_in_a_circle_are_not_followed_for_ever(tmp_path: Path) -> None:
    """No kernel makes such; a broken tree must not hang."""
    for name, member in (("dm-0", "dm-1"), ("dm-1", "dm-0")):
        (tmp_path / f"class/block/{name}/slaves/{member}").mkdir(parents=True)
    (tmp_path / "dev/block").mkdir(parents=True)
    (tmp_path / "dev/block/253:0").symlink_to("../../class/block/dm-0")
    assert below(Mount("253:0", "/", "/data", True, "xfs", "/dev/x"), str(tmp_path)) == ()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and /sys")
def test_this_machine_s_paths_lie_on_disks_that_count() -> None:
    """Whatever holds the working directory; its disks, if any, are whole ones that the kernel has counters of."""
    found = holder(os.path.realpath(os.getcwd()), mounts.parse(Path("/proc/self/mountinfo").read_bytes()))
    assert found is not None
    for disk in below(found):
        assert os.path.isdir(f"/sys/block/{disk.replace('/', '!')}")
        assert f" {disk} " in Path("/proc/diskstats").read_text()
