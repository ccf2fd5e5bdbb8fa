# SPDX-License-Identifier: Apache-2.0
"""The environment of a command that is run: what its processes are told of the run that they are a part of."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from otel_hwmetrics.config import ENVIRONMENT_PREFIX, Config
from otel_hwmetrics.jobs.command import exports

_KEPT: Final = ("record_run", "record_name")
_SIGNALS: Final = ("TRACES", "METRICS", "LOGS")


def environment(  # noqa: PLR0913 - each is a word of its own
    environ: Mapping[str, str],
    config: Config,
    run: str,
    name: str,
    *,
    instrumented_by_us: bool,
    own: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, str]:
    """A command's environment.

    Where it is run under auto-instrumentation by us and says nothing of where telemetry goes, that is nowhere: the default
    is a collector on this machine, which a node without a network has not, and each export would be an error in the log.

    Args:
        environ: What it inherits, with what the job itself sets.
        config: The launcher's own options.
        run: The run's id.
        name: The job's name: by it, what its processes record is known to be of this job.
        instrumented_by_us: Whether whoever typed it typed no ``opentelemetry-instrument``.
        own: What the job itself sets: its options are kept to, but for the two by which it is known to be of this run.
    """
    told = {
        "record_run": run,
        "record_name": name,
        "record_granularity": config.record_granularity,
        "sample_interval": f"{config.sample_interval:g}",
    }
    if config.directory:
        told["directory"] = os.path.abspath(os.path.expanduser(config.directory))
    ours = {f"{ENVIRONMENT_PREFIX}{option.upper()}": (option, value) for option, value in told.items()}
    made = {**environ, **{name: value for name, (option, value) in ours.items() if option in _KEPT or name not in own}}
    switch = f"{ENVIRONMENT_PREFIX}RECORD"
    made[switch] = made.get(switch) or "true"  # who has switched it off there, has it off
    if instrumented_by_us and not exports(environ):
        made |= {f"OTEL_{signal}_EXPORTER": "none" for signal in _SIGNALS}
    return made
