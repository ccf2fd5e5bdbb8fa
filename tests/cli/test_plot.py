# SPDX-License-Identifier: Apache-2.0
"""`otel-hwmetrics plot`, as a user calls it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import recorded
from otel_hwmetrics.cli import main
from otel_hwmetrics.display.plots import page
from otel_hwmetrics.recording.nouns import SUMMARY, Job

PREFIX = "resource_plot"
FILES = [f"{PREFIX}_cpu_all_jobs", f"{PREFIX}_job_1", f"{PREFIX}_memory_all_jobs", f"{PREFIX}_summary"]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without 5 MB of library in each page."""
    monkeypatch.setattr(page, "_library", lambda: "/* plotly.js */")


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a run of two jobs and a later one of one; where one is."""
    folder = tmp_path / "runs"
    folder.mkdir()
    jobs = [Job(n, f"j{n}", started_ns=recorded.START, host="node7") for n in (1, 2)]
    recorded.run(
        folder, 30, who=recorded.about("0ld0ld00", name="sweep", started_ns=recorded.START - 10**12), jobs=jobs
    )
    recorded.run(folder, 30)
    monkeypatch.chdir(tmp_path)
    return folder


def files(folder: Path) -> list[str]:
    """The names of what is in a folder."""
    return sorted(path.name for path in folder.iterdir())


def test_the_latest_run_is_drawn(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All four kinds of page into plots/; the output says where, and the errors nothing."""
    assert main(["plot", "--directory", str(runs)]) == 0
    output, errors = capsys.readouterr()
    assert files(tmp_path / "plots") == [f"{name}.html" for name in FILES]
    lines = output.splitlines()
    assert lines[0].startswith("run train (1f3a9c2e), 2025-10-09 ")
    assert [line.split()[0] for line in lines[1:]] == [
        f"plots/{PREFIX}_{what}.html" for what in ("job_1", "cpu_all_jobs", "memory_all_jobs", "summary")
    ]
    assert errors == ""


def test_jobs_prefix_folder_and_format_are_chosen(runs: Path, tmp_path: Path) -> None:
    """As torc's own tool has them, and more."""
    chosen = ["--job-ids", "2", "--prefix", "exp", "-o", "a/b", "--format", "svg", "--width", "500"]
    assert main(["plot", "sweep", "--directory", str(runs), *chosen]) == 0
    assert files(tmp_path / "a" / "b") == [
        f"exp_{what}.svg" for what in ("cpu_all_jobs", "job_2", "memory_all_jobs", "summary")
    ]


def test_several_runs_are_drawn_together(runs: Path, tmp_path: Path) -> None:
    """Each once, however it is called."""
    assert main(["plot", "sweep", "0ld", "1f3a", "--directory", str(runs)]) == 0
    assert files(tmp_path / "plots") == sorted(
        f"{PREFIX}_{what}.html"
        for what in ("0ld0ld00_job_1", "0ld0ld00_job_2", "1f3a9c2e_job_1", "cpu_all_jobs", "memory_all_jobs", "summary")
    )


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--job-ids", "1,x"], "argument --job-ids: '1,x' are no numbers of jobs: as 1,3"),
        (["--job-ids", ","], "argument --job-ids: ',' are no numbers of jobs"),
        (["--prefix", "a/b"], "argument --prefix: 'a/b' is no beginning of a file's name; -o names the folder"),
        (["--width", "20"], "argument --width: '20' is no width: 400 to 20000 pixels"),
        (["--width", "9" * 40], "argument --width: "),
        (["--format", "pdf"], "argument --format: invalid choice: 'pdf'"),
        (["--job-ids", "9"], "error: There is no job 9 in run train (1f3a9c2e); there are: 1."),
        (["nothing"], "error: There is no run 'nothing' in "),
        (["--start", "yesterday"], "error: 'yesterday' is no moment: "),
        (["--start", "+10s", "--end", "+5s"], "error: --start is not before --end"),
        (["-o", "file"], "error: file is no folder: -o names the folder for the files"),
    ],
)
def test_what_cannot_be_is_said(
    runs: Path, tmp_path: Path, arguments: list[str], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what is allowed; the exit code is 2, and nothing is written."""
    (tmp_path / "file").touch()
    try:
        code = main(["plot", "--directory", str(runs), *arguments])
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    output, errors = capsys.readouterr()
    assert (code, output) == (2, "")
    assert error in errors
    assert not (tmp_path / "plots").exists()


def test_a_part_of_the_time_is_drawn(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And what has nothing in it is named; where that is all, the exit code is 1."""
    directory = ["--directory", str(runs)]
    assert main(["plot", *directory, "--start", "+10s", "--end=-5s"]) == 0
    assert files(tmp_path / "plots") == [f"{name}.html" for name in FILES]
    capsys.readouterr()
    assert main(["plot", *directory, "--start", "+10h", "-o", "later"]) == 0
    assert files(tmp_path / "later") == [f"{PREFIX}_summary.html"]
    assert (
        "note: not drawn: job 1 train: no looks at it were recorded between --start and --end"
        in capsys.readouterr().err
    )


def test_a_run_of_which_nothing_is_known_is_no_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """There is no file, and it says why."""
    recorded.run(tmp_path, 10, who=recorded.about(granularity=SUMMARY), jobs=[])
    assert main(["plot", str(tmp_path), "-o", str(tmp_path / "plots")]) == 1
    assert "note: not drawn: summary: nothing is known of these jobs" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_to_is_named(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The exit code is 1."""
    assert main(["plot", "--directory", str(runs), "-o", "/proc/self/plots"]) == 1
    assert "error: cannot write: " in capsys.readouterr().err


@pytest.mark.parametrize(("missing", "form"), [("plotly", "html"), ("matplotlib", "png"), ("numpy", "html")])
def test_the_extra_is_named_where_it_is_missing(
    runs: Path, missing: str, form: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a sentence, and nothing is written."""
    for name in [each for each in sys.modules if each.startswith("otel_hwmetrics.display.plots")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("otel_hwmetrics.display.plots")
    monkeypatch.setitem(sys.modules, missing, None)
    assert main(["plot", "--directory", str(runs), "--format", form]) == 2
    assert capsys.readouterr() == ("", f"error: plots need {missing}: pip install 'otel-hwmetrics[plot]'\n")
    assert not Path("plots").exists()


def test_the_command_loads_nothing_before_it_is_called(tmp_path: Path) -> None:
    """Neither its parser nor another command needs what draws; and pages do not need matplotlib."""
    recorded.run(tmp_path, 10)
    code = """
import sys
from otel_hwmetrics.cli import main, parser
parser()
assert not {"numpy", "plotly", "matplotlib"} & sys.modules.keys()
assert main(["plot", sys.argv[1], "-o", sys.argv[1]]) == 0
assert "matplotlib" not in sys.modules
"""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "COV"))}
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env=clean, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
