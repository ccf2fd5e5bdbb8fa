# SPDX-License-Identifier: Apache-2.0
"""The nouns: a row that contradicts itself is refused, series are keys, snapshots hold still."""

from __future__ import annotations

import re
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from otel_hwmetrics.model import Attribute, Kind, Metric, Quotient, Rate, Reading, Series, Share, Snapshot, Unit, Window

COUNTER = Metric("disk.io", Kind.COUNTER, Unit.BYTE, "Bytes.", attributes=("device", "direction"))
GAUGE = Metric("disk.heat", Kind.GAUGE, Unit.CELSIUS, "Heat.")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"name": "heat"}, "'heat' is no metric name: lower-case words with dots between"),
        ({"name": "disk.Heat"}, "'disk.Heat' is no metric name"),
        ({"name": "disk..heat"}, "'disk..heat' is no metric name"),
        ({"name": "disk.heat "}, "'disk.heat ' is no metric name"),
        ({"name": "9disk.heat"}, "'9disk.heat' is no metric name"),
        ({"name": ""}, "'' is no metric name"),
        ({"description": "Heat"}, "disk.heat: the description is a sentence and ends in a full stop"),
        ({"description": ""}, "disk.heat: the description is a sentence"),
        (
            {"kind": Kind.COUNTER, "derivation": Rate(COUNTER)},
            "only a gauge can follow from other metrics, not a counter",
        ),
        ({"kind": Kind.HISTOGRAM}, "a histogram has boundaries"),
        ({"kind": Kind.GAUGE, "boundaries": (1.0,)}, "and nothing else does"),
        ({"kind": Kind.HISTOGRAM, "boundaries": (1.0, 1.0)}, "its boundaries do not rise"),
        ({"kind": Kind.HISTOGRAM, "boundaries": (2.0, 1.0)}, "its boundaries do not rise"),
        ({"kind": Kind.UP_DOWN_COUNTER, "derivation": Quotient(GAUGE, GAUGE)}, "other metrics, not a updowncounter"),
        ({"derivation": Rate(GAUGE)}, "disk.heat: disk.heat is not a counter, so it has no growth"),
        ({"derivation": Share(GAUGE, "device")}, "disk.heat: disk.heat is not a counter, so it has no growth"),
        ({"derivation": Share(COUNTER, "colour")}, "disk.heat: disk.io has no attribute colour"),
        ({"attributes": ("device", "device")}, "disk.heat: an attribute is named twice"),
    ],
)
def test_a_row_that_contradicts_itself_is_refused_and_told_why(changes: dict[str, Any], why: str) -> None:
    """Each rule of a row, broken alone, raises ValueError with the row's name and the rule."""
    with pytest.raises(ValueError, match=re.escape(why)):
        replace(GAUGE, **changes)


@pytest.mark.parametrize(
    "derivation", [None, Rate(COUNTER), Rate(COUNTER, over=GAUGE), Share(COUNTER, "direction"), Quotient(GAUGE, GAUGE)]
)
def test_a_row_that_agrees_with_itself_is_taken(derivation: Any) -> None:
    """A gauge may follow from others in each of the ways that there are."""
    assert replace(GAUGE, derivation=derivation).derivation is derivation


def test_a_row_cannot_be_changed() -> None:
    """Rows are shared by every thread, so they are frozen."""
    with pytest.raises(FrozenInstanceError):
        GAUGE.name = "disk.cold"  # type: ignore[misc]


def test_equal_rows_are_one_key() -> None:
    """A row is found in a dictionary by an equal row."""
    assert {GAUGE: 1}[replace(GAUGE)] == 1


def test_series_are_equal_when_metric_and_attributes_are() -> None:
    """The order in which attributes were given does not tell two series apart; metric, key and value do."""
    series = Series(COUNTER, {"device": "sda", "direction": "read"})
    same = Series(replace(COUNTER), {"direction": "read", "device": "sda"})
    assert series == same
    assert hash(series) == hash(same)
    assert {series: 1}[same] == 1
    others = [
        Series(GAUGE, series.attributes),
        Series(COUNTER, {"device": "sdb", "direction": "read"}),
        Series(COUNTER, {"device": "sda"}),
        Series(COUNTER, {"device": "sda", "way": "read"}),
        Series(COUNTER),
    ]
    assert all(series != other for other in others)
    assert len({series, same, *others}) == 6
    assert series != ("disk.io", (("device", "sda"), ("direction", "read")))


def test_attributes_of_a_series_cannot_be_changed() -> None:
    """Neither through the series nor through the dictionary that it was made from: its hash is fixed."""
    given: dict[str, Attribute] = {"device": "sda"}
    series = Series(COUNTER, given)
    given["device"] = "sdb"
    assert dict(series.attributes) == {"device": "sda"}
    with pytest.raises(TypeError):
        series.attributes["device"] = "sdb"  # type: ignore[index]
    with pytest.raises(AttributeError):
        series.colour = "red"  # type: ignore[attr-defined]
    assert series == Series(COUNTER, {"device": "sda"})


def test_a_series_of_another_metric_has_the_same_attributes() -> None:
    """`of` changes the row alone."""
    series = Series(COUNTER, {"device": "sda"})
    assert series.of(GAUGE) == Series(GAUGE, {"device": "sda"})
    assert repr(series.of(GAUGE)) == "Series(disk.heat, {'device': 'sda'})"


def test_a_reading_shows_its_row_and_attributes() -> None:
    """What consumers ask of a reading is its series'."""
    series = Series(COUNTER, {"device": "sda"})
    reading = Reading(series, 7, 1.5)
    assert reading.metric is COUNTER
    assert reading.attributes is series.attributes
    assert (reading.value, reading.at) == (7, 1.5)


def test_a_window_is_as_long_as_its_ends_are_apart() -> None:
    """In seconds; a first look has none."""
    assert Window(2.0, 5.5).seconds == 3.5
    assert Window(2.0, 2.0).seconds == 0


def test_a_snapshot_gives_readings_by_metric() -> None:
    """Every reading is found below its row, in the order given, and what was not read is not there."""
    readings = [Reading(Series(COUNTER, {"device": name}), 1, 0) for name in ("sda", "sdb")]
    heat = Reading(Series(GAUGE), 40.0, 0)
    snapshot = Snapshot([readings[0], heat, readings[1]], Window(1, 3), 99)
    assert snapshot.of(COUNTER) == tuple(readings)
    assert snapshot.of(replace(GAUGE)) == (heat,)
    assert snapshot.of(replace(GAUGE, name="disk.cold")) == ()
    assert sorted(reading.metric.name for reading in snapshot) == ["disk.heat", "disk.io", "disk.io"]
    assert len(snapshot) == 3
    assert snapshot.time_unix_nano == 99
    assert repr(snapshot) == "<Snapshot of 3 readings over 2.000 s>"


def test_a_snapshot_holds_still() -> None:
    """It keeps what it was given, whatever becomes of the list; and what it gives away cannot be added to."""
    readings = [Reading(Series(GAUGE), 40.0, 0)]
    snapshot = Snapshot(readings, Window(0, 1), 0)
    readings.clear()
    assert len(snapshot) == 1
    assert isinstance(snapshot.of(GAUGE), tuple)


def test_an_empty_snapshot_is_empty() -> None:
    """A machine of which nothing could be read gives no readings, no zeros."""
    snapshot = Snapshot([], Window(0, 0), 0)
    assert list(snapshot) == []
    assert len(snapshot) == 0
    assert snapshot.of(GAUGE) == ()
