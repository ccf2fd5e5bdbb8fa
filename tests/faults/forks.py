# SPDX-License-Identifier: Apache-2.0
"""Children that are forked at any moment: none hangs, none speaks for its parent, and the training goes on.

`tests/test_forks.py` has the moments one by one, `make forks` 10,000 of them.
"""

from __future__ import annotations

import concurrent.futures
import json
import logging
import multiprocessing
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from opentelemetry import metrics, trace

import otel_hwmetrics
from faults.case import Case, Outcome
from faults.training import Job, Points
from otel_hwmetrics.testing import FakeGpu, FakeNvml

EVERY: Final = 20
"""Steps between two forks."""
PATIENCE: Final = 20.0
"""Seconds after which a child hangs."""
HOT: Final = [point for second in range(60) for point in ((second, 60.0), (second + 0.4, 60.0), (second + 0.5, 90.0))]
"""A GPU's temperature by second: alerts come and go."""


def at_work() -> str:
    """What a child does, and what it finds of us: the name of the first thing that it should not, or nothing."""
    metrics.get_meter("child").create_observable_counter("child.work")
    with trace.get_tracer("child").start_as_current_span("work"), otel_hwmetrics.training_span("work"):
        logging.getLogger("child").debug("at work")
    found = {
        "threads": any(thread.name.startswith("hwmetrics") for thread in threading.enumerate()),
        "a snapshot": otel_hwmetrics.snapshot() is not None,
        "its parent's handler": signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL,
    }
    return next((name for name, there in found.items() if there), "")


def child(act: Callable[[], object]) -> object:
    """What a function gives in a child that is forked now."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        said: object = "failed"
        try:
            said = act()
        finally:
            os.write(writer, json.dumps(said).encode())
            os._exit(0)
    os.close(writer)
    said = json.loads(os.read(reader, 1000) or '""') if select.select([reader], [], [], PATIENCE)[0] else "hangs"
    os.close(reader)
    if said == "hangs":
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return said


def twice() -> object:
    """Be a daemon's parent."""
    os.setsid()
    return child(at_work)


def exits() -> str:
    """Fork a child that ends as a program does, and give what was wrong with that."""
    pid = os.fork()
    if pid == 0:
        at_work()
        sys.exit(3)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return "" if code == 3 else f"exit status {code}"


def in_a_pool() -> object:
    """Have two workers of a pool at work."""
    fork = multiprocessing.get_context("fork")
    with fork.Pool(2) as pool:
        return next(filter(None, pool.starmap(at_work, [()] * 4)), "")


def in_an_executor() -> object:
    """Have two workers of an executor at work."""
    fork = multiprocessing.get_context("fork")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=fork) as pool:
        return next(filter(None, [each.result(PATIENCE) for each in [pool.submit(at_work) for _ in range(4)]]), "")


def on_a_thread() -> object:
    """Fork on a thread that is not the main one."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(child, at_work).result()


WAYS: Final[dict[str, Callable[[], object]]] = {
    "os.fork": lambda: child(at_work),
    "sys.exit": exits,
    "pool": in_a_pool,
    "executor": in_an_executor,
    "daemon": lambda: child(twice),
    "thread": on_a_thread,
}


def _every_few_steps(job: Job, act: Callable[[], object]) -> Callable[[], None]:
    """Do something every few steps; what it gives is told by the function that comes back."""
    gave: list[object] = []
    job.on_step.append(lambda number: gave.append(act()) if number % EVERY == 0 else None)
    return lambda: job.told.line(gave=gave)


@contextmanager
def forking(job: Job) -> Iterator[None]:
    """Fork again and again in one of these ways, while alerts come and go."""
    tell = _every_few_steps(job, WAYS[job.argument])
    with FakeNvml([FakeGpu(temperature=HOT)]):
        yield
    tell()


@contextmanager
def in_an_export(job: Job) -> Iterator[None]:
    """Fork while an export is under way, which takes its time."""
    export = Points.export

    def slow(points: Points, *arguments: Any, **more: Any) -> Any:
        time.sleep(0.1)
        return export(points, *arguments, **more)

    setattr(Points, "export", slow)  # noqa: B010 - to assign it would be a slip anywhere else
    tell = _every_few_steps(job, lambda: (exits(), child(at_work)))
    yield
    setattr(Points, "export", export)  # noqa: B010
    tell()


@contextmanager
def while_the_driver_hangs(job: Job) -> Iterator[None]:
    """Fork while a look at the GPUs hangs, and the exports wait for it."""
    with FakeNvml([FakeGpu()]) as nvml:
        job.on_step.append(lambda number: nvml.hang("*") if number == EVERY else None)
        tell = _every_few_steps(job, lambda: child(at_work))
        yield
        tell()


@contextmanager
def instrumented_anew(job: Job) -> Iterator[None]:
    """Fork a rank that instruments itself, and tells how many kinds of readings it has."""

    def rank() -> int:
        if not job.instrumented:
            return 0
        with otel_hwmetrics.instrument(sources=["process"], sample_interval=0.2) as handle:
            deadline = time.monotonic() + PATIENCE
            while handle.snapshot() is None and time.monotonic() < deadline:
                time.sleep(0.01)
            snapshot = handle.snapshot()
            return 0 if snapshot is None else len({reading.metric.name for reading in snapshot})

    gave: list[object] = []

    def fork_once(number: int) -> None:
        if number == EVERY:
            began = time.monotonic()
            gave.append(child(rank))
            job.told.line(waited=time.monotonic() - began)  # for what the rank does, which is the job's own wish

    job.on_step.append(fork_once)
    yield
    job.told.line(gave=gave)


def given(outcome: Outcome) -> list[object]:
    """What the children gave."""
    return next(list(line["gave"]) for line in outcome.lines if "gave" in line)


def all_is_well(outcome: Outcome) -> None:
    """No child hung or found anything of ours; the parent's data goes on, and nobody was told of anything else."""
    assert set(map(str, given(outcome))) <= {"", "['', '']"}, given(outcome)
    assert "system.cpu.time" in outcome.last
    assert "process.cpu.time" in outcome.last
    assert len({line["by"] for line in outcome.lines if line.get("points")}) == 1
    assert "Traceback" not in outcome.words


def the_rank_measures_itself(outcome: Outcome) -> None:
    """Under the conditions of a process that was not forked."""
    (kinds,) = given(outcome)
    assert isinstance(kinds, int)
    assert kinds > 3
    assert "Traceback" not in outcome.words


def case(name: str, happens: str, **more: Any) -> Case:
    """Children, which have nothing of ours."""
    known: dict[str, Any] = {"fault": "faults.forks:forking", "argument": name} if name in WAYS else {}
    return Case(
        **{
            "name": f"fork: {name}",
            "happens": happens,
            "missing": "Nothing of the parent's; of the children nothing is told.",
            "said": "Nothing.",
            "check": all_is_well,
            "options": {"alert_gpu_hot_for": 0},
            "steps": 100,
            "added": 2.0,
            **known,
            **more,
        }
    )


CASES: Final = (
    case("os.fork", "Workers are forked at any moment, as those of a data loader, and end by `os._exit`."),
    case("sys.exit", "Children are forked that end as a program does."),
    case("pool", "Workers of `multiprocessing.Pool` are forked."),
    case("executor", "Workers of a `ProcessPoolExecutor` are forked."),
    case("daemon", "A daemon is made by forking twice."),
    case("thread", "A thread that is not the main one forks."),
    case(
        "in an export",
        "Children are forked while the backend takes its time for an export.",
        fault="faults.forks:in_an_export",
    ),
    case(
        "driver",
        "Children are forked while the driver hangs.",
        fault="faults.forks:while_the_driver_hangs",
        missing="The GPUs, from then on; of the children nothing is told.",
        said="That nvidia does not answer in time.",
    ),
    case(
        "anew",
        "A rank of the training is a forked process, and calls `instrument()` itself.",
        fault="faults.forks:instrumented_anew",
        missing="Nothing: it measures itself, and its parent goes on.",
        check=the_rank_measures_itself,
    ),
)
