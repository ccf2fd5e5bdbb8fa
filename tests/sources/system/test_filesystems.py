# SPDX-License-Identifier: Apache-2.0
"""Filesystems: the real ones once each, those of the job always, and a dead server holds nobody."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from otel_hwmetrics.catalog import system as rows
from otel_hwmetrics.model import Metric
from otel_hwmetrics.sources import patient
from otel_hwmetrics.sources.base import Batch
from otel_hwmetrics.sources.linux.mounts import Mount, parse
from otel_hwmetrics.sources.system import FilesystemSource
from otel_hwmetrics.sources.system.filesystems import EVERY, READERS, choose, is_real
from otel_hwmetrics.testing import ManualClock

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's /proc")
PROC = Path(__file__).parents[2] / "data" / "proc"
SHM = os.path.join("/dev", "shm")


def points(batch: Batch, metric: Metric = rows.FILESYSTEM_LIMIT) -> list[object]:
    """The mount points that are told of."""
    return [reading.attributes[rows.FILESYSTEM_MOUNTPOINT] for reading in batch.readings if reading.metric is metric]


def states(batch: Batch, metric: Metric, point: str) -> dict[object, float]:
    """What a metric says of one filesystem, by state."""
    return {
        reading.attributes[rows.FILESYSTEM_STATE]: reading.value
        for reading in batch.readings
        if reading.metric is metric and reading.attributes[rows.FILESYSTEM_MOUNTPOINT] == point
    }


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a server's mounts, whose every mount point is a directory, and the job works in /."""
    shutil.copytree(PROC / "server", tmp_path / "proc")
    monkeypatch.setattr(os.path, "isdir", lambda _: True)
    monkeypatch.setattr(os, "getcwd", lambda: "/")
    answer = SimpleNamespace(f_frsize=4096, f_bsize=4096, f_blocks=1000, f_bfree=400, f_bavail=350)
    monkeypatch.setattr(os, "statvfs", lambda _: answer)
    return tmp_path / "proc"


# Against the machine.


@linux
def test_sizes_are_the_kernels(tmp_path: Path) -> None:
    """Used, free and reserved sum to the limit, which is statvfs's, of the filesystem that holds the path."""
    batch = FilesystemSource(paths=[str(tmp_path)]).read()
    assert batch.lost == {}
    by_point = {mount.point: mount for mount in parse(Path("/proc/self/mountinfo").read_bytes())}
    holder = max((point for point in by_point if (str(tmp_path) + "/").startswith(point.rstrip("/") + "/")), key=len)
    beside = os.statvfs(holder)
    (limit,) = (
        reading.value
        for reading in batch.readings
        if reading.metric is rows.FILESYSTEM_LIMIT and reading.attributes[rows.FILESYSTEM_MOUNTPOINT] == holder
    )
    assert limit == beside.f_blocks * beside.f_frsize
    usage = states(batch, rows.FILESYSTEM_USAGE, holder)
    assert set(usage) == {"used", "free", "reserved"}
    assert sum(usage.values()) == limit
    assert usage["free"] == pytest.approx(beside.f_bavail * beside.f_frsize, rel=0.2)
    assert sum(states(batch, rows.FILESYSTEM_UTILIZATION, holder).values()) == pytest.approx(1)


@linux
def test_memory_is_told_of_when_the_data_lies_there() -> None:
    """And only then."""
    assert SHM not in points(FilesystemSource().read())
    assert SHM in points(FilesystemSource(paths=[f"{SHM}/data/that/is/not/there/yet"]).read())


@linux
def test_every_reading_has_exactly_its_rows_attributes() -> None:
    """No more and no fewer."""
    batch = FilesystemSource(lambda: 42.0, paths=[SHM]).read()
    for reading in batch.readings:
        assert set(reading.attributes) == set(reading.metric.attributes)
        assert reading.at == 42.0


# Which are told of.


@linux
def test_a_server_s_filesystems(tree: Path) -> None:
    """Disks, pools and servers, each once; no snap, overlay, memory or bucket, nothing of the kernel's own."""
    batch = FilesystemSource(proc_root=str(tree)).read()
    told = ["/", "/ro", "/boot", "/data", "/pool", "/mnt/nfs share", "/fs"]
    assert sorted(map(str, points(batch))) == sorted(told)
    by_point = {
        r.attributes[rows.FILESYSTEM_MOUNTPOINT]: r.attributes for r in batch.readings if len(r.attributes) == 4
    }
    assert dict(by_point["/ro"]) == {
        rows.DEVICE: "/dev/sda1",
        rows.FILESYSTEM_MODE: "ro",
        rows.FILESYSTEM_MOUNTPOINT: "/ro",
        rows.FILESYSTEM_TYPE: "ext4",
    }
    assert states(batch, rows.FILESYSTEM_USAGE, "/data") == {"used": 2457600, "free": 1433600, "reserved": 204800}
    assert states(batch, rows.FILESYSTEM_UTILIZATION, "/data") == {"used": 0.6, "free": 0.35, "reserved": 0.05}


@linux
@pytest.mark.parametrize(
    ("path", "told", "instead"),
    [
        ("/srv/one/images", "/srv/one", "/data"),  # the part that the job knows stands for its filesystem
        ("/mnt/bucket/set", "/mnt/bucket", None),
        ("/var/lib/docker/overlay2/1/merged/x", "/var/lib/docker/overlay2/1/merged", None),
        (SHM, SHM, None),
        ("/snap/core/1/bin", "/snap/core/1", None),
        ("/pool/home/me", "/pool/home", "/pool"),
        ("/datasets", "/", None),  # not /data, whose name its begins with
    ],
)
def test_what_holds_the_data_is_told_of_whatever_it_is(tree: Path, path: str, told: str, instead: str | None) -> None:
    """Under the mount point that leads there, once."""
    assert told in (found := points(FilesystemSource(proc_root=str(tree), paths=[path]).read()))
    assert found.count(told) == 1
    assert instead not in found


@linux
def test_a_container_tells_of_its_overlay_and_not_of_single_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host's disk is seen in /etc/hosts and is none of ours."""
    shutil.copytree(PROC / "container", tmp_path / "proc")
    monkeypatch.setattr(os, "getcwd", lambda: "/workspace")
    monkeypatch.setattr(os.path, "isdir", lambda path: not path.startswith("/etc/"))
    assert points(FilesystemSource(proc_root=str(tmp_path / "proc")).read()) == ["/"]


def test_the_later_of_two_mounts_at_one_place_is_seen() -> None:
    """The earlier one is hidden by it."""
    below = Mount("8:1", "/", "/data", True, "ext4", "/dev/sda1")
    above = Mount("8:2", "/", "/data", True, "ext4", "/dev/sdb1")
    assert choose([below, above], [], lambda _: True) == [above]
    assert choose([below, above], ["/data/x"], lambda _: False) == [above]
    assert choose([below], ["elsewhere"], lambda _: False) == []


def test_loops_are_images(tmp_path: Path) -> None:
    """Also such as may be written to."""
    assert is_real(Mount("8:1", "/", str(tmp_path), True, "ext4", "/dev/sda1"))
    assert not is_real(Mount("7:1", "/", str(tmp_path), True, "ext4", "/dev/loop1"))


# When.


@linux
def test_they_are_asked_every_ten_seconds(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In between the last answer is told again, with its time; what is mounted meanwhile is met then."""
    asked: list[str] = []
    statvfs = os.statvfs

    def ask(path: str) -> object:
        asked.append(path)
        return statvfs(path)

    monkeypatch.setattr(os, "statvfs", ask)
    clock = ManualClock()
    source = FilesystemSource(clock.monotonic, proc_root=str(tree))
    first = source.read()
    count = len(asked)
    with (tree / "self" / "mountinfo").open("a") as file:
        file.write("99 27 8:99 / /new rw - xfs /dev/sdz rw\n")
    clock.advance(EVERY - 1)
    assert source.read().readings == first.readings
    assert len(asked) == count == len(points(first))
    clock.advance(1)
    batch = source.read()
    assert set(points(batch)) == {*points(first), "/new"}
    (old,) = {
        reading.series
        for reading in first.readings
        if reading.attributes[rows.FILESYSTEM_MOUNTPOINT] == "/boot" and reading.metric is rows.FILESYSTEM_LIMIT
    }
    assert any(reading.series is old for reading in batch.readings)
    source.close()


# What fails.


@linux
@pytest.mark.parametrize("content", [b"garbage\n", b"22 27 0:21 / /proc rw - proc"])
def test_a_list_of_mounts_that_cannot_be_read_leaves_things_as_they_were(tree: Path, content: bytes) -> None:
    """It is counted as lost and asked for again."""
    clock = ManualClock()
    source = FilesystemSource(clock.monotonic, proc_root=str(tree))
    first = source.read()
    whole = (tree / "self" / "mountinfo").read_bytes()
    (tree / "self" / "mountinfo").write_bytes(content)
    clock.advance(EVERY)
    batch = source.read()
    assert batch.lost == {"ValueError": 1}
    assert points(batch) == points(first)
    (tree / "self" / "mountinfo").write_bytes(whole)
    clock.advance(EVERY)
    assert source.read().lost == {}
    assert FilesystemSource(proc_root=str(tree / "absent")).read().lost == {"FileNotFoundError": 1}


@linux
@pytest.mark.parametrize(
    ("answer", "lost"),
    [
        ({"f_blocks": 0, "f_bfree": 0, "f_bavail": 0}, {}),  # it has no size, and never will
        ({"f_bfree": 2000}, {"ValueError": 3}),
        ({"f_bavail": 900}, {"ValueError": 3}),
        (OSError(5, "I/O error"), {"OSError": 3}),
    ],
)
def test_an_odd_answer_costs_the_others_nothing(
    tree: Path, monkeypatch: pytest.MonkeyPatch, answer: dict[str, int] | OSError, lost: dict[str, int]
) -> None:
    """One filesystem's sizes are absent, and no others."""
    statvfs = os.statvfs

    def ask(path: str) -> object:
        if path != "/data":
            return statvfs(path)
        if isinstance(answer, OSError):
            raise answer
        return SimpleNamespace(**{**vars(statvfs(path)), **answer})

    everything = points(FilesystemSource(proc_root=str(tree)).read())
    monkeypatch.setattr(os, "statvfs", ask)
    batch = FilesystemSource(proc_root=str(tree)).read()
    assert set(points(batch)) == set(everything) - {"/data"}
    assert batch.lost == lost


@pytest.fixture
def dead_server(monkeypatch: pytest.MonkeyPatch, tree: Path) -> Iterator[threading.Event]:
    """A server that answers nothing until the event is set."""
    answers = threading.Event()
    statvfs = os.statvfs

    def ask(path: str) -> object:
        if path == "/mnt/nfs share":
            answers.wait(30)
        return statvfs(path)

    monkeypatch.setattr(os, "statvfs", ask)
    monkeypatch.setattr(patient, "PATIENCE", 0.1)
    yield answers
    answers.set()


@linux
def test_a_dead_server_is_left_out_and_waited_for_once(tree: Path, dead_server: threading.Event) -> None:
    """Every other filesystem is told of; no second thread hangs on it; when it answers it is back."""
    clock = ManualClock()
    source = FilesystemSource(clock.monotonic, proc_root=str(tree))
    threads = threading.active_count()
    for look in range(3):
        started = time.monotonic()
        batch = source.read()
        assert look == 0 or time.monotonic() - started < 0.08
        assert batch.lost == {"TimeoutError": 3}
        assert len(points(batch)) == 6
        assert "/mnt/nfs share" not in points(batch)
        assert threading.active_count() == threads + 1
        clock.advance(EVERY)
    dead_server.set()
    deadline = time.monotonic() + 10
    while "/mnt/nfs share" not in points(source.read()):
        assert time.monotonic() < deadline
        clock.advance(EVERY)


@linux
def test_a_path_that_hangs_is_taken_as_it_is_written(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its symbolic links are unknown, and the filesystem that its name leads to is told of."""
    answers = threading.Event()
    realpath = os.path.realpath
    monkeypatch.setattr(os.path, "realpath", lambda path: (answers.wait(30), realpath(path))[1])
    monkeypatch.setattr(patient, "PATIENCE", 0.01)
    assert "/mnt/bucket" in points(FilesystemSource(proc_root=str(tree), paths=["/mnt/bucket/set"]).read())
    answers.set()


@linux
def test_a_working_directory_that_is_gone_is_no_loss(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can say what held it."""

    def getcwd() -> str:
        raise FileNotFoundError

    monkeypatch.setattr(os, "getcwd", getcwd)
    batch = FilesystemSource(proc_root=str(tree), paths=["relative"]).read()
    assert batch.lost == {}
    assert "/data" in points(batch)


def test_the_reader_says_where_it_reads() -> None:
    """For the reference page."""
    assert all(reader.call and reader.where for reader in READERS)
    assert FilesystemSource.may_hang
