# SPDX-License-Identifier: Apache-2.0
"""The host as a source: the way that the platform has, and nothing of the others'."""

from __future__ import annotations

import ntpath
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace

import psutil
import pytest

from otel_hwmetrics.catalog import system as rows
from otel_hwmetrics.sources.system import FilesystemSource, SystemSource

PARTITIONS = {
    "darwin": [
        ("/dev/disk3s1s1", "/", "apfs", "ro,local,rootfs"),
        ("/dev/disk3s5", "/System/Volumes/Data", "apfs", "rw,local"),
        ("//me@server/share", "/Volumes/share", "smbfs", "rw"),
        ("devfs", "/dev", "devfs", "rw,local"),
    ],
    "win32": [
        ("C:\\", "C:\\", "NTFS", "rw,fixed"),
        ("D:\\", "D:\\", "NTFS", "rw,fixed"),
        ("Z:\\", "Z:\\", "", "rw,remote"),
    ],
}


@pytest.fixture(params=["darwin", "win32"])
def platform(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A platform that looks like another one: its name, no /proc, and what the system calls are."""
    name: str = request.param
    everything = [SimpleNamespace(device=d, mountpoint=p, fstype=t, opts=o) for d, p, t, o in PARTITIONS[name]]
    local = [part for part in everything if part.device.startswith("/dev/") or "fixed" in part.opts]

    def disk_partitions(*, all: bool) -> list[SimpleNamespace]:  # noqa: A002 - psutil's own name
        return everything if all else local

    monkeypatch.setattr(psutil, "disk_partitions", disk_partitions)
    monkeypatch.setattr(sys, "platform", name)
    monkeypatch.delattr(os, "pread")
    monkeypatch.delattr(os, "sysconf")
    if name == "win32":
        monkeypatch.setattr(os, "path", ntpath)
        monkeypatch.delattr(os, "statvfs")
        monkeypatch.setattr(os, "getcwd", lambda: "C:\\Users\\me")
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=100, used=25, free=75))
    else:
        answer = SimpleNamespace(f_frsize=1, f_bsize=1, f_blocks=100, f_bfree=75, f_bavail=75)
        monkeypatch.setattr(os, "statvfs", lambda _: answer)
        monkeypatch.setattr(os, "getcwd", lambda: "/Users/me")
    return name


def unreachable(*_: object) -> str:
    """The root of a file tree that nobody may look at."""
    return os.sep + "nowhere"


def test_elsewhere_psutil_is_asked_and_no_file_of_linux_is_read(platform: str, replaced: Callable[[str], None]) -> None:
    """The metrics that psutil has there, with a source that knows no more than the platform."""
    for call in ("disk_io_counters", "net_io_counters", "cpu_freq", "cpu_count", "boot_time"):
        replaced(call)
    source = SystemSource(proc_root=unreachable(), sys_root=unreachable())
    batch = source.read()
    assert batch.lost == {}
    assert {reading.metric for reading in batch.readings} == {
        *(rows.CPU_TIME, rows.MEMORY_USAGE, rows.MEMORY_LIMIT, rows.PAGING_USAGE, rows.PAGING_UTILIZATION, rows.UPTIME),
        *(rows.DISK_IO, rows.DISK_OPERATIONS, rows.CPU_FREQUENCY, rows.CPU_LOGICAL_COUNT, rows.CPU_PHYSICAL_COUNT),
        *(rows.NETWORK_IO, rows.NETWORK_PACKETS, rows.NETWORK_ERRORS, rows.NETWORK_DROPPED),
    }
    source.close()


@pytest.fixture
def replaced(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Gives psutil answers that need no machine of its platform."""
    answers = {
        "disk_io_counters": {"disk0": SimpleNamespace(read_count=1, write_count=2, read_bytes=3, write_bytes=4)},
        "net_io_counters": {
            "en0": SimpleNamespace(
                bytes_sent=1, bytes_recv=2, packets_sent=3, packets_recv=4, errin=5, errout=6, dropin=7, dropout=8
            )
        },
        "cpu_freq": SimpleNamespace(current=2400.0),
        "cpu_count": 8,
        "boot_time": 1.0e9,
    }
    monkeypatch.setattr(psutil, "cpu_times", lambda: SimpleNamespace(user=1.0, system=3.0, idle=4.0))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=1000, available=600, free=600))
    monkeypatch.setattr(psutil, "swap_memory", lambda: SimpleNamespace(total=50, used=20, free=30))

    def replace(name: str) -> None:
        monkeypatch.setattr(psutil, name, lambda *_, **__: answers[name])

    return replace


def test_elsewhere_filesystems_are_psutils(platform: str) -> None:
    """Those on disks, and whatever holds the data, with what is used of them."""
    expected = {
        "darwin": ("/Volumes/share/set", {"/", "/System/Volumes/Data", "/Volumes/share"}),
        "win32": ("z:\\set", {"C:\\", "D:\\", "Z:\\"}),
    }
    path, points = expected[platform]
    batch = FilesystemSource(paths=[path], proc_root=unreachable()).read()
    assert batch.lost == {}
    assert {reading.attributes[rows.FILESYSTEM_MOUNTPOINT] for reading in batch.readings} == points
    told = FilesystemSource(proc_root=unreachable()).read().readings
    assert {reading.attributes[rows.FILESYSTEM_MOUNTPOINT] for reading in told} < points
    used = [reading.value for reading in told if reading.metric is rows.FILESYSTEM_UTILIZATION]
    assert used[:2] == [0.25, 0.75]


IMPORT = """
import os, sys
for name in ("pread", "sysconf", "statvfs", "sched_getaffinity"):
    if hasattr(os, name):
        delattr(os, name)
import time
for name in ("clock_gettime", "CLOCK_BOOTTIME"):
    if hasattr(time, name):
        delattr(time, name)
import otel_hwmetrics.sources.system
import otel_hwmetrics.sources.system.linux
print("psutil" in sys.modules)
"""


def test_nothing_of_linux_is_needed_to_import_it() -> None:
    """And nothing of psutil's where it is not asked."""
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
