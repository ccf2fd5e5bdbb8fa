# SPDX-License-Identifier: Apache-2.0
"""The manual use: three lines, on a machine of any kind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from otlp_receiver import Receiver

ROOT = Path(__file__).resolve().parents[2]


def run(**variables: str) -> str:
    """Run the example with these variables; gives what it printed."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    environment |= {"OTEL_PYTHON_HWMETRICS_LOUD": "1", **variables}
    done = subprocess.run(
        [sys.executable, "examples/manual.py"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    # A line of Python's logging for each warning; nothing else.
    unasked = [line for line in done.stderr.splitlines() if " alert=gpu_hot state=firing " not in line]
    assert (done.returncode, unasked) == (0, [])
    return done.stdout


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_the_usual_variables_send_it_to_a_collector(protocol: str) -> None:
    """Over OTLP its metrics and its epochs arrive, with the alert on one of them where the GPU is scripted."""
    with Receiver() as receiver:
        printed = run(
            OTEL_TRACES_EXPORTER="otlp",
            OTEL_METRICS_EXPORTER="otlp",
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc_endpoint if protocol == "grpc" else receiver.http_endpoint,
        )
        metrics, spans = receiver.metrics(), receiver.spans()
    assert {"hw.temperature", "process.cpu.time", "system.memory.usage"} <= set(metrics)
    assert [(span.name, span.attributes["epoch"]) for span in spans] == [("epoch", 0), ("epoch", 1)]
    if "scripted" in printed:
        # On the second; on the first where that takes longer than it should.
        told = [[event[1]["hwmetrics.alert.rule"] for event in span.events] for span in spans]
        assert sorted(told) == [[], ["gpu_hot"]]


def test_without_variables_it_shows_its_spans_and_its_last_readings() -> None:
    """It says whether its GPU is real, prints the spans, and what was last read of the GPU."""
    printed = run()
    assert printed.startswith(("No GPU here: this one is scripted.", "Real GPUs, through NVML:"))
    assert printed.count('"name": "epoch"') == 2
    assert "hw.temperature" in printed
