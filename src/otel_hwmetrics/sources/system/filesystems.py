# SPDX-License-Identifier: Apache-2.0
"""Filesystems: how full they are.

Those on this machine's disks, each once however often it is mounted, and those that servers give; no image, no memory,
no overlay, nothing of the kernel's own. But those that hold the working directory and the data set always.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import ClassVar, Final

from opentelemetry.semconv._incubating.attributes.system_attributes import SystemFilesystemStateValues

from otel_hwmetrics import redaction
from otel_hwmetrics.catalog import system as rows
from otel_hwmetrics.model import Series
from otel_hwmetrics.sources.base import Batch, Bench, Clock, Item, Reader, Source, Unsupported
from otel_hwmetrics.sources.linux.files import KernelFile
from otel_hwmetrics.sources.linux.mounts import Mount, parse
from otel_hwmetrics.sources.patient import Patient

EVERY: Final = 10.0
"""Seconds between two looks: a disk does not fill in less, and a server is not asked for nothing."""

_IMAGES: Final = frozenset({"squashfs", "erofs", "iso9660", "udf", "cramfs", "romfs"})
_POOLS: Final = frozenset({"btrfs", "zfs", "bcachefs"})
"""On disks, but with no block device of their own: several disks may be one filesystem."""
_SERVED: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "ceph", "lustre", "gpfs", "beegfs", "wekafs", "orangefs", "afs", "9p", "virtiofs"}
)
_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs", "overlay"})
_STATES: Final = (
    SystemFilesystemStateValues.USED.value,
    SystemFilesystemStateValues.FREE.value,
    SystemFilesystemStateValues.RESERVED.value,
)


class Filesystem:
    """One filesystem with its series."""

    def __init__(self, mount: Mount) -> None:
        self.mount = mount
        attributes = {
            rows.DEVICE: _printable(mount.source),
            rows.FILESYSTEM_MODE: "rw" if mount.writable else "ro",
            rows.FILESYSTEM_MOUNTPOINT: _printable(mount.point),
            rows.FILESYSTEM_TYPE: _printable(mount.type),
        }
        by_state = [{**attributes, rows.FILESYSTEM_STATE: state} for state in _STATES]
        self.limit = Series(rows.FILESYSTEM_LIMIT, attributes)
        self.usage = [Series(rows.FILESYSTEM_USAGE, each) for each in by_state]
        self.utilization = [Series(rows.FILESYSTEM_UTILIZATION, each) for each in by_state]
        self.sizes: Callable[[], tuple[int, ...]] = partial(_sizes, mount.point)
        if not hasattr(os, "statvfs"):
            self.sizes = partial(_sizes_elsewhere, mount.point)
        if not _answers_at_once(mount):
            self.sizes = Patient(self.sizes)


def _sizes(point: str) -> tuple[int, ...]:
    """Bytes used, free to users, and kept for root; together all that there are."""
    answer = os.statvfs(point)
    if not answer.f_bavail <= answer.f_bfree <= answer.f_blocks:
        raise ValueError(f"{point} has more free than there is")
    unit = answer.f_frsize or answer.f_bsize
    parts = (answer.f_blocks - answer.f_bfree, answer.f_bavail, answer.f_bfree - answer.f_bavail)
    return tuple(part * unit for part in parts)


def _sizes_elsewhere(point: str) -> tuple[int, ...]:
    answer = shutil.disk_usage(point)
    return answer.used, answer.free


def _usage(filesystem: Filesystem) -> Iterable[Item]:
    sizes = filesystem.sizes()
    limit = sum(sizes)
    if limit == 0:  # the kernel's own, or one that has no size, as some of object stores
        raise Unsupported
    yield filesystem.limit, limit
    for series, share, size in zip(filesystem.usage, filesystem.utilization, sizes, strict=False):
        yield series, size
        yield share, size / limit


READERS: tuple[Reader[Filesystem], ...] = (
    Reader(
        (rows.FILESYSTEM_LIMIT, rows.FILESYSTEM_USAGE, rows.FILESYSTEM_UTILIZATION),
        _usage,
        every=EVERY,
        call="statvfs",
        where="everywhere; reserved not on Windows",
    ),
)


class FilesystemSource(Source):
    """How full the filesystems are. On a thread of its own, and each filesystem of a server on another one.

    Args:
        clock: Time of the readings, in seconds of the monotonic clock.
        paths: Where the data lies; the filesystems that hold these and the working directory are always told of.
        proc_root: Where procfs is; Linux only.
    """

    name: ClassVar[str] = "filesystem"
    may_hang: ClassVar[bool] = True

    def __init__(self, clock: Clock = time.monotonic, *, paths: Sequence[str] = (), proc_root: str = "/proc") -> None:
        self._clock = clock
        self._resolved = {path: path for path in map(_absolute, paths)}
        self._resolve = {path: Patient(partial(os.path.realpath, path)) for path in self._resolved}
        self._file = KernelFile(f"{proc_root}/self/mountinfo", records=True) if _on_linux() else None
        self._due: float | None = None
        self._benches: dict[Mount, Bench[Filesystem]] = {}

    def read(self) -> Batch:
        """Every filesystem's size and use, as last asked for."""
        batch = Batch()
        now = self._clock()
        if self._due is None or now >= self._due:
            self._due = now + EVERY
            self._meet(batch)
        for bench in self._benches.values():
            bench.read_into(batch, self._clock)
        return batch

    def close(self) -> None:
        """Let go of the list of mounts."""
        if self._file is not None:
            self._file.close()

    def _meet(self, batch: Batch) -> None:
        """Find out what is mounted now. What cannot be found out leaves things as they were."""
        try:
            if self._file is not None:
                mounts = parse(self._file.read())
                real = {mount.point for mount in mounts if is_real(mount)}
            else:
                from otel_hwmetrics.sources.system import portable

                mounts, real = portable.mounts()
        except (OSError, ValueError) as error:
            batch.lose(type(error).__name__)
            return
        told = choose(mounts, self._wanted(), lambda mount: mount.point in real)
        self._benches = {mount: self._benches.get(mount) or _bench(mount) for mount in told}

    def _wanted(self) -> list[str]:
        """Where the job works and where its data lies, without symbolic links."""
        for path, resolve in self._resolve.items():
            try:
                self._resolved[path] = resolve()
            except (OSError, ValueError):  # it hangs, or is a loop of links: as it was, or as it is written
                continue
        try:
            return [os.getcwd(), *self._resolved.values()]
        except OSError:  # the working directory was removed
            return list(self._resolved.values())


def _bench(mount: Mount) -> Bench[Filesystem]:
    return Bench(Filesystem(mount), READERS, expected=(OSError, ValueError))


def choose(mounts: Iterable[Mount], wanted: Iterable[str], is_told: Callable[[Mount], bool]) -> list[Mount]:
    """Which mounts are told of: those that hold the wanted paths, and of the others each filesystem once."""
    seen = {mount.point: mount for mount in mounts}  # a later mount hides an earlier one at the same place
    chosen: dict[str, Mount] = {}
    for path in wanted:
        holder = _holder(path, seen)
        if holder is not None:
            chosen.setdefault(_identity(holder), holder)
    # The whole filesystem before its parts, and the shortest of names.
    for mount in sorted(seen.values(), key=lambda mount: (mount.root != "/", len(mount.point), mount.point)):
        if _identity(mount) not in chosen and is_told(mount):
            chosen[_identity(mount)] = mount
    return list(chosen.values())


def is_real(mount: Mount) -> bool:
    """Whether it keeps data: on a disk, or at a server. Filesystems in user space are not asked unless wanted."""
    if mount.type in _POOLS or mount.type in _SERVED:
        return True
    on_disk = not mount.number.startswith("0:") and mount.type not in _IMAGES
    # Container engines mount single files of the host's disk (/etc/hosts); loops are images of files.
    return on_disk and not mount.source.startswith("/dev/loop") and os.path.isdir(mount.point)


def _identity(mount: Mount) -> str:
    return f"zfs {mount.source.split('/')[0]}" if mount.type == "zfs" else mount.number


def _holder(path: str, by_point: dict[str, Mount]) -> Mount | None:
    """The mount that a path lies on."""
    places = {os.path.normcase(point): mount for point, mount in by_point.items()}
    place = os.path.normcase(path)
    while place not in places:
        above = os.path.dirname(place)
        if above == place:
            return None
        place = above
    return places[place]


def _answers_at_once(mount: Mount) -> bool:
    on_disk = not mount.number.startswith("0:") and not mount.type.startswith("fuse")
    return on_disk or mount.type in _POOLS or mount.type in _IN_MEMORY


def _absolute(path: str) -> str:
    """The path as it is meant now, whatever the working directory is later."""
    try:
        return os.path.abspath(path)
    except OSError:  # the working directory was removed
        return path


def _on_linux() -> bool:
    return sys.platform.startswith("linux")


def _printable(text: str) -> str:
    """Text that any exporter can write: a name that is no UTF-8 with marks in place of its odd bytes.

    Without secrets: what is mounted may be an address with a password in it.
    """
    return redaction.place(text.encode(errors="replace").decode())
