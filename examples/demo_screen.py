# SPDX-License-Identifier: Apache-2.0
"""How the demo shows what arrived: tables and a tree, by rich."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from demo_arrived import ALERT, SECTIONS, Alert, Arrived, own_points, section_of, severity
from otlp_receiver import Point, ReceivedMetric, ReceivedSpan

WIDTH, LATEST, HIGHEST = 116, 33, 19  # Of the screen, and of two columns of the table of metrics.
GAP = (0, 1, 0, 0)  # Between the columns of a table.
MANY = 4  # A cell of the table has this many values at most; the rest is counted.


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
        "Hz": lambda: scaled(value, "Hz", 1000, "kMGTP"),
    }
    return ways.get(unit, lambda: f"{value:,g}")()


def labels(points: list[Point]) -> list[str]:
    """Name each series by what tells it from the others: its GPU, and attribute values that differ."""
    # Which GPU is told by its index; what a sensor sits on and whose it is follow from that.
    known = {"hw.id", "hw.name", "hw.parent", "hw.model", "hwmetrics.gpu.index", "hwmetrics.cuda.ordinal"}
    keys = {key for point in points for key in point.attributes if key not in known and not key.endswith(".severity")}
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
        table.add_column("kind", no_wrap=True, style="dim", min_width=7)
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


SUMS = "hwmetrics.summary."
SHOWN_SUMS = {
    "gpu.energy": ("energy", "J"),
    "gpu.utilization": ("GPUs busy", "1"),
    "gpu.memory.peak": ("most memory of a GPU", "By"),
    "cpu.time": ("CPU time", "s"),
    "disk.written": ("written", "By"),
}
"""Of what is summed up on a span, what the tree shows: in words, and its unit."""


def sums(span: ReceivedSpan) -> str:
    """Say what the hardware did during a span; empty where it is not summed up."""
    told = [(words, span.attributes.get(f"{SUMS}{name}"), unit) for name, (words, unit) in SHOWN_SUMS.items()]
    words = [f"{words} {human(value, unit)}" for words, value, unit in told if value is not None]
    return " · ".join(words)


def span_tree(arrived: Arrived) -> Tree:
    """Return the spans as a tree, each with what is summed up on it, and the alert events that are on it."""
    tree = Tree("[bold]Spans, with sums and alert events that are on them[/]", guide_style="dim")
    known = {span.span_id for span in arrived.spans}

    def grow(branch: Tree, spans: Iterable[ReceivedSpan]) -> None:
        for span in spans:
            root = "" if span.parent_id in known else f"trace {span.trace_id}  "
            seconds = f"{(span.end - span.start) / 1e9:.1f} s"
            below = f"\n[dim]{sums(span)}[/]" if sums(span) else ""
            node = branch.add(f"[bold]{span_label(span)}[/]  {seconds}  [dim]{root}span {span.span_id}[/]{below}")
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


def show(console: Console, arrived: Arrived, problems: list[str]) -> None:
    """Print the summary."""
    wide = console.width >= WIDTH
    parts = (metric_table(arrived, wide=wide), span_tree(arrived), log_table(arrived, wide=wide))
    for part in (*parts, verdict(arrived, problems)):
        console.print()
        console.print(part)
