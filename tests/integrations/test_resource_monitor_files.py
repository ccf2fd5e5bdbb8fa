# SPDX-License-Identifier: Apache-2.0
"""The CSV files of `ResourceMonitorCallback`: their columns and rows, and disks that fail."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import time
from pathlib import Path

import pytest

from otel_hwmetrics.integrations import resource_series
from otel_hwmetrics.integrations.resource_figures import Figures, in_order
from otel_hwmetrics.integrations.resource_series import EpochFiles

from .resource_readings import gpu_readings, host_readings, snapshot

AT = 1_759_831_200.0
STAMP = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(AT))
EXAMPLE = ["gpu_0_util", "gpu_0_memory_pct", "cpu_percent", "memory_percent", "io_read_rate_mbps"]
"""The columns of the example that users know, in its order."""
REST = [
    *("gpu_0_memory_used_mb", "gpu_0_memory_total_mb", "gpu_0_temp_c", "gpu_0_power_w", "cpu_process_percent"),
    *("memory_system_mb", "memory_available_mb", "memory_process_mb", "io_write_rate_mbps", "io_wait_pct"),
]


@pytest.fixture
def files(tmp_path: Path) -> EpochFiles:
    """In a folder that is yet to be made."""
    return EpochFiles(str(tmp_path / "logs"))


def lines(tmp_path: Path, epoch: int = 0) -> list[str]:
    """Of one file."""
    text = (tmp_path / "logs" / f"epoch_{epoch}.csv").read_text()
    assert text.endswith("\n")
    return text.splitlines()


def test_a_file_is_exact(files: EpochFiles, tmp_path: Path) -> None:
    """The example's columns first; growth from the second look on, in columns of its own between the others."""
    figures = Figures(("gpu", "cpu", "io"))
    files.add(0, 0, figures.of(snapshot(gpu_readings(0), host_readings(10.0))), AT)
    host = ["180.5", "16384.0", "8192.0", "2048.0"]
    first = ["87.3", "50.0", "45.2", "50.0", "75.2", "8192.0", "16384.0", "72.0", "180.5", *host, "6.3", "5.3"]
    assert lines(tmp_path) == [",".join(("step", "timestamp", *EXAMPLE, *REST)), ",".join(("0", STAMP, *first))]
    files.add(0, 10, figures.of(snapshot(gpu_readings(0), host_readings(160.3), end=2.0)), AT)
    at = len(EXAMPLE) + REST.index("io_write_rate_mbps")
    columns = [*EXAMPLE, *REST]
    columns[at:at] = ["disk_read_mb", "disk_write_mb"]
    rows = [list(first), list(first)]
    rows[0][at:at] = ["", ""]
    rows[1][at:at] = ["150.3", "0.0"]
    assert lines(tmp_path) == [
        ",".join(("step", "timestamp", *columns)),
        ",".join(("0", STAMP, *rows[0])),
        ",".join(("10", STAMP, *rows[1])),
    ]


def test_growth_is_not_told_of_a_look_that_is_the_last_one() -> None:
    """Batches go by faster than the machine is looked at: nothing new is known, and that is no 0."""
    figures = Figures(("io",))
    figures.of(snapshot(host_readings(1.0), end=1.0))
    assert figures.of(snapshot(host_readings(3.0), end=2.0))["disk_read_mb"] == 2.0
    again = figures.of(snapshot(host_readings(3.0), end=2.0))
    assert "disk_read_mb" not in again
    assert again["io_read_rate_mbps"] == pytest.approx(75.2)


def test_an_epoch_has_a_file(files: EpochFiles, tmp_path: Path) -> None:
    """By its number from 0."""
    for epoch in (0, 1):
        files.add(epoch, 0, {"cpu_percent": 1.0}, AT)
    files.add(1, 10, {"cpu_percent": 2.0}, AT)
    assert [len(lines(tmp_path, epoch)) for epoch in (0, 1)] == [2, 3]


def test_what_vanishes_is_empty_and_what_comes_gets_a_column(files: EpochFiles, tmp_path: Path) -> None:
    """A GPU that is lost, and one that is met late; a row has as many cells as the header."""
    for step, figures in enumerate(
        ({"cpu_percent": 1.0}, {"gpu_1_util": 5.0}, {"gpu_0_util": 3.0, "cpu_percent": 2.0}, {})
    ):
        files.add(0, step, figures, AT)
    assert [line.split(",") for line in lines(tmp_path)] == [
        ["step", "timestamp", "gpu_0_util", "cpu_percent", "gpu_1_util"],
        ["0", STAMP, "", "1.0", ""],
        ["1", STAMP, "", "", "5.0"],
        ["2", STAMP, "3.0", "2.0", ""],
        ["3", STAMP, "", "", ""],
    ]


def test_a_file_that_is_there_is_continued(files: EpochFiles, tmp_path: Path) -> None:
    """Of an epoch that is resumed, or of an earlier run: no row of it is lost, nor a column that is not ours."""
    files.add(0, 0, {"cpu_percent": 1.0}, AT)
    path = tmp_path / "logs" / "epoch_0.csv"
    path.write_text("step,timestamp,mine,cpu_percent\n0,then,7,1.0\n")
    EpochFiles(str(tmp_path / "logs")).add(0, 10, {"cpu_percent": 2.0, "memory_percent": 3.0}, AT)
    assert lines(tmp_path) == [
        "step,timestamp,cpu_percent,memory_percent,mine",
        "0,then,1.0,,7",
        f"10,{STAMP},2.0,3.0,",
    ]


def test_a_file_that_is_taken_away_begins_anew(files: EpochFiles, tmp_path: Path) -> None:
    """With its header."""
    files.add(0, 0, {"cpu_percent": 1.0}, AT)
    (tmp_path / "logs" / "epoch_0.csv").unlink()
    files.add(0, 10, {"cpu_percent": 2.0}, AT)
    assert lines(tmp_path) == ["step,timestamp,cpu_percent", f"10,{STAMP},2.0"]


def test_each_row_is_there_when_it_is_written_and_nothing_stays_open(files: EpochFiles, tmp_path: Path) -> None:
    """A job that ends by force loses no row."""
    before = os.listdir("/proc/self/fd")
    for step in range(3):
        files.add(0, step, {"cpu_percent": 1.0}, AT)
        assert len(lines(tmp_path)) == step + 2
    assert len(os.listdir("/proc/self/fd")) == len(before)


@pytest.mark.parametrize("failing", ["open", "makedirs", "replace"])
def test_a_disk_that_fails_is_told_of_once_and_the_next_epoch_is_tried_again(
    failing: str,
    files: EpochFiles,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Full or read-only: one clear word, no exception, no further try in this epoch, and whole rows when it works again."""
    files.add(0, 0, {"cpu_percent": 1.0}, AT)
    written, tries = lines(tmp_path), []

    def full(*_: object, **__: object) -> None:
        tries.append(failing)
        raise OSError(errno.ENOSPC, "No space left on device")

    epoch = 1 if failing == "makedirs" else 0
    with monkeypatch.context() as patch, caplog.at_level(logging.ERROR):
        patch.setattr(*((resource_series, "open") if failing == "open" else (os, failing)), full, raising=False)
        for step in (1, 2):
            files.add(epoch, step, {"gpu_0_util": 1.0}, AT)
        assert len(tries) == 1
        if failing != "replace":
            files.add(epoch + 1, 0, {"gpu_0_util": 1.0}, AT)
            assert len(tries) == 2
    [record] = caplog.records
    assert f"No more time series of epoch {epoch} are written to {tmp_path / 'logs'}" in record.getMessage()
    assert "No space left on device" in record.getMessage()
    assert "Training goes on" in record.getMessage()
    assert lines(tmp_path) == written
    files.add(epoch + 2, 0, {"gpu_0_util": 1.0}, AT)
    assert lines(tmp_path, epoch + 2) == ["step,timestamp,gpu_0_util", f"0,{STAMP},1.0"]


def test_the_folder_stays_where_it_was_wherever_the_job_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative one is of where the job was as the run began."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    files = EpochFiles("logs")
    files.add(0, 0, {"cpu_percent": 1.0}, AT)
    monkeypatch.chdir(tmp_path / "elsewhere")
    files.add(0, 10, {"cpu_percent": 2.0}, AT)
    files.add(1, 0, {"cpu_percent": 3.0}, AT)
    assert [len(lines(tmp_path, epoch)) for epoch in (0, 1)] == [3, 2]
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_folder_that_is_taken_away_is_made_anew(
    files: EpochFiles, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In the middle of an epoch, without a word."""
    files.add(0, 0, {"cpu_percent": 1.0}, AT)
    shutil.rmtree(tmp_path / "logs")
    files.add(0, 10, {"cpu_percent": 2.0}, AT)
    files.add(0, 20, {"cpu_percent": 3.0}, AT)
    assert lines(tmp_path) == ["step,timestamp,cpu_percent", f"10,{STAMP},2.0", f"20,{STAMP},3.0"]
    assert not caplog.records


def test_columns_are_in_one_order_whoever_comes_first() -> None:
    """The first GPU's among the others', further ones by their numbers after them, unknown ones last as they came."""
    given = ["z", "gpu_10_util", "io_wait_pct", "gpu_2_temp_c", "cpu_percent", "gpu_2_util", "a", "gpu_3_util"]
    assert in_order(given) == [
        *("gpu_2_util", "cpu_percent", "gpu_2_temp_c", "io_wait_pct"),
        *("gpu_3_util", "gpu_10_util", "z", "a"),
    ]
