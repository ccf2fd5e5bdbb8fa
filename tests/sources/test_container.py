# SPDX-License-Identifier: Apache-2.0
"""The container: what each kind of tree says, what a broken file costs, and what the kernel itself does to a process."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import cgrouptrees
import realcgroups
from otel_hwmetrics.catalog import container as rows
from otel_hwmetrics.model import Metric, Series
from otel_hwmetrics.sources.base import Batch, SourceUnavailable
from otel_hwmetrics.sources.container import ContainerSource
from otel_hwmetrics.sources.linux import cgroup
from otel_hwmetrics.testing import ManualClock

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's cgroups")

KIB, MIB, GIB = 2**10, 2**20, 2**30

Values = dict[tuple[object, ...], float]

EXPECTED: dict[str, Values] = {
    "docker_v2": {
        (rows.CPU_TIME, "user"): 300,
        (rows.CPU_TIME, "system"): 45,
        (rows.CPU_LIMIT,): 1.5,
        (rows.CPU_QUOTA,): 1.5,
        (rows.CPU_SET_SIZE,): 5,
        (rows.CPU_THROTTLED_TIME,): 18.5,
        (rows.CPU_PERIODS,): 1000,
        (rows.CPU_THROTTLED_PERIODS,): 250,
        (rows.MEMORY_USAGE,): 6 * GIB,
        (rows.MEMORY_WORKING_SET,): 5 * GIB,
        (rows.MEMORY_RSS,): 4 * GIB,
        (rows.MEMORY_LIMIT,): 8 * GIB,
        (rows.MEMORY_AVAILABLE,): 3 * GIB,
        (rows.MEMORY_HEADROOM,): 3 * GIB,
        (rows.MEMORY_UTILIZATION,): 5 / 8,
        (rows.MEMORY_EVENTS, "high"): 0,
        (rows.MEMORY_EVENTS, "max"): 37,
        (rows.MEMORY_EVENTS, "oom"): 2,
        (rows.MEMORY_EVENTS, "oom_kill"): 1,
        (rows.PAGING_USAGE,): 64 * MIB,
        (rows.PAGING_LIMIT,): GIB,
        (rows.PAGING_FAULTS, "major"): 1200,
        (rows.PAGING_FAULTS, "minor"): 898_800,
        (rows.DISK_IO, "nvme0n1", "read"): GIB,
        (rows.DISK_IO, "nvme0n1", "write"): GIB / 2,
        (rows.DISK_IO, "sda", "read"): 8 * KIB,
        (rows.DISK_IO, "sda", "write"): 4 * KIB,
        (rows.DISK_OPERATIONS, "nvme0n1", "read"): 4096,
        (rows.DISK_OPERATIONS, "nvme0n1", "write"): 2048,
        (rows.DISK_OPERATIONS, "sda", "read"): 2,
        (rows.DISK_OPERATIONS, "sda", "write"): 1,
        (rows.THREAD_COUNT,): 57,
        (rows.THREAD_LIMIT,): 4096,
    },
    "docker_v1": {
        (rows.CPU_TIME, "user"): 123.45,
        (rows.CPU_TIME, "system"): 6.78,
        (rows.CPU_LIMIT,): 2.5,
        (rows.CPU_QUOTA,): 2.5,
        (rows.CPU_SET_SIZE,): 8,
        (rows.CPU_THROTTLED_TIME,): 9.5,
        (rows.CPU_PERIODS,): 800,
        (rows.CPU_THROTTLED_PERIODS,): 80,
        (rows.MEMORY_USAGE,): 3 * GIB,
        (rows.MEMORY_WORKING_SET,): 2.5 * GIB,
        (rows.MEMORY_RSS,): 2 * GIB,
        (rows.MEMORY_LIMIT,): 4 * GIB,
        (rows.MEMORY_AVAILABLE,): 1.5 * GIB,
        (rows.MEMORY_HEADROOM,): 1.5 * GIB,
        (rows.MEMORY_UTILIZATION,): 5 / 8,
        (rows.MEMORY_EVENTS, "max"): 12,
        (rows.MEMORY_EVENTS, "oom_kill"): 3,
        (rows.PAGING_USAGE,): 16 * MIB,
        (rows.PAGING_FAULTS, "major"): 900,
        (rows.PAGING_FAULTS, "minor"): 699_100,
        (rows.DISK_IO, "sda", "read"): 10 * MIB,
        (rows.DISK_IO, "sda", "write"): 20 * MIB,
        (rows.DISK_OPERATIONS, "sda", "read"): 100,
        (rows.DISK_OPERATIONS, "sda", "write"): 200,
        (rows.THREAD_COUNT,): 21,
    },
    # The pod's limits are the smaller ones of CPU and threads. Of memory the container's is, but the pod is fuller.
    "kubernetes_v2": {
        (rows.CPU_TIME, "user"): 500,
        (rows.CPU_TIME, "system"): 50,
        (rows.CPU_LIMIT,): 4,
        (rows.CPU_QUOTA,): 4,
        (rows.CPU_SET_SIZE,): 16,
        (rows.CPU_THROTTLED_TIME,): 77,
        (rows.CPU_PERIODS,): 5000,
        (rows.CPU_THROTTLED_PERIODS,): 1500,
        (rows.MEMORY_USAGE,): 8 * GIB,
        (rows.MEMORY_WORKING_SET,): 7.75 * GIB,
        (rows.MEMORY_RSS,): 7 * GIB,
        (rows.MEMORY_LIMIT,): 12 * GIB,
        (rows.MEMORY_AVAILABLE,): 4.25 * GIB,
        (rows.MEMORY_HEADROOM,): 1.5 * GIB,
        (rows.MEMORY_UTILIZATION,): 14.5 / 16,
        (rows.MEMORY_EVENTS, "high"): 3,
        (rows.MEMORY_EVENTS, "max"): 0,
        (rows.MEMORY_EVENTS, "oom"): 0,
        (rows.MEMORY_EVENTS, "oom_kill"): 1,
        (rows.PAGING_USAGE,): 0,
        (rows.PAGING_LIMIT,): 0,
        (rows.PAGING_FAULTS, "major"): 50,
        (rows.PAGING_FAULTS, "minor"): 499_950,
        (rows.DISK_IO, "sda", "read"): 4 * KIB,
        (rows.DISK_IO, "sda", "write"): 8 * KIB,
        (rows.DISK_OPERATIONS, "sda", "read"): 1,
        (rows.DISK_OPERATIONS, "sda", "write"): 2,
        (rows.THREAD_COUNT,): 64,
        (rows.THREAD_LIMIT,): 1024,
    },
    # Nothing is limited but threads, and the host's CPUs are what there is.
    "systemd_user_slice": {
        (rows.CPU_TIME, "user"): 77,
        (rows.CPU_TIME, "system"): 3,
        (rows.CPU_LIMIT,): 12,
        (rows.MEMORY_USAGE,): 5 * GIB,
        (rows.MEMORY_WORKING_SET,): 5 * GIB - 100 * MIB,
        (rows.MEMORY_RSS,): 4 * GIB,
        (rows.MEMORY_EVENTS, "high"): 0,
        (rows.MEMORY_EVENTS, "max"): 0,
        (rows.MEMORY_EVENTS, "oom"): 0,
        (rows.MEMORY_EVENTS, "oom_kill"): 0,
        (rows.PAGING_USAGE,): 0,
        (rows.PAGING_FAULTS, "major"): 70,
        (rows.PAGING_FAULTS, "minor"): 79_930,
        (rows.THREAD_COUNT,): 33,
        (rows.THREAD_LIMIT,): 76_000,
    },
    # The task's memory, the step's CPU set; CPU time and disks are counted in version 1's root, which is the machine.
    # The service in version 2, which holds other jobs, too, does not stand in for them.
    "hybrid": {
        (rows.CPU_LIMIT,): 8,
        (rows.CPU_SET_SIZE,): 8,
        (rows.MEMORY_USAGE,): 20 * GIB,
        (rows.MEMORY_WORKING_SET,): 19 * GIB,
        (rows.MEMORY_RSS,): 18 * GIB,
        (rows.MEMORY_LIMIT,): 64 * GIB,
        (rows.MEMORY_HEADROOM,): 6 * GIB,
        (rows.MEMORY_UTILIZATION,): 58 / 64,
        (rows.MEMORY_EVENTS, "max"): 0,
        (rows.MEMORY_EVENTS, "oom_kill"): 0,
        (rows.PAGING_USAGE,): 0,
        (rows.PAGING_FAULTS, "major"): 25,
        (rows.PAGING_FAULTS, "minor"): 399_975,
        (rows.THREAD_COUNT,): 88,
        (rows.THREAD_LIMIT,): 200_000,
    },
    "bind_mounted": {
        (rows.CPU_TIME, "user"): 10,
        (rows.CPU_TIME, "system"): 2,
        (rows.CPU_LIMIT,): 0.5,
        (rows.CPU_QUOTA,): 0.5,
        (rows.CPU_THROTTLED_TIME,): 6,
        (rows.CPU_PERIODS,): 300,
        (rows.CPU_THROTTLED_PERIODS,): 200,
        (rows.MEMORY_USAGE,): GIB,
        (rows.MEMORY_WORKING_SET,): 896 * MIB,
        (rows.MEMORY_RSS,): 512 * MIB,
        (rows.MEMORY_LIMIT,): 4 * GIB,
        (rows.MEMORY_HEADROOM,): 1.25 * GIB,
        (rows.MEMORY_UTILIZATION,): 2.75 / 4,
        (rows.MEMORY_EVENTS, "high"): 0,
        (rows.MEMORY_EVENTS, "max"): 0,
        (rows.MEMORY_EVENTS, "oom"): 0,
        (rows.MEMORY_EVENTS, "oom_kill"): 0,
        (rows.PAGING_USAGE,): 0,
        (rows.PAGING_FAULTS, "major"): 6,
        (rows.PAGING_FAULTS, "minor"): 59_994,
    },
}
"""Every reading of each tree that has a container."""

_OF_LIMIT = {rows.MEMORY_LIMIT, rows.MEMORY_AVAILABLE, rows.MEMORY_HEADROOM, rows.MEMORY_UTILIZATION}
_OF_USAGE = {rows.MEMORY_WORKING_SET, rows.MEMORY_AVAILABLE, rows.MEMORY_HEADROOM, rows.MEMORY_UTILIZATION}
_THROTTLING = {rows.CPU_THROTTLED_TIME, rows.CPU_PERIODS, rows.CPU_THROTTLED_PERIODS}
_OF_QUOTA = {rows.CPU_LIMIT, rows.CPU_QUOTA, *_THROTTLING}

DEPENDS: dict[str, set[Metric]] = {
    "memory.current": {rows.MEMORY_USAGE, *_OF_USAGE},
    "memory.usage_in_bytes": {rows.MEMORY_USAGE, *_OF_USAGE},
    # Version 1's has swap and the limits that cannot be seen, too.
    "memory.stat": {rows.MEMORY_RSS, rows.PAGING_FAULTS, rows.PAGING_USAGE, rows.MEMORY_LIMIT, *_OF_USAGE},
    "memory.max": _OF_LIMIT,
    "memory.limit_in_bytes": _OF_LIMIT,
    "memory.use_hierarchy": _OF_LIMIT,
    "memory.events": {rows.MEMORY_EVENTS},
    "memory.failcnt": {rows.MEMORY_EVENTS},
    "memory.oom_control": {rows.MEMORY_EVENTS},
    "memory.swap.current": {rows.PAGING_USAGE},
    "memory.swap.max": {rows.PAGING_LIMIT},
    "cpu.stat": {rows.CPU_TIME, *_THROTTLING},
    "cpuacct.stat": {rows.CPU_TIME},
    "cpu.max": _OF_QUOTA,
    "cpu.cfs_quota_us": _OF_QUOTA,
    "cpu.cfs_period_us": _OF_QUOTA,
    "cpuset.cpus.effective": {rows.CPU_LIMIT, rows.CPU_SET_SIZE},
    "cpuset.effective_cpus": {rows.CPU_LIMIT, rows.CPU_SET_SIZE},
    "online": {rows.CPU_LIMIT},
    "pids.current": {rows.THREAD_COUNT},
    "pids.max": {rows.THREAD_LIMIT},
    "io.stat": {rows.DISK_IO, rows.DISK_OPERATIONS},
    "blkio.throttle.io_service_bytes_recursive": {rows.DISK_IO},
    "blkio.throttle.io_serviced_recursive": {rows.DISK_OPERATIONS},
}
"""What follows from each file, whichever level of the tree it is of; from any other file follows nothing."""

STRUCTURE = {"cgroup", "mountinfo", "cgroup.procs"}
"""Without these nobody knows where the cgroup is, and nothing can be told."""


def absent(path: Path) -> None:
    """There is no such file."""
    path.unlink()


def empty(path: Path) -> None:
    """There is nothing in it."""
    path.write_text("")


def truncated(path: Path) -> None:
    """It ends in the middle."""
    text = path.read_text()
    path.write_text(text[: len(text) // 2])


def unreadable(path: Path) -> None:
    """Reading it is an error, for root, too."""
    path.unlink()
    path.mkdir()


def too_large(path: Path) -> None:
    """Its numbers have more digits than any of the kernel's."""
    path.write_text(re.sub(r"\d+", "9" * 30, path.read_text()))


FAULTS: tuple[Callable[[Path], None], ...] = (absent, empty, truncated, unreadable, too_large)


def values(batch: Batch) -> Values:
    """The readings of a look."""
    found: Values = {(reading.metric, *reading.attributes.values()): reading.value for reading in batch.readings}
    assert len(found) == len(batch.readings)
    return found


def look(root: str) -> Batch:
    """What a source that is new says of a tree."""
    source = ContainerSource(root)
    batch = source.read()
    source.close()
    return batch


def metrics(found: Values) -> set[object]:
    """The metrics among them."""
    return {key[0] for key in found}


@pytest.fixture
def clock() -> ManualClock:
    """Time that a test moves."""
    return ManualClock()


# What each tree says.


@pytest.mark.parametrize("tree", EXPECTED)
def test_a_tree_says_what_it_says(tmp_path: Path, tree: str) -> None:
    """Every reading and no other, in SI units, with the attributes of its row, twice the same."""
    source = ContainerSource(cgrouptrees.unpack(tree, tmp_path))
    source.open()
    for _ in range(2):
        batch = source.read()
        assert values(batch) == EXPECTED[tree]
        assert batch.lost == {}
        for reading in batch.readings:
            assert tuple(reading.attributes) == reading.metric.attributes
            assert isinstance(reading.value, int) or not reading.metric.integer
    source.close()


@pytest.mark.parametrize(
    ("tree", "reason"),
    [
        ("machine_root", "root cgroup"),
        ("no_cgroup", "no cgroup of this process can be seen"),
        ("outside_namespace", "no cgroup of this process can be seen"),
    ],
)
def test_where_there_is_no_container_the_source_says_so(tmp_path: Path, tree: str, reason: str) -> None:
    """Nothing is told that would repeat the host, or be somebody else's."""
    source = ContainerSource(cgrouptrees.unpack(tree, tmp_path))
    with pytest.raises(SourceUnavailable, match=reason):
        source.open()
    assert source.read().readings == []


def test_without_proc_there_is_no_container(tmp_path: Path) -> None:
    """As on macOS and Windows."""
    source = ContainerSource(str(tmp_path))
    with pytest.raises(SourceUnavailable, match="no cgroups"):
        source.open()


def test_every_tree_is_in_the_tables() -> None:
    """A tree that nobody looks at proves nothing."""
    assert set(EXPECTED) | {"machine_root", "no_cgroup", "outside_namespace"} == set(cgrouptrees.NAMES)
    derived = {metric for metric in rows.METRICS if metric.derivation is not None}
    assert {key[0] for tree in EXPECTED.values() for key in tree} == set(rows.METRICS) - derived


# What a broken file costs.


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("tree", EXPECTED)
def test_a_broken_file_costs_its_own_metrics(tmp_path: Path, tree: str, fault: Callable[[Path], None]) -> None:
    """Each file of the tree: what follows from it is missing, and never another number; all else is as it was."""
    root = cgrouptrees.unpack(tree, tmp_path)
    blamed = set()
    for name, text in cgrouptrees.files(tree).items():
        path = tmp_path / name
        fault(path)
        found = values(look(root))
        if path.is_dir():
            path.rmdir()
        path.write_text(text)
        if path.name in STRUCTURE:
            assert found.items() <= EXPECTED[tree].items(), name
            continue
        changed = {key[0] for key, _ in found.items() ^ EXPECTED[tree].items()}
        assert changed <= DEPENDS.get(path.name, set()), name
        # Without its file a controller is off at that level, and what is above it holds alone; older kernels have an
        # older file.
        assert fault is absent or found.items() <= EXPECTED[tree].items(), name
        blamed |= {path.name} if changed else set()
    if fault in (empty, unreadable, too_large):
        told = metrics(EXPECTED[tree])
        read = {name for path in cgrouptrees.files(tree) if DEPENDS.get(name := path.rpartition("/")[2], set()) & told}
        # The machine's own CPUs matter where nothing else limits them, and an old cgroup's hierarchy where it has one.
        assert blamed >= read - {"online", "memory.use_hierarchy"}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("name", ["memory.current", "memory.stat", "memory.events", "cpu.stat", "io.stat"])
def test_a_file_that_breaks_and_mends_is_missing_in_between(
    tmp_path: Path, clock: ManualClock, name: str, fault: Callable[[Path], None]
) -> None:
    """What is lost is counted, and told again when it can be read; but for a file that is not there at all."""
    source = ContainerSource(cgrouptrees.unpack("docker_v2", tmp_path), clock=clock.monotonic)
    path = tmp_path / "sys/fs/cgroup" / name
    text = path.read_text()
    fault(path)
    batch = source.read()
    assert not metrics(values(batch)) >= DEPENDS[name]
    assert bool(batch.lost) == (fault is not absent and not (name == "io.stat" and fault is empty))
    if path.is_dir():
        path.rmdir()
    path.write_text(text)
    if fault is absent:
        assert metrics(values(source.read())).isdisjoint({rows.MEMORY_USAGE} & DEPENDS[name])
    else:
        assert values(source.read()) == EXPECTED["docker_v2"]
    source.close()


@pytest.mark.parametrize(
    ("name", "text", "lost", "metric"),
    [
        ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n", (rows.MEMORY_EVENTS, "oom_kill"), "before 4.13"),
        ("memory.stat", None, (rows.PAGING_USAGE,), "no swap accounting"),
    ],
)
def test_what_a_kernel_has_not_got_is_not_lost(
    tmp_path: Path, name: str, text: str | None, lost: tuple[object, ...], metric: str
) -> None:
    """An older kernel, or one without swap accounting, is not asked again."""
    root = cgrouptrees.unpack("docker_v1", tmp_path)
    path = tmp_path / "sys/fs/cgroup/memory" / name
    path.write_text(re.sub(r"total_swap .*\n", "", path.read_text()) if text is None else text)
    batch = look(root)
    assert EXPECTED["docker_v1"].keys() - values(batch).keys() == {lost}
    assert batch.lost == {}


def test_no_part_is_larger_than_its_whole(tmp_path: Path) -> None:
    """Cache and usage are counted apart: a working set is never below 0, nor is what is left of a limit."""
    root = cgrouptrees.unpack("docker_v2", tmp_path)
    directory = tmp_path / "sys/fs/cgroup"
    (directory / "memory.current").write_text("4096\n")
    assert values(look(root))[rows.MEMORY_WORKING_SET,] == 0
    (directory / "memory.current").write_text(f"{10 * GIB}\n")
    found = values(look(root))
    assert (found[rows.MEMORY_HEADROOM,], found[rows.MEMORY_AVAILABLE,]) == (0, 0)
    assert found[rows.MEMORY_UTILIZATION,] == 9 / 8


def test_a_disk_that_sysfs_does_not_name_has_its_number(tmp_path: Path) -> None:
    """It may be gone, and its bytes are still told."""
    root = cgrouptrees.unpack("kubernetes_v2", tmp_path)
    (tmp_path / "sys/dev/block/8:0").unlink()
    assert values(look(root))[rows.DISK_IO, "8:0", "read"] == 4 * KIB


# What changes while the job runs.


def test_a_new_limit_is_told_after_a_few_seconds(tmp_path: Path, clock: ManualClock) -> None:
    """And counters go on."""
    source = ContainerSource(cgrouptrees.unpack("docker_v2", tmp_path), clock=clock.monotonic)
    source.read()
    directory = tmp_path / "sys/fs/cgroup"
    (directory / "memory.max").write_text(f"{16 * GIB}\n")
    (directory / "cpu.max").write_text("200000 100000\n")
    (directory / "pids.max").write_text("max\n")
    (directory / "memory.events").write_text("low 0\nhigh 0\nmax 40\noom 2\noom_kill 1\n")
    clock.advance(cgroup.EVERY)
    found = values(source.read())
    assert (found[rows.MEMORY_LIMIT,], found[rows.MEMORY_HEADROOM,]) == (16 * GIB, 11 * GIB)
    assert (found[rows.CPU_LIMIT,], found[rows.CPU_QUOTA,]) == (2, 2)
    assert (rows.THREAD_LIMIT,) not in found
    assert found[rows.MEMORY_EVENTS, "max"] == 40
    source.close()


def test_a_process_that_is_moved_is_followed(tmp_path: Path, clock: ManualClock) -> None:
    """Levels are the new cgroup's; its counters go on from the old one's and nothing is invented."""
    source = ContainerSource(cgrouptrees.unpack("kubernetes_v2", tmp_path), clock=clock.monotonic)
    before = values(source.read())
    pod = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod6b1f.slice"
    (tmp_path / "proc/self/cgroup").write_text(f"0::{pod}\n")
    clock.advance(cgroup.EVERY)
    after = values(source.read())
    assert after[rows.MEMORY_USAGE,] == 15 * GIB
    assert after[rows.CPU_TIME, "user"] == before[rows.CPU_TIME, "user"] == 500
    stat = tmp_path / f"sys/fs/cgroup{pod}/cpu.stat"
    stat.write_text(stat.read_text().replace("user_usec 600000000", "user_usec 607000000"))
    assert values(source.read())[rows.CPU_TIME, "user"] == 507
    source.close()


def test_a_process_that_is_moved_to_the_root_has_no_container(tmp_path: Path, clock: ManualClock) -> None:
    """And again one when it is moved back."""
    source = ContainerSource(cgrouptrees.unpack("kubernetes_v2", tmp_path), clock=clock.monotonic)
    assert values(source.read()) == EXPECTED["kubernetes_v2"]
    path = tmp_path / "proc/self/cgroup"
    text = path.read_text()
    path.write_text("0::/\n")
    clock.advance(cgroup.EVERY)
    assert source.read().readings == []
    path.write_text(text)
    clock.advance(cgroup.EVERY)
    assert values(source.read()) == EXPECTED["kubernetes_v2"]
    source.close()


def test_a_controller_that_is_switched_on_is_seen(tmp_path: Path, clock: ManualClock) -> None:
    """As systemd does to a session at work when a limit is set."""
    source = ContainerSource(cgrouptrees.unpack("docker_v2", tmp_path), clock=clock.monotonic)
    directory = tmp_path / "sys/fs/cgroup"
    text = (directory / "io.stat").read_text()
    (directory / "io.stat").unlink()
    (directory / "cgroup.controllers").write_text("cpu memory\n")
    assert rows.DISK_IO not in metrics(values(source.read()))
    (directory / "io.stat").write_text(text)
    (directory / "cgroup.controllers").write_text("cpu io memory\n")
    clock.advance(cgroup.EVERY)
    assert values(source.read()) == EXPECTED["docker_v2"]
    source.close()


def test_without_proc_the_last_cgroup_is_read_on(tmp_path: Path, clock: ManualClock) -> None:
    """What cannot be looked up is counted as lost, and costs nothing else."""
    source = ContainerSource(cgrouptrees.unpack("docker_v2", tmp_path), clock=clock.monotonic)
    source.read()
    (tmp_path / "proc/self/cgroup").unlink()
    clock.advance(cgroup.EVERY)
    batch = source.read()
    assert values(batch) == EXPECTED["docker_v2"]
    assert batch.lost == {"FileNotFoundError": 1}
    source.close()


# What it costs.


@pytest.mark.parametrize("tree", EXPECTED)
def test_each_file_is_read_once_a_sample(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, tree: str
) -> None:
    """With one system call, and none is opened; series are the same objects each time."""
    source = ContainerSource(cgrouptrees.unpack(tree, tmp_path), clock=clock.monotonic)
    series = {reading.series: reading.series for reading in source.read().readings}
    reads: list[int] = []
    pread = os.pread

    def counted(descriptor: int, size: int, offset: int) -> bytes:
        reads.append(descriptor)
        return pread(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", counted)
    monkeypatch.setattr(os, "open", lambda *arguments, **_: pytest.fail(f"opened {arguments}"))
    clock.advance(1.0)
    for reading in source.read().readings:
        assert series[reading.series] is reading.series
    assert reads
    assert len(reads) == len(set(reads))
    source.close()


# What the kernel does.


@pytest.fixture
def memory_cgroup() -> Iterator[Path]:
    """A cgroup with a limit of 128 MiB."""
    with realcgroups.made("memory") as directory:
        name = next(name for name in ("memory.max", "memory.limit_in_bytes") if (directory / name).exists())
        (directory / name).write_text(str(128 * MIB))
        yield directory


OOM = """
source = ContainerSource(limits=cgroup.Limits(every=0.0))
source.open()
before = values(source.read())
block = bytearray(48 << 20)
for page in range(0, len(block), 4096):
    block[page] = 1
grown = values(source.read())
del block
greedy = "open('/proc/self/oom_score_adj', 'w').write('1000'); bytearray(b'x' * (512 << 20))"
code = subprocess.run([sys.executable, "-c", greedy]).returncode
after = values(source.read())
tell(before=before, grown=grown, after=after, code=code)
"""


@linux
def test_a_real_limit_and_a_real_kill(memory_cgroup: Path) -> None:
    """A child that takes more than the limit is killed: once, and counted once; usage and limit are the kernel's."""
    told = realcgroups.run(OOM, memory_cgroup)
    before, grown, after = told["before"], told["grown"], told["after"]
    assert told["code"] == -9
    kills = "hwmetrics.container.memory.events oom_kill"
    assert after[kills] - grown[kills] == 1
    assert grown[kills] == before[kills]
    assert after["hwmetrics.container.memory.events max"] > before["hwmetrics.container.memory.events max"]
    for found in (before, grown, after):
        assert found["hwmetrics.container.memory.limit"] == 128 * MIB
        working_set = found["container.memory.working_set"]
        assert 0 < working_set <= found["container.memory.usage"] <= 128 * MIB
        assert found["hwmetrics.container.memory.headroom"] == 128 * MIB - working_set
        assert found["hwmetrics.container.memory.utilization"] == pytest.approx(working_set / (128 * MIB))
    assert grown["container.memory.rss"] - before["container.memory.rss"] == pytest.approx(48 * MIB, rel=0.05)
    # The kernel charges memory in batches of 64 pages a CPU.
    growth = grown["container.memory.usage"] - before["container.memory.usage"]
    assert growth == pytest.approx(48 * MIB, abs=2 * MIB)


THROTTLE = """
source = ContainerSource(limits=cgroup.Limits(every=0.0))
source.open()
before, used = values(source.read()), sum(os.times()[:2])
end = time.monotonic() + 1.5
while time.monotonic() < end:
    pass
after, used = values(source.read()), sum(os.times()[:2]) - used
tell(before=before, after=after, used=used)
"""


@pytest.fixture
def cpu_cgroups() -> Iterator[list[Path]]:
    """A cgroup that may use a fifth of a CPU, and that which counts its time where that is another one."""
    with realcgroups.made("cpu") as directory:
        try:
            if (directory / "cpu.max").exists():
                (directory / "cpu.max").write_text("20000 100000")
            else:
                (directory / "cpu.cfs_period_us").write_text("100000")
                (directory / "cpu.cfs_quota_us").write_text("20000")
        except OSError as error:
            pytest.skip(f"the cpu controller is not to be had here: {error}")
        if (directory / "cpuacct.stat").exists() or not cgroup.find().legacy.get("cpuacct"):
            yield [directory]
        else:
            with realcgroups.made("cpuacct") as accounting:
                yield [directory, accounting]


@linux
def test_a_real_quota_throttles(cpu_cgroups: list[Path]) -> None:
    """A process that wants a whole CPU has a fifth of one, most of its periods are throttled, and its time is right."""
    told = realcgroups.run(THROTTLE, *cpu_cgroups)
    before, after = told["before"], told["after"]
    growth = {name: after[name] - before[name] for name in after}
    assert after["hwmetrics.container.cpu.limit"] == after["hwmetrics.container.cpu.quota"] == 0.2
    used = growth["container.cpu.time user"] + growth["container.cpu.time system"]
    assert used == pytest.approx(told["used"], abs=0.1)
    assert used == pytest.approx(0.3, abs=0.15)
    assert 10 <= growth["hwmetrics.container.cpu.periods"] <= 20
    assert growth["hwmetrics.container.cpu.throttled.periods"] >= 8
    # Less where there is no CPU for it anyway.
    assert 0.3 <= growth["hwmetrics.container.cpu.throttled.time"] <= 1.6


MOVE = """
join(directories[0])
source = ContainerSource(limits=cgroup.Limits())
source.open()
before = values(source.read())
join(directories[1])
os.rmdir(directories[0])
lost = source.read().lost
after = values(source.read())
os.mkdir(directories[0])  # for those who made it to take away
tell(before=before, after=after, lost=lost)
"""


@linux
def test_a_real_cgroup_that_vanishes_is_left(memory_cgroup: Path) -> None:
    """The process was moved on and its cgroup removed: the next look but one is the new cgroup's."""
    with realcgroups.made("memory") as another:
        told = realcgroups.run(MOVE, memory_cgroup, another)
    assert told["lost"]["OSError"] > 0
    assert "hwmetrics.container.memory.limit" in told["before"]
    assert "hwmetrics.container.memory.limit" not in told["after"]
    assert "container.memory.usage" in told["after"]


@linux
def test_this_process_is_read() -> None:
    """Whatever cgroup this machine's tests run in, nothing is lost and nothing raised."""
    source = ContainerSource()
    with suppress(SourceUnavailable):
        source.open()
    batch = source.read()
    assert batch.lost == {}
    assert all(isinstance(reading.series, Series) and reading.value >= 0 for reading in batch.readings)
    source.close()
