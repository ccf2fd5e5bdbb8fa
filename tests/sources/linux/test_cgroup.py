# SPDX-License-Identifier: Apache-2.0
"""Where a process's cgroups are, what they hold it to, and what becomes of their files and counters."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cgrouptrees
from otel_hwmetrics.catalog import container as rows
from otel_hwmetrics.model import Reading, Series
from otel_hwmetrics.sources.linux import cgroup
from otel_hwmetrics.sources.linux.cgroup import membership as places
from otel_hwmetrics.testing import ManualClock

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's /proc")

GIB = 2**30
FS = "/sys/fs/cgroup"
POD = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod6b1f.slice"
JOB = "/slurm/uid_1000/job_42"

PLACES: dict[str, dict[str, tuple[str, str] | None]] = {
    "docker_v2": {"memory": (FS, ""), "cpu": (FS, ""), "io": (FS, "")},
    "docker_v1": {
        "memory": (f"{FS}/memory", ""),
        "cpu": (f"{FS}/cpu,cpuacct", ""),
        "cpuacct": (f"{FS}/cpu,cpuacct", ""),
        "pids": (f"{FS}/pids", ""),
        "io": None,
    },
    "kubernetes_v2": {"memory": (FS, f"{POD}/cri-containerd-9c2e.scope")},
    "systemd_user_slice": {"cpu": (FS, "/user.slice/user-1000.slice/user@1000.service/app.slice/app-train-7421.scope")},
    "hybrid": {
        "memory": (f"{FS}/memory", f"{JOB}/step_0/task_0"),
        "cpuset": (f"{FS}/cpuset", f"{JOB}/step_0"),
        "cpu": None,
        "cpuacct": None,
        "pids": (f"{FS}/pids", "/system.slice/slurmd.service"),
        "pressure": (f"{FS}/unified", "/system.slice/slurmd.service"),
    },
    "bind_mounted": {"memory": ("/mnt/cgroup of the job", "/worker")},
    "outside_namespace": {"memory": None, "cpu": None},
    "machine_root": {"memory": None, "cpu": None},
    "no_cgroup": {"memory": None, "cpu": None},
}
"""Where the files of a controller are in each tree, mount and path; None where there are none for this process."""

HELD: dict[str, tuple[list[int], int | None, float, float | None, int | None]] = {
    "docker_v2": ([8 * GIB], 8 * GIB, 1.5, 1.5, 5),
    "docker_v1": ([4 * GIB], 4 * GIB, 2.5, 2.5, 8),
    "kubernetes_v2": ([12 * GIB, 16 * GIB, 100 * GIB], 12 * GIB, 4.0, 4.0, 16),
    "systemd_user_slice": ([], None, 12.0, None, None),
    "hybrid": ([64 * GIB, 64 * GIB], 64 * GIB, 8.0, None, 8),
    "bind_mounted": ([4 * GIB], 4 * GIB, 0.5, 0.5, None),
    "outside_namespace": ([], None, 4.0, None, None),
    "machine_root": ([], None, 4.0, None, None),
    "no_cgroup": ([], None, 4.0, None, None),
}
"""What each tree's process is held to: memory limits upward, the smallest, CPUs, quota, size of the CPU set."""


@pytest.fixture
def clock() -> ManualClock:
    """Time that a test moves."""
    return ManualClock()


def limits_of(root: str, clock: ManualClock) -> cgroup.Limits:
    """Those of a tree's process."""
    return cgroup.Limits(root, clock=clock.monotonic)


# Where they are.


@pytest.mark.parametrize("tree", cgrouptrees.NAMES)
def test_a_cgroup_is_found_where_it_is_mounted(tmp_path: Path, tree: str) -> None:
    """Whatever is mounted, wherever, and however much of it."""
    root = cgrouptrees.unpack(tree, tmp_path)
    membership = cgroup.find(root)
    found = {controller: membership.of(controller) for controller in PLACES[tree]}
    assert {
        controller: place and (place.mount.removeprefix(root), place.path) for controller, place in found.items()
    } == PLACES[tree]


def test_every_tree_is_in_the_tables() -> None:
    """A tree that nobody looks at proves nothing."""
    assert set(cgrouptrees.NAMES) == set(PLACES) == set(HELD)


@pytest.mark.parametrize(
    ("tree", "visible", "is_root"),
    [("docker_v2", True, False), ("machine_root", True, True), ("no_cgroup", False, True), ("hybrid", True, False)],
)
def test_the_machines_root_is_told_from_a_namespaces(
    tmp_path: Path, tree: str, *, visible: bool, is_root: bool
) -> None:
    """Both are called "/"; only a container's has the files that a root lacks."""
    membership = cgroup.find(cgrouptrees.unpack(tree, tmp_path))
    assert (membership.is_visible, membership.is_root) == (visible, is_root)


def test_of_two_mounts_the_one_that_shows_more_is_taken(tmp_path: Path) -> None:
    """The whole tree beside the process's own part of it: ancestors and their limits are seen."""
    root = cgrouptrees.unpack("bind_mounted", tmp_path)
    (tmp_path / "mnt/all/build.slice/job-7/worker").mkdir(parents=True)
    (tmp_path / "mnt/all/build.slice/job-7/worker/cgroup.procs").touch()
    with (tmp_path / "proc/self/mountinfo").open("a") as mounts:
        mounts.write("40 1 0:40 / /mnt/all rw - cgroup2 cgroup2 rw\n")
    found = cgroup.find(root).of("memory")
    assert found is not None
    assert found.directory == f"{root}/mnt/all/build.slice/job-7/worker"
    assert [level.path for level in found.lineage] == [
        "/build.slice/job-7/worker",
        "/build.slice/job-7",
        "/build.slice",
        "",
    ]


def test_a_name_that_only_begins_alike_is_another_cgroup(tmp_path: Path) -> None:
    """A mount of /build.slice/job-7 does not show /build.slice/job-77."""
    root = cgrouptrees.unpack("bind_mounted", tmp_path)
    (tmp_path / "proc/self/cgroup").write_text("0::/build.slice/job-77\n")
    assert not cgroup.find(root).is_visible


def test_a_path_may_hold_colons() -> None:
    """Only the first two of a line divide it."""
    text = b"12:cpu,cpuacct:/a:b/c d\n1:name=systemd:/\n0::/x\n"
    assert places.parse_membership(text) == {
        "cpu": "/a:b/c d",
        "cpuacct": "/a:b/c d",
        "name=systemd": "/",
        "": "/x",
    }


@given(st.binary(max_size=300))
def test_any_bytes_of_proc_are_taken(text: bytes) -> None:
    """What is no line of /proc/self/cgroup or mountinfo is passed over."""
    places.parse_membership(text)
    places.parse_mounts(text)


@given(st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1, max_size=30))
def test_mount_points_are_as_they_were_named(name: str) -> None:
    """The kernel writes spaces, tabs, line ends and backslashes as octal numbers."""
    escaped = "".join(f"\\{ord(char):03o}" if char in " \t\n\\" else char for char in name)
    line = f"36 35 0:30 / /mnt/{escaped} rw,noatime shared:1 master:2 - cgroup2 none rw,nsdelegate\n"
    (mount,) = places.parse_mounts(os.fsencode(line))
    assert mount.point == f"/mnt/{name}"


@linux
def test_this_process_is_where_the_kernel_says() -> None:
    """Each cgroup that is found lists this process, or a thread group of it, among its own."""
    membership = cgroup.find()
    for found in (membership.unified, *membership.legacy.values()):
        if found is not None:
            pids = Path(f"{found.directory}/cgroup.procs").read_text().split()
            assert str(os.getpid()) in pids


@linux
def test_another_process_can_be_asked_for() -> None:
    """By its number."""
    assert cgroup.find(pid=os.getpid()) == cgroup.find()
    with pytest.raises(FileNotFoundError):
        cgroup.find(pid=2**22 + 1)


# What they hold to.


@pytest.mark.parametrize("tree", cgrouptrees.NAMES)
def test_the_smallest_limit_on_the_way_up_counts(tmp_path: Path, clock: ManualClock, tree: str) -> None:
    """Of the process's own cgroup and of all above it."""
    held = limits_of(cgrouptrees.unpack(tree, tmp_path), clock).now()
    levels, limit, cpus, quota, set_size = HELD[tree]
    assert [level.limit for level in held.memory.levels] == levels
    assert held.memory.limit == limit
    assert (held.cpus, held.quota and held.quota.cpus, held.set_size) == (cpus, quota, set_size)


def test_the_cgroup_of_the_smallest_quota_is_the_one_that_throttles(tmp_path: Path, clock: ManualClock) -> None:
    """The pod's, where the container's own quota is larger."""
    quota = limits_of(cgrouptrees.unpack("kubernetes_v2", tmp_path), clock).now().quota
    assert quota is not None
    assert quota.cgroup.path == POD


def test_a_limit_beyond_the_machine_is_none(tmp_path: Path, clock: ManualClock) -> None:
    """It can never be reached."""
    root = cgrouptrees.unpack("docker_v2", tmp_path)
    (tmp_path / "sys/fs/cgroup/memory.max").write_text(f"{65_536_000 * 1024}\n")
    memory = limits_of(root, clock).now().memory
    assert (memory.levels, memory.limit, memory.total) == ((), None, 65_536_000 * 1024)


def test_version_1_tells_of_limits_that_cannot_be_seen(tmp_path: Path, clock: ManualClock) -> None:
    """The smallest limit counts the pod's; what fills that is not known, so it is none of the levels."""
    root = cgrouptrees.unpack("docker_v1", tmp_path)
    stat = tmp_path / "sys/fs/cgroup/memory/memory.stat"
    stat.write_text(stat.read_text().replace(f"memory_limit {4 * GIB}", f"memory_limit {2 * GIB}"))
    memory = limits_of(root, clock).now().memory
    assert ([level.limit for level in memory.levels], memory.limit) == ([4 * GIB], 2 * GIB)


def test_version_1_without_hierarchy_is_not_held_by_what_is_above(tmp_path: Path, clock: ManualClock) -> None:
    """A cgroup with use_hierarchy 0 holds for itself alone."""
    root = cgrouptrees.unpack("hybrid", tmp_path)
    memory = tmp_path / "sys/fs/cgroup/memory"
    (memory / f"{JOB[1:]}/memory.use_hierarchy").write_text("0\n")
    held = limits_of(root, clock).now().memory
    assert [level.cgroup.path for level in held.levels] == [f"{JOB}/step_0"]


@pytest.mark.parametrize("broken", ["", "12", "9" * 30 + "\n"])
def test_a_limit_that_cannot_be_read_leaves_the_smallest_unknown(
    tmp_path: Path, clock: ManualClock, broken: str
) -> None:
    """One level's figure may be the smallest; the CPUs are known nevertheless, and the other way round."""
    root = cgrouptrees.unpack("kubernetes_v2", tmp_path)
    directory = tmp_path / f"sys/fs/cgroup{POD}"
    (directory / "memory.max").write_text(broken)
    held = limits_of(root, clock).now()
    for _ in range(3):
        with pytest.raises(ValueError, match=r"\w"):
            _ = held.memory
    assert held.cpus == 4
    (directory / "memory.max").write_text("max\n")
    (directory / "cpu.max").write_text(broken)
    held = cgroup.Limits(root).now()
    assert (held.memory.limit, held.set_size) == (12 * GIB, 16)
    with pytest.raises(ValueError, match=r"\w"):
        _ = held.cpus


def test_limits_are_looked_up_again_after_a_while(tmp_path: Path, clock: ManualClock) -> None:
    """Not before, and then what has changed is there: a limit, and the cgroup itself."""
    root = cgrouptrees.unpack("kubernetes_v2", tmp_path)
    limits = limits_of(root, clock)
    before = limits.now()
    (tmp_path / f"sys/fs/cgroup{POD}/memory.max").write_text(f"{10 * GIB}\n")
    (tmp_path / "proc/self/cgroup").write_text(f"0::{POD}\n")
    clock.advance(cgroup.EVERY - 0.001)
    assert limits.now() is before
    clock.advance(0.001)
    after = limits.now()
    assert after.membership.unified is not None
    assert after.membership.unified.path == POD
    assert after.memory.limit == 10 * GIB


def test_the_list_of_mounts_is_read_when_the_process_has_moved(tmp_path: Path, clock: ManualClock) -> None:
    """It may be long, so not at every look."""
    limits = limits_of(cgrouptrees.unpack("docker_v2", tmp_path), clock)
    before = limits.now().membership
    (tmp_path / "proc/self/mountinfo").unlink()
    clock.advance(cgroup.EVERY)
    assert limits.now().membership is before


@pytest.mark.parametrize(("name", "expected"), [("pids.max", 1024), ("memory.swap.max", 0), ("absent.max", None)])
def test_the_smallest_of_a_file_upward(tmp_path: Path, name: str, expected: int | None) -> None:
    """Where the file is absent its controller is off, and nothing is limited."""
    found = cgroup.find(cgrouptrees.unpack("kubernetes_v2", tmp_path)).of("memory")
    assert found is not None
    assert cgroup.smallest(found, name) == expected


@linux
def test_effective_limits_are_no_more_than_the_machine_has() -> None:
    """And a process has no fewer than some of a CPU."""
    assert 0 < cgroup.effective_cpus() <= len(os.sched_getaffinity(0))
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    memory = cgroup.effective_memory()
    assert memory is not None
    assert 0 < memory <= total


def test_effective_limits_are_the_smaller_of_cgroup_and_affinity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quota of 1.5 CPUs, then an affinity of one."""
    limits = cgroup.Limits(cgrouptrees.unpack("docker_v2", tmp_path))
    monkeypatch.setattr("otel_hwmetrics.sources.linux.cgroup.limits.shared", lambda: limits)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    assert cgroup.effective_cpus() == 1.5
    assert cgroup.effective_memory() == 8 * GIB
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    assert cgroup.effective_cpus() == 1


def test_without_proc_the_machine_is_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On macOS and Windows there are no cgroups and no affinity."""
    monkeypatch.setattr(
        "otel_hwmetrics.sources.linux.cgroup.limits.shared", lambda: cgroup.Limits(str(tmp_path / "absent"))
    )
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert cgroup.effective_cpus() == os.cpu_count()
    assert cgroup.effective_memory() is None


# Their files.


def test_a_file_is_read_once_a_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it is asked for, also when it cannot be read; and afresh at the next."""
    (tmp_path / "memory.stat").write_text("anon 1\n")
    group = cgroup.Group(str(tmp_path))
    reads: list[int] = []
    pread = os.pread

    def counted(descriptor: int, size: int, offset: int) -> bytes:
        reads.append(descriptor)
        return pread(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", counted)
    group.begin()
    assert [group.text("memory.stat") for _ in range(3)] == [b"anon 1\n"] * 3
    assert len(reads) == 1
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            group.text("absent")
    (tmp_path / "memory.stat").write_text("anon 2\n")
    group.begin()
    assert group.text("memory.stat") == b"anon 2\n"
    group.close()


# Their counters.


def readings(*values: float) -> list[Reading]:
    """One look: as many counters, and a level."""
    counters = [Reading(Series(rows.CPU_TIME, {rows.CPU_MODE: str(n)}), value, 0.0) for n, value in enumerate(values)]
    return [*counters, Reading(Series(rows.MEMORY_USAGE), 7, 0.0)]


def told(continued: cgroup.Continued, *values: float) -> list[float]:
    """What becomes of one look."""
    look = readings(*values)
    continued.apply(look)
    return [reading.value for reading in look]


def test_counters_go_on_from_one_cgroup_to_the_next() -> None:
    """What the new one had counted before is no growth; a counter that it shows later likewise; levels are as read."""
    continued = cgroup.Continued()
    assert told(continued, 10, 20) == [10, 20, 7]
    continued.moved()
    assert told(continued, 1000) == [10, 7]
    assert told(continued, 1005, 500) == [15, 20, 7]
    continued.moved()
    assert told(continued, 3, 3) == [15, 20, 7]
    assert told(continued, 4, 5) == [16, 22, 7]


def test_only_the_cgroups_counters_are_continued() -> None:
    """The machine's stand where they stood."""
    continued = cgroup.Continued()
    told(continued, 10, 20)
    continued.moved(lambda series: series.attributes[rows.CPU_MODE] == "0")
    assert told(continued, 100, 200) == [10, 200, 7]
