# SPDX-License-Identifier: Apache-2.0
"""Importing the package is not an act: it is quick, and loads nothing of others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version

import pytest

import otel_hwmetrics

BUDGET = 0.020
"""Seconds of CPU time over a bare interpreter."""

HEAVY = ("opentelemetry", "psutil", "pynvml", "torch")

CHILD = """
import json, sys, time
before = set(sys.modules)
started = time.process_time()
import otel_hwmetrics
seconds = time.process_time() - started
print(json.dumps({"seconds": seconds, "loaded": sorted(set(sys.modules) - before)}))
"""

NAMES = """
import json, sys, otel_hwmetrics
print(json.dumps({name: type(getattr(otel_hwmetrics, name)).__name__ for name in otel_hwmetrics.__all__}))
"""


def run(code: str) -> dict[str, object]:
    """What a fresh interpreter prints; not measured by coverage, whose tracing is not ours to pay for."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    ran = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert ran.stderr == ""
    told: dict[str, object] = json.loads(ran.stdout)
    return told


def test_import_loads_nothing_of_others() -> None:
    """No OpenTelemetry, no psutil, no NVML, no torch; and of ours the door alone."""
    loaded = run(CHILD)["loaded"]
    assert isinstance(loaded, list)
    assert [name for name in loaded if name.partition(".")[0] in HEAVY] == []
    assert [name for name in loaded if name.startswith("otel_hwmetrics")] == ["otel_hwmetrics"]


def test_import_is_quick() -> None:
    """Under 20 ms of CPU time over a bare interpreter; the quickest of seven, since other programs run here, too."""
    seconds = [run(CHILD)["seconds"] for _ in range(7)]
    assert min(each for each in seconds if isinstance(each, float)) < BUDGET


def test_every_public_name_is_there() -> None:
    """In a fresh interpreter, each by its own first use."""
    kinds = run(NAMES)
    assert list(kinds) == otel_hwmetrics.__all__
    assert len(set(kinds)) == len(kinds)
    classes = {"Alert", "ConfigError", "HardwareMetricsInstrumentor", "Instrumentation", "SourceUnavailable"}
    assert {name for name, kind in kinds.items() if kind in {"type", "ABCMeta"}} == classes
    assert {name for name, kind in kinds.items() if kind == "function"} == kinds.keys() - classes - {"__version__"}


def test_public_names_can_be_seen_before_they_are_loaded() -> None:
    """`dir()` and completion show them."""
    assert set(otel_hwmetrics.__all__) <= set(dir(otel_hwmetrics))


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    """As of any module, and `hasattr` works."""
    with pytest.raises(AttributeError, match="module 'otel_hwmetrics' has no attribute 'no_such_name'"):
        _ = otel_hwmetrics.no_such_name
    assert not hasattr(otel_hwmetrics, "no_such_name")


def test_the_version_is_the_distribution_s() -> None:
    """What is imported and what is installed are the same."""
    assert otel_hwmetrics.__version__ == version("otel-hwmetrics")
