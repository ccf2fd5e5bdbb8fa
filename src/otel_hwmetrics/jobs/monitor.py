# SPDX-License-Identifier: Apache-2.0
"""The launcher's own pipeline: it looks at the machine and the jobs, and records both. It exports nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from opentelemetry._logs import NoOpLoggerProvider
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.trace import NoOpTracerProvider

from otel_hwmetrics import redaction
from otel_hwmetrics._guard import guard
from otel_hwmetrics.config import Config
from otel_hwmetrics.jobs.gpus import GpuLists
from otel_hwmetrics.jobs.watch import Watch
from otel_hwmetrics.pipeline import SOURCES, Pipeline, SourceMaker
from otel_hwmetrics.recording.nouns import PARENT
from otel_hwmetrics.sources.base import SourceUnavailable
from otel_hwmetrics.sources.gpu.nvidia import NvidiaSource

OF_THE_MACHINE: Final = ("system", "filesystem", "pressure", "container", "sensors", "nvidia", "amd")
"""Sources that tell nothing of the process that reads them."""
LAST_BATCH: Final = 5.0
"""Seconds that the end waits for the last batch to be written: the jobs are over, and nothing waits but a shell."""

_logger = redaction.logger()


class Monitor:
    """Watches the jobs of a run. Whatever fails of it is logged, and the jobs run on.

    Args:
        config: Every option, `record` and `record_run` among them.
        watch: The jobs.
        lists: Who has memory on which GPU, as ``watch`` asks it.
        judges: Whether alerts are judged and told of: of jobs that measure themselves, these do.
    """

    def __init__(self, config: Config, watch: Watch, lists: GpuLists, *, judges: bool) -> None:
        self.recording = ""
        """The file that was written, once it is; empty for none."""
        self._watch = watch
        self._pipeline: Pipeline | None = None
        sources = self._sources(config, lists)
        # No handlers of ours for signals, and nothing of a training that would be this process itself.
        config = replace(
            config,
            record=True,
            sources=("auto",),
            alerts=config.alerts and judges,
            emit="always" if judges else "never",
            notify=config.notify if judges else (),
            flight_recorder=0.0,
            profile_on_alert=(),
            stall_stacks=False,
            span_summary=False,
        )
        with guard("watching the jobs"):
            pipeline = Pipeline(
                config,
                meter_provider=NoOpMeterProvider(),
                tracer_provider=NoOpTracerProvider(),
                logger_provider=NoOpLoggerProvider(),
                sources=sources,
                jobs=watch,
                role=PARENT,
            )
            try:
                pipeline.start()
            except SourceUnavailable as error:  # it is not named, so this is not to be
                _logger.warning("%s", error)
                return
            self._pipeline = pipeline

    @staticmethod
    def _sources(config: Config, lists: GpuLists) -> Mapping[str, SourceMaker]:
        named = OF_THE_MACHINE if config.sources == ("auto",) else config.sources
        sources: dict[str, SourceMaker] = {name: SOURCES[name] for name in OF_THE_MACHINE if name in named}
        if "nvidia" in sources:
            sources["nvidia"] = lambda config, clock: NvidiaSource(config.gpus, clock=clock.monotonic, ours=lists)
        return MappingProxyType(sources)

    def stop(self) -> None:
        """Have the last of it written, and end the threads."""
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            with guard("ending the watch of the jobs"):
                pipeline.stop(LAST_BATCH)
                self.recording = pipeline.recording
        self._watch.close()
