# SPDX-License-Identifier: Apache-2.0
"""Whoever is born is met, in whichever way the kernel tells of it, and at no more than the way's cost."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

import pytest

from otel_hwmetrics.sources.tree import births as births_module
from otel_hwmetrics.sources.tree.births import FEW, WALK_EVERY, Birth, Births
from otel_hwmetrics.sources.tree.member import read_once
from otel_hwmetrics.testing import ManualClock

from .scripted import INIT, Kernel


def noted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Takes note of the files that are read once and of the folders that are listed."""
    touched: list[str] = []
    read, listed = read_once, os.listdir

    def reading(path: str, *, records: bool = False) -> bytes:
        touched.append(path)
        return read(path, records=records)

    def listing(path: str) -> list[str]:
        touched.append(path)
        return listed(path)

    monkeypatch.setattr(births_module, "read_once", reading)
    monkeypatch.setattr(os, "listdir", listing)
    return touched


def look(births: Births, members: Collection[int]) -> list[int]:
    """The numbers of those who were born."""
    return [birth.pid for birth in births.look(members)]


def test_nothing_is_touched_when_nobody_was_born(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever runs on the machine."""
    kernel = Kernel(tmp_path)
    for _ in range(50):
        kernel.fork(INIT)
    kernel.show()
    births = Births(str(tmp_path), lambda: 0.0)
    look(births, {kernel.job})
    touched = noted(monkeypatch)
    assert look(births, {kernel.job}) == []
    assert touched == []


def test_new_numbers_are_asked_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Children and grandchildren are met, parents first; strangers, threads and those that are gone are not."""
    kernel = Kernel(tmp_path)
    kernel.fork(INIT)
    kernel.show()
    births = Births(str(tmp_path), lambda: 0.0)
    look(births, {kernel.job})
    child = kernel.fork(kernel.job)
    grandchild = kernel.fork(child)
    stranger = kernel.fork(INIT)
    kernel.thread()
    brief = kernel.fork(kernel.job)
    kernel.exit(brief)
    kernel.wait(brief)
    kernel.show()
    touched = noted(monkeypatch)
    found = births.look({kernel.job})
    assert found == [Birth(child, kernel.job), Birth(grandchild, child)]
    numbers = [int(Path(path).parent.name) for path in touched]
    assert numbers == [child, grandchild, stranger, stranger + 1, brief]


def test_a_thread_s_number_is_no_process(tmp_path: Path) -> None:
    """The kernel has a directory for it, too, with the process's own parent in it."""
    kernel = Kernel(tmp_path)
    worker = kernel.fork(kernel.job)
    kernel.show()
    births = Births(str(tmp_path), lambda: 0.0)
    look(births, {kernel.job, worker})
    kernel.thread()
    kernel.show()
    (tmp_path / str(worker + 1)).mkdir()
    (tmp_path / str(worker + 1) / "status").write_text(
        f"Name:\ta\nTgid:\t{worker}\nPid:\t{worker + 1}\nPPid:\t{kernel.job}\n"
    )
    assert look(births, {kernel.job, worker}) == []


def test_a_number_that_was_given_but_not_to_be_seen_yet_is_asked_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel gives the number a moment before the process is there; later it is nobody's."""
    kernel = Kernel(tmp_path)
    kernel.show()
    births = Births(str(tmp_path), lambda: 0.0)
    look(births, {kernel.job})
    kernel.thread(2)
    kernel.show()
    assert look(births, {kernel.job}) == []
    kernel.give_next(kernel.job + 1)
    child = kernel.fork(kernel.job)
    kernel.thread()
    kernel.show()
    assert look(births, {kernel.job}) == [child]
    touched = noted(monkeypatch)
    assert look(births, {kernel.job, child}) == []
    assert touched == []


@pytest.mark.parametrize("children", [True, False])
def test_many_new_numbers_are_not_asked_one_by_one(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    children: bool,  # noqa: FBT001
) -> None:
    """The tree is walked, or where that cannot be, the machine is listed and the new ones are read."""
    kernel = Kernel(tmp_path, children=children)
    kernel.fork(INIT)
    kernel.show()
    births = Births(str(tmp_path), lambda: 0.0)
    look(births, {kernel.job})
    kernel.thread(FEW)
    child = kernel.fork(kernel.job)
    kernel.show()
    touched = noted(monkeypatch)
    assert look(births, {kernel.job}) == [child]
    assert len(touched) <= 4
    assert any("children" in path for path in touched) == children


def test_numbers_that_began_anew_are_met(tmp_path: Path) -> None:
    """After the largest number comes a low one."""
    kernel = Kernel(tmp_path, children=False)
    kernel.thread(30_000)
    kernel.fork(INIT)
    kernel.show()
    births = Births(str(tmp_path), lambda: 0.0)
    look(births, {kernel.job})
    kernel.give_next(350)
    child = kernel.fork(kernel.job)
    kernel.show()
    assert look(births, {kernel.job}) == [child]


@pytest.mark.parametrize("children", [True, False])
def test_who_was_adopted_is_met_at_the_next_walk(tmp_path: Path, children: bool) -> None:  # noqa: FBT001
    """Nobody was born, but a stranger's child became ours: once in a while nothing is trusted."""
    kernel = Kernel(tmp_path, children=children)
    stranger = kernel.fork(INIT)
    kernel.show()
    clock = ManualClock()
    births = Births(str(tmp_path), clock.monotonic)
    look(births, {kernel.job})
    kernel.processes[stranger].parent = kernel.job
    kernel.show()
    assert look(births, {kernel.job}) == []
    clock.advance(WALK_EVERY)
    assert look(births, {kernel.job}) == [stranger]


def test_strangers_are_not_read_again_but_a_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only the list of all processes tells, each look reads the new ones, and a few of the old ones in turn."""
    kernel = Kernel(tmp_path, children=False, loadavg=False)
    strangers = {kernel.fork(INIT) for _ in range(100)} | {INIT}
    kernel.show()
    births = Births(str(tmp_path), lambda: 0.0)
    look(births, {kernel.job})
    touched = noted(monkeypatch)
    reads = []
    for _ in range(7):
        touched.clear()
        assert look(births, {kernel.job}) == []
        reads.append({int(Path(path).parent.name) for path in touched if path.endswith("/stat")})
    assert max(map(len, reads)) <= 16
    assert set.union(*reads) == strangers


def test_somebody_else_s_loadavg_is_not_trusted(tmp_path: Path) -> None:
    """One whose /proc counts otherwise than we do (the host's in a container), or that is another file system's."""
    kernel = Kernel(tmp_path)
    kernel.show()
    (tmp_path / "self").unlink()
    (tmp_path / "self").symlink_to("1")
    births = Births(str(tmp_path), lambda: 0.0)
    look(births, {kernel.job})
    newest = (tmp_path / "loadavg").read_bytes()
    child = kernel.fork(kernel.job)
    kernel.show()
    (tmp_path / "loadavg").write_bytes(newest)
    assert look(births, {kernel.job}) == [child]


@pytest.mark.parametrize("name", ["status", "task", "stat"])
@pytest.mark.parametrize("how", ["absent", "empty", "garbage"])
@pytest.mark.parametrize("loadavg", [True, False])
@pytest.mark.parametrize("children", [True, False])
def test_one_that_cannot_be_read_hides_no_other(
    tmp_path: Path,
    name: str,
    how: str,
    loadavg: bool,  # noqa: FBT001
    children: bool,  # noqa: FBT001
) -> None:
    """It is left out, or met in another way; the others are met."""
    kernel = Kernel(tmp_path, children=children, loadavg=loadavg)
    kernel.show()
    births = Births(str(tmp_path), lambda: 0.0)
    look(births, {kernel.job})
    one, other = kernel.fork(kernel.job), kernel.fork(kernel.job)
    kernel.show()
    path = tmp_path / str(one) / name
    if path.is_dir():
        path = path / str(one) / "children"
    path.unlink(missing_ok=True)
    if how != "absent":
        path.write_bytes(b"" if how == "empty" else b"\xff(\n")
    found = look(births, {kernel.job})
    assert other in found
    assert set(found) <= {one, other}
