# SPDX-License-Identifier: Apache-2.0
"""Joins the stages: the only module that knows them all.

config -> sources -> sampler -> sample -> instruments -> the SDK; sample -> alerts -> sinks.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from opentelemetry._logs import LoggerProvider
from opentelemetry.context import Context
from opentelemetry.metrics import MeterProvider, get_meter_provider
from opentelemetry.trace import TracerProvider, get_tracer_provider, set_span_in_context

from otel_hwmetrics import forks, redaction
from otel_hwmetrics._guard import guard
from otel_hwmetrics.alerts.subjects import Subject
from otel_hwmetrics.catalog import selected
from otel_hwmetrics.config import Config
from otel_hwmetrics.election import Emitter, Job, Ledger, job_of
from otel_hwmetrics.folders import runtime_folders
from otel_hwmetrics.instruments import (
    NO_SPAN,
    Feed,
    Instruments,
    adds_up,
    instruments_of,
    record,
    resource_attributes,
)
from otel_hwmetrics.judging import Judging
from otel_hwmetrics.model import Reading, Snapshot
from otel_hwmetrics.runners import Clock, ThreadRunner
from otel_hwmetrics.sampler import Sampler
from otel_hwmetrics.sinks.hooks import HOOKS
from otel_hwmetrics.sinks.local_spans import LocalSpan
from otel_hwmetrics.sinks.matching import Matcher
from otel_hwmetrics.sinks.tracker import TRACKER
from otel_hwmetrics.sources.base import Source
from otel_hwmetrics.sources.container import ContainerSource
from otel_hwmetrics.sources.dataset import DatasetSource
from otel_hwmetrics.sources.gpu.amd import AmdSource
from otel_hwmetrics.sources.gpu.nvidia import NvidiaSource
from otel_hwmetrics.sources.jax import JaxSource
from otel_hwmetrics.sources.linux.cgroup import bounds, effective_cpus
from otel_hwmetrics.sources.pressure import PressureSource
from otel_hwmetrics.sources.process import ProcessSource
from otel_hwmetrics.sources.sensors import SensorsSource
from otel_hwmetrics.sources.system import FilesystemSource, SystemSource
from otel_hwmetrics.sources.torch import TorchSource
from otel_hwmetrics.sources.training import TrainingSource
from otel_hwmetrics.sources.tree import TreeSource
from otel_hwmetrics.windows import Accumulator, Sample

if TYPE_CHECKING:
    from otel_hwmetrics.sinks.recorder_jobs import JobWatch

_logger = redaction.logger()

NAMED_SOURCE_PATIENCE = 30.0
"""Seconds that `Pipeline.start` waits for a source that the user named; without persistence mode a driver takes some."""

STOP_TIMEOUT = 0.2
"""Seconds that stopping waits for threads, all in all; one that hangs in a driver or a backend is left behind."""
AT_EXIT = 0.1
"""Seconds that the last export waits for a look at the machine, where something hangs as the job ends."""
SHARED_FOR = 0.05
"""Seconds for which a sample is fresh: readers that collect together share one look at the machine."""

SourceMaker: TypeAlias = Callable[[Config, Clock], Source]

SOURCES: dict[str, SourceMaker] = {
    "system": lambda config, clock: SystemSource(clock.monotonic, per_cpu=config.per_cpu),
    "filesystem": lambda config, clock: FilesystemSource(clock.monotonic, paths=config.dataset_paths),
    "pressure": lambda _, clock: PressureSource(clock=clock.monotonic),
    "container": lambda _, clock: ContainerSource(clock=clock.monotonic),
    "sensors": lambda _, clock: SensorsSource(clock.monotonic),
    "process": lambda _, clock: ProcessSource(clock.monotonic, effective_cpus=effective_cpus),
    "tree": lambda _, clock: TreeSource(clock.monotonic),
    "dataset": lambda config, clock: DatasetSource(config.dataset_paths, clock=clock.monotonic),
    "training": lambda _, clock: TrainingSource(now=clock.monotonic, spans_phase=TRACKER.phase, record=record),
    "nvidia": lambda config, clock: NvidiaSource(config.gpus, clock=clock.monotonic),
    "amd": lambda config, clock: AmdSource(config.gpus, clock=clock.monotonic),
    # Named, it also reads where waiting for one allocator could hold up the others.
    "torch": lambda config, clock: TorchSource(clock.monotonic, several="torch" in config.sources),
    "jax": lambda _, clock: JaxSource(clock.monotonic),
}
"""Every source by its name, in the order in which they are read."""

_accumulator = Accumulator()
_ledger = Ledger()
# One for the process, not one for the pipeline: the SDK goes on with a counter's stream after instrument(),
# uninstrument(), instrument(), and would take totals that begin again for negative growth.

_alive: weakref.WeakSet[Pipeline] = weakref.WeakSet()
# From the beginning of a pipeline's start to the end of its stop, during which somebody may fork, too.
_running: weakref.WeakSet[Pipeline] = weakref.WeakSet()


def _of_no_job() -> Job:
    """Who watches jobs from outside is none of their processes: it stands for nothing that these would tell of."""
    return Job("", None)


class Pipeline:
    """A running instrumentation, from configuration to the last sink.

    Args:
        config: Every option.
        meter_provider: Where metrics go; the global one by default.
        tracer_provider: Whose spans alerts are put onto; the global one by default, also when it is set later.
        logger_provider: Where alert records go; the global one by default, likewise.
        clock: Time of samples.
        sources: Every source that there is, by its name; those that the options name must be among them.
        jobs: Watches the jobs that a recording is of; None for this process and its tree.
        role: Whose recording it is, as `otel_hwmetrics.recording.nouns` has it.
    """

    def __init__(  # noqa: PLR0913 - each is a different part of the world
        self,
        config: Config,
        *,
        meter_provider: MeterProvider | None = None,
        tracer_provider: TracerProvider | None = None,
        logger_provider: LoggerProvider | None = None,
        clock: Clock = time,
        sources: Mapping[str, SourceMaker] = SOURCES,
        jobs: JobWatch | None = None,
        role: str = "process",
    ) -> None:
        self.config = config
        self._clock = clock
        self.providers = {
            "meter_provider": meter_provider,
            "tracer_provider": tracer_provider,
            "logger_provider": logger_provider,
        }
        self._meter_provider = meter_provider
        self._tracer_provider = tracer_provider
        self._attached = False
        self._abandoned = False
        self._on_spans = forks.Section(patience=0.5)  # what takes the locks of spans and of their provider
        self._instruments: list[Instruments] = []
        self._shared: Sample | None = None  # by collections
        self._standing = threading.Lock()  # for offices, and stepping back from them
        self._late: object = self  # what was the newest sample when one was waited for in vain
        self._served: weakref.WeakSet[threading.Thread] = weakref.WeakSet()  # those that had it
        self._judging = Judging(config, _accumulator.totals, TRACKER, logger_provider, self._tells, clock=clock)
        self._emitter = Emitter(
            config.emit,
            job_of if jobs is None else _of_no_job,
            runtime_folders,
            self._judging.judged,
            _ledger,
            anew=adds_up(meter_provider, os.environ),
            regular=config.sample_interval > 0,
            now=clock.monotonic,
        )
        if config.record:
            self._record(jobs, role)
        names = sources if config.sources == ("auto",) else config.sources
        self.sampler = Sampler(
            [sources[name](config, clock) for name in names],
            self,
            _accumulator,
            clock=clock,
            interval=config.sample_interval,
            # Without regular samples to fall back on, an export would wait in vain for a sample that waits for a source.
            source_timeout=config.source_timeout
            if config.sample_interval
            else min(config.source_timeout, config.snapshot_timeout * 0.8),
            cpu_budget=config.cpu_budget,
            gave_up=self._step_back,
        )

    def _record(self, jobs: JobWatch | None, role: str) -> None:
        from otel_hwmetrics.sinks.recorder_start import recorder

        with guard("getting ready to record the run"):
            recording = recorder(
                self.config,
                self._judging.files,
                role=role,
                jobs=jobs,
                bounds=bounds,
                resource=self._resource,
                kept=self._emitter.recorded,
                packed=self._judging.packed,
                monotonic=self._clock.monotonic,
                time_ns=self._clock.time_ns,
            )
            if recording is not None:
                self._judging.record_with(recording)

    def _resource(self) -> Mapping[str, object]:
        """Attributes of the Resource, as far as it can be seen by now."""
        of_traces = getattr(
            getattr(self._tracer_provider or get_tracer_provider(), "resource", None), "attributes", None
        )
        return resource_attributes(self._meter_provider or get_meter_provider()) or dict(of_traces or {})

    def start(self) -> None:
        """Begin to sample, and show what is sampled.

        Raises:
            SourceUnavailable: The options name a source that cannot be read here; nothing is left running.
        """
        _alive.add(self)
        TRACKER.watches = Matcher(self.config.alert_spans)
        TRACKER.provider = self._tracer_provider
        TRACKER.on = True
        HOOKS.begin()
        self._attach()
        self._judging.start(self.sampler.fresh)
        with guard("meeting the job's other processes"):
            self._emitter.start()
        try:
            self.sampler.start()
            self._require_named_sources()
            self._instruments = instruments_of(self._meter_provider)
            _running.add(self)
            feed = Feed(
                self._fresh,
                lambda: self.sampler.first,
                selected(self.config.metrics),
                self._context,
                self._emitter,
                self.sampler.health,
                self.sampler.pace.format,
            )
            for instruments in self._instruments:
                instruments.feed(feed)
        except BaseException:  # Ctrl-C while a driver is waited for, too
            self.stop()
            raise

    def _require_named_sources(self) -> None:
        if self.config.sources == ("auto",):
            return
        for runner in self.sampler.runners:
            if isinstance(runner, ThreadRunner) and not runner.wait_opened(NAMED_SOURCE_PATIENCE):
                _logger.warning("%s is still starting after %g s", runner.source.name, NAMED_SOURCE_PATIENCE)
            if runner.unavailable is not None:
                raise runner.unavailable

    @property
    def running(self) -> bool:
        """Whether it was started and not stopped, and in this very process."""
        return self in _running

    def profile(self, steps: int) -> str | None:
        """Have the next steps profiled; gives where the trace will be, None where there will be none."""
        return self._judging.profile(steps) if self.running else None

    @property
    def snapshot(self) -> Snapshot | None:
        """The newest snapshot; None before the first sample and when it is not running."""
        return self.sampler.snapshot if self.running else None

    @property
    def recording(self) -> str:
        """The file that the run is recorded in; empty where it is not, and before there is one."""
        return self._judging.recording

    def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """Show nothing more, end the threads, close the sources. May be called twice.

        Args:
            timeout: Seconds that it takes at most.
        """
        _running.discard(self)
        for instruments in self._instruments:
            instruments.feed(None)
        TRACKER.reset()
        if not self._abandoned:
            deadline = time.monotonic() + timeout
            self.sampler.stop(STOP_TIMEOUT * 0.75)  # what waits to be told has the rest at least
            self._emitter.stop()
            self._judging.stop(max(0.0, deadline - time.monotonic()))
        _alive.discard(self)

    def abandon(self) -> None:
        """Show nothing more, in a forked child: its copies of our locks may be held by threads that it has not got."""
        self._abandoned = True
        self._judging.abandon()
        for instruments in self._instruments:
            instruments.feed(None)

    def _fresh(self, patience: float) -> Sample | None:
        """A sample for the collection that begins now, on this thread; readers that collect together share one.

        None that nobody has asked for: it may be older than the end of the training, of which the last export is to tell.
        Nor has a reader's own thread the same one twice, since its last collection may follow upon the one before.
        """
        self._emitter.asked()
        thread, sample = threading.current_thread(), self._shared
        had = thread.daemon and thread in self._served
        if sample is None or had or not 0 <= self._clock.monotonic() - sample.at < SHARED_FOR:
            sample = self._shared = self._look(patience)
            self._served.clear()
        self._served.add(thread)
        return sample

    def _look(self, patience: float) -> Sample | None:
        """Have the machine looked at; who waited in vain for one look does not wait for it again."""
        before = self.sampler.latest
        if before is self._late:
            patience = 0.0
        elif not threading.main_thread().is_alive():  # the interpreter ends, and calls what is registered at exit
            patience = min(patience, AT_EXIT)
        sample = self.sampler.fresh(min(patience, self.config.snapshot_timeout))
        if self.sampler.stuck:
            self._step_back()
        if self.sampler.latest is before:
            self._late = before
        return sample

    def _step_back(self) -> None:
        """Let another rank tell of the machine, since this one cannot: its sampler hangs or is dead. From any thread.

        Should it come to itself, it stands for what is free then at its next look.
        """
        if self._standing.acquire(blocking=False):  # else it is about to tell
            try:
                self._emitter.step_back()
            finally:
                self._standing.release()

    def _context(self) -> Context:
        """What a value that is exported now carries: the training span that is open."""
        span = TRACKER.watched_target() if self.config.exemplars else None
        # Of one of the recording alone nobody else hears, whatever the exemplars' filter.
        return NO_SPAN if span is None or isinstance(span, LocalSpan) else set_span_in_context(span, Context())

    def _tells(self, rule: str, subject: Subject) -> bool:
        return self._emitter.tells(rule, subject)

    def judge(self, snapshot: Snapshot) -> None:
        """Judge alerts on a snapshot. Called by the sampler, on its thread."""
        self._judging.judge(snapshot)

    def readings(self, at: float) -> Iterable[Reading]:
        """See what this process speaks for; that, and how the alerts stand. Called by the sampler, on its thread.

        At every look, before it is published: a successor is told of no less than was exported.
        """
        with guard("standing for what the job's processes share"), self._standing:
            self._emitter.look(_accumulator.counters, at)
        yield from self._emitter.readings(at)
        yield from self._judging.readings(at)

    def glance(self, snapshot: Callable[[], Snapshot]) -> None:
        """Take a look between two regular ones. Called by the sampler, on its thread."""
        with self._on_spans:
            self._judging.glance(snapshot)

    def tell(self) -> None:
        """Tell the sinks what was decided. Called by the sampler, on its thread, after the sample is out."""
        with self._on_spans:
            self._attach()
            self._judging.tell(self.sampler.latest)

    def _attach(self) -> None:
        if not self._attached:
            with guard("joining the tracer provider"):
                self._attached = TRACKER.attach(self._tracer_provider)


@forks.in_child
def _forget_in_child() -> None:
    """A forked child has none of our threads and must not speak: it would repeat its parent's metrics."""
    global _accumulator  # noqa: PLW0603 - the child has its own
    TRACKER.reset()
    HOOKS.forget_threads()
    for pipeline in tuple(_alive):
        with guard("beginning anew in a forked child"):
            pipeline.abandon()
    _alive.clear()
    _running.clear()
    _accumulator = _accumulator.heir()
