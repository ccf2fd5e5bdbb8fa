# SPDX-License-Identifier: Apache-2.0
"""Processes that a training starts by other means than fork: they have nothing of ours, and the training goes on."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, Final

import otel_hwmetrics
from faults.case import Case, Outcome
from faults.training import Job

BEGINS: Final = 20
"""The step with which children are started; they work while the training goes on."""

PATIENCE: Final = 60.0
"""Seconds for which a child is waited for."""

INHERITED = """
import json, os
found = []
for number in range(1024):
    try:
        found.append((number, os.fstat(number).st_ino))
    except OSError:
        pass
print(json.dumps(found))
"""


def worker(_: int) -> dict[str, Any]:
    """What a worker of a pool finds of us in its process."""
    return {
        "threads": [thread.name for thread in threading.enumerate() if thread.name.startswith("hwmetrics")],
        "loaded": "otel_hwmetrics.pipeline" in sys.modules,
    }


def dies(_: int) -> None:
    """What the kernel's OOM killer does to a worker."""
    os.kill(os.getpid(), signal.SIGKILL)


def rank(job: tuple[bool, dict[str, Any]]) -> bool:
    """What a rank does that is a spawned process: it says itself that it is to be measured. Gives whether it was."""
    instrumented, options = job
    if not instrumented:
        time.sleep(0.5)
        return False
    with otel_hwmetrics.instrument(**options) as handle:
        end = time.monotonic() + PATIENCE
        while handle.snapshot() is None and time.monotonic() < end:
            time.sleep(0.05)
        return handle.snapshot() is not None


@contextmanager
def pool(job: Job) -> Iterator[None]:
    """Start a pool of two workers in the middle of the training, by the method that the case names."""
    with ProcessPoolExecutor(2, multiprocessing.get_context(job.argument)) as executor:
        working = _begun(job, executor, worker, range(2))
        yield
        job.told.line(children=[each.result(PATIENCE) for each in working])


@contextmanager
def killed(job: Job) -> Iterator[None]:
    """Have a worker of a spawned pool killed."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        working = _begun(job, executor, dies, range(1))
        yield
        job.told.line(broken=[isinstance(each.exception(PATIENCE), BrokenProcessPool) for each in working])


@contextmanager
def ranks(job: Job) -> Iterator[None]:
    """Start two more ranks of the training as spawned processes."""
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as executor:
        working = _begun(job, executor, rank, [(job.instrumented, job.options)] * 2)
        yield
        job.told.line(measured=[each.result(PATIENCE) for each in working])


@contextmanager
def program(job: Job) -> Iterator[None]:
    """Start a program that inherits every file descriptor that can be inherited."""
    started: list[subprocess.Popen[str]] = []

    def start(number: int) -> None:
        if number == BEGINS:
            command = [sys.executable, "-c", INHERITED]
            started.append(subprocess.Popen(command, close_fds=False, stdout=subprocess.PIPE, text=True))

    job.on_step.append(start)
    yield
    output, _ = started[0].communicate(timeout=PATIENCE)
    job.told.line(inherited=json.loads(output))


def _begun(job: Job, executor: Executor, task: Callable[[Any], Any], inputs: Any) -> list[Future[Any]]:
    """Have the training submit tasks with one of its steps; gives what will be there by the end of the training."""
    working: list[Future[Any]] = []

    def submit(number: int) -> None:
        if number == BEGINS:
            working.extend(executor.submit(task, each) for each in inputs)

    job.on_step.append(submit)
    return working


def _told(outcome: Outcome, key: str) -> Any:
    (found,) = (line[key] for line in outcome.lines if key in line)
    return found


def _all_is_measured(outcome: Outcome) -> None:
    assert "system.cpu.time" in outcome.last
    assert "process.cpu.time" in outcome.last
    assert "hwmetrics.summary.time" in outcome.spans["train"]["attributes"], outcome.spans
    assert "Traceback" not in outcome.words.replace("concurrent.futures.process.BrokenProcessPool", "")


def workers_have_nothing(outcome: Outcome) -> None:
    """No thread, nothing loaded."""
    _all_is_measured(outcome)
    assert _told(outcome, "children") == [{"threads": [], "loaded": False}] * 2


def the_pool_is_broken(outcome: Outcome) -> None:
    """As it would be without us."""
    _all_is_measured(outcome)
    assert _told(outcome, "broken") == [True]


def ranks_are_measured(outcome: Outcome) -> None:
    """Each of them, and the training that started them."""
    _all_is_measured(outcome)
    assert _told(outcome, "measured") == [True, True]


def nothing_was_inherited(outcome: Outcome) -> None:
    """But the three that every program has."""
    _all_is_measured(outcome)
    assert {number for number, _ in _told(outcome, "inherited")} <= {0, 1, 2}


CASES = (
    *(
        Case(
            name=f"pool-{method}",
            happens=f"The training starts a pool of workers in the middle, by {method} (a data loader, concurrent.futures).",
            missing="Nothing. The workers have no part of us: no thread, no file, nothing loaded.",
            said="Nothing.",
            fault="faults.children:pool",
            argument=method,
            added=2.0,
            check=workers_have_nothing,
        )
        for method in ("spawn", "forkserver")
    ),
    Case(
        name="worker-killed",
        happens="A spawned worker is killed by SIGKILL.",
        missing="Nothing. The pool is broken as it would be without us.",
        said="Nothing.",
        fault="faults.children:killed",
        added=2.0,
        check=the_pool_is_broken,
    ),
    Case(
        name="ranks-spawned",
        happens="Further ranks are spawned processes (torch.multiprocessing.spawn), call instrument() and end before the first.",
        missing="Nothing. Each is measured for as long as it lives.",
        said="Nothing.",
        fault="faults.children:ranks",
        added=5.0,  # they load us, too, all on the same two processors
        check=ranks_are_measured,
    ),
    Case(
        name="program-inherits",
        happens="A program is started that inherits every open file (subprocess with close_fds=False).",
        missing="Nothing. None of our files is inherited.",
        said="Nothing.",
        fault="faults.children:program",
        added=2.0,
        check=nothing_was_inherited,
    ),
)
