# SPDX-License-Identifier: Apache-2.0
"""Processes beside the training: OpenTelemetry's door stays closed in them, and costs next to nothing; ours opens."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from multiprocessing.process import current_process
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import otel_hwmetrics
from otel_hwmetrics import HardwareMetricsInstrumentor
from otel_hwmetrics.config.kinds import parse_switch
from otel_hwmetrics.instrumentor import OFF

SPAWNED = ["python", "-c", "from multiprocessing.spawn import spawn_main; spawn_main(5, 7)", "--multiprocessing-fork"]
TRACKER = ["python", "-c", "from multiprocessing.resource_tracker import main;main(4)"]
LAUNCHER = ["python", "/usr/bin/torchrun", "--nproc-per-node=2", "train.py"]

PATIENT: dict[str, Any] = {"snapshot_timeout": 20.0, "source_timeout": 10.0}

DOOR = """
import json, sys, threading
import opentelemetry.instrumentation.auto_instrumentation._load, opentelemetry.sdk.resources
from opentelemetry.util._importlib_metadata import entry_points

sys.orig_argv = json.loads(sys.argv[1])
before = set(sys.modules)
for group, name in (
    ("opentelemetry_resource_detector", "hwmetrics"),
    ("opentelemetry_pre_instrument", "hwmetrics_scripted_gpus"),
    ("opentelemetry_instrumentor", "hwmetrics"),
):
    (entry_point,) = entry_points(group=group, name=name)
    loaded = entry_point.load()
    if group == "opentelemetry_resource_detector":
        loaded().detect()
    elif group == "opentelemetry_pre_instrument":
        loaded()
    else:
        assert loaded.configuration is None
        loaded().instrument(skip_dep_check=True)
        loaded().uninstrument()
print(json.dumps([sorted(set(sys.modules) - before), [thread.name for thread in threading.enumerate()]]))
"""

DOORS = {"otel_hwmetrics", "otel_hwmetrics.instrumentor", "otel_hwmetrics.roles"}
DETECTOR = {
    *("otel_hwmetrics.ranks", "otel_hwmetrics.resource"),
    "opentelemetry.semconv._incubating.attributes.host_attributes",
    "opentelemetry.semconv._incubating.attributes.process_attributes",
}


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemoryMetricReader]:
    """The global provider's, in a process that has another command line in each test."""
    made = InMemoryMetricReader()
    provider = MeterProvider([made])
    monkeypatch.setattr("opentelemetry.metrics._internal._METER_PROVIDER", provider)
    yield made
    otel_hwmetrics.uninstrument()
    provider.shutdown()


def names(reader: InMemoryMetricReader) -> set[str]:
    """The metrics that one collection has."""
    data = reader.get_metrics_data()
    scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics] if data else []
    return {metric.name for scope in scopes for metric in scope.metrics}


def threads() -> list[str]:
    """Ours."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("hwmetrics")]


@pytest.mark.parametrize(
    ("argv", "kind"),
    [(SPAWNED, "a process that multiprocessing has spawned"), (LAUNCHER, "a launcher of PyTorch's")],
)
def test_auto_instrumentation_starts_nothing_beside_the_training_and_says_why(
    argv: list[str],
    kind: str,
    reader: InMemoryMetricReader,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One line, which nobody sees who has not asked for DEBUG."""
    monkeypatch.setattr(sys, "orig_argv", argv)
    with caplog.at_level(logging.DEBUG, logger="otel_hwmetrics"):
        HardwareMetricsInstrumentor().instrument(skip_dep_check=True)
    assert threads() == []
    assert names(reader) == set()
    (line,) = (record for record in caplog.records if record.name == "otel_hwmetrics")
    assert line.levelno == logging.DEBUG
    assert kind in line.getMessage()


def test_a_training_in_a_spawned_process_says_so_itself(
    reader: InMemoryMetricReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a rank of `torch.multiprocessing.spawn` does: its call acts, whatever OpenTelemetry's door did before."""
    monkeypatch.setattr(sys, "orig_argv", SPAWNED)
    HardwareMetricsInstrumentor().instrument(skip_dep_check=True)
    with otel_hwmetrics.instrument(sources=["process"], **PATIENT):
        assert "process.cpu.time" in names(reader)
    assert names(reader) == set()


@pytest.mark.parametrize(("argv", "measured"), [(SPAWNED, True), (TRACKER, False), (LAUNCHER, False)])
@pytest.mark.parametrize("place", ["environment", "declared"])
def test_the_user_may_say_that_every_process_is_measured_that_may_train(
    argv: list[str],
    measured: bool,  # noqa: FBT001 - what the process is
    place: str,
    reader: InMemoryMetricReader,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`emit=always` counts for processes that are spawned, and not for those in which nobody trains."""
    monkeypatch.setattr(sys, "orig_argv", argv)
    monkeypatch.setenv("OTEL_PYTHON_HWMETRICS_SOURCES", "process")
    if place == "environment":
        monkeypatch.setenv("OTEL_PYTHON_HWMETRICS_EMIT", "Always")
    options = {"emit": "always"} if place == "declared" else {}
    HardwareMetricsInstrumentor().instrument(skip_dep_check=True, **options, **PATIENT)
    assert ("process.cpu.time" in names(reader)) is measured


def test_the_import_of_the_main_module_starts_nothing(
    reader: InMemoryMetricReader, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Else each worker of a spawned data loader would measure the machine, because the script's first line says so."""
    monkeypatch.setattr(current_process(), "_inheriting", True, raising=False)
    with caplog.at_level(logging.DEBUG, logger="otel_hwmetrics"), otel_hwmetrics.instrument() as handle:
        assert threads() == []
        assert handle.snapshot() is None
        assert names(reader) == set()
    assert "it only imports the main module of its parent" in caplog.text


def alone(environ: dict[str, str]) -> dict[str, str]:
    """An environment in which nobody else measures, and no other option is set."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("COV", "OTEL_"))} | environ


def behind_the_door(argv: list[str], **environ: str) -> tuple[set[str], list[str]]:
    """What a process has loaded, and which threads it has, after auto-instrumentation has loaded all that is ours."""
    ran = subprocess.run(
        [sys.executable, "-c", DOOR, json.dumps(argv)],
        env=alone(environ),
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stderr == ""
    modules, running = json.loads(ran.stdout)
    return set(modules), running


@pytest.mark.parametrize("argv", [SPAWNED, TRACKER, LAUNCHER])
def test_beside_the_training_nothing_is_loaded_but_the_doors(argv: list[str]) -> None:
    """No psutil, no NVML, no table of anything, and no thread; six small modules of ours in all."""
    modules, running = behind_the_door(argv)
    assert modules == DOORS | DETECTOR | {"otel_hwmetrics.testing"}
    assert running == ["MainThread"]


def test_switched_off_in_the_environment_nothing_is_loaded_either() -> None:
    """In the training itself."""
    modules, running = behind_the_door(["python", "train.py"], OTEL_PYTHON_HWMETRICS_ENABLED="off")
    assert modules == DOORS | DETECTOR | {"otel_hwmetrics.testing"}
    assert running == ["MainThread"]


@pytest.mark.parametrize("call", ["hw.instrument()", "hw.instrument(enabled=False, sample_interval='fast')"])
def test_switched_off_our_own_door_loads_nothing_either(call: str) -> None:
    """Off costs nothing, also where the call stays in the script."""
    code = f"import sys, otel_hwmetrics as hw\nassert {call}.snapshot() is None\nprint('otel_hwmetrics.pipeline' in sys.modules)"
    environ = alone({} if "enabled" in call else {"OTEL_PYTHON_HWMETRICS_ENABLED": "false"})
    ran = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert (ran.stdout, ran.stderr) == ("False\n", "")


def test_what_runs_can_be_switched_off(reader: InMemoryMetricReader) -> None:
    """By a second call."""
    otel_hwmetrics.instrument(sources=["process"], **PATIENT)
    assert "process.cpu.time" in names(reader)
    otel_hwmetrics.instrument(enabled=False)
    assert names(reader) == set()


def test_the_words_that_switch_off_are_those_of_the_options() -> None:
    """The door reads them without the table; both say the same."""
    assert [parse_switch(word) for word in OFF] == [False] * len(OFF)
    assert parse_switch(OFF[0].upper()) is False
