# SPDX-License-Identifier: Apache-2.0
"""The resource detector, through the SDK as users name it and by hand."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest
from opentelemetry.sdk.resources import Resource, get_aggregated_resources

from otel_hwmetrics.resource import HardwareResourceDetector

CODE = """
import json, os, sys
from opentelemetry.sdk.resources import Resource
attributes = dict(Resource.create().attributes)
heavy = [name for name in ("pynvml", "torch", "otel_hwmetrics.pipeline") if name in sys.modules]
print(json.dumps({"pid": os.getpid(), "attributes": attributes, "heavy": heavy}))
"""

FORK = """
import json, os
from otel_hwmetrics.resource import HardwareResourceDetector
detector = HardwareResourceDetector()
of_parent = detector.detect().attributes["process.pid"]
reader, writer = os.pipe()
child = os.fork()
if child == 0:
    os.write(writer, str(detector.detect().attributes["process.pid"]).encode())
    os._exit(0)
os.waitpid(child, 0)
print(json.dumps([of_parent, int(os.read(reader, 20)), child]))
"""


def test_the_sdk_finds_it_by_its_entry_point() -> None:
    """`OTEL_EXPERIMENTAL_RESOURCE_DETECTORS=hwmetrics` puts host, process and rank on every Resource of the process."""
    environ = {name: value for name, value in os.environ.items() if "RANK" not in name and "JOB" not in name}
    environ |= {"OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "hwmetrics", "RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "8"}
    environ |= {"OTEL_RESOURCE_ATTRIBUTES": "team=vision", "TORCHELASTIC_RUN_ID": "exp-7"}
    ran = subprocess.run([sys.executable, "-c", CODE], env=environ, capture_output=True, text=True, check=True)
    told = json.loads(ran.stdout)
    attributes = told["attributes"]
    ours = {name: value for name, value in attributes.items() if name.startswith(("host.", "process.", "hwmetrics."))}
    assert ours == {
        "host.name": socket.gethostname(),
        "process.pid": told["pid"],
        "process.executable.name": os.path.basename(sys.executable),
        "hwmetrics.rank": 3,
        "hwmetrics.local_rank": 1,
        "hwmetrics.world_size": 8,
        "hwmetrics.job.id": "exp-7",
    }
    assert attributes["team"] == "vision"
    assert told["heavy"] == []
    assert ran.stderr == ""


def test_by_hand_it_is_merged_into_a_resource(monkeypatch: pytest.MonkeyPatch) -> None:
    """As its docstring says: what was there stays, what it tells is added."""
    monkeypatch.setenv("RANK", "0")
    attributes = Resource({"service.name": "train"}).merge(HardwareResourceDetector().detect()).attributes
    assert attributes["service.name"] == "train"
    assert attributes["host.name"] == socket.gethostname()
    assert attributes["process.pid"] == os.getpid()
    assert attributes["hwmetrics.rank"] == 0


def test_the_sdk_s_aggregation_takes_it() -> None:
    """Given to the SDK as an object, beside others."""
    resource = get_aggregated_resources([HardwareResourceDetector()], Resource({"service.name": "train"}))
    assert {"host.name", "process.pid", "service.name"} <= set(resource.attributes)


def test_it_speaks_of_this_process_alone() -> None:
    """So that the SDK asks a forked child again, and its answer is not the parent's."""
    assert HardwareResourceDetector().is_process_dependent()
    ran = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, check=True)
    of_parent, of_child, child = json.loads(ran.stdout)
    assert of_child == child != of_parent
