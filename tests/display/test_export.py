# SPDX-License-Identifier: Apache-2.0
"""CSV, JSON lines and Parquet have every value that was recorded, and no other."""

from __future__ import annotations

import csv
import json
import math
import sqlite3
import tracemalloc
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import recorded
from otel_hwmetrics.catalog import gpu, own, system, training, tree
from otel_hwmetrics.display.export import looks as looks_module
from otel_hwmetrics.display.export import parquet
from otel_hwmetrics.display.export.choice import Choice, moment, patterns_of, unmatched
from otel_hwmetrics.display.export.columns import columns_of
from otel_hwmetrics.display.export.csv_files import write_csv, write_epochs
from otel_hwmetrics.display.export.json_lines import write_json_lines
from otel_hwmetrics.display.export.looks import looks_of, parts_of
from otel_hwmetrics.display.export.parquet import write_parquet
from otel_hwmetrics.display.export.target import NoEpochs, target
from otel_hwmetrics.display.words import iso
from otel_hwmetrics.model import Kind, Series
from otel_hwmetrics.recording import Run, open_run
from otel_hwmetrics.recording.nouns import DONE, PARENT, Job, JobSample, RecordedSeries, RecordedSpan
from recorded import SECOND, START
from recorded_looks import Look, process, write

HOT = Series(gpu.TEMPERATURE, {"hw.id": "GPU-1", "hwmetrics.gpu.index": 1, "hw.sensor_location": "gpu"})
USED = Series(gpu.MEMORY_USAGE, {"hw.id": "GPU-1", "hwmetrics.gpu.index": 1})
STEPS = Series(training.STEPS)
TREE = Series(tree.MEMORY_USAGE)
EXACT = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53).map(float)


def silent(_: int) -> None:
    """Hears how far an export has come."""


def in_csv(run: Run, path: Path, choice: Choice | None = None) -> list[dict[str, str]]:
    """A run as rows of CSV."""
    choice = choice or Choice()
    write_csv(parts_of(run, choice), choice, str(path), silent)
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def in_lines(run: Run, path: Path, choice: Choice | None = None) -> list[dict[str, Any]]:
    """A run as JSON lines."""
    choice = choice or Choice()
    write_json_lines(run, parts_of(run, choice), choice, str(path), silent)
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def in_parquet(run: Run, path: Path, choice: Choice | None = None) -> list[dict[str, Any]]:
    """A run as rows of Parquet."""
    arrow = pytest.importorskip("pyarrow.parquet")
    choice = choice or Choice()
    count = write_parquet(run, parts_of(run, choice), choice, str(path), silent)
    table = arrow.read_table(path)
    assert table.num_rows == count
    rows: list[dict[str, Any]] = table.set_column(0, "timestamp", table.column(0).cast("int64")).to_pylist()
    return rows


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(told=st.lists(st.tuples(st.none() | EXACT, st.none() | EXACT, st.none() | EXACT), min_size=1, max_size=70))
def test_every_value_comes_through(
    told: list[tuple[float | None, ...]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """In each format: exactly, of whole numbers and others, and what was not read is nowhere."""
    folder = tmp_path_factory.mktemp("exact")
    series = (HOT, USED, TREE)
    looks: list[Look] = [
        (START + n * SECOND + n, {each: value for each, value in zip(series, values, strict=True) if value is not None})
        for n, values in enumerate(told)
    ]
    write(folder / "a.run.db", looks)
    names = ("hw.temperature/gpu_1.gpu", "hw.gpu.memory.usage/gpu_1", "hwmetrics.tree.memory.usage")
    by_series = dict(zip(series, names, strict=True))
    wanted = [(at, {by_series[each]: value for each, value in values.items()}) for at, values in looks if values]
    with open_run(str(folder)) as run:
        rows = in_csv(run, folder / "x.csv")
        lines = [line for line in in_lines(run, folder / "x.jsonl") if line["type"] == "sample"]
        values = in_parquet(run, folder / "x.parquet")
    found = [
        (row.pop("timestamp"), {name: float(text) for name, text in row.items() if text})
        for row in rows
        if any(row.values())
    ]
    assert [each for each in found if each[1]] == [(iso(at), those) for at, those in wanted]
    assert [(line["time_unix_nano"], line["values"]) for line in lines if line["values"]] == wanted
    in_order = sorted((row["timestamp"], row["series"], row["value"]) for row in values)
    assert in_order == sorted((at, name, value) for at, those in wanted for name, value in those.items())


def test_whole_numbers_are_whole_and_exact(tmp_path: Path) -> None:
    """Bytes and counts are without a point, up to the largest that a recording has; what measures has one."""
    large = float(2**53)
    write(tmp_path / "a.run.db", [(START, {USED: large, STEPS: 3.0, HOT: 41.0})])
    with open_run(str(tmp_path)) as run:
        (row,) = in_csv(run, tmp_path / "x.csv")
        sample = next(line for line in in_lines(run, tmp_path / "x.jsonl") if line["type"] == "sample")
    assert row["hw.gpu.memory.usage/gpu_1"] == "9007199254740992"
    assert row["hwmetrics.training.steps"] == "3"
    assert row["hw.temperature/gpu_1.gpu"] == "41.0"
    assert isinstance(sample["values"]["hw.gpu.memory.usage/gpu_1"], int)


def test_rows_are_in_the_order_of_time_with_jobs_beside_series(tmp_path: Path) -> None:
    """The first column is the time; a job's figures and the series of one moment are one row."""
    recorded.run(tmp_path, 70)
    with open_run(str(tmp_path)) as run:
        rows = in_csv(run, tmp_path / "x.csv")
    assert next(iter(rows[0])) == "timestamp"
    assert [row["timestamp"] for row in rows] == [iso(START + n * SECOND) for n in range(71)]
    assert rows[7]["hwmetrics.job.memory/train.1"] == str(2**30 + 7 * 2**20) == rows[7]["hwmetrics.tree.memory.usage"]
    assert not any("" in row.values() for row in rows)


def test_files_of_a_run_are_told_apart_by_their_process(tmp_path: Path) -> None:
    """Each process has rows of its own, by host, rank and pid; one name is one column."""
    for rank in (1, 0):
        write(
            tmp_path / f"{rank}.run.db", [(START + n * SECOND, {HOT: 40.0 + rank}) for n in range(3)], who=process(rank)
        )
    with open_run(str(tmp_path)) as run:
        rows = in_csv(run, tmp_path / "x.csv")
        lines = in_lines(run, tmp_path / "x.jsonl")
        values = in_parquet(run, tmp_path / "x.parquet")
    assert [(row["rank"], row["pid"], row["hw.temperature/gpu_1.gpu"]) for row in rows[:2]] == [
        ("0", "4000", "40.0"),
        ("1", "4001", "41.0"),
    ]
    assert len(rows) == 6
    assert list(rows[0])[:4] == ["timestamp", "host", "rank", "pid"]
    ranks = {line["process"]: line["rank"] for line in lines if line["type"] == "process"}
    assert ranks == {0: 0, 1: 1}
    assert {(row["rank"], row["pid"], row["value"]) for row in values} == {(0, 4000, 40.0), (1, 4001, 41.0)}


def test_the_jobs_of_a_launcher_are_columns_of_their_own(tmp_path: Path) -> None:
    """Also two of one name, and names with anything in them."""
    jobs = [
        (Job(n, name, state=DONE, started_ns=START), [JobSample(START, cpu=float(n), memory=7.0)])
        for n, name in ((1, 'a,"b'), (2, 'a,"b'), (3, "größe\nx"))
    ]
    write(tmp_path / "a.run.db", who=replace(recorded.about(), role=PARENT), jobs=jobs)
    with open_run(str(tmp_path)) as run:
        (row,) = in_csv(run, tmp_path / "x.csv", Choice(("hwmetrics.job.cpu",)))
        lines = in_lines(run, tmp_path / "x.jsonl")
    assert list(row.values())[1:] == ["1.0", "2.0", "3.0"]
    told = {line["attributes"]["hwmetrics.job.name"] for line in lines if line["type"] == "series"}
    assert told == {'a,"b', "größe\nx"}


_VALUES = st.text(max_size=80) | st.integers(0, 9) | st.booleans()


@settings(max_examples=60, deadline=None)
@given(
    every=st.lists(
        st.dictionaries(
            st.sampled_from(["hw.id", "hw.name", "hwmetrics.gpu.index", "hw.driver_version", "system.device", "x.y"]),
            _VALUES,
        ),
        max_size=8,
        unique_by=lambda each: tuple(sorted((key, str(value)) for key, value in each.items())),
    ),
    metric=st.sampled_from(["hw.temperature", "system.uptime", "hwmetrics.of_another.version"]),
)
def test_no_two_series_share_a_column(every: list[dict[str, Any]], metric: str) -> None:
    """Whatever is in their attributes, and of metrics that this version does not know."""
    series = [RecordedSeries(n, metric, "Cel", Kind.GAUGE, attributes) for n, attributes in enumerate(every)]
    columns = columns_of(series)
    assert len({column.name for column in columns.values()}) == len(every) == len(columns)
    assert all(column.unit == "Cel" and column.attributes == every[n] for n, column in columns.items())


def epoch(number: int, begin: int, end: int | None, name: str = "epoch", told: int | None = None) -> RecordedSpan:
    """An epoch's span."""
    ended = None if end is None else START + end * SECOND
    attributes = {} if told is None else {"hwmetrics.training.epoch": told}
    return RecordedSpan("a" * 32, f"{number + 1:016x}", "", name, START + begin * SECOND, ended, attributes=attributes)


def test_each_epoch_is_a_file_with_its_steps(tmp_path: Path) -> None:
    """Named by the epoch's number; rows between epochs are in none; steps are counted from the epoch's beginning."""
    looks = [(START + n * SECOND, {STEPS: float(n * 10), HOT: 40.0}) for n in range(30)]
    write(
        tmp_path / "a.run.db", looks, spans=[epoch(0, 0, 10, told=7), epoch(1, 12, 20), epoch(2, 25, None, "Epoch 3")]
    )
    with open_run(str(tmp_path)) as run:
        files = write_epochs(parts_of(run, Choice()), Choice(), str(tmp_path / "e"), silent)
    assert {Path(path).name: rows for path, rows in files.items()} == {
        "epoch_3.csv": 5,
        "epoch_7.csv": 10,
        "epoch_8.csv": 8,
    }
    with (tmp_path / "e" / "epoch_8.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:2] == ["step", "timestamp"]
    assert [row["step"] for row in rows] == [str(n) for n in range(0, 80, 10)]
    assert rows[0]["timestamp"] == iso(START + 12 * SECOND)


def steps_of(path: Path) -> list[tuple[str, str]]:
    """The first two columns of an epoch's file: when, and the number of steps."""
    with path.open(newline="", encoding="utf-8") as file:
        return [(row["timestamp"], row["step"]) for row in csv.DictReader(file)]


def test_steps_of_old_epochs_are_counted_by_the_minute(tmp_path: Path) -> None:
    """Where only minutes were kept: at the end of each; an epoch that goes on into full detail counts from its beginning."""
    looks = [(START + n * SECOND, {STEPS: float(n), HOT: 40.0}) for n in range(0, 1800, 10)]
    spans = [epoch(0, 0, 330), epoch(1, 330, 1790)]
    write(tmp_path / "a.run.db", looks, spans=spans, detail=900.0)
    with open_run(str(tmp_path)) as run:
        (part,) = parts_of(run, Choice())
        write_epochs([part], Choice(), str(tmp_path / "e"), silent)
    assert part.rolled_until is not None
    assert steps_of(tmp_path / "e" / "epoch_0.csv") == [
        (iso(START + n * 60 * SECOND), str(n * 60 - 10)) for n in range(1, 6)
    ]
    later = steps_of(tmp_path / "e" / "epoch_1.csv")
    assert len(later) > 100
    # 290 at 300 s and 350 at 360 s make 320 at 330 s; a minute's total is that of its last look
    assert later[0] == (iso(START + 360 * SECOND), "30")
    assert later[-1] == (iso(START + 1780 * SECOND), str(1780 - 320))
    assert [int(step) for _, step in later] == sorted(int(step) for _, step in later)


def test_json_is_what_every_program_reads(tmp_path: Path) -> None:
    """A loss that is NaN, or has grown without end, is a word in the JSON of lines and of Parquet's attributes."""
    losses: dict[str, Any] = {
        "loss": math.nan,
        "most": math.inf,
        "least": -math.inf,
        "each": [1.0, math.nan],
        "steps": 3,
    }
    span = replace(epoch(0, 0, 10), attributes=losses)
    odd = Series(gpu.TEMPERATURE, {"hw.id": "GPU-1", "scale": math.nan})
    write(tmp_path / "a.run.db", [(START, {odd: 1.0})], spans=[span])

    def none(word: str) -> None:
        raise AssertionError(word)

    with open_run(str(tmp_path)) as run:
        in_lines(run, tmp_path / "x.jsonl")
        values = in_parquet(run, tmp_path / "x.parquet")
    text = (tmp_path / "x.jsonl").read_text(encoding="utf-8").splitlines()
    lines = [json.loads(line, parse_constant=none) for line in text]
    (told,) = [line["attributes"] for line in lines if line["type"] == "span"]
    assert told == {"loss": "NaN", "most": "Infinity", "least": "-Infinity", "each": [1.0, "NaN"], "steps": 3}
    assert json.loads(values[0]["attributes"], parse_constant=none)["scale"] == "NaN"


def test_a_run_without_epochs_says_so(tmp_path: Path) -> None:
    """Instead of an empty folder."""
    write(tmp_path / "a.run.db", [(START, {HOT: 1.0})])
    with (
        open_run(str(tmp_path)) as run,
        pytest.raises(NoEpochs, match="no training span of this run is called 'epoch'"),
    ):
        write_epochs(parts_of(run, Choice()), Choice(), str(tmp_path / "e"), silent)
    assert not (tmp_path / "e").exists()


def test_devices_that_look_alike_keep_their_columns() -> None:
    """By what tells them apart, in whatever order they were met: the column of one is the same in every run."""
    every = [
        RecordedSeries(n, "hw.temperature", "Cel", Kind.GAUGE, {"hw.id": f"x{n}", "hw.name": "fan"}) for n in range(3)
    ]
    names = {number: column.name for number, column in columns_of(every).items()}
    assert names == {number: column.name for number, column in columns_of(reversed(every)).items()}
    assert all(name.startswith("hw.temperature/fan--") for name in names.values())


def test_what_is_old_is_there_by_the_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the time of which only minutes were kept: a mean of a gauge, the last of a sum, the highest of a peak."""
    monkeypatch.setattr(looks_module, "_TOGETHER", 4)
    peak = Series(gpu.TEMPERATURE_PEAK, HOT.attributes)
    looks = [
        (START + n * SECOND, {HOT: float(n % 60), USED: float(n), peak: float(n % 60)}) for n in range(0, 1800, 10)
    ]
    write(tmp_path / "a.run.db", looks, detail=900.0)
    with open_run(str(tmp_path)) as run:
        (part,) = parts_of(run, Choice())
        rows = in_csv(run, tmp_path / "x.csv")
        later = in_csv(run, tmp_path / "y.csv", Choice(start_ns=START + 1700 * SECOND))
    assert part.rolled_until is not None
    minutes = (part.rolled_until - START) // (60 * SECOND)
    assert 10 <= minutes <= 16
    assert [row["timestamp"] for row in rows[:minutes]] == [iso(START + n * 60 * SECOND) for n in range(1, minutes + 1)]
    first = rows[0]
    assert first["hw.temperature/gpu_1.gpu"] == "25.0"
    assert first["hw.gpu.memory.usage/gpu_1"] == "50"
    assert first["hwmetrics.temperature.peak/gpu_1.gpu"] == "50.0"
    assert [row["timestamp"] for row in rows[minutes:]] == [iso(at) for at, _ in looks if at >= part.rolled_until]
    assert [row["timestamp"] for row in later] == [iso(START + n * SECOND) for n in range(1700, 1800, 10)]


def test_seconds_that_become_one(tmp_path: Path) -> None:
    """``every``: one look for so many seconds, at the time of its last."""
    write(tmp_path / "a.run.db", [(START + n * SECOND, {HOT: float(n), USED: float(n)}) for n in range(125)])
    with open_run(str(tmp_path)) as run:
        rows = in_csv(run, tmp_path / "x.csv", Choice(every=60.0))
    assert [(row["timestamp"], row["hw.temperature/gpu_1.gpu"], row["hw.gpu.memory.usage/gpu_1"]) for row in rows] == [
        (iso(START + 59 * SECOND), "29.5", "59"),
        (iso(START + 119 * SECOND), "89.5", "119"),
        (iso(START + 124 * SECOND), "122.0", "124"),
    ]


def test_a_stretch_of_time_and_some_metrics(tmp_path: Path) -> None:
    """Both ends are included, of jobs, too; what is not asked for is no column."""
    recorded.run(tmp_path, 100)
    choice = Choice(patterns_of("hw.*,-hw.energy"), START + 10 * SECOND, START + 20 * SECOND)
    with open_run(str(tmp_path)) as run:
        rows = in_csv(run, tmp_path / "x.csv", choice)
        jobs = in_csv(run, tmp_path / "y.csv", replace(choice, patterns=("hwmetrics.job.*",)))
    assert [row["timestamp"] for row in rows] == [iso(START + n * SECOND) for n in range(10, 21)]
    assert [row["timestamp"] for row in jobs] == [iso(START + n * SECOND) for n in range(10, 21)]
    assert {name.partition("/")[0] for name in rows[0]} == {"timestamp", "hw.gpu.utilization", "hw.gpu.memory.usage"}


def test_json_lines_tell_all_that_there_is(tmp_path: Path) -> None:
    """Run, processes, jobs, series, samples, spans, alerts and files; the first line has the version."""
    recorded.run(tmp_path, 70)
    with open_run(str(tmp_path)) as run:
        lines = in_lines(run, tmp_path / "x.jsonl")
        spans, alerts = run.spans(), run.alerts()
    assert lines[0] | {"type": "run", "version": 1, "id": run.id, "name": "train"} == lines[0]
    types = [line["type"] for line in lines]
    assert list(dict.fromkeys(types)) == ["run", "process", "job", "series", "sample", "span", "alert", "file"]
    job = next(line for line in lines if line["type"] == "job")
    assert job["request"]["gpu_memory"] == 40 * 2**30
    assert job["summary"]["figures"]["memory"].keys() == {"peak", "mean", "p95"}
    found = [line for line in lines if line["type"] == "span"]
    assert sorted((each["span_id"], each["ended_unix_nano"]) for each in found) == sorted(
        (span.span_id, span.ended_ns) for span in spans
    )
    assert [each["message"] for each in lines if each["type"] == "alert"] == [alert.message for alert in alerts]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_longer_recording_takes_no_more_memory(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four times the time takes the same memory: it goes through a minute at a time, of Parquet a row group."""
    if kind == "parquet":
        pytest.importorskip("pyarrow")
        monkeypatch.setattr(parquet, "ROWS", 5000)
    series = [Series(gpu.TEMPERATURE, {"hw.id": f"{n}", "hwmetrics.gpu.index": n}) for n in range(40)]
    taken = []
    for name, minutes in (("warm", 2), ("short", 12), ("long", 48)):
        folder = tmp_path / name
        folder.mkdir()
        write(
            folder / "a.run.db",
            [(START + n * SECOND, dict.fromkeys(series, float(n))) for n in range(0, minutes * 60, 2)],
        )
        with open_run(str(folder)) as run:
            parts = parts_of(run, Choice())
            tracemalloc.start()
            if kind == "csv":
                write_csv(parts, Choice(), str(folder / "x"), silent)
            elif kind == "jsonl":
                write_json_lines(run, parts, Choice(), str(folder / "x"), silent)
            else:
                write_parquet(run, parts, Choice(), str(folder / "x"), silent)
            taken.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert taken[2] < 1.3 * taken[1] + 200_000


def test_a_file_is_there_when_it_is_whole(tmp_path: Path) -> None:
    """What fails half-way leaves what was there before, and nothing beside it."""
    path = tmp_path / "x.csv"
    path.write_text("before")
    with suppress(BlockingIOError), target(str(path)) as file:
        file.write(b"after")
        raise BlockingIOError
    assert path.read_text() == "before"
    assert [each.name for each in tmp_path.iterdir()] == ["x.csv"]
    with target(str(path)) as file:
        file.write(b"after")
    assert path.read_text() == "after"
    assert path.stat().st_mode & 0o111 == 0


ENDED = START + 3600 * SECOND


@pytest.mark.parametrize(
    ("text", "at_ns"),
    [
        ("2025-10-09T08:54:00Z", START),
        ("2025-10-09 08:54", START),
        ("2025-10-09T10:54:00.25+02:00", START + SECOND // 4),
        ("+90s", START + 90 * SECOND),
        ("+1h30m", START + 5400 * SECOND),
        ("+1h 30", START + 3630 * SECOND),
        ("start+1min 1.5s", START + 61 * SECOND + SECOND // 2),
        ("-10m", ENDED - 600 * SECOND),
        ("end-10m", ENDED - 600 * SECOND),
        ("start+1d", START + 86400 * SECOND),
        ("-0.5", ENDED - SECOND // 2),
        ("1760000040.000000001", START + 1),
        ("1760000040", START),
    ],
)
def test_moments(text: str, at_ns: int) -> None:
    """Each way of saying when."""
    assert moment(text, START, ENDED) == at_ns


@pytest.mark.parametrize(
    "text",
    [
        *("", "yesterday", "+", "+10x", "10m", "2025-13-01", "++1s", "+10 5s", "+1h 30 5m"),
        # what takes a pattern of patterns years to refuse, and what no clock of a recording has
        *(f"+{'1' * 60}x", f"-{'1m ' * 40}x", f"+{'1' * 400}", "+1e9", "+300000d", "99999999999", "9999-01-01"),
    ],
)
def test_what_is_no_moment(text: str) -> None:
    """It is named, with what would be one."""
    with pytest.raises(ValueError, match=r"is no moment: 2026-03-01T14:05:09\+01:00"):
        moment(text, START, ENDED)


@pytest.mark.parametrize(
    ("text", "metric", "taken"),
    [
        (None, "hw.temperature", True),
        ("hw.*", "hw.temperature", True),
        ("hw.*", "system.uptime", False),
        ("-hw.*", "hw.temperature", False),
        ("-hw.*", "system.uptime", True),
        ("all,-*.peak *.temperature.peak", "hwmetrics.temperature.peak", True),
        ("default", own.SAMPLE_AGE.name, True),
        ("default", training.STEP_TIME_COMPLETED.name, False),
        ("default", "hwmetrics.job.cpu", True),
    ],
)
def test_patterns(text: str | None, metric: str, *, taken: bool) -> None:
    """As of the option ``metrics``."""
    assert Choice(patterns_of(text)).takes(metric) is taken


def test_a_pattern_that_has_nothing_is_named() -> None:
    """With what is near to it, and whether this run has just not recorded it."""
    recorded_names = ["hw.temperature", "system.uptime"]
    assert unmatched(("hw.temprature",), recorded_names).endswith(
        "no metric of this run is called so; hw.temperature is one."
    )
    assert unmatched((system.METRICS[0].name,), ["hw.temperature"]).endswith("nothing of it was recorded in this run.")
    assert unmatched(("all", "-nothing", "hw.*"), recorded_names) == ""


def test_a_clock_that_was_set_back_loses_no_look(tmp_path: Path) -> None:
    """Two looks that are told for one moment are two rows."""
    write(tmp_path / "a.run.db", [(START, {HOT: 1.0}), (START, {HOT: 2.0}), (START - SECOND, {HOT: 3.0})])
    with open_run(str(tmp_path)) as run:
        values = [row["hw.temperature/gpu_1.gpu"] for row in in_csv(run, tmp_path / "x.csv")]
    assert sorted(values) == ["1.0", "2.0", "3.0"]


def test_a_recording_that_is_being_written_has_no_reader_in_its_way(tmp_path: Path) -> None:
    """Between two parts of an export its writer can commit, also without WAL, where a reader keeps it waiting."""
    path = write(tmp_path / "a.run.db", [(START + n * 10 * SECOND, {HOT: float(n)}) for n in range(200)], detail=900.0)
    with sqlite3.connect(path) as writer:
        assert writer.execute("PRAGMA journal_mode = TRUNCATE").fetchone() == ("truncate",)
    writer.close()
    with open_run(str(tmp_path)) as run:
        seen = 0
        for _ in looks_of(parts_of(run, Choice())[0], Choice()):
            seen += 1
            with sqlite3.connect(path, timeout=0.0) as writer:
                writer.execute("UPDATE writer SET heard_ns = heard_ns + 1")
            writer.close()
    assert seen > 10


def test_numbers_that_are_none_are_absent(tmp_path: Path) -> None:
    """What no hardware should tell: an infinity is no value in any format."""
    write(tmp_path / "a.run.db", [(START, {HOT: math.inf, USED: 1.0})])
    with open_run(str(tmp_path)) as run:
        (row,) = in_csv(run, tmp_path / "x.csv")
    assert (row["hw.temperature/gpu_1.gpu"], row["hw.gpu.memory.usage/gpu_1"]) == ("", "1")
