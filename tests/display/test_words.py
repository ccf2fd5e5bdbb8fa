# SPDX-License-Identifier: Apache-2.0
"""Numbers as people read them: the unit that fits, rounded as people round, and nothing made up."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_hwmetrics.display import words

GIB = 2**30
NUMBERS = (
    words.number, words.size, words.duration, words.share, words.change, words.energy, words.power, words.temperature,
    words.rate, words.gpu_hours,
)  # fmt: skip

SHOWN: dict[Callable[..., str], dict[float, str]] = {
    words.size: {
        0: "0 B", 1: "1 B", 1023: "1023 B", 1023.4: "1023 B", 1023.7: "1.0 KiB", 1536: "1.5 KiB", 2**20 - 1: "1.0 MiB",
        312.5 * 2**20: "312.5 MiB", 8 * GIB: "8.00 GiB", 10.5 * GIB: "10.50 GiB", 1023.999 * GIB: "1.00 TiB",
        1.25 * 2**40: "1.25 TiB", 5000 * 2.0**60: "5000.00 EiB", -2 * GIB: "-2.00 GiB",
    },
    words.duration: {
        0: "0 s", 0.0004: "0.4 ms", 0.35: "350 ms", 0.9994: "999 ms", 0.9996: "1.0 s", 1: "1.0 s", 12.34: "12.3 s", 59.94: "59.9 s",
        59.96: "1 min", 60: "1 min", 450: "7 min 30 s", 7200: "2 h", 7200.4: "2 h", 7205: "2 h 0 min 5 s", 9900: "2 h 45 min",
        3599.6: "1 h", 86399: "23 h 59 min 59 s", 86399.6: "1 d", 90061: "1 d 1 h 1 min", 86400 * 3 + 4 * 3600: "3 d 4 h", -60: "-1 min",
    },
    words.share: {0: "0.0%", 0.875: "87.5%", 1: "100.0%", 9.505: "950.5%", 7.203: "720.3%", 0.00049: "0.0%", 0.0005: "0.1%"},
    words.change: {
        0.3125: "+31.3%", 0.375: "+37.5%", 0.188125: "+18.8%", -0.475: "-47.5%", -0.0495: "-5.0%", -0.25: "-25.0%", 0.0: "0.0%",
        0.0004: "0.0%", -0.0004: "0.0%", 0.0005: "+0.1%", 2.0: "+200.0%", -1.0: "-100.0%",
    },
    words.energy: {
        0: "0 J", 12.34: "12.3 J", 850.4: "850 J", 3599.4: "3599 J", 3600: "1.00 Wh", 100_000: "27.78 Wh", 3_599_999: "1.00 kWh",
        4.5e6: "1.25 kWh",
    },
    words.power: {0: "0 W", 311.5: "312 W", 999.6: "1.00 kW", 5200: "5.20 kW"},
    words.number: {4: "4", 1.5: "1.5", 1.25: "1.25", 0.126: "0.13", 100: "100", 0: "0", -0.001: "0"},
    words.temperature: {70.6: "71 °C", -3: "-3 °C"},
    words.rate: {1e6: "976.6 KiB/s"},
    words.gpu_hours: {900: "0.25 GPU-hours"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [(function, *case) for function, cases in SHOWN.items() for case in cases.items()],
    ids=lambda each: getattr(each, "__name__", str(each)),
)
def test_a_number_is_shown_as_people_read_it(function: Callable[[float], str], value: float, text: str) -> None:
    """In the unit that fits; a half goes up, and what is rounded into the next unit is shown in it."""
    assert function(value) == text


@pytest.mark.parametrize("function", NUMBERS, ids=lambda each: each.__name__)
@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_what_is_not_known_is_no_number(function: Callable[[float | None], str], value: float | None) -> None:
    """Neither 0 nor ``nan``."""
    assert function(value) == "-"


@given(st.floats(0, 1e18), st.integers(0, 3))
def test_what_is_rounded_is_off_by_half_a_step_at_most(value: float, digits: int) -> None:
    """And a number below zero is rounded as the same above it."""
    step = 10.0**-digits
    assert abs(words.rounded(value, digits) - value) <= step / 2 + value * 1e-9
    assert words.rounded(-value, digits) == -words.rounded(value, digits)


@given(st.floats(0, 2.0**62))
def test_a_size_is_near_what_it_stands_for(value: float) -> None:
    """No unit is skipped or mistaken, and the number before it has four digits at most."""
    amount, unit = words.size(value).split()
    factor = 1024.0 ** ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"].index(unit)
    assert float(amount) * factor == pytest.approx(value, rel=0.06, abs=0.51)
    assert float(amount) < 1024


@given(st.floats(1, 1e8))
def test_a_length_of_time_is_near_what_it_stands_for(seconds: float) -> None:
    """Its parts add up to it, and none is as much as the next greater unit."""
    sizes = {"d": 86400, "h": 3600, "min": 60, "s": 1}
    parts = [(float(amount), unit) for amount, unit in re.findall(r"([\d.]+) (d|h|min|s)\b", words.duration(seconds))]
    allowed = 30.001 if seconds >= 86399 else 0.5001 if seconds > 59 else 0.0501
    assert abs(sum(amount * sizes[unit] for amount, unit in parts) - seconds) <= allowed
    assert all(amount < {"d": 1e9, "h": 24, "min": 60, "s": 60}[unit] for amount, unit in parts)


def test_times_are_local_and_say_so() -> None:
    """The zone is behind them, or is told apart."""
    at, zone = 1_760_000_040_123_456_789, timezone(timedelta(hours=5, minutes=30))
    assert words.when(at, zone) == "2025-10-09 14:24:00 +05:30"
    assert (words.clock(at, zone), words.clock(at, zone, day=True), words.offset(at, zone)) == (
        *("14:24:00", "10-09 14:24:00"),
        "+05:30",
    )
    assert words.iso(at) == "2025-10-09T08:54:00.123456Z"
    assert (words.when(None), words.clock(None), words.iso(None)) == ("-", "-", None)


def test_local_time_is_that_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also across a change of summer time."""
    import time

    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        assert words.when(1_760_000_040_000_000_000) == "2025-10-09 10:54:00 +02:00"
        assert words.when(1_764_000_000_000_000_000) == "2025-11-24 17:00:00 +01:00"
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        *((2 * GIB, "By", "2.00 GiB"), (90, "s", "1 min 30 s"), (0.5, "1", "50.0%"), (5, "{process}", "5")),
        *((3.5, "V", "3.5 V"), (None, "V", "-"), (None, "By", "-"), (1200, "J", "1200 J")),
    ],
)
def test_a_value_is_shown_by_its_unit(value: float | None, unit: str, text: str) -> None:
    """As metrics have it; a unit without words of its own stands behind."""
    assert words.shown(value, unit) == text


def test_one_is_no_plural() -> None:
    """Nor is none one."""
    assert [words.counted(each, "job") for each in (0, 1, 2)] == ["0 jobs", "1 job", "2 jobs"]
    assert words.counted(2, "process", "processes") == "2 processes"
