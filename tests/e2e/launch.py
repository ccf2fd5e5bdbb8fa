# SPDX-License-Identifier: Apache-2.0
"""Runs a script under `opentelemetry-instrument` as a user would."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

HERE = Path(__file__).parent

GPUS = """
[[gpu]]
utilization = 0.93
memory_used = [[0, 40e9], [60, 45e9]]
temperature = [[0, 55.0], [5.4, 55.0], [5.5, 84.0]]
power = 410.0

[[gpu]]
utilization = 0.88
memory_used = 30e9
temperature = 50.0
power = 380.0
"""
"""Two GPUs; the first gets hot while the second epoch of a job of seven seconds runs, which begins up to two after the scenario."""


def scenario(folder: Path, text: str = GPUS) -> str:
    """Write a scenario; gives its path."""
    path = folder / "gpus.toml"
    path.write_text(text)
    return str(path)


def instrumented(*command: str, endpoint: str, protocol: str, **options: str) -> str:
    """Run a Python script under auto-instrumentation with everything exported over OTLP; gives what it printed.

    Args:
        command: The script and its arguments.
        endpoint: Of the receiver.
        protocol: ``grpc`` or ``http/protobuf``.
        options: More environment variables.
    """
    launcher = shutil.which("opentelemetry-instrument", path=sysconfig.get_path("scripts"))
    assert launcher is not None
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    environment |= {
        "OTEL_PYTHON_HWMETRICS_LOUD": "1",
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_LOGS_EXPORTER": "otlp",
        "OTEL_METRIC_EXPORT_INTERVAL": "1000",
        "OTEL_SERVICE_NAME": "e2e",
        # Others' instrumentations have no part in these tests.
        "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "system_metrics",
    }
    done = subprocess.run(
        [launcher, sys.executable, *command],
        env=environment | options,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout + done.stderr
