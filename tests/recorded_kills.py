# SPDX-License-Identifier: Apache-2.0
"""Kill recorded jobs at random moments (SIGKILL), and see what is left of their recordings.

PYTHONPATH=tests python -m recorded_kills [--kills N] [--at-once N] [--seed N]
"""

from __future__ import annotations

import argparse
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from otel_hwmetrics.recording import open_run

BATCH = 0.5
INTERVAL = 0.2
JOB = f"""
import os, sys, time
import otel_hwmetrics as hw
from otel_hwmetrics.sinks.recorder import Recorder
from otel_hwmetrics.sinks.recorder_file import RecordingFile

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

on_look, pass_on, commit = Recorder.on_look, Recorder._pass_on, RecordingFile.commit

def tell_of_look(self, sample, snapshot):
    say("look", sample.time_unix_nano)
    on_look(self, sample, snapshot)

def tell_of_batch(self, writer):
    pass_on(self, writer)
    say("batch", self._taken)

def tell_of_commit(self):
    done = commit(self)
    say("committed")
    return done

Recorder.on_look, Recorder._pass_on, RecordingFile.commit = tell_of_look, tell_of_batch, tell_of_commit
hw.instrument(
    record=True, record_run=sys.argv[1], directory=sys.argv[2], record_batch={BATCH}, sample_interval={INTERVAL},
    sources="system,process,tree", cpu_budget=0,
)
step = 0
while True:
    step += 1
    with hw.training_span("step", attributes={{"step": step}}):
        sum(i * i for i in range(20_000))
        time.sleep(0.005)
"""
"""A job that says what the recorder does: what a look at the machine is given to it, and what is on disk."""


class Left(NamedTuple):
    """What a kill has left.

    Attributes:
        given: Looks that the recorder was given.
        committed: Looks that were in a transaction that was over.
        recorded: Looks that are in the recording; None where there was no file yet.
        seconds: How much of the past is missing, by the looks: from the last one that is there to the last one given.
        spans: Training spans that are in it.
        broken: What the integrity check says, if anything.
    """

    given: int
    committed: int
    recorded: int | None
    seconds: float
    spans: int
    broken: str


def kill_one(run: str, folder: Path, after: float) -> Left:
    """Begin a job, and kill it some seconds after its first look."""
    process = subprocess.Popen([sys.executable, "-c", JOB, run, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = [process.stdout.readline()]
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    said += process.communicate()[0].splitlines()
    looks, batch, committed = [], 0, 0
    for line in said:
        word, _, number = line.strip().partition(" ")
        if word == "look":
            looks.append(int(number))
        elif word == "batch":
            batch = int(number)
        elif word == "committed":
            committed = batch
    return look_at(run, folder, looks, committed)


def look_at(run: str, folder: Path, looks: list[int], committed: int) -> Left:
    """What is in the recording, first as SQLite sees it."""
    files = [file for file in folder.glob("*.run.db") if run in file.name]
    if not files or not committed:
        return Left(len(looks), committed, None if not files else 0, 0.0, 0, "")
    with tempfile.TemporaryDirectory() as copy:  # as it was left: to check it is to mend it
        for file in folder.glob(files[0].name + "*"):
            Path(copy, file.name).write_bytes(file.read_bytes())
        with open_run(str(Path(copy, files[0].name))) as found:
            times = [sample.at_ns for sample in found.job_samples(1)]
            series = {each.metric: each for each in found.recordings[0].series()}
            values = found.recordings[0].values(series["process.memory.usage"].id)[0]
            spans = len(found.spans())
    connection = sqlite3.connect(files[0])
    broken = ", ".join(row[0] for row in connection.execute("PRAGMA integrity_check"))
    connection.close()
    missing = (looks[-1] - times[-1]) / 1e9
    apart = "" if list(values) == times == looks[: len(times)] else "looks are not those that were given"
    return Left(len(looks), committed, len(times), missing, spans, apart or ("" if broken == "ok" else broken))


def kill_some(kills: int, at_once: int, folder: Path, seed: int = 1) -> list[Left]:
    """Kill so many, each at a moment of its own within the first six batches."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    moments = [chance.uniform(0.0, 6 * BATCH) for _ in range(kills)]
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(lambda each: kill_one(f"kill-{each[0]}-of", folder, each[1]), enumerate(moments)))


def main() -> None:
    """Kill, and print what is left."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--at-once", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        left = kill_some(arguments.kills, arguments.at_once, Path(folder), arguments.seed)
    wrong = [each for each in left if each.broken or (each.recorded or 0) < each.committed]
    missing = sorted(each.seconds for each in left)
    files = sum(each.recorded is not None for each in left)
    lines = [
        f"{len(left)} kills, {files} files, {len(wrong)} of them wrong",
        f"looks given {sum(each.given for each in left)}, recorded {sum(each.recorded or 0 for each in left)}",
        f"missing of the past: {missing[len(missing) // 2]:.2f} s in the median, {missing[-1]:.2f} s at the most",
        *map(str, wrong),
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
