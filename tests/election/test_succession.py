# SPDX-License-Identifier: Apache-2.0
"""Where counters stand is read as it was left, by whoever comes next, whatever happened to who left it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_hwmetrics.catalog import gpu, system
from otel_hwmetrics.election.succession import Books, Entry, Ledger, key, left_by
from otel_hwmetrics.folders import Folder
from otel_hwmetrics.model import Series

USER = Series(system.CPU_TIME, {system.CPU_MODE: "user"})
ENERGY = Series(gpu.ENERGY, {gpu.HW_ID: "GPU-é", gpu.GPU_INDEX: 0})
SERIES = {"user": USER, "energy": ENERGY}


@dataclass
class Moving:
    """A counter, all of whose numbers are one."""

    raw: float
    total: float = field(init=False)
    at: float = field(init=False)

    def __post_init__(self) -> None:
        self.total = self.at = self.raw


@pytest.fixture
def folders(tmp_path: Path) -> list[Folder]:
    """Two folders; a successor may share any."""
    return [Folder(str(tmp_path / name), alone=True) for name in ("a", "b")]


def leave(books: Books, **stands: Entry) -> None:
    """Leave where counters stand, as a holder does at each look."""
    books.of([(SERIES[name], entry) for name, entry in stands.items()])
    books.keep()


def test_what_is_left_is_found(folders: list[Folder]) -> None:
    """In either folder, at its last state; series that came later, too."""
    books = Books(folders, "node.totals", Ledger())
    leave(books, user=Entry(10.0, 1.0, 100.0))
    leave(books, user=Entry(11.0, 2.0, 101.0))
    leave(books, user=Entry(12.0, 3.0, 102.0), energy=Entry(0.5, 0.25, 102.5))
    left = {key(USER): Entry(12.0, 3.0, 102.0), key(ENERGY): Entry(0.5, 0.25, 102.5)}
    assert left_by(folders, "node.totals") == left
    assert left_by(folders[1:], "node.totals") == left
    books.close()


def test_a_look_writes_over_what_the_last_one_left(folders: list[Folder]) -> None:
    """The names are not written again, and nothing is renamed: it happens every second."""
    count = Moving(10.0)
    books = Books(folders, "node.totals", Ledger())
    books.of([(USER, count)])
    books.keep()
    inode = os.stat(folders[0] / "node.totals").st_ino
    count.raw = count.total = count.at = 11.0
    books.keep()
    assert left_by(folders, "node.totals") == {key(USER): Entry(11.0, 11.0, 11.0)}
    assert os.stat(folders[0] / "node.totals").st_ino == inode
    books.close()


def test_nothing_is_found_where_nothing_was_left(folders: list[Folder]) -> None:
    """No folder, no file."""
    assert left_by([], "node.totals") == {}
    assert left_by(folders, "node.totals") == {}


@given(content=st.binary(max_size=200) | st.binary(max_size=99).map(lambda tail: b"hwtotal1" + tail))
def test_what_is_no_such_file_is_nothing(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Cut off, of another version, garbage: a successor begins anew, and nothing fails."""
    folder = Folder(str(tmp_path_factory.mktemp("folders") / "own"), alone=True)
    folder.make()
    Path(folder / "node.totals").write_bytes(content)
    assert left_by([folder], "node.totals") == {}


def test_a_disk_that_is_full_costs_only_the_succession(folders: list[Folder], monkeypatch: pytest.MonkeyPatch) -> None:
    """The holder goes on."""

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    count = Moving(10.0)
    books = Books(folders, "node.totals", Ledger())
    books.of([(USER, count)])
    books.keep()
    monkeypatch.setattr("os.pwrite", full)
    count.raw = 11.0
    books.keep()
    assert left_by(folders, "node.totals") == {key(USER): Entry(10.0, 10.0, 10.0)}
    books.close()


def test_entries_lie_where_no_page_ends_in_the_middle_of_one(folders: list[Folder]) -> None:
    """So a holder that is killed as it writes leaves of each series the last state or the one before."""
    for count in range(1, 40):
        books = Books(folders, f"{count}.totals", Ledger())
        books.of([(Series(system.CPU_TIME, {system.CPU_MODE: "u" * count}), Moving(1.0))])
        books.keep()
        assert books._offset % 32 == 0
        books.close()
