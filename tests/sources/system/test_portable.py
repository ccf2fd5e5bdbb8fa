# SPDX-License-Identifier: Apache-2.0
"""The host through psutil: what a platform lacks costs nothing else. Run wherever psutil runs, Linux too."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from otel_hwmetrics import _guard
from otel_hwmetrics.catalog import system as rows
from otel_hwmetrics.model import Metric
from otel_hwmetrics.sources.base import Batch
from otel_hwmetrics.sources.system import portable
from otel_hwmetrics.sources.system.portable import READERS, PortableHost

Values = dict[tuple[object, ...], float]
Replace = Callable[[str, Any], None]

DISK = {rows.DISK_IO, rows.DISK_OPERATIONS, rows.DISK_OPERATION_TIME, rows.DISK_IO_TIME}
NETWORK = {rows.NETWORK_IO, rows.NETWORK_PACKETS, rows.NETWORK_ERRORS, rows.NETWORK_DROPPED}

CALLS: dict[str, set[Metric]] = {
    "cpu_times": {rows.CPU_TIME},
    "virtual_memory": {rows.MEMORY_USAGE, rows.MEMORY_LIMIT},
    "swap_memory": {rows.PAGING_USAGE, rows.PAGING_UTILIZATION},
    "disk_io_counters": DISK,
    "net_io_counters": NETWORK,
    "boot_time": {rows.UPTIME},
}
"""What each look asks of psutil, and the metrics that it gives."""


class Look:
    """A source over psutil, as on macOS and Windows."""

    def __init__(self, *, per_cpu: bool = False, clock: Callable[[], float] = lambda: 42.0) -> None:
        self._bench = portable.bench(PortableHost(clock, per_cpu=per_cpu))
        self._clock = clock

    def read(self) -> Batch:
        """Look once."""
        batch = Batch()
        self._bench.read_into(batch, self._clock)
        return batch


def values(batch: Batch, metric: Metric) -> Values:
    """The values of a metric by its attributes, in the order of the row's."""
    found: Values = {
        tuple(reading.attributes[key] for key in metric.attributes if key in reading.attributes): reading.value
        for reading in batch.readings
        if reading.metric is metric
    }
    assert len(found) == sum(reading.metric is metric for reading in batch.readings)
    return found


def metrics(batch: Batch) -> set[Metric]:
    """The metrics that a look gave."""
    return {reading.metric for reading in batch.readings}


@pytest.fixture
def everything() -> set[Metric]:
    """The metrics that this machine has."""
    found = metrics(Look().read())
    assert {rows.CPU_TIME, rows.MEMORY_USAGE, rows.MEMORY_LIMIT, rows.UPTIME} <= found
    return found


@pytest.fixture
def replaced(monkeypatch: pytest.MonkeyPatch) -> Replace:
    """Replaces a function of psutil as the source sees it."""

    def replace(name: str, function: Callable[..., Any]) -> None:
        monkeypatch.setattr(psutil, name, function)

    return replace


def test_used_is_the_total_less_the_available(replaced: Replace) -> None:
    """Whatever psutil calls "used", ours is the conventions'."""
    memory = SimpleNamespace(total=1000, available=300, used=1, free=200, buffers=30, cached=40)
    replaced("virtual_memory", lambda: memory)
    batch = Look().read()
    assert values(batch, rows.MEMORY_USAGE) == {("used",): 700, ("free",): 200, ("buffers",): 30, ("cached",): 40}
    assert values(batch, rows.MEMORY_LIMIT) == {(): 1000}


def test_disks_are_asked_for_raw(replaced: Replace) -> None:
    """Every disk by itself, in our units, without psutil's own correction of wraps; what it lacks is absent."""
    asked: list[dict[str, object]] = []
    full = SimpleNamespace(
        read_count=1, write_count=2, read_bytes=3, write_bytes=4, read_time=500, write_time=600, busy_time=700
    )

    def disk_io_counters(**how: object) -> dict[str, SimpleNamespace]:
        asked.append(how)
        return {"disk0": full, "disk1": SimpleNamespace(read_count=5, write_count=6, read_bytes=7, write_bytes=8)}

    replaced("disk_io_counters", disk_io_counters)
    batch = Look().read()
    assert asked == [{"perdisk": True, "nowrap": False}]
    assert values(batch, rows.DISK_IO) == {
        ("disk0", "read"): 3,
        ("disk0", "write"): 4,
        ("disk1", "read"): 7,
        ("disk1", "write"): 8,
    }
    assert values(batch, rows.DISK_OPERATIONS)["disk1", "write"] == 6
    assert values(batch, rows.DISK_OPERATION_TIME) == {("disk0", "read"): 0.5, ("disk0", "write"): 0.6}
    assert values(batch, rows.DISK_IO_TIME) == {("disk0",): 0.7}


def test_interfaces_are_cards_and_the_right_way_round(replaced: Replace) -> None:
    """No loopback, tunnel or bridge of macOS, the BSDs or Windows."""
    counters = SimpleNamespace(
        bytes_sent=1, bytes_recv=2, packets_sent=3, packets_recv=4, errin=5, errout=6, dropin=7, dropout=8
    )
    cards = ["en0", "igb0", "Ethernet", "Wi-Fi", "Local Area Connection"]
    others = ["lo0", "utun3", "gif0", "stf0", "bridge100", "awdl0", "llw0", "ap1", "tun0"]
    others += ["Loopback Pseudo-Interface 1", "vEthernet (WSL)", "isatap.local"]
    asked: list[dict[str, object]] = []

    def net_io_counters(**how: object) -> dict[str, SimpleNamespace]:
        asked.append(how)
        return dict.fromkeys(cards + others, counters)

    replaced("net_io_counters", net_io_counters)
    batch = Look().read()
    assert asked == [{"pernic": True, "nowrap": False}]
    assert {name for name, _ in values(batch, rows.NETWORK_IO)} == set(cards)
    for metric, received, sent in (
        (rows.NETWORK_IO, 2, 1),
        (rows.NETWORK_PACKETS, 4, 3),
        (rows.NETWORK_ERRORS, 5, 6),
        (rows.NETWORK_DROPPED, 7, 8),
    ):
        assert values(batch, metric)["en0", "receive"] == received
        assert values(batch, metric)["en0", "transmit"] == sent


@pytest.mark.parametrize("per_cpu", [False, True])
def test_every_reading_has_exactly_its_rows_attributes(per_cpu: bool) -> None:  # noqa: FBT001
    """No reading carries an attribute that its row does not name, and none lacks one but the number of a CPU."""
    batch = Look(per_cpu=per_cpu).read()
    assert batch.lost == {}
    for reading in batch.readings:
        assert set(reading.metric.attributes) - set(reading.attributes) <= {rows.CPU_NUMBER}
        assert set(reading.attributes) <= set(reading.metric.attributes)
        assert reading.value >= 0
        assert reading.at == 42.0


def test_each_cpu_by_itself(replaced: Replace) -> None:
    """With ``per_cpu`` by number, instead of all together."""
    cpu = SimpleNamespace(user=1.0, system=2.0, idle=3.0)
    replaced("cpu_times", lambda percpu=False: [cpu, cpu] if percpu else cpu)
    assert values(Look().read(), rows.CPU_TIME) == {("user",): 1, ("system",): 2, ("idle",): 3}
    found = values(Look(per_cpu=True).read(), rows.CPU_TIME)
    assert found == {(mode, n): v for mode, v in (("user", 1), ("system", 2), ("idle", 3)) for n in (0, 1)}


def test_series_are_the_same_objects_at_every_look() -> None:
    """A series is made when its device is met, and once."""
    source = Look()
    first = {reading.series: reading.series for reading in source.read().readings}
    for reading in source.read().readings:
        assert reading.series not in first or first[reading.series] is reading.series


# What a platform lacks.


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "error", [psutil.AccessDenied(), FileNotFoundError("/proc/x"), PermissionError(), ValueError("odd"), IndexError()]
)
def test_a_call_that_fails_loses_its_own_metrics(
    replaced: Replace, everything: set[Metric], call: str, error: Exception
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
    source = Look()
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
    replaced: Replace, everything: set[Metric], call: str, error: Exception
) -> None:
    """What psutil cannot do here is not lost, and not asked again."""
    asked = []

    def function(**how: object) -> object:
        asked.append(how)
        raise error

    replaced(call, function)
    source = Look()
    for _ in range(2):
        batch = source.read()
        assert metrics(batch) == everything - CALLS[call]
        assert batch.lost == {}
    assert len(asked) == 1


@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_psutil_has_not_got(monkeypatch: pytest.MonkeyPatch, everything: set[Metric], call: str) -> None:
    """A psutil without the function at all has the other metrics."""
    monkeypatch.delattr(psutil, call)
    batch = Look().read()
    assert metrics(batch) == everything - CALLS[call]
    assert batch.lost == {}


@pytest.mark.parametrize("call", [call for call in CALLS if call != "boot_time"])
@pytest.mark.parametrize("answer", [None, (), {}, 5, "text", {"sda": None}], ids=repr)
def test_an_odd_answer_costs_the_other_calls_nothing(
    monkeypatch: pytest.MonkeyPatch, replaced: Replace, everything: set[Metric], call: str, answer: object
) -> None:
    """Whatever shape psutil answers in, in production the other calls' metrics are there and nothing is raised."""
    monkeypatch.setattr(_guard, "LOUD", False)
    monkeypatch.setattr(_guard, "faults", type(_guard.faults)())
    replaced(call, lambda **_: answer)
    source = Look()
    for _ in range(2):
        assert metrics(source.read()) == everything - CALLS[call]


def test_nothing_to_count_is_no_reading(replaced: Replace, everything: set[Metric]) -> None:
    """A diskless machine (psutil says None) and one without interfaces have no such readings, and nothing is lost."""
    replaced("disk_io_counters", lambda **_: None)
    replaced("net_io_counters", lambda **_: {})
    batch = Look().read()
    assert metrics(batch) == everything - DISK - NETWORK
    assert batch.lost == {}


def test_what_hardly_changes_and_is_not_known_is_absent(replaced: Replace) -> None:
    """No frequency and no counts of CPUs: absent, not lost, and never asked again."""
    for answer in (None, SimpleNamespace(current=0.0)):
        replaced("cpu_freq", lambda answer=answer: answer)
        replaced("cpu_count", lambda **_: None)
        batch = Look().read()
        assert not metrics(batch) & {rows.CPU_FREQUENCY, rows.CPU_LOGICAL_COUNT, rows.CPU_PHYSICAL_COUNT}
        assert batch.lost == {}
    replaced("cpu_freq", lambda: SimpleNamespace(current=2400.0))
    assert values(Look().read(), rows.CPU_FREQUENCY) == {(): 2.4e9}


def test_macos_has_what_it_has(replaced: Replace) -> None:
    """Four modes and no iowait, no buffers and no cache, no available of Linux's: absent, not 0."""
    cpu = SimpleNamespace(user=1.0, nice=2.0, system=3.0, idle=4.0)
    memory = SimpleNamespace(total=1000, available=600, percent=40.0, used=300, free=100, active=5, wired=6)
    replaced("cpu_times", lambda: cpu)
    replaced("virtual_memory", lambda: memory)
    batch = Look().read()
    assert values(batch, rows.CPU_TIME) == {("user",): 1, ("nice",): 2, ("system",): 3, ("idle",): 4}
    assert values(batch, rows.MEMORY_USAGE) == {("used",): 400, ("free",): 100}
    assert values(batch, rows.MEMORY_AVAILABLE) == {}
    assert batch.lost == {}


def test_windows_has_what_it_has(replaced: Replace) -> None:
    """Windows' names of interrupt time are one mode; what it does not count is absent."""
    cpu = SimpleNamespace(user=1.0, system=3.0, idle=4.0, interrupt=0.25, dpc=0.5)
    replaced("cpu_times", lambda: cpu)
    replaced("virtual_memory", lambda: SimpleNamespace(total=1000, available=600, percent=40.0, used=400, free=600))
    replaced("swap_memory", lambda: SimpleNamespace(total=50, used=20, free=30, percent=40.0, sin=0, sout=0))
    batch = Look().read()
    assert values(batch, rows.CPU_TIME) == {("user",): 1, ("system",): 3, ("idle",): 4, ("interrupt",): 0.75}
    assert values(batch, rows.PAGING_USAGE) == {("used",): 20, ("free",): 30}
    assert values(batch, rows.PAGING_UTILIZATION) == {("used",): 0.4, ("free",): 0.6}
    assert batch.lost == {}


def test_a_machine_without_swap_has_no_share_of_it(replaced: Replace) -> None:
    """Nothing of nothing is no ratio."""
    replaced("swap_memory", lambda: SimpleNamespace(total=0, used=0, free=0))
    batch = Look().read()
    assert values(batch, rows.PAGING_USAGE) == {("used",): 0, ("free",): 0}
    assert values(batch, rows.PAGING_UTILIZATION) == {}


def test_every_reader_says_where_it_reads() -> None:
    """For the reference page."""
    assert all(reader.call and reader.where for reader in READERS)
    assert {metric for reader in READERS for metric in reader.metrics} <= set(rows.METRICS)
