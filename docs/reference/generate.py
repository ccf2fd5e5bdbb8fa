# SPDX-License-Identifier: Apache-2.0
"""Writes the pages beside it from the tables that the package itself runs by; `make docs` calls it.

Names, units and descriptions are those of the catalog's rows, files and calls those of the sources' readers, defaults
those of the options: a page says what the code does, and `tests/test_reference.py` holds it to that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Final

from otel_hwmetrics import catalog
from otel_hwmetrics.alerts import builtin
from otel_hwmetrics.alerts.conditions import Condition, Highest, Level, Rule, ShareOf, Side, State, Subject
from otel_hwmetrics.alerts.engine import Transition
from otel_hwmetrics.catalog import METRICS, SCHEMA_URL, gpu, gpu_health, own
from otel_hwmetrics.catalog.xid import XIDS, Recovery, Xid
from otel_hwmetrics.config import ENVIRONMENT_PREFIX, OPTIONS, Config
from otel_hwmetrics.config import __doc__ as about_options
from otel_hwmetrics.model import Metric, Unit
from ways import JUDGED, Way, all_ways
from words import KINDS, anchor, code, link, meanings_in, paragraphs, prose, table, window

MARK: Final = "<!-- Written by generate.py from the package's own tables: `make docs`. -->"

SUBJECTS: Final[Mapping[str, ModuleType]] = {
    "Host": catalog.system,
    "Pressure": catalog.pressure,
    "Container": catalog.container,
    "Process": catalog.process,
    "Process tree": catalog.tree,
    "Data set": catalog.dataset,
    "Frameworks": catalog.framework,
    "GPUs": catalog.gpu,
    "GPU activity": catalog.gpu_activity,
    "GPU links": catalog.gpu_links,
    "GPU health": catalog.gpu_health,
    "Sensors": catalog.sensors,
    "The instrumentation itself": catalog.own,
}
"""The files of the catalog, in its order."""

ABOUT_METRICS: Final = f"""\
Names, units and descriptions are those of the semantic conventions {SCHEMA_URL.rsplit("/", 1)[1]} where they have one; \
what they lack is below `hwmetrics.`. What cannot be read is absent, never 0.

- **The window** is the time since the same reader's export before; of a scrape or a flush, since the last collection of \
any reader. Nothing between two exports is missed.
- **Detail** metrics are exported when the option [`metrics`](options.md) asks for them, all others by default. Alerts \
know both.
- **Tables** say how a figure is read: by which source, from which file of the kernel or by which call of the driver, and \
who has it. What is marked *else* stands in where the line above is not supported. A figure is read once a second and for \
each export, or as seldom as the last column says.
- **Units** are written as OpenTelemetry writes them ([UCUM](https://ucum.org)): `By` bytes, `Cel` degrees Celsius, `{{…}}` \
things that are counted, `1` a ratio from 0 to 1, a yes or no, or a mere number."""

ABOUT_ALERTS: Final = f"""\
Each is told as an event `hwmetrics.alert` on the span that is open, as a log record, and by the metric \
{link(own.ALERT_ACTIVE, "metrics.md")}. What is said of a device is judged for each one by itself; of what cannot be read \
nothing is said. Thresholds and durations are [options](options.md); the defaults are told here, and one message each as \
an example."""

ABOUT_XIDS: Final = f"""\
What NVIDIA's driver says by number when something went wrong with a GPU, in our own words after NVIDIA's catalogs: of \
[Ampere and newer](https://docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html), of \
[older boards](https://docs.nvidia.com/deploy/xid-errors/archive/index.html). They are counted by \
{link(gpu_health.ERRORS, "metrics.md")}, with the number as `{gpu_health.XID}`.

*Critical* is what takes the GPU out of service. *Needs* says what it takes, at least, before the GPU works again as it \
did. Those that point at the job are mostly its own fault: an access out of bounds, a Ctrl-C. Those that point at the \
hardware call for a check of board, memory, link or power when they come again."""


def metrics() -> str:
    """The page of metrics."""
    ways = all_ways()
    blocks = [MARK, "# Metrics", ABOUT_METRICS, " · ".join(f"[{title}](#{anchor(title)})" for title in SUBJECTS)]
    for title, module in SUBJECTS.items():
        blocks += of_subject(title, module, ways)
    return "\n\n".join(blocks) + "\n"


def of_subject(title: str, module: ModuleType, ways: Mapping[Metric, Iterable[Way]]) -> Iterator[str]:
    """A file of the catalog: what it is of, its attributes, its metrics."""
    yield f"## {title}"
    yield paragraphs(module.__doc__ or "")
    keys = [key for metric in module.METRICS for key in own_keys(metric, module)]
    if keys:
        meanings = meanings_in(module)
        yield f"### {title}: attributes"
        yield table(("attribute", "meaning"), *((f"`{key}`", meanings[key]) for key in dict.fromkeys(keys)))
    for metric in module.METRICS:
        yield from of_metric(metric, ways.get(metric, ()))
    if not module.METRICS:
        # Its source reads the rows of other files.
        read = {metric for metric, found in ways.items() if any(way.source == title.lower() for way in found)}
        told = [metric for metric in METRICS if metric in read or getattr(metric.derivation, "of", None) in read]
        yield f"See {', '.join(map(link, told))}."


COMMON: Final = {"a sensor": gpu.SENSOR, "a GPU": gpu.DEVICE}
"""Attributes that many metrics share. They are explained once, with the GPUs."""


def own_keys(metric: Metric, module: ModuleType | None = None) -> tuple[str, ...]:
    """A metric's attributes, without those that are explained elsewhere."""
    common = next((keys for keys in COMMON.values() if set(keys) <= set(metric.attributes)), ())
    return tuple(key for key in metric.attributes if key not in common or module is gpu)


def of_metric(metric: Metric, ways: Iterable[Way]) -> Iterator[str]:
    """What there is to say of one metric."""
    yield f"### {metric.name}"
    yield prose(metric.description)
    facts = f"**{KINDS[metric.kind]}** in `{metric.unit.value}`: {window(metric)}.{' Detail.' if metric.detail else ''}"
    if metric.attributes:
        common = next((what for what, keys in COMMON.items() if set(keys) <= set(metric.attributes)), None)
        told = [f"those of [{common}](#{anchor('GPUs: attributes')})"] if common else []
        facts += f"\\\nAttributes: {', '.join([*told, *(f'`{key}`' for key in own_keys(metric))])}."
    yield facts
    if metric in JUDGED:
        yield JUDGED[metric]
    rows = [
        (
            f"{way.source}, else" if way.stands_in else way.source,
            code(way.call),
            prose(way.where),
            f"{way.every:g} s" if way.every else "",
        )
        for way in ways
    ]
    if rows:
        yield table(("source", "read from", "who has it", "every"), *rows)


def options() -> str:
    """The page of options."""
    of_alerts = {name for row in builtin.ROWS for name in options_of(row.name)}
    groups = {
        "General": [name for name in OPTIONS if name not in of_alerts],
        "Alerts": [name for name in OPTIONS if name in of_alerts],
    }
    blocks = [MARK, "# Options", paragraphs((about_options or "").partition("\n\n")[2])]
    for title, names in groups.items():
        rows = [
            (
                f"`{name}`<br>`{ENVIRONMENT_PREFIX}{name.upper()}`",
                default_of(name),
                prose(OPTIONS[name].allowed),
                prose(OPTIONS[name].help),
            )
            for name in names
        ]
        blocks += [f"## {title}", table(("option, and its variable", "default", "takes", "meaning"), *rows)]
    return "\n\n".join(blocks) + "\n"


def default_of(name: str) -> str:
    """An option's default, as one would write it into its variable."""
    value = getattr(Config(), name)
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`{','.join(value)}`" if value else "none"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def options_of(alert: str) -> tuple[str, ...]:
    """The options of one alert."""
    return tuple(name for name in OPTIONS if re.fullmatch(rf"alert_{alert}(_threshold|_for)?", name))


def alerts() -> str:
    """The page of alerts."""
    blocks = [MARK, "# Alerts", ABOUT_ALERTS]
    for rule in builtin.rules(Config()):
        blocks += of_rule(rule)
    return "\n\n".join(blocks) + "\n"


def of_rule(rule: Rule) -> Iterator[str]:
    """What there is to say of one alert."""
    above = rule.side is Side.ABOVE
    unit = " °C" if rule.condition.unit is Unit.CELSIUS else ""
    back = rule.threshold - rule.slack if above else rule.threshold + rule.slack
    value = rule.threshold + rule.slack if above else rule.threshold / 2
    gpu_0 = Subject("", {gpu.HW_NAME: "GPU 0"})
    yield f"## {rule.name}"
    yield f"> {prose(Transition(rule, gpu_0, State.PENDING, State.FIRING, value, 0, 0.0).message)}"
    yield (
        f"**{rule.severity.value.capitalize()}** when {looked_at(rule.condition)} is {rule.side.value} "
        f"{rule.threshold:g}{unit} for {rule.for_seconds:g} s; resolved when it is {round(back, 6):g}{unit} or "
        f"{'less' if above else 'more'}."
    )
    yield "Options: " + ", ".join(f"`{name}`" for name in options_of(rule.name)) + "."


def looked_at(condition: Condition) -> str:
    """What a condition looks at, in words."""
    match condition:
        case Level(metric, where):
            that = ", ".join(f"`{key}={value}`" for key, value in where.items())
            return link(metric, "metrics.md") + (f" with {that}" if that else "")
        case ShareOf(metric, whole):
            return f"{link(metric, 'metrics.md')} as a share of {link(whole, 'metrics.md')}"
        case Highest(conditions):
            return f"the highest of {' and '.join(map(looked_at, conditions))}"
    raise TypeError(f"there are no words for {condition}")


NEEDS: Final = {
    Recovery.NOTHING: "",
    Recovery.RESTART: "a restart of the job",
    Recovery.RESET: "a reset of the GPU",
    Recovery.REBOOT: "a reboot of the node",
}


def xids() -> str:
    """The page of XID errors."""
    head = ("XID", "what happened", "severity", "needs", "points at", "what to do")
    return "\n\n".join([MARK, "# XID errors", ABOUT_XIDS, table(head, *map(of_xid, XIDS.values()))]) + "\n"


def of_xid(xid: Xid) -> tuple[str, ...]:
    """What there is to say of one code."""
    points_at = "the job" if xid.application else "the hardware" if xid.hardware else ""
    happened = f"**{prose(xid.name)}**: {prose(xid.meaning)}"
    return str(xid.code), happened, xid.severity.value, NEEDS[xid.recovery], points_at, prose(xid.advice)


PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "metrics.md": metrics,
    "options.md": options,
    "alerts.md": alerts,
    "xid.md": xids,
}
"""What gives the text of every page, by its file's name."""

if __name__ == "__main__":
    for name, text in PAGES.items():
        (Path(__file__).parent / name).write_text(text(), encoding="utf-8")
