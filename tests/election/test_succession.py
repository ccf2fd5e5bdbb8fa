# SPDX-License-Identifier: Apache-2.0
"""Where counters stand is read as it was left, by whoever comes next, whatever happened to who left it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_hwmetrics.catalog import gpu, system
from otel_hwmetrics.election.succession import Entry, Will, key, left_by
from otel_hwmetrics.folders import Folder
from otel_hwmetrics.model import Series
from otel_hwmetrics.windows import Standing

USER = Series(system.CPU_TIME, {system.CPU_MODE: "user"})
SYSTEM = Series(system.CPU_TIME, {system.CPU_MODE: "system"})
ENERGY = Series(gpu.ENERGY, {gpu.HW_ID: "GPU-é", gpu.GPU_INDEX: 0})


@pytest.fixture
def folders(tmp_path: Path) -> list[Folder]:
    """Two folders; a successor may share any."""
    return [Folder(str(tmp_path / name), alone=True) for name in ("a", "b")]


def test_what_is_left_is_found(folders: list[Folder]) -> None:
    """In either folder, at its last state; series that came later, too."""
    will = Will(folders, "node.totals")
    will.write([Standing(USER, 10.0, 1.0, 100.0)])
    will.write([Standing(USER, 11.0, 2.0, 101.0)])
    will.write([Standing(USER, 12.0, 3.0, 102.0), Standing(ENERGY, 0.5, 0.25, 102.5)])
    will.write([Standing(USER, 13.0, 4.0, 103.0), Standing(ENERGY, 1.5, 1.25, 103.5)])
    left = {key(USER): Entry(13.0, 4.0, 103.0), key(ENERGY): Entry(1.5, 1.25, 103.5)}
    assert left_by(folders, "node.totals") == left
    assert left_by(folders[1:], "node.totals") == left
    will.close()


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

    will = Will(folders, "node.totals")
    will.write([Standing(USER, 10.0, 1.0, 100.0)])
    monkeypatch.setattr("os.pwrite", full)
    will.write([Standing(USER, 11.0, 2.0, 101.0)])
    assert left_by(folders, "node.totals") == {key(USER): Entry(10.0, 1.0, 100.0)}
    will.close()


def test_entries_lie_where_no_page_ends_in_the_middle_of_one(folders: list[Folder]) -> None:
    """So a holder that is killed as it writes leaves of each series the last state or the one before."""
    for count in range(1, 40):
        will = Will(folders, f"{count}.totals")
        will.write([Standing(Series(system.CPU_TIME, {system.CPU_MODE: "u" * count}), 1.0, 1.0, 1.0)])
        assert will._offset % 32 == 0
        will.close()
