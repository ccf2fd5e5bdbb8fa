# SPDX-License-Identifier: Apache-2.0
"""How descendants have ended: each that was seen dead is counted once, by its cause, and nobody else is."""

from __future__ import annotations

import errno
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_hwmetrics.catalog import tree as rows
from otel_hwmetrics.sources.linux.files import KernelFile
from otel_hwmetrics.sources.linux.proc_pid import parse_exit_code, parse_start_code
from otel_hwmetrics.sources.tree import TreeSource
from otel_hwmetrics.sources.tree.ends import cause_of
from otel_hwmetrics.sources.tree.forest import Tree

from .scripted import CHANCES, INIT, KERNELS, THOROUGH, Kernel, Story, planted

CORE = 0x80


def failed(tree: Tree) -> dict[str, int]:
    """What is told, without the causes that there are none of."""
    assert tree.census.failed is not None
    assert set(tree.census.failed) == set(rows.EXIT_CAUSES)
    return {cause: count for cause, count in tree.census.failed.items() if count}


CAUSES: dict[str, list[int]] = {
    "killed": [signal.SIGKILL],
    "crashed": [
        *(signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGABRT | CORE, signal.SIGILL, signal.SIGFPE),
        *(signal.SIGSYS, signal.SIGTRAP, signal.SIGXCPU, signal.SIGXFSZ),
    ],
    "terminated": [
        *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT | CORE),
        *(signal.SIGPIPE, signal.SIGUSR1, 34, 64),
    ],
    "status": [1 << 8, 3 << 8, 137 << 8, 255 << 8],
}


@pytest.mark.parametrize(("code", "cause"), [(code, cause) for cause, codes in CAUSES.items() for code in codes])
def test_each_end_has_its_cause(kernel: Kernel, code: int, cause: str) -> None:
    """The OOM killer's signal, those of a fault, those that people send, and a status; a good end is none."""
    well, ill = kernel.fork(kernel.job), kernel.fork(kernel.job)
    forest, tree = planted(kernel)
    forest.look()
    assert failed(tree) == {}
    kernel.exit(well)
    kernel.exit(ill, code)
    kernel.show()
    forest.look()
    assert failed(tree) == {cause: 1}


def test_one_that_is_dead_is_counted_once_however_long_it_stays(kernel: Kernel) -> None:
    """While nobody waits for it, when somebody does, and ever after."""
    child = kernel.fork(kernel.job)
    forest, tree = planted(kernel)
    kernel.exit(child, signal.SIGKILL)
    for wait in (False, False, True, False):
        if wait:
            kernel.wait(child)
        kernel.show()
        forest.look()
        assert failed(tree) == {"killed": 1}
    assert (tree.census.started, tree.census.ended) == (1, 1)


def test_those_who_were_dead_when_we_came_are_counted(kernel: Kernel) -> None:
    """They died since the job began, which is where the counter does."""
    for code in (signal.SIGKILL, signal.SIGKILL, 3 << 8, 0):
        kernel.exit(kernel.fork(kernel.job), code)
    forest, tree = planted(kernel)
    forest.look()
    assert failed(tree) == {"killed": 2, "status": 1}


def test_one_that_nobody_saw_dead_is_not_counted(kernel: Kernel) -> None:
    """Its parent waited for it between two looks, or does not care at all, or a stranger adopted it and waited."""
    waited, brief, parent = (kernel.fork(kernel.job) for _ in range(3))
    orphan = kernel.fork(parent)
    forest, tree = planted(kernel)
    forest.look()
    kernel.exit(waited, signal.SIGKILL)
    kernel.wait(waited)
    kernel.exit(parent)
    kernel.exit(orphan, signal.SIGKILL)
    kernel.processes[kernel.job].reaps = False
    kernel.exit(brief, signal.SIGKILL)
    kernel.show()
    forest.look()
    assert failed(tree) == {}
    assert tree.census.ended == 3


def test_in_each_tree_the_descendants_count_and_its_root_does_not(kernel: Kernel) -> None:
    """A process in several trees counts once in each that it is a descendant in."""
    inner = kernel.fork(kernel.job)
    child = kernel.fork(inner)
    forest, whole = planted(kernel)
    part = forest.plant(inner)
    forest.look()
    kernel.exit(child, signal.SIGKILL)
    kernel.show()
    forest.look()
    assert (failed(whole), failed(part)) == ({"killed": 1}, {"killed": 1})
    kernel.exit(inner, signal.SIGSEGV)
    kernel.show()
    forest.look()
    assert (failed(whole), failed(part)) == ({"killed": 1, "crashed": 1}, {"killed": 1})
    kernel.wait(inner)
    kernel.show()
    forest.look()
    assert (failed(whole), failed(part)) == ({"killed": 1, "crashed": 1}, {"killed": 1})


def test_a_number_that_is_given_again_at_once_is_another_child(kernel: Kernel) -> None:
    """One dies, is waited for, and its number given to another that dies, all between two looks: both count, once each."""
    child = kernel.fork(kernel.job)
    kernel.fork(INIT)
    forest, tree = planted(kernel)
    kernel.exit(child, signal.SIGKILL)
    kernel.show()
    forest.look()
    kernel.wait(child)
    kernel.give_next(child)
    assert kernel.fork(kernel.job) == child
    kernel.exit(child, signal.SIGSEGV)
    kernel.show()
    for _ in range(3):  # the other one is met when the first is let go of
        forest.look()
        assert failed(tree)["killed"] == 1
    assert failed(tree) == {"killed": 1, "crashed": 1}
    assert (tree.census.started, tree.census.ended) == (2, 1)


def test_a_number_that_is_given_to_a_stranger_says_nothing_of_the_child(kernel: Kernel) -> None:
    """How the stranger ends is not how the child did."""
    child = kernel.fork(kernel.job)
    forest, tree = planted(kernel)
    forest.look()
    kernel.exit(child)
    kernel.wait(child)
    kernel.give_next(child)
    stranger = kernel.fork(kernel.fork(INIT))
    assert child in kernel.processes
    kernel.exit(stranger, signal.SIGKILL)
    kernel.show()
    for _ in range(2):
        forest.look()
        assert failed(tree) == {}


def test_a_look_that_changes_nothing_loses_nobody(kernel: Kernel) -> None:
    """While one member cannot be read, those who die are counted, and once: also one that is waited for meanwhile."""
    unread, early, late = (kernel.fork(kernel.job) for _ in range(3))
    forest, tree = planted(kernel)
    forest.look()
    kernel.exit(early, signal.SIGKILL)
    kernel.show()
    forest.look()
    for deed in ("wait", "exit"):
        if deed == "wait":
            kernel.wait(early)
        else:
            kernel.exit(late, 3 << 8)
        kernel.show()
        (kernel.root / str(unread) / "stat").write_bytes(b"")
        forest.look()
        assert sum(forest.unreadable.values()) == 1
    assert failed(tree) == {"killed": 1, "status": 1}
    kernel.show()
    forest.look()
    assert failed(tree) == {"killed": 1, "status": 1}
    assert (tree.census.started, tree.census.ended) == (3, 1)


def test_one_whose_main_thread_has_ended_is_not_dead(kernel: Kernel) -> None:
    """Its other threads go on; what is shown is the main thread's status, and the process's own may be another."""
    pid = kernel.fork(kernel.job)
    process = kernel.processes[pid]
    forest, tree = planted(kernel)
    process.state, process.threads, process.exit_code = "Z", 2, 5 << 8
    kernel.show()
    forest.look()
    assert failed(tree) == {}
    process.threads = 1
    kernel.exit(pid, signal.SIGSEGV)
    kernel.show()
    forest.look()
    assert failed(tree) == {"crashed": 1}


# What is not told.


def test_an_end_that_is_hidden_is_no_good_end(kernel: Kernel) -> None:
    """The kernel shows a 0 to who may not trace: of one that was such when it lived it is told that nothing is known."""
    hidden, shown = kernel.fork(kernel.job), kernel.fork(kernel.job)
    kernel.processes[hidden].traceable = False
    forest, tree = planted(kernel)
    forest.look()
    assert tree.census.untold == 0
    kernel.exit(hidden, signal.SIGKILL)
    kernel.exit(shown)
    for wait in (False, False, True, False):
        if wait:
            kernel.wait(hidden)
        kernel.show()
        forest.look()
        assert (failed(tree), tree.census.untold) == ({}, 1)


def test_a_zombie_whose_io_is_shown_would_show_its_end(kernel: Kernel) -> None:
    """It takes the same permission; so one that became ours, as by a change of user, has ended well."""
    child = kernel.fork(kernel.job)
    kernel.processes[child].traceable = False
    forest, tree = planted(kernel)
    forest.look()
    kernel.processes[child].traceable = True
    kernel.exit(child)
    kernel.show()
    forest.look()
    assert (failed(tree), tree.census.untold) == ({}, 0)


def test_an_end_that_is_shown_late_is_told(kernel: Kernel) -> None:
    """The kernel reads the code before the state: a 0 may be from before the end, and is not taken for the last word."""
    child = kernel.fork(kernel.job)
    forest, tree = planted(kernel)
    kernel.exit(child)
    kernel.show()
    forest.look()
    kernel.processes[child].exit_code = signal.SIGKILL
    kernel.show()
    forest.look()
    assert failed(tree) == {"killed": 1}


@pytest.mark.parametrize("start_code", [0, 1])
def test_where_not_even_the_root_s_own_is_told_there_is_no_figure(tmp_path: Path, start_code: int) -> None:
    """The kernel gVisor keeps no such thing, and of another user's tree nothing is shown: no 0 is told then, once and for all."""
    kernel = Kernel(tmp_path)
    kernel.exit(kernel.fork(kernel.job))
    kernel.show()
    stat = tmp_path / str(kernel.job) / "stat"
    stat.write_text(stat.read_text().replace(" 4096 4096 ", f" {start_code} {start_code} "))
    source = TreeSource(lambda: 0.0, proc=str(tmp_path), root=kernel.job)
    source.open()
    for _ in range(2):
        batch = source.read()
        told = {reading.metric for reading in batch.readings}
        assert rows.CHILDREN_FAILED not in told
        assert rows.CHILDREN_ENDED in told
        assert batch.lost == {}
    source.close()


def test_ends_that_are_hidden_are_lost_readings_once_each(tmp_path: Path) -> None:
    """The others are told at every look, every cause from the first one on, so that growth from 0 is seen."""
    kernel = Kernel(tmp_path)
    children = [kernel.fork(kernel.job) for _ in range(3)]
    for child in children[:2]:
        kernel.processes[child].traceable = False
    kernel.show()
    source = TreeSource(lambda: 0.0, proc=str(tmp_path), root=kernel.job)
    source.open()
    for ends, lost, count in ((0, {}, 0), (2, {"PermissionError": 2}, 0), (2, {}, 0), (3, {}, 1), (3, {}, 1)):
        for child in children[:ends]:
            if kernel.processes[child].state != "Z":
                kernel.exit(child, signal.SIGKILL)
        kernel.show()
        batch = source.read()
        told = {
            reading.attributes[rows.EXIT_CAUSE]: reading.value
            for reading in batch.readings
            if reading.metric is rows.CHILDREN_FAILED
        }
        assert told == {"killed": count, "crashed": 0, "terminated": 0, "status": 0}
        assert batch.lost == lost
    source.close()


def test_a_stat_without_the_field_is_no_fault(kernel: Kernel) -> None:
    """Before Linux 3.5."""
    child = kernel.fork(kernel.job)
    forest, tree = planted(kernel)
    kernel.exit(child, signal.SIGKILL)
    kernel.show()
    stat = kernel.root / str(child) / "stat"
    content = stat.read_bytes()
    assert (parse_start_code(content), parse_exit_code(content)) == (0, 9)
    stat.write_bytes(content.rsplit(b" ", 1)[0] + b"\n")
    forest.look()
    assert failed(tree) == {}
    assert tree.census.states["defunct"] == 1


# Whatever happens, whenever.


def causes(story: Story, started: set[int]) -> Counter[str]:
    """The causes by which some of those who have ended did."""
    found = (cause_of(process.exit_code) for begun, process in story.ended.items() if begun in started)
    return Counter(cause for cause in found if cause is not None)


def at_most(ones: dict[str, int], others: dict[str, int]) -> bool:
    """Whether no cause has more than in the others."""
    return all(count <= others.get(cause, 0) for cause, count in ones.items())


@THOROUGH
@given(chance=CHANCES, kinds=KERNELS)
def test_whoever_is_dead_at_a_look_is_counted_then(
    folders: Callable[[], Path], chance: Random, kinds: dict[str, bool]
) -> None:
    """In a tidy job, at each look: those who were dead at it or at one before, by cause, and nobody twice."""
    story = Story(Kernel(folders(), **kinds), chance, tidy=True)
    forest, tree = planted(story.kernel)
    seen: set[int] = set()
    for _ in range(6):
        story.some()
        forest.look()
        seen |= {process.started for process in story.kernel.processes.values() if process.state == "Z"}
        assert failed(tree) == causes(story, seen)


@THOROUGH
@given(chance=CHANCES, kinds=KERNELS, troubles=st.sampled_from([0.0, 0.1]))
def test_whatever_happens_the_counter_neither_falls_nor_counts_twice(
    folders: Callable[[], Path], chance: Random, kinds: dict[str, bool], troubles: float
) -> None:
    """Orphans, numbers that are given again, deaths and births during a look, looks that find us without a descriptor.

    In the tree of the job and in one within it alike: never less than before, never more than have ended so.
    """
    story = Story(Kernel(folders(), **kinds), chance, tidy=False, reuse=0.5)
    inner = story.kernel.fork(story.kernel.job)
    forest, whole = planted(story.kernel)
    trees = [whole, forest.plant(inner)]
    before: list[dict[str, int]] = [{}, {}]
    read = KernelFile.read

    def interrupted(file: KernelFile) -> bytes:
        if chance.random() < 0.2:
            story.some(4)
        if chance.random() < troubles:
            raise OSError(errno.EMFILE, "no descriptor is left")
        return read(file)

    for _ in range(6):
        story.some()
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(KernelFile, "read", interrupted)
            forest.look()
        for place, tree in enumerate(trees):
            now = failed(tree)
            assert at_most(before[place], now)
            assert at_most(now, causes(story, set(story.ended)))
            before[place] = now
        assert at_most(before[1], before[0])
