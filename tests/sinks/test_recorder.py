# SPDX-License-Identifier: Apache-2.0
"""The recorder: what it takes without waiting, what of it is written, and what the disk's refusals leave of it."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import NonRecordingSpan, SpanContext

from alarms import alert
from otel_hwmetrics import _guard
from otel_hwmetrics._guard import faults
from otel_hwmetrics.alerts.rule import Severity, State
from otel_hwmetrics.catalog import METRICS, gpu, gpu_activity, own, process, tree
from otel_hwmetrics.folders import Folder
from otel_hwmetrics.model import Series, Snapshot, Window
from otel_hwmetrics.recording import Run, open_run, schema
from otel_hwmetrics.recording.nouns import About, Job, JobSample, Totals
from otel_hwmetrics.sinks import recorder as module
from otel_hwmetrics.sinks.base import dropped
from otel_hwmetrics.sinks.recorder import MOST_LOOKS, MOST_OTHERS, Recorder
from otel_hwmetrics.sinks.recorder_about import plain
from otel_hwmetrics.sinks.recorder_choice import Choice, recorded_metrics
from otel_hwmetrics.sinks.recorder_file import LONGEST_PAUSE, RecordingFile
from otel_hwmetrics.sinks.recorder_jobs import JobLook
from otel_hwmetrics.sinks.tracker import SpanTracker
from otel_hwmetrics.testing import ManualClock
from otel_hwmetrics.windows.samples import Point, Sample

GPUS = [Series(gpu.TEMPERATURE, {gpu.HW_ID: f"GPU-{number}"}) for number in range(3)]
MEMORY = Series(tree.MEMORY_USAGE)
DETAIL = Series(process.MEMORY_USS)
EVERY = frozenset(metric.name for metric in METRICS)
PAUSE = 5.0


class Watch:
    """One job, which uses more at each look."""

    def __init__(self) -> None:
        self.job = Job(1, "train", started_ns=1)
        self.looks = 0

    def looked(self, snapshot: Snapshot) -> Iterable[JobLook]:
        """One CPU, then two, and so on."""
        self.looks += 1
        yield self.job, JobSample(snapshot.time_unix_nano, cpu=float(self.looks)), Totals(cpu_seconds=float(self.looks))

    def ended(self, time_unix_nano: int, exit_code: int | None) -> Iterable[JobLook]:
        """It says how."""
        ended = Job(1, "train", state="done", started_ns=1, ended_ns=time_unix_nano, exit_code=exit_code)
        yield ended, JobSample(time_unix_nano), Totals(cpu_seconds=100.0)


class Recording:
    """A recorder without its thread, and what a pipeline does with it every second."""

    def __init__(self, folder: Path, metrics: frozenset[str] = EVERY, **options: Any) -> None:
        self.clock = ManualClock()
        self.folder = folder
        self.file = RecordingFile(
            Folder(str(folder)),
            lambda now: About("run-1", "train", started_ns=now, heard_ns=now),
            detail=86400.0,
            size=2**30,
            pause=PAUSE,
            monotonic=self.clock.monotonic,
            time_ns=self.clock.time_ns,
            keep=options.pop("keep", 0.0),
        )
        options.setdefault("choice", Choice(metrics, lambda series, _: series))
        self.recorder = Recorder(self.file, Watch(), time_ns=self.clock.time_ns, **options)
        self.number = 0

    def look(self, points: dict[Series, float] | None = None) -> None:
        """A second passes, and some series are read."""
        self.clock.advance(1.0)
        self.number += 1
        at, now = self.clock.monotonic(), self.clock.time_ns()
        points = {GPUS[0]: float(self.number)} if points is None else points
        sample = Sample(self.number, at, now, {series: Point(value, at) for series, value in points.items()})
        self.recorder.on_look(sample, Snapshot((), Window(at - 1, at), now))

    def paused(self) -> bool:
        """Write, once the pause after a failure is over."""
        self.clock.advance(LONGEST_PAUSE + 1)
        return self.recorder.write()

    def read(self) -> Run:
        """What a reader sees."""
        return open_run(str(self.folder))

    def values(self, series: Series = GPUS[0]) -> list[float]:
        """What was recorded of a series."""
        with self.read() as run:
            found = [
                each.values(known.id)[1]
                for each in run.recordings
                for known in each.series()
                if (known.metric, dict(known.attributes)) == (series.metric.name, dict(series.attributes))
            ]
        return [value for values in found for value in values]


@pytest.fixture
def recording(tmp_path: Path) -> Iterator[Recording]:
    """One that writes below ``tmp_path``."""
    found = Recording(tmp_path / "ours")
    yield found
    found.file.finish()


def test_nothing_is_on_disk_before_it_is_written_and_all_of_it_afterwards(recording: Recording) -> None:
    """Who tells the recorder something waits for no disk; a batch has the looks, the job, spans, alerts and files."""
    tracker = SpanTracker()
    tracker.on, tracker.journal = True, recording.recorder
    provider = TracerProvider()
    provider.add_span_processor(tracker)  # type: ignore[arg-type] # one by its methods
    for _ in range(3):
        recording.look()
    with provider.get_tracer("t").start_as_current_span("epoch", attributes={"epoch": 1}) as span:
        tracker.watch(span)
        recording.recorder.on_alert(alert(span=span))
        recording.recorder.on_file(7, "flight", "/there/a.flight.jsonl")
        assert not recording.folder.exists()
        assert recording.recorder.write()
        with recording.read() as run:
            (begun,) = run.spans()
            assert (begun.name, begun.ended_ns, begun.attributes) == ("epoch", None, {"epoch": 1})
            (told,) = run.alerts()
            assert (told.rule, told.state, told.span_id, told.device) == ("gpu_hot", "firing", begun.span_id, "GPU 0")
            assert [(each.at_ns, each.kind, each.path) for each in run.files()] == [
                (7, "flight", "/there/a.flight.jsonl")
            ]
            assert [sample.cpu for sample in run.job_samples(1)] == [1.0, 2.0, 3.0]
        span.set_attribute("loss", 0.5)
        span.set_status(trace_status("OK"))
    recording.look()
    assert recording.recorder.write()
    with recording.read() as run:
        (ended,) = run.spans()
        assert ended.ended_ns is not None
        assert (ended.status, ended.attributes) == ("ok", {"epoch": 1, "loss": 0.5})
    assert recording.values() == [1.0, 2.0, 3.0, 4.0]


def trace_status(code: str) -> Any:
    """A status by its word."""
    from opentelemetry.trace import Status, StatusCode

    return Status(StatusCode[code])


def test_the_file_is_for_its_user_alone_and_called_after_the_run(recording: Recording) -> None:
    """With all that SQLite has beside it."""
    recording.look()
    recording.recorder.write()
    files = list(recording.folder.iterdir())
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert Path(recording.recorder.path) in files
    assert recording.recorder.path.endswith(f"-{os.getpid()}-run-1.run.db")


def test_what_is_no_longer_told_is_closed_in_good_order(recording: Recording) -> None:
    """The last looks, how the job ended and what it used in all are in one file, with nothing beside it."""
    recording.look()
    recorder = recording.recorder
    recorder.start()
    recording.look()
    recorder.close()
    recorder.join(20)
    with recording.read() as run:
        (job,) = run.jobs()
        assert (job.state, job.exit_code, job.summary.cpu_seconds, job.summary.looks) == ("done", None, 100.0, 2)
        assert run.ended_ns is not None
    assert [file.name for file in recording.folder.iterdir()] == [os.path.basename(recorder.path)]
    assert recording.values() == [1.0, 2.0]


def test_while_nobody_can_write_the_newest_looks_wait_and_others_up_to_a_bound(recording: Recording) -> None:
    """Memory has a bound, training goes on, and what is missing is told."""
    for _ in range(MOST_LOOKS + 7):
        recording.look()
    for _ in range(MOST_OTHERS + 3):
        recording.recorder.on_alert(alert())
    assert dropped["recorder", "queue_full"] == 3
    assert recording.recorder.write()
    assert recording.file.missing == 7
    assert recording.values() == [float(number) for number in range(8, MOST_LOOKS + 8)]
    with recording.read() as run:
        assert len(run.alerts()) == MOST_OTHERS


def refusing(pragma: str) -> Callable[[Recording], Callable[[], object]]:
    """A setting of SQLite by which it refuses as it does when the disk does."""

    def refuse(recording: Recording) -> Callable[[], object]:
        connection = recording.file.writer._connection  # type: ignore[union-attr]
        before, after = pragma.split(";")
        connection.execute(f"PRAGMA {before}")
        return lambda: connection.execute(f"PRAGMA {after}")

    return refuse


def locked(recording: Recording) -> Callable[[], object]:
    """Somebody else is writing."""
    other = sqlite3.connect(recording.recorder.path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    return other.close


FAILURES = {
    "full": (refusing("max_page_count = 1;max_page_count = 1073741823"), "the disk is full"),
    "read-only": (refusing("query_only = 1;query_only = 0"), "the file or its file system is read-only"),
    "locked": (locked, "another program has it locked"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_disk_that_refuses_is_told_once_and_loses_nothing(
    recording: Recording, failure: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One line says why, that training goes on and what is written stays readable; another that it works again."""
    refuse, why = FAILURES[failure]
    recording.look()
    assert recording.recorder.write()
    with recording.read() as run:
        assert len(run.job_samples(1)) == 1
    work_again = refuse(recording)
    series = {Series(gpu.TEMPERATURE, {gpu.HW_ID: f"GPU-{number}", "x": "y" * 99}): 1.0 for number in range(300)}
    for _ in range(3):
        recording.look({GPUS[0]: float(recording.number), **series})
        assert not recording.paused()
        assert recording.values() == [1.0]
    assert faults["writing a recording"] == 3
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("The run is not recorded at the moment, training is not affected: ")
    assert why in line
    assert "What was written before stays readable, and it is tried again." in line
    work_again()
    recording.look()
    assert recording.paused()
    assert recording.values() == [1.0, 1.0, 2.0, 3.0, 5.0]
    assert [record.getMessage() for record in caplog.records][1:] == [
        f"The run is recorded again: {recording.recorder.path}."
    ]


def test_it_is_tried_less_and_less_often(recording: Recording) -> None:
    """While the disk refuses, there is a growing pause between two tries, and nothing is asked of it meanwhile."""
    recording.look()
    recording.recorder.write()
    FAILURES["full"][0](recording)
    recording.look({GPUS[1]: 1.0, Series(gpu.TEMPERATURE, {"x": "y" * 9999}): 1.0})
    tries = []
    for second in range(200):
        before = faults["writing a recording"]
        recording.recorder.write()
        if faults["writing a recording"] > before:
            tries.append(second)
        recording.clock.advance(1.0)
    pauses = [later - earlier for earlier, later in pairwise(tries)]
    assert pauses == [5, 10, 20, 40, 60, 60]


@pytest.mark.parametrize("why", ["nowhere", "a file in the place of the folder"])
def test_where_no_file_can_be_made_it_is_tried_again(
    tmp_path: Path, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    """And what was told meanwhile is there once it can be."""
    place = tmp_path / "place"
    place.write_text("in the way")
    recording = Recording(place if why != "nowhere" else place / "below")
    for _ in range(3):
        recording.look()
        assert not recording.paused()
    assert len(caplog.records) == 1
    place.unlink()
    recording.look()
    assert recording.paused()
    assert recording.values() == [1.0, 2.0, 3.0, 4.0]
    recording.file.finish()


def test_a_file_that_cannot_be_begun_leaves_nothing_behind(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk each try would leave an empty file."""

    def refuse(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(schema, "prepare", refuse)
        for _ in range(3):
            recording.look()
            assert not recording.paused()
            assert list(recording.folder.iterdir()) == []
    assert recording.paused()
    assert recording.values() == [1.0, 2.0, 3.0]


def test_at_the_end_it_is_tried_once_more(recording: Recording) -> None:
    """Though it was refused a moment before, and would be tried again in a minute."""
    recording.look()
    recording.recorder.write()
    work_again = FAILURES["full"][0](recording)
    recording.look({GPUS[0]: 2.0, Series(gpu.TEMPERATURE, {"x": "y" * 9999}): 1.0})
    assert not recording.recorder.write()
    work_again()
    recording.recorder._finish()
    assert recording.values() == [1.0, 2.0]


def test_a_damaged_file_is_left_and_another_begun(recording: Recording, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing more is written into it, for somebody may be able to save some of it."""
    recording.look()
    recording.recorder.write()
    writer, path = recording.file.writer, recording.recorder.path
    assert writer is not None
    writer._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(os.urandom(os.path.getsize(path) - 4096))
    writer._connection.execute("PRAGMA shrink_memory")
    damaged = Path(path).read_bytes()
    recording.look()
    assert not recording.recorder.write()
    assert "the file is damaged" in caplog.text
    recording.look()
    assert recording.paused()
    assert recording.recorder.path != path
    assert Path(path).read_bytes() == damaged
    os.unlink(path)
    assert recording.values()[-1] == 3.0


@pytest.mark.parametrize("how", ["removed", "with its folder", "another in its place"])
def test_a_file_that_is_gone_is_begun_anew(recording: Recording, how: str, caplog: pytest.LogCaptureFixture) -> None:
    """Somebody has cleaned up; without this, the rest of the run would go into a file that has no name."""
    import shutil

    recording.look()
    recording.recorder.write()
    first = recording.recorder.path
    if how == "with its folder":
        shutil.rmtree(recording.folder)
    else:
        for each in recording.folder.iterdir():
            each.unlink()
    if how == "another in its place":
        Path(first).write_text("somebody's")
    recording.look()
    assert recording.recorder.write()
    if how == "another in its place":
        assert Path(first).read_text() == "somebody's"
        Path(first).unlink()
    assert recording.values() == [2.0]
    assert "it is no longer there" in caplog.text


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no Linux")
def test_a_job_that_closes_what_is_open_keeps_its_next_files_to_itself(
    recording: Recording, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A daemon closes all numbers, and opens files of its own under them, which SQLite would write to."""
    recording.look()
    recording.recorder.write()
    numbers = list(recording.file._held)
    assert len(numbers) >= 2
    for number in numbers:
        os.close(number)
    files = [open(tmp_path / f"job-{number}", "w+b", buffering=0) for number in range(len(numbers))]  # noqa: SIM115
    assert {file.fileno() for file in files} & {*numbers}
    for _ in range(3):
        recording.look()
        assert recording.recorder.write()
    assert [file.tell() for file in files] == [os.path.getsize(file.name) for file in files] == [0] * len(files)
    assert "the job has closed it" in caplog.text
    assert recording.values() == [1.0, 2.0, 3.0, 4.0]  # of two files, which are one run
    for file in files:
        file.close()


def test_several_recordings_of_one_second_have_names_of_their_own(tmp_path: Path) -> None:
    """As where somebody instruments, ends that and instruments again."""
    recordings = [Recording(tmp_path) for _ in range(3)]
    for recording in recordings:
        recording.look()
        assert recording.recorder.write()
        recording.file.finish()
    assert len({recording.recorder.path for recording in recordings}) == 3
    with open_run("run-1", str(tmp_path)) as run:
        assert len(run.recordings) == 3


def test_old_recordings_are_removed_and_nothing_else(tmp_path: Path) -> None:
    """Of this folder, called as ours, and written to by nobody for so long; what is beside them goes with them."""
    old, young, beside = (f"2026-01-0{n}T00-00-00Z-vm-{n}-x.run.db" for n in (1, 2, 3))
    others = ["mine.run.db", "2026-01-01T00-00-00Z-vm-1-x.flight.jsonl"]
    for name in (old, f"{old}-wal", f"{old}-shm", young, beside, f"{beside}-wal", *others):
        (tmp_path / name).write_text("")
        os.utime(tmp_path / name, (0, 0) if name not in (young, f"{beside}-wal") else None)
    recording = Recording(tmp_path, keep=3600.0)
    recording.look()
    recording.recorder.write()
    recording.file.finish()
    kept = {young, beside, f"{beside}-wal", *others, os.path.basename(recording.recorder.path)}
    assert {file.name for file in tmp_path.iterdir()} == kept


def test_what_is_recorded_follows_the_option_metrics() -> None:
    """Details are left out by default, but the counters that what is exported follows from are in, and no peak twice."""
    default, everything, two = (
        recorded_metrics(patterns)
        for patterns in (("default",), ("all",), ("hw.power", "hwmetrics.gpu.throttle.share"))
    )
    details = {metric.name for metric in METRICS if metric.detail}
    assert gpu_activity.THROTTLE_TIME.name in default & details
    assert process.MEMORY_USS.name not in default
    assert everything == EVERY - {gpu.MEMORY_PEAK.name, gpu.TEMPERATURE_PEAK.name}
    assert two == {gpu.ENERGY.name, gpu.POWER.name, gpu_activity.THROTTLE_TIME.name, gpu_activity.THROTTLE_SHARE.name}


def test_series_come_and_go_and_each_keeps_its_values(tmp_path: Path) -> None:
    """Those that are not chosen are left out; a series that is not read at a look has no value there."""
    held = [True]
    choice = Choice(
        EVERY - {DETAIL.metric.name},
        lambda series, _: series if held[0] else tuple(each for each in series if each != GPUS[1]),
    )
    recording = Recording(tmp_path, choice=choice)
    looks = [
        {GPUS[0]: 1.0, DETAIL: 9.0, GPUS[1]: 2.0, MEMORY: 3.0},
        {MEMORY: 4.0, GPUS[0]: 5.0},
        {GPUS[0]: 6.0, GPUS[1]: 7.0},
    ]
    for number, points in enumerate(looks * 3):
        held[0] = number < 6
        recording.look(points)
    recording.recorder.write()
    assert recording.values(GPUS[0]) == [1.0, 5.0, 6.0] * 3
    assert recording.values(GPUS[1]) == [2.0, 7.0, 2.0, 7.0]
    assert recording.values(MEMORY) == [3.0, 4.0] * 3
    assert recording.values(DETAIL) == []
    recording.file.finish()


@pytest.mark.parametrize("elected", [True, False])
def test_the_same_series_are_the_same_tuple(tmp_path: Path, *, elected: bool) -> None:
    """From look to look, or each would cost the writer a comparison of hundreds; also where another rank tells of some."""

    def kept(series: tuple[Series, ...], _: float) -> tuple[Series, ...]:
        return series if elected else tuple(each for each in series if each != MEMORY)

    recording = Recording(tmp_path, choice=Choice(EVERY - {DETAIL.metric.name}, kept))
    looks = [{GPUS[0]: 1.0, DETAIL: 9.0, MEMORY: 1.0}, {GPUS[0]: 1.0, GPUS[1]: 9.0, MEMORY: 1.0}]
    for _ in range(3):
        for points in looks:
            recording.look(points)
    rows = [look.row.series for look in recording.recorder._looks if look.row is not None]
    assert len({id(series) for series in rows}) == 2
    assert [len(series) for series in rows] == [2 if elected else 1, 3 if elected else 2] * 3


def test_a_summary_has_one_row_a_job_and_no_looks(tmp_path: Path) -> None:
    """Peak, mean and 95th percentile are there all the same."""
    recording = Recording(tmp_path, choice=None)
    for _ in range(10):
        recording.look()
    recording.file._about = lambda now: About("run-1", "train", started_ns=now, heard_ns=now, granularity="summary")
    recording.recorder.write()
    recording.file.finish()
    with recording.read() as run:
        (job,) = run.jobs()
        assert job.summary.figures["cpu"].peak == 10.0
        assert run.job_samples(1) == []
        assert run.recordings[0].series() == []


def test_an_alert_names_its_files_once(recording: Recording) -> None:
    """A flight recording that several alerts share is one file."""
    for name in ("gpu_lost", "gpu_hot"):
        told = alert(State.FIRING, severity=Severity.CRITICAL, name=name)
        attributes = {**told.attributes, own.ALERT_FLIGHT: "/f.flight.jsonl", own.ALERT_PROFILE: f"/{name}.trace.json"}
        object.__setattr__(told, "attributes", attributes)
        recording.recorder.on_alert(told)
    recording.recorder.write()
    with recording.read() as run:
        assert [(each.kind, each.path) for each in run.files()] == [
            ("flight", "/f.flight.jsonl"),
            ("profile", "/gpu_lost.trace.json"),
            ("profile", "/gpu_hot.trace.json"),
        ]


def test_attributes_are_written_as_json_has_them() -> None:
    """What is none, and what JSON has no number for, keeps nobody from writing the rest."""
    odd = {
        "nan": float("nan"),
        "inf": float("-inf"),
        "bytes": b"x",
        "object": object(),
        "list": [1, b"x", "a"],
        "ok": True,
    }
    assert plain(odd) == {"nan": "nan", "inf": "-inf", "list": [1, "a"], "ok": True}
    assert plain(None) == {}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, None),
        (ValueError("x"), 1),
        (KeyboardInterrupt(), -signal.SIGINT),
        (GeneratorExit(), None),
        (SystemExit(), 0),
        (SystemExit(3), 3),
        (SystemExit("no"), 1),
    ],
)
def test_an_exception_that_ends_the_process_tells_its_exit_status(
    error: BaseException | None, code: int | None
) -> None:
    """As the interpreter does it: https://docs.python.org/3/library/exceptions.html#SystemExit."""
    assert module._exit_code_of(error) == code


def test_a_hurry_writes_how_the_job_would_end_and_it_may_go_on(recording: Recording) -> None:
    """SIGTERM has come: what is known is on disk at once; should the job live, it is running again."""
    recorder = recording.recorder
    recorder.start()
    recording.look()
    recorder.flush(-signal.SIGTERM)
    recorder.wait(20)
    with recording.read() as run:
        (job,) = run.jobs()
        assert (job.state, job.exit_code) == ("done", -signal.SIGTERM)
    recording.look()
    recorder.flush(-signal.SIGTERM)  # as a way to have it written now
    assert recorder._written.wait(20)
    recorder.close()
    recorder.join(20)
    assert recording.values() == [1.0, 2.0]


def test_ended_while_the_disk_hangs_nobody_waits(tmp_path: Path) -> None:
    """Closing is a matter of a moment, and joining as long as was said."""
    hangs = threading.Event()
    recording = Recording(tmp_path)
    introduced = recording.file._about

    def hanging(now: int) -> About:
        hangs.wait(60)
        return introduced(now)

    recording.file._about = hanging
    recorder = recording.recorder
    recorder.start()
    recording.look()
    recorder.flush(0)
    recorder.wait(0.01)
    recorder.close()
    recorder.join(0.01)
    thread = recorder._life.thread
    assert thread is not None
    assert thread.is_alive()
    hangs.set()
    thread.join(60)
    assert recording.values() == [1.0]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_touches_nothing(tmp_path: Path) -> None:
    """A child that was forked touches nothing of its parent's file, and closes nothing."""
    recording = Recording(tmp_path)
    recording.look()
    recording.recorder.write()
    path = Path(recording.recorder.path)
    before = {each: each.read_bytes() for each in tmp_path.iterdir()}
    child = os.fork()
    if not child:
        code = 1
        try:
            recording.recorder.abandon()
            recording.look()
            wrote = recording.recorder.write()
            recording.file.finish()
            code = errno.EPERM if wrote else 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert {each: each.read_bytes() for each in tmp_path.iterdir()} == before
    recording.look()
    assert recording.recorder.write()
    assert recording.values() == [1.0, 2.0]
    recording.file.finish()
    assert path.exists()


def test_a_dropped_span_is_told_of_by_nobody_but_the_recording(recording: Recording) -> None:
    """A sampler that keeps one trace of a thousand does not keep an epoch from its recording."""
    tracker = SpanTracker()
    tracker.on, tracker.journal = True, recording.recorder
    tracer = TracerProvider(sampler=ALWAYS_OFF).get_tracer("t")
    with tracer.start_as_current_span("epoch") as dropped_span:
        kept = tracker.kept(dropped_span, "epoch", {"epoch": 3})
        assert kept is not dropped_span
        tracker.watch(kept)
        assert tracker.target() is kept
        kept.end()
    recording.recorder.write()
    with recording.read() as run:
        (span,) = run.spans()
    assert (span.name, span.parent_id, span.attributes) == ("epoch", "", {"epoch": 3})
    assert span.trace_id == f"{dropped_span.get_span_context().trace_id:032x}"
    assert span.ended_ns is not None


def opened(recording: Recording, provider: Any) -> Any:
    """A tracer whose provider has not met us, and a tracker that tells the recording."""
    tracker = SpanTracker()
    tracker.on, tracker.journal = True, recording.recorder
    return tracker, provider.get_tracer("t")


def test_more_spans_than_wait_are_written_before_their_time(tmp_path: Path) -> None:
    """A batch is an hour away, yet nothing of a training with very short spans is missing, and none of them is without end."""
    recording = Recording(tmp_path, batch=3600.0)
    recorder = recording.recorder
    recorder.start()
    tracker, tracer = opened(recording, TracerProvider())
    for _ in range(4):
        for _ in range(3 * MOST_OTHERS // 8):
            span = tracer.start_span("step")
            tracker.watch(span)
            span.end()
            tracker.on_exit(span)
        deadline = time.monotonic() + 60
        while len(recorder._spans) >= MOST_OTHERS // 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(recorder._spans) < MOST_OTHERS // 4
    recorder.close()
    recorder.join(60)
    with recording.read() as run:
        spans = run.spans()
    assert len(spans) == 3 * MOST_OTHERS // 2
    assert all(span.ended_ns is not None for span in spans)


def test_of_spans_that_find_no_room_one_line_says_how_many_and_no_end_is_lost_alone(
    recording: Recording, caplog: pytest.LogCaptureFixture
) -> None:
    """The disk refuses for long: what has begun ends, and what is missing is missing as a whole."""
    provider = TracerProvider()
    tracker, tracer = opened(recording, provider)
    assert tracker.attach(provider)
    before = faults["recording a span"]
    first = tracer.start_span("epoch")
    tracker.watch(first)
    recording.recorder.write()
    for _ in range(MOST_OTHERS + 7):
        with tracer.start_as_current_span("step") as span:
            tracker.watch(span)
    first.end()
    assert recording.recorder.write()
    assert recording.recorder.write()
    with recording.read() as run:
        spans = run.spans()
    assert len(spans) == MOST_OTHERS + 1
    assert all(span.ended_ns is not None for span in spans)
    assert faults["recording a span"] == before + 7
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("Training spans are missing in the recording, 7 by now; training is not affected")


def test_a_file_for_which_there_was_no_room_is_told_the_next_time(recording: Recording) -> None:
    """Another alert that names it may come once the disk has taken the rest."""
    for _ in range(MOST_OTHERS):
        recording.recorder.on_alert(alert())
    for _ in range(2):
        recording.recorder.on_file(1, "flight", "/f.flight.jsonl")
        recording.recorder.write()
    with recording.read() as run:
        assert [file.path for file in run.files()] == ["/f.flight.jsonl"]


def test_a_span_that_nobody_ended_ends_as_it_is_let_go(recording: Recording) -> None:
    """Of a provider that has not met us, and handed over by watch(): nobody else tells."""
    tracker, tracer = opened(recording, TracerProvider())
    span = tracer.start_span("epoch", attributes={"epoch": 3})
    tracker.watch(span)
    recording.recorder.write()
    span.end()
    recording.clock.advance(5.0)
    del span
    recording.recorder.write()
    with recording.read() as run:
        (told,) = run.spans()
    assert (told.name, told.attributes, told.ended_ns) == ("epoch", {"epoch": 3}, recording.clock.time_ns())


def test_what_a_foreign_span_tells_keeps_nothing_else_from_the_file(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One whose attributes raise costs itself alone."""
    monkeypatch.setattr(_guard, "LOUD", False)
    monkeypatch.setattr(_guard, "faults", Counter())

    class Foreign(NonRecordingSpan):
        """Knows neither when it began nor when it ended, and may break."""

        breaks = False

        @property
        def attributes(self) -> dict[str, int]:
            if self.breaks:
                raise RuntimeError("no longer")
            return {"a": 1}

    good, bad = (Foreign(SpanContext(1, number, is_remote=False)) for number in (1, 2))
    began = recording.clock.time_ns()
    for span in (good, bad):
        recording.recorder.began(span)
    recording.recorder.write()
    recording.clock.advance(2.0)
    bad.breaks = True
    for span in (good, bad):
        recording.recorder.ended(span)
    assert recording.recorder.write()
    with recording.read() as run:
        known = {span.span_id[-1]: (span.started_ns, span.ended_ns) for span in run.spans()}
    assert known == {"1": (began, recording.clock.time_ns()), "2": (began, None)}


def test_a_recording_that_a_living_job_has_open_is_not_old(tmp_path: Path) -> None:
    """It was stopped, or its disk hung, for longer than recordings are kept; once it has ended, it is removed."""
    code = (
        "import sys; from otel_hwmetrics.recording import Writer; from otel_hwmetrics.recording.nouns import About;"
        "writer = Writer(sys.argv[1], About('run-2', 'train', started_ns=1, heard_ns=1)); writer.commit(2);"
        "print(flush=True); sys.stdin.read(); import os; os._exit(0)"
    )
    path = tmp_path / "2026-01-02T00-00-00Z-vm-1-run-2.run.db"
    path.touch(0o600)
    other = subprocess.Popen([sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout is not None
    other.stdout.readline()
    for _ in range(2):
        for file in tmp_path.glob("*run-2*"):
            os.utime(file, (0, 0))
        living = other.returncode is None
        recording = Recording(tmp_path, keep=86400.0)
        recording.look()
        assert recording.recorder.write()
        recording.file.finish()
        assert path.exists() == living
        other.communicate()
    assert list(tmp_path.glob("*run-2*")) == []


def test_a_recording_of_this_process_is_not_old_and_keeps_its_locks(tmp_path: Path) -> None:
    """To close any descriptor of a file would let go of all that SQLite holds of it in this process."""
    first, second = Recording(tmp_path / "a"), Recording(tmp_path / "a", keep=86400.0)
    first.look()
    assert first.recorder.write()
    for file in (tmp_path / "a").iterdir():
        os.utime(file, (0, 0))
    second.look()
    assert second.recorder.write()
    probe = "import sys; from otel_hwmetrics.sinks.recorder_file import _is_open; sys.exit(_is_open(sys.argv[1]))"
    assert Path(first.recorder.path).exists()
    assert subprocess.call([sys.executable, "-c", probe, first.recorder.path]) == 1
    for recording in (first, second):
        recording.file.finish()


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no Linux")
@pytest.mark.parametrize("in_its_place", [False, True])
def test_files_that_were_removed_are_let_go_of(recording: Recording, *, in_its_place: bool) -> None:
    """Who frees a disk by it has it free, a job's descriptors do not run out; and what has its name now is left alone."""

    def of_ours() -> list[str]:
        links = []
        for number in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                links.append(os.readlink(f"/proc/self/fd/{number}"))
        return [link for link in links if str(recording.folder) in link]

    recording.look()
    assert recording.recorder.write()
    before = len(of_ours())
    for _ in range(4):
        files = list(recording.folder.glob(f"{os.path.basename(recording.recorder.path)}*"))
        for each in files:
            each.unlink()
            if in_its_place:
                each.write_text("somebody's")
        recording.look()
        assert recording.recorder.write()
        assert len(of_ours()) == before
        assert not any("(deleted)" in link for link in of_ours())
        assert not in_its_place or [each.read_text() for each in files] == ["somebody's"] * len(files)


@pytest.mark.parametrize(
    "error", [PermissionError(errno.EACCES, "x"), OSError(errno.ESTALE, "x"), OSError(errno.EIO, "x")]
)
def test_a_file_that_cannot_be_looked_at_for_a_moment_is_not_gone(
    recording: Recording, error: OSError, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A server is away for a second, and the run is one file all the same."""
    recording.look()
    assert recording.recorder.write()

    def refuse(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", refuse)
        recording.look()
        lost = recording.file._lost()
    assert lost == ""
    assert recording.recorder.write()
    assert caplog.records == []
    assert recording.values() == [1.0, 2.0]
