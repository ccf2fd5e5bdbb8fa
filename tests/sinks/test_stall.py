# SPDX-License-Identifier: Apache-2.0
"""A training that hangs in a process of its own: everybody who is told of the stall is told where."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any, NamedTuple

import pytest

from otel_hwmetrics.sinks.flight_file import SUFFIX, Flight, read_flight

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="who ends the job is heard there alone")

JOB = """
import hashlib, json, multiprocessing, os, sys, threading, time
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider

import otel_hwmetrics as hw
from otel_hwmetrics.alerts import stalls

sys.executable = sys.argv[2]  # py-spy is looked for beside it first
stalls.WITHOUT_GPUS = 1.0  # seconds, and not minutes
records, logs, traces = InMemoryLogRecordExporter(), LoggerProvider(), TracerProvider()
logs.add_log_record_processor(SimpleLogRecordProcessor(records))

def fetch(parent):
    while os.getppid() == parent:
        time.sleep(0.05)

def wait_for_data(over):
    over.wait()

def all_reduce(password):
    kept = f"token {password}"
    hashlib.pbkdf2_hmac("sha256", kept.encode(), b"", 2**31 - 1)  # in C, without the interpreter's lock

def written():
    found = {}
    for each in records.get_finished_logs():
        record = each.log_record
        found[record.event_name] = [record.attributes.get("code.stacktrace"), record.span_id == span.get_span_context().span_id]
    return found

def tell(alert):
    if alert.name != "training_stalled" or alert.state != "firing":
        return
    deadline = time.monotonic() + 30
    while len(written()) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    events = [[event.attributes.get("hwmetrics.alert.rule"), event.attributes.get("code.stacktrace")] for event in span.events]
    print(json.dumps({"callback": alert.stacks, "events": events, "records": written(), "worker": worker.pid}), flush=True)

if __name__ == "__main__":
    worker = multiprocessing.get_context("fork").Process(target=fetch, args=(os.getpid(),), name="Loader-0", daemon=True)
    worker.start()
    threading.Thread(target=wait_for_data, args=(threading.Event(),), name="pin_memory", daemon=True).start()
    hw.on_alert(tell)
    hw.instrument(
        sources="training", sample_interval=0.2, directory=sys.argv[1], tracer_provider=traces, logger_provider=logs,
        alert_training_stalled_threshold=0.5, alert_training_stalled_for=0,
    )
    with hw.training_span("epoch", tracer_provider=traces) as span:
        for number in hw.steps(range(100)):
            time.sleep(0.02)
            if number == 50:
                all_reduce("hunter2")
"""

SPY = """#!/bin/sh
echo '[{"thread_name": "MainThread", "os_thread_id": 1, "frames": [{"name": "fetch", "filename": "/me/data.py", "line": 7}]}]'
"""


class Stalled(NamedTuple):
    """What is known of a job that hung, and was ended by SIGTERM.

    Attributes:
        told: What its callback printed.
        flights: Its recordings, by their reason.
        everything: All that it wrote anywhere.
    """

    told: dict[str, Any]
    flights: dict[str, Flight]
    everything: str


@pytest.fixture(scope="module")
def stalled(tmp_path_factory: pytest.TempPathFactory) -> Stalled:
    """One such job."""
    folder = tmp_path_factory.mktemp("stall")
    (folder / "job.py").write_text(JOB)
    (folder / "bin").mkdir()
    spy = folder / "bin" / "py-spy"
    spy.write_text(SPY)
    spy.chmod(0o700)
    environ = os.environ | {"PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}", "PYTHONWARNINGS": "ignore"}
    process = subprocess.Popen(
        [sys.executable, str(folder / "job.py"), str(folder / "files"), str(folder / "bin" / "python")],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        rest, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert line, errors
    files = sorted((folder / "files").glob(f"*{SUFFIX}"))
    flights = {flight.header["reason"]: flight for flight in (read_flight(str(path)) for path in files)}
    return Stalled(json.loads(line), flights, "".join([line, rest, errors, *(path.read_text() for path in files)]))


def test_everybody_is_told_where_the_training_hangs(stalled: Stalled) -> None:
    """The callback, the log record in the span's context, the event on the span."""
    stacks = stalled.told["callback"]
    first, *others = stacks.split("\n\n")
    assert first.split("\n")[0] == "Thread MainThread [training] (most recent call first):"
    assert first.split("\n")[1].endswith(" in all_reduce")
    assert any("Thread pin_memory" in each and "in wait_for_data" in each for each in others)
    assert stalled.told["events"] == [["training_stalled", stacks]]
    assert stalled.told["records"]["hwmetrics.alert"] == [stacks, True]


def test_so_is_who_reads_the_job_s_own_output(stalled: Stalled) -> None:
    """The line of the alert ends in the line of the script."""
    (line,) = (each for each in stalled.everything.split("\n") if "alert=training_stalled state=firing" in each)
    assert line.endswith(' in all_reduce"')


def test_the_worker_is_told_of_in_a_record_of_its_own(stalled: Stalled) -> None:
    """It comes later, since another program looks; in the context of the same span."""
    text = f"Thread MainThread of process {stalled.told['worker']} (Loader-0) (most recent call first):"
    assert stalled.told["records"]["hwmetrics.alert.stacks"] == [f'{text}\n  File "/me/data.py", line 7 in fetch', True]


def test_the_recordings_have_both_and_that_of_the_end_its_own(stalled: Stalled) -> None:
    """By SIGTERM a job is ended that hangs: where it hung is told once more."""
    of_alert, of_end = stalled.flights["training_stalled"], stalled.flights["sigterm"]
    assert of_alert.complete
    assert of_end.complete
    assert [each["of"] for each in of_alert.stacks] == ["process", "workers"]
    assert of_alert.stacks[0]["text"] == stalled.told["callback"]
    (at_the_end,) = of_end.stacks
    assert at_the_end["reason"] == "sigterm"
    assert " in all_reduce\n" in at_the_end["text"].split("\n\n")[0]


def test_no_secret_is_told(stalled: Stalled) -> None:
    """Neither what is in a variable nor what is an argument."""
    assert "hunter2" not in stalled.everything
