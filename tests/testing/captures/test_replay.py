# SPDX-License-Identifier: Apache-2.0
"""A replay keeps to what NVML promises: return codes, sizes, versions, event sets, and who is installed."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pynvml
import pytest

from otel_hwmetrics.testing import FakeNvml, ManualClock, ScenarioError
from otel_hwmetrics.testing.captures import CaptureError, ReplayNvml, load_machine, read_capture

Ask = Callable[..., object]
Replay = Callable[..., ReplayNvml]

GIB = 1024**3
POWER = {
    "call": "nvmlDeviceGetPowerUsage",
    "of": "gpu0",
    "told": [[0, [1000]], [10, [2000]], [20, None, 15], [30, [3000]]],
}
MEMORY = {
    "call": "nvmlDeviceGetMemoryInfo_v2",
    "of": "gpu0",
    "asked": [[{"version": pynvml.nvmlMemory_v2}]],
    "told": [[0, [{"total": 8 * GIB, "free": 7 * GIB, "used": GIB}]]],
}
PROCESSES = [
    {
        "call": "nvmlDeviceGetComputeRunningProcesses_v3",
        "of": "gpu0",
        "asked": [[None]],
        "told": [[0, [3], 7]],
    },
    {
        "call": "nvmlDeviceGetComputeRunningProcesses_v3",
        "of": "gpu0",
        "told": [[0, [3, [{"pid": 1001, "usedGpuMemory": 5}, {"pid": 1002, "usedGpuMemory": 6}, {"pid": "self"}]]]],
    },
]


def gpu() -> Any:
    """Return the handle of the first GPU, with NVML initialised."""
    pynvml.nvmlInit()
    return pynvml.nvmlDeviceGetHandleByIndex(0)


def test_the_latest_answer_holds(replay: Replay, clock: ManualClock, ask: Ask) -> None:
    """Before the first answer the first, then each from its time on, an error as well, and the last for ever."""
    with replay({**POWER, "told": [[5, [500]], *POWER["told"][1:]]}):
        handle, told = gpu(), []
        for _ in range(8):
            told.append(ask(pynvml.nvmlDeviceGetPowerUsage, handle))
            clock.advance(5)
        clock.advance(1e6)
        told.append(ask(pynvml.nvmlDeviceGetPowerUsage, handle))
    assert told == [500, 500, 2000, 2000, 15, 15, 3000, 3000, 3000]


def test_a_replay_begins_again_on_demand(replay: Replay, clock: ManualClock, ask: Ask) -> None:
    """With `at_end="loop"` the second after the last is the first."""
    with replay(POWER, seconds=40, at_end="loop"):
        handle, told = gpu(), []
        for _ in range(9):
            told.append(ask(pynvml.nvmlDeviceGetPowerUsage, handle))
            clock.advance(10)
    assert told == [1000, 2000, 15, 3000, 1000, 2000, 15, 3000, 1000]


def test_at_end_is_one_of_two(replay: Replay) -> None:
    """A misspelt end is refused, with the value and what is allowed."""
    with pytest.raises(ValueError, match=r"at_end = 'stop': allowed is 'hold' or 'loop'"):
        replay(at_end="stop")


def test_a_function_without_answers_is_not_in_the_library(replay: Replay, ask: Ask) -> None:
    """Neither one that the capture lacks, nor one that the recorded driver had not."""
    with replay(POWER, MEMORY, absent=["nvmlDeviceGetPowerUsage", "nvmlDeviceGetTemperatureV"]):
        handle = gpu()
        for function in (
            pynvml.nvmlDeviceGetPowerUsage,
            pynvml.nvmlDeviceGetUUID,
            lambda gpu: pynvml.nvmlDeviceGetTemperatureV(gpu, 0),
        ):
            assert ask(function, handle) == pynvml.NVML_ERROR_FUNCTION_NOT_FOUND


def test_a_question_without_answer_is_not_supported_and_counted(replay: Replay, ask: Ask) -> None:
    """A clock that was not asked for, a second GPU's field: refused as by the driver, and noted in `unknown`."""
    clocks = {"call": "nvmlDeviceGetClockInfo", "of": "gpu0", "asked": [[0]], "told": [[0, [1980]]]}
    fields = {
        "call": "nvmlDeviceGetFieldValues",
        "of": "gpu0",
        "asked": [[82, 0]],
        "told": [[0, [{"nvmlReturn": 0, "valueType": 1, "value": {"uiVal": 40}}]]],
    }
    with replay(clocks, fields) as nvml:
        handle = gpu()
        assert [ask(pynvml.nvmlDeviceGetClockInfo, handle, kind) for kind in (0, 1)] == [1980, 3]
        known, unknown = pynvml.nvmlDeviceGetFieldValues(handle, [82, 83])
        assert (known.nvmlReturn, known.value.uiVal, unknown.nvmlReturn) == (0, 40, 3)
        assert nvml.unknown == {
            ("nvmlDeviceGetClockInfo", "gpu0", "[1]"): 1,
            ("nvmlDeviceGetFieldValues", "gpu0", "[83, 0]"): 1,
        }
        nvml.reset_calls()
        assert not nvml.unknown
        assert not nvml.calls


def test_a_field_that_is_refused_is_so_in_each_scope(replay: Replay) -> None:
    """A recording does not ask every link of a board without links."""
    told = [[0, [{"nvmlReturn": 3}]], [1, None, 15]]
    with replay({"call": "nvmlDeviceGetFieldValues", "of": "gpu0", "asked": [[138, 0]], "told": told}) as nvml:
        (value,) = pynvml.nvmlDeviceGetFieldValues(gpu(), [(138, 17)])
        assert value.nvmlReturn == pynvml.NVML_ERROR_NOT_SUPPORTED
        assert not nvml.unknown


def test_a_batch_fails_as_a_whole_where_it_did(replay: Replay, clock: ManualClock, ask: Ask) -> None:
    """The call's own error is told for the call, not for each of its fields."""
    value = {"nvmlReturn": 0, "valueType": 1, "value": {"uiVal": 40}}
    told = [[0, [value]], [5, None, 15]]
    with replay({"call": "nvmlDeviceGetFieldValues", "of": "gpu0", "asked": [[82, 0], [83, 0]], "told": told}):
        handle = gpu()
        assert [each.value.uiVal for each in pynvml.nvmlDeviceGetFieldValues(handle, [82, 83])] == [40, 40]
        clock.advance(5)
        assert ask(pynvml.nvmlDeviceGetFieldValues, handle, [82, 83]) == 15


def test_of_a_longer_array_only_the_asked_fields_are_written(replay: Replay) -> None:
    """The number of fields is an argument of its own: what lies beyond is not the call's."""
    value = {"nvmlReturn": 0, "valueType": 1, "value": {"uiVal": 40}}
    with replay({"call": "nvmlDeviceGetFieldValues", "of": "gpu0", "asked": [[82, 0]], "told": [[0, [value]]]}) as nvml:
        handle, fields = gpu(), (pynvml.c_nvmlFieldValue_t * 3)()
        fields[0].fieldId = 82
        function = pynvml._nvmlGetFunctionPointer("nvmlDeviceGetFieldValues")
        assert function(handle, ctypes.c_int32(1), ctypes.byref(fields)) == 0
        assert fields[0].value.uiVal == 40
        assert [field.nvmlReturn for field in fields] == [0, 0, 0]
        assert not nvml.unknown


def test_two_calls_for_a_list(replay: Replay) -> None:
    """The first call tells the number, the second gives the list; our own process is this one."""
    with replay(*PROCESSES):
        processes = pynvml.nvmlDeviceGetComputeRunningProcesses_v3(gpu())
    assert [process.pid for process in processes[:2]] == [1001, 1002]
    assert processes[2].pid == os.getpid()


def test_a_list_that_does_not_fit_says_how_long_it_is(replay: Replay) -> None:
    """An array that is too short is refused with the size that would do, and nothing is written past it."""
    with replay(*PROCESSES):
        handle = gpu()
        count, room = ctypes.c_uint(2), (pynvml.c_nvmlProcessInfo_v3_t * 2)()
        function = pynvml._nvmlGetFunctionPointer("nvmlDeviceGetComputeRunningProcesses_v3")
        assert function(handle, ctypes.byref(count), room) == pynvml.NVML_ERROR_INSUFFICIENT_SIZE
        assert count.value == 3
        assert bytes(room) == bytes(ctypes.sizeof(room))


def test_a_text_that_does_not_fit_is_refused(replay: Replay) -> None:
    """As by the driver, which would write past the end otherwise."""
    with replay({"call": "nvmlDeviceGetName", "of": "gpu0", "told": [[0, ["NVIDIA H100"]]]}):
        handle = gpu()
        buffer = ctypes.create_string_buffer(5)
        function = pynvml._nvmlGetFunctionPointer("nvmlDeviceGetName")
        assert function(handle, buffer, ctypes.c_uint(5)) == pynvml.NVML_ERROR_INSUFFICIENT_SIZE
        assert buffer.raw == bytes(5)


class GrownMemory(ctypes.Structure):
    """nvmlMemory_t as a later binding may have it: other order, one field more, one less."""

    _fields_ = (
        ("version", ctypes.c_uint),
        ("used", ctypes.c_ulonglong),
        ("compressed", ctypes.c_ulonglong),
        ("total", ctypes.c_ulonglong),
    )


def test_a_struct_that_has_grown_is_written_by_name(replay: Replay) -> None:
    """Another version and layout of a struct gets what the capture has of it; what it has not stays as it is."""
    with replay(MEMORY) as nvml:
        handle = gpu()
        memory = GrownMemory(version=3 << 24 | ctypes.sizeof(GrownMemory), compressed=77)
        function = pynvml._nvmlGetFunctionPointer("nvmlDeviceGetMemoryInfo_v2")
        assert function(handle, ctypes.byref(memory)) == 0
        assert (memory.used, memory.compressed, memory.total) == (GIB, 77, 8 * GIB)
        assert memory.version >> 24 == 3
        assert not nvml.unknown


def test_a_field_that_the_capture_lacks_stays_as_it_is(replay: Replay) -> None:
    """`reserved` was not in the recorded struct, so it is what the caller put there; the fields around it are right."""
    with replay(MEMORY):
        memory = pynvml.nvmlDeviceGetMemoryInfo(gpu(), version=pynvml.nvmlMemory_v2)
    assert (memory.total, memory.reserved, memory.free, memory.used) == (8 * GIB, 0, 7 * GIB, GIB)


@pytest.mark.parametrize("value", ["hot", {"celsius": 5}, [1]])
def test_an_answer_of_another_type_is_a_fault_of_the_capture(value: Any, replay: Replay) -> None:
    """It names the function and the device, since a quiet zero would be taken for a reading."""
    with replay({**POWER, "told": [[0, [value]]]}):
        handle = gpu()
        with pytest.raises(CaptureError, match="nvmlDeviceGetPowerUsage of gpu0"):
            pynvml.nvmlDeviceGetPowerUsage(handle)


def test_calls_take_as_long_as_they_took_on_demand(replay: Replay, monkeypatch: pytest.MonkeyPatch) -> None:
    """Latencies are replayed in real time if asked for, by the time at which they were measured."""
    slept: list[float] = []
    here, really = threading.current_thread(), time.sleep

    def sleep(seconds: float) -> None:
        if threading.current_thread() is here:
            slept.append(seconds)
        else:
            really(seconds)

    monkeypatch.setattr(time, "sleep", sleep)
    latencies = [{"call": "nvmlDeviceGetPowerUsage", "of": "gpu0", "seconds": [[0, 0.25], [10, 0.001]]}]
    for wanted, expected in ((True, [0.25]), (False, [])):
        slept.clear()
        with replay(POWER, latencies=wanted) as nvml:
            nvml.capture.latencies.update(_latencies(latencies))
            pynvml.nvmlDeviceGetPowerUsage(gpu())
        assert [each for each in slept if each] == expected


def _latencies(entries: list[dict[str, Any]]) -> dict[Any, Any]:
    from otel_hwmetrics.testing.captures.capture import Timeline

    found: dict[Any, Any] = {}
    for entry in entries:
        timeline: Timeline[float] = Timeline()
        for at, took in entry["seconds"]:
            timeline.add(at, took)
        found[entry["call"], entry["of"]] = timeline
    return found


def test_samples_since(replay: Replay, clock: ManualClock) -> None:
    """Each sample is told once it has come, to whoever asks for those since an earlier one, as by the driver's ring."""
    rows = [[at, 10 * at] for at in range(-2, 40)]
    ring = [
        {"call": "nvmlDeviceGetSamples", "of": "gpu0", "asked": [[1, None]], "told": [[0, [1, 4]]]},
        {
            "call": "nvmlDeviceGetSamples",
            "of": "gpu0",
            "asked": [[1]],
            "told": [[0, [1, None, None]]],
            "ring": {"clock": "boot", "fields": ["sampleValue.uiVal"], "rows": [row for row in rows if row[1] >= 0]},
        },
    ]
    clock.advance(1000)
    with replay(*ring):
        handle, since, told = gpu(), 0, []
        for step in (0, 1, 3, 10):
            clock.advance(step)
            kind, samples = pynvml.nvmlDeviceGetSamples(handle, 1, since)
            since = max(sample.timeStamp for sample in samples)
            told.append([(sample.timeStamp / 1e6 - 1000, sample.sampleValue.uiVal) for sample in samples])
        assert kind == 1
    # The last look comes so late that four of ten are left in the ring.
    assert told == [[(0, 0)], [(1, 10)], [(2, 20), (3, 30), (4, 40)], [(11, 110), (12, 120), (13, 130), (14, 140)]]


XID = {"device": "gpu0", "eventType": 8, "eventData": 79, "gpuInstanceId": 5, "computeInstanceId": 6}
EVENTS = [
    {"call": "nvmlDeviceRegisterEvents", "of": "gpu0", "told": [[0, []]]},
    {
        "call": "nvmlEventSetWait_v2",
        "told": [[5, [{**XID, "eventData": 13}]], [5, [{}]], [6, [{"eventType": 1}]], [7, [{**XID}]], [8, None, 15]],
    },
]


def event_set(kinds: int = 8) -> tuple[Any, Any]:
    """Return an event set that waits for such events of the GPU, and the GPU."""
    handle = gpu()
    events = pynvml.nvmlEventSetCreate()
    pynvml.nvmlDeviceRegisterEvents(handle, kinds, events)
    return events, handle


def test_events_come_once_in_order_and_in_time(replay: Replay, clock: ManualClock, ask: Ask) -> None:
    """Each that the set was registered for, the same one twice if it came twice, and an error as what it was."""
    with replay(*EVENTS):
        events, handle = event_set()
        assert ask(pynvml.nvmlEventSetWait_v2, events, 0) == pynvml.NVML_ERROR_TIMEOUT
        clock.advance(10)
        seen = [pynvml.nvmlEventSetWait_v2(events, 0) for _ in range(3)]
        assert [event.eventData for event in seen] == [13, 13, 79]
        assert ctypes.cast(seen[0].device, ctypes.c_void_p).value == ctypes.cast(handle, ctypes.c_void_p).value
        assert ask(pynvml.nvmlEventSetWait_v2, events, 0) == 15
        assert ask(pynvml.nvmlEventSetWait_v2, events, 0) == pynvml.NVML_ERROR_TIMEOUT
        late, _ = event_set()
        assert ask(pynvml.nvmlEventSetWait_v2, late, 0) == pynvml.NVML_ERROR_TIMEOUT, "what was before is missed"


def test_a_waiting_thread_gets_its_event_and_is_let_go(replay: Replay, clock: ManualClock) -> None:
    """A wait returns when the clock reaches the event, and answers UNINITIALIZED when the replay goes."""
    codes: list[int] = []
    waiting = threading.Event()
    nvml = replay(*EVENTS)

    def wait() -> None:
        function = pynvml._nvmlGetFunctionPointer("nvmlEventSetWait_v2")
        data = pynvml.c_nvmlEventData_t()
        for _ in range(2):
            waiting.set()
            codes.append(function(events, ctypes.byref(data), ctypes.c_uint(60_000)))

    with nvml:
        events, _ = event_set(kinds=1)
        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        assert waiting.wait(10)
        clock.advance(6.5)
        deadline = time.monotonic() + 10
        while not codes and time.monotonic() < deadline:
            time.sleep(0.005)
    thread.join(10)
    assert codes == [0, 1]


def test_nothing_answers_before_init(replay: Replay, ask: Ask) -> None:
    """A replay counts its users as the driver does."""
    with replay(POWER):
        assert ask(pynvml.nvmlDeviceGetCount) == pynvml.NVML_ERROR_UNINITIALIZED
        handle = gpu()
        pynvml.nvmlShutdown()
        assert ask(pynvml.nvmlDeviceGetPowerUsage, handle) == pynvml.NVML_ERROR_UNINITIALIZED
        assert ask(pynvml.nvmlShutdown) == pynvml.NVML_ERROR_UNINITIALIZED


def test_init_fails_where_it_failed(replay: Replay, clock: ManualClock, ask: Ask) -> None:
    """A machine that was recorded while its driver was away has no driver at that time."""
    with replay({"call": "nvmlInitWithFlags", "asked": [[0]], "told": [[0, [], 9], [5, []]]}):
        assert ask(pynvml.nvmlInit) == pynvml.NVML_ERROR_DRIVER_NOT_LOADED
        clock.advance(5)
        assert ask(pynvml.nvmlInit) is None


def test_a_handle_of_another_install_is_unknown(replay: Replay, ask: Ask) -> None:
    """No address is given twice, so a stale handle is not taken for a GPU."""
    nvml = replay(POWER)
    with nvml:
        old = gpu()
    with nvml:
        gpu()
        assert ask(pynvml.nvmlDeviceGetPowerUsage, old) == pynvml.NVML_ERROR_INVALID_ARGUMENT


def test_it_is_installed_once_and_leaves_in_order(replay: Replay) -> None:
    """As with `FakeNvml`: not twice, and not from under another library."""
    nvml = replay(POWER)
    nvml.uninstall()
    with nvml:
        with pytest.raises(RuntimeError, match="installed already"):
            nvml.install()
        with FakeNvml(), pytest.raises(RuntimeError, match="uninstall that first"):
            nvml.uninstall()
    nvml.uninstall()


def test_errors_have_their_text(replay: Replay) -> None:
    """`str()` of an error is what the driver says of it, also of one that the binding has no text of."""
    with replay():
        assert str(pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)) == "GPU is lost"
        assert pynvml.nvmlErrorString(0) == "The operation was successful"
        assert pynvml.nvmlErrorString(12345) == "Unknown Error"


def test_a_machine_is_a_capture_or_a_scenario_by_its_name(tmp_path: Path, replay: Replay) -> None:
    """`load_machine` takes either, and both refuse what they cannot read with a `ScenarioError`."""
    replay(POWER)
    assert isinstance(load_machine(tmp_path / "made.json"), ReplayNvml)
    toml = tmp_path / "two.toml"
    toml.write_text("[[gpu]]\n[[gpu]]\n", encoding="utf-8")
    machine = load_machine(toml)
    assert isinstance(machine, FakeNvml)
    assert len(machine.gpus) == 2
    for name in ("bad.json", "bad.toml"):
        (tmp_path / name).write_text("=", encoding="utf-8")
        with pytest.raises(ScenarioError, match=name):
            load_machine(tmp_path / name)


def test_gpus_are_counted_by_name_in_order(tmp_path: Path, replay: Replay) -> None:
    """`gpus` is in order of the index, with more than ten as well, and a MIG instance is none."""
    entries = [{**POWER, "of": name} for name in ("gpu10", "gpu9", "gpu0/mig1")]
    assert replay(*entries).gpus == ("gpu9", "gpu10")
    assert len(read_capture(tmp_path / "made.json").series) == 5
