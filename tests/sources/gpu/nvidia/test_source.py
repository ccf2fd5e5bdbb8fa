# SPDX-License-Identifier: Apache-2.0
"""NVIDIA GPUs through the real binding over a scripted NVML: the way in, the way out, and having a GPU back."""

from __future__ import annotations

import dataclasses
import logging
import sys
import threading
import time
import types
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pynvml
import pytest

from otel_hwmetrics import _guard
from otel_hwmetrics.catalog import gpu as rows
from otel_hwmetrics.catalog import gpu_activity as activity
from otel_hwmetrics.catalog import gpu_health as health
from otel_hwmetrics.model import Reading
from otel_hwmetrics.sources.base import Batch, SourceUnavailable
from otel_hwmetrics.sources.gpu.nvidia import NvidiaSource
from otel_hwmetrics.sources.gpu.nvidia.events import NOT_HERE, EventWatch
from otel_hwmetrics.sources.gpu.nvidia.source import DEAF_FOR, MOST_LINES
from otel_hwmetrics.testing import FakeGpu, FakeMig, FakeNvml, ManualClock
from otel_hwmetrics.windows import Accumulator, between
from sources.gpu.nvidia import machines
from sources.gpu.nvidia.machines import BUSY, metrics, values


@contextmanager
def opened(nvml: FakeNvml, *, gpus: str = "all", devices: str | None = None) -> Iterator[NvidiaSource]:
    """The source over a scripted NVML; with ``devices`` as CUDA_VISIBLE_DEVICES."""
    environ = {} if devices is None else {"CUDA_VISIBLE_DEVICES": devices}
    with nvml:
        source = NvidiaSource(gpus, environ)
        source.open()
        try:
            yield source
        finally:
            source.close()


def indices(batch: Batch) -> list[object]:
    """The GPUs that a look told of, in order."""
    return list(dict.fromkeys(reading.attributes["hwmetrics.gpu.index"] for reading in batch.readings))


def test_attributes_tell_which_gpu_it_is() -> None:
    """Every reading has the GPU's UUID, its index, CUDA's ordinal and its maker; a sensor its own id and its GPU's."""
    other = FakeGpu(name="NVIDIA H100 80GB HBM3", fans=1)
    with machines.opened(BUSY, other, visible="visible", environ={"CUDA_VISIBLE_DEVICES": "1,0"}) as machine:
        batches = machine.looks(4)
        uuids = [gpu.uuid for gpu in machine.nvml.gpus]
    for reading in (reading for batch in batches for reading in batch.readings):
        index = reading.attributes["hwmetrics.gpu.index"]
        assert isinstance(index, int)
        assert set(reading.attributes) <= set(reading.metric.attributes)
        assert reading.attributes["hwmetrics.cuda.ordinal"] == 1 - index
        assert reading.attributes["hw.vendor"] == "NVIDIA"
        assert reading.attributes["hw.driver_version"] == "580.95.05"
        if "hw.sensor_location" in reading.attributes:
            assert reading.attributes["hw.parent"] == uuids[index]
            assert str(reading.attributes["hw.id"]).startswith(f"{uuids[index]}/")
        else:
            assert (reading.attributes["hw.id"], reading.attributes["hw.name"]) == (uuids[index], f"GPU {index}")
            assert reading.attributes["hw.type"] == "gpu"


def test_a_driver_that_does_not_tell_its_version() -> None:
    """Without a driver version the GPUs are there all the same, and that attribute is absent."""
    nvml = FakeNvml([BUSY])
    nvml.fail("nvmlSystemGetDriverVersion", pynvml.NVML_ERROR_UNKNOWN)
    with opened(nvml) as source:
        batch = source.read()
    assert rows.ENERGY in metrics(batch)
    assert not [reading for reading in batch.readings if "hw.driver_version" in reading.attributes]


def test_series_are_the_same_objects_at_every_look() -> None:
    """A reading costs a tuple: its series is made when the GPU is met, and once."""
    with machines.opened(BUSY) as machine:
        machine.looks(4)
        first, second = ({id(reading.series) for reading in batch.readings} for batch in machine.looks(2))
    assert first == second


# Cost.


def test_at_most_six_calls_a_gpu_and_second_with_every_metric_on() -> None:
    """Averaged over a minute; and no count, handle, name or UUID after the start."""
    with machines.opened(*[BUSY] * 4) as machine:
        machine.looks(5)
        machine.nvml.reset_calls()
        machine.looks(60)
        for index in range(4):
            assert machine.nvml.calls_about(index) <= 6 * 60
        calls = {
            (call, index) for call, index in machine.nvml.calls if call != "nvmlEventSetWait_v2"
        }  # another thread's
        assert not {call for call, _ in calls} & ONCE
        assert {index for _, index in calls} == set(range(4))


ONCE = {
    "nvmlInitWithFlags",
    "nvmlSystemGetDriverVersion",
    "nvmlDeviceGetCount_v2",
    "nvmlDeviceGetHandleByIndex_v2",
    "nvmlDeviceGetHandleByUUID",
    "nvmlDeviceGetUUID",
    "nvmlDeviceGetName",
    "nvmlDeviceGetMigMode",
    "nvmlGpmQueryDeviceSupport",
    "nvmlGpmSampleAlloc",
    "nvmlDeviceGetNumFans",
}
"""What does not change while a GPU is there."""

NEVER = {
    "nvmlDeviceGetPcieThroughput": "it blocks for 20 ms a direction",
    "nvmlDeviceGetViolationStatus": "fields tell it",
    "nvmlDeviceGetTemperature": "nvmlDeviceGetTemperatureV is its successor",
    "nvmlDeviceGetCurrentClocksThrottleReasons": "an instant says nothing of a second",
    "nvmlDeviceGetNvLinkUtilizationCounter": "fields tell it",
    "nvmlDeviceGetHandleBySerial": "deprecated",
    "nvmlDeviceGetApplicationsClock": "deprecated",
    "nvmlDeviceGetPowerState": "nvmlDeviceGetPerformanceState is its successor",
}
"""What is not called where its successor is there, or at all."""


def test_what_blocks_or_is_deprecated_is_never_called() -> None:
    """On a board and driver of today."""
    with machines.opened(BUSY) as machine:
        machine.looks(10)
        machine.look(machines.AGES)
        assert not {call for call, _ in machine.nvml.calls} & set(NEVER)


def test_costly_calls_of_many_gpus_do_not_fall_into_one_look() -> None:
    """After the first look the slow calls of eight GPUs are spread over their period."""
    with machines.opened(*[BUSY] * 8) as machine:
        machine.look()
        most = 0
        for _ in range(60):
            machine.nvml.reset_calls()
            machine.look(1)
            most = max(
                most, sum(machine.nvml.calls["nvmlDeviceGetComputeRunningProcesses_v3", gpu] for gpu in range(8))
            )
        assert 1 <= most <= 2


# Energy.


def test_power_is_the_growth_of_energy() -> None:
    """What was drawn between two looks is in it, however short it was."""
    burst = dataclasses.replace(BUSY, power=[(0, 100.0), (1, 100.0), (1, 700.0), (2, 700.0), (2, 100.0)])
    accumulator = Accumulator()
    with machines.opened(burst) as machine:
        first = accumulator.sample(machine.look().readings, 50, 0)
        second = accumulator.sample(machine.look(4).readings, 54, 0)
        assert machine.nvml.calls["nvmlDeviceGetPowerUsage", 0] == 0
    (power,) = between(first, second).of(rows.POWER)
    assert power.value == pytest.approx((3 * 100 + 700) / 4, rel=1e-6)
    assert power.attributes[rows.ENERGY_METHOD] == "counter"


def test_a_board_that_counts_no_energy_has_its_power_added_up() -> None:
    """Before Volta there is no counter: power is integrated over time, and says so."""
    old = dataclasses.replace(BUSY, power=[(0, 100.0), (1, 100.0), (2, 300.0)], energy_counter=False)
    accumulator = Accumulator()
    with machines.opened(old) as machine:
        samples = [
            accumulator.sample(batch.readings, 50 + second, 0)
            for second, batch in enumerate([machine.look(), *machine.looks(2)])
        ]
        assert machine.nvml.calls["nvmlDeviceGetTotalEnergyConsumption", 0] == 1
    snapshot = between(samples[0], samples[2])
    (power,), (energy,) = snapshot.of(rows.POWER), snapshot.of(rows.ENERGY)
    assert energy.value == pytest.approx(100 + 200)
    assert power.value == pytest.approx(150)
    assert power.attributes[rows.ENERGY_METHOD] == energy.attributes[rows.ENERGY_METHOD] == "integrated"


@pytest.mark.parametrize("module", [900.0, None])
def test_a_module_s_power_is_no_gpu_s(module: float | None) -> None:
    """On Grace Hopper the CPU on the module is in it, so it has a scope of its own; elsewhere it is absent."""
    with machines.opened(dataclasses.replace(BUSY, module_power=module)) as machine:
        found = values(machine.look())
    assert found[rows.POWER_INSTANT, "gpu"] == pytest.approx(612.345)
    assert found.get((rows.POWER_INSTANT, "module")) == module


# Having it back.


def test_a_lost_gpu_is_failed_and_comes_back_by_itself() -> None:
    """Its status says failed, it has no other reading, the others go on; it is read again when it answers again."""
    with machines.opened(BUSY, BUSY) as machine:
        machine.looks(3)
        whole = metrics(machine.look(1), 1)
        machine.nvml.lose(1)
        for batch in machine.looks(40):
            assert metrics(batch, 1) == {health.STATUS}
            assert values(batch, 1)[health.STATUS, "failed"] == 1
            assert values(batch, 0)[health.STATUS, "ok"] == 1
        machine.nvml.restore(1)
        machine.looks(31)
        batch = machine.look(machines.AGES)
        assert metrics(batch, 1) == whole
        assert values(batch, 1)[health.STATUS, "ok"] == 1


def test_while_a_call_hangs_xids_still_leave() -> None:
    """What the driver told of by itself matters most when it has stopped to answer."""
    with machines.opened(BUSY) as machine:
        wait_until_listening(machine)
        machine.nvml.xid(79)
        heard(machine, 1)
        told = list(machine.source.aside(hangs=True))
    assert [r.value for r in told if r.attributes.get(health.XID) == 79] == [1]


def test_a_gpu_that_answers_its_name_alone_is_asked_for_with_growing_pauses(caplog: pytest.LogCaptureFixture) -> None:
    """It is found again and again, and falls silent again and again: that is one outage, and is said once."""
    with machines.opened(BUSY, BUSY) as machine:
        machine.looks(3)
        for call in machines.LOOK_CALLS:
            machine.nvml.fail(call, "NVML_ERROR_UNKNOWN", gpu=1)
        machine.looks(120)
        assert len([record for record in caplog.records if "does not answer" in record.getMessage()]) == 1
        machine.nvml.reset_calls()
        machine.looks(60)
        assert machine.nvml.calls_about(1) < 200


def test_a_gpu_that_answers_nothing_is_failed_whatever_it_says() -> None:
    """Also where it is not known to be lost."""
    with machines.opened(BUSY) as machine:
        machine.looks(3)
        machine.nvml.fail("*", "NVML_ERROR_TIMEOUT")
        assert values(machine.look(1)) == FAILED
        machine.nvml.recover()
        assert values(machine.look(1))[health.STATUS, "ok"] == 1


def test_a_gpu_that_was_lost_at_the_start_is_met_when_it_is_back() -> None:
    """It is tried again for as long as the job runs."""
    nvml = FakeNvml([BUSY, dataclasses.replace(BUSY, uuid="GPU-b")], clock=(clock := ManualClock()))
    nvml.fail("nvmlDeviceGetHandleByIndex_v2", "NVML_ERROR_GPU_IS_LOST", gpu=1, until=100)
    with nvml:
        source = NvidiaSource("all", {}, clock.monotonic)
        source.open()
        for _ in range(140):
            clock.advance(1)
            batch = source.read()
        source.close()
    assert rows.ENERGY in metrics(batch, 1)


def test_what_we_do_not_hold_is_not_given_back() -> None:
    """After a driver that did not come back, another library's use of NVML is none of ours to end."""
    with machines.opened(BUSY) as machine:
        machine.looks(2)
        machine.nvml.reload_driver()
        machine.looks(40)
        machine.nvml.driver_back()
        pynvml.nvmlInit()
        machine.source.close()
        assert pynvml.nvmlDeviceGetCount() == 1
        pynvml.nvmlShutdown()


def test_instances_that_are_made_anew_are_met() -> None:
    """MIG is divided again while the job runs: what was taken away is gone, what came is read."""
    with machines.opened(dataclasses.replace(BUSY, mig=[FakeMig(profile="1g.10gb", uuid="MIG-one")])) as machine:
        machine.looks(3)
        board = machine.source._boards[1]
        board.lost = True
        machine.looks(40)
        assert any(reading.attributes["hw.id"] == "MIG-one" for reading in machine.look(1).readings)


def test_a_lost_gpu_costs_next_to_nothing() -> None:
    """It is asked for with growing pauses, not at every look."""
    with machines.opened(BUSY, BUSY) as machine:
        machine.looks(3)
        machine.nvml.lose(1)
        machine.looks(120)
        machine.nvml.reset_calls()
        machine.looks(60)
        assert machine.nvml.calls_about(1) <= 8


def test_a_driver_that_is_reloaded_is_found_again() -> None:
    """Every GPU is failed while it is away; then all are back, with totals that go on and no growth that was not."""
    accumulator = Accumulator()
    with machines.opened(BUSY, BUSY) as machine:

        def sample(batch: Batch) -> list[Reading]:
            at = machine.clock.monotonic()
            latest = accumulator.sample(batch.readings, at, 0)
            return list(between(None, latest).of(rows.ENERGY))

        sample(machine.look(1))
        before = sample(machine.look(1))[0].value
        machine.nvml.reload_driver()
        for batch in machine.looks(10):
            assert [values(batch, index) for index in (0, 1)] == [FAILED] * 2
            assert metrics(batch) == {health.STATUS}
        machine.nvml.driver_back()
        machine.looks(31)
        batch = machine.look(1)
        assert [values(batch, index)[health.STATUS, "ok"] for index in (0, 1)] == [1, 1]
        after = sample(batch)[0].value
        assert before <= after <= before + 612.345 * 60


FAILED = {
    (health.STATUS, "ok"): 0,
    (health.STATUS, "degraded"): 0,
    (health.STATUS, "failed"): 1,
    (health.STATUS, "predicted_failure"): 0,
}


def test_a_gpu_that_does_not_come_back_with_the_driver_stays_failed() -> None:
    """A list that shrinks in silence would look like a healthy machine of fewer GPUs."""
    with machines.opened(BUSY, dataclasses.replace(BUSY, uuid="GPU-b")) as machine:
        machine.looks(3)
        machine.nvml.reload_driver()
        machine.looks(5)
        machine.nvml.driver_back(gpus=[machine.nvml.gpus[0]])
        machine.looks(31)
        batch = machine.look(1)
        assert values(batch, 0)[health.STATUS, "ok"] == 1
        assert values(batch, 1) == FAILED


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ({}, "ok"),
        ({"remap_pending": 1}, "predicted_failure"),
        ({"remap_failure": 1}, "degraded"),
        ({"recovery_action": 1}, "degraded"),
        ({"recovery_action": 4, "remap_pending": 1}, "degraded"),
    ],
)
def test_status_follows_from_what_the_board_says(said: dict[str, Any], state: str) -> None:
    """One state is 1, the others 0."""
    with machines.opened(dataclasses.replace(BUSY, **said)) as machine:
        found = {key[1]: value for key, value in values(machine.look()).items() if key[0] is health.STATUS}
    assert found == {each: int(each == state) for each in ("ok", "degraded", "failed", "predicted_failure")}


# Events.


def heard(machine: machines.Machine, total: int) -> list[Reading]:
    """The readings of XIDs once so many have been heard of."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        counts = machine.source._watch.counts() if machine.source._watch is not None else {}
        if sum(counts.values()) >= total:
            break
        time.sleep(0.01)
    machine.clock.advance(1)
    return [reading for reading in machine.source.aside(hangs=False) if health.XID in reading.attributes]


def test_an_xid_is_counted_by_gpu_and_code_from_the_first_on() -> None:
    """Told by the driver on a thread of its own; the first is growth, since none is what there was before."""
    accumulator = Accumulator()
    with machines.opened(BUSY, BUSY) as machine:
        wait_until_listening(machine)
        before = accumulator.sample(machine.look(1).readings, machine.clock.monotonic(), 0)
        machine.nvml.xid(79, gpu=1)
        machine.nvml.xid(13, gpu=0)
        machine.nvml.xid(13, gpu=0)
        readings = heard(machine, 3)
        last = {(r.attributes["hwmetrics.gpu.index"], r.attributes[health.XID]): r.value for r in readings}
        assert last == {(1, 79): 1, (0, 13): 2}
        assert {reading.attributes[health.ERROR_TYPE] for reading in readings} == {"xid"}
        after = accumulator.sample(readings, machine.clock.monotonic(), 0)
    told = {r.attributes[health.XID]: r.value for r in between(before, after).of(health.ERRORS)}
    assert told == {79: 1, 13: 2}


def test_what_the_gpu_counts_itself_is_not_counted_again() -> None:
    """ECC errors come as events, too."""
    with machines.opened(BUSY) as machine:
        wait_until_listening(machine)
        machine.nvml.send_event(pynvml.nvmlEventTypeDoubleBitEccError)
        machine.nvml.xid(48)
        heard(machine, 2)
        told = [*machine.look(1).readings, *machine.source.aside(hangs=False)]
        kinds = {reading.attributes[health.ERROR_TYPE] for reading in told if reading.metric is health.ERRORS}
    assert kinds == {"corrected", "uncorrected", "xid"}


def test_events_are_heard_again_after_the_driver_was_reloaded() -> None:
    """Counts go on."""
    with machines.opened(BUSY) as machine:
        wait_until_listening(machine)
        machine.nvml.xid(31)
        heard(machine, 1)
        machine.nvml.reload_driver()
        machine.looks(3)
        machine.nvml.driver_back()
        deadline = time.monotonic() + 30
        while machine.source._boards[0].lost and time.monotonic() < deadline:
            time.sleep(0.05)  # the thread that hears of events lets go of NVML in its own time
            machine.look(1)
        wait_until_listening(machine)
        machine.nvml.xid(31)
        assert {reading.value for reading in heard(machine, 2)} == {2}


@pytest.mark.parametrize(
    ("why", "level"), [*((each, "INFO") for each in sorted(NOT_HERE)), ("the driver does not answer", "WARNING")]
)
def test_events_that_stay_unheard_are_said_once_each_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, why: str, level: str
) -> None:
    """For some times; it is no warning where nothing is wrong."""
    with machines.opened(BUSY) as machine, caplog.at_level(logging.INFO):
        for _ in range(MOST_LINES + 2):
            monkeypatch.setattr(EventWatch, "why_off", why)
            machine.looks(int(DEAF_FOR) + 3)
            monkeypatch.setattr(EventWatch, "why_off", None)
            machine.looks(1)
    said = [record for record in caplog.records if "not heard of" in record.getMessage()]
    assert [record.levelname for record in said] == [level] * MOST_LINES
    assert {record.getMessage() for record in said} == {f"XIDs and other events of NVIDIA GPUs are not heard of: {why}"}


def wait_until_listening(machine: machines.Machine) -> None:
    """Until the GPUs are registered for events."""
    deadline = time.monotonic() + 30
    while machine.source._watch is None or machine.source._watch.why_off is not None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


# GPM.


def test_no_gpm_sample_is_leaked() -> None:
    """Two a GPU, given back at the end, also of a GPU that was lost in between."""
    with machines.opened(BUSY, BUSY) as machine:
        machine.looks(5)
        machine.nvml.lose(1)
        machine.looks(5)
        machine.nvml.restore(1)
        machine.looks(40)
        assert machine.nvml.gpm_samples == 4
        machine.source.close()
        assert machine.nvml.gpm_samples == 0


def test_an_activity_is_that_of_the_whole_time() -> None:
    """A burst that no moment of sampling sees is in the mean."""
    burst = dataclasses.replace(BUSY, tensor_activity=[(0, 0.0), (2.2, 0.0), (2.2, 1.0), (2.8, 1.0), (2.8, 0.0)])
    accumulator = Accumulator()
    with machines.opened(burst) as machine:
        first = accumulator.sample(machine.look().readings, 50, 0)
        for second in range(1, 5):
            latest = accumulator.sample(machine.look(1).readings, 50 + second, 0)
    (tensor,) = between(first, latest).of(activity.TENSOR_ACTIVITY)
    assert tensor.value == pytest.approx(0.6 / 4, abs=1e-6)


# The way in.


@pytest.mark.parametrize(
    ("code", "cause", "mend"),
    [
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, "no NVIDIA driver here", "NVIDIA_DRIVER_CAPABILITIES=utility"),
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "kernel driver is not loaded", "modprobe nvidia"),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "different versions", "reboot or reload"),
        (pynvml.NVML_ERROR_NO_PERMISSION, "no permission", "/dev/nvidia"),
        (pynvml.NVML_ERROR_UNKNOWN, "NVML does not start: Unknown Error", "nvidia-smi"),
        (7777, "NVML does not start: Unknown Error", "nvidia-smi"),
    ],
)
@pytest.mark.parametrize("call", ["nvmlInitWithFlags", "nvmlDeviceGetCount_v2"])
def test_a_driver_that_does_not_start_says_why_and_what_mends_it(call: str, code: int, cause: str, mend: str) -> None:
    """Without a driver there is no source; the message has the cause and the mend, and nothing is left open."""
    nvml = FakeNvml([BUSY])
    nvml.fail(call, code)
    with nvml:
        with pytest.raises(SourceUnavailable) as raised:
            NvidiaSource("all", {}).open()
        assert cause in raised.value.reason
        assert mend in raised.value.remedy
        assert raised.value.source == "nvidia"
        assert pynvml._nvmlLib_refcount == 0
        assert nvml.calls["nvmlShutdown", None] == (0 if call == "nvmlInitWithFlags" else 1)


def test_a_machine_without_the_library() -> None:
    """On a machine without a driver (as every test of ours is, by conftest) the library is not found, and said so."""
    with pytest.raises(SourceUnavailable, match=r"libnvidia-ml\.so\.1 is not found"):
        NvidiaSource("all", {}).open()


def test_an_error_without_a_text_is_told_by_its_number() -> None:
    """Where even the text of an error cannot be had from the library, the message has its number."""
    nvml = FakeNvml([BUSY])
    nvml.init_error(7777)
    nvml.missing("nvmlErrorString")
    with nvml, pytest.raises(SourceUnavailable, match="7777"):
        NvidiaSource("all", {}).open()


def test_no_binding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nvidia-ml-py is not installed the message says how to install it."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(SourceUnavailable, match="pip install nvidia-ml-py"):
        NvidiaSource("all", {}).open()


def test_a_binding_of_another_make(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another package has taken the name pynvml, the message says where it is and how to be rid of it."""
    rogue = types.ModuleType("pynvml")
    rogue.__file__ = "/somewhere/pynvml.py"
    monkeypatch.setitem(sys.modules, "pynvml", rogue)
    with pytest.raises(SourceUnavailable, match=r"/somewhere/pynvml\.py is not NVIDIA's; pip uninstall pynvml"):
        NvidiaSource("all", {}).open()


def test_no_gpu() -> None:
    """A driver without a GPU is no source."""
    with FakeNvml([]) as nvml:
        with pytest.raises(SourceUnavailable, match="the driver shows no GPU"):
            NvidiaSource("all", {}).open()
        assert nvml.calls["nvmlShutdown", None] == 1


@pytest.mark.parametrize("call", ["nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetUUID", "nvmlDeviceGetName"])
def test_a_gpu_that_cannot_be_opened_is_left_out(caplog: pytest.LogCaptureFixture, call: str) -> None:
    """One GPU that is lost at the start is named in a warning; the others are read, under their own numbers."""
    nvml = FakeNvml([BUSY, BUSY, BUSY])
    nvml.fail(call, pynvml.NVML_ERROR_GPU_IS_LOST, gpu=1)
    with opened(nvml, gpus="visible", devices="2,1,0") as source:
        batch = source.read()
    assert indices(batch) == [0, 2]
    (record,) = caplog.records
    assert record.getMessage() == "GPU 1 cannot be opened and is left out until it can: GPU is lost"


def test_no_gpu_can_be_opened(caplog: pytest.LogCaptureFixture) -> None:
    """Where every GPU is lost, the source is unavailable and NVML is let go of."""
    nvml = FakeNvml([BUSY, BUSY])
    nvml.fail("nvmlDeviceGetHandleByIndex_v2", pynvml.NVML_ERROR_GPU_IS_LOST)
    with nvml, pytest.raises(SourceUnavailable, match="no GPU"):
        NvidiaSource("all", {}).open()
    assert nvml.calls["nvmlShutdown", None] == 1
    assert len(caplog.records) == 2


def test_an_errors_text_is_asked_for_on_the_sources_own_thread(caplog: pytest.LogCaptureFixture) -> None:
    """The driver is asked for the text of an error where the error was met: what a log handler keeps is a string."""
    nvml = FakeNvml([BUSY, BUSY])
    nvml.fail("nvmlDeviceGetHandleByIndex_v2", 7777, gpu=1)
    with caplog.at_level(logging.DEBUG), opened(nvml):
        asked = nvml.calls["nvmlErrorString", None]
        nvml.fail("nvmlShutdown", 7778)
    arguments = [value for record in caplog.records for value in (record.args or ())]
    assert asked == 1
    assert len(caplog.records) == 2
    assert not [value for value in arguments if isinstance(value, BaseException)]


def test_an_unforeseen_fault_in_meeting_the_gpus_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong after NVML was started, it is shut down again, once."""

    def fail(_: object) -> str:
        raise ArithmeticError("a bug of ours")

    monkeypatch.setattr("otel_hwmetrics.sources.gpu.nvidia.discovery.text", fail)
    with FakeNvml([BUSY]) as nvml:
        source = NvidiaSource("all", {})
        with pytest.raises(ArithmeticError):
            source.open()
        source.close()
        assert nvml.calls["nvmlShutdown", None] == 1


@pytest.mark.parametrize(
    ("gpus", "devices", "expected"),
    [
        ("visible", None, [0, 1, 2]),
        ("visible", "1", [1]),
        ("visible", "2,0", [0, 2]),
        ("visible", "GPU-c", [2]),
        ("all", "1", [0, 1, 2]),
        ("all", "", [0, 1, 2]),
    ],
)
def test_only_the_jobs_own_gpus_are_asked(gpus: str, devices: str | None, expected: list[int]) -> None:
    """A job that sees one GPU of three neither reports nor asks the others, unless all are wanted."""
    nvml = FakeNvml([dataclasses.replace(BUSY, uuid=f"GPU-{letter}") for letter in "abc"])
    with opened(nvml, gpus=gpus, devices=devices) as source:
        nvml.reset_calls()
        batch = source.read()
        assert indices(batch) == expected
        assert {index for _, index in nvml.calls} - {None} == set(expected)


def test_the_environment_is_that_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless told otherwise, the job's own CUDA_VISIBLE_DEVICES counts."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    with FakeNvml([BUSY, BUSY]):
        source = NvidiaSource()
        source.open()
        batch = source.read()
        source.close()
    assert indices(batch) == [1]


@pytest.mark.parametrize("devices", ["", "7"])
def test_a_job_without_gpus(devices: str) -> None:
    """A job that may see no GPU has no source; the message shows the variable and how to see them all the same."""
    with FakeNvml([BUSY, BUSY]) as nvml:
        with pytest.raises(SourceUnavailable, match=rf"CUDA_VISIBLE_DEVICES='{devices}' .* 2 GPUs; gpus=all"):
            NvidiaSource("visible", {"CUDA_VISIBLE_DEVICES": devices}).open()
        assert nvml.calls["nvmlShutdown", None] == 1


# The way out.


def test_close_leaves_another_users_nvml_open() -> None:
    """NVML counts its users: a library of the application's that started it can go on using it."""
    with FakeNvml([BUSY]) as nvml:
        pynvml.nvmlInit()
        source = NvidiaSource("all", {})
        source.open()
        source.close()
        source.close()
        assert nvml.calls["nvmlShutdown", None] == 1
        assert pynvml.nvmlDeviceGetCount() == 1
        pynvml.nvmlShutdown()
        deadline = time.monotonic() + 30
        while pynvml._nvmlLib_refcount and time.monotonic() < deadline:
            time.sleep(0.02)  # the thread that waited for events gives its use back when its wait ends
        with pytest.raises(pynvml.NVMLError_Uninitialized):
            pynvml.nvmlDeviceGetCount()


def test_a_closed_source_reads_nothing_and_can_be_opened_again() -> None:
    """After `close` a look gives nothing and calls nothing; opened anew it is as before."""
    with FakeNvml([BUSY]) as nvml:
        source = NvidiaSource("all", {})
        source.open()
        source.close()
        nvml.reset_calls()
        assert source.read().readings == []
        assert not nvml.calls
        source.open()
        assert rows.ENERGY in metrics(source.read())
        source.close()


def test_close_never_opened_or_failing_raises_nothing() -> None:
    """Closing is always possible: before opening, and when the driver does not want to."""
    NvidiaSource("all", {}).close()
    with FakeNvml([BUSY]) as nvml:
        source = NvidiaSource("all", {})
        source.open()
        nvml.fail("nvmlShutdown", pynvml.NVML_ERROR_UNKNOWN)
        source.close()


def test_a_hung_call_is_on_its_own_and_ends_in_errors_that_are_counted() -> None:
    """A call that was stuck across the end of the driver comes back with errors, which are lost readings like others."""
    nvml = FakeNvml([BUSY])
    nvml.install()
    source = NvidiaSource("all", {})
    source.open()
    hang = nvml.hang("nvmlDeviceGetTemperatureV")
    batches: list[Batch] = []
    thread = threading.Thread(target=lambda: batches.append(source.read()), daemon=True)
    thread.start()
    assert hang.entered.wait(60)
    nvml.uninstall()
    thread.join(60)
    (batch,) = batches
    assert activity.CLOCK not in metrics(batch)  # read after the call that hung
    assert sum(batch.lost.values()) > 0
    source.close()


def test_a_fault_of_the_binding_is_guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A binding that raises what is no error of NVML's loses that metric only, in production."""
    monkeypatch.setattr(_guard, "LOUD", False)
    monkeypatch.setattr(_guard, "faults", Counter())

    def fail(_: object) -> int:
        raise OSError("exception: access violation")

    with opened(FakeNvml([BUSY])) as source:
        monkeypatch.setattr(pynvml, "nvmlDeviceGetMarginTemperature", fail)
        batch = source.read()
        assert rows.TEMPERATURE_MARGIN not in metrics(batch)
        assert rows.ENERGY in metrics(batch)
        assert batch.lost == {"OSError": 1}
