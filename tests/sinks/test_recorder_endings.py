# SPDX-License-Identifier: Apache-2.0
"""Recorded jobs in processes of their own: how they end, what they fork, and what there is where no SDK is."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pytest

from otel_hwmetrics.recording import Run, open_run

BEGIN = """
import os, signal, sys, threading, time
import otel_hwmetrics as hw

def looks(number):
    "Wait until the machine was looked at so often again."
    begun, deadline = hw.snapshot(), time.monotonic() + 60
    while number:
        if hw.snapshot() is not begun:
            begun, number = hw.snapshot(), number - 1
        assert time.monotonic() < deadline
        time.sleep(0.01)

def unhurried():
    "This machine may be busy with anything else; how long an end may take is told by tests/faults."
    from otel_hwmetrics.sinks import last_words, recorder
    recorder.AT_EXIT = 60
    recorder.Recorder.wait.__defaults__ = (60,)
    last_words.LastWords.__init__.__defaults__ = (60,)

def instrument(**more):
    if more.get("record", True):
        unhurried()
    options = {"record": True, "directory": sys.argv[1], "sample_interval": 0.2, "record_batch": 300}
    return hw.instrument(sources="process,tree", **{**options, **more})
"""

NO_SDK = """
import sys

class Nowhere:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("opentelemetry.sdk"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Nowhere())
"""


def begun(code: str, folder: Path, arguments: Sequence[str] = (), *, begin: str = BEGIN) -> subprocess.Popen[str]:
    """A job in a process of its own."""
    script = folder.parent / "train.py"
    script.write_text(begin + textwrap.dedent(code))
    command = [sys.executable, str(script), str(folder), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(code: str, folder: Path, arguments: Sequence[str] = (), *, begin: str = BEGIN) -> tuple[int, str, str]:
    """A job's whole life: its exit status, and what it printed."""
    job = begun(code, folder, arguments, begin=begin)
    out, err = job.communicate(timeout=120)
    return job.returncode, out, err


def recorded(folder: Path) -> Run:
    """The one run of a folder; the only thing in it are files that are whole."""
    for path in folder.glob("*.run.db"):
        connection = sqlite3.connect(path)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.close()
    return open_run(str(folder))


HEARD = "signal.signal(signal.SIGINT, signal.default_int_handler)"
"""Where tests run in the background of a shell, it is ignored."""

ENDINGS = {
    "by itself": ("instrument(); looks(2)", 0, "done", None),
    "by an exit": ("instrument(); looks(2); sys.exit(3)", 3, "done", None),
    "by an exception": ("instrument(); looks(2); raise ValueError('x')", 1, "failed", 1),
    "by an exception within": ("with instrument():\n    looks(2)\n    raise ValueError('x')", 1, "failed", 1),
    "by an exit within": ("with instrument():\n    looks(2)\n    sys.exit(3)", 3, "failed", 3),
    "by Ctrl-C": (
        f"{HEARD}; instrument(); looks(2); os.kill(os.getpid(), signal.SIGINT); time.sleep(60)",
        -2,
        "failed",
        -2,
    ),
    "by SIGTERM": ("instrument(); looks(2); os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)", -15, "failed", -15),
    "switched off": ("instrument(); looks(2); hw.uninstrument()", 0, "done", None),
}


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, int, str]]:
    """Every ending, all at once: each job's folder, exit status and what it printed."""
    jobs = {}
    for how, (code, *_) in ENDINGS.items():
        folder = tmp_path_factory.mktemp("job") / "ours"
        jobs[how] = folder, begun(code, folder)
    printed = {how: job.communicate(timeout=120)[1] for how, (_, job) in jobs.items()}
    return {how: (folder, job.returncode, printed[how]) for how, (folder, job) in jobs.items()}


@pytest.mark.parametrize("how", ENDINGS)
def test_how_a_job_ends_is_in_its_recording(ended: dict[str, tuple[Path, int, str]], how: str) -> None:
    """With all that was seen before, though no batch was due; and it ends as it would without us."""
    _, status, state, exit_code = ENDINGS[how]
    folder, code, printed = ended[how]
    assert code == status, printed
    with recorded(folder) as found:
        (job,) = found.jobs()
        assert (job.name, job.state, job.exit_code) == ("train.py", state, exit_code)
        assert job.ended_ns is not None
        assert job.summary.looks >= 2
        assert job.summary.cpu_seconds is not None
        assert job.summary.max_rss is None or job.summary.max_rss > 2**20
        (recording,) = found.recordings
        assert len(recording.series()) > 10
        flights = [file.path for file in found.files() if file.kind == "flight"]
    assert flights == [str(file) for file in folder.glob("*.flight.jsonl")]
    assert len(flights) == (how in {"by an exception", "by SIGTERM"})
    left = {file.name.split(".", 1)[1] for file in folder.iterdir()} - {"flight.jsonl"}
    assert left <= {"run.db", "run.db-wal", "run.db-shm"}
    assert left == {"run.db"} or how == "by SIGTERM"


def test_a_job_that_outlives_sigterm_is_recorded_on(tmp_path: Path) -> None:
    """Its handler saves its state and goes on: it has not failed, and nothing of it is missing."""
    code = """
    signal.signal(signal.SIGTERM, lambda *_: None)
    instrument()
    looks(2)
    os.kill(os.getpid(), signal.SIGTERM)
    looks(2)
    hw.uninstrument()
    """
    done = run(code, tmp_path / "ours")
    assert done[0] == 0, done[2]
    with recorded(tmp_path / "ours") as found:
        (job,) = found.jobs()
        assert (job.state, job.exit_code) == ("done", None)
        assert job.summary.looks >= 4
        assert found.ended_ns is not None


def test_a_job_that_saves_its_state_on_sigterm_has_not_failed(tmp_path: Path) -> None:
    """The way of those that a scheduler preempts: the loop is left, and the program ends by itself. Of exceptions likewise."""
    code = """
    stop = False
    def on_sigterm(*_):
        global stop
        stop = True
    signal.signal(signal.SIGTERM, on_sigterm)
    instrument()
    try:
        raise ValueError("is shown, and that is all")
    except ValueError as error:
        sys.excepthook(ValueError, error, None)
    looks(2)
    os.kill(os.getpid(), signal.SIGTERM)
    while not stop:
        time.sleep(0.01)
    """
    done = run(code, tmp_path / "ours")
    assert done[0] == 0, done[2]
    with recorded(tmp_path / "ours") as found:
        (job,) = found.jobs()
        assert (job.state, job.exit_code) == ("done", None)
        assert found.ended_ns is not None


SLOWLY = """
from otel_hwmetrics.recording import Writer
from otel_hwmetrics.sinks import last_words, recorder

last_words.RECORDING = 60  # what else is done on this machine takes its time, too
recorder.Recorder.wait.__defaults__ = (60,)

def unhurried():
    "The patience with anything else is what it is."

tries = []
commit = Writer.commit

def slowly(self, *arguments, **more):
    tries.append(time.monotonic())
    if len(tries) == 2:  # of a batch: it would be tried again in minutes
        raise sqlite3.OperationalError("database or disk is full")
    if len(tries) > 2:
        time.sleep(0.4)
    return commit(self, *arguments, **more)
"""


def test_sigterm_waits_for_a_slow_disk_and_for_one_that_has_failed_before(tmp_path: Path) -> None:
    """Longer than for anything else: the last batch and the end are told of nowhere else."""
    code = """
    import sqlite3
    Writer.commit = slowly
    instrument(record_batch=1)
    deadline = time.monotonic() + 60
    while len(tries) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    looks(2)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
    """
    done = run(code, tmp_path / "ours", begin=BEGIN + SLOWLY)
    assert done[0] == -15, done[2]
    with recorded(tmp_path / "ours") as found:
        (job,) = found.jobs()
        assert (job.state, job.exit_code) == ("failed", -15)


def test_a_second_recording_of_one_process_is_of_its_own_time(tmp_path: Path) -> None:
    """In a sweep what one trial used is not the next one's, too."""
    code = """
    for trial in range(2):
        instrument(record_run=f"trial-{trial}")
        if not trial:
            used = time.process_time()
            while time.process_time() < used + 3:
                pass
        looks(3)
        hw.uninstrument()
    """
    done = run(code, tmp_path / "ours")
    assert done[0] == 0, done[2]
    jobs = []
    for trial in range(2):
        with open_run(f"trial-{trial}", str(tmp_path / "ours")) as found:
            jobs += found.jobs()
    first, second = jobs
    assert first.ended_ns is not None
    assert second.started_ns is not None
    assert second.started_ns >= first.ended_ns
    assert first.summary.cpu_seconds is not None
    assert second.summary.cpu_seconds is not None
    assert first.summary.cpu_seconds > 3 > second.summary.cpu_seconds
    assert second.ended_ns is not None
    assert second.summary.seconds <= (second.ended_ns - second.started_ns) / 1e9 + 0.5


def test_children_that_are_forked_leave_the_recording_to_their_parent(tmp_path: Path) -> None:
    """However they end, and while a batch is written twice a second; those that record have files of their own."""
    code = """
    instrument(record_batch=0.5)
    looks(2)
    for number in range(6):
        child = os.fork()
        if not child:
            if number % 2:
                os._exit(0)
            sys.exit(0)  # with all that is registered for the end
        assert os.waitpid(child, 0)[1] == 0
        time.sleep(0.05)
    child = os.fork()
    if not child:
        instrument(record_run="child")
        looks(2)
        hw.uninstrument()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    looks(2)
    """
    done = run(code, tmp_path / "ours")
    assert done[0] == 0, done[2]
    with open_run("child", str(tmp_path / "ours")) as childs:
        assert len(childs.recordings) == 1
        assert childs.jobs()[0].state == "done"
    files = sorted((tmp_path / "ours").glob("*.run.db"))
    assert len(files) == 2
    (own,) = [file for file in files if "child" not in file.name]
    with open_run(str(own)) as found:
        (job,) = found.jobs()
        assert job.state == "done"
        times = [sample.at_ns for sample in found.job_samples(1)]
        assert len(times) == len(set(times)) == job.summary.looks


def test_processes_of_multiprocessing_close_their_recordings(tmp_path: Path) -> None:
    """They end in a way of their own, by `os._exit` where they were forked; an exception is told of as any other."""
    code = """
    import multiprocessing

    def work(how, fails):
        instrument(record_run=how)
        looks(2)
        if fails:
            raise ValueError("of the worker's own")

    if __name__ == "__main__":
        workers = [
            multiprocessing.get_context(how).Process(target=work, args=(f"{how}-{fails}", fails))
            for how in ("fork", "spawn") for fails in (False, True)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        print([worker.exitcode for worker in workers])
    """
    status, out, err = run(code, tmp_path / "ours")
    assert (status, out) == (0, "[0, 1, 0, 1]\n"), err
    for how in ("fork", "spawn"):
        for fails in (False, True):
            with open_run(f"{how}-{fails}", str(tmp_path / "ours")) as found:
                (job,) = found.jobs()
                assert (job.state, job.exit_code) == (("failed", 1) if fails else ("done", None))
                assert job.summary.looks >= 2
                assert found.ended_ns is not None


def test_without_any_sdk_training_spans_are_recorded_all_the_same(tmp_path: Path) -> None:
    """As they are nested, of a framework, too; with attributes, errors and sums. What is current is what it was before."""
    code = """
    from opentelemetry import trace
    from otel_hwmetrics.integrations.run import Run

    instrument()
    with hw.training_span("training", attributes={"model": "small"}) as outer:
        assert trace.get_current_span() is trace.INVALID_SPAN
        for epoch in range(2):
            with hw.training_span("epoch", attributes={"epoch": epoch}) as span:
                looks(2)
                span.set_attribute("loss", 0.5)
        try:
            with hw.training_span("epoch") as span:
                raise ValueError("too high")
        except ValueError:
            pass
    told = Run("torch")
    told.begin("fit")
    told.begin("train/epoch", {"hwmetrics.training.epoch": 0})
    told.finish()

    @hw.training_span("decorated")
    def work():
        return hw.training_span

    work()
    assert "opentelemetry.sdk" not in sys.modules
    open_to_the_end = hw.training_span("never ended")
    open_to_the_end.__enter__()
    looks(1)
    """
    done = run(code, tmp_path / "ours", begin=NO_SDK + BEGIN)
    assert done[0] == 0, done[2]
    with recorded(tmp_path / "ours") as found:
        spans = {span.span_id: span for span in found.spans()}
    names = [span.name for span in spans.values()]
    assert sorted(names) == sorted(
        ["training", "epoch", "epoch", "epoch", "fit", "train/epoch", "decorated", "never ended"]
    )

    def within(name: str) -> list[str]:
        return [spans[span.parent_id].name for span in spans.values() if span.name == name and span.parent_id]

    assert within("epoch") == ["training"] * 3
    assert within("train/epoch") == ["fit"]
    assert within("training") == within("fit") == within("decorated") == []
    assert len({span.trace_id for span in spans.values()}) == 4
    first, second, third = sorted(
        (each for each in spans.values() if each.name == "epoch"), key=lambda each: each.started_ns
    )
    assert [each.attributes.get("epoch") for each in (first, second, third)] == [0, 1, None]
    assert first.attributes["loss"] == 0.5
    assert "hwmetrics.summary.cpu.time" in first.attributes
    assert [each.status for each in (first, second, third)] == ["unset", "unset", "error"]
    assert first.ended_ns is not None
    assert first.started_ns < first.ended_ns <= second.started_ns
    (ongoing,) = [span for span in spans.values() if span.name == "never ended"]
    assert ongoing.ended_ns is None
    (fit,) = [span for span in spans.values() if span.name == "fit"]
    assert fit.attributes["hwmetrics.training.framework"] == "torch"


def test_not_recording_loads_nothing_and_changes_no_span(tmp_path: Path) -> None:
    """By default: no SQLite, no thread, no file, and `training_span` gives what the API gives."""
    code = """
    from opentelemetry import trace
    instrument(record=False, flight_recorder=0)
    with hw.training_span("training") as span:
        assert span is trace.get_current_span()
        looks(2)
    assert not {"sqlite3", "otel_hwmetrics.recording", "otel_hwmetrics.sinks.recorder"} & set(sys.modules)
    assert "hwmetrics-recorder" not in [thread.name for thread in threading.enumerate()]
    assert not os.path.exists(sys.argv[1])
    """
    done = run(code, tmp_path / "ours", begin=NO_SDK + BEGIN)
    assert done[0] == 0, done[2]


def test_secrets_of_a_command_are_not_written_anywhere(tmp_path: Path) -> None:
    """Arguments are, so that people know which run it was; keys and tokens are not."""
    secrets = ["--api-key", "hunter2hunter2", "--token=abcdef0123456789", "https://me:sesame99@host/x"]
    done = run("instrument(); looks(1)", tmp_path / "ours", ["--epochs", "90", *secrets])
    assert done[0] == 0, done[2]
    with recorded(tmp_path / "ours") as found:
        command = found.jobs()[0].command
    assert re.search(r"train\.py .* --epochs 90 --api-key .*--token=", command)
    written = b"".join(file.read_bytes() for file in (tmp_path / "ours").iterdir())
    for secret in (b"hunter2", b"abcdef0123456789", b"sesame99"):
        assert secret not in written


def test_a_folder_that_cannot_be_is_told_and_training_goes_on(tmp_path: Path) -> None:
    """One line; the job's result and exit status are its own."""
    (tmp_path / "ours").write_text("a file in the place of the folder")
    done = run(
        "import tempfile; tempfile.tempdir = '/proc/nowhere'\ninstrument(directory=''); looks(2); print('trained')",
        tmp_path / "ours",
        begin=f"import os; os.environ.update(HOME='/proc/nowhere', XDG_STATE_HOME='/proc/nowhere')\n{BEGIN}",
    )
    assert done[:2] == (0, "trained\n"), done[2]
    assert "The run is not recorded" in done[2]
