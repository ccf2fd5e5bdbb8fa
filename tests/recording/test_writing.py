# SPDX-License-Identifier: Apache-2.0
"""Promises of what is written: all of it comes back, within its bounds, whatever happens meanwhile."""

from __future__ import annotations

import json
import math
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from struct import pack

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_hwmetrics.catalog import gpu
from otel_hwmetrics.model import Series
from otel_hwmetrics.recording import Recording, Writer, open_run
from otel_hwmetrics.recording.nouns import SUMMARY, Job, JobSample, RecordedFile, RecordedSpan, Totals
from otel_hwmetrics.recording.schema import APPLICATION, VERSION
from otel_hwmetrics.recording.writer import MOST_WAITING
from recorded import GIB, SECOND, SERIES, START, about, alert, run, sample, values

MANY = [Series(gpu.UTILIZATION, {"hwmetrics.gpu.index": number}) for number in range(6)]
LOOKS = st.lists(
    st.tuples(
        st.integers(1, 40),
        st.dictionaries(st.sampled_from(MANY), st.floats(allow_nan=False, allow_infinity=False), max_size=6),
    ),
    min_size=1,
    max_size=40,
)


def _give(writer: Writer, second: float, told: dict[Series, float]) -> None:
    writer.look(START + round(second * SECOND), tuple(told), pack(f"{len(told)}d", *told.values()))


@pytest.mark.no_cover
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(looks=LOOKS, each=st.integers(1, 7))
def test_what_was_read_comes_back_and_nothing_else(
    tmp_path: Path, looks: list[tuple[int, dict[Series, float]]], each: int
) -> None:
    """Exactly, of series that come and go, over the borders of minutes and of batches."""
    path = tmp_path / "any.run.db"
    for old in tmp_path.glob("any*"):
        old.unlink()
    writer = Writer(str(path), about())
    expected: dict[Series, list[tuple[int, float]]] = {}
    second = 0
    for number, (later, told) in enumerate(looks):
        second += later
        _give(writer, second, told)
        for series, value in told.items():
            expected.setdefault(series, []).append((START + second * SECOND, value))
        if number % each == 0:
            writer.commit(START + second * SECOND)
    writer.close(START + second * SECOND)
    with Recording(str(path)) as recording:
        found = {
            Series(gpu.UTILIZATION, series.attributes): list(zip(*recording.values(series.id), strict=True))
            for series in recording.series()
        }
        assert found == expected
        for each_series in recording.series():
            told_values = [value for _, value in expected[Series(gpu.UTILIZATION, each_series.attributes)]]
            minutes = recording.minutes(each_series.id)
            assert sum(minute.looks for minute in minutes) == len(told_values)
            assert max(minute.high for minute in minutes) == max(told_values)
            assert min(minute.low for minute in minutes) == min(told_values)
            assert minutes[-1].last == told_values[-1]


def test_the_views_answer_the_queries_that_people_know(tmp_path: Path) -> None:
    """By the names of the columns that go round for job monitors; per cent, bytes, seconds."""
    path = run(tmp_path)
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(
            "SELECT job_id, timestamp, cpu_percent, memory_bytes, num_processes FROM job_resource_samples"
            " WHERE job_id = 1 ORDER BY timestamp"
        ).fetchall()
        assert len(rows) == 151
        assert rows[0] == (1, START / 1e9, pytest.approx(150.0), GIB, 5)
        cursor = connection.execute("SELECT * FROM job_metadata")
        (row,) = cursor.fetchall()
        named = dict(zip((column[0] for column in cursor.description), row, strict=True))
        assert (named["job_id"], named["job_name"], named["exit_code"]) == (1, "train", 0)
        assert named["requested_memory_bytes"] == 8 * GIB
        minutes = connection.execute("SELECT * FROM metrics_by_minute WHERE metric = 'hw.energy'").fetchall()
        assert len(minutes) == 2 * 2  # two whole minutes of two GPUs
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION,)
        assert connection.execute("PRAGMA user_version").fetchone() == (VERSION,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_it_can_be_read_while_it_is_written(tmp_path: Path) -> None:
    """What was committed, and nothing of what waits; the reader keeps the writer from nothing."""
    path = tmp_path / "live.run.db"
    writer = Writer(str(path), about())
    writer.job(Job(1, "train", started_ns=START))
    for second in range(3):
        _give(writer, second, values(second))
        writer.sample(1, sample(second), Totals(1.0 * second))
        writer.commit(START + second * SECOND)
        _give(writer, second + 0.5, values(second))
        with Recording(str(path)) as recording:
            assert len(recording.job_samples(1)) == second + 1
            assert recording.about.heard_ns == START + second * SECOND
            assert sum(len(block.times) for block in recording.blocks()) == 2 * second + 1
    writer.close(START)


def test_a_summary_has_one_row_a_job_and_no_series(tmp_path: Path) -> None:
    """For those who want to know what to ask for next time, and nothing more."""
    path = run(tmp_path, who=about(granularity=SUMMARY))
    with open_run(str(path)) as found:
        (job,) = found.jobs()
        assert job.summary.looks == 151
        assert job.summary.figures["memory"].peak == GIB + 150 * 2**20
        assert found.job_samples(1) == []
        assert found.recordings[0].series() == []
        assert len(found.spans()) == 4
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM job_summary").fetchone() == (1,)


def test_minutes_outlive_the_detail(tmp_path: Path) -> None:
    """Of looks that are too old there is mean, least and most of each minute; nothing of the newer ones is lost."""
    path = tmp_path / "old.run.db"
    writer = Writer(str(path), about(), detail=120.0)
    for second in range(600):
        _give(writer, second, values(second))
        if second % 5 == 0:
            writer.commit(START + second * SECOND)
    writer.close(START + 600 * SECOND)
    with Recording(str(path)) as recording:
        energy = next(each for each in recording.series() if each.metric == "hw.energy")
        times, _ = recording.values(energy.id)
        assert START + 360 * SECOND <= times[0] <= START + 480 * SECOND
        assert len(times) == (START + 599 * SECOND - times[0]) // SECOND + 1
        minutes = recording.minutes(energy.id)
        assert [minute.looks for minute in minutes] == [60] * 10
        assert (minutes[3].low, minutes[3].high, minutes[3].last) == (240.0 * 180, 240.0 * 239, 240.0 * 239)


def test_a_file_stays_within_its_bound(tmp_path: Path) -> None:
    """The oldest looks go first, the newest ten minutes stay, and so do the jobs and what they came to."""
    path = tmp_path / "big.run.db"
    bound = 400_000
    writer = Writer(str(path), about(), size=bound)
    writer.job(Job(1, "train", started_ns=START))
    noise = [Series(gpu.UTILIZATION, {"hwmetrics.gpu.index": number}) for number in range(40)]
    for second in range(0, 6 * 3600, 4):
        told = {series: math.sin(second * (place + 1)) for place, series in enumerate(noise)}
        _give(writer, second, told)
        writer.sample(1, sample(second), Totals())
        if second % 20 == 0:
            writer.commit(START + second * SECOND)
    writer.close(START + 6 * 3600 * SECOND)
    assert os.path.getsize(path) <= bound
    with open_run(str(path)) as found:
        recording = found.recordings[0]
        times, _ = recording.values(1)
        assert times[0] <= START + (6 * 3600 - 590) * SECOND
        assert times[-1] == START + (6 * 3600 - 4) * SECOND
        (job,) = found.jobs()
        assert job.summary.looks == 6 * 900
        assert job.summary.figures["memory"].peak == GIB + (6 * 3600 - 4) * 2**20


def test_a_refused_commit_loses_nothing(tmp_path: Path) -> None:
    """What could not be written is written by the next one; each once."""
    path = tmp_path / "locked.run.db"
    writer = Writer(str(path), about())
    writer.job(Job(1, "train", started_ns=START))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for second in range(70):
            _give(writer, second, values(second))
            writer.sample(1, sample(second), Totals())
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            writer.commit(START)
        other.execute("ROLLBACK")
    writer.commit(START + 70 * SECOND)
    _give(writer, 71, values(71))
    writer.close(START + 71 * SECOND)
    with Recording(str(path)) as recording:
        times, _ = recording.values(1)
        assert list(times) == [START + second * SECOND for second in (*range(70), 71)]
        assert len(recording.job_samples(1)) == 70
        assert writer.lost == 0


def test_what_waits_is_bounded(tmp_path: Path) -> None:
    """A disk that refuses for an hour costs the oldest looks, and not the job's memory."""
    writer = Writer(str(tmp_path / "full.run.db"), about())
    for second in range(MOST_WAITING + 100):
        _give(writer, second, values(second))
    assert writer.lost == 100
    writer.close(START)
    with Recording(writer.path) as recording:
        times, _ = recording.values(1)
        assert len(times) == MOST_WAITING
        assert times[-1] == START + (MOST_WAITING + 99) * SECOND


@pytest.mark.parametrize("wrong", [-7200, -90, 185, 2 * 86400])
def test_a_clock_that_is_wrong_for_a_moment_costs_next_to_nothing(tmp_path: Path, wrong: int) -> None:
    """Every look is there, at the time that it was told of, and minutes that came twice are one; what is older stays."""
    path = tmp_path / "clock.run.db"
    writer = Writer(str(path), about())
    expected = []
    for second in range(1800):
        told = second + (wrong if second == 900 else 0)
        expected.append((told, values(second)[SERIES[0]]))
        _give(writer, told, values(second))
        if second % 5 == 0:
            writer.commit(START + told * SECOND)
    writer.close(START + 1800 * SECOND)
    with Recording(str(path)) as recording:
        found = next(
            each for each in recording.series() if each.attributes == SERIES[0].attributes and "util" in each.metric
        )
        times, figures = recording.values(found.id)
        seconds = [(at - START) // SECOND for at in times]
        minutes = recording.minutes(found.id)
        assert sum(minute.looks for minute in minutes) == 1800
        assert len({minute.start_ns for minute in minutes}) == len(minutes)
        if wrong == 2 * 86400:  # a tenth of what was there is taken for old, at most
            assert len(seconds) >= 1800 * 0.85
        else:
            assert sorted(zip(seconds, figures, strict=True)) == sorted(expected)


def test_somebody_elses_file_is_left_alone(tmp_path: Path) -> None:
    """Not one byte of it is changed."""
    path = tmp_path / "theirs.run.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE precious (x)")
        connection.commit()
    before = path.read_bytes()
    with pytest.raises(ValueError, match="no recording"):
        Writer(str(path), about())
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("precious",)]
    assert len(path.read_bytes()) == len(before)


def test_odd_words_are_kept_as_far_as_they_are_text(tmp_path: Path) -> None:
    """A path of any bytes costs its odd bytes, and not the batch."""
    path = tmp_path / "odd.run.db"
    writer = Writer(str(path), about(tags={"who": "naïve \udcff"}))
    writer.job(Job(1, "it's; DROP TABLE jobs", started_ns=START, tags={"a": 'b"'}))
    _give(writer, 0, {Series(gpu.UTILIZATION, {"path": "/x\udcff"}): 1.0})
    writer.close(START)
    with open_run(str(path)) as found:
        assert found.jobs()[0].name == "it's; DROP TABLE jobs"
        assert found.jobs()[0].tags == {"a": 'b"'}
        assert found.recordings[0].series()[0].attributes == {"path": r"/x\udcff"}
        assert found.tags == {"who": r"naïve \udcff"}


ODD = "/data/\udcff"
_SPAN = RecordedSpan("t", "s", "", "epoch", START, None)


@pytest.mark.parametrize(
    "give",
    [
        lambda writer: writer.job(
            Job(1, ODD, ODD, started_ns=START, exit_code=2**64, tags={ODD: ODD}, blocked_by=(ODD,))
        ),
        lambda writer: writer.span(replace(_SPAN, name=ODD, attributes={ODD: ODD, "many": 2**70})),
        lambda writer: writer.alert(replace(alert(1), device=ODD, message=ODD, attributes={ODD: ODD})),
        lambda writer: writer.file(RecordedFile(START, "profile", ODD)),
        lambda writer: writer.sample(1, JobSample(START, cpu=math.inf, memory=math.nan, processes=1.0), Totals(1.0)),
    ],
    ids=["job", "span", "alert", "file", "figures"],
)
def test_nothing_that_a_job_has_keeps_the_rest_from_being_written(
    tmp_path: Path, give: Callable[[Writer], None]
) -> None:
    """Bytes that are no text, numbers of more than 64 bits, figures that are none."""
    path = tmp_path / "x.run.db"
    writer = Writer(str(path), about(name=ODD, host=ODD))
    writer.job(Job(1, "train", started_ns=START))
    give(writer)
    _give(writer, 1, values(1))
    writer.close(START + SECOND)
    assert writer.lost == 0
    with open_run(str(path)) as found:
        assert found.name == r"/data/\udcff"
        assert len(found.jobs()) == 1
        assert found.recordings[0].series()
        json.dumps([each.attributes for each in found.spans()], ensure_ascii=False).encode()


def test_what_can_never_be_written_is_let_go_of(tmp_path: Path) -> None:
    """A fault of ours in one batch is no fault in the next."""
    writer = Writer(str(tmp_path / "x.run.db"), about())
    _give(writer, 0, values(0))
    writer.span(replace(_SPAN, name=object()))  # type: ignore[arg-type] # on purpose
    with pytest.raises(sqlite3.Error):
        writer.commit(START)
    assert writer.lost == 2
    _give(writer, 1, values(1))
    writer.close(START + SECOND)
    with Recording(writer.path) as recording:
        times, _ = recording.values(1)
        assert list(times) == [START + SECOND]


def test_spans_and_alerts_have_a_bound_of_their_own(tmp_path: Path) -> None:
    """A span for every step of a week takes no room from what the hardware did; the roots and the newest stay."""
    path = tmp_path / "steps.run.db"
    writer = Writer(str(path), about(granularity=SUMMARY), size=6_000_000)
    writer.span(RecordedSpan("t", "root", "", "training", START, None))
    for second in range(3600):
        at = START + second * SECOND
        writer.span(RecordedSpan("t", f"{second}", "root", "step", at, at + 1, attributes={"words": "x" * 200}))
        writer.alert(replace(alert(second)))
        if second % 10 == 0:
            writer.commit(at)
    writer.close(START + 3600 * SECOND)
    with Recording(str(path)) as recording:
        spans, alerts = recording.spans(), recording.alerts()
        assert spans[0].span_id == "root"
        assert spans[-1].span_id == "3599"
        assert len(spans) <= 300
        assert len(alerts) <= 300
    assert os.path.getsize(path) < 600_000


def test_a_reader_without_an_end_does_not_fill_the_disk(tmp_path: Path) -> None:
    """The journal has its bound; what comes later waits, and is written when the reader is gone."""
    path = tmp_path / "read.run.db"
    writer = Writer(str(path), about(), size=1)
    writer._most_journal = 200_000
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM writer").fetchall()
        with pytest.raises(sqlite3.OperationalError, match="reads it without an end"):  # noqa: PT012 - some time
            for second in range(2000):
                _give(writer, second, values(second))
                writer.commit(START + second * SECOND)
        assert os.path.getsize(f"{path}-wal") < 400_000
    writer.commit(START + 3000 * SECOND)
    writer.close(START + 3000 * SECOND)
    assert writer.lost == 0


def test_series_have_a_number_each_for_the_whole_file(tmp_path: Path) -> None:
    """Whatever comes and goes; a layout that returns is not written again."""
    path = tmp_path / "few.run.db"
    writer = Writer(str(path), about())
    for second in range(0, 1200, 30):
        _give(writer, second, values(second) if second % 60 else {SERIES[0]: 1.0})
        writer.commit(START + second * SECOND)
    writer.close(START)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM series").fetchone() == (len(SERIES),)
        assert connection.execute("SELECT count(*) FROM layouts").fetchone()[0] <= 3
