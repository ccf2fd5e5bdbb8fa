# SPDX-License-Identifier: Apache-2.0
"""The host on Linux: what is read agrees with psutil and /proc beside it, costs little, and fails file by file."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from otel_hwmetrics.catalog import pressure
from otel_hwmetrics.catalog import system as rows
from otel_hwmetrics.model import Metric
from otel_hwmetrics.sources.base import Batch
from otel_hwmetrics.sources.linux.files import KernelFile
from otel_hwmetrics.sources.system import SystemSource
from otel_hwmetrics.sources.system.devices import disks_that_count, interfaces_that_count
from otel_hwmetrics.sources.system.linux import READERS
from otel_hwmetrics.testing import ManualClock

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's /proc")

PROC = Path(__file__).parents[2] / "data" / "proc"

Values = dict[tuple[object, ...], float]

FILES: dict[str, set[Metric]] = {
    "stat": {rows.CPU_TIME, rows.PROCESS_COUNT, rows.PROCESS_CREATED, pressure.STALL_TIME},
    "meminfo": {
        *(rows.MEMORY_USAGE, rows.MEMORY_LIMIT, rows.MEMORY_AVAILABLE, rows.MEMORY_SHARED, rows.MEMORY_SLAB),
        *(rows.PAGING_USAGE, rows.PAGING_UTILIZATION),
    },
    "vmstat": {rows.PAGING_OPERATIONS, rows.PAGING_FAULTS},
    "diskstats": {*(rows.DISK_IO, rows.DISK_OPERATIONS, rows.DISK_OPERATION_TIME, rows.DISK_MERGED, rows.DISK_IO_TIME)},
    "net/dev": {rows.NETWORK_IO, rows.NETWORK_PACKETS, rows.NETWORK_ERRORS, rows.NETWORK_DROPPED},
    "cpuinfo": {rows.CPU_FREQUENCY},
}
"""What a look reads, and the metrics that it gives."""


def values(batch: Batch, metric: Metric) -> Values:
    """The values of a metric by its attributes, in the order of the row's; those that all lack are left out."""
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


def bracketed(metric: Metric, beside: Callable[[], Values], source: SystemSource | None = None) -> None:
    """Our values of a counter lie between what is read beside them before and after."""
    before = beside()
    ours = values((source or SystemSource()).read(), metric)
    after = beside()
    assert set(ours) == set(before) | set(after)
    for key, value in ours.items():
        assert before[key] <= value <= after[key]


def captured(tmp_path: Path, name: str = "server") -> tuple[Path, Callable[[], SystemSource]]:
    """A copy of a captured tree, and a source over it, with a sysfs that is not there."""
    root = tmp_path / "proc"
    shutil.copytree(PROC / name, root)
    return root, lambda: SystemSource(proc_root=str(root), sys_root=str(tmp_path / "absent"))


# Against the machine.


def test_cpu_time_is_the_kernels() -> None:
    """Seconds by mode are those of the first line of /proc/stat, of all CPUs together."""
    tick = os.sysconf("SC_CLK_TCK")

    def beside() -> Values:
        fields = [int(field) / tick for field in Path("/proc/stat").read_text().split("\n")[0].split()[1:]]
        user, nice, system, idle, iowait, irq, softirq, steal = fields[:8]
        modes = {"user": user, "nice": nice, "system": system, "idle": idle, "iowait": iowait, "steal": steal}
        return {(mode,): seconds for mode, seconds in {**modes, "interrupt": irq + softirq}.items()}

    bracketed(rows.CPU_TIME, beside)


def test_cpu_time_of_each_cpu_is_the_kernels() -> None:
    """With ``per_cpu``, those of each logical CPU instead of the total, by its number, as psutil has them."""

    def beside() -> Values:
        return {
            (mode, number): sum(getattr(times, field) for field in fields)
            for number, times in enumerate(psutil.cpu_times(percpu=True))
            for mode, fields in {
                **{mode: [mode] for mode in ("user", "nice", "system", "idle", "iowait", "steal")},
                "interrupt": ["irq", "softirq"],
            }.items()
        }

    bracketed(rows.CPU_TIME, beside, SystemSource(per_cpu=True))


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
    assert usage["buffers",] == pytest.approx(beside.buffers, abs=total / 10)
    assert usage["cached",] == pytest.approx(beside.cached, abs=total / 10)
    assert values(batch, rows.MEMORY_SHARED)[()] == pytest.approx(beside.shared, abs=total / 10)
    assert sum(values(batch, rows.MEMORY_SLAB).values()) >= beside.slab / 2


def test_paging_is_the_kernels() -> None:
    """Used and free swap sum to SwapTotal of /proc/meminfo; what was swapped is psutil's, in pages."""
    usage = values(SystemSource().read(), rows.PAGING_USAGE)
    (total,) = re.findall(r"^SwapTotal: +(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    assert set(usage) == {("used",), ("free",)}
    assert sum(usage.values()) == int(total) * 1024

    def beside() -> Values:
        swap, page = psutil.swap_memory(), 4096
        return {("in", "major"): swap.sin // page, ("out", "major"): swap.sout // page}

    bracketed(rows.PAGING_OPERATIONS, beside)


def test_faults_are_the_kernels() -> None:
    """Every fault is either minor or major."""

    def beside() -> Values:
        counts = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
        major = int(counts["pgmajfault"])
        return {("minor",): int(counts["pgfault"]) - major, ("major",): major}

    bracketed(rows.PAGING_FAULTS, beside)


@pytest.mark.parametrize(
    ("metric", "read", "write"),
    [
        (rows.DISK_IO, "read_bytes", "write_bytes"),
        (rows.DISK_OPERATIONS, "read_count", "write_count"),
        (rows.DISK_OPERATION_TIME, "read_time", "write_time"),
        (rows.DISK_MERGED, "read_merged_count", "write_merged_count"),
    ],
)
def test_disks_are_the_kernels(metric: Metric, read: str, write: str) -> None:
    """What each disk that counts has done is psutil's, read beside."""
    unit = 1e3 if metric is rows.DISK_OPERATION_TIME else 1

    def beside() -> Values:
        disks = psutil.disk_io_counters(perdisk=True, nowrap=False) or {}
        return {
            (name, direction): getattr(disks[name], field) / unit
            for name in disks_that_count(list(disks))
            for direction, field in (("read", read), ("write", write))
        }

    assert metric.attributes == (rows.DEVICE, rows.IO_DIRECTION)
    bracketed(metric, beside)


def test_the_time_that_disks_were_busy_is_the_kernels() -> None:
    """In seconds."""

    def beside() -> Values:
        disks = psutil.disk_io_counters(perdisk=True, nowrap=False) or {}
        return {(name,): disks[name].busy_time / 1e3 for name in disks_that_count(list(disks))}

    bracketed(rows.DISK_IO_TIME, beside)


@pytest.mark.parametrize(
    ("metric", "received", "sent"),
    [
        (rows.NETWORK_IO, 0, 8),
        (rows.NETWORK_PACKETS, 1, 9),
        (rows.NETWORK_ERRORS, 2, 10),
        (rows.NETWORK_DROPPED, 3, 11),
    ],
)
def test_network_is_the_kernels(metric: Metric, received: int, sent: int) -> None:
    """Counts of each interface are those of /proc/net/dev, received and transmitted the right way round."""

    def beside() -> Values:
        table = {}
        for line in Path("/proc/net/dev").read_text().splitlines()[2:]:
            name, counters = line.rsplit(":", 1)
            table[name.strip()] = [int(counter) for counter in counters.split()]
        return {
            (name, direction): table[name][column]
            for name in interfaces_that_count(list(table))
            for direction, column in (("receive", received), ("transmit", sent))
        }

    bracketed(metric, beside)


def test_processes_and_uptime_are_the_kernels() -> None:
    """Forks since boot, what runs and what waits for a disk, and the seconds since boot."""

    def created() -> Values:
        (number,) = re.findall(r"^processes (\d+)$", Path("/proc/stat").read_text(), re.MULTILINE)
        return {(): int(number)}

    bracketed(rows.PROCESS_CREATED, created)
    uptime = values(SystemSource().read(), rows.UPTIME)[()]
    assert uptime == pytest.approx(float(Path("/proc/uptime").read_text().split()[0]), abs=1)
    count = values(SystemSource().read(), rows.PROCESS_COUNT)
    assert set(count) == {("running",), ("blocked",)}
    assert count["running",] >= 1  # this one


def test_the_uptime_is_of_its_moment() -> None:
    """It says that it stands for no stretch of time, so that no window averages it into the past."""
    (reading,) = (reading for reading in SystemSource(lambda: 42.0).read().readings if reading.metric is rows.UPTIME)
    assert reading.at == reading.since == 42.0


def test_counts_of_cpus_are_psutils() -> None:
    """Logical and physical."""
    batch = SystemSource().read()
    assert values(batch, rows.CPU_LOGICAL_COUNT) == {(): psutil.cpu_count()}
    if os.path.isdir("/sys/devices/system/cpu/cpu0/topology"):
        assert values(batch, rows.CPU_PHYSICAL_COUNT) == {(): psutil.cpu_count(logical=False)}


def test_every_reading_has_exactly_its_rows_attributes() -> None:
    """No reading carries an attribute that its row does not name, and none lacks one but the number of a CPU."""
    for per_cpu in (False, True):
        batch = SystemSource(per_cpu=per_cpu).read()
        assert batch.lost == {}
        for reading in batch.readings:
            without = set() if per_cpu else {rows.CPU_NUMBER}
            assert set(reading.attributes) == set(reading.metric.attributes) - without
            assert reading.value >= 0


def test_readings_have_the_time_of_the_clock() -> None:
    """Readings are stamped by the clock that the source was given."""
    assert {reading.at for reading in SystemSource(lambda: 42.0).read().readings} == {42.0}


def test_series_are_the_same_objects_at_every_look() -> None:
    """A series is made when its device is met, and once."""
    for per_cpu in (False, True):
        source = SystemSource(per_cpu=per_cpu)
        first = {reading.series: reading.series for reading in source.read().readings}
        for reading in source.read().readings:
            assert reading.series not in first or first[reading.series] is reading.series


def test_what_is_written_is_counted_at_the_disk_that_holds_it() -> None:
    """200 MB written and fsynced: our counters grow by the kernel's own, read beside, and by no less than was written."""
    size = 200_000_000
    with tempfile.TemporaryFile(dir=Path(__file__).parent) as file:
        device = os.fstat(file.fileno()).st_dev
        link = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve()
        name = link.parent.name if (link / "partition").exists() else link.name
        source = SystemSource()
        told = {disk for disk, _ in values(source.read(), rows.DISK_IO)}
        # Below an overlay or a volume it is one of those that count.
        disks = {name} & told or told

        def kernels() -> int:
            return sum(int(Path(f"/sys/block/{disk}/stat").read_text().split()[6]) * 512 for disk in disks)

        def ours() -> float:
            written = values(source.read(), rows.DISK_IO)
            return sum(written[disk, "write"] for disk in disks)

        before = kernels()
        started = ours()
        after_start = kernels()
        for _ in range(size // 10_000_000):
            file.write(os.urandom(1000) * 10_000)
        file.flush()
        os.fsync(file.fileno())
        before_end = kernels()
        ended = ours()
        after = kernels()
    assert before <= started <= after_start
    assert before_end <= ended <= after
    assert ended - started >= size


# What it costs.


@pytest.fixture
def opened() -> Iterator[Counter[str]]:
    """How often each path is opened."""
    counts: Counter[str] = Counter()
    watching = [True]

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event in ("open", "os.listdir", "os.scandir"):
            counts[str(arguments[0])] += 1

    sys.addaudithook(hook)  # which cannot be taken back
    yield counts
    watching.clear()


def test_each_file_is_opened_once_and_read_once_a_look(opened: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A look reads the five files from their descriptors and opens nothing; no file is read twice."""
    reads: Counter[str] = Counter()
    calls: list[int] = []
    read, pread = KernelFile.read, os.pread

    def watched(file: KernelFile) -> bytes:
        reads[file.path] += 1
        return read(file)

    monkeypatch.setattr(KernelFile, "read", watched)
    clock = ManualClock()
    source = SystemSource(clock.monotonic)
    source.read()
    files = {"/proc/stat", "/proc/meminfo", "/proc/vmstat", "/proc/diskstats", "/proc/net/dev"}
    assert {path: opened[path] for path in files} == {path: reads[path] for path in files} == dict.fromkeys(files, 1)
    opened.clear()

    def counted(descriptor: int, size: int, offset: int) -> bytes:
        calls.append(descriptor)
        return pread(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", counted)
    for _ in range(8):
        clock.advance(1.0)
        calls.clear()
        reads.clear()
        source.read()
        assert reads == dict.fromkeys(files, 1)
        # One more each for those that come record by record, of which only an empty read says that there are no more.
        assert len(calls) >= len(files)
        assert max(Counter(calls).values()) <= 2 or len(Path("/proc/diskstats").read_bytes()) > 3000
    assert opened == {}
    source.close()


def test_psutil_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it would read is read already."""
    for name in ("cpu_times", "virtual_memory", "swap_memory", "disk_io_counters", "net_io_counters", "boot_time"):
        monkeypatch.setattr(psutil, name, lambda *_, **__: pytest.fail("asked"))
    assert metrics(SystemSource().read()) >= {rows.CPU_TIME, rows.MEMORY_LIMIT, rows.UPTIME}


def test_closing_leaves_no_descriptor() -> None:
    """And a look after that opens the files again."""
    before = set(os.listdir("/proc/self/fd"))
    source = SystemSource()
    source.read()
    assert len(os.listdir("/proc/self/fd")) == len(before) + 5
    source.close()
    assert set(os.listdir("/proc/self/fd")) == before
    assert source.read().lost == {}
    source.close()


def test_what_hardly_changes_is_seldom_read(tmp_path: Path) -> None:
    """Frequencies every half minute, counts of CPUs every ten; in between they are told again as of then."""
    root, _ = captured(tmp_path)
    clock = ManualClock()
    source = SystemSource(clock.monotonic, proc_root=str(root), sys_root=str(tmp_path / "absent"))
    first = values(source.read(), rows.CPU_FREQUENCY)
    shutil.copy(PROC / "virtual-machine" / "cpuinfo", root / "cpuinfo")
    clock.advance(20)
    assert values(source.read(), rows.CPU_FREQUENCY) == first == {(): 2150.5e6}
    clock.advance(11)
    assert values(source.read(), rows.CPU_FREQUENCY) != first


# Captured trees: `virtual-machine` is one; `server` and `container` have what no one machine has, in the same formats.


def test_a_virtual_machine(tmp_path: Path) -> None:
    """One disk, one card, and nothing lost."""
    _, source = captured(tmp_path, "virtual-machine")
    batch = source().read()
    assert batch.lost == {}
    assert {name for name, _ in values(batch, rows.DISK_IO)} == {"vda"}
    assert metrics(batch) >= set.union(*FILES.values()) - {rows.PAGING_UTILIZATION}  # it has no swap


def test_a_server(tmp_path: Path) -> None:
    """A tree of another machine, told in SI units: modes, states, disks that are no partitions, loops or memory."""
    _, source = captured(tmp_path)
    batch = source().read()
    tick = os.sysconf("SC_CLK_TCK")
    assert batch.lost == {}
    assert values(batch, rows.CPU_TIME) == {
        ("user",): 10000 / tick,
        ("nice",): 100 / tick,
        ("system",): 5000 / tick,
        ("idle",): 360006 / tick,
        ("iowait",): 700 / tick,
        ("interrupt",): 230 / tick,  # hard and soft ones are one mode
        ("steal",): 50 / tick,
    }
    assert values(batch, rows.PROCESS_CREATED) == {(): 654321}
    assert values(batch, rows.PROCESS_COUNT) == {("running",): 7, ("blocked",): 3}
    kib = {"used": 356759204, "free": 200000000, "buffers": 500000, "cached": 500000000}
    assert values(batch, rows.MEMORY_USAGE) == {(state,): size * 1024 for state, size in kib.items()}
    assert values(batch, rows.MEMORY_SLAB) == {("reclaimable",): 20000000 * 1024, ("unreclaimable",): 4000000 * 1024}
    assert values(batch, rows.PAGING_USAGE) == {("used",): 2097152 * 1024, ("free",): 6291452 * 1024}
    assert values(batch, rows.PAGING_UTILIZATION)["used",] == pytest.approx(0.25, rel=1e-6)
    assert values(batch, rows.PAGING_OPERATIONS) == {("in", "major"): 1200, ("out", "major"): 524288}
    assert values(batch, rows.PAGING_FAULTS) == {("minor",): 98765432 - 4321, ("major",): 4321}
    disks = values(batch, rows.DISK_IO)
    assert {name for name, _ in disks} == {"nvme0n1", "nvme1n1", "sda", "md127", "dm-0", "nbd0", "cciss/c0d0"}
    assert disks["nvme1n1", "write"] == 320000 * 512
    assert values(batch, rows.DISK_IO_TIME)["nvme1n1",] == 2.6
    assert values(batch, rows.DISK_OPERATION_TIME)["sda", "read"] == 1.5
    assert values(batch, rows.NETWORK_IO)["enp1s0f0", "transmit"] == 500000
    assert values(batch, rows.NETWORK_ERRORS)["enp1s0f0", "receive"] == 1
    assert values(batch, rows.NETWORK_DROPPED)["enp1s0f0", "transmit"] == 4
    assert values(batch, rows.NETWORK_PACKETS)["enp1s0f1", "receive"] == 20000
    assert values(batch, rows.CPU_FREQUENCY) == {(): 2150.5e6}


def test_a_server_s_cpus_one_by_one(tmp_path: Path) -> None:
    """Each CPU that is online, by the kernel's number, and no total."""
    root, _ = captured(tmp_path)
    batch = SystemSource(per_cpu=True, proc_root=str(root), sys_root=str(tmp_path)).read()
    times = values(batch, rows.CPU_TIME)
    assert {number for _, number in times} == {0, 1, 2, 64}
    assert times["user", 64] == 4000 / os.sysconf("SC_CLK_TCK")
    assert len(times) == 4 * 7
    assert values(batch, rows.CPU_FREQUENCY)[64,] == 2300.5e6


def test_frequencies_of_cpufreq_come_first(tmp_path: Path) -> None:
    """They are of each CPU; one that is offline or does not tell has none."""
    root, _ = captured(tmp_path)
    for name, content in {"cpu0": "1000000\n", "cpu1": "3000000\n", "cpu2": "<unknown>\n", "cpuidle": "1\n"}.items():
        folder = tmp_path / "sys" / "devices" / "system" / "cpu" / name / "cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_cur_freq").write_text(content)
    for per_cpu, expected in ((False, {(): 2e9}), (True, {(0,): 1e9, (1,): 3e9})):
        batch = SystemSource(per_cpu=per_cpu, proc_root=str(root), sys_root=str(tmp_path / "sys")).read()
        assert values(batch, rows.CPU_FREQUENCY) == expected


def test_threads_of_a_core_are_one_physical_cpu(tmp_path: Path) -> None:
    """Logical ones are counted apart."""
    folder = tmp_path / "sys" / "devices" / "system" / "cpu"
    folder.mkdir(parents=True)
    (folder / "online").write_text("0-3\n")
    for number in range(4):
        (folder / f"cpu{number}" / "topology").mkdir(parents=True)
        (folder / f"cpu{number}" / "topology" / "thread_siblings_list").write_text(f"{number % 2},{number % 2 + 2}\n")
    batch = SystemSource(sys_root=str(tmp_path / "sys")).read()
    assert values(batch, rows.CPU_LOGICAL_COUNT) == {(): 4}
    assert values(batch, rows.CPU_PHYSICAL_COUNT) == {(): 2}


def test_a_container_with_its_host_s_figures(tmp_path: Path) -> None:
    """More available than there is (lxcfs) is not believed; what its files lack is absent, and nothing is lost."""
    _, source = captured(tmp_path, "container")
    batch = source().read()
    assert batch.lost == {}
    usage = values(batch, rows.MEMORY_USAGE)
    assert usage["used",] == usage["free",] == 4 * 2**30
    assert values(batch, rows.CPU_TIME)["idle",] == 1000 / os.sysconf("SC_CLK_TCK")
    assert {name for name, _ in values(batch, rows.NETWORK_IO)} == {"eth0", "tunl0", "docker0", "veth99"}
    absent = {rows.PROCESS_COUNT, rows.PROCESS_CREATED, rows.PAGING_UTILIZATION, rows.MEMORY_SLAB}
    assert not metrics(batch) & (absent | FILES["vmstat"] | FILES["diskstats"] | FILES["cpuinfo"])


# What fails.


def _make_unreadable(path: Path) -> None:
    path.unlink()
    path.mkdir()  # root may read any file, but nobody a directory


FAULTS: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:33]),
    "not its format": lambda path: path.write_bytes(b"<html>\n" * 9),
    "binary": lambda path: path.write_bytes(bytes(range(256)) * 8),
    "a number too large": lambda path: path.write_bytes(re.sub(rb"\d+(?= |\n|\.)", b"9" * 30, path.read_bytes())),
    "numbers below zero": lambda path: path.write_bytes(re.sub(rb" (?=\d)", b" -", path.read_bytes())),
    "unreadable": _make_unreadable,
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("file", FILES)
def test_a_file_that_is_broken_loses_its_own_metrics(tmp_path: Path, file: str, fault: str) -> None:
    """They are counted as lost, asked for again, and cost the others nothing."""
    root, source = captured(tmp_path)
    everything = metrics(source().read())
    assert everything >= set.union(*FILES.values())
    FAULTS[fault](root / file)
    broken = source()
    reader = next(reader for reader in READERS if FILES[file] <= set(reader.metrics))
    for _ in range(2):
        batch = broken.read()
        assert metrics(batch) == everything - FILES[file]
        if file != "cpuinfo":  # asked again in half a minute, or never, if it is no file of a CPU's
            diskless = (file, fault) == ("diskstats", "empty")
            assert sum(batch.lost.values()) == (0 if diskless else len(reader.metrics))
    if (root / file).is_dir():
        (root / file).rmdir()
    shutil.copy(PROC / "server" / file, root / file)
    if file != "cpuinfo":
        assert metrics(broken.read()) == everything


@pytest.mark.parametrize("file", FILES)
def test_a_file_that_is_absent_is_asked_for_once(tmp_path: Path, opened: Counter[str], file: str) -> None:
    """Its metrics are absent, and nothing is lost: what a kernel was built without does not come later."""
    root, source = captured(tmp_path)
    everything = metrics(source().read())
    (root / file).unlink()
    without = source()
    opened.clear()
    for _ in range(2):
        batch = without.read()
        assert metrics(batch) == everything - FILES[file]
        assert batch.lost == {}
    assert opened[str(root / file)] == 1


def test_without_any_file_nothing_is_raised(tmp_path: Path) -> None:
    """Only the clock is left."""
    batch = SystemSource(proc_root=str(tmp_path), sys_root=str(tmp_path)).read()
    assert metrics(batch) == {rows.UPTIME}
    assert batch.lost == {}


def test_devices_come_and_go(tmp_path: Path) -> None:
    """One that vanished between two looks is told no more, one that came is; the others' series stay."""
    root, make = captured(tmp_path)
    source = make()
    source.read()
    for file, old, new in (("net/dev", b" wlan0:", b" wlan7:"), ("diskstats", b" sda ", b" sdz ")):
        content = (root / file).read_bytes()
        (root / file).write_bytes(content.replace(old, new))
    batch = source.read()
    assert batch.lost == {}
    assert "wlan7" in {name for name, _ in values(batch, rows.NETWORK_IO)}
    assert "wlan0" not in {name for name, _ in values(batch, rows.NETWORK_IO)}
    assert {"sdz"} <= {name for name, _ in values(batch, rows.DISK_IO)} >= {"nvme0n1"}
    assert "sda" not in {name for name, _ in values(batch, rows.DISK_IO)}


def test_every_reader_says_where_it_reads() -> None:
    """For the reference page."""
    assert all(reader.call and reader.where for reader in READERS)
    assert {metric for reader in READERS for metric in reader.metrics} <= {*rows.METRICS, pressure.STALL_TIME}


def methods(batch: Batch) -> list[object]:
    """How the stalls that were told are known."""
    stalls = [reading for reading in batch.readings if reading.metric is pressure.STALL_TIME]
    return [reading.attributes[pressure.METHOD] for reading in stalls]


def count_pressure(root: Path) -> None:
    """Make it a kernel that does."""
    (root / "pressure").mkdir(exist_ok=True)
    (root / "pressure" / "io").write_text("some avg10=0.00 avg60=0.00 avg300=0.00 total=5\n")


@pytest.mark.parametrize("per_cpu", [False, True])
@pytest.mark.parametrize("counted", [True, False])
def test_waiting_for_io_is_told_where_the_kernel_counts_no_pressure(
    tmp_path: Path, *, counted: bool, per_cpu: bool
) -> None:
    """From the CPUs' iowait, and said to be that; where there is pressure its own source tells it, and this one does not."""
    root, _ = captured(tmp_path)
    if counted:
        count_pressure(root)
    clock = ManualClock()
    source = SystemSource(clock.monotonic, per_cpu=per_cpu, proc_root=str(root), sys_root=str(tmp_path / "absent"))
    assert methods(source.read()) == ([] if counted else ["iowait"])
    content = (root / "stat").read_bytes()
    first = content.split(b"\n")[0].split()
    first[5] = str(int(first[5]) + os.sysconf("SC_CLK_TCK") // 2).encode()
    (root / "stat").write_bytes(b" ".join([b"cpu ", *first[1:]]) + content[content.index(b"\n") :])
    clock.advance(2)
    stalls = [reading.value for reading in source.read().readings if reading.metric is pressure.STALL_TIME]
    assert stalls == ([] if counted else [0.5])


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EACCES, errno.ENOMEM])
@pytest.mark.parametrize("counted", [True, False])
def test_while_it_cannot_be_told_whether_pressure_is_counted_nothing_is_estimated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, *, counted: bool
) -> None:
    """Else an error at the start would have the estimate told beside the kernel's own figure for ever."""
    root, make = captured(tmp_path)
    if counted:
        count_pressure(root)
    real = os.open

    def refuse(path: str, flags: int, *_: int, **__: int | None) -> int:
        if "pressure" in path:
            raise OSError(number, os.strerror(number), path)
        return real(path, flags)

    with monkeypatch.context() as refusing:
        refusing.setattr(os, "open", refuse)
        source = make()
        assert methods(source.read()) == methods(source.read()) == []
    for _ in range(2):
        batch = source.read()
        assert methods(batch) == ([] if counted else ["iowait"])
        assert batch.lost == {}


ODD: dict[str, tuple[str, bytes, bytes, tuple[Metric, ...], str]] = {
    "a disk with a count below zero": (
        *("diskstats", b" sda 3000 ", b" sda -3000 "),
        *((rows.DISK_IO, rows.DISK_OPERATIONS, rows.DISK_OPERATION_TIME, rows.DISK_MERGED, rows.DISK_IO_TIME), "sda"),
    ),
    "an interface with a count below zero": (
        *("net/dev", b"enp1s0f0: 1000000 ", b"enp1s0f0: -1000000 "),
        *((rows.NETWORK_IO, rows.NETWORK_PACKETS, rows.NETWORK_ERRORS, rows.NETWORK_DROPPED), "enp1s0f0"),
    ),
}


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_line_loses_its_own_device_alone(tmp_path: Path, odd: str) -> None:
    """Its readings are counted as lost, the others are told, and it is asked again."""
    file, old, new, of_device, name = ODD[odd]
    root, make = captured(tmp_path)
    source = make()
    before = {metric: values(source.read(), metric) for metric in of_device}
    right = (root / file).read_bytes()
    assert right.count(old) == 1
    (root / file).write_bytes(right.replace(old, new))
    expected = {
        metric: {key: value for key, value in told.items() if key[0] != name} for metric, told in before.items()
    }
    count = sum(map(len, before.values())) - sum(map(len, expected.values()))
    for _ in range(2):
        batch = source.read()
        assert {metric: values(batch, metric) for metric in of_device} == expected
        assert batch.lost == {"ValueError": count}
        assert count > 1
    (root / file).write_bytes(right + b"garbage\n")  # of no device
    batch = source.read()
    assert {metric: values(batch, metric) for metric in of_device} == before
    assert batch.lost == {"ValueError": 1}
    (root / file).write_bytes(right)
    assert source.read().lost == {}
