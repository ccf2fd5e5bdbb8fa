# SPDX-License-Identifier: Apache-2.0
"""The main job, on one machine and with nothing else installed: what `make demo` runs.

It starts the OTLP receiver of `otlp_receiver.py`, runs `train.py` under `opentelemetry-instrument` with the environment
that a user would set, and shows what arrived: metrics, spans with the alerts on them, log events. On a machine without
an NVIDIA GPU the GPUs are scripted, by `gpus.toml`, and the screen says so.

    python examples/demo.py [--scripted] [--http] [--json] [--svg FILE]

The exit code is 0 when everything arrived that should have, 1 when not, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import pynvml
from rich.console import Console
from rich.text import Text

from demo_arrived import ALERT, collect, missing, summary
from demo_screen import WIDTH, show
from otlp_receiver import Receiver

HERE = Path(__file__).resolve().parent
SCRIPT, SCENARIO = HERE / "train.py", HERE / "gpus.toml"
LOUD = "OTEL_PYTHON_HWMETRICS_LOUD"  # Set by the tests of the project: faults of the plugin end the run.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def real_gpus() -> list[str]:
    """Return the names of the GPUs that NVML shows on this machine; none without a driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        handles = map(pynvml.nvmlDeviceGetHandleByIndex, range(pynvml.nvmlDeviceGetCount()))
        return [str(pynvml.nvmlDeviceGetName(handle)) for handle in handles]
    except pynvml.NVMLError:
        return []
    finally:
        pynvml.nvmlShutdown()


def settings(receiver: Receiver, *, http: bool, scripted: bool) -> dict[str, str]:
    """Return the environment variables that turn a training script into an instrumented one."""
    chosen = {
        "OTEL_SERVICE_NAME": "rings",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf" if http else "grpc",
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.http_endpoint if http else receiver.grpc_endpoint,
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_LOGS_EXPORTER": "otlp",
        "OTEL_METRIC_EXPORT_INTERVAL": "2000",
        "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "hwmetrics,os",
        # Metrics by the same names, should it be installed here.
        "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "system_metrics",
        # An alert has to last for seconds by default. This training is over in seconds.
        "OTEL_PYTHON_HWMETRICS_SAMPLE_INTERVAL": "0.25",
        "OTEL_PYTHON_HWMETRICS_ALERT_GPU_HOT_FOR": "0.5",
        "OTEL_PYTHON_HWMETRICS_ALERT_GPU_MEMORY_PRESSURE_FOR": "0.5",
    }
    if scripted:
        chosen["OTEL_PYTHON_HWMETRICS_FAKE_NVML"] = os.path.relpath(SCENARIO)
    return chosen


def command() -> list[str]:
    """Return the command line, with the launcher and the interpreter of this environment."""
    launcher = shutil.which("opentelemetry-instrument", path=sysconfig.get_path("scripts"))
    if launcher is None:
        raise SystemExit("opentelemetry-instrument is not installed here: pip install 'otel-hwmetrics[demo]'")
    return [launcher, sys.executable, os.path.relpath(SCRIPT)]


@contextmanager
def running(line: list[str], variables: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Run the training with its output on a pipe; whatever happens, no process is left."""
    # Nothing of this shell's own telemetry settings: the demo does the same everywhere.
    kept = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_") or key == LOUD}
    process = subprocess.Popen(  # noqa: S603 - our own script
        line,
        env={**kept, "PYTHONUNBUFFERED": "1", **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # Ctrl-C is for us, and we end the training.
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(5)
                process.kill()


def introduce(console: Console, line: list[str], variables: dict[str, str], gpus: list[str], *, scripted: bool) -> None:
    """Say what is about to run, and whether its GPUs are real."""
    if scripted:
        why = "this machine has real ones, but --scripted was given" if gpus else "NVML finds no GPU on this machine"
        console.print(f"[bold yellow]Scripted GPUs[/] from {os.path.relpath(SCENARIO)}: {why}.")
        console.print("Host and process metrics are real.")
    else:
        console.print(f"[bold green]Real GPUs[/], through NVML: {', '.join(gpus)}.")
    console.print()
    for name, value in variables.items():
        console.print(Text.assemble((f"{name}=", "dim"), shlex.quote(value), (" \\", "dim")))
    console.print(Text(f"{Path(line[0]).name} python {line[-1]}\n", "bold"))


class Ticker:
    """The line that moves while the training runs."""

    def __init__(self, receiver: Receiver) -> None:
        """Count from now."""
        self._receiver, self._began = receiver, time.monotonic()

    def __rich__(self) -> str:
        """Return what has arrived by now."""
        exports = len(self._receiver.history("hwmetrics.sampling.time"))
        alerts = sum(log.event_name == ALERT for log in self._receiver.logs())
        seconds = time.monotonic() - self._began
        return f"{seconds:.0f} s; arrived so far: {exports} exports of metrics, {alerts} log events of alerts"


def watch(console: Console, receiver: Receiver, line: list[str], variables: dict[str, str]) -> int:
    """Run the training and show its output as it comes; gives its exit code."""
    still = console.record or not console.is_terminal
    with running(line, variables) as process, nullcontext() if still else console.status(Ticker(receiver)):
        for text in process.stdout or ():
            console.print(Text(text.rstrip()), soft_wrap=not console.record)  # a picture has an edge to break at
        return process.wait()


def save_svg(console: Console, path: Path) -> None:
    """Save what was printed as a picture, without the fonts that rich would have it load from elsewhere."""
    picture = console.export_svg(title="make demo", unique_id="demo")
    path.write_text(re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL), encoding="utf-8")


def interrupt(*_: object) -> None:
    """End the demo at the first Ctrl-C, or word from the system; the next ones are too many."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def main() -> int:
    """Run the demo."""
    parser = argparse.ArgumentParser(description="Run a training under auto-instrumentation and show what arrives.")
    parser.add_argument("--scripted", action="store_true", help="use scripted GPUs also where there are real ones")
    parser.add_argument("--http", action="store_true", help="export over OTLP/HTTP instead of gRPC")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON; progress goes to stderr")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="also save what is shown as a picture")
    options = parser.parse_args()
    for number in SIGNALS:
        signal.signal(number, interrupt)
    # A file or a pipe has no width; a wide terminal makes the tables no better.
    width = min(Console().width, WIDTH) if sys.stdout.isatty() else WIDTH
    console = Console(stderr=options.json, record=options.svg is not None, width=width, highlight=False)
    try:
        return demonstrate(console, options)
    except KeyboardInterrupt:
        console.print("\nInterrupted; nothing is left running.")
        return 130


def demonstrate(console: Console, options: argparse.Namespace) -> int:
    """Run, collect, show; gives the exit code."""
    gpus = real_gpus()
    scripted = options.scripted or not gpus
    with Receiver() as receiver:
        line, variables = command(), settings(receiver, http=options.http, scripted=scripted)
        introduce(console, line, variables, gpus, scripted=scripted)
        exit_code = watch(console, receiver, line, variables)
        arrived = collect(receiver, exit_code)
    problems = missing(arrived, scripted=scripted)
    if options.json:
        print(json.dumps(summary(arrived, problems, scripted=scripted), indent=2))
    else:
        show(console, arrived, problems)
    if options.svg:
        save_svg(console, options.svg)
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
