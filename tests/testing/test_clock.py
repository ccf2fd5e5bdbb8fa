# SPDX-License-Identifier: Apache-2.0
"""Time that a test moves by hand."""

from __future__ import annotations

import math

import pytest

from otel_hwmetrics.testing import (
    ManualClock,
)


def test_manual_clock_moves_both_times_by_the_same_amount() -> None:
    """Ten steps of 0.1 s are one second exactly on both clocks."""
    clock = ManualClock(start=5.0, start_ns=7)
    for _ in range(10):
        clock.advance(0.1)
    assert (clock.monotonic(), clock.time_ns()) == (6.0, 1_000_000_007)


@pytest.mark.parametrize("seconds", [-0.1, math.nan, math.inf])
def test_manual_clock_never_goes_back(seconds: float) -> None:
    """A clock refuses to move by anything but a finite number of seconds >= 0."""
    with pytest.raises(ValueError, match="advances by a finite number"):
        ManualClock().advance(seconds)
