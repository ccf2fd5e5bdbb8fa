# SPDX-License-Identifier: Apache-2.0
"""The format of a flight recording: what is written is read again, whole or cut off, by us and by others."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alarms import alert
from otel_hwmetrics.alerts.rule import State
from otel_hwmetrics.alerts.transition import Transition
from otel_hwmetrics.catalog import METRICS, gpu, process
from otel_hwmetrics.model import Series
from otel_hwmetrics.sinks import flight_file
from otel_hwmetrics.sinks.flight_file import SCHEMA, VERSION, Flight, lines, read_flight
from otel_hwmetrics.sinks.rows import Row

POWER = [Series(gpu.POWER, {gpu.HW_ID: f"GPU-{number}", gpu.GPU_INDEX: number}) for number in range(3)]
MEMORY = Series(process.MEMORY_USAGE)

# The machine may be busy with anything else; files are written where the fixture says, one after the other.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


def row(second: int, values: dict[Series, float]) -> Row:
    """What was read at a second."""
    return Row(float(second), second * 1_000_000_000, tuple(values), struct.pack(f"{len(values)}d", *values.values()))


def written(
    path: Path, rows: list[Row], transitions: list[Transition] | None = None, **header: object
) -> tuple[str, bytes]:
    """A file, and what is in it."""
    content = b"".join(lines(header, rows, transitions or []))
    path.write_bytes(content)
    return str(path), content


def table(flight: Flight) -> list[dict[tuple[str, str], float]]:
    """What each sample holds, by the name and the attributes of the series."""
    names = [(each["name"], json.dumps(each["attributes"], sort_keys=True)) for each in flight.series]
    assert len(set(names)) == len(names)
    assert [each["column"] for each in flight.series] == list(range(len(names)))
    assert all(len(sample["values"]) == len(names) for sample in flight.samples)
    return [
        {name: value for name, value in zip(names, sample["values"], strict=True) if value is not None}
        for sample in flight.samples
    ]


ATTRIBUTES = st.dictionaries(st.text(max_size=8), st.text() | st.integers() | st.booleans(), max_size=3)
SERIES = st.builds(Series, st.sampled_from(METRICS), ATTRIBUTES)
VALUES = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def recordings(draw: st.DrawFn) -> list[dict[Series, float]]:
    """Samples of series that come and go."""
    known = draw(st.lists(SERIES, min_size=1, max_size=6, unique=True))
    looks = st.dictionaries(st.sampled_from(known), VALUES)
    return draw(st.lists(looks, max_size=8))


@unhurried
@given(samples=recordings(), states=st.lists(st.sampled_from([State.FIRING, State.RESOLVED])), reason=st.text())
def test_what_is_written_is_read_again(
    tmp_path: Path, samples: list[dict[Series, float]], states: list[State], reason: str
) -> None:
    """Every value of every series to the last bit, whatever came and went; who, why and the alerts, in their order."""
    rows = [row(second, values) for second, values in enumerate(samples)]
    steps = [alert(state, at=number).transition for number, state in enumerate(states)]
    path, content = written(tmp_path / "a", rows, steps, reason=reason)
    flight = read_flight(path)
    assert flight.complete
    assert flight.header == {"schema": SCHEMA, "version": VERSION, "reason": reason}
    assert table(flight) == [
        {
            (series.metric.name, json.dumps(dict(series.attributes), sort_keys=True)): value
            for series, value in values.items()
        }
        for values in samples
    ]
    assert [(each["monotonic"], each["time_unix_nano"]) for each in flight.samples] == [
        (float(second), second * 1_000_000_000) for second in range(len(samples))
    ]
    assert [each["state"] for each in flight.transitions] == [state.value for state in states]
    assert [each["time_unix_nano"] for each in flight.transitions] == list(range(len(states)))
    content.decode("utf-8")
    kinds = [json.loads(line, parse_constant=pytest.fail)["type"] for line in content.splitlines()]
    assert kinds == sorted(kinds, key=["header", "series", "sample", "transition", "end"].index)


@unhurried
@given(samples=recordings(), data=st.data())
def test_a_file_that_is_cut_off_is_read_up_to_there(
    tmp_path: Path, samples: list[dict[Series, float]], data: st.DataObject
) -> None:
    """Every whole line of it, wherever the cut is, and it is said that something is missing; nothing where it has no header."""
    rows = [row(second, values) for second, values in enumerate(samples)]
    path, content = written(tmp_path / "a", rows, [alert().transition])
    whole = read_flight(path)
    cut = data.draw(st.integers(0, len(content) - 1))
    Path(path).write_bytes(content[:cut])
    if b"\n" not in content[:cut]:
        with pytest.raises(ValueError, match="is no flight recording"):
            read_flight(path)
        return
    flight = read_flight(path)
    assert not flight.complete
    assert flight.header == whole.header
    for part, all_of_it in (
        (flight.series, whole.series),
        (flight.samples, whole.samples),
        (flight.transitions, whole.transitions),
    ):
        assert part == all_of_it[: len(part)]
    left = [*flight.series, *flight.samples, *flight.transitions]
    assert len(left) == content[:cut].count(b"\n") - 1


def test_the_table_begins_with_the_newest_series(tmp_path: Path) -> None:
    """One table for the file: what only older samples have comes behind, and is null in the newer."""
    samples = [{POWER[0]: 1.0}, {POWER[1]: 2.0, POWER[0]: 3.0}, {POWER[2]: 4.0, POWER[1]: 5.0}]
    flight = read_flight(written(tmp_path / "a", [row(number, values) for number, values in enumerate(samples)])[0])
    assert [each["attributes"][gpu.GPU_INDEX] for each in flight.series] == [2, 1, 0]
    assert [each["values"] for each in flight.samples] == [[None, None, 1.0], [None, 2.0, 3.0], [4.0, 5.0, None]]
    assert flight.series[0] == {
        "column": 0,
        "name": "hw.power",
        "unit": "W",
        "kind": "gauge",
        "attributes": {"hw.id": "GPU-2", "hwmetrics.gpu.index": 2},
    }


def test_a_table_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where each second has other series the oldest are left out, and the header says how many."""
    monkeypatch.setattr(flight_file, "MOST_SERIES", 2)
    rows = [row(0, {POWER[0]: 1.0, MEMORY: 2.0}), row(1, {POWER[1]: 3.0}), row(2, {POWER[2]: 4.0})]
    flight = read_flight(written(tmp_path / "a", rows)[0])
    assert flight.header["series_left_out"] == 2
    assert [each["values"] for each in flight.samples] == [[None, None], [None, 3.0], [4.0, None]]


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_there_is_no_nan(tmp_path: Path, odd: float) -> None:
    """A number that JSON does not have is null; the others of its line stay."""
    step = alert(value=odd).transition
    path, content = written(tmp_path / "a", [row(0, {POWER[0]: odd, POWER[1]: 0.1})], [step])
    flight = read_flight(path)
    assert flight.samples[0]["values"] == [None, 0.1]
    assert flight.transitions[0]["attributes"]["hwmetrics.alert.value"] is None
    assert not {b"NaN", b"Infinity"} & set(content.replace(b":", b",").split(b","))


def test_names_that_are_no_unicode_are_written(tmp_path: Path) -> None:
    """Linux allows any bytes in a path; the file is UTF-8 all the same."""
    odd = Series(process.MEMORY_USAGE, {"mount": b"/caf\xe9/\xc3\xa9".decode("utf-8", "surrogateescape")})
    flight = read_flight(written(tmp_path / "a", [row(0, {odd: 1.0})])[0])
    assert flight.series[0]["attributes"] == {"mount": "/caf?/é"}


def test_what_a_later_minor_writer_adds_is_passed_over(tmp_path: Path) -> None:
    """Keys and types that this reader does not know."""
    path, content = written(tmp_path / "a", [row(0, {MEMORY: 1.0})])
    more = content.replace(b'"sample",', b'"sample","news":1,') + b'{"type":"news"}\n'
    Path(path).write_bytes(more)
    flight = read_flight(path)
    assert flight.complete
    assert flight.samples[0]["values"] == [1.0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "does not begin as one", id="empty"),
        pytest.param(b'{"type":"header"}\n', "does not begin as one", id="something else"),
        pytest.param(b'{"schema":"otel_hwmetrics.flight"}\n', "does not begin as one", id="without a version"),
        pytest.param(b'{"schema":"otel_hwmetrics.flight","version":2}\n', "version 2", id="of a later version"),
        pytest.param(b"[1]\n", "not all of its lines are objects", id="a list"),
        pytest.param(b"\x80\x81\n", "is no flight recording", id="bytes"),
        pytest.param(b'{"schema":"otel_hwmetrics.flight","version":1}\n{"ty\n', "is no flight", id="broken in it"),
    ],
)
def test_what_is_no_recording_is_told_apart(tmp_path: Path, content: bytes, message: str) -> None:
    """With the file's name and why."""
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_flight(str(tmp_path / "a"))
    assert str(tmp_path / "a") in str(caught.value)


def test_a_step_says_what_its_event_says(tmp_path: Path) -> None:
    """Rule, states and time beside the attributes of the event."""
    told = alert(at=5)
    (step,) = read_flight(written(tmp_path / "a", [], [told.transition])[0]).transitions
    assert step == {
        "time_unix_nano": 5,
        "rule": "gpu_hot",
        "before": "pending",
        "state": "firing",
        "attributes": dict(told.attributes),
    }
