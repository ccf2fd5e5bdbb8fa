# SPDX-License-Identifier: Apache-2.0
"""The benchmark of a step's cost can fail, so that a bound means something."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "step_cost.py"


@pytest.mark.parametrize(("most", "status"), [("1e9", 0), ("0.001", 1)])
def test_the_exit_status_tells_whether_the_bound_is_kept(most: str, status: int) -> None:
    """And the figures are printed either way."""
    few = ("--rounds", "3", "--steps", "2000", "--work", "20")
    command = [sys.executable, str(SCRIPT), *few, "--most", most, "--json"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert finished.returncode == status, finished.stderr
    found = json.loads(finished.stdout)
    assert found["steps_adds_ns"] == pytest.approx(found["empty_ns"]["steps"] - found["empty_ns"]["bare"])
    assert set(found["steps_a_second_over_bare"]) == {"bare", "floor", "steps", "step"}
    assert ("more than 0.001" in finished.stderr) == bool(status)
