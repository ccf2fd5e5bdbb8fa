# SPDX-License-Identifier: Apache-2.0
"""A driver that hangs, refuses, talks rubbish, goes and comes back: nothing wrong is told, and everything else is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from faults.case import Case, Outcome
from faults.gpus import (
    CALLS,
    PATIENCE,
    QUIET,
    SCRIPTED,
    WALKED,
    Fickle,
    everything_is_back,
    export,
    gpus,
    in_no_time,
    installed,
    look,
    looked,
    lost,
    nothing_wrong,
    of_nvidia,
    operated,
    settle,
    the_host_goes_on,
    waited,
    warned,
    well,
)
from faults.training import Job
from otel_hwmetrics.testing import FakeNvml

WALK: Final = 1000
"""Steps of a training that goes on while every call of the driver's has its turn."""
NO_TEXT: Final = "nvmlErrorString"
"""The text of an error is no code: it cannot be refused, and its numbers cannot be rubbish."""
HUNG: Final = 5.0
"""Seconds within which two looks and an export are done while a call hangs, on a machine that is very busy."""
QUICK: Final = {"source_timeout": 0.05}
HAMMERED: Final = 30.0
"""Seconds: all the time the machine is looked at as often as it can be, and a look asks for everything."""


def _codes() -> list[int]:
    """Every error that nvml.h has, and one that it has not."""
    import pynvml

    named = {value for name, value in vars(pynvml).items() if name.startswith("NVML_ERROR_")}
    return [*sorted(named), 4711]


@contextmanager
def fickle(job: Job) -> Iterator[None]:
    """Each call fails in every way there is, or says rubbish, while GPUs and the whole driver come and go."""
    in_no_time()
    menu = _codes() if job.argument == "errors" else [None] * 4
    nvml = installed(Fickle(gpus(), menu, set(CALLS) - {NO_TEXT}))

    def operate() -> None:
        settle(job, QUIET)
        nvml.serving = True
        end = time.monotonic() + PATIENCE
        while any(nvml.left.values()) and time.monotonic() < end:
            _round(job, nvml)
        nvml.serving = False
        served = [name for name, left in nvml.left.items() if not left]
        _renew(job, nvml)
        job.told.line(mark="all is well", served=served)
        waited(lambda: well(job))
        settle(job)

    with operated(job, operate):
        yield


def _round(job: Job, nvml: Fickle) -> None:
    """Let a GPU, the other one and the driver go and come back, as often as there are functions left that this calls."""
    nvml.most = max(map(len, nvml.left.values()))
    for gpu in (0, 1):
        nvml.lose(gpu)
        look(job)
        nvml.restore(gpu)
        look(job)
    nvml.reload_driver()
    look(job)
    nvml.driver_back()
    look(job)
    nvml.xid(31)
    export(job)
    if nvml.left["nvmlGpmMetricsGet"]:
        time.sleep(0.12)  # what it tells is of the time between two calls, which must not be too short
        look(job)


def _renew(job: Job, nvml: FakeNvml) -> None:
    """What a board said that it does not support is asked again of a new one."""
    for gpu in (0, 1):
        nvml.lose(gpu)
    look(job)
    look(job)
    for gpu in (0, 1):
        nvml.restore(gpu)
    look(job)


def every_answer_was_served(outcome: Outcome) -> None:
    """Each function answered in every way, nothing wrong was told, what was not told was counted, and all is back."""
    served = next(line["served"] for line in outcome.lines if "served" in line)
    assert set(served) == set(CALLS) - {NO_TEXT}, set(CALLS) - {NO_TEXT} - set(served)
    nothing_wrong(outcome)
    everything_is_back(outcome)
    assert lost(outcome)
    assert "failed" in {attributes["hw.state"] for attributes, value in outcome.points["hw.status"] if value}
    assert 1 <= outcome.words.count("does not answer any more") <= 10 * 2, outcome.words
    assert of_nvidia(outcome, "hwmetrics.source.up")[-1] == 1
    assert len(outcome.words.splitlines()) < 60, outcome.words  # it came and went a hundred times


@contextmanager
def hanging(job: Job) -> Iterator[None]:
    """Each call hangs until samples have gone without it, one function after the other."""
    in_no_time()
    nvml = installed(FakeNvml(gpus()))

    def operate() -> None:
        settle(job, QUIET)
        hung = [name for name in CALLS if _hang(job, nvml, name)]
        job.told.line(mark="all is well", hung=hung)
        settle(job)

    with operated(job, operate):
        yield


def _hang(job: Job, nvml: FakeNvml, name: str) -> bool:
    """Have a function hang, and what needs it happen; whether it was called, and the host was told all the same."""
    hang = nvml.hang(name)
    look(job)
    if not hang.entered.is_set():  # it is for having one back that was lost
        nvml.lose(0)
        looked(job, hang.entered.is_set, 0.2)
        nvml.restore(0)
    if not hang.entered.is_set():  # or for a driver that comes back
        if name == NO_TEXT:
            nvml.fail("nvmlDeviceGetHandleByIndex_v2", 4711)
        nvml.reload_driver()
        look(job)
        nvml.driver_back()
        looked(job, hang.entered.is_set, 10.0)
    entered = hang.entered.is_set()
    began = time.monotonic()
    for _ in range(2):
        look(job)
    export(job)
    late = time.monotonic() - began
    nvml.recover()
    back = looked(job, lambda: well(job), 10.0)
    return entered and back and late < HUNG


def every_call_hung(outcome: Outcome) -> None:
    """Each did, the host and whatever is known were told meanwhile, and the GPUs were back each time."""
    hung = next(line["hung"] for line in outcome.lines if "hung" in line)
    assert set(hung) == set(CALLS), set(CALLS) - set(hung)
    nothing_wrong(outcome)
    everything_is_back(outcome)
    assert lost(outcome)["timeout"] > 0
    up = of_nvidia(outcome, "hwmetrics.source.up")
    assert 0 in up
    assert up[-1] == 1
    assert outcome.words.count("does not answer in time") == 1


@contextmanager
def hanging_for_ever(job: Job) -> Iterator[None]:
    """One function hangs from the start, and never returns."""
    from otel_hwmetrics import runners
    from otel_hwmetrics.sources.gpu.nvidia import events, source

    for module, name in ((runners, "OPENS_WITHIN"), (events, "HANGS_AFTER"), (source, "DEAF_FOR")):
        setattr(module, name, 0.2)
    nvml = installed(FakeNvml(gpus()))
    nvml.hang(job.argument)
    with operated(job, lambda: settle(job, count=0)):
        yield


def the_host_alone(outcome: Outcome) -> None:
    """Nothing is told of GPUs, and that it is so."""
    the_host_goes_on(outcome)
    assert not [name for name in outcome.points if name.startswith("hw.gpu.")]
    assert outcome.last["hwmetrics.source.up"]
    assert of_nvidia(outcome, "hwmetrics.source.up")[-1] == 0
    assert lost(outcome)["timeout"] > 0
    assert outcome.words.count("nvidia does not answer in time") == 1


def no_events(outcome: Outcome) -> None:
    """Everything else is told, and that events are not heard of."""
    the_host_goes_on(outcome)
    assert outcome.words.count("events of NVIDIA GPUs are not heard of: the driver does not answer") == 1
    assert outcome.told("hw.gpu.utilization")
    assert of_nvidia(outcome, "hwmetrics.source.up")[-1] == 1
    assert "nvidia does not answer" not in outcome.words


@contextmanager
def hanging_at_the_end(job: Job) -> Iterator[None]:
    """The driver's end hangs when ours comes."""
    nvml = installed(FakeNvml(gpus()))
    with operated(job, lambda: settle(job, count=0)):
        yield
    nvml.hang("nvmlShutdown")
    job.end_us()


def it_ended(outcome: Outcome) -> None:
    """It did not wait for the driver, and needs no word."""
    the_host_goes_on(outcome)
    assert outcome.told("hw.gpu.utilization")
    assert not warned(outcome)


CASES = (
    Case(
        name="errors",
        happens="Each function of the NVIDIA driver's library that is called answers, one after the other, with each error "
        "that there is and one that there is not, while GPUs are lost and the driver is reloaded again and again.",
        missing="Only the readings that the refused calls would have given, for as long as they are refused; where the board "
        "says that it does not support a thing, that thing until the GPU or the driver has been away.",
        said="`hwmetrics.source.readings.lost` by the type of the error; `hw.status`; of each GPU's silence a line, ten at "
        "most.",
        fault="faults.driver:fickle",
        argument="errors",
        options=WALKED,
        steps=WALK,
        added=HAMMERED,
        felt=False,
        check=every_answer_was_served,
    ),
    Case(
        name="garbage",
        happens="Each of them says that it succeeded, and writes all ones.",
        missing="Only the readings that made no sense.",
        said="`hwmetrics.source.readings.lost`, by the type of the error.",
        fault="faults.driver:fickle",
        argument="garbage",
        options=WALKED,
        steps=WALK,
        added=HAMMERED,
        felt=False,
        check=every_answer_was_served,
    ),
    Case(
        name="hangs",
        happens="Each of them hangs for a while, one after the other.",
        missing="What the driver tells, until the call returns.",
        said="`hwmetrics.source.up` is 0; `hwmetrics.source.readings.lost` with `timeout`; one line.",
        fault="faults.driver:hanging",
        options={**WALKED, **QUICK},
        steps=WALK,
        added=HAMMERED,
        felt=False,
        check=every_call_hung,
    ),
    *(
        Case(
            name=f"hangs_for_ever_in_{name}",
            happens=f"`{name}` hangs for ever, from the start.",
            missing="All that the driver tells.",
            said="`hwmetrics.source.up` is 0; `hwmetrics.source.readings.lost` with `timeout`; one line.",
            fault="faults.driver:hanging_for_ever",
            argument=name,
            options=QUICK,
            added=SCRIPTED,
            felt=False,
            check=the_host_alone,
        )
        for name in (
            "nvmlInitWithFlags",
            "nvmlDeviceGetCount_v2",
            "nvmlDeviceGetHandleByIndex_v2",
            "nvmlDeviceGetFieldValues",
        )
    ),
    Case(
        name="events_hang",
        happens="`nvmlEventSetWait_v2` hangs for ever.",
        missing="XIDs and other events.",
        said="One line.",
        fault="faults.driver:hanging_for_ever",
        argument="nvmlEventSetWait_v2",
        added=SCRIPTED,
        felt=False,
        check=no_events,
    ),
    Case(
        name="shutdown_hangs",
        happens="`nvmlShutdown` hangs for ever when the job ends.",
        missing="Nothing.",
        said="Nothing; `uninstrument()` returns within 2 s, and the thread is left behind.",
        fault="faults.driver:hanging_at_the_end",
        added=SCRIPTED,
        stops_within=2.0,
        felt=False,
        check=it_ended,
    ),
)
