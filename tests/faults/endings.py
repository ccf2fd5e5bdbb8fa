# SPDX-License-Identifier: Apache-2.0
"""Every way in which a job ends: with the same exit status, hardly later, and where it ends orderly with the last data.

The job takes seven more steps after the last regular look at the machine, so that only a look that is taken at its end
can tell of them.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import otel_hwmetrics
from faults.case import Case, Outcome
from faults.training import Job, Points
from otel_hwmetrics.catalog import training
from otel_hwmetrics.sources.base import Batch
from otel_hwmetrics.sources.tree import TreeSource
from otel_hwmetrics.testing import FakeGpu, FakeNvml

STEPS: Final = 60
MORE: Final = 7
"""Steps that are taken at the very end."""
AT_EXPORTS: Final = {"sample_interval": 60}
"""The first look is the only regular one in the job's time."""
AT_END: Final = 0.2
"""Seconds that the end may come later with us."""
AT_OURS: Final = 0.35
"""Seconds where `uninstrument()` waits for what hangs before that end, which is 0.2 at most."""


def _more_steps(_: Job) -> None:
    for _step in otel_hwmetrics.steps(range(MORE)):
        time.sleep(0.001)


def _returns(job: Job) -> None:
    _more_steps(job)


def _raises(job: Job) -> None:
    _more_steps(job)
    raise ValueError("of the training's own")


def _exits(job: Job) -> None:
    _more_steps(job)
    sys.exit(3)


def _exits_on_a_thread(job: Job) -> None:
    thread = threading.Thread(target=sys.exit, args=(3,))
    thread.start()
    thread.join()
    _more_steps(job)


def _leaves_at_once(_: Job) -> None:
    os._exit(7)


def _is_sent(signum: int) -> Callable[[Job], None]:
    def send(_: Job) -> None:
        os.kill(os.getpid(), signum)
        time.sleep(30)

    return send


def _is_interrupted(job: Job) -> None:
    _more_steps(job)
    _is_sent(signal.SIGINT)(job)


def _ends_by_its_own_handler(job: Job) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
    _more_steps(job)
    _is_sent(signal.SIGTERM)(job)


def _goes_on_stepping(job: Job) -> None:
    def for_ever() -> None:
        while True:
            _more_steps(job)
            with otel_hwmetrics.training_span("straggler"):
                pass

    threading.Thread(target=for_ever, daemon=True).start()
    time.sleep(0.05)


def _shuts_the_sdk_down_first(job: Job) -> None:
    _more_steps(job)
    for provider in job.providers:
        provider.shutdown()
    otel_hwmetrics.uninstrument()


def _ends_us_first(job: Job) -> None:
    _more_steps(job)
    job.providers[0].force_flush()
    otel_hwmetrics.uninstrument()
    for provider in job.providers:
        provider.shutdown()


def _ends_us_in_an_export(job: Job) -> None:
    entered, export = threading.Event(), Points.export

    def slow(points: Points, *arguments: Any, **more: Any) -> Any:
        entered.set()
        time.sleep(0.1)
        return export(points, *arguments, **more)

    setattr(Points, "export", slow)  # noqa: B010 - to assign it would be a slip anywhere else
    entered.wait(2)  # without us there is nothing to export
    otel_hwmetrics.uninstrument()


ENDINGS: Final[dict[str, Callable[[Job], None]]] = {
    "return": _returns,
    "raise": _raises,
    "exit": _exits,
    "exit of a thread": _exits_on_a_thread,
    "os._exit": _leaves_at_once,
    "SIGTERM": _is_sent(signal.SIGTERM),
    "SIGINT": _is_interrupted,
    "SIGKILL": _is_sent(getattr(signal, "SIGKILL", signal.SIGTERM)),
    "handler": _ends_by_its_own_handler,
    "daemons": _goes_on_stepping,
    "SDK first": _shuts_the_sdk_down_first,
    "us first": _ends_us_first,
    "us in an export": _ends_us_in_an_export,
}


@contextmanager
def an_end(job: Job) -> Iterator[None]:
    """End the job in one of these ways."""
    job.ending = lambda: ENDINGS[job.argument](job)
    yield


@contextmanager
def a_late_sdk(job: Job) -> Iterator[None]:
    """Have the SDK set up after we have begun, so that its functions of `atexit` come before ours."""
    instrumented, provide = job.instrumented, job.provide

    def late() -> None:
        if instrumented:
            job.handle = otel_hwmetrics.instrument(**job.options)
        job.instrumented = False
        provide()

    job.provide = late  # type: ignore[method-assign]
    job.ending = lambda: _more_steps(job)
    yield


@contextmanager
def no_shutdown(job: Job) -> Iterator[None]:
    """Have nobody shut the SDK down."""

    def forget() -> None:
        for provider in job.providers:
            atexit.unregister(provider.shutdown)
        _more_steps(job)

    job.ending = forget
    yield


@contextmanager
def a_slow_look(job: Job) -> Iterator[None]:
    """Let the looks at the end take seconds: the interpreter goes in the middle of one."""
    read = TreeSource.read

    def slow(source: TreeSource) -> Batch:
        time.sleep(20)
        return read(source)

    job.ending = lambda: setattr(TreeSource, "read", slow)
    yield


@contextmanager
def a_driver_that_hangs(job: Job) -> Iterator[None]:
    """Let each call of the driver hang from the end of the training on."""
    with FakeNvml([FakeGpu()]) as nvml:

        def hang() -> None:
            nvml.hang("*")
            time.sleep(0.3)  # until a call has got stuck

        job.ending = hang
        yield


def _then_ours(job: Job) -> None:
    """Have `uninstrument()` called at the end, with nothing to wait for any more after it."""
    hang = job.ending

    def end() -> None:
        hang()
        if job.instrumented:
            otel_hwmetrics.uninstrument()

    job.ending = end


@contextmanager
def a_slow_look_and_ours(job: Job) -> Iterator[None]:
    """The looks take seconds as we are ended, not as the interpreter is."""
    with a_slow_look(job):
        _then_ours(job)
        yield


@contextmanager
def a_driver_that_hangs_and_ours(job: Job) -> Iterator[None]:
    """The driver hangs as we are ended, not as the interpreter is."""
    with a_driver_that_hangs(job):
        _then_ours(job)
        yield


def steps_told(outcome: Outcome) -> float:
    """How many steps the last export tells of."""
    return sum(value for _, value in outcome.last.get(training.STEPS.name, ()))


def the_last_data_is_out(outcome: Outcome) -> None:
    """The last export is of a look that was taken after the last step; the span is out, too."""
    assert steps_told(outcome) == STEPS + MORE, outcome.last.get(training.STEPS.name)
    assert "train" in outcome.spans


def nothing_is_said(outcome: Outcome) -> None:
    """No more than would be without us."""
    assert "WARNING" not in outcome.words
    assert "Traceback" not in outcome.words


def quietly_with_the_last_data(outcome: Outcome) -> None:
    """Both."""
    the_last_data_is_out(outcome)
    nothing_is_said(outcome)


def only_its_own_words(outcome: Outcome) -> None:
    """What the training raised is told once, as Python does, and nothing more."""
    the_last_data_is_out(outcome)
    assert outcome.words.count("Traceback") == 1
    assert "WARNING" not in outcome.words


def interrupted(outcome: Outcome) -> None:
    """As Python tells of it, with the last data."""
    assert steps_told(outcome) == STEPS + MORE, outcome.last.get(training.STEPS.name)
    assert outcome.words.count("Traceback") == 1
    assert outcome.words.endswith("KeyboardInterrupt\n")


def no_traceback(outcome: Outcome) -> None:
    """Nothing has failed."""
    assert "Traceback" not in outcome.words


def everything_but_the_slow_source(outcome: Outcome) -> None:
    """The last export is there without it, or is of the look before."""
    assert "Traceback" not in outcome.words
    assert "system.cpu.time" in outcome.last


def case(
    name: str,
    happens: str,
    missing: str = "Nothing: the last export is of a look taken after the last step.",
    said: str = "Nothing.",
    check: Callable[[Outcome], None] = quietly_with_the_last_data,
    **more: Any,
) -> Case:
    """An ending."""
    fault: dict[str, Any] = {"fault": "faults.endings:an_end", "argument": name} if name in ENDINGS else {}
    return Case(
        name=f"end: {name}",
        happens=happens,
        missing=missing,
        said=said,
        check=check,
        steps=STEPS,
        added=2.0,
        **{"added_at_end": AT_END, "options": AT_EXPORTS, **fault, **more},
    )


_KILLED: Final = "What no export has told yet, as without us."
_RECORDED: Final = "The flight recorder writes down the last minutes."

CASES: Final = (
    case("return", "The training ends, and the program with it."),
    case("raise", "An exception ends the training.", said=_RECORDED, check=only_its_own_words),
    case("exit", "`sys.exit(3)` ends the training."),
    case(
        "exit of a thread", "`sys.exit(3)` is called on a thread that is not the main one, and ends that thread alone."
    ),
    case("os._exit", "`os._exit` ends the process at once.", _KILLED, check=nothing_is_said, options={}),
    case("SIGTERM", "SIGTERM ends the process.", _KILLED, _RECORDED, nothing_is_said, options={}),
    case(
        "SIGKILL",
        "SIGKILL ends the process, as the kernel does when memory runs out.",
        _KILLED,
        check=nothing_is_said,
        options={},
    ),
    case("SIGINT", "Ctrl-C ends the training.", check=interrupted),
    case("handler", "SIGTERM comes, and the job's own handler ends it orderly."),
    case("daemons", "Daemon threads go on training while the interpreter ends.", check=nothing_is_said, options={}),
    case("SDK first", "The SDK is shut down before `uninstrument()`."),
    case(
        "us first",
        "`uninstrument()` is called before the SDK is shut down, once that was flushed.",
        # The flush gets the last look; a busy machine may need more than the 0.2 s for which it waits by default.
        options={**AT_EXPORTS, "snapshot_timeout": 2.0},
    ),
    case(
        "us in an export", "`uninstrument()` is called while an export is under way.", check=nothing_is_said, options={}
    ),
    case(
        "late SDK", "The SDK is set up after `instrument()`, so that it ends first.", fault="faults.endings:a_late_sdk"
    ),
    case(
        "no shutdown",
        "Nobody shuts the SDK down.",
        "What happened since the last regular export.",
        check=nothing_is_said,
        options={},
        fault="faults.endings:no_shutdown",
    ),
    case(
        "slow look",
        "The interpreter ends in the middle of a look that takes its time.",
        "That look.",
        check=everything_but_the_slow_source,
        options={},
        fault="faults.endings:a_slow_look",
    ),
    case(
        "driver",
        "The driver hangs when the training ends.",
        "The GPUs in the last export.",
        "That nvidia does not answer in time.",
        check=everything_but_the_slow_source,
        options={},
        fault="faults.endings:a_driver_that_hangs",
    ),
    case(
        "slow look, us first",
        "`uninstrument()` is called in the middle of a look that takes its time.",
        "What happened since the last regular export.",
        check=nothing_is_said,
        options={},
        fault="faults.endings:a_slow_look_and_ours",
        added_at_end=AT_OURS,
    ),
    case(
        "driver, us first",
        "`uninstrument()` is called when the driver hangs.",
        "What happened since the last regular export.",
        "That nvidia does not answer in time, if it has been waited for.",
        check=no_traceback,
        options={},
        fault="faults.endings:a_driver_that_hangs_and_ours",
        added_at_end=AT_OURS,
    ),
)
