# SPDX-License-Identifier: Apache-2.0
"""``otel-hwmetrics compare`` as it is typed: what is printed, and which exit code."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

import recorded
from otel_hwmetrics.catalog import training
from otel_hwmetrics.cli import main
from otel_hwmetrics.model import Series
from otel_hwmetrics.recording.nouns import DONE, FAILED, PARENT, Job, RecordedAlert
from recorded import SECOND, START
from recorded_looks import write

ALERT = RecordedAlert(START, "gpu_hot", "firing", "warning", "GPU 1", "\x1b[31mHot.")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two runs, of which the second has an alert more."""
    monkeypatch.delenv("COLUMNS", raising=False)
    write(tmp_path / "a.run.db", who=recorded.about("aaaa", name="before"))
    write(tmp_path / "b.run.db", who=recorded.about("bbbb", name="after\x1b[2J"), alerts=[ALERT])
    return tmp_path


def typed(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, output, errors."""
    try:
        code = main(["compare", *arguments])
    except SystemExit as ended:
        code = int(str(ended.code))
    told = capfd.readouterr()
    return code, told.out, told.err


def test_what_got_worse_is_printed(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """By name or the beginning of the id; exit code 0 unless --fail-on-worse asks for another."""
    code, output, errors = typed(capfd, "before", "bbb", "--directory", str(folder))
    assert (code, errors) == (0, "")
    assert "\nWorse\n  new alert: gpu_hot on GPU 1, 1 time\n" in output
    assert "\x1b" not in output
    assert "\nA  before" in output


def test_it_fails_where_it_is_asked_to(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """And says why."""
    runs = (str(folder / "a.run.db"), str(folder / "b.run.db"))
    code, _, errors = typed(capfd, *runs, "--fail-on-worse", "10")
    assert (code, errors) == (1, "error: worse by more than 10%: new alert: gpu_hot on GPU 1, 1 time\n")
    assert typed(capfd, *reversed(runs), "--fail-on-worse", "10%")[::2] == (0, "")


def test_it_fails_for_a_job_that_failed_whatever_it_is_called(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Runs that are named by hand have jobs that are named like them."""
    for name, state, code in (("good", DONE, 0), ("bad", FAILED, 3)):
        job = Job(1, name, "sh -c x", state, START, START + 60 * SECOND, exit_code=code)
        write(folder / f"{name}.run.db", who=recorded.about(name, name=name, role=PARENT), jobs=[(job, [])])
    code, output, errors = typed(capfd, "good", "bad", "--directory", str(folder), "--fail-on-worse", "10")
    assert (code, errors) == (1, "error: worse by more than 10%: job bad is failed, and was done (exit code 3)\n")
    assert "Nothing" not in output
    assert typed(capfd, "bad", "good", "--directory", str(folder), "--fail-on-worse", "10")[::2] == (0, "")


def test_json(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """One object, with what it fails for."""
    code, output, _ = typed(capfd, "aaaa", "bbbb", "--directory", str(folder), "--json", "--fail-on-worse", "0")
    data = json.loads(output)
    assert (code, data["version"], data["failing"]) == (1, 1, ["alert.gpu_hot"])
    assert data["worse"] == [{"key": "alert.gpu_hot", "text": "new alert: gpu_hot on GPU 1, 1 time", "by": None}]


def test_json_is_what_every_program_reads(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Also where a figure is no finite number."""
    endless = {Series(training.STEPS): 2.0, Series(training.STEP_TIME): math.inf}
    write(folder / "c.run.db", [(START, endless)], who=recorded.about("cccc"))
    _, output, _ = typed(capfd, "aaaa", "cccc", "--directory", str(folder), "--json")

    def none(word: str) -> None:
        raise AssertionError(word)

    figures = {each["key"]: each["b"] for each in json.loads(output, parse_constant=none)["figures"]}
    assert figures["step.time"] == "Infinity"


def test_the_same_run_is_told_of(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It may have been meant otherwise."""
    code, _, errors = typed(capfd, "aaaa", "aaaa", "--directory", str(folder))
    assert (code, errors) == (0, "note: A and B are the same run\n")


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (["aaaa"], "the following arguments are required: B"),
        (["aaaa", "nobody"], "error: There is no run 'nobody' in "),
        (["aaaa", "bbbb", "--fail-on-worse", "much"], "'much' is no percentage: a number from 0 on"),
        (["aaaa", "bbbb", "--fail-on-worse", "-1"], "--fail-on-worse"),
    ],
)
def test_what_is_wrong_is_named(
    arguments: list[str], wrong: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """With exit code 2."""
    code, output, errors = typed(capfd, *arguments, "--directory", str(folder))
    assert (code, output) == (2, "")
    assert wrong in errors
