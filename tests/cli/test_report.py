# SPDX-License-Identifier: Apache-2.0
"""`otel-hwmetrics report`, as a user calls it."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from otel_hwmetrics.cli import main
from otel_hwmetrics.recording.nouns import DONE, FAILED, PARENT, SKIPPED, Job, Request
from recorded import GIB, SECOND, START, about, run

END = START + 60 * SECOND


def job(number: int, name: str, asked: Request | None = None, code: int = 0) -> Job:
    """A job that `recorded.run` makes; it has 3 GiB and 2.5 CPUs at the most, and takes a minute."""
    state = FAILED if code else DONE
    return Job(number, name, "x", state, START, END, END, code, asked or Request(), host="node7")


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with three runs, the last of which used more than was asked for; the one that is looked at by default."""
    folder = tmp_path / "state" / "otel_hwmetrics"
    folder.mkdir(parents=True, mode=0o700)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    plain, within, over = (
        about(f"{number}1f3a9c2", name=name, role=PARENT, started_ns=START + number)
        for number, name in enumerate(("plain", "within", "over"))
    )
    run(folder, 60, who=plain, jobs=[job(1, "train")])
    run(folder, 60, who=within, jobs=[job(1, "train", Request(cpus=4, memory=4 * GIB, runtime=60.0))])
    run(folder, 60, who=over, jobs=[job(1, "train", Request(cpus=2, memory=2 * GIB)), Job(2, "after", state=SKIPPED)])
    return folder


class Said:
    """What a call gave."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> None:
        self.code = main(["report", *arguments])
        self.out, self.err = capsys.readouterr()

    @property
    def data(self) -> dict[str, Any]:
        """For programs."""
        told: dict[str, Any] = json.loads(self.out)
        return told


@pytest.mark.parametrize(
    "which", [[], ["21f3"], ["21f3a9c2"], ["over"], ["state/otel_hwmetrics/21f3a9c2-launcher-None-4242.run.db"]]
)
def test_a_run_is_named_in_any_way(runs: Path, capsys: pytest.CaptureFixture[str], which: list[str]) -> None:
    """The latest, by a part of its id, its name, a file; it is a success to report of violations."""
    said = Said(capsys, *which)
    assert said.out.startswith("Run over (21f3a9c2)\n"), said.err
    assert (said.code, said.err) == (0, "")


def test_a_folder_of_several_runs_is_listed(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest first; a folder of one is reported, and --list and --all-runs say which is wanted."""
    monkeypatch.setenv("COLUMNS", "200")  # how long its path is goes by who runs it
    shown = Said(capsys, str(runs)).out
    assert shown == Said(capsys, "--list").out == Said(capsys, "--list", str(runs)).out
    assert [line.split()[0] for line in shown.splitlines()[2:]] == ["21f3a9c2", "11f3a9c2", "01f3a9c2"]
    assert [each["name"] for each in Said(capsys, "--list", "--json").data["runs"]] == ["over", "within", "plain"]
    every = Said(capsys, "--all-runs")
    assert [line for line in every.out.splitlines() if line.startswith("Run ")] == [
        *("Run over (21f3a9c2)", "Run within (11f3a9c2)"),
        "Run plain (01f3a9c2)",
    ]
    for path in runs.glob("[12]*"):
        path.unlink()
    assert Said(capsys, str(runs)).out.startswith("Run plain (01f3a9c2)\n")


@pytest.mark.parametrize(
    ("arguments", "code", "first"),
    [
        (["over"], 1, "Found 2 resource over-utilization violations:"),
        (["within"], 0, "No job used more than it asked for (3 comparisons)."),
        (["plain"], 0, "Nothing to check: no job says what it asked for."),
        (["within", "over"], 1, "Found 2 resource over-utilization violations:"),
        (["over", "--tolerance", "60"], 0, "No job used more than it asked for (2 comparisons)."),
        (["over", "--tolerance", "30%"], 1, "Found 1 resource over-utilization violation:"),
        (["--all-runs"], 1, "Found 2 resource over-utilization violations:"),
        (["over", "--all"], 1, "Found 2 resource over-utilization violations:"),
    ],
)
def test_the_exit_code_says_whether_more_was_used(
    runs: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, first: str
) -> None:
    """So that a build can fail by it; the same for programs."""
    said = Said(capsys, "--check", *arguments)
    assert (said.code, said.out.startswith(first)) == (code, True), said.out
    assert Said(capsys, "--check", "--json", *arguments).code == code


def test_the_check_says_what_programs_need(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its violations, and with --all the rest."""
    data = Said(capsys, "--check", "--json", "over").data
    assert [(each["resource_type"], each["over_utilization"]) for each in data["violations"]] == [
        *(("Memory", "+50.0%"), ("CPU", "+25.0%")),
    ]
    assert "results" not in data
    assert len(Said(capsys, "--check", "--json", "--all", "within").data["results"]) == 3


def test_what_to_ask_for_is_printed_to_be_pasted(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Alone, in each of the formats; it is no check, so the exit code is 0."""
    told = yaml.safe_load(Said(capsys, "over", "--recommend").out)
    assert told == {
        "resource_requirements": [
            {"name": "train", "num_cpus": 3, "num_gpus": 2, "memory": "3584m", "gpu_memory": "18g", "runtime": "PT2M"}
        ]
    }
    assert "#SBATCH --cpus-per-task=3\n" in Said(capsys, "over", "within", "--recommend", "sbatch").out
    said = Said(capsys, "over", "--recommend=kubernetes")
    assert (said.code, yaml.safe_load(said.out)["resources"]["limits"]["memory"]) == (0, "3584Mi")
    both = Said(capsys, "over", "--check", "--recommend", "sbatch")
    assert (both.code, "#SBATCH --mem=3584M" in both.out, "Next time" in both.out) == (1, True, False)
    nothing = Said(capsys, "--recommend", "--json")
    assert nothing.data["recommendations"][0]["runtime"] == "PT2M"


def test_there_is_nothing_to_ask_for_where_nothing_ran(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """That is said beside what would have been pasted."""
    path = run(tmp_path, 1, jobs=[Job(1, "a", state=SKIPPED)], who=about(role=PARENT))
    said = Said(capsys, str(path), "--recommend", "sbatch")
    assert (said.code, said.out) == (0, "")
    assert said.err.startswith("note: nothing is known")


def test_prices_make_costs(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In whatever currency."""
    said = Said(capsys, "within", "--price-kwh", "0.3", "--price-gpu-hour", "2.5")
    assert "costs 0.00 at 0.3 a kWh" in said.out
    assert "costs 0.08 at 2.5 an hour" in said.out
    totals = Said(capsys, "within", "--json", "--price-gpu-hour", "3600").data["runs"][0]["totals"]
    assert totals["gpu_cost"] == totals["gpu_seconds"] == 120.0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nope"], ["There is no run 'nope'", "report --list"]),
        (["broken.run.db"], ["broken.run.db is no recording"]),
        (["empty"], ["There are no recordings in empty", "otel-hwmetrics run"]),
        (["--directory", "empty"], ["There are no recordings in", "empty"]),
        (["--directory", "missing"], ["There are no recordings in", "missing"]),
        (["damaged"], ["There are no recordings in damaged", "note: damaged/x.run.db"]),
        (["--all"], ["--all is a part of the check"]),
        (["--tolerance", "5"], ["--tolerance is a part of the check"]),
        (["--list", "--check"], ["leave --check"]),
        (["--check", "--spans"], ["--spans is a part of the report: leave --check out"]),
        (["--list", "--price-kwh", "1"], ["--price-kwh is a part of the report and of --check: leave --list out"]),
        (["--recommend", "--price-gpu-hour", "1"], ["--price-gpu-hour is a part", "leave --recommend out"]),
        (["--list", "over"], ["There is no folder over"]),
    ],
)
def test_what_cannot_be_reported_is_told(
    runs: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: list[str]
) -> None:
    """In a sentence that names it, with exit code 2: 1 is for violations alone."""
    Path("empty").mkdir()
    Path("damaged").mkdir()
    Path("broken.run.db").write_text("not a database at all, but long enough to be looked at" * 40)
    whole = next(runs.glob("0*.run.db")).read_bytes()
    Path("damaged/x.run.db").write_bytes(whole[:1000])
    said = Said(capsys, *arguments)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("error: ")
    assert all(word in said.err for word in words), said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    "wrong", [["--price-kwh", "-1"], ["--tolerance", "x"], ["--recommend", "toml"], ["--price-gpu-hour", "nan"]]
)
def test_what_is_typed_wrongly_is_told(capsys: pytest.CaptureFixture[str], wrong: list[str]) -> None:
    """With the value and what is allowed."""
    with pytest.raises(SystemExit) as left:
        main(["report", *wrong])
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert wrong[0] in said
    assert wrong[1] in said


def test_a_file_that_cannot_be_read_beside_others_is_named(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the others tell is told, and that something is missing."""
    (runs / "21f3a9c2-process-1-77.run.db").write_text("x" * 5000)
    said = Said(capsys, "over")
    assert said.code == 0
    assert "21f3a9c2-process-1-77.run.db is no recording" in said.err
    assert "Run over" in said.out
    assert "process-1-77" not in Said(capsys, "within").err
    assert "process-1-77" in Said(capsys, "--list").err


def test_the_options_say_where_runs_are(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The option directory, as the job had it; --directory overrules it."""
    other = tmp_path / "other"
    other.mkdir()
    run(other, 5, who=about("99999999", name="there", started_ns=START))
    monkeypatch.setenv("OTEL_PYTHON_HWMETRICS_DIRECTORY", str(other))
    assert Said(capsys).out.startswith("Run there")
    assert Said(capsys, "--directory", str(runs)).out.startswith("Run over")


def test_a_run_that_is_named_twice_counts_once(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By its id and by its name."""
    data = Said(capsys, "over", "21f3", "--check", "--json").data
    assert len(data["runs"]) == 1
    assert data["recommendations"][0]["jobs"] == 1


def test_runs_of_one_id_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Torchrun may give several runs one id, one after the other: none is left out, nor taken for another."""
    asked = [Request(memory=2 * GIB), Request(memory=8 * GIB)]
    for hours, request in zip((0, 5), asked, strict=True):
        began = START + hours * 3600 * SECOND
        who = about("torch-x", name="train", started_ns=began, heard_ns=began + 60 * SECOND, pid=100 + hours)
        path = run(tmp_path, 60, who=who, jobs=[replace(job(1, "train", request), started_ns=began)])
        with closing(sqlite3.connect(path)) as file, file:
            file.execute("UPDATE writer SET heard_ns = ?", (began + 60 * SECOND,))
    every = Said(capsys, str(tmp_path), "--all-runs")
    assert [line for line in every.out.splitlines() if line.startswith("Run ")] == ["Run train (torch-x)"] * 2
    said = Said(capsys, str(tmp_path), "--all-runs", "--check")
    assert (said.code, "torch-x of 2025-10-09" in said.out) == (1, True), said.out
    data = Said(capsys, str(tmp_path), "--all-runs", "--check", "--json").data
    first, later = "2025-10-09T08:54:00.000000Z", "2025-10-09T13:54:00.000000Z"
    assert [each["started"] for each in data["runs"]] == [later, first]
    assert {each["run_started"] for each in data["violations"]} == {first}
    assert len(Said(capsys, str(path), str(tmp_path), "--check", "--json").data["runs"]) == 1, "one that is named twice"


def test_the_check_has_what_it_came_to(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Energy, GPU-hours and idle ones among them, of all runs together, at the prices that are given."""
    said = Said(capsys, "--check", "within", "plain", "--price-kwh", "0.3", "--price-gpu-hour", "2.5")
    assert said.out.splitlines()[-5:] == [
        "Totals",
        "  CPU time   3 min",
        "  Energy     0.016 kWh of GPUs, costs 0.00 at 0.3 a kWh",
        "  GPU-hours  0.07, costs 0.17 at 2.5 an hour",
        "    idle     0.01 (10.0%), costs 0.02",
    ]
    totals = Said(capsys, "--check", "within", "--json", "--price-gpu-hour", "3600").data["totals"]
    assert totals["gpu_cost"] == totals["gpu_seconds"] == 120.0


def test_a_check_of_a_folder_says_that_it_is_of_the_latest_run(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And how many there are; of one, or where all are checked, there is nothing to say."""
    said = Said(capsys, str(runs), "--check")
    assert said.err == f"note: {runs} has 3 runs; this is the latest, 21f3a9c2: --all-runs takes all\n"
    assert said.code == 1
    assert Said(capsys, str(runs), "--check", "--all-runs").err == ""
    for path in runs.glob("[12]*"):
        path.unlink()
    assert Said(capsys, str(runs), "--check").err == ""


def test_a_report_loads_little(tmp_path: Path) -> None:
    """Neither an SDK, nor psutil, nor NVML, nor what draws; and a terminal of another encoding is no obstacle."""
    path = run(tmp_path, 5, jobs=[replace(job(1, "訓練"), command="x")])
    script = textwrap.dedent(
        f"""
        import sys
        from otel_hwmetrics.cli import main
        code = main(["report", {str(path)!r}])
        heavy = ("opentelemetry.sdk", "psutil", "pynvml", "numpy", "plotly", "matplotlib", "pyarrow", "yaml", "asyncio")
        print("loaded", [name for name in heavy if name in sys.modules])
        sys.exit(code)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "loaded []"), done.stderr
    assert "Run train" in done.stdout
