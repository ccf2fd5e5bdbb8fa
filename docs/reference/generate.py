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

from detection import detection
from otel_hwmetrics import catalog
from otel_hwmetrics.alerts.adaptive import EVIDENCE
from otel_hwmetrics.alerts.builtin import RULES
from otel_hwmetrics.alerts.rule import Rule
from otel_hwmetrics.alerts.settings import SETTINGS
from otel_hwmetrics.alerts.words import advice, fires, resolved, silent
from otel_hwmetrics.catalog import METRICS, SCHEMA_URL, gpu, gpu_health, own, summary
from otel_hwmetrics.catalog.xid import XIDS, Recovery, Xid
from otel_hwmetrics.config import ENVIRONMENT_PREFIX, FAMILIES, OPTIONS, Config, flat_options
from otel_hwmetrics.config import __doc__ as about_options
from otel_hwmetrics.model import Metric
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
    "Training": catalog.training,
    "Distributed training": catalog.distributed,
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
Each is told as an event `{own.ALERT_EVENT}` on the [training span](spans.md) that is open, as a log event, as a line of \
Python's logging, and by the metrics {link(own.ALERT_ACTIVE, "metrics.md")}, {link(own.ALERT_TRANSITIONS, "metrics.md")} and \
{link(own.ALERT_TIME, "metrics.md")}. What is said of a device is judged for each one by itself; of what cannot be read \
nothing is said, and an alert that fires goes on.

Every rule can be changed, and rules of your own can be written: see [the how-to](../how-to/alerts.md) and \
[the settings](options.md#settings-of-rules). `otel-hwmetrics tables rules` prints those that your options make. How soon \
each finds its fault is in [detection.md](detection.md)."""

ABOUT_SPANS: Final = """\
Training spans are those of `training_span()`, those given to `watch()`, and those that the option [`alert_spans`](options.md) \
makes ones by their names or attributes. An alert becomes an event on the innermost of them that is open on the training's \
thread: the one that called `watch()` last, else the main one. Where none is open, it goes onto the innermost span of that \
thread; where no span is open at all, onto the next training span that opens while the alert fires. Spans that are not \
sampled, and those that have ended, get nothing."""

ABOUT_EVENTS: Final = f"""\
Name `{own.ALERT_EVENT}`, on the span and as a log event alike. At most so many a span as the option `alert_span_events` says, of \
which a quarter is kept for critical alerts, while one alert that is not takes a quarter at most; room is kept for the end of \
what began. The others are in the log, and counted on the span as `{own.ALERT_EVENTS_DROPPED}`. Beside these attributes it has \
those of the device.

The log event is an error (`ERROR`) for a critical alert, a warning (`WARN`) for a warning, and `INFO` for the others and for \
the end of any; its severity text is the alert's own. The line of Python's logging has `CRITICAL`, `WARNING` and `INFO`. \
`{own.ALERT_STACKS_EVENT}` is a log event alone: where workers stood, some seconds after such an alert ([more](../how-to/stalls.md))."""

EVENT_ATTRIBUTES: Final = (
    (own.ALERT_RULE, "the alert"),
    (own.ALERT_STATE, "`firing`, `resolved`"),
    (own.ALERT_SEVERITY, "`info`, `warning`, `critical`"),
    (own.ALERT_MESSAGE, "what is the case, for people, and what to do about it"),
    (own.ALERT_VALUE, "what was read, in the unit; absent where nothing was"),
    (own.ALERT_THRESHOLD, "beyond this it fires"),
    (own.ALERT_UNIT, "of both"),
    (own.ALERT_DURATION, "seconds: firing, that it has held; resolved, that it fired"),
    (own.ALERT_PEAK, "the worst value while it fired; when it is resolved"),
    (own.ALERT_BLIND, "true where it fires on, though nothing can be read any more"),
    (own.ALERT_SUPERSEDED_BY, "the rule that says the same better, for which this one was resolved"),
    (f"{own.ALERT_EVIDENCE}.*", "what else tells why; what each rule has is told with the [rules](alerts.md)"),
    (own.ALERT_FLIGHT, "where the flight recording is, of a critical alert"),
    (own.ALERT_PROFILE, "where the profile of the next steps will be, with the option `profile_on_alert`"),
    (
        own.CODE_STACKTRACE,
        "where threads stood, of stalled training and of an idle GPU ([more](../how-to/stalls.md)); on a span the first 4 KiB",
    ),
)

ABOUT_SUMMARY: Final = f"""\
On every training span that lives longer than one sample, kept current as it runs (after each sample at first, every ten \
seconds on an old one), and on one of `training_span()` once more at its very end, which waits for that look at the machine for \
a hundredth of the span's length at most. `{summary.SUMMED_TIME.name}` tells the part of the span that the sums are of. What cannot \
be read is absent. The option `span_summary` switches it off."""

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
    rows = [
        (
            f"`{name}`<br>`{ENVIRONMENT_PREFIX}{name.upper()}`",
            default_of(name),
            prose(option.allowed),
            prose(option.help),
        )
        for name, option in OPTIONS.items()
    ]
    blocks = [MARK, "# Options", paragraphs((about_options or "").partition("\n\n")[2])]
    blocks.append(table(("option, and its variable", "default", "takes", "meaning"), *rows))
    return "\n\n".join([*blocks, *options_of_rules()]) + "\n"


def options_of_rules() -> Iterator[str]:
    """What options say of rules."""
    switch, threshold, lasts = flat_options("<name>")
    yield "## Settings of rules"
    yield (
        "Of each [rule](alerts.md), by its name or for several by a pattern, in the table `rules`: `[rules.gpu_hot]` in "
        '`hwmetrics.toml`, `[tool.otel_hwmetrics.rules."gpu_*"]` in `pyproject.toml`, `rules={"gpu_hot": {"threshold": 85}}` as an '
        "argument. A rule of your own is a table with a `metric` in it."
    )
    rows = [
        (f"`{key}`", prose(setting.allowed), prose(setting.help) + (" Of your own rules alone." if setting.own else ""))
        for key, setting in SETTINGS.items()
    ]
    yield table(("setting", "takes", "meaning"), *rows)
    yield (
        f"Three are options by themselves, for each rule: `{switch}`, `{threshold}` and `{lasts}`; so "
        f"`{ENVIRONMENT_PREFIX}{flat_options('gpu_hot')[1].upper()}=85`. These are options of training callbacks, and mean:"
    )
    families = [
        (f"`{name}`", f"`{family.key}` of {', '.join(f'`{rule}`' for rule in family.rules)}")
        for name, family in FAMILIES.items()
    ]
    yield table(("option", "sets"), *families)


def default_of(name: str) -> str:
    """An option's default, as one would write it into its variable."""
    value = getattr(Config(), name)
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple | str):
        text = value if isinstance(value, str) else ",".join(map(str, value))
        return f"`{text}`" if text else "none"
    return f"`{value:g}`"


def alerts() -> str:
    """The page of alerts."""
    blocks = [MARK, "# Alerts", ABOUT_ALERTS]
    head = ("alert", "severity", "fires")
    blocks.append(
        table(head, *((f"[`{rule.name}`](#{anchor(rule.name)})", rule.severity.value, fires(rule)) for rule in RULES))
    )
    for rule in RULES:
        blocks += of_rule(rule)
    return "\n\n".join(blocks) + "\n"


def of_rule(rule: Rule) -> Iterator[str]:
    """What there is to say of one alert."""
    yield f"## {rule.name}"
    yield prose(f"> {advice(rule)}")
    facts = [
        f"**{rule.severity.value.capitalize()}.** Looks at {linked(str(rule.condition))}.",
        f"Fires: {fires(rule)}.",
        f"Resolved: {resolved(rule)}.",
    ]
    if quiet := "; ".join(silent(rule)):
        facts.append(f"Silent: {quiet}.")
    facts.append(f"Message: {code(rule.message)}")
    if rule.condition.evidence:
        facts.append(f"Evidence: {', '.join(f'`{word}`' for word in rule.condition.evidence)}.")
    yield "\\\n".join(facts)


_NAMES: Final = re.compile(
    "|".join(re.escape(name) for name in sorted((m.name for m in METRICS), key=len, reverse=True))
)


def linked(text: str) -> str:
    """A condition's text with its metrics as links."""
    by_name = {metric.name: metric for metric in METRICS}
    return _NAMES.sub(lambda match: link(by_name[match[0]], "metrics.md"), text)


ABOUT_ADAPTIVE: Final = f"""\
A rule that is `adaptive` also tells {", ".join(f"`{own.ALERT_EVIDENCE}.{word}`" for word in EVIDENCE)}: what is usual in this \
run, how far from it the value is, in its usual scatter, and how many values that was learned from."""

ABOUT_NAMES: Final = f"""\
`{own.ALERTS}`: the alerts that fired while the span was open, the worst first, with commas between. A training span that opens \
under a firing alert has it from its start."""


def spans() -> str:
    """The page of what is put onto spans."""
    figures = [(f"`{figure.name}`", f"`{figure.unit.value}`", figure.description) for figure in summary.FIGURES]
    attributes = [(f"`{name}`", meaning) for name, meaning in EVENT_ATTRIBUTES]
    blocks = [MARK, "# On spans", ABOUT_SPANS]
    blocks += ["## Events", ABOUT_EVENTS, table(("attribute", "meaning"), *attributes), ABOUT_ADAPTIVE]
    blocks += ["## Names", ABOUT_NAMES]
    blocks += ["## Sums", ABOUT_SUMMARY, table(("attribute", "unit", "meaning"), *figures)]
    return "\n\n".join(blocks) + "\n"


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
    "detection.md": detection,
    "spans.md": spans,
    "xid.md": xids,
}
"""What gives the text of every page, by its file's name."""

if __name__ == "__main__":
    for name, text in PAGES.items():
        (Path(__file__).parent / name).write_text(text(), encoding="utf-8")
    from reliability import reliability  # it needs what the tests need

    (Path(__file__).parents[1] / "reliability.md").write_text(reliability(), encoding="utf-8")
