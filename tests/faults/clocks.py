# SPDX-License-Identifier: Apache-2.0
"""Clocks that are set, machines that sleep and processes that are stopped: rates are of the time that the monotonic clock has.

That of Linux stands still while the machine sleeps, and goes on while a process is stopped.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import Any, Final
from unittest.mock import patch

from faults.case import Case, Outcome
from faults.gpus import operated, settle, the_host_goes_on, warned
from faults.training import Job

HOUR: Final = 3600.0
MIDDLE: Final = 60
"""The step at which a process is stopped."""
CPU: Final = "process.cpu.utilization"


@contextmanager
def clock_steps(job: Job) -> Iterator[None]:
    """The wall clock goes an hour forth and back, again and again."""
    ahead = [0.0]
    now, now_ns = time.time, time.time_ns
    job.on_step.append(lambda number: ahead.__setitem__(0, (0.0, HOUR, 0.0, -HOUR)[number // 8 % 4]))
    with (
        patch.object(time, "time", lambda: now() + ahead[0]),
        patch.object(time, "time_ns", lambda: now_ns() + int(ahead[0] * 1e9)),
        operated(job, lambda: settle(job, count=0)),
    ):
        yield


@contextmanager
def an_hour_later(job: Job) -> Iterator[None]:
    """Between two steps an hour passes by the wall clock, and by the monotonic one too unless the machine was asleep."""
    ahead = [0.0]
    now, now_ns, monotonic = time.time, time.time_ns, time.monotonic

    def operate() -> None:
        settle(job, "before", count=0)
        ahead[0] = HOUR
        settle(job, "after", count=0)

    with ExitStack() as stack:
        stack.enter_context(patch.object(time, "time", lambda: now() + ahead[0]))
        stack.enter_context(patch.object(time, "time_ns", lambda: now_ns() + int(ahead[0] * 1e9)))
        if job.argument == "stopped":
            stack.enter_context(patch.object(time, "monotonic", lambda: monotonic() + ahead[0]))
        stack.enter_context(operated(job, operate))
        yield


@contextmanager
def stopped(job: Job) -> Iterator[None]:
    """The process is stopped for two seconds, as a scheduler does with jobs that have to make room."""
    script = "kill -STOP $1; sleep 2; kill -CONT $1"

    def stop(number: int) -> None:
        if number != MIDDLE:
            return
        times = [time.monotonic()]
        waker = subprocess.Popen(["/bin/sh", "-c", script, "sh", str(os.getpid())], start_new_session=True)
        while waker.poll() is None:
            times.append(time.monotonic())
            time.sleep(0.01)
        times.append(time.monotonic())  # the shell may have been so quick that all of it was while it was being started
        job.told.line(stood_still=max(later - earlier for earlier, later in pairwise(times)))

    job.on_step.append(stop)
    yield


def nothing_is_odd(outcome: Outcome, *unless: str) -> None:
    """No counter falls, no rate is beyond what can be, and nothing is said, unless it has these words."""
    the_host_goes_on(outcome)
    last: dict[str, float] = {}
    for line in outcome.lines:
        for name, attributes, value in line.get("points") or ():
            key = f"{name} {sorted(attributes.items())}"
            if name in {"system.cpu.time", "process.cpu.time", "process.uptime", "hwmetrics.sampling.time"}:
                assert value >= last.get(key, 0.0), key
            if name.endswith(".utilization"):
                assert 0 <= value <= 1.001, (key, value)
            last[key] = value
    assert not [line for line in warned(outcome) if not any(words in line for words in unless)]
    assert "hwmetrics.summary.time" in outcome.spans["train"]["attributes"]


def _busiest(outcome: Outcome) -> list[float]:
    """How busy the job was by each export that tells of it after the mark "before"."""
    at = next(number for number, line in enumerate(outcome.lines) if line.get("mark") == "before")
    found = (
        max((value for name, _, value in line.get("points") or () if name == CPU), default=None)
        for line in outcome.lines[at:]
    )
    return [value for value in found if value is not None]


def rates_are_of_the_hour(outcome: Outcome) -> None:
    """What was done before and after it, over the hour; from then on as ever."""
    # A look that was under way has taken an hour.
    nothing_is_odd(outcome, "does not answer in time")
    rates = _busiest(outcome)
    assert 0 <= min(rates) < 60 / HOUR, "not one minute's work was done"
    after = rates[rates.index(min(rates)) + 1 :]
    assert max(after) > 60 / HOUR, "of a training that is never idle"


def rates_are_of_the_time_awake(outcome: Outcome) -> None:
    """They are what they would be without it."""
    nothing_is_odd(outcome)
    assert max(_busiest(outcome)) > 60 / HOUR, "of a training that is never idle"


def it_stood_still(outcome: Outcome) -> None:
    """It did; and nothing is odd."""
    assert next(line["stood_still"] for line in outcome.lines if "stood_still" in line) > 1
    nothing_is_odd(outcome)


def _case(
    name: str, fault: Callable[[Job], Any], check: Callable[[Outcome], None] = nothing_is_odd, **more: Any
) -> Case:
    return Case(name=name, fault=f"faults.clocks:{fault.__name__}", check=check, added=4.0, **more)


CASES = (
    _case(
        "clock_steps",
        clock_steps,
        happens="The wall clock is set an hour forth and back, again and again.",
        missing="At most an export in whose middle that happens: the SDK takes it for one that came too late.",
        said="Nothing. Durations are by the monotonic clock.",
    ),
    _case(
        "asleep_for_an_hour",
        an_hour_later,
        rates_are_of_the_time_awake,
        happens="The machine sleeps for an hour: the wall clock is ahead, the monotonic clock has stood still (Linux).",
        missing="Nothing: rates are of the time awake.",
        said="Nothing.",
        argument="asleep",
        felt=False,  # without us there is nobody to ask the time
    ),
    _case(
        "stopped_for_an_hour",
        an_hour_later,
        rates_are_of_the_hour,
        happens="The process is stopped for an hour, while all clocks go on.",
        missing="Nothing, but of a look that was under way: the first rates after it are of that hour.",
        said="Nothing, or that a look took too long.",
        argument="stopped",
        felt=False,
    ),
    _case(
        "stopped",
        stopped,
        it_stood_still,
        happens="The process is stopped for two seconds, and goes on (SIGSTOP, SIGCONT).",
        missing="Nothing: no counter falls, and no share is beyond what can be.",
        said="Nothing.",
    ),
)
