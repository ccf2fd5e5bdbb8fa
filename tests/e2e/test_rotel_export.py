# SPDX-License-Identifier: Apache-2.0
"""What ``otel-hwmetrics export --format otlp`` sends, as an independent OTLP receiver reads it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import recorded

from .rotel import RotelUnavailable, running_rotel

RUN = "import sys; from otel_hwmetrics.cli import main; sys.exit(main())"
NEEDLES = (
    *(
        "-> Name: hw.gpu.memory.usage\n",
        "-> Name: hw.energy\n",
        "-> host.name: Str(node7)",
        "-> service.name: Str(llm)",
    ),
    *(
        "IsMonotonic: true",
        "EventName: hwmetrics.alert",
        "-> Name: hwmetrics.alert\n",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ),
)


def test_a_replayed_run_is_read_by_rotel(tmp_path: Path) -> None:
    """Its metrics, its spans with their events and its log records, over gRPC and the environment's settings over HTTP."""
    recorded.run(tmp_path, 60)
    try:
        with running_rotel() as rotel:
            environ = {**os.environ, "OTEL_SERVICE_NAME": "llm", "OTEL_EXPORTER_OTLP_ENDPOINT": rotel.http_endpoint}
            command = [sys.executable, "-c", RUN, "export", str(tmp_path), "--format", "otlp"]
            for more in ([], ["--protocol", "grpc", "--endpoint", rotel.grpc_endpoint]):
                ran = subprocess.run([*command, *more], env=environ, capture_output=True, text=True, check=False)
                assert (ran.returncode, ran.stderr) == (0, "")
                assert ran.stdout == "sent: 427 points, 2 spans and 2 log records\n"
            for needle in NEEDLES:
                assert rotel.wait_for_text(needle, timeout=10), (needle, rotel.text()[-6000:])
    except RotelUnavailable as reason:
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(f"rotel must run in CI: {reason}", pytrace=False)
        pytest.skip(str(reason))
