# SPDX-License-Identifier: Apache-2.0
"""Data sets: where each lies, and what its file server has answered."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import systrees
from otel_hwmetrics.catalog import dataset as rows
from otel_hwmetrics.catalog import tree
from otel_hwmetrics.catalog.system import DEVICE, FILESYSTEM_MOUNTPOINT, FILESYSTEM_TYPE, IO_DIRECTION
from otel_hwmetrics.model import Metric, Reading, Series
from otel_hwmetrics.sources.base import Batch, SourceUnavailable
from otel_hwmetrics.sources.dataset import EVERY, INFO_READERS, NFS_READERS, DatasetSource
from otel_hwmetrics.sources.linux.files import KernelFile
from otel_hwmetrics.testing import ManualClock
from otel_hwmetrics.windows import Accumulator, between

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's /proc")

STATS = Path(__file__).parents[1] / "data" / "mountstats" / "server"

Values = dict[tuple[str, ...], float]

NFS: Values = {
    ("hwmetrics.dataset.nfs.requested", "read"): 3_008_000_000,
    ("hwmetrics.dataset.nfs.requested", "write"): 21_000_000,
    ("hwmetrics.dataset.nfs.io", "read"): 1_572_864_000,
    ("hwmetrics.dataset.nfs.io", "write"): 20_971_520,
    ("hwmetrics.dataset.nfs.operations", "read"): 1500,  # READ and READ_PLUS
    ("hwmetrics.dataset.nfs.operation.time", "read"): 13.5,
    ("hwmetrics.dataset.nfs.round_trip.time", "read"): 12.0,
    ("hwmetrics.dataset.nfs.retransmissions", "read"): 3,
    ("hwmetrics.dataset.nfs.operations", "write"): 20,
    ("hwmetrics.dataset.nfs.operation.time", "write"): 0.4,
    ("hwmetrics.dataset.nfs.round_trip.time", "write"): 0.3,
    ("hwmetrics.dataset.nfs.retransmissions", "write"): 0,
    # ACCESS, GETATTR, LOOKUP, OPEN, CLOSE, READDIR; not SEQUENCE, COMMIT and what keeps the session.
    ("hwmetrics.dataset.nfs.metadata.operations", ""): 30 + 900 + 260 + 250 + 248 + 6,
    ("hwmetrics.dataset.nfs.metadata.time", ""): 2.112,
    ("hwmetrics.dataset.nfs.requests", ""): 3000,
    ("hwmetrics.dataset.nfs.backlog", ""): 60,
}


class Machine:
    """A /proc and /sys of a machine whose data lies below a directory of the test."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.clock = ManualClock()
        self.proc = root / "proc" / "self"
        self.proc.mkdir(parents=True)
        self.mounted: list[str] = []
        self.mount("/", "253:0", "ext4", "/dev/mapper/vg-root")
        self.stats = STATS.read_text()
        self.sources: list[DatasetSource] = []

    def mount(self, point: str, number: str, kind: str, source: str, root: str = "/") -> Path:
        """Mount something at a place below the directory."""
        place = self.place(point)
        place.mkdir(parents=True, exist_ok=True)
        seen = "/" if point == "/" else str(place)
        mangled = seen.replace("\\", "\\134").replace(" ", "\\040")
        self.mounted.append(f"{30 + len(self.mounted)} 1 {number} {root} {mangled} rw - {kind} {source} rw\n")
        (self.proc / "mountinfo").write_text("".join(self.mounted))
        return place

    def nfs(self, point: str = "/mnt/nfs share") -> Path:
        """Mount the file server's share there."""
        place = self.mount(point, "0:50", "nfs4", "filer.example:/export/imagenet")
        # As the data has it mounted at its own place.
        mangled = str(place).replace(" ", "\\040")
        self.tell(self.stats.replace(r"/mnt/nfs\040share", mangled))
        return place

    def tell(self, stats: str) -> None:
        """Let the kernel tell this of its mounts."""
        self.stats = stats
        (self.proc / "mountstats").write_text(stats)

    def place(self, point: str) -> Path:
        """Where a path of the machine is."""
        return self.root / "disk" / point.lstrip("/")

    def source(self, *paths: str | Path) -> DatasetSource:
        """An open source of these paths."""
        source = DatasetSource(
            [str(path) for path in paths],
            self.clock.monotonic,
            proc_root=str(self.proc.parent),
            sys_root=systrees.unpack("server_disks", self.root / f"sys{len(self.sources)}"),
        )
        self.sources.append(source)
        source.open()
        return source


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A machine with one disk."""
    made = Machine(Path(os.path.realpath(tmp_path)))
    yield made
    for source in made.sources:
        source.close()


def info(batch: Batch) -> set[tuple[object, ...]]:
    """Path, device, mount point and type of each data set."""
    keys = (rows.DATASET_PATH, DEVICE, FILESYSTEM_MOUNTPOINT, FILESYSTEM_TYPE)
    told = [reading for reading in batch.readings if reading.metric is rows.INFO]
    assert all(reading.value == 1 for reading in told)
    found: set[tuple[object, ...]] = {tuple(reading.attributes[key] for key in keys) for reading in told}
    assert len(found) == len(told)
    return found


def values(batch: Batch) -> Values:
    """Everything else, by metric and direction."""
    return {
        (reading.metric.name, str(reading.attributes.get(IO_DIRECTION, ""))): reading.value
        for reading in batch.readings
        if reading.metric is not rows.INFO
    }


@linux
def test_a_data_set_is_joined_to_its_disks(machine: Machine) -> None:
    """By the path as it was given, and each disk that it lies on; nothing of NFS is looked at."""
    root, raid = machine.place("/imagenet"), machine.mount("/data", "9:127", "xfs", "/dev/md127")
    root.mkdir()
    (raid / "tokens").mkdir()
    batch = machine.source(root, raid / "tokens").read()
    assert info(batch) == {
        (str(root), "nvme0n1", "/", "ext4"),
        (str(raid / "tokens"), "sda", str(raid), "xfs"),
        (str(raid / "tokens"), "sdb", str(raid), "xfs"),
    }
    assert len(batch.readings) == 3
    assert batch.lost == {}


PLACES: dict[str, Callable[[Machine], tuple[Path, str, str, str]]] = {
    "bind mount": lambda machine: _in(machine.mount("/srv", "9:127", "xfs", "/dev/md127", root="/sets"), "sda", "xfs"),
    "overlay": lambda machine: _in(machine.mount("/merged", "0:45", "overlay", "overlay"), "overlay", "overlay"),
    "memory": lambda machine: _in(machine.mount("/memory", "0:46", "tmpfs", "tmpfs"), "tmpfs", "tmpfs"),
    "fuse": lambda machine: _in(machine.mount("/b", "0:47", "fuse.gcsfuse", "bucket"), "bucket", "fuse.gcsfuse"),
    "automounter": lambda machine: _in(
        machine.mount("/net", "0:48", "autofs", "/etc/auto.net"), "/etc/auto.net", "autofs"
    ),
    "zfs": lambda machine: _in(machine.mount("/pool", "0:51", "zfs", "tank/sets"), "tank/sets", "zfs"),
    "lustre": lambda machine: _in(machine.mount("/l", "0:52", "lustre", "mgs@tcp:/fs"), "mgs@tcp:/fs", "lustre"),
}


def _in(place: Path, device: str, kind: str) -> tuple[Path, str, str, str]:
    return place, device, str(place), kind


@linux
@pytest.mark.parametrize("kind", PLACES)
def test_whatever_holds_it_is_told(machine: Machine, kind: str) -> None:
    """By its disk, else by what mountinfo calls its source."""
    place, device, point, filesystem = PLACES[kind](machine)
    told = info(machine.source(place).read())
    assert (str(place), device, point, filesystem) in told


@linux
def test_a_symbolic_link_is_followed(machine: Machine) -> None:
    """Onto another filesystem, and back when it is changed."""
    raid = machine.mount("/data", "9:127", "xfs", "/dev/md127")
    link = machine.place("/imagenet")
    link.symlink_to(raid)
    source = machine.source(link)
    assert {told[2] for told in info(source.read())} == {str(raid)}
    link.unlink()
    link.mkdir()
    assert {told[2] for told in info(source.read())} == {str(raid)}  # not looked at again at once
    machine.clock.advance(EVERY)
    assert info(source.read()) == {(str(link), "nvme0n1", "/", "ext4")}


@linux
def test_a_path_that_does_not_exist_is_told_when_it_does(machine: Machine) -> None:
    """A misspelt one never."""
    place = machine.place("/later/imagenet")
    source = machine.source(place)
    batch = source.read()
    assert batch.readings == []
    assert batch.lost == {}
    place.mkdir(parents=True)
    machine.clock.advance(EVERY)
    assert info(source.read()) == {(str(place), "nvme0n1", "/", "ext4")}


@linux
def test_what_a_file_server_has_answered(machine: Machine) -> None:
    """All of its mount's counters in SI units, by the keys of its data set."""
    share = machine.nfs()
    (share / "train").mkdir()
    batch = machine.source(share / "train").read()
    assert info(batch) == {(str(share / "train"), "filer.example:/export/imagenet", str(share), "nfs4")}
    assert values(batch) == NFS
    assert batch.lost == {}
    for reading in batch.readings:
        assert set(reading.attributes) <= set(reading.metric.attributes)
        assert reading.attributes[DEVICE] == "filer.example:/export/imagenet"


@linux
def test_a_mount_counts_once_however_many_data_sets_it_holds(machine: Machine) -> None:
    """Two paths of one share, and a bind mount of it."""
    share = machine.nfs()
    bound = machine.mount("/bound", "0:50", "nfs4", "filer.example:/export/imagenet", root="/train")
    batch = machine.source(share, bound, share).read()
    assert len(info(batch)) == 2
    assert values(batch) == NFS
    assert len(batch.readings) == 2 + len(NFS)


@linux
def test_means_over_the_window(machine: Machine) -> None:
    """What one request of those ten seconds was like, and not of all since the mount was made."""
    share = machine.nfs()
    source = machine.source(share)
    accumulator = Accumulator()
    first = accumulator.sample(source.read().readings, machine.clock.monotonic(), 0)
    machine.tell(
        machine.stats.replace("READ: 1000 1003 1 180000 1048640000 120 8000 9000", "READ: 1010 1013 1 0 0 0 8100 9400")
        .replace("3000000000 20000000 8000000 1000000 1572864000", "3020000000 20000000 8000000 1000000 1582864000")
        .replace("GETATTR: 900 901 0 198000 216000 4 900 950", "GETATTR: 1000 1001 0 0 0 4 900 1150")
        .replace("1600 1599 0 3200 40", "1700 1699 0 3200 240")
    )
    machine.clock.advance(10.0)
    second = accumulator.sample(source.read().readings, machine.clock.monotonic(), 0)
    window = between(first, second)

    def only(metric: Metric) -> float:
        (reading,) = [each for each in window.of(metric) if each.attributes.get(IO_DIRECTION) != "write"]
        return reading.value

    assert only(rows.NFS_IO_RATE) == pytest.approx(1e6)
    assert only(rows.NFS_OPERATION_SIZE) == pytest.approx(1e6)
    assert only(rows.NFS_TRANSFER_SHARE) == pytest.approx(0.5)
    assert only(rows.NFS_LATENCY) == pytest.approx(0.04)
    assert only(rows.NFS_ROUND_TRIP) == pytest.approx(0.01)
    assert only(rows.NFS_METADATA_LATENCY) == pytest.approx(0.002)
    assert only(rows.NFS_BACKLOG_LENGTH) == pytest.approx(2.0)
    # Nothing was written in that time: no mean, and not 0.
    assert len(window.of(rows.NFS_LATENCY)) == 1


def test_the_size_of_requests_and_the_part_of_storage() -> None:
    """Of the tree's counters; in a window without calls there is neither."""
    series = {
        metric: Series(metric, {IO_DIRECTION: "read"}) for metric in (tree.DATA_IO, tree.DATA_OPERATIONS, tree.DISK_IO)
    }

    def readings(at: float, called: int, calls: int, stored: int) -> list[Reading]:
        pairs = zip(series.values(), (called, calls, stored), strict=True)
        return [Reading(each, value, at) for each, value in pairs]

    accumulator = Accumulator()
    first = accumulator.sample(readings(0.0, 10**9, 10**6, 10**8), 0.0, 0)
    second = accumulator.sample(readings(10.0, 10**9 + 400_000, 10**6 + 100, 10**8 + 100_000), 10.0, 0)
    third = accumulator.sample(readings(20.0, 10**9 + 400_000, 10**6 + 100, 10**8 + 100_000), 20.0, 0)
    (size,), (share,) = (between(first, second).of(metric) for metric in (rows.REQUEST_SIZE, rows.STORAGE_SHARE))
    assert (size.value, share.value) == (4000, 0.25)
    assert between(second, third).of(rows.REQUEST_SIZE) == between(second, third).of(rows.STORAGE_SHARE) == ()


FAULTS: dict[str, Callable[[str], str]] = {
    "absent": lambda _: "",
    "cut off": lambda text: text[: text.index("per-op") + 200],
    "without bytes": lambda text: text.replace("\tbytes:", "\tother:"),
    "without operations": lambda text: re.sub(r"\t *[A-Z_]+: .*\n", "", text),
    "without connections": lambda text: text.replace("\txprt:", "\tother:"),
    "numbers too large": lambda text: re.sub(r"bytes:\t\d+", "bytes:\t" + "9" * 30, text),
}
LOST = {
    "absent": set(NFS),
    "cut off": set(NFS),
    "without bytes": {key for key in NFS if "requested" in key[0] or key[0].endswith(".io")},
    "without operations": {key for key in NFS if re.search(r"operation|round|retrans|metadata", key[0])},
    "without connections": {key for key in NFS if re.search(r"requests|backlog", key[0])},
    "numbers too large": {key for key in NFS if "requested" in key[0] or key[0].endswith(".io")},
}


@linux
@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_told_otherwise_is_missing_alone(machine: Machine, fault: str) -> None:
    """And is back when it is right again; where the data lies is told all the time."""
    share = machine.nfs()
    source = machine.source(share)
    right = machine.stats
    machine.tell(FAULTS[fault](right))
    batch = source.read()
    assert values(batch) == {key: value for key, value in NFS.items() if key not in LOST[fault]}
    assert len(info(batch)) == 1
    assert bool(batch.lost) == (fault != "absent")  # a mount that is gone is no failure
    machine.tell(right)
    machine.clock.advance(1.0)
    assert values(source.read()) == NFS


@linux
@pytest.mark.parametrize("name", ["mountinfo", "mountstats"])
def test_a_file_that_cannot_be_read_is_counted_and_asked_again(machine: Machine, name: str) -> None:
    """What was known of the mounts stays known; counters are not made up."""
    share = machine.nfs()
    source = machine.source(share)
    source.read()
    content = (machine.proc / name).read_text()
    (machine.proc / name).unlink()
    (machine.proc / name).mkdir()
    for file in (source._mounts, source._stats):  # as if it had never been open
        file.close()
    machine.clock.advance(EVERY)
    batch = source.read()
    assert batch.lost == {"IsADirectoryError": 1}
    assert len(info(batch)) == 1
    assert values(batch) == (NFS if name == "mountinfo" else {})
    (machine.proc / name).rmdir()
    (machine.proc / name).write_text(content)
    machine.clock.advance(EVERY)
    batch = source.read()
    assert batch.lost == {}
    assert values(batch) == NFS


@linux
def test_a_share_that_is_unmounted_and_comes_again(machine: Machine) -> None:
    """In between the path lies where it is then."""
    share = machine.nfs()
    source = machine.source(share)
    series = {reading.series for reading in source.read().readings}
    mounted = machine.mounted.pop()
    (machine.proc / "mountinfo").write_text("".join(machine.mounted))
    machine.clock.advance(EVERY)
    batch = source.read()
    assert info(batch) == {(str(share), "nvme0n1", "/", "ext4")}
    assert values(batch) == {}
    (machine.proc / "mountinfo").write_text("".join([*machine.mounted, mounted]))
    machine.clock.advance(EVERY)
    batch = source.read()
    assert {reading.series for reading in batch.readings} == series


@linux
def test_the_counters_are_told_while_the_server_is_silent(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks at the share itself hangs; this machine's own counters of it do not."""
    share = machine.nfs()
    silent = threading.Event()
    realpath = os.path.realpath

    def hang(path: str, **options: bool) -> str:
        if path == str(share):
            silent.wait(10.0)
        return realpath(path, **options)

    monkeypatch.setattr(os.path, "realpath", hang)
    batch = machine.source(share).read()
    silent.set()
    assert len(info(batch)) == 1
    assert values(batch) == NFS


@linux
def test_the_file_of_mounts_is_read_in_proportion_to_its_cost(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a node with a thousand mounts it takes milliseconds: then it is read seldom, and told with its own time."""
    share = machine.nfs()
    source = machine.source(share)
    read = KernelFile.read

    def slow(file: KernelFile) -> bytes:
        machine.clock.advance(0.005 if file.path.endswith("mountstats") else 0.0)
        return read(file)

    monkeypatch.setattr(KernelFile, "read", slow)
    first = {reading.at for reading in source.read().readings if reading.metric is rows.NFS_IO}
    machine.clock.advance(1.0)
    assert {reading.at for reading in source.read().readings if reading.metric is rows.NFS_IO} == first
    machine.clock.advance(5.0)
    assert {reading.at for reading in source.read().readings if reading.metric is rows.NFS_IO} != first


@linux
def test_names_that_are_no_text_are_told_as_far_as_they_are(machine: Machine) -> None:
    """Exporters take no lone surrogates."""
    odd = os.fsdecode(b"\xff data")
    place = machine.place("/") / odd
    place.mkdir()
    (told,) = info(machine.source(place).read())
    assert str(told[0]).endswith("? data")
    str(told[0]).encode()


def test_without_a_data_set_there_is_nothing_to_tell() -> None:
    """And the user is told what to do."""
    with pytest.raises(SourceUnavailable, match="dataset_paths"):
        DatasetSource([]).open()


def test_elsewhere_than_on_linux_it_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its reason, and nothing is opened."""
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(SourceUnavailable, match="Linux"):
        DatasetSource(["/data"]).open()


def test_every_row_is_read_or_follows() -> None:
    """No row without a source, and each call has its words for the reference."""
    read = {metric for info_reader in INFO_READERS for metric in info_reader.metrics}
    read |= {metric for reader in NFS_READERS for metric in reader.metrics}
    assert {metric for metric in rows.METRICS if metric.derivation is None} == read
    words = [(info_reader.call, info_reader.where) for info_reader in INFO_READERS]
    assert all(map(all, [*words, *((reader.call, reader.where) for reader in NFS_READERS)]))


@linux
def test_this_machine_s_working_directory_lies_somewhere() -> None:
    """By the kernel's own files."""
    source = DatasetSource([os.getcwd()])
    source.open()
    batch = source.read()
    source.close()
    told = info(batch)
    assert told
    assert {each[0] for each in told} == {os.getcwd()}
    assert {os.stat(str(each[2])).st_dev for each in told} == {os.stat(os.getcwd()).st_dev}
