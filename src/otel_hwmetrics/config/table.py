# SPDX-License-Identifier: Apache-2.0
"""The table of options: each with its default, what it takes and what it means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, cast

from otel_hwmetrics.config.kinds import (
    Option,
    Secret,
    count,
    duration,
    option,
    parse_number,
    parse_one_of,
    parse_path,
    parse_paths,
    parse_texts,
    ratio,
    seconds,
    sized,
    switch,
)
from otel_hwmetrics.config.of_rules import RuleSettings, parse_rules

INTEGRATIONS = ("torch", "lightning", "transformers", "keras")
"""Names of the frameworks that ``integrations`` may list."""

SOURCES = (
    *("system", "filesystem", "pressure", "container", "sensors"),
    *("process", "tree", "dataset", "training"),
    *("nvidia", "amd", "torch", "jax"),
)
"""Names of the sources that ``sources`` may list."""


def _interval(value: Any) -> float:
    number = duration(value)
    if 0 < number < 0.2:  # noqa: PLR2004 - as it is told
        raise ValueError(value)
    return number


def _batch(value: Any) -> float:
    return parse_number(0.5, 300.0)(duration(value))


def _keep(value: Any) -> float:
    number = duration(value)
    if 0 < number < 86400.0:  # noqa: PLR2004 - as it is told
        raise ValueError(value)
    return number


def _source_names(value: Any) -> tuple[str, ...]:
    if isinstance(value, Mapping):  # its keys would pass for a list
        raise TypeError(value)
    parts = value.split(",") if isinstance(value, str) else value
    named = tuple(str(part).strip().lower() for part in parts)
    if named == ("auto",):
        return named
    if not named or any(name not in SOURCES for name in named):
        raise ValueError(value)
    return tuple(dict.fromkeys(named))


def _integration_names(value: Any) -> tuple[str, ...]:
    named = tuple(word.lower() for word in parse_texts(value))
    if named in (("auto",), ("none",)):
        return named
    if any(name not in INTEGRATIONS for name in named):
        raise ValueError(value)
    return tuple(dict.fromkeys(named))


def _patterns(value: Any) -> tuple[str, ...]:
    patterns = parse_texts(value)
    if not all(re.fullmatch(r"-?[a-z*][a-z0-9_.*?]*", pattern) for pattern in patterns):
        raise ValueError(value)
    return patterns


def _rule_patterns(value: Any) -> tuple[str, ...]:
    patterns = parse_texts(value)
    if not all(re.fullmatch(r"[a-z*?][a-z0-9_*?]*", pattern) for pattern in patterns):
        raise ValueError(value)
    return patterns


def _spans(value: Any) -> tuple[str, ...]:
    words = parse_texts(value)
    if len(words) > 1 and {"all", "none"} & {word.lower() for word in words}:
        raise ValueError(value)
    return words


def _run(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"([A-Za-z0-9][A-Za-z0-9._-]{0,47})?", value.strip()):
        raise ValueError(value)
    return value.strip()


def _name(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r".{0,128}", value.strip()) or not value.strip().isprintable():
        raise ValueError(value)
    return value.strip()


def _addresses(value: Any) -> tuple[str, ...]:
    addresses = parse_texts(value, separator=None)
    if not all(re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", address) for address in addresses):
        raise ValueError(value)
    return tuple(map(Secret, addresses))


@dataclass(frozen=True, kw_only=True)
class Config:
    """Every option with its value; immutable. The defaults are the recommended ones."""

    enabled: bool = switch(True, "Do anything at all.")
    sources: tuple[str, ...] = option(
        ("auto",),
        _source_names,
        f"auto, or a list of {', '.join(SOURCES)}",
        "What is read. With auto whatever is there; a source that is named must be there.",
    )
    gpus: str = option(
        "visible",
        parse_one_of("visible", "all"),
        "visible or all",
        "Which GPUs are reported: those that CUDA_VISIBLE_DEVICES leaves to the job, or every one of the machine.",
    )
    emit: str = option(
        "auto",
        parse_one_of("auto", "always", "process", "never"),
        "auto, always, process or never",
        "What this process exports and tells of. auto: its own, and what is of the whole machine if no other process of the "
        "job does; always: both; process: its own alone; never: nothing, though alerts go onto its own spans.",
    )
    metrics: tuple[str, ...] = option(
        ("default",),
        _patterns,
        "a list of default, all, names of metrics, patterns (hwmetrics.gpu.nvlink.*), each with a - before it to leave it out",
        "Which metrics are exported. Alerts know all of them in any case.",
    )
    exemplars: bool = switch(
        True, "Let each exported value carry the training span that was open, so that a metric leads to its trace."
    )
    per_cpu: bool = switch(False, "Tell CPU time and utilization of the host for each logical CPU.")
    dataset_paths: tuple[str, ...] = option(
        (),
        parse_paths,
        "a path or a list of paths",
        "Where the training data lies: the file systems and devices below them are always told of.",
    )
    sample_interval: float = option(
        1.0,
        _interval,
        "0, or seconds, a number >= 0.2, or as 5m",  # closer together there are no rates between two samples
        "Time between two samples, which alerts are judged on; 0 samples at exports only.",
    )
    cpu_budget: float = ratio(
        0.01,
        "Share of one CPU that the instrumentation may take; each GPU that is read adds half as much. Above it, the machine is "
        "looked at less often until it fits; 0 for no limit.",
    )
    snapshot_timeout: float = seconds(
        0.2, "How long an export waits for a fresh look at the machine before it takes the last one.", least=0.01
    )
    source_timeout: float = seconds(
        0.5, "How long a source that may hang can hold a sample up before it is left out of it.", least=0.001
    )
    directory: str = option(
        "",
        parse_path,
        "a path",
        "Where files are written: flight recordings and profiles; if not set, below the user's state directory.",
    )
    alerts: bool = switch(True, "Judge alert rules.")
    rules: tuple[RuleSettings, ...] = option(
        (),
        parse_rules,
        "a table of rules by name or pattern, each a table of settings, or false to switch it off; in the environment as JSON",
        "Rules of your own, and other settings for those that come with the package.",
    )
    alert_channels: str = option(
        "both",
        parse_one_of("span", "log", "both"),
        "span, log or both",
        "Where an alert is told of: by an event on the span, by a log event and a line of Python's logging, or by both.",
    )
    alert_spans: tuple[str, ...] = option(
        ("train", "epoch", "step", "fit", "eval", "validation", "checkpoint"),
        _spans,
        "all, none, or a list of words in names of spans and of attributes, key=value, where either may be a pattern",
        "Which spans are training spans, beside those of training_span() and watch(): alerts and summaries go onto them.",
    )
    alert_span_events: int = count(16, "Most alert events on one span; the rest are counted.", 0, 128)
    span_summary: bool = switch(True, "Sum up on training spans what the hardware did while they were open.")
    notify: tuple[str, ...] = option(
        (),
        _addresses,
        "a list of Apprise addresses (slack://…, mailto://…), or one text of them, separated by spaces",
        "Who is notified of alerts; needs the extra otel-hwmetrics[notify].",
        secret=True,
    )
    notify_severity: str = option(
        "warning",
        parse_one_of("info", "warning", "critical"),
        "info, warning or critical",
        "Least severity of the alerts that are notified of.",
    )
    notify_group_wait: float = seconds(
        10.0, "How long alerts are collected into one notification; a critical one leaves after a second."
    )
    notify_per_hour: int = count(
        20,
        "Most notifications to one address an hour, a quarter of them kept for critical alerts; further alerts wait, and go "
        "out together.",
        1,
        3600,
    )
    flight_recorder: float = seconds(
        60.0,
        "How much of the past is written to a file on a critical alert, on SIGTERM and on an exception that ends the job; "
        "0 writes none.",
    )
    profile_on_alert: tuple[str, ...] = option(
        (),
        _rule_patterns,
        "a list of rules by name or pattern",
        "Alerts on which the next steps are profiled with PyTorch; needs steps(), step() or an integration.",
    )
    profile_steps: int = count(5, "How many steps a profile is of.", 1, 1000)
    profile_limit: int = count(3, "Most profiles a run.", 0, 1000)
    integrations: tuple[str, ...] = option(
        ("auto",),
        _integration_names,
        f"auto, none, or a list of {', '.join(INTEGRATIONS)}",
        "Training frameworks whose runs, epochs and steps are told without a change to the script, once the job loads them.",
    )
    step_spans: int = count(
        0, "One of how many steps gets a span of its own, where an integration tells steps; 0 for none.", 0, 10**9
    )
    step_gpu_time: bool = switch(
        False, "Tell how long the GPU was at the steps of training, by CUDA events; nothing waits for them."
    )
    stall_stacks: bool = switch(
        True, "Tell with an alert on stalled training or an idle GPU where the threads of the job stood."
    )
    record: bool = switch(False, "Write the run into a file: what was sampled, jobs, training spans, alerts.")
    record_run: str = option(
        "",
        _run,
        "letters, digits and ._-, 48 of them at most",
        "Id of the run that this process is a part of, the same in all of them; what launchers tell, if not set, else one of "
        "its own.",
    )
    record_name: str = option(
        "", _name, "a text of one line, 128 letters at most", "What the run is called; if not set, as the script is."
    )
    record_granularity: str = option(
        "time_series",
        parse_one_of("time_series", "summary"),
        "time_series or summary",
        "What is recorded: every sample, or of each job what it used at the most and in the mean, in one row.",
    )
    record_batch: float = option(
        5.0,
        _batch,
        "seconds, a number from 0.5 to 300, or as 5m",
        "How long what is recorded is collected before it is written: what a kill can lose.",
    )
    record_detail: float = seconds(
        86400.0, "How old every single sample may grow; of what is older, each minute is kept in one.", least=60.0
    )
    record_size: int = sized(
        2**30,
        "Most bytes of a recording: as it comes near them, the oldest samples are kept by the minute, and then let go of.",
        2**20,
        "bytes, a number >= 1048576, or as 500MB or 2GiB",
    )
    record_keep: float = option(
        90 * 86400.0,
        _keep,
        "0, or seconds, a number >= 86400, or as 30d",  # less, and what a job that was stopped for a night writes is old
        "How long recordings are kept: as another one begins, those that nothing was written to since are removed from the "
        "folder; 0 keeps all.",
    )


OPTIONS: dict[str, Option] = {entry.name: cast("Option", entry.metadata["option"]) for entry in fields(Config)}
"""The table: every option by its name."""
