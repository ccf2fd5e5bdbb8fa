# SPDX-License-Identifier: Apache-2.0
"""What is to be run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from otel_hwmetrics.recording.nouns import Request


@dataclass(frozen=True)
class JobSpec:
    """A job that is to be run.

    Attributes:
        name: What people call it; of those of a run no other has the same.
        command: Its words; of a text that a shell is to read, that alone.
        as_text: Whether it is such a text.
        request: What was asked for.
        tags: Words of the user's.
        environ: Variables that it has beside those of the launcher.
        blocked_by: Names of the jobs that have to be done before it.
    """

    name: str
    command: tuple[str, ...]
    as_text: bool = False
    request: Request = field(default_factory=Request)
    tags: Mapping[str, str] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)
    blocked_by: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """A run that is to be.

    Attributes:
        jobs: What it consists of.
        name: What people call it.
        tags: Words of the user's.
        enabled: Whether anything is watched and recorded.
        granularity: As the option `record_granularity` has it; None for that.
        interval: Seconds between two looks; None for the option `sample_interval`.
        plots: Whether it is drawn at its end.
    """

    jobs: tuple[JobSpec, ...]
    name: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    enabled: bool = True
    granularity: str | None = None
    interval: float | None = None
    plots: bool = False
