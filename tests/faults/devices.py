# SPDX-License-Identifier: Apache-2.0
"""Drivers that go and come back, GPUs that appear and vanish, and libraries that are absent, wrong, old or not NVIDIA's."""

from __future__ import annotations

import ctypes
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from faults.case import Case, Outcome
from faults.gpus import (
    QUIET,
    SCRIPTED,
    WALKED,
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
    shown,
    the_host_goes_on,
    warned,
)
from faults.training import Job
from otel_hwmetrics.testing import FakeMig, FakeNvml

NEWER: Final = (
    *("nvmlDeviceGetFieldValues", "nvmlDeviceGetMarginTemperature", "nvmlDeviceGetMemoryInfo_v2"),
    *("nvmlDeviceGetSamples", "nvmlDeviceGetTemperatureV", "nvmlGpmQueryDeviceSupport"),
)
"""Functions that drivers of some years ago have not."""


@contextmanager
def reloaded(job: Job) -> Iterator[None]:
    """The driver is unloaded for a while, as by an upgrade, and comes back in another version, with one GPU more."""
    in_no_time()
    nvml = installed(FakeNvml(gpus()))

    def operate() -> None:
        settle(job, QUIET)
        nvml.reload_driver(job.argument)
        look(job)
        look(job)
        export(job, "away")
        nvml.driver_back(gpus(3), driver_version="590.44.01")
        looked(job, lambda: len(shown(job, "hw.energy")) == 3, 10.0)
        export(job, "back")

    with operated(job, operate):
        yield


def the_driver_was_away(outcome: Outcome) -> None:
    """Meanwhile the GPUs were failed and told nothing else; then all three were there; no counter fell."""
    the_host_goes_on(outcome)
    away, back = _after(outcome, QUIET, "away"), _after(outcome, "away", "back")
    assert {point[0] for point in away if point[0].startswith("hw.")} <= {"hw.status", "hw.errors"}
    assert sum(point[2] for point in away if point[1].get("hw.state") == "failed") == 2
    energies = {point[1]["hwmetrics.gpu.index"]: point[2] for point in back if point[0] == "hw.energy"}
    assert energies.keys() == {0, 1, 2}
    assert {point[1]["hw.driver_version"] for point in back if point[0] == "hw.gpu.utilization"} == {"590.44.01"}
    before = _after(outcome, "", QUIET)
    assert {point[1]["hwmetrics.gpu.index"] for point in before if point[0] == "hw.energy"} == {0, 1}
    last: dict[str, float] = {}
    for attributes, value in outcome.points["hw.energy"]:
        assert value >= last.get(str(attributes), 0.0), attributes
        last[str(attributes)] = value
    assert outcome.words.count("does not answer any more") == 2
    assert outcome.words.count("answers again") == 2


def _after(outcome: Outcome, mark: str, until: str) -> list[Any]:
    """The points of the last export between two marks."""
    found: list[Any] = []
    seen = not mark
    for line in outcome.lines:
        if line.get("mark") == until:
            break
        seen = seen or line.get("mark") == mark
        if seen and line.get("points"):
            found = line["points"]
    assert found, outcome.words
    return found


@contextmanager
def unplugged(job: Job) -> Iterator[None]:
    """One of two GPUs vanishes, and does not come back."""
    in_no_time()
    nvml = installed(FakeNvml(gpus()))

    def operate() -> None:
        settle(job, QUIET)
        nvml.lose(1)
        look(job)
        look(job)
        export(job, "gone")

    with operated(job, operate):
        yield


def one_is_gone(outcome: Outcome) -> None:
    """It is failed, and nothing else is told of it; the other one goes on."""
    nothing_wrong(outcome)
    gone = _after(outcome, QUIET, "gone")
    of_it = [point for point in gone if point[1].get("hwmetrics.gpu.index") == 1]
    assert {point[0] for point in of_it if point[0].startswith(("hw.", "hwmetrics.gpu."))} == {"hw.status"}
    assert [point[1]["hw.state"] for point in of_it if point[0] == "hw.status" and point[2]] == ["failed"]
    assert "hw.gpu.utilization" in {point[0] for point in gone if point[1].get("hwmetrics.gpu.index") == 0}
    assert outcome.words.count("GPU 1 does not answer any more") == 1
    assert "GPU 0 does not answer" not in outcome.words


@contextmanager
def divided_anew(job: Job) -> Iterator[None]:
    """The instances of a GPU in MIG mode are taken away, and others made."""
    in_no_time()
    job.options["gpus"] = "all"

    def divided(*uuids: str) -> list[Any]:
        parts = [FakeMig(profile="1g.10gb", uuid=uuid, memory_used=5e9) for uuid in uuids]
        return [replace(gpus(1)[0], mig=parts, processes=[])]

    nvml = installed(FakeNvml(divided("MIG-one", "MIG-two")))

    def operate() -> None:
        settle(job, QUIET, count=0)
        nvml.driver_back(divided("MIG-three"))
        looked(job, lambda: "MIG-three" in shown(job, "hw.gpu.memory.usage"), 10.0)
        look(job)
        export(job, "divided")

    with operated(job, operate):
        yield


def the_new_instances_are_told(outcome: Outcome) -> None:
    """Those that were taken away are told of no more, and that is said once of each."""
    the_host_goes_on(outcome)
    before, after = _after(outcome, "", QUIET), _after(outcome, QUIET, "divided")
    used = [
        {point[1]["hw.id"] for point in points if point[0] == "hw.gpu.memory.usage" and "hw.parent" in point[1]}
        for points in (before, after)
    ]
    assert used == [{"MIG-one", "MIG-two"}, {"MIG-three"}]
    assert outcome.words.count("GPU 0 MIG 1/0 does not answer any more") == 1
    assert outcome.words.count("GPU 0 MIG 2/0 does not answer any more") == 1


@contextmanager
def library(job: Job) -> Iterator[None]:
    """What `libnvidia-ml.so.1` leads to: nothing, no library at all, another one, or an old one."""
    import pynvml

    with ExitStack() as stack:
        if job.argument == "older":
            nvml = FakeNvml(gpus())
            for name in NEWER:
                nvml.missing(name)
            installed(nvml)
        elif job.argument == "text":
            path = Path(stack.enter_context(tempfile.TemporaryDirectory()), "libnvidia-ml.so.1")
            path.write_text("This is no library.")
            stack.enter_context(patch.object(pynvml, "CDLL", lambda _: ctypes.CDLL(str(path))))
        elif job.argument == "other":
            stack.enter_context(patch.object(pynvml, "CDLL", lambda _: ctypes.CDLL(None)))
        stack.enter_context(operated(job, lambda: settle(job, count=0)))
        yield


def no_driver(outcome: Outcome) -> None:
    """It is said once, with its mend, and is no fault."""
    the_host_goes_on(outcome)
    assert outcome.words.count("No readings from nvidia") == 1
    assert "libnvidia-ml" in outcome.words or "NVML does not start" in outcome.words
    assert not warned(outcome)
    assert not of_nvidia(outcome, "hwmetrics.source.up")


def what_it_has(outcome: Outcome) -> None:
    """Older calls stand in; what only newer ones tell is absent, and not lost.

    Power is energy over time: an export that follows close upon another has none (`otel_hwmetrics.windows.SHORTEST`).
    """
    the_host_goes_on(outcome)
    assert {"hw.gpu.utilization", "hw.gpu.memory.usage", "hw.temperature", "hw.energy"} <= outcome.last.keys()
    assert "hw.power" in outcome.points
    assert "hwmetrics.gpu.sm.activity" not in outcome.points
    assert not lost(outcome)
    assert not warned(outcome)


@contextmanager
def rogue(job: Job) -> Iterator[None]:
    """A package that is not NVIDIA's has the name `pynvml`."""
    del job
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "pynvml.py").write_text("def nvmlInit():\n    raise SystemExit(3)\n")
        sys.path.insert(0, folder)
        yield


def it_was_told_apart(outcome: Outcome) -> None:
    """It is said whose it is not, and how to mend that; nothing of it is called."""
    the_host_goes_on(outcome)
    assert outcome.words.count("is not NVIDIA's") == 1
    assert "pip uninstall pynvml; pip install --force-reinstall nvidia-ml-py" in outcome.words
    assert not of_nvidia(outcome, "hwmetrics.source.up")


CASES = (
    *(
        Case(
            name=f"reloaded_{name}",
            happens=f"The driver is reloaded: for a while NVML answers {words}. It comes back with one GPU more.",
            missing="Everything of the GPUs but their status, while it is away. No counter falls; those of a driver of another "
            "version begin anew.",
            said="`hw.status` is `failed`; a line for each GPU, and another when it answers again.",
            fault="faults.devices:reloaded",
            argument=code,
            options=WALKED,
            added=SCRIPTED,
            felt=False,
            check=the_driver_was_away,
        )
        for name, code, words in (
            ("not_loaded", "NVML_ERROR_DRIVER_NOT_LOADED", "that it is not loaded"),
            ("mismatch", "NVML_ERROR_LIB_RM_VERSION_MISMATCH", "that its versions do not match"),
        )
    ),
    Case(
        name="unplugged",
        happens="A GPU falls off the bus, and stays away.",
        missing="Everything of that GPU but its status.",
        said="`hw.status` is `failed`; one line.",
        fault="faults.devices:unplugged",
        options=WALKED,
        added=SCRIPTED,
        felt=False,
        check=one_is_gone,
    ),
    Case(
        name="divided_anew",
        happens="The GPU is reset, its MIG instances are taken away, and others made.",
        missing="What was told of those that are gone.",
        said="A line for each of those; the new ones are told.",
        fault="faults.devices:divided_anew",
        options=WALKED,
        added=SCRIPTED,
        felt=False,
        check=the_new_instances_are_told,
    ),
    *(
        Case(
            name=f"library_{name}",
            happens=f"The driver's library {words}.",
            missing="GPUs.",
            said="One line at INFO: what is the case, and what mends it.",
            fault="faults.devices:library",
            argument=name,
            added=SCRIPTED,
            felt=False,
            check=no_driver,
        )
        for name, words in (
            ("absent", "is not installed"),
            ("text", "is a file that is no library"),
            ("other", "is some other library"),
        )
    ),
    Case(
        name="library_older",
        happens="The driver is years old, and lacks the newer functions of its library.",
        missing="What only those tell.",
        said="Nothing: older functions stand in.",
        fault="faults.devices:library",
        argument="older",
        added=SCRIPTED,
        felt=False,
        check=what_it_has,
    ),
    Case(
        name="rogue_pynvml",
        happens="The package `pynvml` is installed, which takes the name of NVIDIA's own module.",
        missing="GPUs.",
        said="One line at INFO: whose it is not, and the two commands that mend it.",
        fault="faults.devices:rogue",
        added=SCRIPTED,
        felt=False,
        check=it_was_told_apart,
    ),
)
