# SPDX-License-Identifier: Apache-2.0
"""The host: what is read agrees with psutil and /proc beside it, and what a platform lacks costs nothing else."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from otel_hwmetrics import _guard
from otel_hwmetrics.catalog import system as rows
from otel_hwmetrics.model import Metric
from otel_hwmetrics.sources.base import Batch, Bench
from otel_hwmetrics.sources.system import READERS, Host, SystemSource

linux = pytest.mark.skipif(not psutil.LINUX, reason="needs Linux's /proc")

Values = dict[tuple[object, ...], float]

CALLS: dict[str, set[Metric]] = {
    "cpu_times": {rows.CPU_TIME},
    "virtual_memory": {rows.MEMORY_USAGE, rows.MEMORY_LIMIT, rows.MEMORY_AVAILABLE},
    "swap_memory": {rows.PAGING_USAGE},
    "disk_io_counters": {rows.DISK_IO, rows.DISK_OPERATIONS},
    "net_io_counters": {rows.NETWORK_IO},
}
"""What a look asks of psutil, and the metrics that it gives."""


def values(batch: Batch, metric: Metric) -> Values:
    """The values of a metric by its attributes, in the order of the row's."""
    found: Values = {
        tuple(reading.attributes[key] for key in metric.attributes): reading.value
        for reading in batch.readings
        if reading.metric is metric
    }
    assert len(found) == sum(reading.metric is metric for reading in batch.readings)
    return found


def metrics(batch: Batch) -> set[Metric]:
    """The metrics that a look gave."""
    return {reading.metric for reading in batch.readings}


def bracketed(metric: Metric, beside: Callable[[], Values]) -> None:
    """Our values of a counter lie between what is read beside them before and after."""
    before = beside()
    ours = values(SystemSource().read(), metric)
    after = beside()
    assert set(ours) == set(before) | set(after)
    for key, value in ours.items():
        assert before[key] <= value <= after[key]


@pytest.fixture
def everything() -> set[Metric]:
    """The metrics that this machine has."""
    found = metrics(SystemSource().read())
    assert {rows.CPU_TIME, rows.MEMORY_USAGE, rows.MEMORY_LIMIT} <= found
    return found


@pytest.fixture
def replaced(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Any], None]:
    """Replaces a function of psutil as the source sees it."""

    def replace(name: str, function: Callable[..., Any]) -> None:
        monkeypatch.setattr(psutil, name, function)

    return replace


# Against the machine.


@linux
def test_cpu_time_is_the_kernels() -> None:
    """Seconds by mode are those of the first line of /proc/stat, of all CPUs together."""
    tick = os.sysconf("SC_CLK_TCK")

    def beside() -> Values:
        fields = [int(field) / tick for field in Path("/proc/stat").read_text().split("\n")[0].split()[1:]]
        user, nice, system, idle, iowait, irq, softirq, steal = fields[:8]
        modes = {"user": user, "nice": nice, "system": system, "idle": idle, "iowait": iowait, "steal": steal}
        return {(mode,): seconds for mode, seconds in {**modes, "interrupt": irq + softirq}.items()}

    bracketed(rows.CPU_TIME, beside)


@linux
def test_memory_is_the_kernels() -> None:
    """Used is the total less what is available, to the byte, and the total is /proc/meminfo's."""
    batch = SystemSource().read()
    text = Path("/proc/meminfo").read_text()
    (total,) = (int(kib) * 1024 for kib in re.findall(r"^MemTotal: +(\d+) kB", text, re.MULTILINE))
    assert values(batch, rows.MEMORY_LIMIT) == {(): total}
    usage = values(batch, rows.MEMORY_USAGE)
    assert set(usage) == {("used",), ("free",), ("buffers",), ("cached",)}
    assert usage["used",] == total - values(batch, rows.MEMORY_AVAILABLE)[()]
    for value in usage.values():
        assert 0 <= value <= total
    beside = psutil.virtual_memory()
    # Others are at work on this machine: a tenth of its memory is the most that they take within this moment.
    assert usage["used",] == pytest.approx(beside.total - beside.available, abs=total / 10)
    assert usage["free",] == pytest.approx(beside.free, abs=total / 10)


def test_used_is_the_total_less_the_available(replaced: Callable[[str, Any], None]) -> None:
    """Whatever psutil calls "used", ours is the conventions'."""
    memory = SimpleNamespace(total=1000, available=300, used=1, free=200, buffers=30, cached=40)
    replaced("virtual_memory", lambda: memory)
    batch = SystemSource().read()
    assert values(batch, rows.MEMORY_USAGE) == {("used",): 700, ("free",): 200, ("buffers",): 30, ("cached",): 40}
    assert values(batch, rows.MEMORY_LIMIT) == {(): 1000}


@linux
def test_paging_is_the_kernels() -> None:
    """Used and free swap sum to SwapTotal of /proc/meminfo."""
    usage = values(SystemSource().read(), rows.PAGING_USAGE)
    (total,) = re.findall(r"^SwapTotal: +(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    assert set(usage) == {("used",), ("free",)}
    assert sum(usage.values()) == int(total) * 1024


@linux
@pytest.mark.parametrize(
    ("metric", "read", "write"),
    [(rows.DISK_IO, "read_bytes", "write_bytes"), (rows.DISK_OPERATIONS, "read_count", "write_count")],
)
def test_disks_are_the_kernels(metric: Metric, read: str, write: str) -> None:
    """Bytes and operations of each whole disk are psutil's, read beside, and partitions are left out."""
    whole = {name for name in os.listdir("/sys/block") if not name.startswith(("loop", "ram", "zram"))}

    def beside() -> Values:
        disks = psutil.disk_io_counters(perdisk=True, nowrap=False) or {}
        return {
            (name, direction): getattr(disks[name], field)
            for name in disks
            if name in whole
            for direction, field in (("read", read), ("write", write))
        }

    assert rows.DISK_IO.attributes == rows.DISK_OPERATIONS.attributes == (rows.DEVICE, rows.IO_DIRECTION)
    bracketed(metric, beside)


@linux
def test_network_is_the_kernels() -> None:
    """Bytes of each interface are those of /proc/net/dev, received and transmitted the right way round."""

    def beside() -> Values:
        found: Values = {}
        for line in Path("/proc/net/dev").read_text().splitlines()[2:]:
            name, counters = line.rsplit(":", 1)
            found[name.strip(), "receive"] = int(counters.split()[0])
            found[name.strip(), "transmit"] = int(counters.split()[8])
        return found

    bracketed(rows.NETWORK_IO, beside)


def test_every_reading_has_exactly_its_rows_attributes() -> None:
    """No reading carries an attribute that its row does not name, and none lacks one."""
    batch = SystemSource().read()
    assert batch.lost == {}
    for reading in batch.readings:
        assert set(reading.attributes) == set(reading.metric.attributes)
        assert reading.value >= 0


def test_readings_have_the_time_of_the_clock() -> None:
    """Readings are stamped by the clock that the source was given."""
    assert {reading.at for reading in SystemSource(lambda: 42.0).read().readings} == {42.0}


def test_series_are_the_same_objects_at_every_look() -> None:
    """A series is made when its device is met, and once."""
    source = SystemSource()
    first = {reading.series: reading.series for reading in source.read().readings}
    for reading in source.read().readings:
        assert reading.series not in first or first[reading.series] is reading.series


# Which block devices are disks.


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sda", True),
        ("nvme0n1", True),
        ("dm-0", True),
        ("cciss/c0d0", True),
        ("sda1", False),
        ("nvme0n1p1", False),
        ("loop0", False),
        ("ram0", False),
        ("zram0", False),
    ],
)
def test_a_disk_is_a_whole_device_of_its_own(tmp_path: Path, name: str, *, expected: bool) -> None:
    """Partitions, whose bytes their disk counts too, loops and memory are no disks."""
    for entry in ("sda", "nvme0n1", "dm-0", "cciss!c0d0", "loop0", "ram0", "zram0"):
        (tmp_path / entry).mkdir()
    host = Host(str(tmp_path))
    assert [host.is_disk(name), host.is_disk(name)] == [expected, expected]


def test_where_there_is_no_sysfs_psutil_names_whole_disks(tmp_path: Path) -> None:
    """On macOS and Windows every device that psutil names is a disk."""
    host = Host(str(tmp_path / "absent"))
    assert host.is_disk("disk0")
    assert host.is_disk("PhysicalDrive0")


def test_partitions_are_left_out_of_the_readings(tmp_path: Path, replaced: Callable[[str, Any], None]) -> None:
    """A disk is told with its directions and counts; its partition and a loop are not told."""
    for entry in ("sda", "loop0"):
        (tmp_path / entry).mkdir()
    counters = SimpleNamespace(read_count=1, write_count=2, read_bytes=3, write_bytes=4)
    asked: list[dict[str, object]] = []

    def disk_io_counters(**how: object) -> dict[str, SimpleNamespace]:
        asked.append(how)
        return dict.fromkeys(("sda", "sda1", "loop0"), counters)

    replaced("disk_io_counters", disk_io_counters)
    batch = Batch()
    Bench(Host(str(tmp_path)), READERS).read_into(batch)
    assert values(batch, rows.DISK_IO) == {("sda", "read"): 3, ("sda", "write"): 4}
    assert values(batch, rows.DISK_OPERATIONS) == {("sda", "read"): 1, ("sda", "write"): 2}
    assert asked == [{"perdisk": True, "nowrap": False}]


# What a platform lacks.


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "error", [psutil.AccessDenied(), FileNotFoundError("/proc/x"), PermissionError(), ValueError("odd"), IndexError()]
)
def test_a_call_that_fails_loses_its_own_metrics(
    replaced: Callable[[str, Any], None], everything: set[Metric], call: str, error: Exception
) -> None:
    """A call that fails now is counted, asked again, and costs the others nothing."""
    well = getattr(psutil, call)
    broken = [True]
    asked = []

    def function(**how: object) -> object:
        asked.append(how)
        if broken:
            raise error
        return well(**how)

    replaced(call, function)
    source = SystemSource()
    for _ in range(2):
        batch = source.read()
        assert metrics(batch) == everything - CALLS[call]
        assert batch.lost == {type(error).__name__: len(CALLS[call])}
    assert len(asked) == 2
    broken.clear()
    batch = source.read()
    assert metrics(batch) == everything
    assert batch.lost == {}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("error", [NotImplementedError("not here"), AttributeError("not here")])
def test_a_call_that_a_platform_lacks_is_asked_once(
    replaced: Callable[[str, Any], None], everything: set[Metric], call: str, error: Exception
) -> None:
    """What psutil cannot do here is not lost, and not asked again."""
    asked = []

    def function(**how: object) -> object:
        asked.append(how)
        raise error

    replaced(call, function)
    source = SystemSource()
    for _ in range(2):
        batch = source.read()
        assert metrics(batch) == everything - CALLS[call]
        assert batch.lost == {}
    assert len(asked) == 1


@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_psutil_has_not_got(monkeypatch: pytest.MonkeyPatch, everything: set[Metric], call: str) -> None:
    """A psutil without the function at all has the other metrics."""
    monkeypatch.delattr(psutil, call)
    batch = SystemSource().read()
    assert metrics(batch) == everything - CALLS[call]
    assert batch.lost == {}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("answer", [None, (), {}, 5, "text", {"sda": None}], ids=repr)
def test_an_odd_answer_costs_the_other_calls_nothing(
    monkeypatch: pytest.MonkeyPatch,
    replaced: Callable[[str, Any], None],
    everything: set[Metric],
    call: str,
    answer: object,
) -> None:
    """Whatever shape psutil answers in, in production the other calls' metrics are there and nothing is raised."""
    monkeypatch.setattr(_guard, "LOUD", False)
    monkeypatch.setattr(_guard, "faults", type(_guard.faults)())
    monkeypatch.setattr(os.path, "isdir", lambda _: False)  # so that any name is a disk
    replaced(call, lambda **_: answer)
    source = SystemSource()
    for _ in range(2):
        assert metrics(source.read()) == everything - CALLS[call]


def test_nothing_to_count_is_no_reading(replaced: Callable[[str, Any], None], everything: set[Metric]) -> None:
    """A diskless machine (psutil says None) and one without interfaces have no such readings, and nothing is lost."""
    replaced("disk_io_counters", lambda **_: None)
    replaced("net_io_counters", lambda **_: {})
    batch = SystemSource().read()
    assert metrics(batch) == everything - CALLS["disk_io_counters"] - CALLS["net_io_counters"]
    assert batch.lost == {}


def test_macos_has_what_it_has(monkeypatch: pytest.MonkeyPatch, replaced: Callable[[str, Any], None]) -> None:
    """Four modes and no iowait, no buffers and no cache, no available of Linux's: absent, not 0."""
    cpu = SimpleNamespace(user=1.0, nice=2.0, system=3.0, idle=4.0)
    memory = SimpleNamespace(total=1000, available=600, percent=40.0, used=300, free=100, active=5, wired=6)
    monkeypatch.setattr(psutil, "LINUX", False)
    replaced("cpu_times", lambda: cpu)
    replaced("virtual_memory", lambda: memory)
    batch = SystemSource().read()
    assert values(batch, rows.CPU_TIME) == {("user",): 1, ("nice",): 2, ("system",): 3, ("idle",): 4}
    assert values(batch, rows.MEMORY_USAGE) == {("used",): 400, ("free",): 100}
    assert values(batch, rows.MEMORY_AVAILABLE) == {}
    assert batch.lost == {}


def test_windows_has_what_it_has(monkeypatch: pytest.MonkeyPatch, replaced: Callable[[str, Any], None]) -> None:
    """Windows' names of interrupt time are one mode; what it does not count is absent."""
    cpu = SimpleNamespace(user=1.0, system=3.0, idle=4.0, interrupt=0.25, dpc=0.5)
    monkeypatch.setattr(psutil, "LINUX", False)
    replaced("cpu_times", lambda: cpu)
    replaced("virtual_memory", lambda: SimpleNamespace(total=1000, available=600, percent=40.0, used=400, free=600))
    replaced("swap_memory", lambda: SimpleNamespace(total=50, used=20, free=30, percent=40.0, sin=0, sout=0))
    batch = SystemSource().read()
    assert values(batch, rows.CPU_TIME) == {("user",): 1, ("system",): 3, ("idle",): 4, ("interrupt",): 0.75}
    assert values(batch, rows.PAGING_USAGE) == {("used",): 20, ("free",): 30}
    assert batch.lost == {}


def test_linux_time_of_interrupts_is_one_mode(replaced: Callable[[str, Any], None]) -> None:
    """Hard and soft interrupts are one mode; guest time, which user holds already, is not told twice."""
    cpu = SimpleNamespace(
        user=10, nice=1, system=5, idle=50, iowait=2, irq=3, softirq=4, steal=6, guest=7, guest_nice=1
    )
    replaced("cpu_times", lambda: cpu)
    found = values(SystemSource().read(), rows.CPU_TIME)
    assert found["interrupt",] == 7
    assert sum(found.values()) == 81
    assert len(found) == 7
