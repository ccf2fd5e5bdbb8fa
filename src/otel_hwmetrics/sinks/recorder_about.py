# SPDX-License-Identifier: Apache-2.0
"""Who writes a recording: the process, its place in the job, its versions and its Resource."""

from __future__ import annotations

import math
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from otel_hwmetrics import __version__
from otel_hwmetrics.config import Config
from otel_hwmetrics.folders import host
from otel_hwmetrics.model import Attribute
from otel_hwmetrics.ranks import RANK, WORLD_SIZE, identity
from otel_hwmetrics.recording.ids import run_id
from otel_hwmetrics.recording.nouns import About
from otel_hwmetrics.sinks.recorder_own_job import script_name

_ASKED: Final = {
    "opentelemetry-api": "opentelemetry.version",
    "opentelemetry-sdk": "opentelemetry.sdk.version",
    "torch": "torch",
    "lightning": "lightning",
    "transformers": "transformers",
    "keras": "keras",
    "jax": "jax",
    "numpy": "numpy",
}
"""Packages whose version a recording tells, each with the module that has it; none is loaded for that."""


def plain(attributes: Mapping[str, Any] | None) -> dict[str, Attribute]:
    """Attributes as JSON has them; what is no attribute is left out, and a number that JSON has not becomes its word."""
    told = {str(key): _plain(value) for key, value in tuple((attributes or {}).items())}
    return {key: value for key, value in told.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str | bool | int):
        return value
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [each for part in value if (each := _plain(part)) is not None and not isinstance(each, list)]
    return None


def name_of(config: Config) -> str:
    """What the run is called."""
    return config.record_name or script_name(getattr(sys, "argv", ()))


def about(config: Config, role: str, run: str, resource: Mapping[str, Any] | None, now_ns: int) -> About:
    """Who writes it, as far as that is known by now.

    Args:
        config: Every option.
        role: Of the writer.
        run: The run's id.
        resource: Attributes of the Resource; None where none can be seen.
        now_ns: When it begins.
    """
    known = identity()
    rank, size = known.get(RANK), known.get(WORLD_SIZE)
    return About(
        run=run,
        name=name_of(config),
        role=role,
        host=host(),
        pid=os.getpid(),
        rank=rank if isinstance(rank, int) else None,
        world_size=size if isinstance(size, int) else None,
        started_ns=now_ns,
        heard_ns=now_ns,
        interval=config.sample_interval,
        batch=config.record_batch,
        granularity=config.record_granularity,
        versions=_versions(),
        resource=plain({**known, **(resource or {})}),
    )


def run_of(config: Config) -> str:
    """The run that this process is a part of."""
    return config.record_run or run_id(os.environ)


def _versions() -> dict[str, str]:
    found = {"otel-hwmetrics": __version__, "python": platform.python_version()}
    for package, module in _ASKED.items():
        version = getattr(sys.modules.get(module), "__version__", None)
        if version is not None:
            found[package] = str(version)
    return found
