# SPDX-License-Identifier: Apache-2.0
"""Where a framework is not there: its integration can be loaded all the same, and whoever asks for more learns what to install."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

OLDEST = Path(__file__).parent.parent / "frameworks" / "oldest.txt"

FRAMEWORKS = {"transformers": ("transformers", "accelerate"), "keras": ("keras",)}


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_whoever_asks_for_the_callback_learns_what_to_install(framework: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the oldest versions that are tried in tests; and nothing else of the module fails."""
    monkeypatch.setitem(sys.modules, framework, None)  # whether it is installed or not
    monkeypatch.setitem(sys.modules, f"{framework}.callbacks", None)
    module = import_module(f"otel_hwmetrics.integrations.{framework}")
    monkeypatch.setattr(module._Telling.framework, "_made", {})
    with pytest.raises(ImportError, match=r"HardwareMetricsCallback needs .*: pip install ") as raised:
        _ = module.HardwareMetricsCallback
    oldest = dict(line.split("==") for line in OLDEST.read_text().splitlines() if "==" in line)
    for package in FRAMEWORKS[framework]:
        floor = re.search(rf"{package}>=([\d.]+)", str(raised.value))
        assert floor is not None
        assert re.fullmatch(rf"{re.escape(floor[1])}(\.0)*", oldest[package])
    assert not hasattr(module, "SomethingElse")


def test_integrations_load_no_framework() -> None:
    """To import ours is no act, whatever is installed."""
    modules = ", ".join(f"otel_hwmetrics.integrations.{framework}" for framework in FRAMEWORKS)
    script = f"import sys, {modules}; print([name for name in {[*FRAMEWORKS, 'torch']} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
