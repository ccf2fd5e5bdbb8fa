# SPDX-License-Identifier: Apache-2.0
"""Joining the four places that options come from."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from otel_hwmetrics.config.files import read_file
from otel_hwmetrics.config.kinds import ConfigError, show
from otel_hwmetrics.config.of_rules import FAMILIES, RuleSettings, flat_setting
from otel_hwmetrics.config.table import OPTIONS, Config

ENVIRONMENT_PREFIX = "OTEL_PYTHON_HWMETRICS_"
_NOT_OPTIONS = {"FAKE_NVML", "LOUD", "CONFIG_FILE"}
# Environment variables below our prefix that are no options: otel_hwmetrics.testing, otel_hwmetrics._guard, `resolve`.


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
    origin, from_file = read_file(named_file, directory or _working_directory(), errors)
    from_environment = {
        key.removeprefix(ENVIRONMENT_PREFIX).lower(): value
        for key, value in environ.items()
        if key.startswith(ENVIRONMENT_PREFIX) and key.removeprefix(ENVIRONMENT_PREFIX) not in _NOT_OPTIONS
    }
    values: dict[str, Any] = {}
    rules: list[RuleSettings] = []
    # The weakest place first, so that a better one overwrites it; a value that is wrong overwrites nothing.
    rules += _take_all(from_file, values, errors, lambda _: f"in {origin}")
    rules += _take_all(
        from_environment, values, errors, lambda name: f"in the environment, as {ENVIRONMENT_PREFIX}{name.upper()}"
    )
    rules += _take_all(arguments, values, errors, lambda _: "as an argument")
    return Resolved(Config(**values, rules=tuple(rules)), tuple(errors))


def _take_all(
    layer: Mapping[str, Any], values: dict[str, Any], errors: list[ConfigError], place: Callable[[str], str]
) -> list[RuleSettings]:
    """Take what one place says into the values; gives what it says of rules."""
    of_rules: list[RuleSettings] = []
    for name, value in layer.items():
        where = place(name)
        flat = [] if name in OPTIONS else flat_setting(name, value, where)
        if name not in OPTIONS and not flat:
            errors.append(unknown_option(name, where))
        elif not _unset(value):
            of_rules += flat
            if not flat:
                _take(values, name, value, where, errors)
    table = [each._replace(place=place("rules")) for each in values.pop("rules", ())]
    return sorted(table + of_rules, key=lambda said: said.reach)


def _unset(value: Any) -> bool:
    return value is None or (isinstance(value, str | list | tuple | dict) and not value)


def _take(values: dict[str, Any], name: str, value: Any, where: str, errors: list[ConfigError]) -> None:
    option = OPTIONS[name]
    try:
        values[name] = option.parse(value)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        is_it = "not what it takes" if option.secret else show(value)
        why = f", {error}" if isinstance(error, ConfigError) else ""
        errors.append(ConfigError(f"option {name!r} is {is_it} ({where}){why}; it takes {option.allowed}"))


def unknown_option(name: str, where: str) -> ConfigError:
    """The error for a name that is no option, with the nearest one that is."""
    near = difflib.get_close_matches(name, [*OPTIONS, *FAMILIES, "config_file"], n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"the options are: {', '.join(OPTIONS)}"
    return ConfigError(f"there is no option {name!r} ({where}); {hint}")


def _named_file(argument: Any, environ: Mapping[str, str], errors: list[ConfigError]) -> Path | None:
    if not _unset(argument):
        try:
            return Path(argument)
        except TypeError:
            shown = show(argument)
            errors.append(ConfigError(f"option 'config_file' is {shown} (as an argument); it takes a path to TOML"))
    named = environ.get(ENVIRONMENT_PREFIX + "CONFIG_FILE")
    return Path(named) if named else None


def _working_directory() -> Path:
    try:
        return Path.cwd()
    except OSError:  # it was removed while the job is in it
        return Path()
