# SPDX-License-Identifier: Apache-2.0
"""What each instrumented process of a run was like before it ran anything, told by OpenTelemetry's own hook (`hooked/`)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple

from otel_hwmetrics.roles import role_of

from .launch import HERE

DOORS = {"otel_hwmetrics", "otel_hwmetrics.instrumentor", "otel_hwmetrics.roles", "otel_hwmetrics.testing"}
"""What auto-instrumentation loads of ours in every process; where nothing is measured it is all there is."""


class Looked(NamedTuple):
    """One process.

    Attributes:
        pid: Its number.
        kind: What it is by its command line; empty where it may train.
        modules: Those of ours that are loaded.
        threads: Those of ours that run.
    """

    pid: int
    kind: str
    modules: set[str]
    threads: list[str]


def watching(folder: Path) -> dict[str, str]:
    """The environment in which each instrumented process tells of itself in a folder, which has to be there."""
    paths = (str(HERE / "hooked"), os.environ.get("PYTHONPATH"))
    return {"LOOKED": str(folder), "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def looked(folder: Path) -> list[Looked]:
    """All that told of themselves."""
    found = []
    for path in folder.glob("*.json"):
        process = json.loads(path.read_text(encoding="utf-8"))
        role = role_of(process["argv"])
        found.append(
            Looked(int(path.stem), role.name if role else "", set(process["modules"]), process["threads"]),
        )
    return found
