# SPDX-License-Identifier: Apache-2.0
"""From a snapshot to everybody who is told of alerts: the engine, and the sinks behind it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from opentelemetry._logs import LoggerProvider
from opentelemetry.trace import Span

from otel_hwmetrics import redaction
from otel_hwmetrics._guard import guard
from otel_hwmetrics.alerts.conditions import Totals
from otel_hwmetrics.alerts.engine import Engine
from otel_hwmetrics.alerts.judged import judged_by
from otel_hwmetrics.alerts.rule import State
from otel_hwmetrics.alerts.rulebook import rulebook
from otel_hwmetrics.alerts.subjects import Subject
from otel_hwmetrics.alerts.transition import Transition
from otel_hwmetrics.alerts.unheard import Unheard
from otel_hwmetrics.catalog import own
from otel_hwmetrics.config import Config
from otel_hwmetrics.folders import folder
from otel_hwmetrics.model import Attribute, Reading, Series, Snapshot
from otel_hwmetrics.runners import Clock
from otel_hwmetrics.sinks.background import Background
from otel_hwmetrics.sinks.base import Alert, OfWorkers, Sink, dropped, event_attributes
from otel_hwmetrics.sinks.flight import FlightRecorder
from otel_hwmetrics.sinks.hooks import HOOKS
from otel_hwmetrics.sinks.last_words import EXCEPTION, SIGTERM, LastWords
from otel_hwmetrics.sinks.lines import LineSink
from otel_hwmetrics.sinks.logs import LogSink
from otel_hwmetrics.sinks.profile import Profiles
from otel_hwmetrics.sinks.rows import Rows
from otel_hwmetrics.sinks.spans import SpanSink
from otel_hwmetrics.sinks.stacks import Stacks
from otel_hwmetrics.sinks.summary import Summaries
from otel_hwmetrics.sinks.tracker import SpanTracker
from otel_hwmetrics.sinks.workers import WorkerStacks
from otel_hwmetrics.stepclock import CLOCK
from otel_hwmetrics.windows import Sample

if TYPE_CHECKING:
    from otel_hwmetrics.sinks.recorder import Recorder

_logger = redaction.logger()

_EXIT_CODES = {SIGTERM: -signal.SIGTERM, EXCEPTION: 1}
"""How a process ends, by the reason for its last words."""


class _Waiting(Sink, Protocol):
    """A sink with a thread of its own."""

    def close(self) -> None: ...
    def join(self, timeout: float) -> None: ...


class Judging:
    """Judges each sample, and tells of what was decided. Called by the sampler, on its thread, but where it says so.

    Args:
        config: Every option.
        totals: Where counters stand before the first sample.
        tracker: Knows the open spans.
        logger_provider: Where alert records go; the global one by default.
        tells: Whether an alert, by its rule's name and what it is about, is told of by this process. One that another
            process tells of goes onto this one's spans all the same, and to its own callbacks.
        clock: Time of samples.
    """

    def __init__(  # noqa: PLR0913 - each is a different part of the world
        self,
        config: Config,
        totals: Totals,
        tracker: SpanTracker,
        logger_provider: LoggerProvider | None,
        tells: Callable[[str, Subject], bool] = lambda _rule, _subject: True,
        *,
        clock: Clock = time,
    ) -> None:
        self._tracker = tracker
        self._tells = tells
        rules = rulebook(config).rules
        self._engine = Engine(rules, totals)
        self._unheard = Unheard(rules)
        self.judged = {rule.name: judged_by(rule) for rule in rules}
        self._snapshot: Snapshot | None = None
        self._steps: list[Transition] = []
        self.files = files = folder(config.directory)
        self.packed = Rows()
        self._profiles = Profiles(
            config.profile_on_alert, config.profile_steps, config.profile_limit, lambda: files, CLOCK
        )
        self._summaries = Summaries(tracker, config.snapshot_timeout) if config.span_summary else None
        self._spans = SpanSink(tracker, config.alert_span_events) if config.alert_channels != "log" else None
        self._flight = FlightRecorder(
            config.flight_recorder, files, packed=self.packed, monotonic=clock.monotonic, time_ns=clock.time_ns
        )
        self._stacks = Stacks(tracker.training, on=config.stall_stacks, monotonic=clock.monotonic)
        self._last_words = LastWords(self._on_end)
        self._flies = config.flight_recorder > 0 and files is not None
        self._recorder: Recorder | None = None
        self._silent = config.emit == "never"
        self._time_ns = clock.time_ns
        # Those that may wait: a log processor that exports on the spot, a handler of logging on a slow disk, the training's
        # own callbacks, the disk that the recording is on, a service.
        recordings = Background("recordings", self._flight, WorkerStacks(self._on_workers))
        self._waiting: list[_Waiting] = [HOOKS, recordings]
        self._logs: Background | None = None
        if config.alert_channels != "span":
            self._logs = Background("logs", LogSink(logger_provider), LineSink())
            self._waiting.insert(0, self._logs)
        if config.notify:
            from otel_hwmetrics.sinks.notify import Notifier, Pace

            pace = Pace(config.notify_group_wait, config.notify_per_hour)
            self._waiting.append(Notifier(config.notify, severity=config.notify_severity, pace=pace))
        here: list[Sink] = [self._spans] if self._spans is not None else []
        self._sinks: tuple[Sink, ...] = (*here, *self._waiting)
        self._here: tuple[Sink, ...] = (*here, HOOKS)

    def record_with(self, recorder: Recorder) -> None:
        """Have the run recorded. Called before `start`."""
        self._recorder = recorder
        self._last_words.wait_for_a_recording()
        self._waiting.append(recorder)
        self._sinks = (*self._sinks, recorder)
        if self._silent:  # nothing leaves this process; the recording does not
            self._here = (*self._here, recorder)

    @property
    def recording(self) -> str:
        """The file that the run is recorded in; empty for none."""
        return "" if self._recorder is None else self._recorder.path

    def profile(self, steps: int) -> str | None:
        """Have the next steps profiled; gives where the trace will be, None where there will be none. From any thread."""
        now = self._time_ns()
        path = self._profiles.request("demand", steps, now)
        if path is not None and self._recorder is not None:
            self._recorder.on_file(now, "profile", path)
        return path

    def start(self, fresh: Callable[[float], object]) -> None:
        """Be ready for spans that end, and for the end of the job. Called on the thread that instruments.

        Args:
            fresh: Has the machine looked at, waiting so many seconds at most.
        """
        if self._summaries is not None:
            self._summaries.start(fresh)
        if self._recorder is not None:
            with guard("beginning to record the run"):
                self._recorder.start()
                self._tracker.journal = self._recorder
        if self._flies or self._recorder is not None:
            with guard("being ready for the end of the job"):
                self._last_words.install()

    def judge(self, snapshot: Snapshot) -> None:
        """Judge alerts on a snapshot."""
        self._snapshot = snapshot
        self._steps += self._engine.evaluate(snapshot)
        for text in self._unheard.look(snapshot, self._engine.judged):
            _logger.warning("%s", text)

    def readings(self, at: float) -> Iterable[Reading]:
        """How the alerts stand, and of how many somebody was not told."""
        yield from self._engine.readings(at)
        for (sink, why), count in tuple(dropped.items()):
            yield Reading(Series(own.ALERT_DROPPED, {own.ALERT_SINK: sink, own.ERROR_TYPE: why}), count, at)

    def glance(self, snapshot: Callable[[], Snapshot]) -> None:
        """Sum up spans that are about to end."""
        if self._summaries is not None:
            self._summaries.glance(snapshot)

    def tell(self, sample: Sample | None) -> None:
        """Tell the sinks what was decided, now that the sample is out; then keep the sums on spans current."""
        steps, self._steps = self._steps, []
        if self._flies:
            with guard("remembering a sample"):
                self._remember(sample, steps)
        told = [step for step in steps if step.told]
        if self._spans is not None:
            began = [step.rule for step in told if step.state is State.FIRING and not step.blind]
            with guard("telling spans what fires"):
                self._spans.fires((instance.rule for instance in self._engine.firing), began)
        if told:
            span = self._tracker.target()  # what was decided by one look is told on one span
            for step in told:
                self._tell_of(step, span)
        if self._spans is not None:
            with guard("finding a span for alerts that have none"):
                self._spans.settle()
        snapshot, self._snapshot = self._snapshot, None
        if self._recorder is not None and sample is not None:
            with guard("recording a look"):
                self._recorder.on_look(sample, snapshot)
        if self._summaries is not None and snapshot is not None:
            with guard("summing up spans"):
                self._summaries.on_snapshot(snapshot)

    def _remember(self, sample: Sample | None, steps: Iterable[Transition]) -> None:
        if sample is not None:
            self._flight.on_sample(sample)
        for step in steps:
            self._flight.on_transition(step)

    def _tell_of(self, transition: Transition, span: Span | None) -> None:
        alert = Alert(transition, span)
        with guard("telling what an alert is of"):
            alert = Alert(transition, span, event_attributes(transition))
        tells = self._tells(transition.rule.name, transition.subject)
        with guard("telling where the job's threads stand"):
            alert = self._stacks.attached(alert, tells=tells)
        if tells:
            with guard("promising files"):
                alert = replace(alert, attributes={**alert.attributes, **self._files_of(alert)})
        for sink in self._sinks if tells else self._here:
            with guard(f"telling {type(sink).__name__} of an alert"):
                sink.on_alert(alert)

    def _files_of(self, alert: Alert) -> Mapping[str, Attribute]:
        """The files that will tell more of an alert; they are named before they are there."""
        paths = {
            own.ALERT_FLIGHT: self._flight.path_for(alert) if self._flies else None,
            own.ALERT_PROFILE: self._profiles.path_for(alert),
        }
        # Linux allows any bytes in a path: an attribute that is no text would cost an exporter all that it has with it.
        return {name: path.encode(errors="replace").decode() for name, path in paths.items() if path is not None}

    def _on_workers(self, alert: Alert, stacks: str) -> None:
        """It is known where workers stood at an alert. Called on the thread of the recordings."""
        self._flight.on_workers(alert, stacks)
        logs = self._logs
        if logs is not None:
            logs.on_alert(OfWorkers(alert.transition, alert.span, stacks=stacks))

    def _on_end(self, reason: str, exception: str) -> None:
        """The job ends. Called on any thread, and waits for no lock that a job's thread may hold for long.

        What is ended from outside may hang. An exception has a traceback of its own, and the calls are over by now.
        """
        recorder = self._recorder
        if recorder is not None:  # first, since it goes on by itself
            recorder.flush(_EXIT_CODES[reason])
        if self._flies:
            stacks = ""
            if reason == SIGTERM:
                with guard("telling where the job's threads stood at its end"):
                    stacks = self._stacks.now()
            path = self._flight.flush(reason, exception, stacks)
            if path is not None and recorder is not None:
                recorder.on_file(self._time_ns(), "flight", path)
        if recorder is not None:
            recorder.wait()

    def stop(self, timeout: float) -> None:
        """Let what waits be told, for so many seconds at most in all, and end the threads. From any thread."""
        self._last_words.uninstall()
        self._logs = None  # who is told of workers by now is at their end
        self._profiles.stop()
        if self._spans is not None:
            self._spans.close()
        deadline = time.monotonic() + timeout
        for each in self._waiting:  # all of them first, so that none waits for another one's service
            with guard(f"closing {type(each).__name__}"):
                each.close()
        for each in self._waiting:
            with guard(f"stopping {type(each).__name__}"):
                each.join(max(0.0, deadline - time.monotonic()))

    def abandon(self) -> None:
        """Have no part in a forked child's end: signals find it as they would without us."""
        self._last_words.uninstall()
        if self._recorder is not None:
            self._recorder.abandon()
