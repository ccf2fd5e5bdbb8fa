# SPDX-License-Identifier: Apache-2.0
"""Options: one table, read from four places.

Each field of `Config` is one option: its default, what it takes, and what it means. A value comes from, in this
order: an argument of `instrument()` (or the declarative configuration file, which the SDK hands over as arguments),
the environment (``OTEL_PYTHON_HWMETRICS_<OPTION>``), a file (``hwmetrics.toml``, else ``[tool.otel_hwmetrics]`` in
``pyproject.toml``, in the working directory, or the file that ``config_file`` names), the default.
An empty value counts as unset.
"""

from __future__ import annotations

import difflib
import math
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple, cast

ENVIRONMENT_PREFIX = "OTEL_PYTHON_HWMETRICS_"
_NOT_OPTIONS = {"FAKE_NVML", "LOUD", "CONFIG_FILE"}
# Environment variables below our prefix that are no options: otel_hwmetrics.testing, otel_hwmetrics._guard, `resolve`.

SOURCES = (
    *("system", "filesystem", "pressure", "container", "sensors"),
    *("process", "tree", "dataset"),
    *("nvidia", "amd", "torch", "jax"),
)
"""Names of the sources that ``sources`` may list."""


class ConfigError(ValueError):
    """An option that cannot be taken; the message names it, its value, where that came from and what is allowed."""


class Option(NamedTuple):
    """What one option takes.

    Attributes:
        parse: Makes the value from a string or a native one; raises ValueError or TypeError.
        allowed: What it takes, in words, for messages and documentation.
        help: What it means, one sentence.
    """

    parse: Callable[[Any], Any]
    allowed: str
    help: str


def _switch(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    words = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    return words[str(value).strip().lower()]


def _number(least: float, most: float = math.inf) -> Callable[[Any], float]:
    def parse(value: Any) -> float:
        if isinstance(value, bool):
            raise TypeError(value)
        number = float(value)
        if not least <= number <= most or math.isinf(number):
            raise ValueError(value)
        return number

    return parse


def _interval(value: Any) -> float:
    number = _number(0)(value)
    if 0 < number < 0.2:  # noqa: PLR2004 - as it is told
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


def _patterns(value: Any) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    if isinstance(parts, Mapping):
        raise TypeError(value)
    patterns = tuple(str(part).strip() for part in parts)
    if not all(re.fullmatch(r"-?[a-z*][a-z0-9_.*?]*", pattern) for pattern in patterns):
        raise ValueError(value)
    return patterns


def _paths(value: Any) -> tuple[str, ...]:
    if isinstance(value, Mapping):
        raise TypeError(value)
    parts = value.split(",") if isinstance(value, str) else [value] if isinstance(value, os.PathLike) else value
    paths = tuple(os.fspath(part).strip() for part in parts)
    if not all(paths):
        raise ValueError(value)
    return paths


def _one_of(*choices: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        word = str(value).strip().lower()
        if word not in choices:
            raise ValueError(value)
        return word

    return parse


def _option(default: Any, parse: Callable[[Any], Any], allowed: str, meaning: str) -> Any:
    return field(default=default, metadata={"option": Option(parse, allowed, meaning)})


def switch(default: bool, meaning: str) -> bool:  # noqa: FBT001 - a row of the table reads like its value
    """An option that is on or off."""
    return cast("bool", _option(default, _switch, "true or false", meaning))


def seconds(default: float, meaning: str, least: float = 0.0) -> float:
    """An option that is a length of time in seconds."""
    return cast("float", _option(default, _number(least), f"seconds, a number >= {least:g}", meaning))


def ratio(default: float, meaning: str) -> float:
    """An option that is a part of a whole, 0 to 1."""
    return cast("float", _option(default, _number(0, 1), "a ratio, a number from 0 to 1", meaning))


@dataclass(frozen=True, kw_only=True)
class Config:
    """Every option with its value; immutable. The defaults are the recommended ones."""

    enabled: bool = switch(True, "Do anything at all.")
    sources: tuple[str, ...] = _option(
        ("auto",),
        _source_names,
        f"auto, or a list of {', '.join(SOURCES)}",
        "What is read. With auto whatever is there; a source that is named must be there.",
    )
    gpus: str = _option(
        "visible",
        _one_of("visible", "all"),
        "visible or all",
        "Which GPUs are reported: those that CUDA_VISIBLE_DEVICES leaves to the job, or every one of the machine.",
    )
    metrics: tuple[str, ...] = _option(
        ("default",),
        _patterns,
        "a list of default, all, names of metrics, patterns (hwmetrics.gpu.nvlink.*), each with a - before it to leave it out",
        "Which metrics are exported. Alerts know all of them in any case.",
    )
    per_cpu: bool = switch(False, "Tell CPU time and utilization of the host for each logical CPU.")
    dataset_paths: tuple[str, ...] = _option(
        (),
        _paths,
        "a path or a list of paths",
        "Where the training data lies: the file systems and devices below them are always told of.",
    )
    sample_interval: float = _option(
        1.0,
        _interval,
        "0, or seconds, a number >= 0.2",  # closer together there are no rates between two samples
        "Time between two samples, which alerts are judged on; 0 samples at exports only.",
    )
    snapshot_timeout: float = seconds(
        0.2, "How long an export waits for a fresh look at the machine before it takes the last one.", least=0.01
    )
    source_timeout: float = seconds(
        0.5, "How long a source that may hang can hold a sample up before it is left out of it.", least=0.001
    )
    alerts: bool = switch(True, "Judge alert rules.")
    alert_gpu_memory_pressure: bool = switch(True, "Alert when the memory of a GPU is nearly full.")
    alert_gpu_memory_pressure_threshold: float = ratio(0.9, "Used share of GPU memory above which it fires.")
    alert_gpu_memory_pressure_for: float = seconds(5.0, "How long it has to last.")
    alert_gpu_hot: bool = switch(True, "Alert when a GPU is hot.")
    alert_gpu_hot_threshold: float = _option(
        80.0, _number(-273.15), "degrees Celsius, a number", "Temperature above which it fires."
    )
    alert_gpu_hot_for: float = seconds(5.0, "How long it has to last.")
    alert_gpu_power_limit: bool = switch(True, "Alert when a GPU draws the power that it is held to.")
    alert_gpu_power_limit_threshold: float = ratio(0.95, "Share of the power limit above which it fires.")
    alert_gpu_power_limit_for: float = seconds(60.0, "How long it has to last.")
    alert_gpu_underused: bool = switch(True, "Alert when a GPU has little to do.")
    alert_gpu_underused_threshold: float = ratio(0.5, "Utilization below which it fires.")
    alert_gpu_underused_for: float = seconds(60.0, "How long it has to last.")
    alert_gpu_idle: bool = switch(True, "Alert when a GPU has nothing to do, which may be a hang.")
    alert_gpu_idle_threshold: float = ratio(0.05, "Utilization below which it fires.")
    alert_gpu_idle_for: float = seconds(300.0, "How long it has to last.")
    alert_host_memory_pressure: bool = switch(
        True, "Alert when the memory of the host, or what the container may use of it, is nearly full."
    )
    alert_host_memory_pressure_threshold: float = ratio(0.9, "Used share of memory above which it fires.")
    alert_host_memory_pressure_for: float = seconds(5.0, "How long it has to last.")
    alert_io_bottleneck: bool = switch(True, "Alert when work waits for I/O.")
    alert_io_bottleneck_threshold: float = ratio(
        0.3, "Share of the time in which work waits for I/O above which it fires."
    )
    alert_io_bottleneck_for: float = seconds(30.0, "How long it has to last.")


OPTIONS: dict[str, Option] = {entry.name: entry.metadata["option"] for entry in fields(Config)}
"""The table: every option by its name."""


class Resolved(NamedTuple):
    """A configuration and what was wrong on the way to it.

    Attributes:
        config: Usable in any case: an option that could not be taken has its next best value.
        errors: One for each option that could not be taken.
    """

    config: Config
    errors: tuple[ConfigError, ...]


def resolve(
    arguments: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> Resolved:
    """Join the four places that options come from. Never raises: what is wrong comes back as errors.

    Args:
        arguments: Options by name, as given to `instrument()`; None counts as unset, and ``config_file`` may be there.
        environ: The environment; the process's own by default.
        directory: Where configuration files are looked for; the working directory by default.
    """
    environ = os.environ if environ is None else environ
    arguments = dict(arguments or {})
    errors: list[ConfigError] = []
    named_file = _named_file(arguments.pop("config_file", None), environ, errors)
    origin, from_file = _read_file(named_file, directory or _working_directory(), errors)
    from_environment = {
        key.removeprefix(ENVIRONMENT_PREFIX).lower(): value
        for key, value in environ.items()
        if key.startswith(ENVIRONMENT_PREFIX) and key.removeprefix(ENVIRONMENT_PREFIX) not in _NOT_OPTIONS
    }
    values: dict[str, Any] = {}
    # The weakest place first, so that a better one overwrites it; a value that is wrong overwrites nothing.
    for layer, where in (
        (from_file, f"in {origin}"),
        (from_environment, "in the environment, as "),
        (arguments, "as an argument"),
    ):
        for name, value in layer.items():
            place = where + ENVIRONMENT_PREFIX + name.upper() if layer is from_environment else where
            if name not in OPTIONS:
                errors.append(unknown_option(name, place))
            elif not _unset(value):
                _take(values, name, value, place, errors)
    return Resolved(Config(**values), tuple(errors))


def _unset(value: Any) -> bool:
    return value is None or (isinstance(value, str | list | tuple) and not value)


def _take(values: dict[str, Any], name: str, value: Any, where: str, errors: list[ConfigError]) -> None:
    option = OPTIONS[name]
    try:
        values[name] = option.parse(value)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        errors.append(ConfigError(f"option {name!r} is {_show(value)} ({where}); it takes {option.allowed}"))


def _show(value: Any) -> str:
    try:
        return repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, lists in lists in lists
        return f"one {type(value).__name__} too long to show"


def unknown_option(name: str, where: str) -> ConfigError:
    """The error for a name that is no option, with the nearest one that is."""
    near = difflib.get_close_matches(name, OPTIONS, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"the options are: {', '.join(OPTIONS)}"
    return ConfigError(f"there is no option {name!r} ({where}); {hint}")


def _named_file(argument: Any, environ: Mapping[str, str], errors: list[ConfigError]) -> Path | None:
    if not _unset(argument):
        try:
            return Path(argument)
        except TypeError:
            shown = _show(argument)
            errors.append(ConfigError(f"option 'config_file' is {shown} (as an argument); it takes a path to TOML"))
    named = environ.get(ENVIRONMENT_PREFIX + "CONFIG_FILE")
    return Path(named) if named else None


def _working_directory() -> Path:
    try:
        return Path.cwd()
    except OSError:  # it was removed while the job is in it
        return Path()


def _read_file(named: Path | None, directory: Path, errors: list[ConfigError]) -> tuple[str, dict[str, Any]]:
    """The options in the configuration file, and the name to call it by."""
    if named is not None:
        return str(named), _table_in(named, errors)
    for name in ("hwmetrics.toml", "pyproject.toml"):
        path = directory / name
        if os.path.isfile(path):  # Path.is_file raises where the directory may not be entered
            table = _table_in(path, errors)
            if table or name == "hwmetrics.toml":
                return str(path), table
    return "", {}


def _table_in(path: Path, errors: list[ConfigError]) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    raw = b""
    try:
        raw = path.read_bytes()
        content = tomllib.loads(raw.decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        # A broken pyproject.toml that does not speak of us is not ours to complain of.
        if path.name != "pyproject.toml" or not raw or b"otel_hwmetrics" in raw:
            errors.append(ConfigError(f"configuration file {path} cannot be read: {error}"))
        return {}
    if path.name == "pyproject.toml":
        tool = content.get("tool", {})
        content = tool.get("otel_hwmetrics", {}) if isinstance(tool, dict) else {}
    if not isinstance(content, dict):
        errors.append(ConfigError(f"[tool.otel_hwmetrics] in {path} is {content!r}; it takes a table of options"))
        return {}
    return content
