# SPDX-License-Identifier: Apache-2.0
"""Record what NVML answers on this machine, for a bug report or as test data.

    python benchmarks/record_nvml.py --seconds 60 --out h200.json --note "one H200, training ResNet-50"

Asks once a second whatever a monitor may ask, or exactly what our own source asks, and writes the answers with their errors
and latencies to a file that `otel_hwmetrics.testing.captures.load_capture` replays. UUIDs, serial numbers, PCI
addresses, process ids and process names become pseudonyms; look through the file before you send it, it is text.

It reads only. Run it beside the job, or with nothing running. With OTEL_PYTHON_HWMETRICS_FAKE_NVML set it records that
scenario, to try it without a GPU.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pynvml

from otel_hwmetrics.sources.base import SourceUnavailable
from otel_hwmetrics.sources.gpu.nvidia import NvidiaSource
from otel_hwmetrics.testing import install_from_environment
from otel_hwmetrics.testing.captures import Capture, record
from otel_hwmetrics.testing.captures.survey import Survey


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Record what NVML answers on this machine.")
    parser.add_argument("--seconds", type=float, default=60.0, help="for how long (60)")
    parser.add_argument("--every", type=float, default=1.0, help="seconds from one round to the next (1)")
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    parser.add_argument("--note", default="", help="one line: which machine, and what it does")
    parser.add_argument(
        "--ask",
        choices=("all", "source"),
        default="all",
        help="all: what any monitor may ask; source: only what our own source asks",
    )
    parser.add_argument("--pcie-throughput", action="store_true", help="ask nvmlDeviceGetPcieThroughput, which blocks")
    parser.add_argument(
        "--keep-identities", action="store_true", help="write UUIDs, serials, pids and names as they are"
    )
    return parser.parse_args(arguments)


def run(chosen: argparse.Namespace) -> Capture:
    """Record, and write the file.

    Raises:
        pynvml.NVMLError: There is no NVML here, or it does not start.
        SourceUnavailable: Our source finds no GPU.
        OSError: The file cannot be written.
    """
    with record(chosen.out, note=chosen.note, keep_identities=chosen.keep_identities) as recorder:
        # One of the two: GPM metrics are means since whoever asks last took a sample.
        asker = Survey(pcie_throughput=chosen.pcie_throughput) if chosen.ask == "all" else NvidiaSource(gpus="all")
        ask = asker.ask if isinstance(asker, Survey) else asker.read
        asker.open()
        try:
            for _ in recorder.rounds(chosen.seconds, every=chosen.every):
                ask()
        finally:
            asker.close()
    return recorder.capture


def slowest(capture: Capture, count: int = 10) -> list[tuple[float, str, str | None]]:
    """Return the calls that took longest at their worst, the slowest first."""
    worst = [(max(timeline.values), call, of) for (call, of), timeline in capture.latencies.items()]
    return sorted(worst, key=lambda each: each[0], reverse=True)[:count]


def main(arguments: Sequence[str] | None = None) -> int:
    """Record and say what was recorded."""
    chosen = options(arguments)
    scripted = install_from_environment()
    try:
        capture = run(chosen)
    except (pynvml.NVMLError, SourceUnavailable, OSError) as error:
        print(f"nothing recorded: {error}", file=sys.stderr)
        return 1
    finally:
        if scripted is not None:
            scripted.uninstall()
    answers = sum(len(series.told) for series in capture.series)
    print(f"{chosen.out}: {capture.origin}, {chosen.out.stat().st_size / 1000:.0f} kB")
    print(f"{capture.seconds:.0f} s, {len(capture.series)} questions, {answers} different answers")
    print("slowest calls:")
    for took, call, of in slowest(capture):
        print(f"  {took * 1000:8.2f} ms  {call}" + (f" of {of}" if of else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
