# SPDX-License-Identifier: Apache-2.0
"""Ranks that share a node, and what may happen to the one that tells of it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from faults.budget import a_dying_sampler
from faults.case import Case, Outcome
from faults.training import Job
from otel_hwmetrics import pace
from otel_hwmetrics.election import job_of
from otel_hwmetrics.folders import places, runtime_folders
from otel_hwmetrics.sources.base import Batch
from otel_hwmetrics.sources.system import SystemSource

HOLDER = """
import sys
from otel_hwmetrics.election import Emitter, Ledger, job_of
from otel_hwmetrics.folders import runtime_folders
emitter = Emitter("auto", job_of, runtime_folders, {}, Ledger())
emitter.start()
emitter.look({})
print("holds", flush=True)
sys.stdin.read()
"""
"""Another rank, as far as this one can see it: it came first, and has the node's office, until this one ends."""


def rank(number: int, run: str) -> dict[str, str]:
    """As torchrun starts it."""
    place = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    run_id = f"{run}-{os.getpid()}"  # no other test's
    return {**{key: str(value) for key, value in place.items()}, "TORCHELASTIC_RUN_ID": run_id} | {
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": "29400",
    }


@contextmanager
def another_rank(job: Job) -> Iterator[None]:
    """Have another rank tell of the machine, which is killed at a step."""
    environ = {**os.environ, "RANK": "0", "LOCAL_RANK": "0"}
    other = subprocess.Popen([sys.executable, "-c", HOLDER], env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout is not None
    assert other.stdout.readline() == b"holds\n"

    def kill(number: int) -> None:
        if number == job.argument:
            other.kill()

    job.on_step.append(kill)
    yield


SUCCESSOR = """
import time
from otel_hwmetrics.election import Emitter, Ledger, job_of
from otel_hwmetrics.election.emitter import NODE
from otel_hwmetrics.folders import runtime_folders
emitter = Emitter("auto", job_of, runtime_folders, {}, Ledger())
emitter.start()
emitter.look({})
print("waits", flush=True)
while not emitter._offices.holds(NODE):
    time.sleep(0.1)
    emitter.look({})
print("holds", flush=True)
"""
"""Another rank that came second: it ends once it has the node's office."""


@contextmanager
def one_that_waits(job: Job) -> Iterator[None]:
    """Have another rank see when this one leaves the machine to it, and say so."""
    waits: list[subprocess.Popen[bytes]] = []

    def follow(number: int) -> None:
        if (
            number >= 25 and not waits and job.handle is not None and job.handle.snapshot() is not None
        ):  # it has the office
            environ = {**os.environ, "RANK": "1", "LOCAL_RANK": "1"}
            waits.append(subprocess.Popen([sys.executable, "-c", SUCCESSOR], env=environ, stdout=subprocess.PIPE))
            assert waits[0].stdout is not None
            assert waits[0].stdout.readline() == b"waits\n"

    job.on_step.append(follow)
    yield
    for other in waits:
        told, _ = other.communicate(timeout=20)
        logging.getLogger("job").info("the next rank %s", told.decode().strip())


@contextmanager
def sampler_dies(job: Job) -> Iterator[None]:
    """Let the thread that samples die twice, before the eyes of another rank."""
    with one_that_waits(job), a_dying_sampler(job):
        yield


@contextmanager
def sampler_hangs(job: Job) -> Iterator[None]:
    """Let a look at the system never end, before the eyes of another rank."""
    setattr(pace, "STALE_AFTER", 0.5)  # noqa: B010 - it is a constant; 10 s would be long here
    held, read = threading.Event(), SystemSource.read

    def hang(source: SystemSource) -> Batch:
        if held.is_set():
            time.sleep(3600)
        return read(source)

    setattr(SystemSource, "read", hang)  # noqa: B010 - to assign it would be a slip anywhere else

    def begin(number: int) -> None:
        if number == 50:
            held.set()

    job.on_step.append(begin)
    with one_that_waits(job):
        yield


@contextmanager
def files_go(job: Job) -> Iterator[None]:
    """Remove the files by which ranks elect one, in the middle, as systemd does with a user's when their session ends."""

    def remove(number: int) -> None:
        if number == job.argument:
            for folder in runtime_folders():
                for name in os.listdir(folder.path):
                    if name.startswith(job_of().key):
                        os.unlink(folder / name)

    job.on_step.append(remove)
    yield


@contextmanager
def nowhere_to_meet(job: Job) -> Iterator[None]:
    """Let there be no folder in which ranks could meet."""
    del job
    places.SHARED_MEMORY = places.TEMPORARY = os.environ["TMPDIR"] = "/proc"
    yield


def told_of_the_machine(outcome: Outcome) -> list[bool]:
    """Of each export, whether it did."""
    return [
        any(name == "system.cpu.time" for name, *_ in line["points"]) for line in outcome.lines if line.get("points")
    ]


def goes_over(outcome: Outcome) -> None:
    """Not at first, but at the end; and the process itself always."""
    told = told_of_the_machine(outcome)
    assert not told[0]
    assert told[-1]
    assert told == sorted(told)
    assert "process.cpu.time" in outcome.last
    assert "ERROR" not in outcome.words


def stays_away(outcome: Outcome) -> None:
    """What the other one tells of is not told twice."""
    assert not any(told_of_the_machine(outcome))
    assert "process.cpu.time" in outcome.last


def is_left_to_another(outcome: Outcome) -> None:
    """It told of the machine while it could, and at the end another rank has the office."""
    told = told_of_the_machine(outcome)
    assert told[0]
    assert not told[-1]
    assert "the next rank holds" in outcome.words


def stays(outcome: Outcome) -> None:
    """Nothing is missing of the machine."""
    assert all(told_of_the_machine(outcome))
    assert "WARNING" not in outcome.words


CASES = (
    Case(
        name="rank-beside-another",
        happens="Another rank of the job, on the same node, tells of the machine.",
        missing="Nothing of the job: what all ranks share is told once a node, each rank's own by each.",
        said="`hwmetrics.emitter` is 1 in one rank and 0 in the others.",
        fault="faults.ranks:another_rank",
        argument=100_000,
        environ=rank(1, "beside"),
        check=stays_away,
    ),
    Case(
        name="rank-killed",
        happens="The rank that tells of the machine is killed (SIGKILL).",
        missing="One look at most: the next rank has its part at its next look, and counters go on from where they were.",
        said="`hwmetrics.emitter` becomes 1 in another rank.",
        fault="faults.ranks:another_rank",
        argument=100,
        environ=rank(1, "killed"),
        steps=400,
        check=goes_over,
    ),
    Case(
        name="rank-sampler-dies",
        happens="In the rank that tells of the machine the thread that samples dies twice.",
        missing="One look at most: the next rank has its part at its next look.",
        said="A warning that it stays off; `hwmetrics.emitter` becomes 1 in another rank.",
        fault="faults.ranks:sampler_dies",
        argument=2,
        environ=rank(0, "dies"),
        steps=500,
        added=3.0,
        felt=False,
        check=is_left_to_another,
    ),
    Case(
        name="rank-sampler-hangs",
        happens="In the rank that tells of the machine a look at it never ends: a call waits for a disk that is gone.",
        missing="What is of the machine, until the first export after 10 s (or six intervals): then another rank has its part.",
        said="`hwmetrics.sample.age` grows; `hwmetrics.emitter` becomes 1 in another rank.",
        fault="faults.ranks:sampler_hangs",
        environ=rank(0, "hangs"),
        steps=500,
        added=3.0,
        felt=False,
        check=is_left_to_another,
    ),
    Case(
        name="rank-folders-removed",
        happens="The files by which ranks elect one are removed in the middle.",
        missing="Nothing: they are made anew within ten looks.",
        said="Nothing.",
        fault="faults.ranks:files_go",
        argument=50,
        environ=rank(0, "removed"),
        steps=300,
        check=stays,
    ),
    Case(
        name="rank-no-folders",
        happens="There is no folder in which ranks could meet: containers that share none, or none that is safe.",
        missing="Nothing: the local rank 0 tells of the machine, and the others do not.",
        said="Nothing.",
        fault="faults.ranks:nowhere_to_meet",
        environ=rank(0, "none"),
        check=stays,
    ),
)
