# SPDX-License-Identifier: Apache-2.0
"""Options: every one of them, from each of the four places."""

from __future__ import annotations

import json
import math
import os
import string
from dataclasses import FrozenInstanceError, fields
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_hwmetrics.config import (
    ENVIRONMENT_PREFIX,
    OPTIONS,
    SOURCES,
    Config,
    ConfigError,
    duration,
    resolve,
)
from places import PLACES, Places, toml

SWITCHES = [name for name in OPTIONS if isinstance(getattr(Config(), name), bool)]
SEVERITIES = "info, warning or critical"
RULES = "a list of rules by name or pattern"

ALLOWED = {
    **dict.fromkeys(SWITCHES, "true or false"),
    "sources": f"auto, or a list of {', '.join(SOURCES)}",
    "gpus": "visible or all",
    "emit": "auto, always, process or never",
    "metrics": "a list of default, all, names of metrics, patterns (hwmetrics.gpu.nvlink.*), each with a - before it to "
    "leave it out",
    "dataset_paths": "a path or a list of paths",
    "sample_interval": "0, or seconds, a number >= 0.2, or as 5m",
    "cpu_budget": "a number from 0 to 1",
    "snapshot_timeout": "seconds, a number >= 0.01, or as 5m",
    "source_timeout": "seconds, a number >= 0.001, or as 5m",
    "directory": "a path",
    "rules": "a table of rules by name or pattern, each a table of settings, or false to switch it off; in the environment "
    "as JSON",
    "alert_channels": "span, log or both",
    "alert_spans": "all, none, or a list of words in names of spans and of attributes, key=value, where either may be a "
    "pattern",
    "alert_span_events": "a whole number from 0 to 128",
    "notify": "a list of Apprise addresses (slack://…, mailto://…), or one text of them, separated by spaces",
    "notify_severity": SEVERITIES,
    "notify_group_wait": "seconds, a number >= 0, or as 5m",
    "notify_per_hour": "a whole number from 1 to 3600",
    "flight_recorder": "seconds, a number >= 0, or as 5m",
    "profile_on_alert": RULES,
    "profile_steps": "a whole number from 1 to 1000",
    "profile_limit": "a whole number from 0 to 1000",
    "integrations": "auto, none, or a list of torch, lightning, transformers, keras",
    "step_spans": "a whole number from 0 to 1000000000",
    "record_run": "letters, digits and ._-, 48 of them at most",
    "record_name": "a text of one line, 128 letters at most",
    "record_granularity": "time_series or summary",
    "record_batch": "seconds, a number from 0.5 to 300, or as 5m",
    "record_detail": "seconds, a number >= 60, or as 5m",
    "record_size": "bytes, a number >= 1048576, or as 500MB or 2GiB",
    "record_keep": "0, or seconds, a number >= 86400, or as 30d",
}
"""What each option takes, in words."""

NO_COUNT = ["few", -1, 1.5, "1.5", True, [3], math.nan, math.inf]
NO_TIME = ["soon", -1, "5 x", "5y", "m", "1h 3", "-5m", False, math.nan, math.inf, [1.0], {"s": 5}]

WRONG: dict[str, list[Any]] = {
    **{name: ["perhaps", 2, 1.5, [True]] for name in SWITCHES},
    "sources": ["nvidiaa", ["system", 3], 7, ["auto", "system"], {"system": True}, ","],
    "gpus": ["mine", 0, ["all"], False],
    "emit": ["rank 0", 0, ["always"], True],
    "metrics": [7, True, {"all": True}, ["hw.gpu.io", 3.5], "GPU power", "--all", "default,,all"],
    "dataset_paths": [7, True, {"/data": True}, ["/data", 3], "/data,,/more"],
    "sample_interval": [0.1, "100ms", *NO_TIME],
    "cpu_budget": ["little", -0.1, 1.1, True, "1 %", [0.5], math.nan, math.inf],
    "snapshot_timeout": [0, 0.001, "1ms", *NO_TIME],
    "source_timeout": [0, 0.0001, "0s", *NO_TIME],
    "directory": [7, True, ["/data"], {"/data": True}, "/da\0ta"],
    "rules": [7, True, [{"gpu_hot": {}}], "7", "[]", '"gpu_hot"'],
    "alert_channels": ["spans", "none", 0, ["log"]],
    "alert_spans": [7, True, ["train", 3], {"train": True}, "train,,fit", "all,train", ["train", "none"]],
    "alert_span_events": [129, *NO_COUNT],
    "notify": [7, True, {"slack": "x"}, "hunter2", ["slack://a", "hunter2"], ["slack://a", 3]],
    "notify_severity": ["fatal", 2, ["info"], True],
    "notify_group_wait": NO_TIME,
    "notify_per_hour": [0, 3601, *NO_COUNT],
    "flight_recorder": NO_TIME,
    "profile_on_alert": [7, True, {"gpu_hot": True}, ["gpu_hot", 3], "gpu hot", "GPU_*", "gpu_hot,,", "gpu_[ab]"],
    "profile_steps": [0, 1001, *NO_COUNT],
    "profile_limit": [1001, *NO_COUNT],
    "integrations": [
        7,
        True,
        "tensorflow",
        ["torch", 3],
        {"torch": True},
        "torch,,keras",
        "auto,torch",
        ["none", "torch"],
    ],
    "step_spans": [10**9 + 1, *NO_COUNT],
    "record_run": [["a"], "no such thing", "../a", "a/b", "-a", "a" * 49, {"a": 1}],
    "record_name": [7, True, ["a"], "a\nb", "a" * 129, {"a": 1}],
    "record_granularity": ["samples", 0, ["summary"], True],
    "record_batch": [0, 0.4, "400ms", 300.5, "6m", *NO_TIME],
    "record_detail": [0, 59, "30s", *NO_TIME],
    "record_size": [0, 1048575, "1000KB", "1 potato", "big", "-5MB", "1e9 MB", True, [2**30], math.nan, math.inf],
    "record_keep": [1, 86399, "23h", *NO_TIME],
}
"""Values that each option refuses."""

ANY_TEXT = {"directory", "alert_spans", "dataset_paths", "record_name"}
"""Options that take nearly every text: whatever the environment says may be the name of a file, or of a span."""
NO_LIST = "/data,,/more"
"""A text that is no list."""


def wrong(name: str, place: str) -> Any:
    """A value that the option refuses where it stands; empty where there is none."""
    if name in ("directory", "record_name"):
        return "" if place == "environment" else ["no such thing"]
    return NO_LIST if name in ANY_TEXT else "no such thing"


def good(name: str) -> tuple[Any, Any]:
    """Two values of an option that differ from its default and, where it has more than two, from each other."""
    default = getattr(Config(), name)
    if isinstance(default, bool):
        return not default, not default
    if isinstance(default, float):
        return default / 2, default / 4
    if isinstance(default, int):
        return default + 1, default + 2
    return {
        "sources": (("process",), ("system",)),
        "gpus": ("all", "all"),
        "emit": ("always", "process"),
        "metrics": (("default", "-hw.gpu.io"), ("hwmetrics.gpu.nvlink.*",)),
        "dataset_paths": (("/data/one", "relative"), ("/two",)),
        "directory": ("/data/one", "relative"),
        "alert_channels": ("span", "log"),
        "alert_spans": (("my.*", "kind=train"), ("none",)),
        "notify": (("slack://token@a", "mailto://me:secret@b"), ("json://localhost",)),
        "notify_severity": ("critical", "info"),
        "profile_on_alert": (("gpu_*", "training_stalled"), ("input_bound",)),
        "integrations": (("torch", "keras"), ("none",)),
        "record_run": ("2026-01-02-abc", "mine"),
        "record_name": ("first try", "second"),
        "record_granularity": ("summary", "summary"),
    }[name]


PLAIN = [name for name in OPTIONS if name != "rules"]
"""Options that a better place overwrites; what is said of rules is joined."""


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """Four empty places."""
    return Places(tmp_path)


def test_the_tables_of_these_tests_cover_every_option() -> None:
    """An option added without its row here is an untested one."""
    assert set(ALLOWED) == set(WRONG) == set(OPTIONS) == {entry.name for entry in fields(Config)}


def test_defaults_are_the_numbers_that_were_asked_for() -> None:
    """All is on but what would be too much for most; a sample a second, 16 events a span, the last minute in a file."""
    config, errors = resolve({}, {}, Path("/nowhere"))
    assert errors == ()
    assert config == Config()
    assert [name for name in SWITCHES if getattr(config, name) is not True] == ["per_cpu", "step_gpu_time", "record"]
    assert (config.metrics, config.dataset_paths) == (("default",), ())
    assert (config.sources, config.gpus) == (("auto",), "visible")
    assert (config.sample_interval, config.snapshot_timeout, config.source_timeout) == (1.0, 0.2, 0.5)
    assert (config.rules, config.alert_channels, config.alert_span_events) == ((), "both", 16)
    assert config.alert_spans == ("train", "epoch", "step", "fit", "eval", "validation", "checkpoint")
    assert (config.notify, config.notify_severity, config.notify_group_wait, config.notify_per_hour) == (
        (),
        "warning",
        10,
        20,
    )
    assert (config.directory, config.flight_recorder) == ("", 60)
    assert (config.profile_on_alert, config.profile_steps, config.profile_limit) == ((), 5, 3)
    assert (config.integrations, config.step_spans, config.step_gpu_time, config.stall_stacks) == (
        ("auto",),
        0,
        False,
        True,
    )
    assert (config.record_run, config.record_name, config.record_granularity) == ("", "", "time_series")
    assert (config.record_batch, config.record_detail) == (5, 24 * 3600)
    assert (config.record_size, config.record_keep) == (2**30, 90 * 24 * 3600)


@pytest.mark.parametrize("name", OPTIONS)
def test_every_default_is_a_value_that_the_option_takes(name: str) -> None:
    """Writing a default down changes nothing."""
    default = getattr(Config(), name)
    assert OPTIONS[name].parse(default) == default


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_says_what_it_takes_and_means(name: str) -> None:
    """The table is what messages and documentation are made of."""
    assert OPTIONS[name].allowed == ALLOWED[name]
    assert OPTIONS[name].help.endswith(".")


@pytest.mark.parametrize("name", PLAIN)
def test_every_option_is_read_from_every_place(tmp_path: Path, name: str) -> None:
    """The value arrives, as its own type, and no other option is touched."""
    value, _ = good(name)
    for place in PLACES:
        places = Places(tmp_path / place)
        places.put(place, name, value)
        config, errors = places.resolve()
        assert errors == []
        assert getattr(config, name) == value
        assert type(getattr(config, name)) is type(getattr(Config(), name))
        assert {other for other in OPTIONS if getattr(config, other) != getattr(Config(), other)} == {name}


ORDER = [
    ("hwmetrics.toml", "environment"),
    ("environment", "argument"),
    ("pyproject.toml", "environment"),
    ("hwmetrics.toml", "argument"),
    ("pyproject.toml", "argument"),
]
"""A weaker and a stronger place."""


@pytest.mark.parametrize("name", PLAIN)
def test_the_better_place_wins(tmp_path: Path, name: str) -> None:
    """An argument beats the environment, which beats a file."""
    first, second = good(name)
    for weaker, stronger in ORDER:
        places = Places(tmp_path / f"{weaker}-{stronger}")
        places.put(weaker, name, first)
        places.put(stronger, name, second)
        config, errors = places.resolve()
        assert (getattr(config, name), errors) == (second, [])


def test_options_of_all_places_are_joined(places: Places) -> None:
    """Each place may give what the others do not."""
    places.put("hwmetrics.toml", "gpus", "all")
    places.put("environment", "sample_interval", 3)
    places.put("argument", "alerts", value=False)
    config, errors = places.resolve()
    assert errors == []
    assert (config.gpus, config.sample_interval, config.alerts) == ("all", 3.0, False)


def test_one_file_counts_and_hwmetrics_toml_is_the_first(places: Places) -> None:
    """With `hwmetrics.toml` there, even empty, `pyproject.toml` is not looked at."""
    places.put("hwmetrics.toml", "sample_interval", 3.0)
    places.put("pyproject.toml", "sample_interval", 4.0)
    places.put("pyproject.toml", "gpus", "all")
    config, errors = places.resolve()
    assert (config.sample_interval, config.gpus, errors) == (3.0, "visible", [])
    (places.directory / "hwmetrics.toml").write_text("")
    assert places.resolve() == (Config(), [])


@pytest.mark.parametrize("slip", ["otel-hwmetrics", "otelhwmetrics", "hwmetrics"])
def test_a_table_by_nearly_the_right_name_is_told(tmp_path: Path, slip: str) -> None:
    """The package is called with a hyphen, so people write one; it would be passed over in silence."""
    (tmp_path / "pyproject.toml").write_text(f"[tool.{slip}]\nalerts = false\n")
    config, (error,) = resolve({}, {}, tmp_path)
    assert config.alerts
    assert str(error) == (
        f"[tool.{slip}] in {tmp_path / 'pyproject.toml'} is not read; did you mean [tool.otel_hwmetrics]?"
    )


def test_a_file_of_ours_needs_no_tool_table(tmp_path: Path) -> None:
    """What is pasted from pyproject.toml is told; the rest counts."""
    (tmp_path / "hwmetrics.toml").write_text("sample_interval = 3\n[tool.otel_hwmetrics]\nalerts = false\n")
    config, (error,) = resolve({}, {}, tmp_path)
    assert (config.sample_interval, config.alerts) == (3.0, True)
    assert str(error) == f"{tmp_path / 'hwmetrics.toml'} has no [tool.…]: its options and [rules.…] stand at the top"


@pytest.mark.parametrize("name", PLAIN)
def test_a_wrong_value_is_named_with_all_that_helps(tmp_path: Path, name: str) -> None:
    """Option, value, place and what is allowed are in the message; the default stays; the others keep theirs."""
    other = "gpus" if name != "gpus" else "sample_interval"
    expected, _ = good(other)
    for number, (place, value) in enumerate(product(PLACES, WRONG[name])):
        if place == "environment" and name in ANY_TEXT and not isinstance(value, str):
            continue
        places = Places(tmp_path / str(number))
        places.put(place, name, value)
        places.put(place, other, expected)
        config, (error,) = places.resolve()
        shown = repr(str(value) if place == "environment" else value) if name != "notify" else "not what it takes"
        assert error == f"option {name!r} is {shown} {places.words(place, name)}; it takes {ALLOWED[name]}"
        assert getattr(config, name) == getattr(Config(), name)
        assert getattr(config, other) == expected


@pytest.mark.parametrize("name", PLAIN)
def test_a_wrong_value_falls_back_to_the_next_best_place(tmp_path: Path, name: str) -> None:
    """What a weaker place says is better than the default."""
    value, _ = good(name)
    for weaker, stronger in ORDER:
        places = Places(tmp_path / f"{weaker}-{stronger}")
        places.put(weaker, name, value)
        places.put(stronger, name, wrong(name, stronger))
        config, errors = places.resolve()
        assert getattr(config, name) == value
        assert len(errors) == (wrong(name, stronger) != "")


@pytest.mark.parametrize("place", PLACES)
def test_every_wrong_value_is_told_and_each_alone(places: Places, place: str) -> None:
    """One message an option, in the order given, none swallowed by another."""
    for name in OPTIONS:
        places.put(place, name, wrong(name, place))
    config, errors = places.resolve()
    assert config == Config()
    assert [error.split("'")[1] for error in errors] == [name for name in OPTIONS if wrong(name, place)]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("unknown", "hint"),
    [
        ("sample_intervall", "did you mean 'sample_interval'?"),
        ("notifyy", "did you mean 'notify'?"),
        ("gpu_util_treshold", "did you mean 'gpu_util_threshold'?"),
        ("config_fil", "did you mean 'config_file'?"),
        ("alert_", "did you mean 'alerts'?"),
        ("zzz", f"the options are: {', '.join(OPTIONS)}"),
    ],
)
def test_an_unknown_name_is_told_with_a_hint(places: Places, place: str, unknown: str, hint: str) -> None:
    """With the nearest option where one is near, else with all of them; and nothing else is lost."""
    places.put(place, unknown, "1")
    places.put(place, "gpus", "all")
    config, errors = places.resolve()
    assert errors == [f"there is no option {unknown!r} {places.words(place, unknown)}; {hint}"]
    assert config.gpus == "all"


@pytest.mark.parametrize("name", PLAIN)
def test_none_and_empty_are_unset(places: Places, name: str) -> None:
    """They say nothing: what a weaker place says counts, and nobody complains."""
    value, _ = good(name)
    places.put("hwmetrics.toml", name, value)
    places.put("environment", name, "")
    nothings: list[Any] = [None, "", [], ()]
    for nothing in nothings:
        places.put("argument", name, nothing)
        config, errors = places.resolve()
        assert (getattr(config, name), errors) == (value, [])


def test_an_empty_value_in_a_file_is_unset(places: Places) -> None:
    """Likewise in a file."""
    (places.directory / "hwmetrics.toml").write_text('sample_interval = ""\nsources = []\n')
    assert places.resolve() == (Config(), [])


@pytest.mark.parametrize(
    ("name", "given_", "taken"),
    [
        ("alerts", "TRUE", True),
        ("alerts", " off ", False),
        ("alerts", "0", False),
        ("alerts", "No", False),
        ("alerts", "1", True),
        ("alerts", "yes", True),
        ("alerts", "on", True),
        ("alerts", 0, False),
        ("sources", "nvidia, System,nvidia", ("nvidia", "system")),
        ("sources", ["process"], ("process",)),
        ("sources", "AUTO", ("auto",)),
        ("gpus", " All ", "all"),
        ("sample_interval", "2.5", 2.5),
        ("sample_interval", 2, 2.0),
        ("sample_interval", "500ms", 0.5),
        ("sample_interval", 0, 0.0),
        ("flight_recorder", " 1h30m ", 5400.0),
        ("notify_group_wait", "1.5m", 90.0),
        ("alert_span_events", "0", 0),
        ("alert_span_events", 128.0, 128),
        ("alert_channels", "Span", "span"),
        ("alert_spans", "train, kind=fit", ("train", "kind=fit")),
        ("notify", "slack://a\n  mailto://b", ("slack://a", "mailto://b")),
        ("notify", ["slack://a"], ("slack://a",)),
        ("profile_on_alert", "gpu_*,training_stalled", ("gpu_*", "training_stalled")),
        ("directory", Path("/data"), "/data"),
        ("record_run", " run-7 ", "run-7"),
        ("record_size", "2GiB", 2**31),
        ("record_size", "500 MB", 500_000_000),
        ("record_size", "1.5g", 3 * 2**29),
        ("record_size", "2097152", 2**21),
        ("record_size", 2.0**21, 2**21),
        ("record_batch", "5m", 300.0),
        ("record_keep", "30d", 30 * 86400.0),
        ("record_keep", "24h", 86400.0),
        ("record_keep", 0, 0.0),
    ],
)
def test_values_are_taken_as_people_write_them(name: str, given_: Any, taken: Any) -> None:
    """Case and blanks do not matter, a list may be a string, numbers may be either."""
    config, errors = resolve({name: given_}, {}, Path("/nowhere"))
    assert errors == ()
    assert getattr(config, name) == taken


def test_variables_that_are_no_options_are_left_alone() -> None:
    """Those of the scripted GPUs, of the guard and of the file's name are no unknown options."""
    reserved = {"FAKE_NVML": "hot", "LOUD": "1", "CONFIG_FILE": ""}
    environ = {ENVIRONMENT_PREFIX + name: value for name, value in reserved.items()} | {"OTEL_PYTHON_OTHER": "x"}
    assert resolve({}, environ, Path("/nowhere")) == (Config(), ())


@pytest.mark.parametrize("by", ["argument", "path", "environment"])
def test_the_file_that_is_named_is_read_instead_of_those_lying_about(places: Places, by: str) -> None:
    """By argument or variable; then the working directory's files do not count."""
    places.put("hwmetrics.toml", "sample_interval", 9.0)
    named = places.directory / "elsewhere.toml"
    named.write_text('gpus = "all"\n')
    if by == "environment":
        places.environ[ENVIRONMENT_PREFIX + "CONFIG_FILE"] = str(named)
    else:
        places.arguments["config_file"] = str(named) if by == "argument" else named
    config, errors = places.resolve()
    assert (config.gpus, config.sample_interval, errors) == ("all", 1.0, [])


def test_the_file_named_by_argument_beats_the_one_named_by_the_environment(places: Places) -> None:
    """As an argument does everywhere; and an empty one is unset."""
    for name, value in (("a.toml", 2.0), ("b.toml", 3.0)):
        (places.directory / name).write_text(f"sample_interval = {value}\n")
    places.environ[ENVIRONMENT_PREFIX + "CONFIG_FILE"] = str(places.directory / "b.toml")
    places.arguments["config_file"] = str(places.directory / "a.toml")
    assert places.resolve()[0].sample_interval == 2.0
    places.arguments["config_file"] = ""
    assert places.resolve() == (Config(sample_interval=3.0), [])


@pytest.mark.parametrize("wrong", [5, 0, False, b"a.toml", {"a": 1}, ["a.toml"]])
def test_a_config_file_that_is_no_path_is_told_and_the_next_best_is_read(places: Places, wrong: Any) -> None:
    """The variable's file counts then."""
    (places.directory / "b.toml").write_text("sample_interval = 3\n")
    places.environ[ENVIRONMENT_PREFIX + "CONFIG_FILE"] = str(places.directory / "b.toml")
    places.arguments["config_file"] = wrong
    config, errors = places.resolve()
    assert errors == [f"option 'config_file' is {wrong!r} (as an argument); it takes a path to TOML"]
    assert config.sample_interval == 3.0


def test_a_named_pyproject_is_read_below_its_table(places: Places) -> None:
    """Whatever directory it is in, a `pyproject.toml` has our options in `[tool.otel_hwmetrics]`."""
    places.put("pyproject.toml", "sample_interval", 2.0)
    config, errors = resolve({"config_file": places.directory / "pyproject.toml"}, {}, Path("/nowhere"))
    assert (config.sample_interval, errors) == (2.0, ())


@pytest.mark.parametrize("content", [None, b"sample_interval = ", b"gpus = 'all'\n\xff\xfe", b"a = " + b"[" * 9000])
def test_a_file_that_cannot_be_read_is_told_and_costs_nothing_else(places: Places, content: bytes | None) -> None:
    """Missing, no TOML, not UTF-8, nested without end: one message with the path; the other places count."""
    named = places.directory / "mine.toml"
    if content is not None:
        named.write_bytes(content)
    places.put("argument", "config_file", str(named))
    places.put("environment", "sample_interval", 2.0)
    config, (error,) = places.resolve()
    assert error.startswith(f"configuration file {named} cannot be read: ")
    assert len(error) > len(f"configuration file {named} cannot be read: ")
    assert config == Config(sample_interval=2.0)


@pytest.mark.parametrize(
    ("name", "content"), [("hwmetrics.toml", "["), ("pyproject.toml", "[tool.otel_hwmetrics]\ngpus = ")]
)
def test_a_broken_file_in_the_working_directory_is_told(places: Places, name: str, content: str) -> None:
    """Nobody's options vanish in silence."""
    (places.directory / name).write_text(content)
    config, (error,) = places.resolve()
    assert error.startswith(f"configuration file {places.directory / name} cannot be read: ")
    assert config == Config()


def test_a_broken_pyproject_that_is_not_about_us_is_none_of_our_business(places: Places) -> None:
    """Whoever broke it will hear of it from others."""
    (places.directory / "pyproject.toml").write_text("[tool.ruff]\nline-length = ")
    assert places.resolve() == (Config(), [])


def test_a_directory_is_no_file(places: Places) -> None:
    """A folder called `hwmetrics.toml` is passed over; one that is named is told."""
    (places.directory / "hwmetrics.toml").mkdir()
    assert places.resolve() == (Config(), [])
    places.put("argument", "config_file", str(places.directory))
    _, (error,) = places.resolve()
    assert "cannot be read" in error


@pytest.mark.parametrize("value", ["3", "[1]", "'x'", "true"])
def test_our_table_in_pyproject_must_be_a_table(places: Places, value: str) -> None:
    """`[tool] otel_hwmetrics = 3` is told."""
    (places.directory / "pyproject.toml").write_text(f"[tool]\notel_hwmetrics = {value}\n")
    config, (error,) = places.resolve()
    assert error.startswith(f"[tool.otel_hwmetrics] in {places.directory / 'pyproject.toml'} is ")
    assert error.endswith("; it takes a table of options")
    assert config == Config()


@pytest.mark.parametrize("content", ["tool = 3", "tool = [1]", "", "[project]\nname = 'x'", "[tool.ruff]\na = 1"])
def test_a_pyproject_that_is_not_about_us_is_none_of_our_business(places: Places, content: str) -> None:
    """Without our table, and even where `tool` is no table, nothing is said."""
    (places.directory / "pyproject.toml").write_text(content)
    assert places.resolve() == (Config(), [])


def test_braces_in_a_path_are_only_braces(tmp_path: Path) -> None:
    """A directory may be called `{run}`, and a message shows it."""
    directory = tmp_path / "{run}{0}{"
    directory.mkdir()
    (directory / "hwmetrics.toml").write_text("gpus = 'mine'\nsample_interval = 2\n")
    config, (error,) = resolve({}, {}, directory)
    assert str(error) == f"option 'gpus' is 'mine' (in {directory / 'hwmetrics.toml'}); it takes visible or all"
    assert config.sample_interval == 2.0


def test_a_working_directory_that_is_gone_has_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scratch directory may be removed under a job; its options come from elsewhere then."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    try:
        config, errors = resolve({"gpus": "all"}, {})
    finally:
        os.chdir(tmp_path)  # monkeypatch cannot ask where it is
    assert (config, errors) == (Config(gpus="all"), ())


def test_a_directory_that_may_not_be_entered_has_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not being allowed to look is no fault of the options."""

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError

    with monkeypatch.context() as closed:
        closed.setattr(os, "stat", refuse)
        config, errors = resolve({"gpus": "all"}, {}, Path("/closed"))
    assert (config, errors) == (Config(gpus="all"), ())


def test_the_process_s_own_environment_and_directory_are_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`resolve()` alone reads `os.environ` and the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text("[tool.otel_hwmetrics]\nsample_interval = 2\n")
    monkeypatch.setenv(ENVIRONMENT_PREFIX + "GPUS", "all")
    assert resolve() == (Config(sample_interval=2.0, gpus="all"), ())


def test_what_was_given_is_not_changed() -> None:
    """The caller's dictionary stays as it was."""
    arguments = {"config_file": "/nowhere/x.toml", "gpus": "all"}
    before = dict(arguments)
    resolve(arguments, {}, Path("/nowhere"))
    assert arguments == before


def test_a_configuration_cannot_be_changed() -> None:
    """Threads share it."""
    with pytest.raises(FrozenInstanceError):
        Config().gpus = "all"  # type: ignore[misc]


NASTY = st.sampled_from(
    [
        math.nan,
        math.inf,
        -math.inf,
        10**400,
        -(10**4000),
        1e308,
        b"all",
        b"\xff",
        "\0",
        "\ud800",
        "9" * 5000,
        "nan",
        "-inf",
        "1_0",
        "٣",
        range(3),
        object(),
        {"system", "nvidia"},
        json.loads("[" * 500 + "]" * 500),
    ]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=5) | NASTY
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
)
NAMES = st.sampled_from([*OPTIONS, "config_file"]) | st.text(max_size=12)
VARIABLES = NAMES.map(lambda name: ENVIRONMENT_PREFIX + name.upper())
TOML_TEXT = st.text(max_size=30) | st.dictionaries(
    st.sampled_from([*OPTIONS, "config_file", "unknown"]),
    st.integers() | st.floats() | st.booleans() | st.text(string.printable, max_size=9) | st.just([[["x"]]]),
    max_size=6,
).map(lambda table: "".join(f"{name} = {toml(value)}\n" for name, value in table.items()))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    arguments=st.dictionaries(NAMES, VALUES, max_size=6),
    environ=st.dictionaries(VARIABLES, st.text(max_size=20) | st.just("9" * 5000), max_size=6),
    file=st.sampled_from(["hwmetrics.toml", "pyproject.toml", "config_file"]),
    content=TOML_TEXT,
)
def test_resolve_never_raises(
    tmp_path: Path, arguments: dict[str, Any], environ: dict[str, str], file: str, content: str
) -> None:
    """Whatever comes in, in whatever place, a usable configuration and messages come out."""
    for old in tmp_path.iterdir():
        old.unlink()
    head = "[tool.otel_hwmetrics]\n" if file == "pyproject.toml" else ""
    (tmp_path / file).write_bytes((head + content).encode("utf-8", "surrogatepass"))
    if file == "config_file":
        environ = environ | {ENVIRONMENT_PREFIX + "CONFIG_FILE": str(tmp_path / file)}
    config, errors = resolve(arguments, environ, tmp_path)
    assert all(isinstance(error, ConfigError) and str(error) for error in errors)
    for name, option in OPTIONS.items():
        value = getattr(config, name)
        assert option.parse(value) == value, name


@pytest.mark.parametrize("name", OPTIONS)
def test_values_beyond_all_bounds_are_refused_like_others(name: str) -> None:
    """Too large for a float, too long to be written, nested too deep: one short message that names the option."""
    for value in (10**400, -(10**400), 10**5000, json.loads("[" * 900 + "]" * 900)):
        config, (error,) = resolve({name: value}, {}, Path("/nowhere"))
        assert str(error).startswith(f"option {name!r} is ")
        assert str(error).endswith(f"; it takes {ALLOWED[name]}")
        assert len(str(error)) < 600
        assert config == Config()


def test_a_long_text_is_taken_or_refused_at_once_and_not_told_in_full() -> None:
    """Somebody's file may land in a variable."""
    for text in ("9" * 100_000, "1s" * 50_000 + "x", "1.1" * 30_000):
        config, (error,) = resolve({"sample_interval": text}, {}, Path("/nowhere"))
        assert len(str(error)) < 400
        assert config == Config()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("1d", 86400.0),
        ("250ms", 0.25),
        ("1m500ms", 60.5),
        ("0.5h", 1800.0),
        ("0s", 0.0),
        (" 2h ", 7200.0),
        ("5 min", 300.0),
        ("5min", 300.0),
        ("3 days", 259200.0),
        ("1 h 30 m", 5400.0),
        ("7", 7.0),
        (7, 7.0),
        (0.25, 0.25),
    ],
)
def test_a_length_of_time_is_a_number_of_seconds_or_as_prometheus_writes_it(text: Any, seconds: float) -> None:
    """Or as we write it; units may follow each other."""
    assert duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "s", "5", "5 x", "m5", "5M", "5m3", "-5m", "1e3s", "5mins", "5  m", "9" * 400 + "d", "inf", "nan"]
)
def test_a_length_of_time_that_is_none_is_refused(text: str) -> None:
    """Without end is none, either; a number alone is one of seconds."""
    if text == "5":
        assert duration(text) == 5.0
    else:
        with pytest.raises(ValueError, match=r"^.*$"):
            duration(text)


SECRET = "hunter2"  # noqa: S105 - the tests' own
WITH_SECRET = st.sampled_from(
    [
        SECRET,
        f"{SECRET}://a",
        f"slack://{SECRET}",
        f"mailto://me:{SECRET}@b c",
        [SECRET],
        {SECRET: 1},
        [[SECRET]],
        [SECRET, 3],
    ]
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=WITH_SECRET, place=st.sampled_from(PLACES))
def test_what_may_hold_a_password_is_never_shown(tmp_path: Path, value: Any, place: str) -> None:
    """Neither in an error nor by printing the options; whether it can be taken or not."""
    for old in tmp_path.iterdir():
        old.unlink()
    places = Places(tmp_path)
    places.put(place, "notify", value)
    config, errors = places.resolve()
    assert SECRET not in f"{errors}{config!r}{config}"
    assert bool(errors) != bool(config.notify)
    assert [name for name, option in OPTIONS.items() if option.secret] == ["notify"]
