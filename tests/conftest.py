# SPDX-License-Identifier: Apache-2.0
"""What every test has: loud guards, no driver of this machine, and nothing left running."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator

import pytest

# Before anything of ours is imported, and for the subprocesses of tests, too: the guard hides nothing from tests, and what
# is recorded does not go to where the user's own recordings are.
os.environ["OTEL_PYTHON_HWMETRICS_LOUD"] = "1"
_STATE = tempfile.mkdtemp(prefix="hwmetrics-tests-")
os.environ["XDG_STATE_HOME"] = _STATE

import otel_hwmetrics
from otel_hwmetrics._guard import faults
from otel_hwmetrics.sinks.base import dropped
from otel_hwmetrics.testing import without_nvml

_skipped: list[str] = []

LONGEST = ("faults/test_soak.py", "alerts/test_soak.py")
"""Files that are begun first: one process is at each of them for minutes, and the others go through the rest meanwhile."""
UNMEASURED = (
    *("alerts/test_ahead.py", "alerts/test_ahead_sudden.py", "alerts/test_baseline.py", "alerts/test_gpus.py"),
    *("alerts/test_forecast_in_noise.py", "alerts/test_over.py"),
    *("sources/gpu/nvidia/test_faults.py", "sources/gpu/nvidia/test_events.py", "sources/gpu/amd/test_faults.py"),
    *("sources/tree/test_ends.py", "sources/tree/test_forest.py"),
    *("testing/captures/test_round_trip.py", "test_stepclock_races.py"),
)
"""Files whose tests go through the same lines hundreds of times, as those of hypothesis do; with others for each line."""


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Keep the real NVML of the machine out of every test, and end what a test started."""
    with without_nvml():
        yield
        otel_hwmetrics.uninstrument()
        faults.clear()
        dropped.clear()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest first, and measure no coverage where it would take most of the time and find nothing more."""
    items.sort(key=lambda item: not item.path.as_posix().endswith(LONGEST))
    for item in items:
        function = getattr(item, "obj", None)
        if getattr(function, "is_hypothesis_test", False) or item.path.as_posix().endswith(UNMEASURED):
            item.add_marker(pytest.mark.no_cover)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember what was skipped."""
    if report.skipped:
        _skipped.append(report.nodeid)


def pytest_unconfigure() -> None:
    """Remove what was recorded."""
    shutil.rmtree(_STATE, ignore_errors=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Let a skip pass on a developer's machine, where a component may be missing, but not in CI."""
    if _skipped and os.environ.get("CI") == "true" and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        print(f"\nin CI nothing may be skipped: {', '.join(_skipped)}")  # noqa: T201 - pytest's own summary is next
