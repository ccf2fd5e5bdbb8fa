# SPDX-License-Identifier: Apache-2.0
"""This process: what is read agrees with psutil and /proc beside it, and with what the process really did."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from otel_hwmetrics import _guard
from otel_hwmetrics.catalog import process as rows
from otel_hwmetrics.model import Metric
from otel_hwmetrics.sources.base import Batch, SourceUnavailable
from otel_hwmetrics.sources.process import ProcessSource

linux = pytest.mark.skipif(not psutil.LINUX, reason="needs Linux's /proc")

PLATFORM: Any = vars(psutil)["_psplatform"].Process
"""Where psutil asks the system; its own methods are cached within one look."""

CALLS: dict[str, set[Metric]] = {
    "cpu_times": {rows.CPU_TIME},
    "memory_info": {rows.MEMORY_USAGE, rows.MEMORY_VIRTUAL},
    "io_counters": {rows.DISK_IO},
    "num_threads": {rows.THREAD_COUNT},
}
"""What a look asks of psutil's Process, and the metrics that it gives."""


def opened(clock: Callable[[], float] = time.monotonic) -> ProcessSource:
    """A source that is ready to be read."""
    source = ProcessSource(clock)
    source.open()
    return source


def values(batch: Batch, metric: Metric) -> dict[object, float]:
    """The values of a metric by its one attribute; by None where it has none."""
    return {
        reading.attributes[metric.attributes[0]] if metric.attributes else None: reading.value
        for reading in batch.readings
        if reading.metric is metric
    }


def metrics(batch: Batch) -> set[Metric]:
    """The metrics that a look gave."""
    return {reading.metric for reading in batch.readings}


@pytest.fixture
def everything() -> set[Metric]:
    """The metrics that this machine has of a process."""
    found = metrics(opened().read())
    assert {rows.CPU_TIME, rows.MEMORY_USAGE, rows.THREAD_COUNT, rows.CPU_LIMIT} <= found
    return found


# Against the machine.


@linux
def test_it_is_what_the_kernel_says() -> None:
    """Time, bytes and threads lie between what /proc/self says before and after."""
    tick, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    source = opened()

    def beside() -> dict[str, float]:
        stat = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        disk = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
        return {
            "user": int(stat[11]) / tick,
            "system": int(stat[12]) / tick,
            "virtual": int(stat[20]),
            "resident": int(stat[21]) * page,
            "read": int(disk["read_bytes"]),
            "write": int(disk["write_bytes"]),
        }

    before = beside()
    batch = source.read()
    after = beside()
    for mode, value in values(batch, rows.CPU_TIME).items():
        assert before[str(mode)] <= value <= after[str(mode)]
    assert set(values(batch, rows.CPU_TIME)) == {"user", "system"}
    for direction, value in values(batch, rows.DISK_IO).items():
        assert before[str(direction)] <= value <= after[str(direction)]
    assert set(values(batch, rows.DISK_IO)) == {"read", "write"}
    # Pages come and go with every call; the kernel also counts resident ones in batches.
    assert values(batch, rows.MEMORY_USAGE)[None] == pytest.approx(after["resident"], rel=0.05, abs=4 * 2**20)
    assert values(batch, rows.MEMORY_VIRTUAL)[None] == pytest.approx(after["virtual"], rel=0.05)
    assert batch.lost == {}


@linux
def test_cpus_are_those_that_the_scheduler_grants() -> None:
    """The CPUs available to the process are those of its affinity mask, not the machine's."""
    assert values(opened().read(), rows.CPU_LIMIT) == {None: len(os.sched_getaffinity(0))}


@pytest.mark.parametrize(("cpus", "expected"), [(6, {None: 6}), (None, {})])
def test_cpus_where_there_is_no_affinity(
    monkeypatch: pytest.MonkeyPatch, cpus: int | None, expected: dict[None, int]
) -> None:
    """Without affinity (macOS) the machine's CPUs count; where even they are unknown, there is no reading."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: cpus)
    source = opened()
    batch = source.read()
    assert values(batch, rows.CPU_LIMIT) == expected
    assert batch.lost == {}


def test_a_thread_more_is_a_thread_more() -> None:
    """Threads that are started are counted at the next look: nothing that psutil keeps within one look outlives it."""
    source, end = opened(), threading.Event()
    before = values(source.read(), rows.THREAD_COUNT)[None]
    threads = [threading.Thread(target=end.wait, daemon=True) for _ in range(20)]
    for thread in threads:
        thread.start()
    during = values(source.read(), rows.THREAD_COUNT)[None]
    end.set()
    for thread in threads:
        thread.join()
    # Threads that other tests left behind may end meanwhile.
    assert before + 10 < during <= before + 20


def test_memory_that_is_touched_is_memory_in_use() -> None:
    """Sixty-four megabytes that are written to are resident."""
    source = opened()
    before = values(source.read(), rows.MEMORY_USAGE)[None]
    held = bytearray(os.urandom(1) * (64 * 2**20))
    after = values(source.read(), rows.MEMORY_USAGE)[None]
    assert len(held) == 64 * 2**20
    assert after - before == pytest.approx(64 * 2**20, rel=0.1)


def test_cpu_time_is_the_time_that_was_burnt() -> None:
    """Half a second of work is half a second of process CPU time, within the kernel's ticks, however busy the machine."""
    source = opened()
    before, started = values(source.read(), rows.CPU_TIME), time.process_time()
    while time.process_time() - started < 0.5:
        sum(range(1000))
    after, burnt = values(source.read(), rows.CPU_TIME), time.process_time() - started
    assert sum(after.values()) - sum(before.values()) == pytest.approx(burnt, rel=0.2)


@linux
def test_bytes_written_are_bytes_that_reached_the_disk(tmp_path: Path) -> None:
    """Twenty megabytes that are written and synced are at least that many bytes of disk output."""
    kinds = {part.mountpoint: part.fstype for part in psutil.disk_partitions(all=True)}
    mount = next(str(at) for at in (tmp_path, *tmp_path.parents) if str(at) in kinds)
    if kinds[mount] in {"tmpfs", "ramfs", "9p"}:
        pytest.skip(f"{tmp_path} is on {kinds[mount]}, where the kernel counts no bytes written to storage")
    source, size = opened(), 20 * 2**20
    before = values(source.read(), rows.DISK_IO)["write"]
    with (tmp_path / "data").open("wb") as file:
        file.write(os.urandom(size))
        file.flush()
        os.fsync(file.fileno())
    after = values(source.read(), rows.DISK_IO)["write"]
    assert size <= after - before < 2 * size


def test_every_reading_has_exactly_its_rows_attributes() -> None:
    """No reading carries an attribute that its row does not name; which process it is belongs to the Resource."""
    batch = opened(lambda: 42.0).read()
    assert metrics(batch) <= set(rows.METRICS)
    for reading in batch.readings:
        assert set(reading.attributes) == set(reading.metric.attributes)
        assert reading.value >= 0
        assert reading.at == 42.0


# What a platform lacks.


def failing(monkeypatch: pytest.MonkeyPatch, call: str, error: Exception) -> list[str]:
    """Make a method of psutil's Process raise; it adds each call to the list."""
    asked: list[str] = []

    def method(_: object) -> object:
        asked.append(call)
        raise error

    monkeypatch.setattr(PLATFORM, call, method)
    return asked


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "error",
    [psutil.AccessDenied(), psutil.NoSuchProcess(1), FileNotFoundError("/proc/x"), ValueError("odd"), KeyError("odd")],
)
def test_a_call_that_fails_loses_its_own_metrics(
    monkeypatch: pytest.MonkeyPatch, everything: set[Metric], call: str, error: Exception
) -> None:
    """A call that fails now is counted, asked again, and costs the others nothing."""
    source = opened()
    with monkeypatch.context() as broken:
        asked = failing(broken, call, error)
        for _ in range(2):
            batch = source.read()
            assert metrics(batch) == everything - CALLS[call]
            assert batch.lost == {type(error).__name__: len(CALLS[call])}
        assert len(asked) == 2
    batch = source.read()
    assert metrics(batch) == everything
    assert batch.lost == {}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("error", [NotImplementedError(), AttributeError()])
def test_a_call_that_a_platform_lacks_is_asked_once(
    monkeypatch: pytest.MonkeyPatch, everything: set[Metric], call: str, error: Exception
) -> None:
    """What psutil cannot do here is not lost, and not asked again."""
    asked = failing(monkeypatch, call, error)
    source = opened()
    for _ in range(2):
        batch = source.read()
        assert metrics(batch) == everything - CALLS[call]
        assert batch.lost == {}
    assert len(asked) == 1


def test_macos_has_no_disk_counters(monkeypatch: pytest.MonkeyPatch, everything: set[Metric]) -> None:
    """Where psutil's Process has no such method, the other metrics are there."""
    monkeypatch.delattr(psutil.Process, "io_counters", raising=False)
    batch = opened().read()
    assert metrics(batch) == everything - {rows.DISK_IO}
    assert batch.lost == {}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("answer", [None, (), "text"], ids=repr)
def test_an_odd_answer_costs_the_other_calls_nothing(
    monkeypatch: pytest.MonkeyPatch, everything: set[Metric], call: str, answer: Any
) -> None:
    """Whatever shape psutil answers in, in production the other calls' metrics are there and nothing is raised."""
    monkeypatch.setattr(_guard, "LOUD", False)
    monkeypatch.setattr(_guard, "faults", type(_guard.faults)())
    monkeypatch.setattr(PLATFORM, call, lambda _: answer)
    source = opened()
    for _ in range(2):
        assert metrics(source.read()) == everything - CALLS[call]


@linux
def test_without_proc_there_is_no_such_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where psutil cannot see this very process, making the source raises nothing, and opening it says what is missing."""
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    source = ProcessSource()
    with pytest.raises(SourceUnavailable, match="is /proc mounted"):
        source.open()
