# SPDX-License-Identifier: Apache-2.0
"""Ranks that share a node, and what may happen to the one that tells of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from faults.case import Case, Outcome
from faults.training import Job
from otel_hwmetrics.election import job_of
from otel_hwmetrics.folders import places, runtime_folders

HOLDER = """
import sys
from otel_hwmetrics.election import Emitter, job_of
from otel_hwmetrics.folders import places, runtime_folders
emitter = Emitter("auto", job_of(), runtime_folders, {})
emitter.start()
emitter.look(())
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
