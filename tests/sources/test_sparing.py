# SPDX-License-Identifier: Apache-2.0
"""A costly look never takes more than its share of the time."""

from __future__ import annotations

import pytest

from otel_hwmetrics.catalog import process as rows
from otel_hwmetrics.model import Reading, Series
from otel_hwmetrics.sources.sparing import SHARE, Sparing
from otel_hwmetrics.testing import ManualClock

SERIES = Series(rows.MEMORY_PSS)


@pytest.mark.parametrize("cost", [0.0, 0.0002, 0.5, 7.0])
def test_a_look_is_repeated_when_a_thousand_times_its_cost_has_passed(cost: float) -> None:
    """Asked every 30 s for a day, it has its share at most; in between it tells what it told last."""
    clock = ManualClock()
    looks = []

    def look() -> list[Reading]:
        clock.advance(cost)
        looks.append(clock.monotonic())
        return [Reading(SERIES, len(looks), clock.monotonic())]

    sparing, began = Sparing(look, clock.monotonic), clock.monotonic()
    while clock.monotonic() - began < 86_400:
        (reading,) = sparing()
        assert (reading.value, reading.at) == (len(looks), looks[-1])
        clock.advance(30)
    assert len(looks) > 86_400 / (30 + cost / SHARE) * 0.9
    assert cost * (len(looks) - 1) <= SHARE * (clock.monotonic() - began)


def test_none_this_time_tells_the_last_again() -> None:
    """And nothing when there was none yet."""
    clock = ManualClock()
    answers = iter([None, [Reading(SERIES, 1, 0.0)], None])
    sparing = Sparing(lambda: next(answers), clock.monotonic)
    assert [sparing() for _ in range(3)] == [(), (Reading(SERIES, 1, 0.0),), (Reading(SERIES, 1, 0.0),)]


def test_a_look_that_fails_is_due_again_at_once() -> None:
    """Its error is the caller's to count."""
    clock = ManualClock()
    failures = iter([OSError("one"), OSError("two")])

    def look() -> None:
        raise next(failures)

    sparing = Sparing(look, clock.monotonic)
    for message in ("one", "two"):
        with pytest.raises(OSError, match=message):
            sparing()
