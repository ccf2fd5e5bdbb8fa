# SPDX-License-Identifier: Apache-2.0
"""Options: every one of them, from each of the four places."""

from __future__ import annotations

import json
import math
import os
import string
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_hwmetrics.config import ENVIRONMENT_PREFIX, OPTIONS, SOURCES, Config, ConfigError, resolve

PLACES = ("hwmetrics.toml", "pyproject.toml", "environment", "argument")

SWITCHES = [name for name in OPTIONS if isinstance(getattr(Config(), name), bool)]
RATIOS = [name for name in OPTIONS if name.endswith("_threshold") and name != "alert_gpu_hot_threshold"]
SECONDS = [name for name in OPTIONS if name.endswith(("_for", "_interval", "_timeout"))]

ALLOWED = {
    **dict.fromkeys(SWITCHES, "true or false"),
    **dict.fromkeys(RATIOS, "a ratio, a number from 0 to 1"),
    **dict.fromkeys(SECONDS, "seconds, a number >= 0"),
    "sample_interval": "0, or seconds, a number >= 0.2",
    "snapshot_timeout": "seconds, a number >= 0.01",
    "source_timeout": "seconds, a number >= 0.001",
    "alert_gpu_hot_threshold": "degrees Celsius, a number",
    "sources": f"auto, or a list of {', '.join(SOURCES)}",
    "gpus": "visible or all",
    "metrics": "a list of default, all, names of metrics, patterns (hwmetrics.gpu.nvlink.*), each with a - before it to "
    "leave it out",
    "dataset_paths": "a path or a list of paths",
}
"""What each option takes, in words."""

WRONG: dict[str, list[Any]] = {
    **{name: ["perhaps", 2, 1.5, [True]] for name in SWITCHES},
    **{name: ["much", -0.01, 1.01, "50%", True, [0.5], math.nan, math.inf] for name in RATIOS},
    **{name: ["soon", -1, "5s", False, math.nan, math.inf, [1.0]] for name in SECONDS},
    "sample_interval": ["soon", -1, 0.1, True, math.inf],
    "snapshot_timeout": ["soon", 0, 0.001, True, math.inf],
    "source_timeout": ["soon", 0, 0.0001, True, math.inf],
    "alert_gpu_hot_threshold": ["hot", -300, True, math.inf, math.nan, [80]],
    "sources": ["nvidiaa", ["system", 3], 7, ["auto", "system"], {"system": True}, ","],
    "gpus": ["mine", 0, ["all"], False],
    "metrics": [7, True, {"all": True}, ["hw.gpu.io", 3.5], "GPU power", "--all", "default,,all"],
    "dataset_paths": [7, True, {"/data": True}, ["/data", 3], "/data,,/more"],
}
"""Values that each option refuses."""

PATHS_IN_TEXT = "/data,,/more"
"""The one text that is no list of paths; whatever else the environment says may be the name of a file."""


def wrong(name: str) -> str:
    """A text that the option refuses wherever it stands."""
    return PATHS_IN_TEXT if name == "dataset_paths" else "no such thing"


def good(name: str) -> tuple[Any, Any]:
    """Two values of an option that differ from its default and, where it has more than two, from each other."""
    default = getattr(Config(), name)
    if isinstance(default, bool):
        return not default, not default
    if isinstance(default, float):
        return default / 2, default / 4
    return {
        "sources": (("process",), ("system",)),
        "gpus": ("all", "all"),
        "metrics": (("default", "-hw.gpu.io"), ("hwmetrics.gpu.nvlink.*",)),
        "dataset_paths": (("/data/one", "relative"), ("/two",)),
    }[name]


def toml(value: Any) -> str:
    """A value as TOML writes it, as far as these tests go."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return json.dumps(value)


class Places:
    """The four places, written to by name."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.arguments: dict[str, Any] = {}
        self.environ: dict[str, str] = {}

    def put(self, place: str, name: str, value: Any) -> None:
        """Set an option in a place."""
        if place == "argument":
            self.arguments[name] = value
        elif place == "environment":
            text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            self.environ[ENVIRONMENT_PREFIX + name.upper()] = text
        else:
            path = self.directory / place
            head = "[tool.otel_hwmetrics]\n" if place == "pyproject.toml" else ""
            before = path.read_text() if path.exists() else head
            path.write_text(f"{before}{name} = {toml(value)}\n")

    def resolve(self) -> tuple[Config, list[str]]:
        """The configuration and what was wrong, in words."""
        config, errors = resolve(self.arguments, self.environ, self.directory)
        return config, [str(error) for error in errors]

    def words(self, place: str, name: str) -> str:
        """How a message calls a place."""
        if place == "argument":
            return "(as an argument)"
        if place == "environment":
            return f"(in the environment, as OTEL_PYTHON_HWMETRICS_{name.upper()})"
        return f"(in {self.directory / place})"


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """Four empty places."""
    return Places(tmp_path)


def test_the_tables_of_these_tests_cover_every_option() -> None:
    """An option added without its row here is an untested one."""
    assert set(ALLOWED) == set(WRONG) == set(OPTIONS) == {entry.name for entry in fields(Config)}


def test_defaults_are_the_numbers_that_were_asked_for() -> None:
    """GPU memory 90 %, 80 °C, 95 % of the power limit, under 50 % for 60 s, idle 300 s, host memory 90 %, I/O 30 %."""
    config, errors = resolve({}, {}, Path("/nowhere"))
    assert errors == ()
    assert config == Config()
    assert config.alert_gpu_memory_pressure_threshold == 0.9
    assert config.alert_gpu_hot_threshold == 80
    assert config.alert_gpu_power_limit_threshold == 0.95
    assert (config.alert_gpu_underused_threshold, config.alert_gpu_underused_for) == (0.5, 60)
    assert config.alert_gpu_idle_for == 300
    assert config.alert_host_memory_pressure_threshold == 0.9
    assert config.alert_io_bottleneck_threshold == 0.3
    assert [name for name in SWITCHES if getattr(config, name) is not True] == ["per_cpu"]
    assert (config.metrics, config.dataset_paths) == (("default",), ())
    assert (config.sources, config.gpus) == (("auto",), "visible")
    assert (config.sample_interval, config.snapshot_timeout, config.source_timeout) == (1.0, 0.2, 0.5)


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


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_is_read_from_every_place(places: Places, name: str, place: str) -> None:
    """The value arrives, as its own type, and no other option is touched."""
    value, _ = good(name)
    places.put(place, name, value)
    config, errors = places.resolve()
    assert errors == []
    assert getattr(config, name) == value
    assert type(getattr(config, name)) is type(getattr(Config(), name))
    assert {other for other in OPTIONS if getattr(config, other) != getattr(Config(), other)} == {name}


@pytest.mark.parametrize(
    ("weaker", "stronger"),
    [
        ("hwmetrics.toml", "environment"),
        ("environment", "argument"),
        ("pyproject.toml", "environment"),
        ("hwmetrics.toml", "argument"),
    ],
)
@pytest.mark.parametrize("name", ["sample_interval", "alert_gpu_hot_threshold", "sources"])
def test_the_better_place_wins(places: Places, name: str, weaker: str, stronger: str) -> None:
    """An argument beats the environment, which beats a file."""
    first, second = good(name)
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


@pytest.mark.parametrize(
    ("name", "value", "place"),
    [
        (name, value, place)
        for name, values in WRONG.items()
        for value in values
        for place in PLACES
        if name != "dataset_paths" or place != "environment" or value == PATHS_IN_TEXT
    ],
)
def test_a_wrong_value_is_named_with_all_that_helps(places: Places, name: str, value: Any, place: str) -> None:
    """Option, value, place and what is allowed are in the message; the default stays; the others keep theirs."""
    other = "gpus" if name != "gpus" else "sample_interval"
    expected, _ = good(other)
    places.put(place, name, value)
    places.put(place, other, expected)
    config, (error,) = places.resolve()
    shown = str(value) if place == "environment" else value
    assert error == f"option {name!r} is {shown!r} {places.words(place, name)}; it takes {ALLOWED[name]}"
    assert getattr(config, name) == getattr(Config(), name)
    assert getattr(config, other) == expected


@pytest.mark.parametrize(
    ("weaker", "stronger"),
    [("hwmetrics.toml", "environment"), ("pyproject.toml", "argument"), ("environment", "argument")],
)
@pytest.mark.parametrize("name", OPTIONS)
def test_a_wrong_value_falls_back_to_the_next_best_place(places: Places, name: str, weaker: str, stronger: str) -> None:
    """What a weaker place says is better than the default."""
    value, _ = good(name)
    places.put(weaker, name, value)
    places.put(stronger, name, wrong(name))
    config, errors = places.resolve()
    assert getattr(config, name) == value
    assert len(errors) == 1


@pytest.mark.parametrize("place", PLACES)
def test_every_wrong_value_is_told_and_each_alone(places: Places, place: str) -> None:
    """One message an option, in the order given, none swallowed by another."""
    for name in OPTIONS:
        places.put(place, name, wrong(name))
    config, errors = places.resolve()
    assert config == Config()
    assert [error.split("'")[1] for error in errors] == list(OPTIONS)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("unknown", "hint"),
    [
        ("sample_intervall", "did you mean 'sample_interval'?"),
        ("alert_gpu_hot_treshold", "did you mean 'alert_gpu_hot_threshold'?"),
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


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("nothing", [None, "", [], ()])
def test_none_and_empty_are_unset(places: Places, name: str, nothing: Any) -> None:
    """They say nothing: what a weaker place says counts, and nobody complains."""
    value, _ = good(name)
    places.put("hwmetrics.toml", name, value)
    places.put("environment", name, "")
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
        ("alert_gpu_hot_threshold", "-10", -10.0),
        ("alert_gpu_hot_for", 0, 0.0),
        ("alert_gpu_idle_threshold", 1, 1.0),
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


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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


@pytest.mark.parametrize(
    "value",
    [10**400, -(10**400), 10**5000, json.loads("[" * 900 + "]" * 900)],
    ids=["large", "small", "long", "deep"],
)
@pytest.mark.parametrize("name", OPTIONS)
def test_values_beyond_all_bounds_are_refused_like_others(name: str, value: Any) -> None:
    """Too large for a float, too long to be written, nested too deep: one message that names the option."""
    config, (error,) = resolve({name: value}, {}, Path("/nowhere"))
    assert str(error).startswith(f"option {name!r} is ")
    assert str(error).endswith(f"; it takes {ALLOWED[name]}")
    assert config == Config()
