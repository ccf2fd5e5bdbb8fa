# SPDX-License-Identifier: Apache-2.0
"""The demo: what `make demo` shows is what a user is promised."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
DEMO = [sys.executable, "examples/demo.py"]
EPOCH_OF = {"gpu_hot": ("GPU 1", 2), "gpu_memory_pressure": ("GPU 0", 3)}
"""Which GPU of `gpus.toml` has which trouble, in which epoch."""


class Shown(NamedTuple):
    """One run of the demo: exit code, summary, and what was on the screen meanwhile."""

    code: int
    summary: dict[str, Any]
    screen: str


@pytest.fixture(scope="module")
def shown() -> Shown:
    """One run for all tests of this file."""
    done = subprocess.run(
        [*DEMO, "--json", "--scripted"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout, done.stderr
    return Shown(done.returncode, json.loads(done.stdout), done.stderr)


def test_it_says_that_all_arrived(shown: Shown) -> None:
    """The exit code is 0, and nothing is missing."""
    assert shown.summary["problems"] == []
    assert (shown.code, shown.summary["ok"], shown.summary["exit_code"]) == (0, True, 0)


def test_it_says_that_the_gpus_are_scripted(shown: Shown) -> None:
    """Scripted GPUs are called that, first on the screen and in the summary."""
    assert shown.screen.startswith("Scripted GPUs from examples/gpus.toml")
    assert shown.summary["gpus"] == "scripted"


def test_the_screen_has_no_warning_and_no_traceback(shown: Shown) -> None:
    """Of what was not asked for there is only the word that NVML is scripted, and the alerts as lines of the log."""
    after = shown.screen.split("opentelemetry-instrument python examples/train.py\n", 1)[1]
    lines = [line for line in after.splitlines() if line and not line.startswith(("epoch ", "accuracy "))]
    assert [word for line in lines for word in line.split() if word.startswith("alert=")] == [
        f"alert={rule}" for rule in EPOCH_OF
    ]
    unasked = [line for line in lines if " alert=" not in line]
    assert unasked == ["NVML is scripted: 2 GPU(s) from examples/gpus.toml are not real"]


def test_the_training_learns(shown: Shown) -> None:
    """The loss goes down from epoch to epoch, and it is on the spans of the user's own making."""
    losses = [span["attributes"]["loss"] for span in shown.summary["spans"] if span["name"] == "epoch"]
    assert len(losses) == 3
    assert losses[0] > losses[1] > losses[2]


def test_metrics_of_host_process_and_gpus_arrive(shown: Shown) -> None:
    """Each family is there with its unit, and each GPU under its index."""
    metrics = {metric["name"]: metric for metric in shown.summary["metrics"]}
    units = {
        "system.cpu.utilization": "1",
        "system.memory.usage": "By",
        "system.disk.io": "By",
        "hwmetrics.system.network.io.rate": "By/s",
        "process.cpu.time": "s",
        "process.memory.usage": "By",
        "hw.gpu.utilization": "1",
        "hw.gpu.memory.usage": "By",
        "hw.power": "W",
        "hw.energy": "J",
        "hw.temperature": "Cel",
        "hwmetrics.alert.transitions": "{transition}",
    }
    assert {name: metrics[name]["unit"] for name in units} == units
    for name in (name for name in units if name.startswith("hw.")):
        assert {point["attributes"]["hwmetrics.gpu.index"] for point in metrics[name]["points"]} == {0, 1}


def test_the_highest_values_tell_of_the_troubles(shown: Shown) -> None:
    """What happened between the first and the last export is seen: GPU 1 was hot, GPU 0 was full."""
    metrics = {metric["name"]: metric for metric in shown.summary["metrics"]}

    def highest(name: str, index: int) -> float:
        points = metrics[name]["points"]
        return max(float(p["highest"]) for p in points if p["attributes"]["hwmetrics.gpu.index"] == index)

    assert highest("hw.temperature", 1) > 75 > highest("hw.temperature", 0)
    assert highest("hw.gpu.memory.usage", 0) > 75e9 > highest("hw.gpu.memory.usage", 1)


@pytest.mark.parametrize("rule", EPOCH_OF)
def test_an_alert_is_on_the_epoch_that_its_cause_was_in(shown: Shown, rule: str) -> None:
    """It fires and is resolved on that epoch's span, for the GPU that had the trouble."""
    device, epoch = EPOCH_OF[rule]
    alerts = [alert for alert in shown.summary["alerts"] if alert["attributes"]["hwmetrics.alert.rule"] == rule]
    assert [alert["attributes"]["hwmetrics.alert.state"] for alert in alerts] == ["firing", "resolved"]
    for alert in alerts:
        assert alert["device"] == device
        assert (alert["span"]["name"], alert["span"]["attributes"]["epoch"]) == ("epoch", epoch)


def test_every_alert_happened_while_its_span_was_open(shown: Shown) -> None:
    """No event lies outside of the time of the span that it is on."""
    origin = min(span["start"] for span in shown.summary["spans"])
    for alert in shown.summary["alerts"]:
        start, end = ((alert["span"][key] - origin) / 1e9 for key in ("start", "end"))
        assert start <= alert["seconds"] <= end


def test_every_alert_is_a_log_event_in_the_same_span(shown: Shown) -> None:
    """Span events and log events are the same, with the same attributes and the same ids."""
    on_spans = [(a["attributes"], a["span"]["trace_id"], a["span"]["span_id"]) for a in shown.summary["alerts"]]
    in_logs = [(log["attributes"], log["trace_id"], log["span_id"]) for log in shown.summary["logs"]]
    assert on_spans == in_logs


def test_each_span_says_what_the_hardware_did(shown: Shown) -> None:
    """Epochs end without our doing: their sums are those of some samples before, and add up to less than the whole."""
    energy = [span["attributes"].get("hwmetrics.summary.gpu.energy", 0.0) for span in shown.summary["spans"]]
    seconds = [(span["end"] - span["start"]) / 1e9 for span in shown.summary["spans"]]
    named = {span["name"]: at for at, span in enumerate(shown.summary["spans"])}
    whole, epochs = energy[named["train"]], [at for at, s in enumerate(shown.summary["spans"]) if s["name"] == "epoch"]
    assert all(0 < energy[at] < 2 * 700 * seconds[at] for at in epochs)
    assert sum(energy[at] for at in epochs) < whole


def test_ctrl_c_leaves_no_process() -> None:
    """Interrupted in the middle of the training, it ends at once, says so, and the training has ended, too."""
    with subprocess.Popen(
        DEMO,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if line.startswith("epoch 1/3"):
                break
        children = psutil.Process(demo.pid).children(recursive=True)
        assert any("examples/train.py" in child.cmdline() for child in children)
        demo.send_signal(signal.SIGINT)
        started = time.monotonic()
        rest = demo.stdout.read()
        assert demo.wait(20) == 130
    assert time.monotonic() - started < 10
    # A slow machine may have the training go on until it is interrupted: it speaks of its epochs, and of alerts.
    assert [line for line in rest.splitlines() if line and not line.startswith("epoch ") and " alert=" not in line] == [
        "Interrupted; nothing is left running."
    ]
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
