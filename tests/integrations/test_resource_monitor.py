# SPDX-License-Identifier: Apache-2.0
"""`ResourceMonitorCallback` without Lightning: what it takes, starts, shows and calls back, and what it costs switched off."""

from __future__ import annotations

import copy
import inspect
import io
import logging
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import otel_hwmetrics as hw
from alarms import alert
from otel_hwmetrics.alerts.rule import State
from otel_hwmetrics.catalog import gpu, pressure, process, system, tree
from otel_hwmetrics.integrations import resource_beside, resource_console, resource_monitor, resource_watch
from otel_hwmetrics.integrations.resource_figures import Figures
from otel_hwmetrics.integrations.resource_monitor import ResourceMonitorCallback
from otel_hwmetrics.integrations.resource_settings import Settings
from otel_hwmetrics.model import Metric, Snapshot
from otel_hwmetrics.sinks.hooks import HOOKS
from otel_hwmetrics.sinks.tracker import TRACKER
from otel_hwmetrics.testing import FakeGpu, FakeNvml

from .resource_readings import MB, gpu_readings, host_readings, of_gpu, snapshot

DEFAULTS = {
    "enabled": True,
    "log_interval": 10,
    "gpu_monitoring": True,
    "cpu_monitoring": True,
    "io_monitoring": True,
    "alert_gpu_underutilization": True,
    "alert_memory_pressure": True,
    "alert_io_bottleneck": True,
    "gpu_util_threshold": 0.5,
    "memory_threshold": 0.9,
    "io_wait_threshold": 0.3,
    "export_timeseries": True,
    "timeseries_path": "resource_logs",
    "on_alert": None,
}
BLOCK = """[Resources] Batch 50:
  GPU 0: 87.3% util, 8192/16384 MB (50%), 72°C
  CPU: 45.2% (process: 180.5%)
  Memory: 8192/16384 MB available (50%)
  I/O: Read 75.2 MB/s, Write 6.3 MB/s, Wait 5.3%
"""
ALERTS = """
[Resources] ⚠️ ALERTS:
  - GPU underutilized: 42.3% (threshold: 50%)
  - High memory usage: 92.1% (threshold: 90%)
"""


class Trainer(SimpleNamespace):
    """As much of Lightning's as the callback asks for."""

    def __init__(self, *, is_global_zero: bool = True) -> None:
        super().__init__(is_global_zero=is_global_zero, current_epoch=0, callbacks=[])

    def fit(self, callback: Any, batches: int, before: Callable[[int], object] = lambda _: None) -> None:
        """Go through so many batches."""
        self.callbacks = [callback]
        callback.setup(self, None, "fit")
        for batch in range(batches):
            before(batch)
            callback.on_train_batch_end(self, None, None, None, batch)
        callback.teardown(self, None, "fit")


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Wait for what is yet to be shown for as long as this machine may take; nothing fires on in the next test."""
    monkeypatch.setattr(resource_watch, "PATIENCE", 60.0)
    yield
    HOOKS.begin()


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[Snapshot | None]:
    """What each look at the machine finds, the last one anew each time; an instrumentation seems to run."""
    found: list[Snapshot | None] = []

    def look() -> Snapshot | None:
        last = found.pop(0) if len(found) > 1 else found[0]
        return None if last is None else Snapshot(last, last.window, last.time_unix_nano)

    monkeypatch.setattr(hw, "snapshot", look)
    monkeypatch.setattr(TRACKER, "on", True)
    return found


def test_arguments_and_defaults_are_those_that_users_know() -> None:
    """In their order, so that configurations and positional calls go on to work; on_alert has come last."""
    found = {name: each.default for name, each in inspect.signature(ResourceMonitorCallback).parameters.items()}
    assert list(found.items()) == list(DEFAULTS.items())


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"log_interval": 0}, "log_interval is a number of batches, 1 or more, not 0"),
        ({"gpu_util_threshold": 50}, "gpu_util_threshold is a share, 0 to 1, not 50"),
        ({"memory_threshold": -0.1}, "memory_threshold is a share, 0 to 1, not -0.1"),
        ({"io_wait_threshold": float("nan")}, "io_wait_threshold is a share, 0 to 1, not nan"),
    ],
)
def test_a_wrong_argument_is_refused_where_it_is_given(wrong: dict[str, Any], why: str) -> None:
    """When the callback is made, and not in the middle of a run."""
    with pytest.raises(ValueError, match=why):
        ResourceMonitorCallback(**wrong)
    with pytest.raises(TypeError, match="on_alert takes something to call"):
        ResourceMonitorCallback(on_alert="print")  # type: ignore[arg-type]


def test_the_block_is_exact(looks: list[Snapshot | None], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Every interval's batch, from the first; nothing of other series of the same metrics."""
    looks.append(snapshot(gpu_readings(0), host_readings()))
    Trainer().fit(ResourceMonitorCallback(log_interval=50, timeseries_path=str(tmp_path)), 100)
    assert capsys.readouterr().out == BLOCK.replace("50:", "0:") + BLOCK


def test_what_fires_is_told_under_the_block_until_it_is_resolved(
    looks: list[Snapshot | None], capsys: pytest.CaptureFixture[str]
) -> None:
    """In the words of training callbacks, after an empty line; and no head where nothing fires."""
    looks.append(snapshot(gpu_readings(0), host_readings()))
    heard = {
        50: [share("gpu_underused", 0.423, 0.5), share("host_memory_pressure", 0.921, 0.9, device="")],
        100: [
            share("gpu_underused", 0.6, 0.5, State.RESOLVED),
            share("host_memory_pressure", 0.5, 0.9, State.RESOLVED, ""),
        ],
    }

    def before(batch: int) -> None:
        for each in heard.get(batch, []):
            HOOKS.on_alert(each)

    Trainer().fit(ResourceMonitorCallback(log_interval=50, export_timeseries=False), 101, before)
    blocks = [BLOCK.replace("50:", f"{batch}:") for batch in (0, 50, 100)]
    assert capsys.readouterr().out == blocks[0] + blocks[1] + ALERTS + blocks[2]


def test_what_fires_already_when_the_run_begins_is_told_as_well(
    looks: list[Snapshot | None], capsys: pytest.CaptureFixture[str]
) -> None:
    """But for what is switched off; and what is over is not."""
    looks.append(snapshot(gpu_readings(0), host_readings()))
    for told in (
        share("gpu_underused", 0.423, 0.5),
        share("io_bottleneck", 0.5, 0.3, device=""),
        share("gpu_memory_pressure", 0.95, 0.9),
        share("gpu_memory_pressure", 0.5, 0.9, State.RESOLVED),
        share("host_memory_pressure", 0.921, 0.9, device=""),
    ):
        HOOKS.on_alert(told)
    callback = ResourceMonitorCallback(log_interval=50, export_timeseries=False, alert_io_bottleneck=False)
    Trainer().fit(callback, 1)
    assert capsys.readouterr().out == BLOCK.replace("50:", "0:") + ALERTS


def test_a_sample_is_shown_and_written_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Batches that are faster than samples have nothing formatted, and the training's thread does none of it ever."""
    found = [snapshot(host_readings(), end=end) for end in (1.0, 2.0)]
    threads: list[threading.Thread] = []
    of = Figures.of

    def counted(self: Figures, told: Snapshot) -> dict[str, float]:
        threads.append(threading.current_thread())
        return of(self, told)

    monkeypatch.setattr(Figures, "of", counted)
    monkeypatch.setattr(hw, "snapshot", lambda: found[0])
    monkeypatch.setattr(TRACKER, "on", True)
    callback = ResourceMonitorCallback(log_interval=1, timeseries_path=str(tmp_path))
    Trainer().fit(callback, 400, lambda batch: found.pop(0) if batch == 300 else None)
    shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith("[Resources]")]
    assert shown == ["[Resources] Batch 0:", "[Resources] Batch 300:"]
    rows = (tmp_path / "epoch_0.csv").read_text().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == ["0", "300"]
    assert len(threads) == 2
    assert threading.current_thread() not in threads


def test_all_is_shown_and_written_when_the_run_has_ended(
    looks: list[Snapshot | None], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """In its order, and no thread of it is left."""
    looks.append(snapshot(gpu_readings(0), host_readings()))
    Trainer().fit(ResourceMonitorCallback(log_interval=1, timeseries_path=str(tmp_path)), 90)
    out = capsys.readouterr().out.splitlines()
    assert [line for line in out if "Batch" in line] == [f"[Resources] Batch {batch}:" for batch in range(90)]
    rows = (tmp_path / "epoch_0.csv").read_text().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == [str(batch) for batch in range(90)]
    assert not {"hwmetrics-resources", "hwmetrics-timeseries"} & {each.name for each in threading.enumerate()}


def test_a_disk_that_hangs_holds_up_neither_the_training_nor_the_console(
    looks: list[Snapshot | None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    """As an NFS server that is gone; the end of the run waits for it a little while, and says what is not written."""
    looks.append(snapshot(host_readings()))
    free, hung = threading.Event(), []

    def hang(*_: object, **__: object) -> None:
        hung.append(threading.current_thread())
        free.wait(20)

    def shown_by(batch: int) -> None:
        if batch == 5:
            monkeypatch.setattr(resource_watch, "PATIENCE", 0.05)
            still, out = threading.Event(), ""
            for _ in range(3000):
                out += capsys.readouterr().out
                if "Batch 4:" in out and hung:
                    return
                still.wait(0.01)
            raise AssertionError(out)

    monkeypatch.setattr(os, "makedirs", hang)
    Trainer().fit(ResourceMonitorCallback(log_interval=1, timeseries_path=str(tmp_path / "logs")), 6, shown_by)
    assert not free.is_set()
    said = [
        record.getMessage()
        for record in caplog.records
        if "looks at the machine are not yet written" in record.getMessage()
    ]
    free.set()
    assert len(said) == 1
    assert str(tmp_path / "logs") in said[0]
    assert hung
    assert threading.current_thread() not in hung
    for each in hung:
        each.join(60)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_shows_and_writes_nothing(
    looks: list[Snapshot | None],
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    """Nor does it wait for threads that it has not got, or say that they are missing."""
    looks.append(snapshot(host_readings()))
    callback = ResourceMonitorCallback(log_interval=1, timeseries_path=str(tmp_path))

    def fork(batch: int) -> None:
        if batch == 1:
            child = os.fork()
            if child == 0:
                signal.alarm(30)  # ends it, should it hang
                callback.on_train_batch_end(Trainer(), None, None, None, 1)
                callback.teardown(Trainer(), None, "fit")
                os._exit(len(caplog.records))
            assert os.waitpid(child, 0)[1] == 0

    Trainer().fit(callback, 2, fork)
    shown = [line for line in capfd.readouterr().out.splitlines() if line.startswith("[Resources]")]
    assert shown == ["[Resources] Batch 0:", "[Resources] Batch 1:"]
    assert len((tmp_path / "epoch_0.csv").read_text().splitlines()) == 3


def test_what_there_is_no_room_for_is_left_out_and_told(
    looks: list[Snapshot | None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No more waits than fits, and the training goes on."""
    looks.append(snapshot(host_readings()))
    monkeypatch.setattr(resource_beside, "WAITING", 3)
    free = threading.Event()
    monkeypatch.setattr(resource_watch, "say", lambda _: free.wait(60))
    callback = ResourceMonitorCallback(log_interval=1, export_timeseries=False)
    Trainer().fit(callback, 20, lambda batch: free.set() if batch == 19 else None)
    [told] = [
        record.getMessage()
        for record in caplog.records
        if "looks at the machine are not yet shown" in record.getMessage()
    ]
    assert 1 <= int(told.split()[0]) <= 17


def share(name: str, value: float, threshold: float, state: State = State.FIRING, device: str = "GPU-a") -> hw.Alert:
    """An alert on a share."""
    told = alert(state, value, name=name, device=device)
    condition = SimpleNamespace(unit=SimpleNamespace(value="1"))
    rule = SimpleNamespace(name=name, threshold=threshold, condition=condition, severity=told.severity)
    transition = SimpleNamespace(
        rule=rule, value=value, state=state, subject=told.transition.subject, message=f"{name} is the case."
    )
    return hw.Alert(transition)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("told", "several", "text"),
    [
        (share("gpu_underused", 0.423, 0.5), True, "GPU 0 underutilized: 42.3% (threshold: 50%)"),
        (share("gpu_memory_pressure", 0.951, 0.9), False, "High GPU memory usage: 95.1% (threshold: 90%)"),
        (share("gpu_memory_pressure", 0.951, 0.9), True, "High GPU 0 memory usage: 95.1% (threshold: 90%)"),
        (share("io_bottleneck", 0.351, 0.3, device=""), True, "I/O bottleneck: 35.1% wait time (threshold: 30%)"),
        (alert(value=85.0), False, "GPU temperature high: 85°C"),
        (alert(value=92.5, name="gpu_very_hot"), True, "GPU 0 temperature high: 92.5°C"),
        (share("worker_died", 1.0, 0.0, device=""), False, "worker_died is the case."),
        (alert(value=None, blind=True), False, "GPU 0: no reading for 12.3 s; gpu_hot fires on."),
    ],
)
def test_an_alert_is_told_in_the_words_of_training_callbacks(*, told: hw.Alert, several: bool, text: str) -> None:
    """With its device where there are several, and with its own message where they have no words for it."""
    assert resource_console.said(told, several=several) == text


@pytest.mark.parametrize(
    ("settings", "lines"),
    [
        ({"gpu_monitoring": False}, ["CPU", "Memory", "I/O"]),
        ({"cpu_monitoring": False}, ["GPU 0", "GPU 1", "I/O"]),
        ({"io_monitoring": False}, ["GPU 0", "GPU 1", "CPU", "Memory"]),
    ],
)
def test_switches_leave_out_lines_and_columns(
    settings: dict[str, Any],
    lines: list[str],
    looks: list[Snapshot | None],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """A GPU has a line each."""
    looks.append(snapshot(gpu_readings(0), gpu_readings(1), host_readings()))
    Trainer().fit(ResourceMonitorCallback(timeseries_path=str(tmp_path), **settings), 1)
    shown = capsys.readouterr().out.splitlines()[1:]
    assert [line.strip().split(":")[0] for line in shown] == lines
    columns = (tmp_path / "epoch_0.csv").read_text().splitlines()[0].split(",")
    kinds = {"gpu": "GPU 0", "cpu": "CPU", "memory": "Memory", "io": "I/O", "disk": "I/O"}
    assert {kinds[name.split("_")[0]] for name in columns[2:]} == {line for line in lines if line != "GPU 1"}


@pytest.mark.parametrize(
    ("gone", "line"),
    [
        ({gpu.UTILIZATION}, "  GPU 0: 8192/16384 MB (50%), 72°C"),
        ({gpu.TEMPERATURE}, "  GPU 0: 87.3% util, 8192/16384 MB (50%)"),
        ({gpu.MEMORY_LIMIT}, "  GPU 0: 87.3% util, (50%), 72°C"),
        ({process.CPU_LIMIT}, "  CPU: 45.2%"),
        ({system.CPU_UTILIZATION}, "  CPU: process: 180.5%"),
        ({system.MEMORY_AVAILABLE}, "  Memory: 50%"),
        ({system.MEMORY_UTILIZATION}, "  Memory: 8192/16384 MB available"),
        ({tree.DISK_IO_RATE}, "  I/O: Read 1.0 MB/s, Write 1.0 MB/s, Wait 5.3%"),
        ({tree.DISK_IO_RATE, process.DISK_IO_RATE}, "  I/O: Wait 5.3%"),
        ({pressure.STALL_SHARE}, "  I/O: Read 75.2 MB/s, Write 6.3 MB/s, Wait 4.8%"),
    ],
)
def test_what_cannot_be_read_is_left_out_of_its_line(
    gone: set[Metric], line: str, looks: list[Snapshot | None], capsys: pytest.CaptureFixture[str]
) -> None:
    """And is never a 0; where something else tells it, that does."""
    parts = [each for part in (gpu_readings(0), host_readings()) for each in part if each[0] not in gone]
    looks.append(snapshot(iter(parts)))
    Trainer().fit(ResourceMonitorCallback(export_timeseries=False), 1)
    assert line in capsys.readouterr().out.splitlines()


def test_nothing_is_shown_where_nothing_is_known_yet(
    looks: list[Snapshot | None], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Before the first sample there is neither a block nor a row; without a GPU no line of one."""
    looks += [None, snapshot(host_readings())]
    Trainer().fit(ResourceMonitorCallback(log_interval=1, timeseries_path=str(tmp_path)), 2)
    out = capsys.readouterr().out
    assert out.startswith("[Resources] Batch 1:\n  CPU")
    assert len((tmp_path / "epoch_0.csv").read_text().splitlines()) == 2


def test_a_part_of_a_gpu_is_no_gpu(looks: list[Snapshot | None], capsys: pytest.CaptureFixture[str]) -> None:
    """A MIG instance has the number of its GPU, whose line is not that of the instance."""
    part = of_gpu(0, **{gpu.HW_NAME: "GPU 0 MIG 1/0", gpu.HW_PARENT: "GPU-0"})
    looks.append(snapshot(gpu_readings(0), iter([(gpu.MEMORY_USAGE, part, 99.0 * MB)])))
    Trainer().fit(ResourceMonitorCallback(export_timeseries=False), 1)
    assert capsys.readouterr().out == "\n".join(BLOCK.replace("50:", "0:").splitlines()[:2]) + "\n"


def test_gpus_of_two_vendors_are_told_apart(looks: list[Snapshot | None], capsys: pytest.CaptureFixture[str]) -> None:
    """Both have a number 0: NVIDIA's keeps it, and alerts have the numbers of the lines."""
    more = {gpu.HW_ID: "0000:03:00.0", gpu.HW_VENDOR: "AMD"}
    other = [
        (metric, {**told, **more, **({gpu.HW_PARENT: more[gpu.HW_ID]} if gpu.HW_PARENT in told else {})}, value)
        for metric, told, value in gpu_readings(0, utilization=0.25)
    ]
    looks.append(snapshot(iter(other), gpu_readings(0), gpu_readings(1)))
    HOOKS.on_alert(share("gpu_underused", 0.25, 0.5, device="0000:03:00.0"))
    Trainer().fit(ResourceMonitorCallback(export_timeseries=False), 1)
    rest = "8192/16384 MB (50%), 72°C"
    assert capsys.readouterr().out.splitlines() == [
        "[Resources] Batch 0:",
        *(f"  GPU {number}: {share}% util, {rest}" for number, share in ((0, 87.3), (1, 87.3), (2, "25.0"))),
        "",
        "[Resources] ⚠️ ALERTS:",
        "  - GPU 2 underutilized: 25.0% (threshold: 50%)",
    ]


def test_only_the_first_process_of_a_job_shows_and_writes(
    looks: list[Snapshot | None], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Global rank 0, as Lightning's own loggers and bars."""
    looks.append(snapshot(host_readings()))
    Trainer(is_global_zero=False).fit(ResourceMonitorCallback(timeseries_path=str(tmp_path / "no")), 20)
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    ("stream", "shown"),
    [
        (io.TextIOWrapper(io.BytesIO(), encoding="ascii"), "[Resources] ?? ALERTS: 72?C\n"),
        (io.StringIO(), "[Resources] ⚠️ ALERTS: 72°C\n"),
    ],
)
def test_any_output_takes_the_block(stream: Any, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that knows ASCII alone shows a ? for what it cannot."""
    monkeypatch.setattr(sys, "stdout", stream)
    resource_console.say("[Resources] ⚠️ ALERTS: 72°C")
    stream.seek(0)
    assert stream.read() == shown


def test_no_fork_comes_in_the_middle_of_printing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child would print the line again, or wait for the lock of the output for ever."""
    free: list[bool] = []

    class Stream(io.StringIO):
        def flush(self) -> None:
            lock = resource_console._printing.lock
            other = threading.Thread(target=lambda: free.append(lock.acquire(blocking=False)))
            other.start()
            other.join()

    monkeypatch.setattr(sys, "stdout", Stream())
    resource_console.say("[Resources]")
    assert free == [False]


def test_a_closed_or_full_output_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closed, gone, broken, or a pipe that nobody reads: nothing is raised, and nobody waits."""
    closed = io.StringIO()
    closed.close()
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with open(writing, "w") as full, open(reading) as _:
        while True:
            try:
                os.write(writing, b"x" * 4096)
            except BlockingIOError:
                break
        os.set_blocking(writing, True)
        for stream in (closed, None, full, SimpleNamespace()):
            monkeypatch.setattr(sys, "stdout", stream)
            resource_console.say("[Resources]")


def test_it_starts_what_is_missing_and_ends_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its thresholds and switches; after the run nothing of it is left."""
    given: list[dict[str, Any]] = []
    real = hw.instrument

    def instrument(**options: Any) -> hw.Instrumentation:
        given.append(options)
        return real(**options)

    monkeypatch.setattr(hw, "instrument", instrument)
    monkeypatch.setenv("OTEL_PYTHON_HWMETRICS_FLIGHT_RECORDER", "0")
    callback = ResourceMonitorCallback(
        gpu_util_threshold=0.99, alert_io_bottleneck=False, log_interval=1, export_timeseries=False
    )
    with FakeNvml([FakeGpu(utilization=0.4)]):
        trainer = Trainer()
        trainer.fit(callback, 1, lambda _: wait_for_a_gpu())
    assert "GPU 0: 40.0% util" in capsys.readouterr().out
    assert given == [{"gpu_util_threshold": 0.99, "rules": {"io_bottleneck": {"enabled": False}}}]
    assert hw.snapshot() is None
    assert not TRACKER.on
    assert not HOOKS._hooks


def test_what_fired_for_an_instrumentation_that_has_ended_is_forgotten() -> None:
    """Another one begins with nothing."""
    HOOKS.on_alert(share("gpu_hot", 0.5, 0.3))
    with hw.instrument(sources=("system",), flight_recorder=0):
        assert "gpu_hot" not in {each.name for each in HOOKS.firing}


def wait_for_a_gpu() -> None:
    """Until the machine was looked at, and the driver has answered."""
    still = threading.Event()
    for _ in range(3000):
        found = hw.snapshot()
        if found is not None and found.of(gpu.UTILIZATION):
            return
        still.wait(0.01)
    raise AssertionError("no GPU was read")


def test_what_runs_already_is_left_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    """Neither changed nor ended; where the callback asked for something else, that is said once."""
    with hw.instrument(sources=("system",), flight_recorder=0) as running, caplog.at_level(logging.WARNING):
        before = hw.instrument()._pipeline
        Trainer().fit(ResourceMonitorCallback(export_timeseries=False), 20)
        assert not caplog.records
        Trainer().fit(ResourceMonitorCallback(memory_threshold=0.5, export_timeseries=False), 20)
        assert hw.instrument()._pipeline is before is running._pipeline
        assert before is not None
        assert before.running
    [record] = caplog.records
    assert "that one's thresholds hold" in record.getMessage()


@pytest.mark.parametrize(
    ("settings", "off", "on"),
    [
        ({}, set(), {"gpu_underused", "io_bottleneck", "host_memory_pressure", "gpu_hot"}),
        ({"alert_gpu_underutilization": False}, {"gpu_underused", "gpu_idle"}, {"gpu_hot", "gpu_memory_pressure"}),
        (
            {"alert_memory_pressure": False},
            {"gpu_memory_pressure", "gpu_oom_ahead", "host_memory_pressure", "host_memory_stalled", "host_oom_ahead"},
            {"gpu_hot"},
        ),
        ({"alert_io_bottleneck": False}, {"io_bottleneck"}, {"gpu_hot"}),
        ({"io_monitoring": False}, {"io_bottleneck"}, {"gpu_hot"}),
        ({"gpu_monitoring": False}, {"gpu_hot", "gpu_underused", "gpu_lost"}, {"host_memory_pressure"}),
        ({"cpu_monitoring": False}, {"cpu_saturated", "host_memory_pressure"}, {"gpu_hot", "gpu_memory_pressure"}),
    ],
)
def test_a_switch_is_of_its_family(settings: dict[str, Any], off: set[str], on: set[str]) -> None:
    """What is switched off is neither judged nor shown, and all else is."""
    made = Settings(**settings)
    assert {rule for rule in off | on if made.hides(rule)} == off
    assert off <= set(made.options.get("rules", {}))
    assert not on & set(made.options.get("rules", {}))


def test_callbacks_of_its_own_hear_what_is_not_switched_off(looks: list[Snapshot | None]) -> None:
    """From the run's beginning to its end."""
    looks.append(None)
    heard: queue.SimpleQueue[str] = queue.SimpleQueue()
    callback = ResourceMonitorCallback(alert_io_bottleneck=False, on_alert=lambda told: heard.put(told.name))

    def before(_: int) -> None:
        for name in ("io_bottleneck", "gpu_hot"):
            HOOKS.on_alert(share(name, 0.5, 0.3))
        assert heard.get(timeout=30) == "gpu_hot"

    Trainer().fit(callback, 1, before)
    HOOKS.on_alert(share("gpu_very_hot", 0.5, 0.3))
    assert heard.empty()
    assert not HOOKS._hooks


def test_switched_off_a_hook_is_one_look_at_an_attribute(monkeypatch: pytest.MonkeyPatch) -> None:
    """It calls nothing, starts nothing and makes no folder."""
    monkeypatch.setattr(resource_monitor, "Watch", None)
    callback = ResourceMonitorCallback(enabled=False)
    Trainer().fit(callback, 100)
    assert callback._watch is None
    looked_at = []

    class Counting(ResourceMonitorCallback):
        def __getattribute__(self, name: str) -> object:
            looked_at.append(name)
            return super().__getattribute__(name)

    counting = Counting(enabled=False)
    looked_at.clear()
    counting.on_train_batch_end(Trainer(), None, None, None, 0)
    assert looked_at == ["on_train_batch_end", "_watch"]


def test_a_copy_watches_nothing_yet(looks: list[Snapshot | None]) -> None:
    """As launchers and tuners make them; a pickle is made likewise."""
    looks.append(None)
    callback = ResourceMonitorCallback(log_interval=7)
    trainer = Trainer()
    trainer.callbacks = [callback]
    callback.setup(trainer, None, "fit")
    copied = copy.deepcopy(callback)
    assert callback._watch is not None
    assert copied._watch is None
    assert copied.settings == callback.settings
    callback.teardown(trainer, None, "fit")


def test_an_exception_ends_it_as_well(looks: list[Snapshot | None]) -> None:
    """Ctrl-C, too: what it started has ended, and it hears no more."""
    looks.append(None)
    callback = ResourceMonitorCallback()
    trainer = Trainer()
    trainer.callbacks = [callback]
    callback.setup(trainer, None, "fit")
    callback.on_exception(trainer, None, KeyboardInterrupt())
    assert callback._watch is None
    assert not HOOKS._hooks
