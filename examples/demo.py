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
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pynvml
from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from otlp_receiver import Point, ReceivedLog, ReceivedMetric, ReceivedSpan, Receiver

HERE = Path(__file__).resolve().parent
SCRIPT, SCENARIO = HERE / "train.py", HERE / "gpus.toml"
SCOPE = "otel_hwmetrics"
ALERT = "hwmetrics.alert"
LOUD = "OTEL_PYTHON_HWMETRICS_LOUD"  # Set by the tests of the project: faults of the plugin end the run.
WIDTH, LATEST, HIGHEST = 110, 33, 19  # Of the screen, and of two columns of the table of metrics.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GAP = (0, 1, 0, 0)  # Between the columns of a table.
MANY = 4  # A cell of the table has this many values at most; the rest is counted.


# --- what is run -----------------------------------------------------------------------------------------------------


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


# --- what arrived ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Alert:
    """One alert event on a span."""

    seconds: float  # since the first span began
    attributes: dict[str, Any]
    span: ReceivedSpan

    def get(self, key: str) -> Any:
        """Return an attribute by the last part of its name."""
        return self.attributes.get(f"{ALERT}.{key}")

    @property
    def device(self) -> str:
        """Which device, in words."""
        return str(self.attributes.get("hw.name", "host"))


@dataclass(frozen=True)
class Arrived:
    """What the receiver has at the end, and what the training's exit code was."""

    metrics: list[ReceivedMetric]
    history: dict[str, list[Point]]
    spans: list[ReceivedSpan]
    logs: list[ReceivedLog]
    exit_code: int

    @property
    def start(self) -> int:
        """When the first span began, in Unix nanoseconds."""
        return min((span.start for span in self.spans), default=0)

    @property
    def alerts(self) -> list[Alert]:
        """Every alert event, in order of time."""
        found = [
            Alert((moment - self.start) / 1e9, attributes, span)
            for span in self.spans
            for name, attributes, moment in span.events
            if name == ALERT
        ]
        return sorted(found, key=lambda alert: alert.seconds)

    @property
    def log_events(self) -> list[ReceivedLog]:
        """Every log record that tells of an alert, in order of time."""
        return sorted((log for log in self.logs if log.event_name == ALERT), key=lambda log: log.time_unix_nano)

    def span_of(self, log: ReceivedLog) -> ReceivedSpan | None:
        """Return the span in whose context a log record was written."""
        return next((s for s in self.spans if (s.trace_id, s.span_id) == (log.trace_id, log.span_id)), None)

    def highest(self, metric: ReceivedMetric, point: Point) -> float:
        """Return the highest value that one series of a metric had in this run."""
        return max(p.value for p in self.history[metric.name] if p.attributes == point.attributes)


def collect(receiver: Receiver, exit_code: int) -> Arrived:
    """Take what arrived; of the metrics ours alone, since another instrumentation may share the environment."""
    metrics = [metric for metric in receiver.metrics().values() if SCOPE in metric.scopes]
    history = {metric.name: [p for p in receiver.history(metric.name) if p.scope == SCOPE] for metric in metrics}
    return Arrived(
        sorted(metrics, key=lambda metric: (section_of(metric.name), re.sub(r"^(hwmetrics|hw)\.", "", metric.name))),
        history,
        sorted(receiver.spans(), key=lambda span: span.start),
        receiver.logs(),
        exit_code,
    )


def own_points(metric: ReceivedMetric) -> list[Point]:
    """Return the latest point of each of our series."""
    return [point for point in metric.points if point.scope == SCOPE]


def missing(arrived: Arrived, *, scripted: bool) -> list[str]:
    """Say what should have arrived and did not, one sentence each."""
    problems = []
    if arrived.exit_code:
        problems.append(f"train.py ended with exit code {arrived.exit_code}")
    names = {metric.name for metric in arrived.metrics}
    wanted = ("system.cpu.utilization", "system.memory.usage", "process.cpu.utilization", "hw.gpu.utilization")
    problems += [f"the metric {name} did not arrive" for name in wanted if name not in names]
    if not any(span.name == "epoch" for span in arrived.spans):
        problems.append("no epoch span arrived")
    if scripted:
        told = {(alert.get("rule"), alert.device, alert.get("state")) for alert in arrived.alerts}
        for rule, device in (("gpu_hot", "GPU 1"), ("gpu_memory_pressure", "GPU 0")):
            problems += [
                f"no event that {rule} is {state} on {device}"
                for state in ("firing", "resolved")
                if (rule, device, state) not in told
            ]
    if len(arrived.log_events) != len(arrived.alerts):
        problems.append(f"{len(arrived.alerts)} alert events on spans, but {len(arrived.log_events)} in logs")
    return problems


# --- how it is shown -------------------------------------------------------------------------------------------------

SECTIONS = ("Host", "Process", "GPU", "Alerts", "The plugin itself")


def section_of(name: str) -> int:
    """Return which of `SECTIONS` a metric belongs to."""
    first = name.removeprefix("hwmetrics.").split(".")[0]
    return {"system": 0, "process": 1, "hw": 2, "gpu": 2, "alert": 3}.get(first, 4)


def scaled(value: float, unit: str, step: int, prefixes: str) -> str:
    """Write a number with the prefix that leaves it short: 12.3 GiB, 4.56 MB/s."""
    power = 0
    if abs(value) >= step:
        power = min(int(math.log(abs(value), step) + 1e-9), len(prefixes))
    number = value / step**power
    prefix = f" {prefixes[power - 1]}{'i' if step == 1024 else ''}" if power else " "  # noqa: PLR2004 - binary
    digits = 0 if not power and number == int(number) else max(0, 2 - len(str(int(abs(number)))) + 1)
    return f"{number:.{digits}f}{prefix}{unit}"


def human(value: float, unit: str) -> str:
    """Write a value as people do; the UCUM unit has a column of its own."""
    if unit == "s":
        return f"{value * 1000:.3g} ms" if 0 < value < 1 else f"{value:,.1f} s"
    ways: dict[str, Callable[[], str]] = {
        "1": lambda: f"{value}" if isinstance(value, int) else f"{value:.1%}",
        "By": lambda: scaled(value, "B", 1024, "KMGTPE"),
        "By/s": lambda: scaled(value, "B/s", 1000, "kMGTP"),
        "J": lambda: scaled(value, "J", 1000, "kMGTP"),
        "W": lambda: f"{value:,.0f} W",
        "Cel": lambda: f"{value:.1f} °C",
    }
    return ways.get(unit, lambda: f"{value:,g}")()


def labels(points: list[Point]) -> list[str]:
    """Name each series by what tells it from the others: its GPU, and attribute values that differ."""
    keys = {
        key
        for point in points
        for key in point.attributes
        if not key.startswith(("hw.", "hwmetrics.gpu")) and not key.endswith(".severity")
    }
    told = sorted(key for key in keys if len({str(point.attributes.get(key)) for point in points}) > 1)
    words = []
    for point in points:
        index = point.attributes.get("hwmetrics.gpu.index")
        gpu = [] if index is None else [f"GPU {index}"]
        words.append(" ".join([*gpu, *(str(point.attributes[key]) for key in told if key in point.attributes)]))
    return words


def cell(values: list[tuple[str, float]], unit: str) -> str:
    """Put the values of a metric into one cell; of many series the largest, and the count of the rest."""
    shown = values
    if len(values) > MANY:
        telling = [pair for pair in values if human(pair[1], unit) != human(type(pair[1])(0), unit)]
        shown = sorted(telling, key=lambda pair: -pair[1])[:MANY]
    if not shown:
        return f"0 in each of {len(values)} series"
    words = [f"{label} {human(value, unit)}".strip() for label, value in shown]
    if len(shown) < len(values):
        words[-1] += f" (+{len(values) - len(shown)})"
    return flow(words, LATEST)


def flow(words: list[str], width: int) -> str:
    """Put words into lines of this width; a word's own spaces are no place to break."""
    line = " ".join(f"{word} ·" for word in (w.replace(" ", "\u00a0") for w in words)).removesuffix(" ·")
    return textwrap.fill(line.replace(" ·", "\u00a0·"), width).replace("\u00a0", " ")


def peaks(arrived: Arrived, metric: ReceivedMetric, points: list[Point]) -> str:
    """Return the highest value that was exported for each series, where it is not the latest."""
    if metric.kind == "counter" or len(points) > MANY:
        return ""
    latest = [human(point.value, metric.unit) for point in points]
    highest = [human(arrived.highest(metric, point), metric.unit) for point in points]
    return flow(highest, HIGHEST) if highest != latest else ""


def metric_table(arrived: Arrived, *, wide: bool) -> Table:
    """Return the table of metrics: what each was at the end, and its highest where that was not the last."""
    table = Table(title="Metrics", title_justify="left", title_style="bold", box=None, padding=GAP)
    table.caption = (
        "Counters are totals, gauges means over the export interval, the rest is as it was at the last export. "
        "(+3): three more series."
    )
    table.caption_justify = "left"
    table.add_column("name", no_wrap=True)
    table.add_column("unit", no_wrap=True, style="dim")
    if wide:
        table.add_column("kind", no_wrap=True, style="dim")
    table.add_column("latest", no_wrap=True)
    if wide:
        table.add_column("highest", no_wrap=True)
    section = -1
    for metric in arrived.metrics:
        if section_of(metric.name) != section:
            section = section_of(metric.name)
            table.add_row(f"[bold cyan]{SECTIONS[section]}[/]")
        points = own_points(metric)
        latest = list(zip(labels(points), (point.value for point in points), strict=True))
        row = [metric.name, metric.unit, cell(latest, metric.unit)]
        if wide:
            row.insert(2, metric.kind.replace("updowncounter", "up-down"))
            row.append(peaks(arrived, metric, points))
        table.add_row(*row)
    return table


def span_label(span: ReceivedSpan) -> str:
    """Name a span; an epoch by its number, too."""
    return f"{span.name} {span.attributes.get(span.name, '')}".strip()


STATE_STYLE = {"firing": "bold red", "resolved": "green"}


def span_tree(arrived: Arrived) -> Tree:
    """Return the spans as a tree, each with the alert events that are on it."""
    tree = Tree("[bold]Spans, with the alert events that are on them[/]", guide_style="dim")
    known = {span.span_id for span in arrived.spans}

    def grow(branch: Tree, spans: Iterable[ReceivedSpan]) -> None:
        for span in spans:
            root = "" if span.parent_id in known else f"trace {span.trace_id}  "
            seconds = f"{(span.end - span.start) / 1e9:.1f} s"
            node = branch.add(f"[bold]{span_label(span)}[/]  {seconds}  [dim]{root}span {span.span_id}[/]")
            for alert in arrived.alerts:
                if alert.span is span:
                    node.add(alert_text(alert))
            grow(node, (child for child in arrived.spans if child.parent_id == span.span_id))

    grow(tree, (span for span in arrived.spans if span.parent_id not in known))
    return tree


def alert_text(alert: Alert) -> Text:
    """Return one alert event: when, which rule, its state, the device, and the message below."""
    state = str(alert.get("state"))
    return Text.assemble(
        f"{alert.seconds:.1f} s  ",
        (f"{alert.get('rule')} {state}", STATE_STYLE.get(state, "")),
        f"  {alert.device}  {alert.get('severity')}\n",
        (str(alert.get("message")), "italic"),
    )


def log_table(arrived: Arrived, *, wide: bool) -> Table:
    """Return the table of log events."""
    table = Table(title=f"Log events {ALERT}", title_justify="left", title_style="bold", box=None, padding=GAP)
    for column in ("time", "severity", "rule", "state", "device", "span", "span id", *(["trace id"] if wide else [])):
        table.add_column(
            column,
            no_wrap=True,
            style="dim" if column.endswith("id") else "",
            justify="right" if column == "time" else "left",
        )
    for log in arrived.log_events:
        span = arrived.span_of(log)
        state = str(log.attributes.get(f"{ALERT}.state"))
        table.add_row(
            f"{(log.time_unix_nano - arrived.start) / 1e9:.1f} s",
            severity(log.severity_number),
            str(log.attributes.get(f"{ALERT}.rule")),
            Text(state, STATE_STYLE.get(state, "")),
            str(log.attributes.get("hw.name", "host")),
            span_label(span) if span else "none",
            log.span_id,
            *([log.trace_id] if wide else []),
        )
    return table


def severity(number: int) -> str:
    """Name a severity number (https://opentelemetry.io/docs/specs/otel/logs/data-model/#field-severitynumber)."""
    return ("?", "TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")[min((number + 3) // 4, 6)]


def verdict(arrived: Arrived, problems: list[str]) -> str:
    """Return the last line of the demo."""
    if problems:
        return f"[bold red]Not all is well:[/] {'; '.join(problems)}."
    parts = {
        "spans": len(arrived.spans),
        "alert events on them": len(arrived.alerts),
        "log events": len(arrived.log_events),
    }
    counts = ", ".join(f"{count} {noun}" for noun, count in parts.items())
    return f"[bold green]All is well:[/] {len(arrived.metrics)} metrics, {counts} arrived over OTLP."


def summary(arrived: Arrived, problems: list[str], *, scripted: bool) -> dict[str, Any]:
    """Return what is shown as plain values, for ``--json``."""
    return {
        "gpus": "scripted" if scripted else "real",
        "exit_code": arrived.exit_code,
        "metrics": [
            {
                "name": metric.name,
                "unit": metric.unit,
                "kind": metric.kind,
                "description": metric.description,
                "points": [
                    {"attributes": p.attributes, "value": p.value, "highest": arrived.highest(metric, p)}
                    for p in own_points(metric)
                ],
            }
            for metric in arrived.metrics
        ],
        "spans": [as_json(span) for span in arrived.spans],
        "alerts": [
            {"seconds": a.seconds, "device": a.device, "attributes": a.attributes, "span": as_json(a.span)}
            for a in arrived.alerts
        ],
        "logs": [
            {
                "event_name": log.event_name,
                "seconds": (log.time_unix_nano - arrived.start) / 1e9,
                "severity": severity(log.severity_number),
                "body": log.body,
                "attributes": log.attributes,
                "trace_id": log.trace_id,
                "span_id": log.span_id,
            }
            for log in arrived.log_events
        ],
        "ok": not problems,
        "problems": problems,
    }


def as_json(span: ReceivedSpan) -> dict[str, Any]:
    """Return a span as plain values, its times in Unix nanoseconds."""
    wanted = ("name", "trace_id", "span_id", "parent_id", "start", "end", "attributes")
    return {key: getattr(span, key) for key in wanted}


# --- the walk through it ---------------------------------------------------------------------------------------------


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
            console.print(Text(text.rstrip()))
        return process.wait()


def show(console: Console, arrived: Arrived, problems: list[str]) -> None:
    """Print the summary."""
    wide = console.width >= WIDTH
    parts = (metric_table(arrived, wide=wide), span_tree(arrived), log_table(arrived, wide=wide))
    for part in (*parts, verdict(arrived, problems)):
        console.print()
        console.print(part)


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
