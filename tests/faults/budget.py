# SPDX-License-Identifier: Apache-2.0
"""Looks that cost too much, and threads of ours that die: we become fewer or fall silent, and training goes on."""

from __future__ import annotations

import ctypes
import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from faults.case import Case, Outcome
from faults.training import Job
from otel_hwmetrics import budget, pace
from otel_hwmetrics.catalog import own
from otel_hwmetrics.sources.base import Batch
from otel_hwmetrics.sources.tree import TreeSource

COSTLY: Final = 0.3
"""CPU seconds of a look at the tree while it is costly: more than half a CPU at two looks a second."""
SHARE: Final = 0.1
"""Of a CPU, that we may take; the looks of other sources fit into it on a slow machine, too."""


def _burn(seconds: float) -> None:
    """Use a CPU without holding the interpreter, as the kernel does for whoever reads /proc."""
    end = time.thread_time() + seconds
    block = bytes(2**22)
    while time.thread_time() < end:
        hashlib.sha256(block)  # lets go of the interpreter


@contextmanager
def a_costly_source(job: Job) -> Iterator[None]:
    """Let looks at the tree cost a hundred times as much until they are slowed; minutes of the budget are seconds here."""
    constants: dict[str, Any] = {"CREDIT": 1.0, "DEBT": 0.2, "STRETCH": 0.3, "LOOKS": 2}
    for name, value in constants.items():
        setattr(budget, name, value)
    costly, read = [True], TreeSource.read

    def slow(source: TreeSource) -> Batch:
        if costly[0]:
            _burn(COSTLY)
        return read(source)

    def cheaper_once_it_is_slowed(_: int) -> None:
        if costly[0] and job.handle is not None and job.handle._pipeline is not None:
            costly[0] = not any(runner.every for runner in job.handle._pipeline.sampler.runners)

    setattr(TreeSource, "read", slow)  # noqa: B010 - to assign it would be a slip anywhere else
    job.on_step += [cheaper_once_it_is_slowed, lambda _: time.sleep(0.02)]
    yield


def it_was_slowed_alone_and_came_back(outcome: Outcome) -> None:
    """The log says both, the metric when; all other sources were read as ever."""
    slower = (
        "more than the 10 % that cpu_budget=0.1 allows. Most of it is for tree, which is read every 1 s from now on"
    )
    assert slower in outcome.words, outcome.words
    assert "fits again into the 10 % that cpu_budget=0.1 allows: tree is read every 0.5 s." in outcome.words
    every: dict[str, list[float]] = {}
    for attributes, value in outcome.points["hwmetrics.source.interval"]:
        every.setdefault(attributes[own.SOURCE], []).append(round(value, 6))
    tree = every.pop("tree")
    assert max(tree) >= 1.0
    assert tree[-1] == 0.5
    assert {value for values in every.values() for value in values} == {0.5}
    assert {value for _, value in outcome.points["hwmetrics.sampling.interval"]} == {0.5}
    assert "hwmetrics.tree.memory.usage" in outcome.last


@contextmanager
def a_dying_sampler(job: Job) -> Iterator[None]:
    """Throw an exit into the sampler's thread, as libraries for timeouts do: so often, one after the other.

    Each has been at its work for some steps: one that has hardly begun may get it where Python itself starts threads.
    """
    setattr(pace, "STALE_AFTER", 0.5)  # noqa: B010 - it is a constant; 5 s would be long here
    since: dict[threading.Thread, int] = {}
    met: list[threading.Thread] = []

    def kill(step: int) -> None:
        for thread in threading.enumerate():
            if thread.name != "hwmetrics-sampler" or thread in met or len(met) == job.argument:
                continue
            if step - since.setdefault(thread, step) >= 50:
                met.append(thread)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit)
                )

    job.on_step.append(kill)
    yield


AGAIN: Final = "hwmetrics-sampler ended unexpectedly. It is started again, once. Training is not affected."
OFF: Final = (
    "hwmetrics-sampler ended again. It stays off: there are no samples and alerts until instrument() is called again"
)


def it_goes_on(outcome: Outcome) -> None:
    """Samples come as before."""
    assert AGAIN in outcome.words, outcome.words
    assert OFF not in outcome.words
    assert "system.cpu.time" in outcome.last
    assert ({own.THREAD_NAME: "hwmetrics-sampler"}, 1) in _unsigned(outcome.last["hwmetrics.thread.up"])


def it_stays_off(outcome: Outcome) -> None:
    """Of the machine there is nothing any more; of ourselves, what is wrong."""
    assert AGAIN in outcome.words, outcome.words
    assert OFF in outcome.words
    assert "system.cpu.time" in outcome.points
    assert "system.cpu.time" not in outcome.last
    assert ({own.THREAD_NAME: "hwmetrics-sampler"}, 0) in _unsigned(outcome.last["hwmetrics.thread.up"])
    ((_, age),) = outcome.last["hwmetrics.sample.age"]
    assert age > 0.5


def _unsigned(points: list[tuple[dict[str, Any], float]]) -> list[tuple[dict[str, Any], float]]:
    return [({own.THREAD_NAME: attributes[own.THREAD_NAME]}, value) for attributes, value in points]


CASES = (
    Case(
        name="a costly source",
        happens="Looks at one source become so costly that we exceed `cpu_budget`: a process tree of a hundred thousand.",
        missing="This source is read less often, every 32 s at most, and its last readings are told again in between, until its "
        "looks fit. All others are read as before.",
        said="A warning when it begins, a line when it is over; `hwmetrics.source.interval`.",
        fault="faults.budget:a_costly_source",
        options={"cpu_budget": SHARE, "source_timeout": 10, "sample_interval": 0.5},
        steps=400,
        added=3.0,
        check=it_was_slowed_alone_and_came_back,
    ),
    Case(
        name="the sampler dies",
        happens="The thread that samples is ended by an exception that another library throws into it.",
        missing="Nothing but the look that was under way: another thread goes on with the same sums.",
        said="A warning with the traceback, and one that it is started again.",
        fault="faults.budget:a_dying_sampler",
        argument=1,
        steps=500,
        felt=False,
        check=it_goes_on,
    ),
    Case(
        name="the sampler dies twice",
        happens="The same once more.",
        missing="All metrics but those of ourselves, from 5 s after it on; alerts.",
        said="A warning that it stays off; `hwmetrics.thread.up` is 0, `hwmetrics.sample.age` grows.",
        fault="faults.budget:a_dying_sampler",
        argument=2,
        steps=500,
        felt=False,
        check=it_stays_off,
    ),
)
