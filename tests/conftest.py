# SPDX-License-Identifier: Apache-2.0
"""What every test has: loud guards, no driver of this machine, and nothing left running."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

# Before anything of ours is imported, and for the subprocesses of tests, too: the guard hides nothing from tests.
os.environ["OTEL_PYTHON_HWMETRICS_LOUD"] = "1"

import otel_hwmetrics
from otel_hwmetrics.testing import without_nvml


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Keep the real NVML of the machine out of every test, and end what a test started."""
    with without_nvml():
        yield
        otel_hwmetrics.uninstrument()
