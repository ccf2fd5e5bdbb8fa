# SPDX-License-Identifier: Apache-2.0
"""Every kind of child that a training has, for real, under `opentelemetry-instrument`: who is measured, and who is not."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import Any, NamedTuple

import pytest
from packaging.version import Version

from otlp_receiver import Receiver

from .children import DOORS, Looked, looked, watching
from .launch import HERE, instrumented

CHILDREN_ARE_INSTRUMENTED = Version(version("opentelemetry-instrumentation")) >= Version("0.63b0")
"""https://github.com/open-telemetry/opentelemetry-python-contrib/pull/4469"""


class Family(NamedTuple):
    """What a run has left.

    Attributes:
        told: What the script says of itself and its children.
        looked: What each instrumented process was like, by its pid.
        measured: The pids of those whose metrics arrived.
    """

    told: dict[str, Any]
    looked: dict[int, Looked]
    measured: set[object]


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Family:
    """One run for all."""
    folder = tmp_path_factory.mktemp("family")
    told = tmp_path_factory.mktemp("told") / "told.json"
    with Receiver() as receiver:
        instrumented(
            *(str(HERE / "family.py"), str(told), str(HERE / "job.py")),
            endpoint=receiver.http_endpoint,
            protocol="http/protobuf",
            OTEL_METRIC_EXPORT_INTERVAL="500",
            **watching(folder),
        )
        points = receiver.history("process.memory.usage")
    return Family(
        told=json.loads(told.read_text()),
        looked={process.pid: process for process in looked(folder)},
        measured={point.attributes["process.pid"] for point in points},
    )


def test_every_kind_was_there(family: Family) -> None:
    """The tests below look at real processes; with older versions no child is instrumented at all."""
    assert family.told["parent"] in family.looked
    assert family.told["codes"] == [0, 0]
    beside = {
        "a process that multiprocessing has spawned",
        "the forkserver of multiprocessing",
        "the resource tracker of multiprocessing",
    }
    assert {process.kind for process in family.looked.values()} == (
        {"", *beside} if CHILDREN_ARE_INSTRUMENTED else {""}
    )


def test_beside_the_training_nothing_of_ours_is_loaded_or_runs(family: Family) -> None:
    """Each is told by its command line before it runs anything."""
    for process in family.looked.values():
        if process.kind:
            assert process.modules <= DOORS, process.kind
            assert process.threads == [], process.kind


def test_the_workers_of_pools_are_silent_though_they_import_the_script_again(family: Family) -> None:
    """Spawned ones and those that the forkserver forks: no thread of ours, no handle on anything."""
    for method in ("spawn", "forkserver"):
        assert family.told[method], method
        assert all(threads == [] and blank for threads, blank in family.told[method]), method


def test_the_training_is_measured_and_so_is_who_asks_for_it_and_a_script_of_its_own(family: Family) -> None:
    """And nobody else; a script that a training starts may be a training, too."""
    assert "hwmetrics-sampler" in family.looked[family.told["parent"]].threads
    # With older versions they have no provider, so that nothing leaves them.
    children = {family.told["rank"], family.told["script"]} if CHILDREN_ARE_INSTRUMENTED else set()
    assert family.measured == {family.told["parent"]} | children
