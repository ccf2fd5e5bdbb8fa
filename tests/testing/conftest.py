# SPDX-License-Identifier: Apache-2.0
"""What the tests of the scripted NVML have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pynvml
import pytest

from otel_hwmetrics.testing import FakeNvml, ManualClock

from .scripted import CLOCK, SCRIPTED, binding_state


@pytest.fixture(autouse=True)
def binding_untouched() -> Iterator[None]:
    """No test leaves anything in the binding."""
    before = binding_state()
    yield
    assert binding_state() == before


@pytest.fixture
def clock() -> ManualClock:
    """Return a clock that only the test moves."""
    return ManualClock()


@pytest.fixture
def nvml(clock: ManualClock) -> Iterator[FakeNvml]:
    """Two GPUs, initialised: the first is SCRIPTED, the second one like it that draws 75 W."""
    with FakeNvml([SCRIPTED, replace(SCRIPTED, uuid="", power=75.0)], clock=clock) as fake:
        pynvml.nvmlInit()
        yield fake


@pytest.fixture
def table() -> Iterator[FakeNvml]:
    """The same two GPUs by the clock of the table, ten seconds after install."""
    with FakeNvml([SCRIPTED, replace(SCRIPTED, uuid="", power=75.0)], clock=CLOCK) as fake:
        pynvml.nvmlInit()
        CLOCK.advance(10)
        yield fake
