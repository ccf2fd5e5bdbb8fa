# SPDX-License-Identifier: Apache-2.0
"""Where the job's data lies, and how the file server answers where it lies on one; Linux only.

Block devices and the process tree have counters of their own, read elsewhere; what is here joins them to a path.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import ClassVar, Final

from opentelemetry.semconv._incubating.attributes.disk_attributes import DiskIoDirectionValues

from otel_hwmetrics import redaction
from otel_hwmetrics.catalog import dataset as rows
from otel_hwmetrics.catalog.system import DEVICE, FILESYSTEM_MOUNTPOINT, FILESYSTEM_TYPE, IO_DIRECTION
from otel_hwmetrics.model import Attribute, Metric, Reading, Series
from otel_hwmetrics.sources.base import Batch, Bench, Clock, Item, Reader, Source, SourceUnavailable, next_due
from otel_hwmetrics.sources.linux import mountstats
from otel_hwmetrics.sources.linux.disks import below, holder
from otel_hwmetrics.sources.linux.files import KernelFile
from otel_hwmetrics.sources.linux.mounts import Mount, parse
from otel_hwmetrics.sources.patient import Patient
from otel_hwmetrics.sources.sparing import Sparing

EVERY: Final = 10.0
"""Seconds between two looks at what is mounted where."""

_NFS: Final = ("nfs", "nfs4")
_MILLI: Final = 1000
_READ, _WRITE = DiskIoDirectionValues.READ.value, DiskIoDirectionValues.WRITE.value
_OPERATIONS: Final = ((_READ, (b"READ", b"READ_PLUS")), (_WRITE, (b"WRITE",)))  # READ_PLUS since NFS 4.2
_METADATA: Final = (
    *(b"ACCESS", b"GETATTR", b"LOOKUP", b"OPEN", b"OPEN_NOATTR", b"CLOSE"),
    *(b"READDIR", b"READDIRPLUS", b"READLINK"),
)


class DataSet:
    """One path with what holds it now.

    Args:
        path: As it was given.
    """

    def __init__(self, path: str) -> None:
        self._absolute = _absolute(path)
        self._resolve = Patient(partial(os.path.realpath, self._absolute, strict=True))
        self._path = _printable(path)
        self.mount: Mount | None = None
        self.info: tuple[Series, ...] = ()

    def look(self, mounts: Iterable[Mount], sys_root: str) -> None:
        """Find out what holds it: nothing while it does not exist."""
        self.mount, self.info = None, ()
        try:
            # Afresh each time: what is behind a symbolic link, or mounted on demand, changes.
            path = self._resolve()
        except (FileNotFoundError, NotADirectoryError):
            return
        except (OSError, ValueError):  # it hangs, or this process may not look
            path = self._absolute
        mount = holder(path, mounts)
        if mount is not None:
            self.mount = mount
            self.info = tuple(
                Series(rows.INFO, {rows.DATASET_PATH: self._path, **_whose(mount, device)})
                for device in below(mount, sys_root) or (mount.source,)
            )


class NfsMount:
    """One mount of NFS with its series. Used by the source's thread alone.

    Attributes:
        part: What the kernel tells of it at this look.
    """

    def __init__(self, mount: Mount) -> None:
        self.mount = mount
        self.part = b""
        self._whole = _whose(mount, mount.source)
        self._series: dict[tuple[str, str], Series] = {}

    def series(self, metric: Metric, direction: str = "") -> Series:
        """The series of a metric; the same object each time."""
        key = (metric.name, direction)
        if key not in self._series:
            directed = {IO_DIRECTION: direction} if direction else {}
            self._series[key] = Series(metric, {**self._whole, **directed})
        return self._series[key]


def _traffic(nfs: NfsMount) -> Iterator[Item]:
    traffic = mountstats.traffic(nfs.part)
    yield nfs.series(rows.NFS_REQUESTED, _READ), traffic.read
    yield nfs.series(rows.NFS_REQUESTED, _WRITE), traffic.written
    yield nfs.series(rows.NFS_IO, _READ), traffic.received
    yield nfs.series(rows.NFS_IO, _WRITE), traffic.sent


def _operations(nfs: NfsMount) -> Iterator[Item]:
    operations = mountstats.operations(nfs.part)
    for direction, names in _OPERATIONS:
        found = [operations[name] for name in names if name in operations]
        if found:
            done = sum(each.done for each in found)
            yield nfs.series(rows.NFS_OPERATIONS, direction), done
            yield nfs.series(rows.NFS_OPERATION_TIME, direction), sum(each.total_ms for each in found) / _MILLI
            yield nfs.series(rows.NFS_ROUND_TRIP_TIME, direction), sum(each.round_trip_ms for each in found) / _MILLI
            again = sum(each.transmissions for each in found) - done
            yield nfs.series(rows.NFS_RETRANSMISSIONS, direction), max(0, again)
    metadata = [operations[name] for name in _METADATA if name in operations]
    if metadata:
        yield nfs.series(rows.NFS_METADATA_OPERATIONS), sum(each.done for each in metadata)
        yield nfs.series(rows.NFS_METADATA_TIME), sum(each.total_ms for each in metadata) / _MILLI


def _transport(nfs: NfsMount) -> Iterator[Item]:
    transport = mountstats.transport(nfs.part)
    yield nfs.series(rows.NFS_REQUESTS), transport.sends
    yield nfs.series(rows.NFS_BACKLOG), transport.backlog


def _info(data_sets: Sequence[DataSet]) -> Iterator[Item]:
    return ((series, 1) for data_set in data_sets for series in data_set.info)


_FILE: Final = "/proc/self/mountstats"
_WHERE: Final = "Linux, of the mounts of NFS that hold a data set"

INFO_READERS: tuple[Reader[Sequence[DataSet]], ...] = (
    Reader((rows.INFO,), _info, call="/proc/self/mountinfo, /sys/dev/block", where="Linux"),
)
"""What is told of the data sets."""

NFS_READERS: tuple[Reader[NfsMount], ...] = (
    Reader((rows.NFS_IO, rows.NFS_REQUESTED), _traffic, call=_FILE, where=_WHERE),
    Reader(
        (
            rows.NFS_OPERATIONS,
            rows.NFS_OPERATION_TIME,
            rows.NFS_ROUND_TRIP_TIME,
            rows.NFS_RETRANSMISSIONS,
            rows.NFS_METADATA_OPERATIONS,
            rows.NFS_METADATA_TIME,
        ),
        _operations,
        call=_FILE,
        where=_WHERE,
    ),
    Reader((rows.NFS_REQUESTS, rows.NFS_BACKLOG), _transport, call=_FILE, where=_WHERE),
)
"""What is read of each mount of NFS, all from one look at the file."""


class DatasetSource(Source):
    """The filesystems and devices below the data sets, and the counters of those that NFS holds.

    On a thread of its own, and each path is resolved on another one, for that may hang with its server; the counters are
    this machine's, and are told while the server is silent, too.

    Args:
        paths: Where the data lies.
        clock: Time of the readings, in seconds of the monotonic clock.
        proc_root: Where procfs is.
        sys_root: Where sysfs is.
    """

    name: ClassVar[str] = "dataset"
    may_hang: ClassVar[bool] = True

    def __init__(
        self,
        paths: Sequence[str],
        clock: Clock = time.monotonic,
        *,
        proc_root: str = "/proc",
        sys_root: str = "/sys",
    ) -> None:
        self._clock = clock
        self._sys_root = sys_root
        self._data_sets = [DataSet(path) for path in dict.fromkeys(paths)]
        self._mounts = KernelFile(f"{proc_root}/self/mountinfo", records=True)
        self._stats = KernelFile(f"{proc_root}/self/mountstats", records=True)
        self._info = Bench(self._data_sets, INFO_READERS)
        self._nfs: list[Bench[NfsMount]] = []
        # The file grows with the mounts of the machine, of which this process may need one.
        self._ask = Sparing(self._read_nfs, clock)
        self._asked = Batch()
        self._due: float | None = None

    def open(self) -> None:
        """See whether there is anything to tell.

        Raises:
            SourceUnavailable: No data set is named, or this is not Linux.
        """
        if not self._data_sets:
            raise SourceUnavailable(self.name, "no data set is named", "name one in the option dataset_paths")
        if not sys.platform.startswith("linux"):
            raise SourceUnavailable(self.name, "only Linux tells what lies below a path")

    def read(self) -> Batch:
        """Where the data sets lie, and what their file servers have answered."""
        batch = Batch()
        now = self._clock()
        if self._due is None or now >= self._due:
            self._due = next_due(now, EVERY)
            self._look(batch)
        self._info.read_into(batch, self._clock)
        if self._nfs:
            self._asked = Batch()
            batch.readings += self._ask()
            batch.lost += self._asked.lost
        return batch

    def close(self) -> None:
        """Close the files."""
        self._mounts.close()
        self._stats.close()

    def _look(self, batch: Batch) -> None:
        """Find out what is mounted now. What cannot be found out leaves things as they were."""
        try:
            mounts = parse(self._mounts.read())
        except (OSError, ValueError) as error:
            batch.lose(type(error).__name__, len(self._data_sets))
            return
        for data_set in self._data_sets:
            data_set.look(mounts, self._sys_root)
        # By filesystem: however often it is mounted, its counters are the same.
        holders = {
            data_set.mount.number: data_set.mount
            for data_set in reversed(self._data_sets)
            if data_set.mount is not None and data_set.mount.type in _NFS
        }
        known = {bench.subject.mount: bench for bench in self._nfs}
        self._nfs = [known.get(mount) or _bench(mount) for mount in holders.values()]

    def _read_nfs(self) -> list[Reading]:
        """Read every mount of NFS that holds a data set."""
        try:
            content = self._stats.read()
        except OSError as error:
            self._asked.lose(type(error).__name__, len(self._nfs))
            return []
        for bench in self._nfs:
            nfs = bench.subject
            try:
                nfs.part = mountstats.block(content, nfs.mount.point) or b""
            except ValueError as error:
                self._asked.lose(type(error).__name__)
                continue
            if nfs.part:  # else it has gone since it was looked for
                bench.read_into(self._asked, self._clock)
        return self._asked.readings


def _bench(mount: Mount) -> Bench[NfsMount]:
    return Bench(NfsMount(mount), NFS_READERS, expected=(ValueError,))


def _whose(mount: Mount, device: str) -> dict[str, Attribute]:
    return {
        DEVICE: _printable(device),
        FILESYSTEM_MOUNTPOINT: _printable(mount.point),
        FILESYSTEM_TYPE: _printable(mount.type),
    }


def _absolute(path: str) -> str:
    """The path as it is meant now, whatever the working directory is later."""
    try:
        return os.path.abspath(path)
    except OSError:  # the working directory was removed
        return path


def _printable(text: str) -> str:
    """Text that any exporter can write: a name that is no UTF-8 with marks in place of its odd bytes; without secrets."""
    return redaction.place(text.encode(errors="replace").decode())
