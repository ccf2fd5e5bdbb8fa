# SPDX-License-Identifier: Apache-2.0
"""The places that options come from, for tests."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from otel_hwmetrics.config import ENVIRONMENT_PREFIX, Config, resolve

PLACES = ("hwmetrics.toml", "pyproject.toml", "environment", "argument")


def toml(value: Any) -> str:
    """A value as TOML writes it, as far as these tests go."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


class Places:
    """The four places, written to by name."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.arguments: dict[str, Any] = {}
        self.environ: dict[str, str] = {}

    def put(self, place: str, name: str, value: Any) -> None:
        """Set an option in a place."""
        if place == "argument":
            self.arguments[name] = value
        elif place == "environment":
            between = " " if name == "notify" else ","
            text = between.join(map(str, value)) if isinstance(value, tuple) else str(value)
            self.environ[ENVIRONMENT_PREFIX + name.upper()] = json.dumps(value) if name == "rules" else text
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
