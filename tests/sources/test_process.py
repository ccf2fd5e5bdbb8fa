# SPDX-License-Identifier: Apache-2.0
"""This process: what is read agrees with psutil and /proc beside it, and with what the process really did."""

from __future__ import annotations

import mmap
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from otel_hwmetrics import _guard
from otel_hwmetrics.catalog import process as rows
from otel_hwmetrics.model import Metric
from otel_hwmetrics.sources.base import Batch, SourceUnavailable
from otel_hwmetrics.sources.process import PROC, ProcessSource

linux = pytest.mark.skipif(not psutil.LINUX, reason="needs Linux's /proc")

PLATFORM: Any = vars(psutil)["_psplatform"].Process
"""Where psutil asks the system; its own methods are cached within one look."""

CALLS: dict[str, set[Metric]] = {
    "cpu_times": {rows.CPU_TIME},
    "memory_info": {rows.MEMORY_USAGE, rows.MEMORY_VIRTUAL, rows.MEMORY_PSS, rows.MEMORY_USS},
    "io_counters": {rows.DISK_IO},
    "num_threads": {rows.THREAD_COUNT},
    "num_fds": {rows.FILE_DESCRIPTOR_COUNT},
    "memory_full_info": {rows.MEMORY_PSS, rows.MEMORY_USS},
}
"""What a look asks of psutil's Process, and the metrics that it gives."""

ASKED = {"memory_info": 2}
"""How often a look asks, if not once: psutil asks this for `memory_full_info`, too."""

FILES: dict[str, set[Metric]] = {
    "stat": {rows.THREAD_COUNT, rows.UPTIME},
    "statm": {rows.MEMORY_USAGE, rows.MEMORY_VIRTUAL},
    "fd": {rows.FILE_DESCRIPTOR_COUNT},
}
"""What a look reads of /proc/self, and the metrics that it gives."""

BY_PAGES = {rows.MEMORY_PSS, rows.MEMORY_USS}
"""What may take long or hang: on Linux the tree's source tells it, on a thread of its own."""

WAYS = ["/proc", None] if sys.platform == "linux" else [None]
"""The kernel's own files, and psutil."""


class Lapse:
    """A clock on which an hour passes whenever it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """The time."""
        return self.now

    def pass_by(self) -> None:
        """Let everything be due."""
        self.now += 3600


def opened(clock: Callable[[], float] = time.monotonic, proc: str | None = PROC) -> ProcessSource:
    """A source that is ready to be read."""
    source = ProcessSource(clock, proc=proc)
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
    """The metrics that psutil has of a process here."""
    found = metrics(opened(proc=None).read())
    assert {rows.CPU_TIME, rows.MEMORY_USAGE, rows.THREAD_COUNT, rows.CPU_LIMIT} <= found
    return found


# Against the machine.


@linux
@pytest.mark.parametrize("proc", WAYS)
def test_it_is_what_the_kernel_says(proc: str | None) -> None:
    """Time, bytes and threads lie between what /proc/self says before and after, which counts time in ticks."""
    tick, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    source = opened(proc=proc)

    def beside() -> dict[str, float]:
        stat = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        disk = moved("/proc/self/io")
        return {
            "user": int(stat[11]) / tick,
            "system": int(stat[12]) / tick,
            "virtual": int(stat[20]),
            "resident": int(stat[21]) * page,
            "read": disk["read_bytes"],
            "write": disk["write_bytes"],
        }

    def moved(path: str) -> Counter[str]:
        lines = (line.split(": ") for line in Path(path).read_text().splitlines())
        return Counter({name: int(value) for name, value in lines})

    before = beside()
    if proc is not None:
        # /proc/self/io holds what children moved that were waited for, other tests' among them; a thread's does not.
        threads = sum((moved(f"/proc/self/task/{number}/io") for number in os.listdir("/proc/self/task")), Counter())
        before |= {"read": threads["read_bytes"], "write": threads["write_bytes"]}
    batch = source.read()
    after = beside()
    for mode, value in values(batch, rows.CPU_TIME).items():
        assert before[str(mode)] <= value < after[str(mode)] + 1.01 / tick
    assert set(values(batch, rows.CPU_TIME)) == {"user", "system"}
    for direction, value in values(batch, rows.DISK_IO).items():
        assert before[str(direction)] <= value <= after[str(direction)]
    assert set(values(batch, rows.DISK_IO)) == {"read", "write"}
    # Pages come and go with every call; the kernel also counts resident ones in batches.
    assert values(batch, rows.MEMORY_USAGE)[None] == pytest.approx(after["resident"], rel=0.05, abs=4 * 2**20)
    assert values(batch, rows.MEMORY_VIRTUAL)[None] == pytest.approx(after["virtual"], rel=0.05)
    assert batch.lost == {}


@linux
def test_both_ways_have_every_metric() -> None:
    """The kernel's files and psutil give the same metrics of Linux, but for those that another source tells there."""
    read = {row for row in rows.METRICS if row.derivation is None}
    assert [metrics(opened(proc=proc).read()) for proc in WAYS] == [read - BY_PAGES, read]


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


@pytest.mark.parametrize("proc", WAYS)
def test_a_thread_more_is_a_thread_more(proc: str | None) -> None:
    """Threads that are started are counted at the next look: nothing that psutil keeps within one look outlives it."""
    source, end = opened(proc=proc), threading.Event()
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


@pytest.mark.parametrize("proc", WAYS)
def test_memory_that_is_touched_is_memory_in_use(proc: str | None) -> None:
    """Five hundred megabytes that are written to are resident, to two in a hundred."""
    source = opened(proc=proc)
    before = values(source.read(), rows.MEMORY_USAGE)[None]
    held = mmap.mmap(-1, 500 * 2**20)  # not of the allocator, which may have had them
    for at in range(0, len(held), mmap.PAGESIZE):
        held[at] = 1
    after = values(source.read(), rows.MEMORY_USAGE)[None]
    held.close()
    assert after - before == pytest.approx(500 * 2**20, rel=0.02)


@pytest.mark.parametrize("proc", WAYS)
def test_cpu_time_is_the_time_that_was_burnt(proc: str | None) -> None:
    """Half a second of work is half a second of process CPU time, within the kernel's ticks, however busy the machine."""
    source = opened(proc=proc)
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


@pytest.mark.parametrize("proc", WAYS)
def test_every_reading_has_exactly_its_rows_attributes(proc: str | None) -> None:
    """No reading carries an attribute that its row does not name; which process it is belongs to the Resource."""
    batch = opened(lambda: 42.0, proc).read()
    assert metrics(batch) <= set(rows.METRICS)
    for reading in batch.readings:
        assert set(reading.attributes) == set(reading.metric.attributes)
        assert reading.value >= 0
        assert reading.at == 42.0


@pytest.mark.parametrize("proc", WAYS)
def test_switches_and_faults_are_those_of_all_threads(proc: str | None) -> None:
    """A thread that waits a hundred times is switched out as often, and a page touched anew is a fault."""
    source = opened(proc=proc)
    before = source.read()

    def wait() -> None:
        for _ in range(100):
            time.sleep(0.0001)

    thread = threading.Thread(target=wait)
    thread.start()
    thread.join()
    with mmap.mmap(-1, 400 * mmap.PAGESIZE) as held:
        for at in range(0, len(held), mmap.PAGESIZE):
            held[at] = 1
        after = source.read()
    switches, faults = values(after, rows.CONTEXT_SWITCHES), values(after, rows.FAULTS)
    assert set(switches) == {"voluntary", "involuntary"}
    assert switches["voluntary"] - values(before, rows.CONTEXT_SWITCHES)["voluntary"] >= 100
    assert set(faults) == {"minor", "major"}
    # A kernel that gives large pages has fewer faults than pages.
    assert faults["minor"] > values(before, rows.FAULTS)["minor"]


@pytest.mark.parametrize("proc", WAYS)
def test_descriptors_are_counted_to_the_last_one(proc: str | None) -> None:
    """Ten more are ten more, at the next count, and the counting itself is none of them."""
    clock = Lapse()
    source = opened(clock, proc)
    source.read()  # keeps files open itself from now on
    clock.pass_by()
    before = values(source.read(), rows.FILE_DESCRIPTOR_COUNT)[None]
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(10)]
    during = values(source.read(), rows.FILE_DESCRIPTOR_COUNT)[None]
    clock.pass_by()
    after = values(source.read(), rows.FILE_DESCRIPTOR_COUNT)[None]
    for descriptor in held:
        os.close(descriptor)
    assert (during, after) == (before, before + 10)


@pytest.mark.parametrize("proc", WAYS)
def test_uptime_is_the_time_since_the_process_began(proc: str | None) -> None:
    """As the kernel and the wall clock have it, told of this moment and not as a mean."""
    (reading,) = [reading for reading in opened(proc=proc).read().readings if reading.metric is rows.UPTIME]
    assert reading.value == pytest.approx(time.time() - psutil.Process().create_time(), abs=1.5)
    assert reading.since == reading.at


@linux
def test_what_is_the_process_s_own_is_less_than_what_it_uses() -> None:
    """Unique, proportional and resident memory come in this order, and the first two in bytes."""
    batch = opened(proc=None).read()
    unique, proportional = values(batch, rows.MEMORY_USS)[None], values(batch, rows.MEMORY_PSS)[None]
    assert 2**20 < unique <= proportional <= values(batch, rows.MEMORY_USAGE)[None] * 1.05


@linux
def test_a_look_is_two_reads_of_the_kernel_s_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file is opened once in the source's life and read once a look, and psutil is not asked."""
    source = opened(lambda: 42.0)
    source.read()
    reads: list[int] = []
    pread = os.pread

    def noted(descriptor: int, size: int, offset: int) -> bytes:
        reads.append(descriptor)
        return pread(descriptor, size, offset)

    monkeypatch.setattr(os, "open", lambda *_, **__: pytest.fail("opened again"))
    monkeypatch.setattr(os, "pread", noted)
    monkeypatch.setattr(psutil, "Process", lambda *_: pytest.fail("psutil was asked"))
    source.read()
    assert len(reads) == len(set(reads)) == 2


@linux
def test_a_forked_child_s_own_source_is_the_child_s() -> None:
    """Also while its parent's is open."""
    script = """if True:
        import os, sys
        from otel_hwmetrics.catalog import process as rows
        from otel_hwmetrics.sources.process import ProcessSource
        def uptime_and_threads():
            source = ProcessSource()
            source.open()
            return source.read()
        parent = uptime_and_threads()
        import threading
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        two = [r.value for r in uptime_and_threads().readings if r.metric is rows.THREAD_COUNT]
        pid = os.fork()
        if not pid:
            one = [r.value for r in uptime_and_threads().readings if r.metric is rows.THREAD_COUNT]
            os._exit(0 if one == [1] else 1)
        sys.exit(two != [2] or os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    """
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=False).returncode == 0


# The CPUs that there are for it.


@pytest.mark.parametrize("proc", WAYS)
@pytest.mark.parametrize(("quota", "expected"), [(None, 4), (1.5, 1.5), (4, 4), (64.0, 4), (0.0, 4)])
def test_cpus_are_the_lesser_of_affinity_and_quota(
    monkeypatch: pytest.MonkeyPatch, proc: str | None, quota: float | None, expected: float
) -> None:
    """A container may use less than it may run on; a quota of nothing is none."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(4), raising=False)
    source = ProcessSource(proc=proc, effective_cpus=lambda: quota)
    source.open()
    assert values(source.read(), rows.CPU_LIMIT) == {None: expected}


def test_a_quota_that_cannot_be_read_leaves_the_limit_out() -> None:
    """The affinity alone may be wrong by as much as the machine is large."""

    def gone() -> float | None:
        raise FileNotFoundError

    source = ProcessSource(proc=None, effective_cpus=gone)
    source.open()
    batch = source.read()
    assert values(batch, rows.CPU_LIMIT) == {}
    assert batch.lost == {"FileNotFoundError": 1}


# What a kernel lacks.


@pytest.fixture
def captured(tmp_path: Path) -> Path:
    """A copy of this process's files, as the root of a /proc."""
    if sys.platform != "linux":
        pytest.skip("needs Linux's /proc")
    there = tmp_path / "self"
    (there / "fd").mkdir(parents=True)
    for name in FILES.keys() - {"fd"}:
        (there / name).write_bytes(Path(f"/proc/self/{name}").read_bytes())
    (there / "io").touch()
    return tmp_path


ALWAYS = {rows.CPU_TIME, rows.CONTEXT_SWITCHES, rows.FAULTS, rows.CPU_LIMIT, rows.DISK_IO}
"""What comes of system calls, on a kernel that counts I/O."""


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_absent_is_for_ever(captured: Path, name: str) -> None:
    """A kernel that was built without it costs that file's metrics, silently."""
    there = captured / "self" / name
    shutil.rmtree(there) if there.is_dir() else there.unlink()
    clock = Lapse()
    source = opened(clock, str(captured))
    for _ in range(2):
        clock.pass_by()
        batch = source.read()
        assert metrics(batch) == ALWAYS.union(*FILES.values()) - FILES[name]
        assert batch.lost == {}


def test_a_kernel_that_does_not_count_a_process_s_io_is_not_believed(captured: Path) -> None:
    """Its getrusage says 0 for ever, which would look like a job that never reads; it has no /proc/self/io either."""
    (captured / "self" / "io").unlink()
    batch = opened(proc=str(captured)).read()
    assert values(batch, rows.DISK_IO) == {}
    assert batch.lost == {}


@pytest.mark.parametrize("name", sorted(FILES.keys() - {"fd"}))
@pytest.mark.parametrize("content", [b"", b"\n", b"1 (", b"x" * 5000, b"9" * 400 + b"\n", None], ids=repr)
def test_a_file_that_makes_no_sense_costs_its_own_metrics(captured: Path, name: str, content: bytes | None) -> None:
    """Empty, cut short, garbage, too large a number, a directory in its place: counted, and asked again."""
    there = captured / "self" / name
    good = there.read_bytes()
    there.unlink()
    there.write_bytes(content) if content is not None else there.mkdir()
    clock = Lapse()
    source = opened(clock, str(captured))
    for _ in range(2):
        clock.pass_by()
        batch = source.read()
        assert metrics(batch) == ALWAYS.union(*FILES.values()) - FILES[name]
        assert sum(batch.lost.values()) == len(FILES[name])
    there.rmdir() if content is None else there.unlink()
    there.write_bytes(good)
    source.close()
    clock.pass_by()
    assert metrics(source.read()) == ALWAYS.union(*FILES.values())


def test_before_linux_6_2_descriptors_are_listed(captured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the directory's size says nothing, its entries count, but for the one that lists them."""
    for descriptor in range(5):
        (captured / "self" / "fd" / str(descriptor)).touch()
    real = os.stat

    class Sizeless:
        st_size = 0

    monkeypatch.setattr(os, "stat", lambda path, **more: Sizeless if str(path).endswith("/fd") else real(path, **more))
    assert values(opened(proc=str(captured)).read(), rows.FILE_DESCRIPTOR_COUNT) == {None: 4}


# What a platform lacks.


def test_windows_has_no_getrusage(monkeypatch: pytest.MonkeyPatch, everything: set[Metric]) -> None:
    """Where there is no module `resource`, switches and faults are left out, and nothing is lost."""
    monkeypatch.setitem(sys.modules, "resource", None)
    batch = opened(proc=None).read()
    assert metrics(batch) == everything - {rows.CONTEXT_SWITCHES, rows.FAULTS}
    assert batch.lost == {}


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
    clock = Lapse()
    source = opened(clock, None)
    with monkeypatch.context() as broken:
        asked = failing(broken, call, error)
        for _ in range(2):
            clock.pass_by()
            batch = source.read()
            assert metrics(batch) == everything - CALLS[call]
            assert batch.lost == {type(error).__name__: len(CALLS[call])}
        assert len(asked) == 2 * ASKED.get(call, 1)
    clock.pass_by()
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
    clock = Lapse()
    source = opened(clock, None)
    for _ in range(2):
        clock.pass_by()
        batch = source.read()
        assert metrics(batch) == everything - CALLS[call]
        assert batch.lost == {}
    assert len(asked) == ASKED.get(call, 1)


def test_macos_has_no_disk_counters(monkeypatch: pytest.MonkeyPatch, everything: set[Metric]) -> None:
    """Where psutil's Process has no such method, the other metrics are there."""
    monkeypatch.delattr(psutil.Process, "io_counters", raising=False)
    batch = opened(proc=None).read()
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
    clock = Lapse()
    source = opened(clock, None)
    for _ in range(2):
        clock.pass_by()
        assert metrics(source.read()) == everything - CALLS[call]


@linux
@pytest.mark.parametrize("proc", [True, False])
def test_without_proc_there_is_no_such_source(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    proc: bool,  # noqa: FBT001
) -> None:
    """Where this very process cannot be seen, making the source raises nothing, and opening it says what is missing."""
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    source = ProcessSource(proc=str(tmp_path) if proc else None)
    with pytest.raises(SourceUnavailable, match="is /proc mounted"):
        source.open()


@linux
def test_what_a_child_wrote_is_not_this_process_s(tmp_path: Path) -> None:
    """Also when it is waited for: an epoch's end, when the workers go, is no burst of this process."""
    source = opened()
    before = values(source.read(), rows.DISK_IO)["write"]
    script = (
        "import os, sys; fd = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY); os.write(fd, b'x' * 2**24); os.fsync(fd)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "file")], check=True)
    after = values(source.read(), rows.DISK_IO)["write"]
    assert after - before < 2**20


@linux
def test_cpus_are_those_of_any_thread_of_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenMP pins the first thread and leaves the others free; our own threads have no say."""
    stop = threading.Event()
    threads = [threading.Thread(target=stop.wait, name=name, daemon=True) for name in ("hwmetrics-test", "worker")]
    # Threads that other tests have left are pinned, like the first.
    monkeypatch.setattr(
        os,
        "sched_getaffinity",
        lambda number: {0, 1, 2, 3} if number in {thread.native_id for thread in threads} else {0},
    )
    assert values(opened().read(), rows.CPU_LIMIT) == {None: 1}
    threads[0].start()
    try:
        assert values(opened().read(), rows.CPU_LIMIT) == {None: 1}
        threads[1].start()
        assert values(opened().read(), rows.CPU_LIMIT) == {None: 4}
    finally:
        stop.set()
