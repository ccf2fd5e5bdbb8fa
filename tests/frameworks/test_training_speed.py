# SPDX-License-Identifier: Apache-2.0
"""The benchmark of a training's speed runs and can fail, so that a bound means something."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "training_speed.py"
ARMS = ("again", "everything", "sdk")


def test_arms_are_timed_and_a_bound_is_kept_or_not() -> None:
    """The figures are printed either way; nothing goes wrong in any arm."""
    few = ("--rounds", "1", "--seconds", "0.2", "--settling", "1.2", "--arms", *ARMS)
    command = [sys.executable, str(SCRIPT), *few, "--least", "1000", "--json"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert finished.returncode == 1, finished.stderr
    assert "less than 1000" in finished.stderr
    assert "Traceback" not in finished.stderr
    found = json.loads(finished.stdout)
    for key in ("ratios", "steps_a_second", "own_us_a_step", "beside_ms_a_second"):
        assert set(found[key]) == {"nothing", *ARMS}
    assert found["ratios"]["nothing"]["median"] == 1.0
    assert found["points"] > 100
