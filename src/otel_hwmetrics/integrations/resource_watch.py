# SPDX-License-Identifier: Apache-2.0
"""One run that `ResourceMonitorCallback` watches: the instrumentation for it, its alerts, and each look."""

from __future__ import annotations

import time
from functools import partial
from typing import Any, Final, NamedTuple

import otel_hwmetrics as hw
from otel_hwmetrics import redaction
from otel_hwmetrics.integrations.lightning import LIGHTNING
from otel_hwmetrics.integrations.resource_beside import Beside
from otel_hwmetrics.integrations.resource_console import block, say
from otel_hwmetrics.integrations.resource_figures import Figures
from otel_hwmetrics.integrations.resource_series import EpochFiles
from otel_hwmetrics.integrations.resource_settings import Settings
from otel_hwmetrics.model import Snapshot
from otel_hwmetrics.sinks.base import Alert
from otel_hwmetrics.sinks.hooks import HOOKS
from otel_hwmetrics.sinks.tracker import TRACKER

_logger = redaction.logger()

PATIENCE: Final = 1.0
"""Seconds that the end of a run waits for what is yet to be shown and written, all in all."""


class Look(NamedTuple):
    """One look at the machine.

    Attributes:
        snapshot: What was known.
        alerts: Those that fired.
        epoch: Its number, from 0.
        batch: Its number within the epoch, from 0.
        at: When, in seconds since 1970.
    """

    snapshot: Snapshot
    alerts: tuple[Alert, ...]
    epoch: int
    batch: int
    at: float


class Watch:
    """Watches one run of a Trainer, on the thread that trains; what may take long is done beside it.

    The console and the files have a thread each: a disk that hangs keeps nobody from seeing what happens.

    Args:
        settings: Of the callback.
        trainer: Lightning's.
    """

    def __init__(self, settings: Settings, trainer: Any) -> None:
        self.interval = settings.log_interval
        self._settings = settings
        self._trainer = trainer
        self._shows = bool(trainer.is_global_zero)
        self._figures = Figures(settings.kinds)
        self._files = EpochFiles(settings.timeseries_path) if settings.export_timeseries else None
        self._showing = Beside("resources", "nothing more is shown of the machine")
        self._writing = Beside("timeseries", "no more time series are written")
        self._seen: Snapshot | None = None
        self._over = False
        self._started: hw.Instrumentation | None = None
        self._teller: Any = None

    def begin(self, after: object) -> None:
        """Have something run that measures, and hear of its alerts.

        Args:
            after: The callback that this is for. Where nobody tells the run's spans, another one does behind it.
        """
        if not TRACKER.on:
            self._started = hw.instrument(**self._settings.options)
        elif self._settings.thresholds:
            _logger.warning(
                "ResourceMonitorCallback changes nothing of the instrumentation that runs already: that one's thresholds hold."
            )
        if self._shows:
            self._showing.start()
            if self._files is not None:
                self._writing.start()
        if self._settings.on_alert is not None:
            hw.on_alert(self._hear)
        self._have_told(after)

    def _have_told(self, after: object) -> None:
        """A Trainer that was made before the instrumentation ran has nobody who tells it."""
        from otel_hwmetrics.integrations.lightning_spans import HardwareMetricsCallback

        callbacks = self._trainer.callbacks
        if LIGHTNING.config is not None and not any(isinstance(each, HardwareMetricsCallback) for each in callbacks):
            self._teller = HardwareMetricsCallback(LIGHTNING.config.step_spans)
            self._teller.automatic = True
            # Lightning goes through the list at this moment, and comes to it next: before those that save checkpoints.
            callbacks.insert(callbacks.index(after) + 1, self._teller)

    def _hear(self, alert: Alert) -> None:
        """Called on the thread of callbacks."""
        if self._settings.on_alert is not None and not self._settings.hides(alert.name):
            self._settings.on_alert(alert)

    def look(self, epoch: int, batch: int) -> None:
        """Have shown and written what is known now: once, however many looks come upon the same snapshot. Never waits.

        Args:
            epoch: Its number, from 0.
            batch: Its number within the epoch, from 0.
        """
        if not self._shows:
            return
        snapshot = hw.snapshot()
        if snapshot is None or snapshot is self._seen:
            return
        self._seen = snapshot
        self._showing.do(partial(self._show, Look(snapshot, HOOKS.firing, epoch, batch, time.time())))

    def _show(self, look: Look) -> None:
        """Called on the thread that shows."""
        figures = self._figures.of(look.snapshot)
        if self._files is not None:
            self._writing.do(partial(self._files.add, look.epoch, look.batch, figures, look.at))
        if not self._over:
            alerts = [alert for alert in look.alerts if not self._settings.hides(alert.name)]
            say(block(look.batch, figures, alerts, self._figures.numbers))

    def end(self, error: BaseException | None = None) -> None:
        """End what was begun here, once all is shown and written; that is waited for `PATIENCE` seconds.

        Args:
            error: What ended the run, if that was an exception.
        """
        if self._teller is not None:
            self._teller.finish(error)
            if self._teller in self._trainer.callbacks:
                self._trainer.callbacks.remove(self._teller)
        hw.off_alert(self._hear)
        try:
            self._finish()
        finally:  # Ctrl-C meanwhile, too
            if self._started is not None:
                self._started.shutdown()

    def _finish(self) -> None:
        deadline = time.monotonic() + PATIENCE
        not_shown = self._showing.end(PATIENCE)
        self._over = True  # what comes when the run is over is shown no more, but written
        not_written = self._writing.end(max(0.0, deadline - time.monotonic()))
        self._tell_of_left(not_shown + self._showing.left_out, "shown")
        if self._files is not None:
            place = redaction.place(self._files.folder)
            self._tell_of_left(not_written + self._writing.left_out, f"written to {place}")

    def _tell_of_left(self, looks: int, done: str) -> None:
        if looks:
            _logger.warning(
                "%d looks at the machine are not yet %s: nothing more was taken there. Training is not affected.",
                looks,
                done,
            )
