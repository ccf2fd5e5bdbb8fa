# SPDX-License-Identifier: Apache-2.0
"""From options to a recorder. Loaded where a run is recorded, and nowhere else: SQLite takes its time to load."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from otel_hwmetrics import redaction
from otel_hwmetrics.config import Config
from otel_hwmetrics.folders import Folder
from otel_hwmetrics.recording.nouns import SUMMARY, About
from otel_hwmetrics.recording.requests import Bounds, requested
from otel_hwmetrics.sinks.recorder import Recorder
from otel_hwmetrics.sinks.recorder_about import about, name_of, run_of
from otel_hwmetrics.sinks.recorder_choice import Choice, Kept, recorded_metrics
from otel_hwmetrics.sinks.recorder_file import RecordingFile
from otel_hwmetrics.sinks.recorder_jobs import JobWatch
from otel_hwmetrics.sinks.recorder_own_job import OwnJob
from otel_hwmetrics.sinks.rows import Rows

_logger = redaction.logger()


def recorder(  # noqa: PLR0913 - each is a different part of the world
    config: Config,
    folder: Folder | None,
    *,
    role: str,
    jobs: JobWatch | None,
    bounds: Callable[[], tuple[float | None, int | None]],
    resource: Callable[[], Mapping[str, object]],
    kept: Kept,
    packed: Rows,
    monotonic: Callable[[], float],
    time_ns: Callable[[], int],
) -> Recorder | None:
    """What records the run; None where there is nowhere to.

    Args:
        config: Every option.
        folder: Where files go.
        role: Of who writes, as `otel_hwmetrics.recording.nouns` has it.
        jobs: Watches the jobs; None for this process and its tree.
        bounds: Gives the CPUs and bytes that this process is held to.
        resource: Gives attributes of the Resource, as far as they can be seen by then.
        kept: Which series this process records.
        packed: Packs samples.
        monotonic: Seconds that never go back.
        time_ns: The wall clock.
    """
    if folder is None:
        _logger.warning("The run is not recorded, training is not affected: no folder can be written to.")
        return None
    run = run_of(config)

    def introduced(now_ns: int) -> About:
        return about(config, role, run, resource(), now_ns)

    file = RecordingFile(
        folder,
        introduced,
        detail=config.record_detail,
        size=config.record_size,
        keep=config.record_keep,
        pause=config.record_batch,
        monotonic=monotonic,
        time_ns=time_ns,
    )
    choice = None if config.record_granularity == SUMMARY else Choice(recorded_metrics(config.metrics), kept)
    watch = jobs or OwnJob(name_of(config), requested(os.environ, Bounds(*bounds())))
    return Recorder(file, watch, choice=choice, batch=config.record_batch, packed=packed, time_ns=time_ns)
