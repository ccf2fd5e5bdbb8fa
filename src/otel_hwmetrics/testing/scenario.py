# SPDX-License-Identifier: Apache-2.0
"""Scripts in TOML; the format is described in `otel_hwmetrics.testing`."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from otel_hwmetrics import redaction
from otel_hwmetrics._guard import guard
from otel_hwmetrics.testing.gpu import FakeGpu, FakeMig, FakeProcess, InvalidValueError
from otel_hwmetrics.testing.nvml import FakeNvml

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from otel_hwmetrics.testing.captures import ReplayNvml
    from otel_hwmetrics.testing.clock import Clock

_logger: Final = redaction.logger("otel_hwmetrics.testing")

_ENVIRONMENT_VARIABLE: Final = "OTEL_PYTHON_HWMETRICS_FAKE_NVML"

_WHEN: Final = frozenset({"gpu", "after", "until"})
# Required and optional keys of the tables that become calls of the FakeNvml method of the same name.
_FAULTS: Final = {
    "fail": (frozenset({"function", "code"}), _WHEN),
    "delay": (frozenset({"function", "seconds"}), _WHEN),
    "hang": (frozenset({"function"}), _WHEN),
    "garble": (frozenset({"function"}), _WHEN),
    "fail_field": (frozenset({"field", "code"}), _WHEN),
    "fail_gpm_metric": (frozenset({"metric", "code"}), _WHEN),
}
# Tables within [[gpu]].
_PARTS: Final = {"processes": FakeProcess, "mig": FakeMig}
_OPTIONS: Final = ("driver_version", "boottime_offset")
_TOP_LEVEL: Final = frozenset({*_OPTIONS, "gpu", *_FAULTS})


_T = TypeVar("_T")


class ScenarioError(ValueError):
    """A scenario file is wrong; the message names the file, the key, the value and what is allowed."""


def load_scenario(path: str | os.PathLike[str], *, clock: Clock | None = None) -> FakeNvml:
    """Read a script from a TOML file, in the format that `otel_hwmetrics.testing` describes.

    Args:
        path: The file.
        clock: As for `FakeNvml`: real time by default.

    Returns:
        The scripted NVML, not installed yet.

    Raises:
        ScenarioError: The file is not TOML, or not a scenario.
        OSError: The file cannot be read.
    """
    document = _read_toml(Path(path))
    try:
        return _build(document, clock)
    except InvalidValueError as error:
        message = f"{path}: {error}"
        raise ScenarioError(message) from error


def install(path: str) -> FakeNvml | ReplayNvml | None:
    """Install a scenario or a capture for the life of the process, as the environment asks for it; raises nothing.

    Returns:
        What was installed; None if the file is bad, which is logged.
    """
    with guard("installing scripted GPUs"):
        # Not at the top: a process that has no scenario should not pay for the reader of captures.
        from otel_hwmetrics.testing.captures import load_machine

        try:
            nvml = load_machine(path)
        except (OSError, ScenarioError) as error:
            # The message names the file and the mistake; a traceback would only bury it.
            _logger.error("%s: no scripted GPUs: %s", _ENVIRONMENT_VARIABLE, error)
            return None
        nvml.install()
        _logger.warning("NVML is scripted: %d GPU(s) from %s are not real", len(nvml.gpus), path)
        return nvml
    return None


def _read_toml(path: Path) -> dict[str, Any]:
    # Not at the top: a process that has no scenario should not pay for a parser.
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    try:
        document: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError both are
        message = f"{path}: not a TOML file: {error}"
        raise ScenarioError(message) from error
    return document


def _build(document: dict[str, Any], clock: Clock | None) -> FakeNvml:
    _check_keys(document, frozenset(), _TOP_LEVEL)
    gpus = []
    for name, table in _tables(document, "gpu"):
        with _inside(name):
            parts: dict[str, Any] = {key: _parts(table, key, made) for key, made in _PARTS.items() if key in table}
            gpus.append(_made(FakeGpu, {**table, **parts}))
    options = {key: document[key] for key in _OPTIONS if key in document}
    nvml = FakeNvml(gpus if "gpu" in document else 1, clock=clock, **options)
    for fault, (required, optional) in _FAULTS.items():
        for name, table in _tables(document, fault):
            with _inside(name):
                _check_keys(table, required, optional)
                getattr(nvml, fault)(**table)
    return nvml


def _parts(table: dict[str, Any], key: str, made: type[_T]) -> list[_T]:
    found = []
    for name, part in _tables(table, key):
        with _inside(name):
            found.append(_made(made, part))
    return found


def _made(made: type[_T], table: dict[str, Any]) -> _T:
    _check_keys(table, frozenset(), {field.name for field in fields(made)})  # type: ignore[arg-type]
    return made(**table)


def _tables(document: dict[str, Any], key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    tables = document.get(key, [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise InvalidValueError(tables, key, f"tables under [[{key}]]")
    for index, table in enumerate(tables):
        yield f"{key}[{index}]", table


def _check_keys(table: dict[str, Any], required: Collection[str], optional: Collection[str]) -> None:
    allowed = f"one of the keys {', '.join(sorted({*required, *optional}))}"
    for key, value in table.items():
        if key not in required and key not in optional:
            raise InvalidValueError(value, key, allowed)
    for key in sorted(required):
        if key not in table:
            raise InvalidValueError(None, key, "any value it can have: this key is required")


@contextlib.contextmanager
def _inside(table: str) -> Iterator[None]:
    """Say in which table a value is wrong."""
    try:
        yield
    except InvalidValueError as error:
        raise InvalidValueError(error.value, f"{table}.{error.key}", error.allowed) from error
