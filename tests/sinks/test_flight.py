# SPDX-License-Identifier: Apache-2.0
"""The flight recorder: what it remembers, which alerts make a file, and what becomes of a file that cannot be written."""

from __future__ import annotations

import errno
import json
import logging
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import strptime
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from alarms import AT, alert
from otel_hwmetrics import __version__
from otel_hwmetrics._guard import faults
from otel_hwmetrics.alerts.rule import Severity, State
from otel_hwmetrics.catalog import gpu, own
from otel_hwmetrics.folders import KEEP, Folder
from otel_hwmetrics.model import Series
from otel_hwmetrics.sinks import flight as module
from otel_hwmetrics.sinks.background import Background
from otel_hwmetrics.sinks.base import Alert
from otel_hwmetrics.sinks.flight import MOST_FILES, MOST_TRANSITIONS, PAUSE, FlightRecorder
from otel_hwmetrics.sinks.flight_file import SUFFIX, Flight, read_flight
from otel_hwmetrics.testing import ManualClock
from otel_hwmetrics.windows.samples import Point, Sample

POWER = [Series(gpu.POWER, {gpu.HW_ID: f"GPU-{number}"}) for number in range(4)]
S = 1_000_000_000


class Job:
    """A recorder, and what a pipeline does with it every second."""

    def __init__(self, folder: Path, seconds: float = 60.0) -> None:
        self.clock = ManualClock(start_ns=AT)
        self.recorder = FlightRecorder(
            seconds, Folder(str(folder)), monotonic=self.clock.monotonic, time_ns=self.clock.time_ns
        )
        self.number = 0

    def sample(self, *values: float, seconds: float = 1.0) -> None:
        """A second passes, and the power of so many GPUs is read."""
        self.clock.advance(seconds)
        self.number += 1
        at = self.clock.monotonic()
        points = {series: Point(value, at) for series, value in zip(POWER, values, strict=False)}
        self.recorder.on_sample(Sample(self.number, at, self.clock.time_ns(), points))

    def alert(
        self, state: State = State.FIRING, severity: Severity = Severity.CRITICAL, name: str = "gpu_lost"
    ) -> Alert:
        """One is decided on now; it is not told of yet."""
        return alert(state, at=self.clock.time_ns(), severity=severity, name=name)

    def tell(self, told: Alert) -> str | None:
        """As the pipeline tells of one: the path first, then the file."""
        self.recorder.on_transition(told.transition)
        path = self.recorder.path_for(told)
        if path is not None:
            told = replace(told, attributes={**told.attributes, own.ALERT_FLIGHT: path})
        self.recorder.on_alert(told)
        return path


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """One that writes below ``tmp_path``."""
    return Job(tmp_path / "ours")


def read(path: str | None) -> Flight:
    """A file that must be there as a whole."""
    assert path is not None
    flight = read_flight(path)
    assert flight.complete
    return flight


def values(flight: Flight) -> list[list[float | None]]:
    """Sample by sample."""
    return [sample["values"] for sample in flight.samples]


def test_a_critical_alert_writes_what_came_before_it(job: Job) -> None:
    """The samples, the steps of every alert, the one that caused it; its event names the file, and the file its event."""
    job.sample(100.0, 200.0)
    pending = job.alert(severity=Severity.WARNING, name="gpu_hot").transition
    job.recorder.on_transition(replace(pending, before=State.INACTIVE, state=State.PENDING))
    job.sample(0.0, 210.0)
    told = job.alert()
    path = job.tell(told)
    flight = read(path)
    assert values(flight) == [[100.0, 200.0], [0.0, 210.0]]
    assert [(each["rule"], each["before"], each["state"]) for each in flight.transitions] == [
        ("gpu_hot", "inactive", "pending"),
        ("gpu_lost", "pending", "firing"),
    ]
    assert flight.header["reason"] == "gpu_lost"
    assert flight.header["alert"]["rule"] == "gpu_lost"
    assert flight.header["alert"]["time_unix_nano"] == told.time_unix_nano
    assert flight.header["alert"]["attributes"] == {**told.attributes, own.ALERT_FLIGHT: path}


def test_the_path_is_known_before_the_file_and_the_disk_are(job: Job, tmp_path: Path) -> None:
    """So that the event can name it at once; a disk that hangs holds up nobody."""
    job.sample(1.0)
    path = job.recorder.path_for(job.alert())
    assert path is not None
    assert Path(path).parent == tmp_path / "ours"
    assert strptime(Path(path).name[:20], "%Y-%m-%dT%H-%M-%SZ")
    assert Path(path).name.endswith(f"-{os.getpid()}-gpu_lost{SUFFIX}")
    assert list(tmp_path.iterdir()) == []


def test_a_file_holds_what_was_known_when_it_was_promised(job: Job) -> None:
    """Though it is written much later; with every step of the same look, also those that were told of after it."""
    job.sample(1.0)
    lost, other = job.alert(), job.alert(severity=Severity.WARNING, name="gpu_hot")
    job.recorder.on_transition(lost.transition)
    path = job.recorder.path_for(lost)
    job.recorder.on_transition(other.transition)
    for _ in range(100):
        job.sample(2.0)
        job.recorder.on_transition(job.alert(name="later").transition)
    job.recorder.on_alert(lost)
    flight = read(path)
    assert values(flight) == [[1.0]]
    assert [each["rule"] for each in flight.transitions] == ["gpu_lost", "gpu_hot"]


def test_the_alert_that_caused_a_file_is_in_it(job: Job) -> None:
    """Though so many steps were made since that it is no longer remembered, or it never was."""
    job.sample(1.0)
    told = job.alert()
    path = job.recorder.path_for(told)
    job.recorder.on_alert(told)
    assert [each["rule"] for each in read(path).transitions] == ["gpu_lost"]


@pytest.mark.parametrize(
    "told",
    [
        pytest.param(alert(severity=Severity.WARNING), id="a warning"),
        pytest.param(alert(severity=Severity.INFO), id="an information"),
        pytest.param(alert(State.RESOLVED, severity=Severity.CRITICAL), id="one that is over"),
        pytest.param(alert(severity=Severity.CRITICAL, blind=True), id="one that fires blind"),
    ],
)
def test_other_alerts_write_nothing(job: Job, told: Alert, tmp_path: Path) -> None:
    """Only a critical one that begins to fire does."""
    job.sample(1.0)
    assert job.tell(told) is None
    assert list(tmp_path.iterdir()) == []


def test_alerts_within_a_minute_share_a_file(job: Job) -> None:
    """The first one's, which is written anew with what was in between; then there is another."""
    job.sample(1.0)
    first = job.tell(job.alert())
    assert values(read(first)) == [[1.0]]
    job.sample(2.0, seconds=PAUSE - 1)
    job.sample(3.0, seconds=0.5)
    assert job.tell(job.alert(name="gpu_ecc")) == first
    assert values(read(first)) == [[1.0], [2.0], [3.0]]
    assert [each["rule"] for each in read(first).transitions] == ["gpu_lost", "gpu_ecc"]
    assert (read(first).header["reason"], read(first).header["alert"]["rule"]) == ("gpu_lost", "gpu_lost")
    job.sample(4.0)
    second = job.tell(job.alert(name="gpu_ecc"))
    assert second != first
    assert values(read(first))[-1] == [3.0]
    assert values(read(second))[-1] == [4.0]


def test_of_alerts_at_once_the_last_one_writes_for_all(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight GPUs are lost: that is one file, written once, with the first in its header."""
    written: list[str] = []

    def lines(header: Any, *_: object) -> list[bytes]:
        written.append(header["alert"]["rule"])
        return []

    monkeypatch.setattr(module, "lines", lines)
    job.sample(1.0)
    alerts = [job.alert(name=f"rule_{number}") for number in range(8)]
    paths = {job.recorder.path_for(each) for each in alerts}
    for each in alerts:
        job.recorder.on_alert(each)
    assert len(paths) == 1
    assert written == ["rule_0"]


def test_a_flood_of_alerts_makes_few_files(job: Job, tmp_path: Path) -> None:
    """`MOST_FILES` a run; whatever comes after the last one's minute names none."""
    paths = []
    for _ in range(MOST_FILES + 5):
        job.sample(1.0, seconds=PAUSE)
        paths += [job.tell(job.alert()) for _ in range(3)]
    assert len(set(paths)) == MOST_FILES + 1
    assert paths[-15:] == [None] * 15
    assert len(os.listdir(tmp_path / "ours")) == MOST_FILES


@pytest.mark.parametrize(("seconds", "expected"), [(60.0, 61), (3.0, 4), (0.5, 1)])
def test_so_much_of_the_past_is_remembered(tmp_path: Path, seconds: float, expected: int) -> None:
    """The samples of the last so many seconds, and the steps since the first of them."""
    job = Job(tmp_path, seconds)
    for number in range(100):
        job.sample(float(number))
        job.recorder.on_transition(job.alert(name=f"rule_{number}").transition)
    flight = read(job.recorder.flush("sigterm"))
    assert values(flight) == [[float(number)] for number in range(100 - expected, 100)]
    assert [each["rule"] for each in flight.transitions] == [f"rule_{number}" for number in range(100 - expected, 100)]
    assert flight.header["seconds"] == seconds


def test_what_is_remembered_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many samples and steps there are in that time: the newest."""
    monkeypatch.setattr(module, "MOST_ROWS", 5)
    job = Job(tmp_path)
    for number in range(20):
        job.sample(float(number), seconds=0.01)
    for number in range(MOST_TRANSITIONS + 20):
        job.recorder.on_transition(job.alert(name=f"rule_{number}").transition)
    flight = read(job.recorder.flush("sigterm"))
    assert values(flight) == [[15.0], [16.0], [17.0], [18.0], [19.0]]
    assert [each["rule"] for each in flight.transitions] == [
        f"rule_{number}" for number in range(20, MOST_TRANSITIONS + 20)
    ]


def test_samples_of_the_same_series_share_their_table(job: Job) -> None:
    """Also when one comes and goes, as that of a slow source does: a sample costs 8 bytes a value."""
    for number in range(20):
        job.sample(*[1.0] * (3 if number % 3 else 4))
    assert len({id(row.series) for row in job.recorder._rows}) == 2
    assert {len(row.values) for row in job.recorder._rows} == {24, 32}
    three = [1.0, 1.0, 1.0, None]
    assert values(read(job.recorder.flush("sigterm")))[-3:] == [three, [1.0] * 4, three]


def test_the_header_says_who_when_and_why(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine, the process, its place in the job; of the command only the program, since arguments may hold secrets."""
    monkeypatch.setattr(sys, "argv", ["/jobs/train.py", "--token", "hunter2"])
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "8")
    job.sample(1.0)
    path = job.recorder.flush("exception", "torch.OutOfMemoryError")
    header = read(path).header
    assert header == {
        "schema": "otel_hwmetrics.flight",
        "version": 1,
        "package_version": __version__,
        "reason": "exception",
        "exception": "torch.OutOfMemoryError",
        "resource": {
            "host.name": os.uname().nodename,
            "process.pid": os.getpid(),
            "process.executable.name": os.path.basename(sys.executable),
            "process.command": "/jobs/train.py",
            "hwmetrics.rank": 3,
            "hwmetrics.world_size": 8,
        },
        "seconds": 60.0,
        "started_unix_nano": AT,
        "time_unix_nano": AT + S,
        "monotonic": 1.0,
    }
    assert path is not None
    assert f"-rank3-{os.getpid()}-exception" in path
    assert "hunter2" not in Path(path).read_text(encoding="utf-8")


def test_the_span_of_the_alert_is_named(job: Job) -> None:
    """By its ids, which lead to the trace."""
    span = TracerProvider().get_tracer("training").start_span("epoch")
    job.sample(1.0)
    told = replace(job.alert(), span=span)
    header = read(job.tell(told)).header
    assert (header["alert"]["trace_id"], header["alert"]["span_id"]) == (told.trace_id, told.span_id)
    assert len(told.trace_id) == 32


def test_without_anything_to_tell_no_file_is_written(job: Job, tmp_path: Path) -> None:
    """A script that fails before the first sample leaves nothing."""
    assert job.recorder.flush("exception") is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("nowhere", [False, True])
def test_switched_off_it_remembers_and_writes_nothing(tmp_path: Path, nowhere: bool) -> None:  # noqa: FBT001 - a table
    """By the option, or because nothing can be written anywhere."""
    recorder = FlightRecorder(60.0, None) if nowhere else FlightRecorder(0.0, Folder(str(tmp_path / "ours")))
    recorder.on_sample(Sample(1, 1.0, S, {POWER[0]: Point(1.0, 1.0)}))
    told = alert(severity=Severity.CRITICAL)
    recorder.on_transition(told.transition)
    assert recorder.path_for(told) is None
    recorder.on_alert(told)
    assert recorder.flush("sigterm") is None
    assert (recorder._rows, recorder._steps) == ((), ())
    assert list(tmp_path.iterdir()) == []


FORK = """
import os, sys
sys.path.insert(0, sys.argv[2])
from alarms import alert
from otel_hwmetrics.alerts.rule import Severity
from otel_hwmetrics.folders import Folder
from otel_hwmetrics.sinks.flight import FlightRecorder
from otel_hwmetrics.windows.samples import Sample

recorder = FlightRecorder(60.0, Folder(sys.argv[1]))
recorder.on_sample(Sample(1, 1.0, 1, {}))
told = alert(severity=Severity.CRITICAL)
path = recorder.path_for(told)
child = os.fork()
if not child:
    recorder.on_alert(told)
    assert recorder.flush("sigterm") is None
    assert recorder.path_for(alert(severity=Severity.CRITICAL)) is None
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert not os.path.exists(sys.argv[1])
recorder.on_alert(told)
print(path)
"""


def test_a_forked_child_writes_nothing(tmp_path: Path) -> None:
    """It is its parent's story, whose promise is kept by the parent."""
    command = [sys.executable, "-c", FORK, str(tmp_path / "ours"), str(Path(__file__).parents[1])]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(read(done.stdout.strip()).samples) == 1


def test_old_recordings_are_removed(job: Job, tmp_path: Path) -> None:
    """Those of other runs, too; the newest is never among them."""
    ours = tmp_path / "ours"
    ours.mkdir()
    for number in range(KEEP + 5):
        (ours / f"2020-01-01T00-00-{number:02}Z-node-1-gpu_lost{SUFFIX}").touch()
    (ours / "mine.txt").touch()
    job.sample(1.0)
    path = job.tell(job.alert())
    left = sorted(os.listdir(ours))
    assert len(left) == KEEP + 1
    assert Path(str(path)).name in left
    assert "mine.txt" in left


def test_on_a_thread_of_its_own_it_holds_up_nobody(job: Job, tmp_path: Path) -> None:
    """As it is used: behind a `Background`, which writes the file before it stops."""
    given = Background("flight", job.recorder)
    job.sample(1.0)
    told = job.alert()
    path = job.recorder.path_for(told)
    given.on_alert(told)
    given.stop(20)
    assert len(read(path).samples) == 1


def test_recording_goes_on_while_a_file_is_written(tmp_path: Path) -> None:
    """Files that other threads write meanwhile are whole, and each sample in them is."""
    job = Job(tmp_path / "ours", seconds=5.0)
    job.sample(0.0, 0.0)
    done = threading.Event()
    flights: list[Flight] = []

    def flush() -> None:
        while not done.is_set():
            flights.append(read(job.recorder.flush("sigterm")))

    thread = threading.Thread(target=flush)
    thread.start()
    number, deadline = 0, time.monotonic() + 20
    while number < 2000 or (len(flights) < 3 and time.monotonic() < deadline):
        job.sample(float(number), float(number))
        number += 1
    done.set()
    thread.join(20)
    assert len(flights) >= 3
    for flight in flights:
        rows = values(flight)
        assert 1 <= len(rows) <= 6
        assert all(one == other for one, other in rows)
        assert [row[0] for row in rows] == list(range(int(rows[0][0] or 0), int(rows[0][0] or 0) + len(rows)))


@pytest.fixture
def no_space(tmp_path: Path) -> Iterator[Path]:
    """A folder that takes no more than a page: by a file system of its own where that may be mounted, else by a limit."""
    where = tmp_path / "small"
    where.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4k", "none", str(where)]
    if os.geteuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0:
        try:
            yield where
        finally:
            subprocess.run(["umount", str(where)], check=True)  # noqa: S607 - where it is differs
        return
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        yield where
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_costs_the_file_and_nothing_else(no_space: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is raised, nothing half is left; one line says it, and it is counted."""
    job = Job(no_space)
    for _ in range(200):
        job.sample(*range(4))
    path = job.tell(job.alert())
    assert path is not None
    assert os.listdir(no_space) == []
    assert job.recorder.flush("sigterm") is None
    assert faults["writing a flight recording"] == 2
    assert [(record.name, record.levelno) for record in caplog.records] == [("otel_hwmetrics", logging.WARNING)] * 2
    assert path in caplog.text


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EDQUOT, errno.EIO, errno.ESTALE])
def test_what_the_disk_refuses_is_said_and_counted(
    job: Job, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    """No permission, read-only, over quota, broken, gone."""

    def refuse(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    job.sample(1.0)
    monkeypatch.setattr(os, "mkdir", refuse)
    assert job.recorder.flush("sigterm") is None
    assert faults["writing a flight recording"] == 1
    assert os.strerror(number) in caplog.text


def test_every_line_is_of_its_own(job: Job) -> None:
    """As `jq` and `pandas.read_json(lines=True)` want it: an object a line, each with its type."""
    job.sample(1.0)
    path = job.tell(job.alert())
    text = Path(str(path)).read_text(encoding="utf-8")
    kinds = [json.loads(line)["type"] for line in text.splitlines()]
    assert kinds == ["header", "series", "sample", "transition", "end"]


def stacks(flight: Flight) -> list[tuple[str, str, str]]:
    """Where threads stood, as a file tells of it."""
    return [(each["reason"], each["of"], each["text"]) for each in flight.stacks]


def test_where_threads_stood_is_in_the_file_of_the_alert(job: Job) -> None:
    """Of this process at once; of the workers once it is known, by the same file, which is written anew."""
    job.sample(1.0)
    told = replace(job.alert(name="training_stalled"), stacks="Thread MainThread")
    path = job.tell(told)
    assert stacks(read(path)) == [("training_stalled", "process", "Thread MainThread")]
    before = read(path)
    job.recorder.on_workers(told, "Thread of process 7")
    after = read(path)
    assert stacks(after) == [
        ("training_stalled", "process", "Thread MainThread"),
        ("training_stalled", "workers", "Thread of process 7"),
    ]
    assert (after.header["reason"], values(after), after.transitions) == (
        "training_stalled",
        [[1.0]],
        before.transitions,
    )
    assert [each["time_unix_nano"] for each in after.stacks] == [told.time_unix_nano] * 2


def test_of_alerts_that_share_a_file_all_are_in_it(job: Job) -> None:
    """What is known of one's workers before the next is written is not lost by that."""
    job.sample(1.0)
    first = replace(job.alert(name="training_stalled"), stacks="one")
    second = replace(job.alert(name="gpu_idle"), stacks="two")
    path = job.recorder.path_for(first)
    assert job.recorder.path_for(second) == path
    for told in (first, second):
        job.recorder.on_alert(told)
        job.recorder.on_workers(told, f"workers at {told.stacks}")
    assert [text for _, _, text in stacks(read(path))] == ["one", "workers at one", "two", "workers at two"]


def test_workers_of_an_alert_without_a_file_make_none(job: Job, tmp_path: Path) -> None:
    """One that is not critical, and one that is not the last."""
    job.sample(1.0)
    warning = replace(job.alert(severity=Severity.WARNING, name="gpu_idle"), stacks="one")
    job.tell(warning)
    job.recorder.on_workers(warning, "workers")
    assert not (tmp_path / "ours").exists()
    path = job.tell(replace(job.alert(), stacks="two"))
    job.tell(warning)
    job.recorder.on_workers(warning, "workers")
    assert [text for _, _, text in stacks(read(path))] == ["two"]


def test_the_end_of_a_job_can_tell_where_threads_stand(job: Job) -> None:
    """And does not have to."""
    job.sample(1.0)
    assert stacks(read(job.recorder.flush("sigterm", "", "Thread MainThread"))) == [
        ("sigterm", "process", "Thread MainThread")
    ]
    assert stacks(read(job.recorder.flush("exception", "ValueError"))) == []
