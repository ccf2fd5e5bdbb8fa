# SPDX-License-Identifier: Apache-2.0
"""Trees over a kernel whose books are known: nothing is counted twice, nothing that was seen is lost."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_hwmetrics.sources.base import Unsupported
from otel_hwmetrics.sources.linux.files import KernelFile, own_reads
from otel_hwmetrics.sources.linux.proc_pid import Rollup
from otel_hwmetrics.sources.tree.census import SharedMemory
from otel_hwmetrics.sources.tree.forest import Forest, Tree

from .scripted import CHANCES, INIT, KERNELS, THOROUGH, Kernel, Story, planted

TICK, PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")


def total(tree: Tree) -> list[float]:
    """What the tree has used, in the kernel's own figures and order."""
    census = tree.census
    assert census.user is not None
    assert census.system is not None
    assert census.minor is not None
    assert census.major is not None
    assert census.traffic is not None
    io = [figure for figure in census.traffic if figure is not None]
    assert len(io) == 6
    return [round(census.user * TICK), round(census.system * TICK), census.minor, census.major, *io]


def test_the_sum_stays_when_a_child_is_waited_for(kernel: Kernel) -> None:
    """Living, ended and waited for: its figures count once in each of these states."""
    child = kernel.fork(kernel.job)
    forest, tree = planted(kernel)
    steps: list[Callable[[], None]] = [
        lambda: kernel.burn(child, 0, 500),
        lambda: kernel.burn(child, 8, 4096),
        lambda: kernel.exit(child),
        lambda: kernel.wait(child),
        lambda: kernel.burn(kernel.job, 0, 7),
    ]
    for step in steps:
        step()
        kernel.show()
        forest.look()
        assert total(tree) == kernel.spent


def test_children_that_came_and_went_between_two_looks_are_in_the_sum(kernel: Kernel) -> None:
    """Eight of them, with children of their own, without having been met."""
    forest, tree = planted(kernel)
    forest.look()
    for _ in range(8):
        child = kernel.fork(kernel.job)
        grandchild = kernel.fork(child)
        for kind in range(10):
            kernel.burn(grandchild, kind, 11)
        kernel.exit(grandchild)
        kernel.wait(grandchild)
        kernel.exit(child)
        kernel.wait(child)
    kernel.show()
    forest.look()
    assert total(tree) == kernel.spent
    assert (tree.census.started, tree.census.ended) == (0, 0)


def test_what_nobody_waits_for_is_kept_as_last_seen(kernel: Kernel) -> None:
    """A parent that ignores SIGCHLD gets nothing of its children; what they had at the last look stays in the sum."""
    kernel.processes[kernel.job].reaps = False
    child = kernel.fork(kernel.job)
    forest, tree = planted(kernel)
    for kind in range(10):
        kernel.burn(child, kind, 1000)
    kernel.show()
    forest.look()
    kernel.exit(child)
    kernel.burn(kernel.job, 8, 10_000)  # its own traffic is not taken for the child's
    kernel.show()
    forest.look()
    assert total(tree) == kernel.spent
    assert (tree.census.started, tree.census.ended) == (1, 1)


def test_an_orphan_stays_in_the_tree(kernel: Kernel) -> None:
    """Its parent ends and a stranger adopts it: it is counted on, and what it had when the stranger waited for it stays."""
    child = kernel.fork(kernel.job)
    orphan = kernel.fork(child)
    forest, tree = planted(kernel)
    forest.look()
    kernel.exit(child)
    kernel.wait(child)
    kernel.show()
    forest.look()
    assert kernel.processes[orphan].parent == INIT
    kernel.burn(orphan, 0, 300)
    kernel.burn(orphan, 9, 300)
    kernel.show()
    forest.look()
    assert total(tree) == kernel.spent
    assert tree.census.threads == 2
    kernel.exit(orphan)
    kernel.show()
    forest.look()
    assert total(tree) == kernel.spent
    assert (tree.census.threads, tree.census.ended) == (1, 2)


def test_an_orphan_that_the_root_adopts_is_counted_once(kernel: Kernel) -> None:
    """A subreaper waits for its grandchildren, and has their figures then."""
    kernel.processes[kernel.job].reaper = True
    child = kernel.fork(kernel.job)
    orphan = kernel.fork(child)
    forest, tree = planted(kernel)
    forest.look()
    kernel.burn(orphan, 0, 300)
    kernel.exit(child)
    kernel.wait(child)
    kernel.show()
    forest.look()
    kernel.burn(orphan, 0, 300)
    kernel.exit(orphan)
    kernel.wait(orphan)
    kernel.show()
    forest.look()
    assert total(tree) == kernel.spent


def test_a_member_s_number_given_to_a_stranger_is_no_member(kernel: Kernel) -> None:
    """When it began tells them apart."""
    child = kernel.fork(kernel.job)
    forest, tree = planted(kernel)
    kernel.burn(child, 0, 50)
    kernel.show()
    forest.look()
    assert list(tree.members) == [kernel.job, child]
    kernel.exit(child)
    kernel.wait(child)
    kernel.give_next(child)
    kernel.burn(kernel.fork(INIT), 0, 5000)
    kernel.show()
    forest.look()
    assert list(tree.members) == [kernel.job]
    assert total(tree) == kernel.spent


def test_a_stranger_s_number_given_to_a_child_is_a_member(kernel: Kernel) -> None:
    """Also where all processes are listed, and strangers that were met are not read again."""
    stranger = kernel.fork(INIT)
    kernel.fork(INIT)
    forest, tree = planted(kernel)
    for _ in range(3):
        forest.look()
    kernel.exit(stranger)
    kernel.give_next(stranger)
    assert kernel.fork(kernel.job) == stranger
    kernel.show()
    forest.look()
    assert list(tree.members) == [kernel.job, stranger]
    assert total(tree) == kernel.spent


def test_states_threads_and_memory_are_those_of_the_living(kernel: Kernel) -> None:
    """Each process is in one state: what waits for a disk is told apart from what sleeps, and a dead one is no memory."""
    forest, tree = planted(kernel)
    for state in "RDTtZIS":
        child = kernel.processes[kernel.fork(kernel.job)]
        child.state, child.threads, child.pages = state, 3, 0 if state == "Z" else 10
    kernel.show()
    forest.look()
    assert tree.census.states == {"running": 1, "sleeping": 3, "uninterruptible": 1, "stopped": 2, "defunct": 1}
    assert tree.census.threads == 1 + 7 * 3
    assert tree.census.resident == (100 + 6 * 10) * PAGE


def test_memory_by_pages_is_not_asked_while_somebody_waits_for_a_disk(kernel: Kernel) -> None:
    """Who does may hold its memory map for as long; and who is dead has none."""
    child = kernel.processes[kernel.fork(kernel.job)]
    forest, tree = planted(kernel)
    forest.look()
    assert tree.shared_memory() == SharedMemory(2 * 200 * 1024, Rollup(200 * 1024, 0))
    for state, expected in (("D", None), ("Z", SharedMemory(200 * 1024, Rollup(200 * 1024, 0)))):
        child.state = state
        kernel.show()
        forest.look()
        assert tree.shared_memory() == expected


def test_memory_by_pages_of_the_root_is_known_when_a_child_s_is_not(kernel: Kernel) -> None:
    """A child that is another user's hides the sum, not its parent's share; without the root's own there is nothing."""
    child = kernel.fork(kernel.job)
    forest, tree = planted(kernel)
    forest.look()
    for pid in (child, kernel.job):
        rollup = kernel.root / str(pid) / "smaps_rollup"
        rollup.unlink()
        rollup.mkdir()
        if pid == child:
            memory = tree.shared_memory()
            assert memory is not None
            assert (memory.total, memory.root) == (None, Rollup(200 * 1024, 0))
            assert isinstance(memory.failure, IsADirectoryError)
    with pytest.raises(IsADirectoryError):
        tree.shared_memory()


def test_what_we_read_of_the_kernel_s_files_is_no_reading_of_the_job(tmp_path: Path) -> None:
    """In its bytes and calls; what else the root reads is, and neither figure falls nor rises without the other."""
    kernel = Kernel(tmp_path)
    kernel.burn(kernel.job, 4, 10**9)
    kernel.burn(kernel.job, 6, 10**6)
    kernel.show()
    booked = own_reads()
    forest = Forest(str(kernel.root), lambda: 0.0)
    tree = forest.plant(kernel.job, ourselves=True)
    other = KernelFile(str(tmp_path / str(kernel.job) / "status"))

    def look() -> tuple[int, int]:
        """What is told of a job whose kernel counts our reads, too, but a look late."""
        nonlocal booked
        forest.look()
        before, after = booked, own_reads()
        booked = after
        kernel.burn(kernel.job, 4, after.bytes - before.bytes)
        kernel.burn(kernel.job, 6, after.calls - before.calls)
        kernel.show()
        traffic = tree.census.traffic
        assert traffic is not None
        assert traffic.read is not None
        return traffic.read, traffic.reads

    look()
    first = look()
    assert [look() for _ in range(5)] == [first] * 5  # idle
    kernel.burn(kernel.job, 4, 5000)
    kernel.burn(kernel.job, 6, 2)
    kernel.show()
    second = look()
    assert second == (first[0] + 5000, first[1] + 2)
    for _ in range(9):  # not in the kernel's books yet: we would seem to have read more than there was
        other.read()
    assert [look() for _ in range(2)] == [second] * 2
    other.close()
    forest.close()


def test_memory_by_pages_is_unsupported_where_the_kernel_has_no_such_file(kernel: Kernel) -> None:
    """Before Linux 4.14."""
    _, tree = planted(kernel)
    (kernel.root / str(kernel.job) / "smaps_rollup").unlink()
    with pytest.raises(Unsupported):
        tree.shared_memory()


def test_context_switches_of_the_dead_stay_as_last_seen(kernel: Kernel) -> None:
    """So that the sum never falls."""
    child = kernel.fork(kernel.job)
    kernel.burn(child, 1, 40)
    forest, tree = planted(kernel)
    forest.look()
    assert tree.context_switches() == (40, 0)
    kernel.exit(child)
    kernel.wait(child)
    kernel.show()
    forest.look()
    assert tree.context_switches() == (40, 0)


# Several trees.


def test_trees_share_a_look(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three trees, one within another: each process's file is read once a look, whoever's it is."""
    other = kernel.fork(INIT)
    kernel.fork(other)
    inner = kernel.fork(kernel.job)
    kernel.fork(inner)
    forest, tree = planted(kernel, inner)
    trees = [tree, forest.plant(kernel.job), forest.plant(other)]
    forest.look()
    assert [sorted(tree.members) for tree in trees] == [
        [inner, inner + 1],
        [kernel.job, inner, inner + 1],
        [other, other + 1],
    ]
    reads: list[str] = []
    read = KernelFile.read

    def noted(file: KernelFile) -> bytes:
        reads.append(file.path)
        return read(file)

    monkeypatch.setattr(KernelFile, "read", noted)
    forest.look()
    # Where all processes are listed, a stranger may be asked again whether its number is another's by now.
    stats = [path for path in reads if path.endswith("/stat") and Path(path).parent.name != str(INIT)]
    assert len(stats) == len(set(stats)) == 5
    assert total(trees[1]) == kernel.spent


def test_a_tree_whose_root_ended_goes_on_with_whom_it_left(kernel: Kernel) -> None:
    """What it used stays what it was, and when the last one is gone it is over."""
    root = kernel.fork(kernel.job)
    orphan = kernel.fork(root)
    forest, whole = planted(kernel)
    part = forest.plant(root)
    forest.look()
    kernel.burn(orphan, 0, 100)
    kernel.show()
    forest.look()
    used = total(part)
    kernel.exit(root)
    kernel.wait(root)
    kernel.show()
    forest.look()
    assert (total(part), part.over, list(part.members)) == (used, False, [orphan])
    kernel.exit(orphan)
    kernel.show()
    forest.look()
    assert (total(part), part.over) == (used, True)
    assert total(whole) == kernel.spent


def test_a_tree_that_is_uprooted_is_read_no_more(kernel: Kernel) -> None:
    """But for those who belong to another one, too."""
    child = kernel.fork(kernel.job)
    forest, whole = planted(kernel)
    part = forest.plant(child)
    forest.look()
    forest.uproot(whole)
    kernel.burn(child, 0, 5)
    kernel.fork(child)
    kernel.fork(kernel.job)
    kernel.show()
    used, before = total(part), total(whole)
    forest.look()
    assert sorted(part.members) == [child, child + 1]
    assert total(part) == [used[0] + 5, used[1], used[2] + 3, *used[3:]]
    assert total(whole) == before


def test_whoever_is_not_there_cannot_be_watched(kernel: Kernel) -> None:
    """And is told so at once."""
    forest, _ = planted(kernel)
    with pytest.raises(ProcessLookupError):
        forest.plant(4711)
    forest.look()


# What cannot be read.


def garble(path: Path, how: str) -> None:
    """Make a file absent, empty, cut short, garbage, too large a number, or a directory."""
    content = path.read_bytes()
    path.unlink()
    if how == "directory":
        path.mkdir()
    elif how != "absent":
        path.write_bytes({"empty": b"", "short": content[: len(content) // 2], "large": b"9" * 400}.get(how, b"\xff\n"))


HOWS = ["absent", "empty", "short", "garbage", "large", "directory"]


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("whose", ["root", "child"])
@pytest.mark.parametrize("name", ["statm", "io", "status", "task"])
def test_a_file_that_cannot_be_read_costs_its_own_figures(kernel: Kernel, name: str, whose: str, how: str) -> None:
    """The rest of the census is there, and when it can be read again, everything is."""
    child = kernel.fork(kernel.job)
    kernel.processes[kernel.job].reaps = False
    forest, tree = planted(kernel)
    forest.look()
    path = kernel.root / str(kernel.job if whose == "root" else child) / name
    if name == "task":
        shutil.rmtree(path)
        path.touch()
    garble(path, how)
    forest.look()
    census = tree.census
    assert census.user is not None
    assert (census.threads, sum(census.states.values())) == (2, 2)
    assert (census.resident is None) == (name == "statm")
    assert (census.traffic is None) == (name == "io" and whose == "root")
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    kernel.show()
    kernel.fork(kernel.job)
    kernel.show()
    forest.look()
    assert total(tree) == kernel.spent
    assert tree.census.resident is not None


@pytest.mark.parametrize("content", [b"", b"0.00 0.0", b"0.00 0.02 0.00 1/95 x\n", b"9" * 400, b"0 0 0 0/0 0\n"])
def test_without_the_newest_number_the_tree_is_walked(tmp_path: Path, content: bytes) -> None:
    """Children are met at the next look, whether loadavg fails from the beginning, later, or comes back."""
    kernel = Kernel(tmp_path)
    kernel.show()
    (tmp_path / "loadavg").write_bytes(content)
    forest = Forest(str(tmp_path), lambda: 0.0, descriptors=0)
    tree = forest.plant(kernel.job)
    for write in (False, False, True, True, False, True):
        child = kernel.fork(kernel.job)
        kernel.show()
        if not write:
            (tmp_path / "loadavg").write_bytes(content)
        forest.look()
        assert child in tree.members


@pytest.mark.parametrize("how", [how for how in HOWS if how != "absent"])
@pytest.mark.parametrize("whose", ["root", "child"])
def test_one_whose_stat_makes_no_sense_leaves_the_figures_out(kernel: Kernel, whose: str, how: str) -> None:
    """It is not known what it got of others, nor others of it; it is counted as unreadable, and the next look goes on."""
    child, other = kernel.fork(kernel.job), kernel.fork(kernel.job)
    forest, tree = planted(kernel)
    forest.look()
    kernel.burn(other, 0, 100)
    kernel.exit(other)
    kernel.wait(other)
    kernel.show()
    path = kernel.root / str(kernel.job if whose == "root" else child) / "stat"
    garble(path, how)
    forest.look()
    assert sum(forest.unreadable.values()) == 1
    census = tree.census
    assert (census.user, census.minor, census.traffic, census.resident, census.threads) == (None,) * 5
    assert (census.states, census.started) == ({}, 2)
    path.rmdir() if path.is_dir() else path.unlink()
    kernel.show()
    forest.look()
    assert total(tree) == kernel.spent
    assert (tree.census.started, tree.census.ended) == (2, 1)


# Whatever happens, whenever.


def at_most(ones: list[float], others: list[float]) -> bool:
    """Whether no figure is more than its counterpart."""
    return all(one <= other for one, other in zip(ones, others, strict=True))


@THOROUGH
@given(chance=CHANCES, kinds=KERNELS)
def test_in_a_tidy_job_the_sum_is_the_truth(
    folders: Callable[[], Path], chance: Random, kinds: dict[str, bool]
) -> None:
    """Where every child is waited for, each look gives to the last tick what the job has used."""
    story = Story(Kernel(folders(), **kinds), chance, tidy=True)
    forest, tree = planted(story.kernel)
    for _ in range(5):
        story.some()
        forest.look()
        assert total(tree) == story.kernel.spent
        # The living, and the dead whom nobody has waited for yet.
        assert set(tree.members) == story.kernel.ours


@THOROUGH
@given(chance=CHANCES, kinds=KERNELS)
def test_in_an_untidy_job_the_sum_neither_falls_nor_invents(
    folders: Callable[[], Path], chance: Random, kinds: dict[str, bool]
) -> None:
    """Orphans, and parents that ignore SIGCHLD: never less than before, never more than was used."""
    story = Story(Kernel(folders(), **kinds), chance, tidy=False)
    forest, tree = planted(story.kernel)
    before = [0.0] * 10
    for _ in range(6):
        story.some()
        forest.look()
        now = total(tree)
        assert at_most(before, now)
        assert at_most(now, [float(figure) for figure in story.kernel.spent])
        before = now


@THOROUGH
@given(chance=CHANCES, kinds=KERNELS, troubles=st.sampled_from([0.0, 0.1]))
def test_what_happens_during_a_look_is_counted_once(
    folders: Callable[[], Path], chance: Random, kinds: dict[str, bool], troubles: float
) -> None:
    """Between any two reads anybody may fork, end and be waited for, and any read may find us without a descriptor.

    No figure falls, none is more than was used, and the next quiet look has the truth.
    """
    story = Story(Kernel(folders(), **kinds), chance, tidy=True)
    forest, tree = planted(story.kernel)
    before = [0.0] * 10
    read = KernelFile.read

    def interrupted(file: KernelFile) -> bytes:
        if chance.random() < 0.3:
            story.some(4)
        if chance.random() < troubles:
            raise OSError(errno.EMFILE, "no descriptor is left")
        return read(file)

    for _ in range(4):
        story.some()
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(KernelFile, "read", interrupted)
            forest.look()
        if tree.census.user is None or tree.census.traffic is None:  # the root could not be read
            continue
        now = total(tree)
        assert at_most(before, now)
        assert at_most(now, [float(figure) for figure in story.kernel.spent])
        before = now
    for _ in range(2):  # one that was born during the last look may be asked for once more
        forest.look()
    assert total(tree) == story.kernel.spent
