# SPDX-License-Identifier: Apache-2.0
"""Uninterruptible sleeps: one that a process does not come out of is told, many short ones are not."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from otel_hwmetrics.catalog import tree as rows
from otel_hwmetrics.sources.base import Unsupported
from otel_hwmetrics.sources.linux.files import KernelFile
from otel_hwmetrics.sources.tree import TreeSource
from otel_hwmetrics.sources.tree import member as member_module
from otel_hwmetrics.sources.tree.forest import Forest, Tree
from otel_hwmetrics.sources.tree.library import LibraryTree
from otel_hwmetrics.sources.tree.member import read_once
from otel_hwmetrics.sources.tree.waits import PART
from otel_hwmetrics.testing import ManualClock

from .scripted import Kernel, planted

VOLUNTARY = 1
"""The kind of figure of the scripted kernel that it shows as voluntary context switches."""


class Watch:
    """A tree that is looked at once a second.

    Args:
        kernel: Whose job it is.
    """

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.clock = ManualClock()
        self.forest: Forest
        self.tree: Tree
        self.forest, self.tree = planted(kernel, clock=self.clock.monotonic)

    def look(self, seconds: float = 1.0) -> float | None:
        """What is told that much later."""
        self.clock.advance(seconds)
        self.kernel.show()
        self.forest.look()
        return self.tree.uninterruptible()


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    """A job with three children."""
    kernel = Kernel(tmp_path)
    for _ in range(3):
        kernel.fork(kernel.job)
    return Watch(kernel)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of those whose context switches are read."""
    numbers: list[int] = []

    def reading(path: str, *, records: bool = False) -> bytes:
        numbers.append(int(Path(path).parent.name))
        return read_once(path, records=records)

    monkeypatch.setattr(member_module, "read_once", reading)
    return numbers


def children(watch: Watch) -> list[int]:
    """Everybody but the root."""
    return [pid for pid in watch.kernel.ours if pid != watch.kernel.job]


def sleep(watch: Watch, *pids: int) -> None:
    """Put them into uninterruptible sleep, each into a new one."""
    for pid in pids:
        watch.kernel.processes[pid].state = "D"
        watch.kernel.burn(pid, VOLUNTARY, 1)


def wake(watch: Watch, *pids: int) -> None:
    """Let them run."""
    for pid in pids:
        watch.kernel.processes[pid].state = "R"


def test_a_sleep_that_does_not_end_is_told_from_the_second_look_on(watch: Watch) -> None:
    """To the look's second, however far apart the looks are; and it is 0 as soon as the process comes out."""
    child = children(watch)[0]
    assert watch.look() == 0
    sleep(watch, child)
    assert [watch.look() for _ in range(4)] == [0, 0, 1, 2]
    assert watch.look(30) == 32
    wake(watch, child)
    assert watch.look() == 0
    sleep(watch, child)
    assert [watch.look() for _ in range(3)] == [0, 0, 1]


def test_the_root_s_own_sleep_is_told_though_its_other_threads_run(watch: Watch) -> None:
    """The CPU time that is shown is that of all threads, this package's own among them."""
    root = watch.kernel.job
    sleep(watch, root)
    told = []
    for _ in range(4):
        watch.kernel.processes[root].others += 50
        told.append(watch.look())
    assert told == [0, 0, 1, 2]


def test_many_short_sleeps_are_none_that_lasts(watch: Watch) -> None:
    """One that is met asleep at every look, and has been awake in between each time."""
    child = children(watch)[0]
    for _ in range(20):
        sleep(watch, child)
        assert watch.look() == 0


def test_sleeps_of_several_do_not_add_up(watch: Watch) -> None:
    """Somebody is asleep at every look, never the same one for long."""
    pids = children(watch)
    for second in range(20):
        wake(watch, *pids)
        sleep(watch, pids[second % 3], pids[(second + 1) % 3])
        assert watch.look() == 0


def test_the_longest_sleep_is_told_and_after_it_the_next_one_s_own_time(watch: Watch) -> None:
    """It was not asked about all the while, but nothing has switched it in since."""
    early, late, _ = children(watch)
    sleep(watch, early)
    assert [watch.look() for _ in range(3)] == [0, 0, 1]
    sleep(watch, late)
    assert [watch.look() for _ in range(3)] == [2, 3, 4]
    wake(watch, early)
    assert [watch.look() for _ in range(2)] == [2, 3]


def test_one_that_ends_in_its_sleep_is_no_more(watch: Watch) -> None:
    """Dead or gone."""
    dead, gone, _ = children(watch)
    sleep(watch, dead, gone)
    assert [watch.look() for _ in range(3)] == [0, 0, 1]
    watch.kernel.exit(dead, 9)
    watch.kernel.exit(gone, 9)
    watch.kernel.wait(gone)
    assert watch.look() == 0


def test_one_that_ends_between_two_reads_of_a_look_is_no_more(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its state was read, and then it was gone."""
    child = children(watch)[0]
    sleep(watch, child)
    assert [watch.look() for _ in range(3)] == [0, 0, 1]

    def gone(path: str, **_: bool) -> bytes:
        raise FileNotFoundError(path)

    monkeypatch.setattr(member_module, "read_once", gone)
    assert watch.look() == 0


# At what cost.


def test_nothing_more_is_read_of_those_who_are_asleep_at_one_look_only(watch: Watch, asked: list[int]) -> None:
    """As are those who read a lot, now one and now another."""
    pids = children(watch)
    for second in range(9):
        wake(watch, *pids)
        sleep(watch, pids[second % 3])
        watch.look()
    assert asked == []


def test_of_many_that_are_stuck_each_is_asked_once_and_one_again(watch: Watch, asked: list[int]) -> None:
    """All hang on one file server: the longest is told from the second look on, and the next when that one comes out."""
    for _ in range(20):
        watch.kernel.fork(watch.kernel.job)
    first, *others = children(watch)
    sleep(watch, first, *others)
    told = [watch.look() for _ in range(9)]
    assert told == [0, 0, 1, 2, 3, 4, 5, 6, 7]
    assert len(asked) == 1 + len(others) + 7
    assert set(asked) == {first, *others}
    wake(watch, first)
    assert watch.look() == 8


def test_who_reads_all_the_time_costs_little_and_hides_nobody(watch: Watch, asked: list[int]) -> None:
    """Behind many that are asleep at every look, each time anew, one that is stuck is found within a few looks."""
    for _ in range(20):
        watch.kernel.fork(watch.kernel.job)
    *readers, stuck = children(watch)
    turns = (len(readers) + 1) // PART
    sleep(watch, stuck)
    told = []
    for _ in range(20):
        sleep(watch, *readers)
        asked.clear()
        told.append(watch.look())
        assert len(asked) <= 2 * turns
    found = [seconds for seconds in told if seconds]
    assert len(found) >= len(told) - 2 - 2 * PART
    assert found == [found[0] + more for more in range(len(found))]
    assert asked == [stuck]


def test_one_that_is_in_two_trees_is_asked_once_a_look(watch: Watch, asked: list[int]) -> None:
    """And both tell it."""
    child = children(watch)[0]
    part = watch.forest.plant(child)
    sleep(watch, child)
    told = [(watch.look(), part.uninterruptible()) for _ in range(5)]
    assert told == [(0, 0), (0, 0), (1, 1), (2, 2), (3, 3)]
    assert asked == [child] * 4


# What cannot be read.


def test_a_look_that_does_not_see_everybody_tells_nothing_and_ends_no_sleep(watch: Watch) -> None:
    """The next one has the whole time."""
    child, other, _ = children(watch)
    sleep(watch, child)
    assert [watch.look() for _ in range(3)] == [0, 0, 1]
    watch.kernel.show()
    (watch.kernel.root / str(other) / "stat").write_bytes(b"")
    watch.clock.advance(1)
    watch.forest.look()
    assert watch.tree.uninterruptible() is None
    assert watch.look() == 3


@pytest.mark.parametrize("status", [b"", b"Name:\tpython3\n"])
def test_switches_that_make_no_sense_are_no_zero(watch: Watch, status: bytes) -> None:
    """Nothing is told of whether it is stuck, at this look; its time is known again with them."""
    child = children(watch)[0]
    sleep(watch, child)
    assert [watch.look() for _ in range(3)] == [0, 0, 1]
    (watch.kernel.root / str(child) / "status").write_bytes(status)
    watch.clock.advance(1)
    watch.forest.look()
    with pytest.raises(ValueError, match="voluntary"):
        watch.tree.uninterruptible()
    assert watch.look() == 3


def test_a_reading_that_is_lost_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a descriptor left, the rest is told."""
    kernel = Kernel(tmp_path)
    kernel.processes[kernel.job].state = "D"
    kernel.show()
    clock = ManualClock()
    source = TreeSource(clock.monotonic, proc=str(tmp_path), root=kernel.job)
    source.open()
    read = KernelFile.read

    def refused(file: KernelFile) -> bytes:
        if file.path.endswith("status"):
            raise OSError(errno.EMFILE, "no descriptor is left")
        return read(file)

    told = []
    for look in range(5):
        with monkeypatch.context() as patched:
            if look == 3:
                patched.setattr(KernelFile, "read", refused)
            batch = source.read()
        told.append([reading for reading in batch.readings if reading.metric is rows.UNINTERRUPTIBLE_TIME])
        assert batch.lost == ({"OSError": 1} if look == 3 else {})
        clock.advance(1)
    assert [[reading.value for reading in readings] for readings in told] == [[0], [0], [1], [], [3]]
    source.close()


def test_elsewhere_than_on_linux_it_is_not_told() -> None:
    """The state is Linux's own, and so it is with the ends of others' children."""
    with pytest.raises(Unsupported):
        LibraryTree().uninterruptible()
    source = TreeSource(proc=None)
    source.open()
    batch = source.read()
    assert batch.lost == {}
    assert {rows.UNINTERRUPTIBLE_TIME, rows.CHILDREN_FAILED}.isdisjoint(reading.metric for reading in batch.readings)
