# SPDX-License-Identifier: Apache-2.0
"""Scripted GPUs for the faults of a driver: what they truly do, every call that is made of it, and who works on them.

The truth stands still but for what is counted, so whatever else is told of it later is wrong.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any, Final, TypeVar

import otel_hwmetrics
from faults.case import Outcome
from faults.training import Job
from otel_hwmetrics.catalog import METRICS
from otel_hwmetrics.model import Kind, Rate, Ratio
from otel_hwmetrics.testing import FakeGpu, FakeNvml, FakeProcess

if TYPE_CHECKING:
    from otel_hwmetrics.testing.symbols import Symbol

PATIENCE: Final = 60.0
"""Seconds for which something is waited for that takes few of them but on a machine that is very busy."""

QUIET: Final = "the quiet is over"
"""Marks the first fault: what was told until then is the truth."""
WALKED: Final = {"sources": ("system", "nvidia")}
"""Options of a job in which the machine is looked at for the sake of its GPUs alone."""

SCRIPTED: Final = 4.0
"""Seconds that may be added by us, by all the looks and exports that a case asks for, and by the scripted driver, which the job
without us has not to load."""

LOOKED: Final = (
    *("nvmlDeviceGetBAR1MemoryInfo", "nvmlDeviceGetClockInfo", "nvmlDeviceGetComputeRunningProcesses_v3"),
    *("nvmlDeviceGetCurrPcieLinkGeneration", "nvmlDeviceGetCurrPcieLinkWidth", "nvmlDeviceGetDecoderUtilization"),
    *("nvmlDeviceGetEncoderUtilization", "nvmlDeviceGetEnforcedPowerLimit", "nvmlDeviceGetFanSpeedRPM"),
    *("nvmlDeviceGetFanSpeed_v2", "nvmlDeviceGetFieldValues", "nvmlDeviceGetMarginTemperature"),
    *("nvmlDeviceGetMaxClockInfo", "nvmlDeviceGetMaxPcieLinkGeneration", "nvmlDeviceGetMaxPcieLinkWidth"),
    *("nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetNumFans", "nvmlDeviceGetPerformanceState"),
    *("nvmlDeviceGetProcessUtilization", "nvmlDeviceGetSamples", "nvmlDeviceGetTemperatureThreshold"),
    *("nvmlDeviceGetTemperatureV", "nvmlDeviceGetUtilizationRates", "nvmlGpmMetricsGet", "nvmlGpmQueryDeviceSupport"),
    *("nvmlGpmSampleAlloc", "nvmlGpmSampleGet"),
)
"""What a look calls."""
MET: Final = (
    *("nvmlDeviceGetCount_v2", "nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetHandleByUUID", "nvmlDeviceGetMigMode"),
    *("nvmlDeviceGetName", "nvmlDeviceGetUUID", "nvmlErrorString", "nvmlGpmSampleFree", "nvmlInitWithFlags"),
    *("nvmlShutdown", "nvmlSystemGetDriverVersion"),
)
"""What is called to meet the GPUs, or to have them back."""
HEARD: Final = (
    *("nvmlDeviceGetSupportedEventTypes", "nvmlDeviceRegisterEvents", "nvmlEventSetCreate", "nvmlEventSetFree"),
    *("nvmlEventSetWait_v2",),
)
"""What is called to hear of XIDs, on a thread of its own."""
CALLS: Final = (*LOOKED, *MET, *HEARD)

ROWS: Final = {metric.name: metric for metric in METRICS}
LATEST: Final = ("hwmetrics.gpu.nvlink.io.rate", "hwmetrics.gpu.sm.activity", "hw.gpu.utilization", "hw.power")
"""Metrics that are told last: some take two looks, or samples that the driver itself has to take first."""
CHANGING: Final = {"hw.status", "hw.errors"}
"""Metrics that are there to change with a fault."""
BELOW_ZERO: Final = {"hw.temperature", "hw.temperature.limit", "hwmetrics.gpu.temperature.margin"}
"""Metrics that may be below 0: all ones are -1 there, and nobody can tell that from the truth, nor their mean."""


_monotonic = time.monotonic  # the true one, in jobs whose clock is odd
N = TypeVar("N", bound=FakeNvml)


def gpus(count: int = 2) -> list[FakeGpu]:
    """Some that have a reading for everything, one of this very process, too."""
    busy = FakeGpu(
        utilization=0.87,
        memory_controller_utilization=0.41,
        encoder_utilization=0.05,
        decoder_utilization=0.07,
        memory_used=60e9,
        bar1_used=4e9,
        temperature=66.0,
        memory_temperature=71.0,
        power=612.0,
        energy_offset=1_234_567.0,
        sm_activity=0.8,
        sm_occupancy=0.4,
        tensor_activity=0.6,
        dram_activity=0.5,
        fp64_activity=0.01,
        fp32_activity=0.02,
        fp16_activity=0.03,
        throttled_sw_power_cap=0.25,
        pcie_rx=1e9,
        pcie_tx=2e9,
        nvlink_rx=3e9,
        nvlink_tx=4e9,
        fans=1,
        fan_speed=0.5,
        processes=[FakeProcess(pid=os.getpid(), memory=50e9, sm_utilization=0.8)],
    )
    return [busy] * count


def in_no_time() -> None:
    """Have every look ask for everything, and try at every look to have back what is lost: a job has no hour for this."""
    from otel_hwmetrics.sources.gpu.nvidia import board, events, fields, readers, source

    changed: list[tuple[Any, dict[str, object]]] = [
        (board, {"READERS": tuple(map(_eager, readers.READERS)), "GPM_EVERY": 0.0}),
        (source, dict.fromkeys(("FIRST_PAUSE", "LONGEST_PAUSE", "RELEASE_TIMEOUT"), 0.01)),
        (fields, {"COUNT_AGAIN_AFTER": 0.0}),
        (events, dict.fromkeys(("FIRST_PAUSE", "LONGEST_PAUSE"), 0.01)),
    ]
    for module, values in changed:
        for name, value in values.items():
            setattr(module, name, value)


def _eager(reader: Any) -> Any:
    return replace(reader, every=0.0, instead=_eager(reader.instead) if reader.instead is not None else None)


class Fickle(FakeNvml):
    """A driver that answers a call now and then with the next thing on a menu, until every function has served all of it.

    Args:
        gpus: As for `FakeNvml`.
        menu: Error codes; None for all ones in every number that is written, and the code of a success.
        functions: Who serves it.
    """

    def __init__(self, gpus: Sequence[FakeGpu], menu: Collection[int | None], functions: Collection[str]) -> None:
        super().__init__(gpus)
        self.serving = False
        self.left = {name: deque(menu) for name in functions}
        self.most = len(menu)
        self._chance = Random(5)  # noqa: S311 - to be the same each time

    def _serve(self, name: str, *, garbage: bool) -> deque[int | None] | None:
        """What is left of the menu of a function that serves now: more often, the more is left."""
        left = self.left.get(name)
        if not self.serving or not left or (left[0] is None) is not garbage:
            return None
        return left if self._chance.random() < 0.7 * (len(left) / self.most) ** 2 else None

    def _refusal(self, symbol: Symbol, gpu: int | None) -> int:
        served = self._serve(symbol.name, garbage=False)
        return super()._refusal(symbol, gpu) if served is None else served.popleft() or 0

    def _garbles(self, symbol: Symbol, gpu: int | None) -> bool:
        served = self._serve(symbol.name, garbage=True)
        if served is not None:
            served.popleft()
        return served is not None or super()._garbles(symbol, gpu)


def installed(nvml: N) -> N:
    """Put it under the binding for the rest of the job's life: to take it away again would be one more fault."""
    nvml.install()
    return nvml


def look(job: Job) -> None:
    """Have the machine looked at now."""
    if job.handle is not None and job.handle._pipeline is not None:
        job.handle._pipeline.sampler.fresh(PATIENCE)


def export(job: Job, mark: str = "") -> None:
    """Have everything exported now, and say in what is told how far the fault has come."""
    job.providers[0].force_flush()
    if mark:
        job.told.line(mark=mark)


def settle(job: Job, mark: str = "", *, count: int = 2, looks: bool = True) -> None:
    """Look until everything is told of so many GPUs, and export it: rates are of the time between two looks and exports."""
    if not looks:
        time.sleep(0.5)
        return export(job, mark)
    looked(job, lambda: all(len(shown(job, name)) >= count for name in LATEST))
    for _ in range(4):
        time.sleep(0.12)
        look(job)
        export(job)
    return export(job, mark)


def shown(job: Job, metric: str, attribute: str = "hw.id") -> set[Any]:
    """Of whom the newest snapshot has a metric, or in which states they are."""
    snapshot = job.handle.snapshot() if job.handle is not None else None
    return {
        reading.attributes[attribute] for reading in snapshot or () if reading.metric.name == metric and reading.value
    }


def well(job: Job) -> bool:
    """Whether every GPU that is known answers."""
    return shown(job, "hw.status", "hw.state") == {"ok"}


def told_of(job: Job) -> None:
    """Wait until an alert was told of, with what is written for it."""
    heard = threading.Event()
    otel_hwmetrics.on_alert(lambda _: heard.set())
    looked(job, heard.is_set, 20.0)
    time.sleep(0.3)
    settle(job, count=0)


def waited(until: Callable[[], object], patience: float = PATIENCE) -> bool:
    """Wait for something; False when it did not come."""
    end = time.monotonic() + patience
    while not until():
        if time.monotonic() > end:
            return False
        time.sleep(0.03)
    return True


def looked(job: Job, until: Callable[[], object], patience: float = PATIENCE) -> bool:
    """Look until something is the case; False when it never was."""

    def now() -> object:
        look(job)
        return until()

    return waited(now, patience)


@contextmanager
def operated(job: Job, operate: Callable[[], object]) -> Iterator[None]:
    """Do something to the driver on a thread of its own, from the first step of a training with us on.

    It may take longer than the training does; that time is not ours.
    """
    thread = threading.Thread(target=operate, name="operator", daemon=True)
    if job.instrumented:
        job.on_step.append(lambda number: thread.start() if number == 0 else None)
    yield
    if job.instrumented:
        began = _monotonic()
        thread.join(PATIENCE)
        job.told.line(waited=_monotonic() - began)


Key = tuple[str, tuple[tuple[str, Any], ...]]


def _gpu_points(line: dict[str, Any]) -> dict[Key, float]:
    """What an export told of GPUs."""
    return {
        (name, tuple(sorted(attributes.items()))): value
        for name, attributes, value in line.get("points") or ()
        if name.startswith(("hw.", "hwmetrics.gpu.")) and name not in CHANGING
    }


def truth(outcome: Outcome) -> dict[Key, float]:
    """What was told before the first mark."""
    found: dict[Key, float] = {}
    for line in outcome.lines:
        if "mark" in line:
            break
        found |= _gpu_points(line)
    assert len({name for name, _ in found}) > 20, outcome.words
    return found


def nothing_wrong(outcome: Outcome) -> None:
    """Whatever was told of GPUs was true: no zero, no sentinel, no counter that fell; and the host went on being told."""
    true, last = truth(outcome), dict[Key, float]()
    wrong: list[tuple[Key, float, float | None]] = []
    for line in outcome.lines:
        for key, value in _gpu_points(line).items():
            if ROWS[key[0]].kind is Kind.COUNTER:
                if value < last.get(key, 0.0):
                    wrong.append((key, value, last.get(key)))
            elif not _is(key[0], value, true.get(key)):
                wrong.append((key, value, true.get(key)))
            last[key] = value
    assert not wrong, wrong[:5]
    the_host_goes_on(outcome)


def _is(name: str, value: float, true: float | None) -> bool:
    if true is None or name in BELOW_ZERO:
        return true is not None and -1 <= value <= true
    if isinstance(ROWS[name].derivation, Rate | Ratio):
        # A counter that began again, and again, may have got further by the second time: some growth is missed then. And
        # looks here are a tenth of a second apart, of which a busy machine takes a part between a call and its time.
        return 0 <= value <= 3 * true
    return abs(value - true) <= 0.05 * abs(true) + 0.01


def everything_is_back(outcome: Outcome) -> None:
    """All that was told before the first mark is told again after the last: not by each export, for one may be too short."""
    last: dict[Key, float] = {}
    for line in outcome.lines:
        last = {} if "mark" in line else last | _gpu_points(line)
    assert last.keys() >= truth(outcome).keys(), truth(outcome).keys() - last.keys()


def the_host_goes_on(outcome: Outcome) -> None:
    """Every export from the first sample on has the host's CPU time, and nothing unforeseen happened to us."""
    told = ["system.cpu.time" in {point[0] for point in line["points"]} for line in _full(outcome)]
    assert any(told), outcome.words
    assert all(told[told.index(True) :])
    assert "hwmetrics.internal.errors" not in outcome.points, outcome.points["hwmetrics.internal.errors"]
    # The SDK's own traces are there where a collection took it longer than the time between two.
    assert "otel_hwmetrics failed" not in outcome.words, outcome.words


def _full(outcome: Outcome) -> list[dict[str, Any]]:
    full = [line for line in outcome.lines if line.get("points")]
    assert full, outcome.words
    return full


def warned(outcome: Outcome) -> list[str]:
    """The lines that we have logged at WARNING."""
    return [line for line in outcome.words.splitlines() if line.startswith("otel_hwmetrics") and " WARNING " in line]


def of_nvidia(outcome: Outcome, metric: str) -> list[float]:
    """What was told of the source, from export to export."""
    return [value for attributes, value in outcome.points.get(metric, ()) if attributes["hwmetrics.source"] == "nvidia"]


def lost(outcome: Outcome) -> dict[str, float]:
    """How many readings were lost by the source, by the type of the error."""
    return {
        attributes["error.type"]: value
        for attributes, value in outcome.points.get("hwmetrics.source.readings.lost", ())
        if attributes["hwmetrics.source"] == "nvidia"
    }
