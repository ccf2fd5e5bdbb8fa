# SPDX-License-Identifier: Apache-2.0
"""Promises of what is written: all of it comes back, within its bounds, whatever happens meanwhile."""

from __future__ import annotations

import math
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from struct import pack

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_hwmetrics.catalog import gpu
from otel_hwmetrics.model import Series
from otel_hwmetrics.recording import Recording, Writer, open_run
from otel_hwmetrics.recording.nouns import SUMMARY, Job, Totals
from otel_hwmetrics.recording.schema import APPLICATION, VERSION
from otel_hwmetrics.recording.writer import MOST_WAITING
from recorded import GIB, SECOND, SERIES, START, about, run, sample, values

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
            total = recording.totals()[each_series.id]
            assert (total.looks, total.high, total.low) == (len(told_values), max(told_values), min(told_values))


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
        assert START + 360 * SECOND <= times[0] <= START + 420 * SECOND
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


def test_a_clock_that_is_set_back_turns_nothing_around(tmp_path: Path) -> None:
    """Looks stay in their order; until the clock has caught up they are of one moment."""
    path = tmp_path / "clock.run.db"
    writer = Writer(str(path), about())
    for second in (0, 1, 130, 5, 6, 131):
        _give(writer, second, values(second))
        writer.commit(START + second * SECOND)
    writer.close(START)
    with Recording(str(path)) as recording:
        times, _ = recording.values(1)
        assert list(times) == [START + second * SECOND for second in (0, 1, 130, 130, 130, 131)]


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
        assert found.recordings[0].series()[0].attributes == {"path": "/x?"}


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
