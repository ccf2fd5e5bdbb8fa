# SPDX-License-Identifier: Apache-2.0
"""What a process beside the training pays for us: each one that OpenTelemetry instruments, though nothing is measured.

In fresh processes, each of which has loaded by itself what OpenTelemetry has loaded when it comes to us. Columns are the
quickest and the median, in milliseconds:

- detector: loading the resource detector and asking it once, where the SDK is told to use it.
- hook: loading the hook of the scripted GPUs and calling it.
- instrumentor: from the loading of the entry point to the return of `instrument()`.

Rows are a worker that multiprocessing has spawned, a launcher, a training that is switched off by the environment, and one
that is measured. The bound ``--most`` is on the quickest instrumentor of the first three: how long a process waits for the
processor is not our cost. The exit status is 1 if it is exceeded.

    python benchmarks/child_cost.py [--rounds N] [--most MILLISECONDS] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

from rich.console import Console
from rich.table import Table

TRAINING = ["python", "train.py"]
OFF = {"OTEL_PYTHON_HWMETRICS_ENABLED": "false"}
ROWS: dict[str, tuple[list[str], dict[str, str]]] = {
    "spawned worker": (["python", "-c", "from multiprocessing.spawn import …", "--multiprocessing-fork"], {}),
    "launcher": (["python", "/usr/bin/torchrun", "--nproc-per-node=8", "train.py"], {}),
    "switched off": (TRAINING, OFF),
    "measured": (TRAINING, {}),
}
BOUND = ("spawned worker", "launcher", "switched off")
PARTS = ("detector", "hook", "instrumentor")

CHILD = """
import json, sys, time
import opentelemetry.instrumentation.auto_instrumentation._load, opentelemetry.sdk._configuration
from opentelemetry.util._importlib_metadata import entry_points

sys.orig_argv = json.loads(sys.argv[1])
(detector,) = entry_points(group="opentelemetry_resource_detector", name="hwmetrics")
(hook,) = entry_points(group="opentelemetry_pre_instrument", name="hwmetrics_scripted_gpus")
(instrumentor,) = entry_points(group="opentelemetry_instrumentor", name="hwmetrics")
times = [time.perf_counter()]
detector.load()().detect()
times.append(time.perf_counter())
hook.load()()
times.append(time.perf_counter())
instrumentor.load()().instrument(skip_dep_check=True)
times.append(time.perf_counter())
print(json.dumps([1e3 * (after - before) for before, after in zip(times, times[1:])]))
"""


def milliseconds(argv: list[str], environ: dict[str, str]) -> list[float]:
    """What the parts take in one fresh process."""
    command = [sys.executable, "-c", CHILD, json.dumps(argv)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    taken: list[float] = json.loads(done.stdout)
    return taken


def measure(rounds: int) -> dict[str, dict[str, tuple[float, float]]]:
    """The quickest and the median of each part, by row; the rows in turn."""
    taken: dict[str, list[list[float]]] = {name: [] for name in ROWS}
    with tempfile.TemporaryDirectory(prefix="hwmetrics-bytecode-") as bytecode:
        # With compiled modules, as installed ones are, whatever this environment says; the first round compiles them.
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "PYTHONDONT"))}
        inherited["PYTHONPYCACHEPREFIX"] = bytecode
        for number in range(rounds + 1):
            for name, (argv, environ) in ROWS.items():
                each = milliseconds(argv, inherited | environ)
                if number:
                    taken[name].append(each)
    return {
        name: {
            part: (min(column), statistics.median(column))
            for part, column in zip(PARTS, zip(*of_row, strict=True), strict=True)
        }
        for name, of_row in taken.items()
    }


def main() -> int:
    """Measure, print, and tell by the exit status whether the bound is kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="processes a row (default 15)")
    parser.add_argument("--most", type=float, default=5.0, help="bound in milliseconds (default 5)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    found = measure(arguments.rounds)
    if arguments.json:
        print(json.dumps(found, indent=2))
    else:
        show(found)
    dearest = max(found[name]["instrumentor"][0] for name in BOUND)
    if dearest > arguments.most:
        print(f"a process beside the training pays {dearest:.1f} ms, more than {arguments.most:g}", file=sys.stderr)
    return int(dearest > arguments.most)


def show(found: dict[str, dict[str, tuple[float, float]]]) -> None:
    """Print a table."""
    table = Table("ms, quickest / median", *PARTS)
    for name, parts in found.items():
        table.add_row(name, *(f"{quickest:.2f} / {median:.2f}" for quickest, median in parts.values()))
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
