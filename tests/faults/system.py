# SPDX-License-Identifier: Apache-2.0
"""An operating system that gives no descriptor, no space, no permission, no thread, and clocks and names that are odd."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final
from unittest.mock import patch

from opentelemetry.metrics import NoOpMeterProvider

import otel_hwmetrics
from faults.case import Case, Outcome
from faults.clocks import nothing_is_odd
from faults.gpus import export, gpus, installed, look, operated, settle, the_host_goes_on, told_of, warned
from faults.training import Job
from otel_hwmetrics.catalog.tree import CHILDREN_STARTED, DISK_IO
from otel_hwmetrics.testing import FakeNvml

NOBODY: Final = 65534
_PR_SET_DUMPABLE: Final = 4
LOST: Final = "hwmetrics.source.readings.lost"
UP: Final = "hwmetrics.source.up"
ERRORS: Final = "hwmetrics.internal.errors"
ODD: Final = b"odd-\xff\xfe"
"""A name that is no text in UTF-8."""
STEPS: Final = 150
OPENED_AT: Final = 60
"""The step at which a job whose output is closed has a log for it."""


@contextmanager
def no_descriptors(job: Job) -> Iterator[None]:
    """For some looks in the middle the process may open no file more."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    def operate() -> None:
        settle(job, count=0)
        lowest = os.dup(2)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
        child = os.posix_spawn("/bin/sleep", ["sleep", "60"], {})
        for _ in range(3):
            time.sleep(0.1)
            look(job)
        export(job, "none left")
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        settle(job, count=0)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)

    with operated(job, operate):
        yield


def what_is_open_is_read(outcome: Outcome) -> None:
    """Files that are open are read on; what takes a new one waits until there are some."""
    the_host_goes_on(outcome)
    for line in outcome.lines:
        if line.get("points"):
            assert {"system.cpu.time", "process.cpu.time"} <= {point[0] for point in line["points"]}
    before = Outcome(**{**vars(outcome), "lines": outcome.lines[: _marked(outcome, "none left")]})
    assert {value for _, value in before.points[CHILDREN_STARTED.name]} == {0}
    assert {value for _, value in outcome.last[CHILDREN_STARTED.name]} == {1}  # met as soon as it can be
    lost = {attributes["error.type"] for attributes, _ in outcome.points.get(LOST, ())}
    assert lost <= {"timeout"}  # a busy machine's
    assert all(value == 1 for _, value in outcome.last[UP])


def _marked(outcome: Outcome, mark: str) -> int:
    return next(number for number, line in enumerate(outcome.lines) if line.get("mark") == mark)


@contextmanager
def no_space(job: Job) -> Iterator[None]:
    """A GPU is lost, and the disk on which the recording of that is written is full, or its folder has gone."""
    from otel_hwmetrics.folders import Folder

    nvml = installed(FakeNvml(gpus()))
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()), "ours")
        place.mkdir()
        job.options["directory"] = str(place)

        @contextmanager
        def full(*_: object) -> Iterator[BinaryIO]:
            with open("/dev/full", "wb") as file:
                yield file

        def operate() -> None:
            settle(job, count=0)
            if job.argument == "gone":
                place.rmdir()
                place.write_text("Somebody else's.")
            nvml.lose(0)
            told_of(job)

        if job.argument == "full":
            stack.enter_context(patch.object(Folder, "new", full))
        with operated(job, operate):
            yield


def the_alert_is_told_all_the_same(outcome: Outcome) -> None:
    """Every other way in which it is told of has it, and that there is no recording is said once, and counted."""
    assert [line for line in outcome.lines if line.get("record") == "hwmetrics.alert"]
    assert outcome.words.count("No flight recording") == 1
    places = {attributes["hwmetrics.internal.place"]: value for attributes, value in outcome.last[ERRORS]}
    assert places == {"writing a flight recording": 1}


@contextmanager
def no_permission(job: Job) -> Iterator[None]:
    """The process is nobody's, and may not be looked into, not even by itself: as after setuid, or in a hardened container."""
    # Nor may nobody read, in some places, the modules that are loaded late: those of the job's own calls, and ours.
    assert callable(otel_hwmetrics.steps)
    if job.instrumented:
        with otel_hwmetrics.instrument(meter_provider=NoOpMeterProvider()):
            time.sleep(0.3)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    with operated(job, lambda: settle(job, count=0)):
        yield


def what_is_permitted_is_told(outcome: Outcome) -> None:
    """The host and what the process may see of itself are told; what it may not is lost and counted, or absent."""
    the_host_goes_on(outcome)
    assert {"process.cpu.time", "process.memory.usage"} <= outcome.last.keys()
    assert DISK_IO.name not in outcome.points
    assert LOST not in outcome.points
    assert not warned(outcome)


@contextmanager
def no_threads(job: Job) -> Iterator[None]:
    """No thread of ours can be started: the user, or the container, has as many as are allowed."""
    start = threading.Thread.start

    def start_others(thread: threading.Thread) -> None:
        if thread.name.startswith("hwmetrics"):
            raise RuntimeError("can't start new thread")
        start(thread)

    with (
        patch.object(threading.Thread, "start", start_others),
        operated(job, lambda: settle(job, count=0, looks=False)),
    ):
        yield


def nothing_is_measured(outcome: Outcome) -> None:
    """It is said of each thread, and shown where no thread is needed for that."""
    assert "system.cpu.time" not in outcome.points
    assert all(name.startswith("hwmetrics.") for name in outcome.points), outcome.points.keys()
    lines = [line for line in outcome.words.splitlines() if "cannot be started" in line]
    assert {"hwmetrics-sampler", "hwmetrics-tree"} <= {line.split()[2] for line in lines}, lines
    assert len({*lines}) == len(lines), lines
    assert outcome.last["hwmetrics.thread.up"]
    assert not any(value for _, value in outcome.last["hwmetrics.thread.up"])


@contextmanager
def little_memory(job: Job) -> Iterator[None]:
    """The process may have 24 MiB more than it has a moment after the start (ulimit -v)."""
    import resource

    del_limits = resource.getrlimit(resource.RLIMIT_AS)

    def limit(number: int) -> None:
        if number == 20:
            with open("/proc/self/statm", encoding="ascii") as file:
                size = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
            resource.setrlimit(resource.RLIMIT_AS, (size + 24 * 2**20, del_limits[1]))

    job.on_step.append(limit)
    with operated(job, lambda: settle(job, count=0)):
        yield
    resource.setrlimit(resource.RLIMIT_AS, del_limits)


@contextmanager
def odd_names(job: Job) -> Iterator[None]:
    """The process, a child, the program, its folder, its data and its environment have names that are no text in UTF-8."""
    nvml = installed(FakeNvml(gpus()))
    with tempfile.TemporaryDirectory() as place:
        folder = os.path.join(os.fsencode(place), ODD)
        os.mkdir(folder)
        Path(os.fsdecode(folder), "shard").write_bytes(bytes(1000))
        os.chdir(folder)
        os.environb[b"ODD_" + ODD] = ODD
        sys.argv[0] = os.fsdecode(folder)
        ctypes.CDLL(None).prctl(15, ODD, 0, 0, 0)  # PR_SET_NAME
        job.options |= {"dataset_paths": (os.fsdecode(folder),), "directory": os.fsdecode(folder)}
        child = subprocess.Popen([b"exec -a " + ODD, "-c", "exec sleep 60"], executable="/bin/sh")

        def operate() -> None:
            settle(job, count=0)
            nvml.lose(0)
            told_of(job)
            job.told.line(recorded=len(list(Path(os.fsdecode(folder)).glob("*.flight.jsonl"))))

        with operated(job, operate):
            yield
        child.kill()
        child.wait()
        os.chdir("/")


def every_name_is_text(outcome: Outcome) -> None:
    """What leaves the process can be encoded; the recording is written."""
    the_host_goes_on(outcome)
    for points in outcome.points.values():
        for attributes, _ in points:
            for value in attributes.values():
                str(value).encode()
    for line in outcome.lines:
        for value in line.get("attributes", {}).values():
            str(value).encode()
    assert any("dataset" in name for name in outcome.points), outcome.points.keys()
    assert next(line["recorded"] for line in outcome.lines if "recorded" in line) == 1


@contextmanager
def deaf(job: Job) -> Iterator[None]:
    """Nobody reads what the job prints: its output is closed until it has a file for it, or a pipe that is full."""
    if job.argument == "closed":
        os.close(1)
        os.close(2)
        _print_later(job)
    else:
        _, end = os.pipe()
        os.set_blocking(end, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(end, bytes(4096))
        os.set_blocking(end, True)
        os.dup2(end, 1)
        os.dup2(end, 2)
    logging.getLogger("opentelemetry").propagate = False  # the SDK's own lines do wait for a reader
    nvml = installed(FakeNvml(gpus()))

    def operate() -> None:
        settle(job, count=0)
        nvml.lose(0)
        told_of(job)

    with operated(job, operate):
        yield


def _print_later(job: Job) -> None:
    """Open a log as output and errors when the job has run for a while, and print there to the very end."""
    log = Path(tempfile.gettempdir(), "log")

    def step(number: int) -> None:
        if number == OPENED_AT:
            descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            for each in (1, 2):
                os.dup2(descriptor, each)
        if number >= OPENED_AT:
            os.write(1 + number % 2, b"step %d\n" % number)

    def end() -> None:
        os.write(1, b"step last\n")
        os.write(2, b"step last\n")
        job.told.line(log=log.read_text(encoding="utf-8"))

    job.on_step.append(step)
    atexit.register(end)  # before we are instrumented, so it is called afterwards


def what_is_printed_later_is_there(outcome: Outcome) -> None:
    """Every line that the job printed, in its order; what we say may be between them, and nothing else."""
    it_is_told_all_the_same(outcome)
    log = next(line["log"] for line in outcome.lines if "log" in line).splitlines()
    wanted = [*(f"step {number}" for number in range(OPENED_AT, STEPS)), "step last", "step last"]
    assert [line for line in log if line.startswith("step")] == wanted
    assert all(line.startswith(("step", "otel_hwmetrics")) for line in log), log


def it_is_told_all_the_same(outcome: Outcome) -> None:
    """Metrics and alerts leave by OpenTelemetry."""
    the_host_goes_on(outcome)
    assert [line for line in outcome.lines if line.get("record") == "hwmetrics.alert"]
    assert {"failed"} == {
        attributes["hw.state"]
        for attributes, value in outcome.last["hw.status"]
        if value and attributes["hw.name"] == "GPU 0"
    }


def what_nobody_took_is_counted(outcome: Outcome) -> None:
    """Lines of the log, of which one was about the GPU."""
    it_is_told_all_the_same(outcome)
    assert [value for _, value in outcome.last["hwmetrics.internal.lines.dropped"] if value >= 1]


def _case(name: str, fault: Callable[[Job], Any], check: Callable[[Outcome], None], **more: Any) -> Case:
    return Case(name=name, fault=f"faults.system:{fault.__name__}", check=check, **more)


CASES = (
    _case(
        "no_descriptors",
        no_descriptors,
        what_is_open_is_read,
        happens="For a while the process may open no file more (EMFILE), and a child is born.",
        missing="The child, until files can be opened again.",
        said="Nothing.",
        added=4.0,
    ),
    _case(
        "no_space",
        no_space,
        the_alert_is_told_all_the_same,
        happens="A GPU is lost, and the disk is full (ENOSPC).",
        missing="The flight recording.",
        said="One line; `hwmetrics.internal.errors`.",
        argument="full",
        added=4.0,
        felt=False,
    ),
    _case(
        "no_folder",
        no_space,
        the_alert_is_told_all_the_same,
        happens="A GPU is lost, and where the folder for recordings was there is a file of somebody's.",
        missing="The flight recording.",
        said="One line; `hwmetrics.internal.errors`.",
        argument="gone",
        added=4.0,
        felt=False,
    ),
    _case(
        "no_permission",
        no_permission,
        what_is_permitted_is_told,
        happens="The process may not look into itself (EPERM), as after `setuid`.",
        missing="What it has read and written.",
        said="Nothing.",
        added=4.0,  # it is instrumented twice
    ),
    _case(
        "no_threads",
        no_threads,
        nothing_is_measured,
        happens="No thread can be started: a limit of the user or of the container.",
        missing="Everything but what tells of ourselves.",
        said="`hwmetrics.thread.up` of the sampler is 0; a line for each thread, and one more where it stays off.",
        added=4.0,
    ),
    _case(
        "little_memory",
        little_memory,
        nothing_is_odd,
        happens="The process may have no more than 24 MiB besides what it has.",
        missing="Nothing.",
        said="Nothing.",
        added=4.0,
    ),
    _case(
        "odd_names",
        odd_names,
        every_name_is_text,
        happens="The process, its child, its folder, its data set and its environment have names that are not UTF-8.",
        missing="Nothing; every name is told as a text that can be encoded.",
        said="Nothing.",
        added=4.0,
    ),
    _case(
        "output_closed",
        deaf,
        what_is_printed_later_is_there,
        happens="The job's output is closed, later the job opens a log file in its place, and a GPU is lost.",
        missing="Lines of the log until then; of the job's own lines none.",
        said="The alert, by OpenTelemetry.",
        argument="closed",
        added=4.0,
    ),
    _case(
        "output_full",
        deaf,
        what_nobody_took_is_counted,
        happens="The job's output is a pipe that is full and that nobody reads, and a GPU is lost.",
        missing="Lines of the log.",
        said="The alert, by OpenTelemetry; `hwmetrics.internal.lines.dropped`.",
        argument="full",
        added=4.0,
    ),
)
