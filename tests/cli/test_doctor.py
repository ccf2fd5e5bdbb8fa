# SPDX-License-Identifier: Apache-2.0
"""`otel-hwmetrics doctor`, as a user calls it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from otel_hwmetrics import __version__
from otel_hwmetrics.cli import doctor as examined
from otel_hwmetrics.cli import main

GPUS = """
[[gpu]]
uuid = "GPU-5a1e0000-0000-4000-8000-000000000000"
utilization = 0.5
"""
HUNG = """
[[gpu]]

[[hang]]
function = "nvmlDeviceGetMemoryInfo_v2"
"""


def run(*arguments: str, folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run it in a folder."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    command = [os.path.join(os.path.dirname(sys.executable), "otel-hwmetrics"), "doctor", *arguments]
    state = {"XDG_STATE_HOME": str(folder / "state"), "OTEL_PYTHON_HWMETRICS_LOUD": "1"}
    return subprocess.run(
        command, cwd=folder, env=clean | state | environ, capture_output=True, text=True, check=False, timeout=120
    )


def diagnosis(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """What it told a program."""
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def problems(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """What is wrong, and what would help."""
    return {problem["what"]: problem["mend"] for problem in diagnosis(done)["problems"]}


class Here:
    """The same in this process, with a folder and an environment of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self._monkeypatch = monkeypatch
        monkeypatch.setattr(examined, "APART", 0.11)
        monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
        monkeypatch.chdir(folder)
        self.output = io.StringIO()

    def doctor(self, *, as_json: bool = True, **options: str) -> int:
        """Run it with options in the environment."""
        for name, value in options.items():
            self._monkeypatch.setenv(f"OTEL_PYTHON_HWMETRICS_{name.upper()}", value)
        self.output.seek(0)
        self.output.truncate()
        return examined.doctor(self.output, as_json=as_json)

    @property
    def told(self) -> dict[str, Any]:
        """What it told a program."""
        told: dict[str, Any] = json.loads(self.output.getvalue())
        return told

    @property
    def problems(self) -> dict[str, str]:
        """What is wrong, and what would help."""
        return {problem["what"]: problem["mend"] for problem in self.told["problems"]}


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Here:
    """It, in this process."""
    return Here(monkeypatch, tmp_path)


def test_it_tells_what_a_job_would_see_and_cost(tmp_path: Path) -> None:
    """Every source with its state, versions, cost against the budget, threads, the folder; and writes nothing."""
    (tmp_path / "gpus.toml").write_text(GPUS)
    done = run("--json", folder=tmp_path, OTEL_PYTHON_HWMETRICS_FAKE_NVML="gpus.toml", OTEL_PYTHON_HWMETRICS_GPUS="all")
    assert done.returncode == 0, done.stderr
    told = diagnosis(done)
    sources = {source["name"]: source for source in told["sources"]}
    assert sources["system"]["state"] == sources["nvidia"]["state"] == "up"
    assert sources["nvidia"]["readings"] > 10
    assert sources["nvidia"]["seconds"] > 0
    assert sources["dataset"]["state"] == "absent"
    assert "dataset_paths" in sources["dataset"]["mend"] + sources["dataset"]["cause"]
    assert sources["torch"]["state"] == "waits"
    assert told["versions"]["otel-hwmetrics"] == __version__
    assert {"opentelemetry-api", "opentelemetry-sdk", "psutil", "nvidia-ml-py"} <= set(told["versions"])
    assert told["options"] == {"gpus": "all"}
    assert 0 < told["cpu_seconds_a_look"] == pytest.approx(told["cpu_share"] * told["interval"])
    assert told["cpu_budget"] == 0.01
    assert told["cpu_allowed"] == 0.015, "one GPU"
    assert told["threads"]["hwmetrics-sampler"]
    assert told["threads"]["hwmetrics-nvidia"]
    assert 0 <= told["sample_age"] < 60
    assert told["files"] == str(tmp_path / "state" / "otel_hwmetrics")
    assert not (tmp_path / "state").exists()


def test_people_read_it_as_text_without_colours(here: Here) -> None:
    """Where it goes to is no terminal."""
    assert here.doctor(as_json=False, sources="system") == 0
    text = here.output.getvalue()
    assert "  up       system " in text
    assert "of a CPU at one look a second; cpu_budget allows 1%" in text
    assert "This check's threads" in text
    assert "hwmetrics.thread.up and hwmetrics.sample.age" in text
    assert "sources = system" in text
    assert "\x1b" not in text


def test_a_source_that_is_named_and_absent_fails(here: Here) -> None:
    """With cause and mend; one that was merely tried does not."""
    assert here.doctor(sources="system,dataset") == 1
    ((what, mend),) = here.problems.items()
    assert what == "dataset: no data set is named"
    assert "dataset_paths" in mend


def test_a_driver_that_hangs_is_named_in_bounded_time(tmp_path: Path) -> None:
    """And everything else is told; it fails, though nobody named the driver: it is there, and broken."""
    (tmp_path / "gpus.toml").write_text(HUNG)
    done = run("--json", folder=tmp_path, OTEL_PYTHON_HWMETRICS_FAKE_NVML="gpus.toml")
    assert done.returncode == 1, done.stderr
    sources = {source["name"]: source for source in diagnosis(done)["sources"]}
    assert sources["nvidia"]["state"] == "failing"
    assert sources["system"]["state"] == "up"
    assert "nvidia: timeout" in problems(done)


def test_wrong_options_and_a_folder_that_cannot_be_written_fail(here: Here, tmp_path: Path) -> None:
    """Each is named; the rest is looked at all the same."""
    (tmp_path / "hwmetrics.toml").write_text(
        "sample_intervall = 3\ndirectory = '/dev/null/files'\nsources = 'system'\n"
    )
    assert here.doctor() == 1
    first, second = here.problems
    assert "did you mean 'sample_interval'" in first
    assert second == "the folder /dev/null/files cannot be written to"
    assert [source["state"] for source in here.told["sources"]] == ["up"]


def test_a_package_that_has_taken_the_name_of_nvidias_is_named(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to uninstall; where GPUs are asked for by name, that fails."""
    monkeypatch.setitem(sys.modules, "pynvml", ModuleType("pynvml"))
    for sources, code in (("system", 0), ("nvidia", 1)):
        assert here.doctor(sources=sources) == code
        ((what, mend),) = here.problems.items()
        assert "is not NVIDIA's" in what
        assert "pip uninstall pynvml" in mend


@pytest.mark.parametrize("as_json", [True, False])
def test_no_secret_is_shown(here: Here, capfd: pytest.CaptureFixture[str], as_json: bool) -> None:  # noqa: FBT001
    """Neither an address that is right nor one that is wrong; nor is anybody notified."""
    for address in ("json://hunter2@localhost:9/", "slack://hunter2"):
        here.doctor(as_json=as_json, notify=address, sources="system")
        assert "notify" in here.output.getvalue()
        assert "hunter2" not in here.output.getvalue() + "".join(capfd.readouterr())


def test_what_does_not_fit_into_the_budget_is_told(here: Here) -> None:
    """Before a job finds out."""
    assert here.doctor(sources="system", cpu_budget="0.000001") == 0
    ((what, mend),) = here.problems.items()
    assert "more than cpu_budget allows" in what
    assert "sample_interval" in mend
    assert here.doctor(sample_interval="0") == 0
    assert here.problems == {}, "without regular looks it does not act"
    here.doctor(as_json=False)
    assert "if an export has it look once a second; cpu_budget is of regular looks" in here.output.getvalue()


@pytest.mark.parametrize(
    ("environ", "why"),
    [
        ({"OTEL_PYTHON_HWMETRICS_ENABLED": "false"}, "measures nothing: the option enabled is false"),
        ({"OTEL_PYTHON_HWMETRICS_EMIT": "never"}, "exports nothing: the option emit is never"),
        ({"OTEL_SDK_DISABLED": "True"}, "exports nothing: OTEL_SDK_DISABLED is true"),
        ({"OTEL_METRICS_EXPORTER": "none"}, "exports no metrics: OTEL_METRICS_EXPORTER is none"),
    ],
)
def test_what_has_a_job_measure_or_export_nothing_is_told(
    here: Here, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], why: str
) -> None:
    """It may be meant, so that it is no error; but it is not "no problems"."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert here.doctor(sources="system") == 0
    (what,) = here.problems
    assert why in what


def test_ctrl_c_ends_it_without_a_traceback(
    here: Here, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """With the code that shells know an interrupt by."""

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(examined, "_options", interrupt)
    assert main(["doctor"]) == 130
    assert capfd.readouterr() == ("", "")


class Terminal(io.StringIO):
    """Shows colours."""

    def isatty(self) -> bool:
        """It is."""
        return True


@pytest.mark.parametrize("colours", [True, False])
def test_a_terminal_gets_colours_unless_they_are_not_wanted(
    here: Here,
    monkeypatch: pytest.MonkeyPatch,
    colours: bool,  # noqa: FBT001
) -> None:
    """https://no-color.org."""
    monkeypatch.setenv("NO_COLOR", "" if colours else "1")
    here.output = Terminal()
    assert here.doctor(as_json=False, sources="system") == 0
    assert ("\x1b[32mup" in here.output.getvalue()) == colours
