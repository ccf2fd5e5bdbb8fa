# SPDX-License-Identifier: Apache-2.0
"""A job's tree against real processes: what they burnt, held, read and wrote is what is told."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from otel_hwmetrics.catalog import process as of_process
from otel_hwmetrics.catalog import tree as rows
from otel_hwmetrics.model import Metric
from otel_hwmetrics.sources.base import Batch, SourceUnavailable
from otel_hwmetrics.sources.linux.files import KernelFile
from otel_hwmetrics.sources.tree import READERS, TreeSource
from otel_hwmetrics.sources.tree.births import Births
from otel_hwmetrics.testing import ManualClock

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's /proc")

SYSCALLS = {"x86_64": {"clone": 56, "exit": 60}, "aarch64": {"clone": 220, "exit": 93}}.get(platform.machine(), {})
"""Numbers of system calls that are made without the C library's part in them."""
by_number = pytest.mark.skipif(sys.platform != "linux" or not SYSCALLS, reason="knows Linux's calls on two machines")

WAYS = ["/proc", None] if sys.platform == "linux" else [None]
"""The kernel's own files, and psutil."""

PRELUDE = """if True:
    import mmap, os, resource, subprocess, sys, threading, time
    def burn(seconds):
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass
    def tell(what=""):
        print(what, flush=True)
        sys.stdin.readline()
    def python(script):
        return subprocess.Popen([sys.executable, "-I", "-S", "-c", script])
    def touch(size):
        held = mmap.mmap(-1, size)
        for at in range(0, size, mmap.PAGESIZE):
            held[at] = 1
        return held
    def used():
        both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(one.ru_utime + one.ru_stime for one in both)
    tell()
"""
BURN = "import time\nwhile time.process_time() < {}: pass"


BURN_AND_STAY = BURN.format(1) + "\ntime.sleep(60)"


class Job:
    """A process that does what a script says, and waits wherever it says ``tell()``."""

    def __init__(self, script: str) -> None:
        lines = [f"    {line}" for line in script.splitlines()]
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-W", "ignore", "-c", PRELUDE + "\n".join([*lines, "    tell()"])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid
        self.said = self._hear()

    def go_on(self) -> str:
        """Let it do the next part; gives what it said at its end."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._hear()

    def _hear(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def end(self) -> None:
        """Kill it and its group's orphans."""
        for process in psutil.Process(self.pid).children(recursive=True):
            process.kill()
        self._process.kill()
        self._process.communicate()


@contextmanager
def job(script: str) -> Iterator[Job]:
    """A job that has not begun yet."""
    running = Job(script)
    try:
        yield running
    finally:
        running.end()


def opened(root: int, clock: Callable[[], float] = time.monotonic, proc: str | None = WAYS[0]) -> TreeSource:
    """A source that watches a job."""
    source = TreeSource(clock, proc=proc, root=root)
    source.open()
    return source


def values(batch: Batch, metric: Metric) -> dict[object, float]:
    """The values of a metric by its one attribute; by None where it has none."""
    return {
        reading.attributes[metric.attributes[0]] if metric.attributes else None: reading.value
        for reading in batch.readings
        if reading.metric is metric
    }


def cpu(batch: Batch) -> float:
    """All CPU seconds."""
    return sum(values(batch, rows.CPU_TIME).values())


def one(batch: Batch, metric: Metric) -> float:
    """The value of a metric without attributes."""
    return values(batch, metric)[None]


@pytest.fixture(params=["asked", "children", "listing"])
def births(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every way to meet a child, on this kernel."""
    if sys.platform != "linux":
        pytest.skip("needs Linux's /proc")
    way: str = request.param
    if way == "children" and not os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
        pytest.skip("needs CONFIG_PROC_CHILDREN")
    if way != "asked":
        monkeypatch.setattr(Births, "_is_ours", lambda _: False)
    if way == "listing":
        monkeypatch.setattr(Births, "_lists_children", lambda *_: False)
    return way


# CPU time.


@pytest.mark.parametrize(
    ("seconds", "tolerance", "script"),
    [
        (5.0, 0.2, "burn({})"),
        (2.0, 0.1, "thread = threading.Thread(target=burn, args=({},))\nthread.start()\nthread.join()"),
    ],
)
@pytest.mark.parametrize("proc", WAYS)
def test_what_the_job_burns_is_its_cpu_time(proc: str | None, seconds: float, tolerance: float, script: str) -> None:
    """One core for that long."""
    with job(script.format(seconds)) as running:
        source = opened(running.pid, proc=proc)
        before = cpu(source.read())
        running.go_on()
        assert cpu(source.read()) - before == pytest.approx(seconds, abs=tolerance)


def test_what_children_burn_is_the_job_s_while_they_live_and_after(births: str) -> None:
    """Of a child that is met, before and after it is waited for, whichever way it was met."""
    del births
    with job(f"child = python({BURN.format(2)!r})\ntell()\nchild.wait()\ntell(used())") as running:
        source = opened(running.pid)
        before = cpu(source.read())
        running.go_on()
        assert one(source.read(), rows.CHILDREN_STARTED) == 1
        (child,) = psutil.Process(running.pid).children()
        while child.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.05)
        ended = cpu(source.read())
        used = float(running.go_on())
        after = source.read()
        assert ended - before == pytest.approx(2, abs=0.1)
        assert cpu(after) == pytest.approx(used, abs=0.1)
        assert cpu(after) >= ended
        assert one(after, rows.CHILDREN_ENDED) == 1


def test_what_grandchildren_burn_that_nobody_met_is_the_job_s(births: str) -> None:
    """Eight children that live between two looks, each with two of its own, are in the CPU time to the tick."""
    del births
    grand = f"import subprocess, sys\nfor _ in range(2): subprocess.run([sys.executable, '-I', '-S', '-c', {BURN.format(0.1)!r}])"
    script = f"children = [python({grand!r}) for _ in range(8)]\nfor child in children: child.wait()\ntell(used())"
    with job(script) as running:
        source = opened(running.pid)
        source.read()
        used = float(running.go_on())
        assert used > 1.6
        assert cpu(source.read()) == pytest.approx(used, abs=0.1)


@linux
def test_children_that_nobody_waits_for_are_counted_as_last_seen(births: str) -> None:
    """Their parent ignores SIGCHLD; what they had at the last look stays."""
    del births
    script = (
        "import signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        f"child = python({BURN_AND_STAY!r})\ntell(child.pid)"
    )
    with job(script) as running:
        source = opened(running.pid)
        pid = int(running.go_on())
        while sum(psutil.Process(pid).cpu_times()[:2]) < 0.95:
            time.sleep(0.05)
        alive = source.read()
        os.kill(pid, signal.SIGKILL)
        while psutil.pid_exists(pid):
            time.sleep(0.01)
        gone = source.read()
        assert cpu(alive) >= 0.95
        assert cpu(gone) >= cpu(alive)
        assert (one(alive, rows.CHILDREN_ENDED), one(gone, rows.CHILDREN_ENDED)) == (0, 1)


@pytest.mark.parametrize("proc", WAYS)
def test_a_storm_of_children_makes_nothing_fall(proc: str | None) -> None:
    """Two hundred of them come and go while the tree is looked at all the time: no error, and no counter goes back."""
    # Half of them in threads, since each thread has a list of its own.
    script = (
        "def storm():\n"
        "    for _ in range(50):\n"
        "        children = [subprocess.Popen(['/bin/sh', '-c', ':']) for _ in range(2)]\n"
        "        for child in children: child.wait()\n"
        "print('ready', flush=True)\n"
        "thread = threading.Thread(target=storm)\nthread.start()\nstorm()\nthread.join()\n"
        "tell(used())"
    )
    counters = {row for row in rows.METRICS if row.derivation is None and row.kind.value == "counter"}
    with job(script) as running:
        source = opened(running.pid, proc=proc)
        last: dict[Any, float] = {}
        assert running.go_on() == "ready"
        end = time.monotonic() + 60
        while time.monotonic() < end and (threads := psutil.Process(running.pid).num_threads()):
            batch = source.read()
            assert batch.lost == {}
            for reading in batch.readings:
                if reading.metric in counters:
                    assert reading.value >= last.get(reading.series, 0)
                    last[reading.series] = reading.value
            if threads == 1 and not psutil.Process(running.pid).children() and last:
                break
        used = float(running._hear())
        batch = source.read()
        if proc is not None:
            assert cpu(batch) == pytest.approx(used, abs=0.1)
            assert one(batch, rows.CHILDREN_STARTED) == one(batch, rows.CHILDREN_ENDED) <= 200
        assert sum(values(batch, rows.PROCESS_COUNT).values()) == 1


# Memory.


@pytest.mark.parametrize("proc", WAYS)
def test_memory_that_a_child_touches_is_the_job_s(proc: str | None) -> None:
    """Five hundred megabytes, to two in a hundred."""
    script = (
        "child = subprocess.Popen([sys.executable, '-I', '-S', '-c', 'import sys; sys.stdin.readline()'])\n"
        "tell()\nheld = touch(500 * 2**20)\ntell()"
    )
    with job(script) as running:
        source = opened(running.pid, proc=proc)
        running.go_on()
        before = one(source.read(), rows.MEMORY_USAGE)
        running.go_on()
        assert one(source.read(), rows.MEMORY_USAGE) - before == pytest.approx(500 * 2**20, rel=0.02)


@linux
def test_memory_that_workers_share_is_counted_once() -> None:
    """Four forked workers and their parent map the same hundred megabytes."""
    script = (
        "held = touch(100 * 2**20)\nfor _ in range(4):\n    if not os.fork():\n        held[0]\n"
        "        sum(held[at] for at in range(0, len(held), mmap.PAGESIZE))\n        time.sleep(60)\ntime.sleep(1)\ntell()"
    )
    with job(script) as running:
        running.go_on()
        batch = opened(running.pid).read()
        assert one(batch, rows.MEMORY_PSS) == pytest.approx(115 * 2**20, abs=20 * 2**20)
        assert one(batch, rows.MEMORY_USAGE) > 480 * 2**20


# Reading and writing.


@linux
def test_what_a_child_reads_is_the_job_s_while_it_lives_and_after(tmp_path: Path) -> None:
    """Sixty-four megabytes in calls of one, from the page cache: bytes, calls and their mean size."""
    path = tmp_path / "data"
    path.write_bytes(b"x" * 64 * 2**20)
    read = (
        f"import os, sys\\nfile = os.open({str(path)!r}, os.O_RDONLY)\\n"
        "while os.read(file, 2**20): pass\\nprint(flush=True)\\nsys.stdin.readline()"
    )
    script = (
        f'child = subprocess.Popen([sys.executable, "-I", "-S", "-c", "{read}"], '
        "stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\ntell()\nchild.communicate(b'\\n')\ntell()"
    )
    with job(script) as running:
        source = opened(running.pid)
        before = source.read()
        for _ in range(2):  # while the child lives, and after it was waited for
            running.go_on()
            now = source.read()
            size = values(now, rows.DATA_IO)["read"] - values(before, rows.DATA_IO)["read"]
            calls = values(now, rows.DATA_OPERATIONS)["read"] - values(before, rows.DATA_OPERATIONS)["read"]
            # The interpreter reads its own library, too.
            assert 64 * 2**20 <= size < 68 * 2**20
            assert 64 <= calls < 500


@linux
def test_what_children_write_reaches_the_disk_once(tmp_path: Path) -> None:
    """Twenty megabytes that a child writes and syncs are that many, before and after it is waited for."""
    kinds = {part.mountpoint: part.fstype for part in psutil.disk_partitions(all=True)}
    mount = next(str(at) for at in (tmp_path, *tmp_path.parents) if str(at) in kinds)
    if kinds[mount] in {"tmpfs", "ramfs", "9p"}:
        pytest.skip(f"{tmp_path} is on {kinds[mount]}, where the kernel counts no bytes written to storage")
    size = 20 * 2**20
    write = (
        f"import os, sys\\nfile = os.open({str(tmp_path / 'data')!r}, os.O_WRONLY | os.O_CREAT)\\n"
        f"os.write(file, os.urandom({size}))\\nos.fsync(file)\\nprint(flush=True)\\nsys.stdin.readline()"
    )
    script = (
        f'child = subprocess.Popen([sys.executable, "-I", "-S", "-c", "{write}"], '
        "stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\ntell()\nchild.communicate(b'\\n')\ntell()"
    )
    with job(script) as running:
        source = opened(running.pid)
        before = values(source.read(), rows.DISK_IO)["write"]
        for _ in range(2):
            running.go_on()
            assert size <= values(source.read(), rows.DISK_IO)["write"] - before < 1.5 * size


@linux
def test_an_idle_job_reads_nothing_however_often_it_is_looked_at() -> None:
    """Our own looks are in /proc/self/io, and not in what is told; what the job reads is, to the byte."""
    script = """if True:
        import os, sys
        from otel_hwmetrics.catalog import tree as rows
        from otel_hwmetrics.sources.linux.files import KernelFile
        from otel_hwmetrics.sources.tree import TreeSource
        source, more = TreeSource(), KernelFile("/proc/self/status")
        source.open()
        def read():
            figures = {}
            for reading in source.read().readings:
                if reading.metric in (rows.DATA_IO, rows.DATA_OPERATIONS) and "read" in reading.attributes.values():
                    figures[reading.metric.name] = reading.value
            return list(figures.values())
        def looks(count):
            for _ in range(count):
                more.read()
                told = read()
            return told
        looks(5)
        first, last = looks(1), looks(500)
        file = os.open(sys.executable, os.O_RDONLY)
        for _ in range(10):
            os.read(file, 1000)
        job = looks(1)
        child = os.fork()
        if not child:  # the kernel counts it from nothing
            source = TreeSource()
            source.open()
            before = looks(1)
            os.pread(file, 1000, 0)
            after = looks(1)
            os._exit(after != [before[0] + 1000, before[1] + 1])
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(first == last, job == [last[0] + 10_000, last[1] + 10], status)
    """
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["True", "True", "0"]


# Who there is.


@pytest.mark.parametrize("proc", WAYS)
def test_processes_are_counted_by_state(proc: str | None) -> None:
    """One that sleeps, one that is stopped, one that is dead and not waited for."""
    script = (
        "children = [subprocess.Popen(['sleep', '60']) for _ in range(2)]\n"
        "import signal\nchildren[0].send_signal(signal.SIGSTOP)\ndead = subprocess.Popen(['true'])\ntime.sleep(0.5)\ntell()"
    )
    with job(script) as running:
        source = opened(running.pid, proc=proc)
        running.go_on()
        while psutil.Process(running.pid).status() != psutil.STATUS_SLEEPING:
            time.sleep(0.01)
        batch = source.read()
        assert values(batch, rows.PROCESS_COUNT) == {
            "running": 0,
            "sleeping": 2,
            "uninterruptible": 0,
            "stopped": 1,
            "defunct": 1,
        }
        assert one(batch, rows.CHILDREN_STARTED) == 3


# How they end.


def dead(pid: int) -> int:
    """How many children of a process nobody has waited for yet, though they have ended."""
    return sum(child.status() == psutil.STATUS_ZOMBIE for child in psutil.Process(pid).children())


@linux
def test_how_children_end_is_counted_while_nobody_waits_and_after(births: str) -> None:
    """Killed, crashed, terminated, a status of its own, a good end: each in its place, once."""
    del births
    script = (
        "children = [python(end) for end in ('import os; os.kill(os.getpid(), 9)', 'import os; os.abort()', 'exit(3)', '')]\n"
        "children.append(subprocess.Popen(['sleep', '60']))\nchildren[-1].terminate()\n"
        "tell()\nfor child in children: child.wait()\ntell()"
    )
    expected = {"killed": 1, "crashed": 1, "terminated": 1, "status": 1}
    with job(script) as running:
        source = opened(running.pid)
        assert values(source.read(), rows.CHILDREN_FAILED) == dict.fromkeys(expected, 0)
        running.go_on()
        while dead(running.pid) < 5:
            time.sleep(0.01)
        for _ in range(2):
            batch = source.read()
            assert values(batch, rows.CHILDREN_FAILED) == expected
            assert values(batch, rows.PROCESS_COUNT)["defunct"] == 5
        running.go_on()
        for _ in range(2):
            batch = source.read()
            assert values(batch, rows.CHILDREN_FAILED) == expected
            assert (one(batch, rows.CHILDREN_ENDED), batch.lost) == (5, {})


@linux
def test_a_worker_that_is_killed_while_it_is_watched_is_counted_once() -> None:
    """As by the OOM killer: alive, dead, waited for."""
    script = "pid = os.fork()\nif not pid:\n    time.sleep(60)\ntell(pid)\nos.waitpid(pid, 0)\ntell()"
    with job(script) as running:
        source = opened(running.pid)
        pid = int(running.go_on())
        counts = [values(source.read(), rows.CHILDREN_FAILED)["killed"]]
        os.kill(pid, signal.SIGKILL)
        while not dead(running.pid):
            time.sleep(0.01)
        counts += [values(source.read(), rows.CHILDREN_FAILED)["killed"] for _ in range(2)]
        running.go_on()
        counts += [values(source.read(), rows.CHILDREN_FAILED)["killed"]]
        assert counts == [0, 1, 1, 1]


@linux
def test_a_child_that_was_waited_for_before_a_look_is_not_counted(births: str) -> None:
    """Nobody but its parent knows how it ended."""
    del births
    with job("subprocess.run(['/bin/sh', '-c', 'kill -9 $$'])\ntell()") as running:
        source = opened(running.pid)
        source.read()
        running.go_on()
        assert set(values(source.read(), rows.CHILDREN_FAILED).values()) == {0}


@by_number
def test_a_process_whose_main_thread_has_ended_has_not() -> None:
    """Its other thread lives on; the main thread's own status, which is shown meanwhile, is not the process's."""
    script = (
        "pid = os.fork()\nif not pid:\n    import ctypes\n    threading.Thread(target=time.sleep, args=(60,)).start()\n"
        f"    ctypes.CDLL(None).syscall({SYSCALLS['exit']}, 5)\ntell(pid)"
    )
    with job(script) as running:
        source = opened(running.pid)
        pid = int(running.go_on())
        while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        batch = source.read()
        assert values(batch, rows.PROCESS_COUNT)["defunct"] == 1
        assert set(values(batch, rows.CHILDREN_FAILED).values()) == {0}
        os.kill(pid, signal.SIGKILL)
        while psutil.Process(pid).num_threads() > 1:
            time.sleep(0.01)
        assert values(source.read(), rows.CHILDREN_FAILED)["killed"] == 1


@by_number
def test_a_child_that_does_not_come_out_of_the_kernel_is_told(births: str) -> None:
    """One that waits for its own child in vfork(2), which cannot be interrupted: by the clock, until it comes out."""
    del births
    stuck = (
        "import ctypes, os, sys\\nsys.stdin.readline()\\n"
        # CLONE_VFORK | SIGCHLD: as vfork(2), but the child has memory of its own.
        f"if not ctypes.CDLL(None).syscall({SYSCALLS['clone']}, 0x4000 | 17, 0, 0, 0, 0):\\n"
        "    sys.stdin.readline()\\n    os._exit(0)\\nsys.stdin.readline()"
    )
    script = (
        f'child = subprocess.Popen([sys.executable, "-I", "-S", "-c", "{stuck}"], stdin=subprocess.PIPE)\ntell(child.pid)\n'
        + "child.stdin.write(b'\\n')\nchild.stdin.flush()\ntell()\n" * 2
    )
    clock = ManualClock()
    with job(script) as running:
        source = opened(running.pid, clock.monotonic)

        def told() -> float:
            clock.advance(7)
            batch = source.read()
            assert batch.lost == {}
            return one(batch, rows.UNINTERRUPTIBLE_TIME)

        child = psutil.Process(int(running.go_on()))
        assert [told() for _ in range(4)] == [0] * 4
        running.go_on()
        while child.status() != psutil.STATUS_DISK_SLEEP:
            time.sleep(0.01)
        assert [told() for _ in range(4)] == [0, 0, 7, 14]
        running.go_on()
        while child.status() == psutil.STATUS_DISK_SLEEP:
            time.sleep(0.01)
        assert told() == 0


# Of whom.


@linux
def test_a_child_of_a_thread_is_a_child(births: str) -> None:
    """Each thread has a list of children of its own; and threads are not taken for processes."""
    del births
    script = (
        "def start():\n    child = subprocess.Popen(['sleep', '60'])\n    threading.Event().wait()\n"
        "for _ in range(3): threading.Thread(target=start, daemon=True).start()\ntime.sleep(0.5)\ntell()"
    )
    with job(script) as running:
        source = opened(running.pid)
        source.read()
        running.go_on()
        batch = source.read()
        assert one(batch, rows.CHILDREN_STARTED) == 3
        assert one(batch, rows.THREAD_COUNT) == 4 + 3


@linux
def test_the_root_is_this_process_unless_told() -> None:
    """The children of the test are met."""
    source = TreeSource()
    source.open()
    started = one(source.read(), rows.CHILDREN_STARTED)
    with subprocess.Popen(["/bin/sleep", "60"]) as child:
        assert one(source.read(), rows.CHILDREN_STARTED) == started + 1
        child.kill()
    source.close()


@pytest.mark.parametrize("proc", WAYS)
def test_a_root_that_is_not_there_makes_the_source_unavailable(proc: str | None) -> None:
    """And making the source raises nothing."""
    source = TreeSource(proc=proc, root=2**22 + 1)
    with pytest.raises(SourceUnavailable, match="cannot be seen"):
        source.open()


# What a look tells and costs.


def test_every_reading_has_exactly_its_rows_attributes() -> None:
    """And none names a process; every row has a reader, and every figure of a look has the look's time."""
    source = TreeSource(lambda: 42.0)
    source.open()
    batch = source.read()
    assert batch.lost == {}
    read = {row for row in rows.METRICS if row.derivation is None} | {of_process.MEMORY_PSS, of_process.MEMORY_USS}
    assert {metric for reader in READERS for metric in reader.metrics} == read
    if sys.platform == "linux":
        assert {reading.metric for reading in batch.readings} == read
    for reading in batch.readings:
        assert set(reading.attributes) == set(reading.metric.attributes)
        assert reading.value >= 0
        assert reading.at == 42.0


@linux
def test_a_quiet_look_is_three_reads_a_member_and_one_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file is opened anew, and nobody else's is read."""
    with job("children = [subprocess.Popen(['sleep', '60']) for _ in range(4)]\ntell()") as running:
        source = opened(running.pid, lambda: 42.0)
        running.go_on()
        source.read()
        source.read()
        calls: Counter[str] = Counter()
        looks = []
        with monkeypatch.context() as counting:
            for name in ("open", "pread", "listdir", "stat"):
                function = getattr(os, name)

                def counted(*arguments: Any, _name: str = name, _function: Any = function, **more: Any) -> Any:
                    calls[_name] += 1
                    return _function(*arguments, **more)

                counting.setattr(os, name, counted)
            for _ in range(100):
                calls.clear()
                source.read()
                looks.append(dict(calls))
    # Elsewhere on the machine somebody may have been born before some of the looks: each asks for a few calls.
    assert {"pread": 3 * 5 + 1} in looks


@linux
def test_descriptors_that_are_kept_are_few_and_given_back() -> None:
    """However large the tree: the rest of it is opened at each look; all of them are closed at the end."""
    there = "/proc/self/fd"
    before = len(os.listdir(there))
    with job("children = [subprocess.Popen(['sleep', '60']) for _ in range(120)]\ntell()") as running:
        source = opened(running.pid)
        running.go_on()
        for _ in range(2):
            batch = source.read()
            assert sum(values(batch, rows.PROCESS_COUNT).values()) == 121
            assert one(batch, rows.MEMORY_USAGE) > 0
        kept = len(os.listdir(there)) - before
        assert 100 < kept <= 256 + 5
        source.close()
        assert len(os.listdir(there)) <= before + 3


@linux
def test_slow_figures_are_told_again_in_between() -> None:
    """Context switches and memory by pages are read when due, and have the time at which they were read."""
    clock = ManualClock()
    source = TreeSource(clock.monotonic)
    source.open()
    first = source.read()
    clock.advance(1)
    second = source.read()
    for metric in (rows.CONTEXT_SWITCHES, rows.MEMORY_PSS):
        told = [[reading for reading in batch.readings if reading.metric is metric] for batch in (first, second)]
        assert told[0] == told[1] != []
    source.close()


@linux
def test_the_process_s_own_memory_by_pages_is_told_with_the_tree_s() -> None:
    """From one look, of this very process alone; a child whose memory may not be seen costs the tree's, not its own."""
    source = TreeSource()
    source.open()
    batch = source.read()
    unique, proportional = one(batch, of_process.MEMORY_USS), one(batch, of_process.MEMORY_PSS)
    assert 2**20 < unique <= proportional <= one(batch, rows.MEMORY_PSS)
    source.close()
    with job("tell()") as running:
        told = {reading.metric for reading in opened(running.pid).read().readings}
    assert rows.MEMORY_PSS in told
    assert told.isdisjoint({of_process.MEMORY_PSS, of_process.MEMORY_USS})


@linux
def test_a_member_whose_memory_may_not_be_seen_is_counted_as_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """At each look that is due; the process's own is told."""
    clock = ManualClock()
    source = TreeSource(clock.monotonic)
    source.open()
    read = KernelFile.read
    with subprocess.Popen(["/bin/sleep", "60"]) as child:

        def forbidden(file: KernelFile) -> bytes:
            if file.path == f"/proc/{child.pid}/smaps_rollup":
                raise PermissionError
            return read(file)

        monkeypatch.setattr(KernelFile, "read", forbidden)
        for _ in range(2):
            batch = source.read()
            assert batch.lost == {"PermissionError": 1}
            assert one(batch, of_process.MEMORY_PSS) > 0
            assert values(batch, rows.MEMORY_PSS) == {}
            clock.advance(3600)
        child.kill()
    source.close()
