# SPDX-License-Identifier: Apache-2.0
"""The scripts that need hardware which is not here are tried on scripted hardware, so that they do not rot."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """One of them, as a user starts it."""
    command = [sys.executable, str(BENCHMARKS / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_comparison_with_nvidia_smi_runs_on_scripted_gpus(tmp_path: Path) -> None:
    """It measures every call and writes its figures."""
    figures = tmp_path / "figures.json"
    finished = run("nvidia_truth.py", "--scripted", "--seconds", "2", "--json", str(figures))
    assert finished.returncode == 0, finished.stderr
    found = json.loads(figures.read_text())
    assert {row["function"] for row in found["calls"] if "function" in row} >= {
        "nvmlDeviceGetFieldValues",
        "nvmlDeviceGetMemoryInfo_v2",
    }
    assert "power.draw.average" in finished.stdout


def test_without_a_gpu_it_says_so() -> None:
    """In a sentence, with what to do instead."""
    finished = run("nvidia_truth.py")
    assert finished.returncode == 2
    assert "Try it with --scripted" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_what_knowing_the_open_spans_costs_is_measured() -> None:
    """At both ends of a training span and of any other one, over a processor that does nothing."""
    finished = run("span_cost.py", "--spans", "50", "--open", "100", "--json")
    assert finished.returncode == 0, finished.stderr
    rows = json.loads(finished.stdout)
    assert [row["call"] for row in rows] == ["on_start", "on_end"] * 2
    assert all(row["over_us"] == pytest.approx(row["ours_us"] - row["nothing_us"]) for row in rows)


def test_what_recording_costs_is_measured() -> None:
    """On looks at scripted GPUs that the real recorder was given, and files that the real writer wrote."""
    finished = run("recording_cost.py", "--seconds", "4", "--hours", "0.1", "--days", "0", "--json")
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout)
    assert found["series"] > 400
    assert 0 < found["look_share_of_a_core"] < found["share_of_a_core"]
    assert 0 < found["median_bytes_a_value_in_blocks"] <= 12
    assert found["bytes_a_value_in_the_file"] <= 12
    assert found["reading_s"].keys() == {
        "open",
        "jobs, spans, alerts, files",
        "every minute of a series",
        "every look at the job",
        "otel-hwmetrics report, imports included",
        "all",
    }


def test_what_drawing_many_samples_costs_is_measured() -> None:
    """From one line, and from a recording by the command as a user calls it."""
    finished = run("plot_cost.py", "--samples", "20000", "--json")
    assert finished.returncode == 0, finished.stderr
    line, command = json.loads(finished.stdout)
    assert (line["samples"], command["samples"]) == (20_000, 19_967)
    assert command["seconds"] > line["seconds"] > 0
