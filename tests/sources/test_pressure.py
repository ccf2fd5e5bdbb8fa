# SPDX-License-Identifier: Apache-2.0
"""Pressure: the kernel's counters of the machine and of this process's cgroup, and nothing where it does not count."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import cgrouptrees
import realcgroups
from otel_hwmetrics.catalog import pressure as rows
from otel_hwmetrics.sources.base import Batch, SourceUnavailable
from otel_hwmetrics.sources.linux import cgroup
from otel_hwmetrics.sources.pressure import PressureSource
from otel_hwmetrics.testing import ManualClock
from otel_hwmetrics.windows import Accumulator, between

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's /proc")

Values = dict[tuple[object, ...], float]

HOST: dict[str, Values] = {
    "docker_v2": {
        ("cpu", "some"): 90,
        ("memory", "some"): 5,
        ("memory", "full"): 4,
        ("io", "some"): 70,
        ("io", "full"): 60,
        ("irq", "full"): 0.123456,
    },
    "machine_root": {
        ("cpu", "some"): 0.004,
        ("memory", "some"): 0.003,
        ("memory", "full"): 0.002,
        ("io", "some"): 0.009,
        ("io", "full"): 0.008,
    },
}
OWN: dict[str, Values] = {
    "docker_v2": {
        ("cpu", "some"): 12,
        ("cpu", "full"): 11,
        ("memory", "some"): 0.3,
        ("memory", "full"): 0.2,
        ("io", "some"): 8.5,
        ("io", "full"): 8,
        ("irq", "full"): 0.003456,
    },
    "kubernetes_v2": {
        ("cpu", "some"): 2,
        ("cpu", "full"): 1.9,
        ("memory", "some"): 0.01,
        ("memory", "full"): 0.009,
        ("io", "some"): 0.5,
        ("io", "full"): 0.4,
    },
    "hybrid": {
        ("cpu", "some"): 0.6,
        ("cpu", "full"): 0.5,
        ("memory", "some"): 0.05,
        ("memory", "full"): 0.04,
        ("io", "some"): 0.7,
        ("io", "full"): 0.65,
    },
    "machine_root": {},
}


def values(batch: Batch, scope: str) -> Values:
    """The seconds of one scope, by resource and kind."""
    return {
        (reading.attributes[rows.RESOURCE], reading.attributes[rows.KIND]): reading.value
        for reading in batch.readings
        if reading.attributes[rows.SCOPE] == scope
    }


@pytest.fixture
def clock() -> ManualClock:
    """Time that a test moves."""
    return ManualClock()


@pytest.mark.parametrize("tree", HOST)
def test_the_machines_stalls_in_seconds(tmp_path: Path, tree: str) -> None:
    """Without the machine's full CPU pressure, which the kernel defines as nothing and writes as 0."""
    source = PressureSource(cgrouptrees.unpack(tree, tmp_path))
    source.open()
    for _ in range(2):
        batch = source.read()
        assert values(batch, "host") == HOST[tree]
        assert batch.lost == {}
        for reading in batch.readings:
            assert tuple(reading.attributes) == rows.STALL_TIME.attributes
            assert reading.attributes[rows.METHOD] == "psi"
    source.close()


@pytest.mark.parametrize("tree", OWN)
def test_the_cgroups_stalls_in_seconds(tmp_path: Path, tree: str) -> None:
    """Of the process's own cgroup of version 2; the root is the machine, and not told twice."""
    source = PressureSource(cgrouptrees.unpack(tree, tmp_path))
    assert values(source.read(), "cgroup") == OWN[tree]
    source.close()


@pytest.mark.parametrize("tree", ["no_cgroup", "docker_v1", "bind_mounted"])
def test_where_nothing_is_counted_the_source_says_so(tmp_path: Path, tree: str) -> None:
    """An old kernel, one booted with psi=0, another system."""
    source = PressureSource(cgrouptrees.unpack(tree, tmp_path))
    with pytest.raises(SourceUnavailable, match="does not count pressure"):
        source.open()
    source.close()


def test_a_kernel_that_was_told_not_to_count_is_not_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some have the files with psi=0, too, and refuse to open them."""
    root = cgrouptrees.unpack("machine_root", tmp_path)
    opened: list[str] = []
    real = os.open

    def refuse(path: str, flags: int, *_: int, **__: int | None) -> int:
        if "pressure" in path:
            opened.append(path)
            raise OSError(errno.EOPNOTSUPP, "Operation not supported", path)
        return real(path, flags)

    monkeypatch.setattr(os, "open", refuse)
    source = PressureSource(root)
    with pytest.raises(SourceUnavailable):
        source.open()
    assert len(opened) == 4
    assert source.read().readings == []
    assert len(opened) == 4


def test_a_file_that_cannot_be_read_now_does_not_close_the_source(tmp_path: Path) -> None:
    """It may be readable later; only what is for ever makes the source unavailable."""
    root = cgrouptrees.unpack("machine_root", tmp_path)
    for path in (tmp_path / "proc/pressure").iterdir():
        path.write_text("")
    source = PressureSource(root)
    source.open()
    batch = source.read()
    assert batch.readings == []
    assert batch.lost == {"ValueError": 3}


FAULTS: dict[str, Callable[[str], str | None]] = {
    "absent": lambda _: None,
    "empty": lambda _: "",
    "truncated": lambda text: text[:-3],
    "too large": lambda text: re.sub(r"total=\d+", "total=" + "9" * 30, text),
    "garbage": lambda _: "text\n",
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("resource", ["cpu", "memory", "io", "irq"])
@pytest.mark.parametrize("scope", ["host", "cgroup"])
def test_a_broken_file_costs_its_own_readings(tmp_path: Path, scope: str, resource: str, fault: str) -> None:
    """Of one resource and one scope; all else is as it was."""
    root = cgrouptrees.unpack("docker_v2", tmp_path)
    path = tmp_path / (f"proc/pressure/{resource}" if scope == "host" else f"sys/fs/cgroup/{resource}.pressure")
    broken = FAULTS[fault](path.read_text())
    if broken is None:
        path.unlink()
    else:
        path.write_text(broken)
    source = PressureSource(root)
    batch = source.read()
    expected = {"host": HOST["docker_v2"], "cgroup": OWN["docker_v2"]}
    for name, all_values in expected.items():
        hurt = resource if name == scope else None
        assert values(batch, name) == {key: value for key, value in all_values.items() if key[0] != hurt}
    assert sum(batch.lost.values()) == (0 if broken is None else 1)
    source.close()


def test_a_process_that_is_moved_is_followed(tmp_path: Path, clock: ManualClock) -> None:
    """Its counters go on from where they stood, and the machine's are the machine's."""
    source = PressureSource(cgrouptrees.unpack("kubernetes_v2", tmp_path), clock=clock.monotonic)
    before = source.read()
    directory = tmp_path / "sys/fs/cgroup/kubepods.slice"
    (directory / "io.pressure").write_text("some avg10=0.00 avg60=0.00 avg300=0.00 total=900000000\n")
    (tmp_path / "proc/self/cgroup").write_text("0::/kubepods.slice\n")
    clock.advance(cgroup.EVERY)
    after = source.read()
    assert values(after, "cgroup") == {("io", "some"): 0.5}
    assert values(after, "host") == values(before, "host")
    (directory / "io.pressure").write_text("some avg10=0.00 avg60=0.00 avg300=0.00 total=902000000\n")
    assert values(source.read(), "cgroup") == {("io", "some"): 2.5}
    source.close()


def test_the_share_is_the_stall_by_the_window(tmp_path: Path, clock: ManualClock) -> None:
    """Three seconds of stall in ten are three tenths, for whoever looks at those ten."""
    source = PressureSource(cgrouptrees.unpack("machine_root", tmp_path), clock=clock.monotonic)
    accumulator = Accumulator()
    first = accumulator.sample(source.read().readings, clock.monotonic(), 0)
    path = tmp_path / "proc/pressure/io"
    path.write_text("some avg10=0.00 avg60=0.00 avg300=0.00 total=3009000\n")
    clock.advance(10.0)
    second = accumulator.sample(source.read().readings, clock.monotonic(), 0)
    shares = {
        (reading.attributes[rows.RESOURCE], reading.attributes[rows.KIND]): reading.value
        for reading in between(first, second).of(rows.STALL_SHARE)
    }
    assert shares["io", "some"] == pytest.approx(0.3)
    assert shares["memory", "some"] == 0
    source.close()


def test_each_file_is_read_once_a_sample(tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one system call, and none is opened."""
    source = PressureSource(cgrouptrees.unpack("docker_v2", tmp_path), clock=clock.monotonic)
    source.read()
    reads: list[int] = []
    pread = os.pread

    def counted(descriptor: int, size: int, offset: int) -> bytes:
        reads.append(descriptor)
        return pread(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", counted)
    monkeypatch.setattr(os, "open", lambda *arguments, **_: pytest.fail(f"opened {arguments}"))
    clock.advance(1.0)
    source.read()
    assert len(reads) == len(set(reads)) == 8
    source.close()


# Against the kernel.


def beside(directory: str, suffix: str = "") -> Values:
    """The kernel's own counters, read in the simplest way."""
    return {
        (resource, line.split()[0]): int(line.rpartition("=")[2]) / 10**6
        for resource in ("cpu", "memory", "io")
        for line in Path(f"{directory}/{resource}{suffix}").read_text().splitlines()
    }


@linux
def test_stalls_are_the_kernels() -> None:
    """Between what is read beside them before and after."""
    if not Path("/proc/pressure/io").exists():
        pytest.skip("this kernel does not count pressure")
    source = PressureSource()
    source.open()
    before = beside("/proc/pressure")
    ours = values(source.read(), "host")
    after = beside("/proc/pressure")
    source.close()
    assert {*ours, ("cpu", "full")} >= set(before)
    for key in set(ours) & set(before):
        assert before[key] <= ours[key] <= after[key]


CROWD = """
source = PressureSource(limits=cgroup.Limits(every=0.0))
source.open()
before = values(source.read())
spin = "import time; end = time.monotonic() + 1\\nwhile time.monotonic() < end: pass"
started = time.monotonic()
crowd = [subprocess.Popen([sys.executable, "-c", spin]) for _ in range(2 * len(os.sched_getaffinity(0)))]
for process in crowd:
    process.wait()
elapsed = time.monotonic() - started
tell(before=before, after=values(source.read()), elapsed=elapsed)
"""


@linux
def test_a_real_crowd_is_pressure() -> None:
    """Twice as many busy processes as CPUs: for most of that second some of this cgroup waited for a CPU, by its file."""
    with realcgroups.made("") as directory:
        if not (directory / "cpu.pressure").exists():
            pytest.skip("this kernel does not count the pressure of cgroups")
        told = realcgroups.run(CROWD, directory)
        kernels = beside(str(directory), ".pressure")
    name = "hwmetrics.pressure.stall.time cpu some cgroup psi"
    growth = told["after"][name] - told["before"][name]
    assert 0.5 <= growth <= told["elapsed"]
    assert told["after"][name] <= kernels["cpu", "some"]
