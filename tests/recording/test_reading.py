# SPDX-License-Identifier: Apache-2.0
"""Promises of reading: files of a run are one run, and what cannot be read is told in a sentence."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from struct import pack

import pytest

from otel_hwmetrics.folders import host
from otel_hwmetrics.recording import Recording, RecordingError, Run, Writer, find_runs, open_run, opening
from otel_hwmetrics.recording.nouns import DONE, LOST, PARENT, RUNNING, Job, JobSample, RecordedSpan, Totals
from otel_hwmetrics.recording.schema import VERSION
from recorded import REQUEST, SECOND, SERIES, START, about, epochs, run, sample, values


def _give(writer: Writer, second: int) -> None:
    told = values(second)
    writer.look(START + second * SECOND, SERIES, pack(f"{len(SERIES)}d", *(told[each] for each in SERIES)))


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    """Jobs, looks, spans, alerts, files: each whole."""
    with open_run(str(run(tmp_path))) as found:
        (job,) = found.jobs()
        assert (job.name, job.command, job.state, job.exit_code, job.runtime) == (
            "train",
            "python train.py",
            DONE,
            0,
            150.0,
        )
        assert job.request == REQUEST
        assert job.summary.figures["gpu_activity"].mean == pytest.approx(0.81)
        assert job.summary.energy == 480.0 * 150
        assert found.spans() == sorted(epochs(150), key=lambda span: (span.started_ns, span.span_id))
        assert [alert.state for alert in found.alerts()] == ["firing", "resolved"]
        assert found.files()[0].kind == "profile"
        assert (found.id, found.name, found.started_ns) == ("1f3a9c2e", "train", START)
        assert found.ended_ns == START + 150 * SECOND


def test_a_stretch_of_time_is_what_was_asked_for(tmp_path: Path) -> None:
    """Both ends included, in every way to read."""
    with open_run(str(run(tmp_path))) as found:
        recording = found.recordings[0]
        start, end = START + 50 * SECOND, START + 70 * SECOND
        assert [each.at_ns for each in found.job_samples(1, start, end)] == [start + n * SECOND for n in range(21)]
        times, _ = recording.values(1, start, end)
        assert list(times) == [start + n * SECOND for n in range(21)]
        assert sum(len(block.times) for block in recording.blocks(start, end)) == 21
        assert [minute.start_ns for minute in recording.minutes(1, start, end)] == [START, START + 60 * SECOND]
        assert len(recording.values_of([each.id for each in recording.series()], start, end)) == len(recording.series())


def test_parts_of_a_job_are_the_means_of_its_looks(tmp_path: Path) -> None:
    """Every look is in one part; what is before and after the stretch is of the first and the last; absent is absent."""
    path = tmp_path / "a.run.db"
    writer = Writer(str(path), about())
    writer.job(Job(1, "train", started_ns=START))
    for second in range(20):
        known = JobSample(START + second * SECOND, cpu=float(second), memory=7.0 if second < 5 else None)
        writer.sample(1, known, Totals())
    writer.close(START + 20 * SECOND)
    with open_run(str(path)) as found:
        parts = found.job_parts(1, START, START + 20 * SECOND, 4)
        within = found.job_parts(1, START + 8 * SECOND, START + 12 * SECOND, 4)
        nothing = found.job_parts(1, START, START, 4)
    cpu = [(part.number, *part.figures["cpu"]) for part in parts]
    assert cpu == [(0, 5, 2.0), (1, 5, 7.0), (2, 5, 12.0), (3, 5, 17.0)]
    assert [part.figures.get("memory") for part in parts] == [(5, 7.0), None, None, None]
    assert [part.figures["cpu"] for part in within] == [(9, 4.0), (1, 9.0), (1, 10.0), (9, 15.0)]
    assert sum(part.figures["cpu"][0] for part in nothing) == 20


def test_ranks_are_one_run(tmp_path: Path) -> None:
    """One file each; jobs are numbered anew, spans and alerts are in the order of their time."""
    for rank in (2, 0, 1):
        run(tmp_path, 20, who=about(rank=rank, pid=100 + rank))
    with open_run("latest", str(tmp_path)) as found:
        assert [each.rank for each in found.abouts] == [0, 1, 2]
        assert [(job.id, job.rank) for job in found.jobs()] == [(1, 0), (2, 1), (3, 2)]
        assert len(found.job_samples(3)) == 21
        assert len(found.alerts()) == 6
        with pytest.raises(RecordingError, match=r"no job 4 .* there are: 1, 2, 3"):
            found.job_samples(4)


def test_a_process_that_lost_its_file_goes_on_in_another(tmp_path: Path) -> None:
    """It is one job still, with all that it came to; and it ended when the last file says so."""
    first = Writer(str(tmp_path / "1.run.db"), about())
    first.job(Job(1, "train", started_ns=START))
    for second in range(10):
        first.sample(1, sample(second), Totals(1.5 * second))
    first.span(RecordedSpan("t", "s", "", "epoch", START, None))
    first.commit(START + 9 * SECOND)
    second_one = Writer(str(tmp_path / "2.run.db"), about(started_ns=START + 10 * SECOND))
    second_one.go_on_from(first)
    for second in range(10, 20):
        second_one.sample(1, sample(second), Totals(1.5 * second))
    second_one.close(START + 20 * SECOND)
    with open_run("latest", str(tmp_path)) as found:
        (job,) = found.jobs()
        assert (job.id, job.summary.looks, job.summary.cpu_seconds) == (1, 20, 28.5)
        assert len(found.job_samples(1)) == 20
        assert found.ended_ns == START + 20 * SECOND
        assert {span.span_id for span in found.spans()} == {"s"}


def test_the_launcher_knows_the_jobs_and_their_processes_the_spans(tmp_path: Path) -> None:
    """Who watches a job from outside has seen its beginning and its end."""
    jobs = [
        Job(7, "a", started_ns=START, state=DONE, exit_code=0),
        Job(9, "b", started_ns=START, state=DONE, exit_code=3),
    ]
    run(tmp_path, 20, who=about(role=PARENT, name="pipeline"), jobs=jobs)
    run(tmp_path, 20, who=about(pid=77, started_ns=START + SECOND))
    with open_run("latest", str(tmp_path)) as found:
        assert found.name == "pipeline"
        assert [(job.id, job.name, job.exit_code) for job in found.jobs()] == [(7, "a", 0), (9, "b", 3)]
        assert len(found.job_samples(9)) == 21
        assert len(found.recordings) == 2


@pytest.mark.parametrize(
    ("which", "run_id"),
    [("latest", "bbbb2222"), ("aaaa1111", "aaaa1111"), ("aaaa", "aaaa1111"), ("bbbb", "bbbb2222"), ("one", "aaaa1111"), ("both", "bbbb2222")],
)  # fmt: skip
def test_a_run_is_found_by_what_people_have_of_it(tmp_path: Path, which: str, run_id: str) -> None:
    """Its id, the beginning of it, its name; of several of a name the latest."""
    run(tmp_path, 5, who=about("aaaa1111", name="one", started_ns=START))
    run(tmp_path, 5, who=about("aaaa2222", name="both", started_ns=START + 1))
    run(tmp_path, 5, who=about("bbbb2222", name="both", started_ns=START + 2))
    if which == "aaaa":
        with pytest.raises(RecordingError, match="Several runs begin with 'aaaa': aaaa2222, aaaa1111"):
            open_run(which, str(tmp_path))
        return
    with open_run(which, str(tmp_path)) as found:
        assert found.id == run_id


def test_a_file_stands_for_its_run(tmp_path: Path) -> None:
    """And a folder for the latest in it."""
    path = run(tmp_path, 5, who=about(rank=0))
    run(tmp_path, 5, who=about(rank=1))
    run(tmp_path, 5, who=about("ffff0000", started_ns=START - 1))
    with open_run(str(path)) as found:
        assert len(found.recordings) == 2
    with open_run(str(tmp_path)) as found:
        assert found.id == "1f3a9c2e"
    assert [each.run for each in find_runs(str(tmp_path))] == ["1f3a9c2e", "ffff0000"]


@pytest.mark.parametrize(
    ("pid", "where", "heard", "batch", "state"),
    [
        (None, "here", 14.0, 5.0, RUNNING),
        (2**22 - 3, "here", 14.0, 5.0, RUNNING),  # it may be seen from another namespace
        (2**22 - 3, "here", 16.0, 5.0, LOST),  # above what Linux gives by default
        (2**22 - 3, "another", 30.0, 5.0, RUNNING),
        (2**22 - 3, "another", 70.0, 5.0, LOST),
        (None, "here", 70.0, 5.0, LOST),
        (None, "here", 350.0, 120.0, RUNNING),
        (None, "here", 370.0, 120.0, LOST),
    ],
)
def test_a_job_of_which_nothing_is_heard_is_lost(  # noqa: PLR0917 - a table
    tmp_path: Path, pid: int | None, where: str, heard: float, batch: float, state: str
) -> None:
    """Its writer was killed: nobody has written an end, and none is made up."""
    jobs = [Job(1, "train", started_ns=START)]
    who = about(pid=os.getpid() if pid is None else pid, host=host() if where == "here" else where, batch=batch)
    path = run(tmp_path, 20, who=who, jobs=jobs, closed=False)
    with Run([str(path)], START + round((20 + heard) * SECOND)) as found:
        (job,) = found.jobs()
        assert (job.state, job.ended_ns, job.exit_code) == (state, None, None)
        assert job.runtime == 20.0
        assert found.ended_ns is None


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _text(path: Path) -> None:
    path.write_text("this is not a database, however long it may be\n" * 100)


def _newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")


def _other(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE x (y)")


def _cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _gone(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (_empty, "empty"),
        (_text, "no recording: file is not a database"),
        (_newer, "newer version of otel-hwmetrics: update"),
        (_other, "no recording"),
        (_cut, r"cannot be read.*\.recover"),
        (_gone, "no file"),
    ],
)
def test_what_cannot_be_read_is_told_in_a_sentence(tmp_path: Path, harm: object, words: str) -> None:
    """Which file, why, and what to do; other runs of the folder are found all the same. Some harm shows only later."""
    path = run(tmp_path, 100)
    run(tmp_path, 5, who=about("ffff0000", started_ns=START - 1))
    harm(path)  # type: ignore[operator] # one of the above
    with pytest.raises(RecordingError, match=words) as error, Recording(str(path)) as recording:  # noqa: PT012 - see above
        recording.spans()
        list(recording.blocks())
    assert str(path) in str(error.value)
    assert "ffff0000" in [each.run for each in find_runs(str(tmp_path))]


def test_nothing_there_is_said_with_what_to_do(tmp_path: Path) -> None:
    """A first user has no recordings yet."""
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(RecordingError, match=r"no recordings in .*otel-hwmetrics run"):
            open_run(folder=str(folder))
    run(tmp_path, 5)
    with pytest.raises(RecordingError, match=r"no run 'abc' in .*report --list"):
        open_run("abc", str(tmp_path))


def _killed(folder: Path, name: str, journal: str) -> Path:
    """A recording whose writer was killed in the middle of a transaction that had come to the disk."""
    folder.mkdir()
    path = run(folder, 20, closed=journal == "DELETE", file_name=name)
    script = (
        "import os, sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "c.execute('PRAGMA journal_mode = ' + sys.argv[2])\n"
        "c.execute('PRAGMA cache_size = 1')\n"
        "c.execute('CREATE TABLE IF NOT EXISTS more (x)')\n"
        "c.execute('BEGIN')\n"
        "c.executemany('INSERT INTO more VALUES (?)', (('y' * 900,) for _ in range(500)))\n"
        "c.execute('DELETE FROM job_samples')\n"
        "os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", script, str(path), journal], check=False).returncode == -9
    return path


@pytest.mark.parametrize("journal", ["WAL", "DELETE"])
@pytest.mark.parametrize("beside", ["all of it", "without shared memory"])
@pytest.mark.parametrize("writable", [True, False])
def test_what_a_killed_writer_left_is_read_wherever_it_lies(
    tmp_path: Path, journal: str, beside: str, *, writable: bool
) -> None:
    """With its journal, also where that cannot be played back in its place: all that was committed, nothing else."""
    path = _killed(tmp_path / "killed", "x.run.db", journal)
    if beside != "all of it":
        path.with_name(path.name + "-shm").unlink(missing_ok=True)
    os.chmod(path.parent, stat.S_IRWXU if writable else stat.S_IRUSR | stat.S_IXUSR)
    try:
        with open_run(str(path)) as found:
            assert len(found.job_samples(1)) == 21
            times, _ = found.recordings[0].values(1)
            assert len(times) == 21
    finally:
        os.chmod(path.parent, stat.S_IRWXU)


def test_a_locked_file_is_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not read as if nothing were in it."""
    monkeypatch.setattr(opening, "_PATIENCE", 0.05)
    path = run(tmp_path, 20)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(RecordingError, match=r"locked.* Try again"):
            Recording(str(path))


def test_what_is_read_together_is_of_one_moment(tmp_path: Path) -> None:
    """A writer puts a minute together between any two pages: each look is there once, in whatever way it is read."""
    path = tmp_path / "busy.run.db"
    writer = Writer(str(path), about())
    for second in range(0, 7000, 60):
        _give(writer, second)
        writer.commit(START + second * SECOND)
    with Recording(str(path)) as recording:
        seen = []
        for number, block in enumerate(recording.blocks()):
            if number < 30:
                for more in range(5):
                    _give(writer, 7000 + number * 20 + more * 4)
                    writer.commit(START + 7000 * SECOND)
            seen += list(block.times)
    writer.close(START)
    assert len(seen) == len(set(seen))
    with Recording(str(path)) as recording:
        times, _ = recording.values(1)
        assert list(times) == sorted(seen)


def test_runs_of_many_nodes_on_other_days_are_other_runs(tmp_path: Path) -> None:
    """Torchrun on several nodes gives nothing but an address and a port, week after week."""
    for number, day in enumerate((0, 0, 7)):
        began = START + day * 86400 * SECOND
        run(tmp_path, 20, who=about("torch-12345678", rank=number, pid=number + 1, started_ns=began, heard_ns=began))
    with closing(sqlite3.connect(next(iter(tmp_path.glob("*-2-*"))))) as connection:
        connection.execute("UPDATE writer SET heard_ns = started_ns + 1")
        connection.commit()
    assert [len(each.paths) for each in find_runs(str(tmp_path))] == [1, 2]


def test_reading_leaves_nothing_behind(tmp_path: Path) -> None:
    """One file was written, and one is there afterwards."""
    path = run(tmp_path, 20)
    with open_run(str(path)) as found:
        found.jobs()
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_a_recording_can_be_read_where_nothing_can_be_written(tmp_path: Path) -> None:
    """An archive, a CD: also what was killed with its journal beside it, as far as that can be read there."""
    folder = tmp_path / "archive"
    folder.mkdir()
    shutil.copy(run(tmp_path, 20), folder / "x.run.db")
    os.chmod(folder / "x.run.db", stat.S_IRUSR)
    os.chmod(folder, stat.S_IRUSR | stat.S_IXUSR)
    try:
        with open_run(str(folder / "x.run.db")) as found:
            assert len(found.job_samples(1)) == 21
    finally:
        os.chmod(folder, stat.S_IRWXU)
