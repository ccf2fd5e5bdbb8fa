# SPDX-License-Identifier: Apache-2.0
"""Clocks that are set, machines that sleep and processes that are stopped: rates are of the time that has passed."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from unittest.mock import patch

from faults.case import Case, Outcome
from faults.gpus import operated, settle, the_host_goes_on, warned
from faults.training import Job

HOUR: Final = 3600.0


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
    """Between two steps an hour passes, as for a machine that was asleep."""
    ahead = [0.0]
    now, now_ns = time.monotonic, time.time_ns

    def operate() -> None:
        settle(job, count=0)
        ahead[0] = HOUR
        settle(job, count=0)

    with (
        patch.object(time, "monotonic", lambda: now() + ahead[0]),
        patch.object(time, "time_ns", lambda: now_ns() + int(ahead[0] * 1e9)),
        operated(job, operate),
    ):
        yield


@contextmanager
def stopped(job: Job) -> Iterator[None]:
    """The process is stopped for two seconds, as a scheduler does with jobs that have to make room."""
    script = "kill -STOP $1; sleep 2; kill -CONT $1"
    waker: list[subprocess.Popen[bytes]] = []

    def stop(number: int) -> None:
        if number == 60:
            waker.append(subprocess.Popen(["/bin/sh", "-c", script, "sh", str(os.getpid())], start_new_session=True))

    job.on_step.append(stop)
    yield
    for each in waker:
        each.wait()


def nothing_is_odd(outcome: Outcome) -> None:
    """No counter falls, no rate is beyond what can be, nothing is lost and nothing said."""
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
    assert not warned(outcome)
    assert "hwmetrics.summary.time" in outcome.spans["train"]["attributes"]


def _case(name: str, fault: Callable[[Job], Any], **words: Any) -> Case:
    return Case(name=name, fault=f"faults.clocks:{fault.__name__}", check=nothing_is_odd, added=4.0, **words)


CASES = (
    _case(
        "clock_steps",
        clock_steps,
        happens="The wall clock is set an hour forth and back, again and again.",
        missing="At most an export in whose middle that happens: the SDK takes it for one that came too late.",
        said="Nothing. Durations are by the monotonic clock.",
    ),
    _case(
        "an_hour_later",
        an_hour_later,
        happens="The machine sleeps for an hour.",
        missing="Nothing: rates are of that hour.",
        said="Nothing.",
    ),
    _case(
        "stopped",
        stopped,
        happens="The process is stopped for two seconds, and goes on (SIGSTOP, SIGCONT).",
        missing="Nothing: rates are of that time.",
        said="Nothing.",
    ),
)
