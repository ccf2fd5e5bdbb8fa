# SPDX-License-Identifier: Apache-2.0
"""Recording changes nothing for who is recorded, and notes what was answered, when, and how long it took."""

from __future__ import annotations

import contextlib
import ctypes
import json
import runpy
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pynvml
import pytest

from otel_hwmetrics.sources.gpu.nvidia import NvidiaSource
from otel_hwmetrics.testing import FakeGpu, FakeNvml, ManualClock
from otel_hwmetrics.testing.binding import under_pynvml
from otel_hwmetrics.testing.captures import Recorder, load_capture, read_capture, record
from otel_hwmetrics.testing.captures.capture import Series

Ask = Callable[..., object]

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "record_nvml.py"


def gpu() -> Any:
    """Return the handle of the first GPU, with NVML initialised."""
    pynvml.nvmlInit()
    return pynvml.nvmlDeviceGetHandleByIndex(0)


def series(recorder: Recorder, call: str) -> Series:
    """Return the only series of a function."""
    (found,) = [each for each in recorder.capture.series if each.call == call]
    return found


def test_without_a_driver_there_is_nothing_to_record(tmp_path: Path) -> None:
    """It says so as the binding does, and writes no file."""
    path = tmp_path / "none.json"
    with pytest.raises(pynvml.NVMLError_LibraryNotFound), record(path):
        pass
    assert not path.exists()


def test_who_is_recorded_gets_the_answers(ask: Ask, clock: ManualClock) -> None:
    """Values, errors, and functions that are not there come through as they are."""
    nvml = FakeNvml([FakeGpu(power=123.0)], clock=clock)
    nvml.fail("nvmlDeviceGetTemperatureV", 15)
    nvml.missing("nvmlDeviceGetMemoryInfo_v2")
    with nvml, Recorder(clock=clock) as recorder:
        handle = gpu()
        assert ask(pynvml.nvmlDeviceGetPowerUsage, handle) == 123_000
        assert ask(pynvml.nvmlDeviceGetTemperatureV, handle, 0) == 15
        assert ask(pynvml.nvmlDeviceGetMemoryInfo, handle, pynvml.nvmlMemory_v2) == pynvml.NVML_ERROR_FUNCTION_NOT_FOUND
        assert str(pynvml.NVMLError(15)) == "GPU is lost"
    assert recorder.capture.absent == {"nvmlDeviceGetMemoryInfo_v2"}
    assert recorder.capture.origin == "scripted"


def test_an_answer_is_noted_when_it_changes(clock: ManualClock) -> None:
    """Of a hundred equal answers one is noted, at its own time to the millisecond."""
    with FakeNvml([FakeGpu(power=[(0, 50.0), (7, 50.0), (7, 60.0)])], clock=clock), Recorder(clock=clock) as recorder:
        handle = gpu()
        for _ in range(100):
            pynvml.nvmlDeviceGetPowerUsage(handle)
            clock.advance(0.1)
    told = series(recorder, "nvmlDeviceGetPowerUsage").told
    assert [(at, answer.outputs) for at, answer in told] == [(0.0, [50_000]), (7.0, [60_000])]
    assert recorder.capture.seconds == pytest.approx(10)


def test_a_round_is_one_moment(clock: ManualClock) -> None:
    """What a round asks is noted at the time at which it was due; opening counts as second 0; a missed round is left out."""
    power = [(0, 50.0), (100, 150.0)]
    starts: list[float] = []
    with FakeNvml([FakeGpu(power=power)], clock=clock), Recorder(clock=clock) as recorder:
        handle = gpu()
        clock.advance(3)  # the driver takes its time to open
        for number in recorder.rounds(5, sleep=clock.advance):
            starts.append(clock.monotonic() - 3)
            clock.advance(0.25)
            pynvml.nvmlDeviceGetPowerUsage(handle)
            clock.advance(1.5 if number == 1 else 0.25)
    assert starts == [0, 1, 3, 4, 5]
    assert series(recorder, "nvmlDeviceGetPowerUsage").told.times == [0, 1, 3, 4, 5]
    assert series(recorder, "nvmlInitWithFlags").told.times == [0]
    assert recorder.capture.seconds == pytest.approx(5.5)


def test_a_failing_block_is_recorded_all_the_same(tmp_path: Path, clock: ManualClock) -> None:
    """What led to a crash is what a bug report needs."""
    path = tmp_path / "crash.json"

    def crash() -> None:
        gpu()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), FakeNvml(clock=clock), record(path, note="crashed", clock=clock):
        crash()
    assert read_capture(path).note == "crashed"
    assert load_capture(path).gpus == ()


def test_latencies_are_noted_when_they_change() -> None:
    """A slow call stands out, the jitter of fast ones does not."""
    nvml = FakeNvml()
    with nvml, Recorder() as recorder:
        handle = gpu()
        for _ in range(50):
            pynvml.nvmlDeviceGetPowerUsage(handle)
        nvml.delay("nvmlDeviceGetPowerUsage", 0.05)
        pynvml.nvmlDeviceGetPowerUsage(handle)
    values = recorder.capture.latencies["nvmlDeviceGetPowerUsage", "gpu0"].values
    assert values[-1] >= 0.05
    assert all(value < 0.05 for value in values[:-1])
    assert len(values) <= 10


def test_a_recorder_records_once_and_leaves_in_order(clock: ManualClock) -> None:
    """Not twice, and not from under another library."""
    with FakeNvml(clock=clock):
        recorder = Recorder(clock=clock)
        with recorder, pytest.raises(RuntimeError, match="make another"):
            recorder.install()
        recorder.uninstall()
        with pytest.raises(RuntimeError, match="make another"):
            recorder.install()
        with Recorder(clock=clock) as other, FakeNvml(clock=clock), pytest.raises(RuntimeError, match="uninstall that"):
            other.uninstall()


def test_threads_may_ask_at_once(clock: ManualClock) -> None:
    """No answer is lost or mixed up, and a call that hangs holds nobody up."""
    nvml = FakeNvml([FakeGpu(power=50.0 + index) for index in range(4)], clock=clock)
    hang = nvml.hang("nvmlDeviceGetTemperatureV", gpu=0)

    def read(index: int) -> None:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        for _ in range(50):
            pynvml.nvmlDeviceGetPowerUsage(handle)
            pynvml.nvmlDeviceGetUtilizationRates(handle)

    with nvml, Recorder(clock=clock) as recorder:
        stuck = threading.Thread(target=pynvml.nvmlDeviceGetTemperatureV, args=(gpu(), 0), daemon=True)
        stuck.start()
        assert hang.entered.wait(10)
        threads = [threading.Thread(target=read, args=(index,)) for index in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        hang.release()
        stuck.join(10)
    told = {each.of: each.told.values for each in recorder.capture.series if each.call == "nvmlDeviceGetPowerUsage"}
    assert {of: [answer.outputs for answer in answers] for of, answers in told.items()} == {
        f"gpu{index}": [[50_000 + 1000 * index]] for index in range(4)
    }


def test_events_are_noted_each_and_waiting_for_none_is_not(tmp_path: Path, clock: ManualClock) -> None:
    """The same event twice is two events; a wait that ended without one is nothing."""
    xid = {"device": "gpu0", "eventType": 8, "eventData": 79}
    answers = [
        {"call": "nvmlDeviceGetHandleByIndex_v2", "asked": [[0]], "told": [[0, ["gpu0"]]]},
        {"call": "nvmlDeviceRegisterEvents", "of": "gpu0", "told": [[0, []]]},
        {"call": "nvmlEventSetWait_v2", "told": [[2, [xid]], [4, [xid]], [6, None, 15]]},
    ]
    path = tmp_path / "events.json"
    path.write_text(json.dumps({"format": 1, "origin": "scripted", "seconds": 9, "answers": answers}), encoding="utf-8")
    with load_capture(path, clock=clock), Recorder(clock=clock) as recorder:
        handle, events = gpu(), pynvml.nvmlEventSetCreate()
        pynvml.nvmlDeviceRegisterEvents(handle, 8, events)
        for _ in range(9):
            with contextlib.suppress(pynvml.NVMLError):
                pynvml.nvmlEventSetWait_v2(events, 0)
            clock.advance(1)
        pynvml.nvmlEventSetFree(events)
    told = series(recorder, "nvmlEventSetWait_v2").told
    full = {**xid, "gpuInstanceId": 0, "computeInstanceId": 0}
    assert [(at, answer.code, answer.outputs) for at, answer in told] == [(2, 0, [full]), (4, 0, [full]), (6, 15, None)]


@pytest.mark.skipif(sys.platform == "win32", reason="the C library of the process is not to be had by name")
def test_it_records_a_real_library() -> None:
    """Arguments reach compiled code as ctypes gives them, and what that writes to a struct is noted by field."""

    class Division(ctypes.Structure):
        _fields_ = (("fraction", ctypes.c_double), ("parts", ctypes.c_double * 2))

    with under_pynvml(ctypes.CDLL(None), lambda: None), Recorder(keep_identities=True) as recorder:
        absolute = pynvml._nvmlGetFunctionPointer("abs")
        assert absolute(ctypes.c_int(-7)) == 7
        copy = pynvml._nvmlGetFunctionPointer("memcpy")
        copy.restype = ctypes.c_int
        target, source = Division(), Division(fraction=0.5, parts=(1.5, float("nan")))
        copy(ctypes.byref(target), ctypes.byref(source), ctypes.c_size_t(ctypes.sizeof(Division)))
        assert target.fraction == 0.5
        with pytest.raises(pynvml.NVMLError_FunctionNotFound):
            pynvml._nvmlGetFunctionPointer("nvmlInit")
    assert recorder.capture.origin == "real"
    assert recorder.capture.absent == {"nvmlInit"}
    (answer,) = series(recorder, "abs").told.values
    assert (series(recorder, "abs").asked, answer.code) == ([-7], 7)


def seconds(clock: ManualClock, count: int) -> Iterator[int]:
    """Yield so many seconds, as they pass."""
    for second in range(count):
        if second:
            clock.advance(1)
        yield second


def test_our_source_is_recorded_and_reads_the_same_from_the_capture(tmp_path: Path, clock: ManualClock) -> None:
    """Around `NvidiaSource`, a capture has exactly what it asks: nothing is unknown, and each reading is the same."""
    path = tmp_path / "source.json"
    gpus = [FakeGpu(power=[(0, 100.0), (5, 300.0)], temperature=[(0, 30), (9, 60)]), FakeGpu(energy_counter=False)]

    def readings(rounds: Any) -> list[list[tuple[str, float]]]:
        source = NvidiaSource(gpus="all", clock=clock.monotonic)
        source.open()
        found = [sorted((repr(each.series), each.value) for each in source.read().readings) for _ in rounds()]
        source.close()
        return found

    with FakeNvml(gpus, clock=clock), record(path, keep_identities=True, clock=clock) as recorder:
        recorded = readings(lambda: recorder.rounds(10, sleep=clock.advance))
    with load_capture(path, clock=clock) as nvml:
        replayed = readings(lambda: seconds(clock, 11))
    assert recorded[5]
    assert replayed == recorded
    assert not nvml.unknown


def test_the_script_records_a_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`benchmarks/record_nvml.py` works for a machine that can be had here: a scripted one."""
    scenario, path = tmp_path / "one.toml", tmp_path / "one.json"
    scenario.write_text("[[gpu]]\nutilization = 0.5\n", encoding="utf-8")
    monkeypatch.setenv("OTEL_PYTHON_HWMETRICS_FAKE_NVML", str(scenario))
    main = runpy.run_path(str(SCRIPT))["main"]
    for what in ("all", "source"):
        assert main(["--seconds", "0.1", "--every", "0.1", "--ask", what, "--out", str(path), "--note", "a test"]) == 0
        capture = read_capture(path)
        assert (capture.origin, capture.note, capture.anonymous) == ("scripted", "a test", True)
        assert "slowest calls:" in capsys.readouterr().out
    monkeypatch.delenv("OTEL_PYTHON_HWMETRICS_FAKE_NVML")
    assert main(["--seconds", "0", "--out", str(tmp_path / "none.json")]) == 1
    assert "nothing recorded: NVML Shared Library Not Found" in capsys.readouterr().err


def test_recording_is_quick_enough_to_be_used() -> None:
    """Noting a call costs well below a millisecond, so that a recording shows the machine and not the recorder."""
    with FakeNvml(), Recorder():
        handle = gpu()
        began = time.process_time()
        for _ in range(500):
            pynvml.nvmlDeviceGetUtilizationRates(handle)
        assert (time.process_time() - began) / 500 < 1e-3
