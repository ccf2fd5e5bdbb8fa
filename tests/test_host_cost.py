# SPDX-License-Identifier: Apache-2.0
"""The benchmark of the host's cost can fail, so that a bound means something."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "host_cost.py"


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's /proc")
@pytest.mark.parametrize(("most", "status"), [("1000", 0), ("0.001", 1)])
def test_the_exit_status_tells_whether_the_bound_is_kept(most: str, status: int) -> None:
    """And the figures are printed either way."""
    command = [sys.executable, str(SCRIPT), "--rounds", "20", "--most", most, "--json"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert finished.returncode == status, finished.stderr
    host, process, both = json.loads(finished.stdout)
    assert both["files"] == host["files"] + process["files"]
    assert both["ratio_to_reopened"] == pytest.approx(both["ours_us"] / both["reopened_us"])
    assert ("more than 0.001" in finished.stderr) == bool(status)
