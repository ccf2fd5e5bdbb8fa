# SPDX-License-Identifier: Apache-2.0
"""One run that `ResourceMonitorCallback` watches: the instrumentation for it, its alerts, and each look."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Final

import otel_hwmetrics as hw
from otel_hwmetrics import redaction
from otel_hwmetrics.alerts.builtin import RULES
from otel_hwmetrics.alerts.rule import State
from otel_hwmetrics.config import FAMILIES
from otel_hwmetrics.integrations.lightning import LIGHTNING
from otel_hwmetrics.integrations.resource_console import block, say
from otel_hwmetrics.integrations.resource_figures import CPU, GPU, IO, Figures
from otel_hwmetrics.integrations.resource_series import EpochFiles
from otel_hwmetrics.sinks.base import Alert
from otel_hwmetrics.sinks.tracker import TRACKER

_logger = redaction.logger()

THRESHOLDS: Final = ("gpu_util_threshold", "memory_threshold", "io_wait_threshold")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The arguments of `ResourceMonitorCallback`, where they are told.

    Raises:
        TypeError: ``on_alert`` cannot be called.
        ValueError: Another one is not what it should be.
    """

    log_interval: int = 10
    gpu_monitoring: bool = True
    cpu_monitoring: bool = True
    io_monitoring: bool = True
    alert_gpu_underutilization: bool = True
    alert_memory_pressure: bool = True
    alert_io_bottleneck: bool = True
    gpu_util_threshold: float = 0.5
    memory_threshold: float = 0.9
    io_wait_threshold: float = 0.3
    export_timeseries: bool = True
    timeseries_path: str = "resource_logs"
    on_alert: Callable[[Alert], object] | None = None

    def __post_init__(self) -> None:
        if self.log_interval < 1:
            raise ValueError(f"log_interval is a number of batches, 1 or more, not {self.log_interval!r}")
        for name in THRESHOLDS:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share, 0 to 1, not {getattr(self, name)!r}")
        if self.on_alert is not None and not callable(self.on_alert):
            raise TypeError(f"on_alert takes something to call with an Alert, not {self.on_alert!r}")

    @property
    def kinds(self) -> tuple[str, ...]:
        """Which figures are shown."""
        on = {GPU: self.gpu_monitoring, CPU: self.cpu_monitoring, IO: self.io_monitoring}
        return tuple(kind for kind, shown in on.items() if shown)

    def hides(self, rule: str) -> bool:
        """Whether alerts of a rule are not wanted."""
        return (
            (not self.gpu_monitoring and rule.startswith("gpu_"))
            or (not self.cpu_monitoring and rule.startswith(("cpu_", "host_")))
            or (not (self.io_monitoring and self.alert_io_bottleneck) and rule == "io_bottleneck")
            or (not self.alert_gpu_underutilization and rule in FAMILIES["alert_gpu_underutilization"].rules)
            or (not self.alert_memory_pressure and rule in FAMILIES["alert_memory_pressure"].rules)
        )

    @property
    def thresholds(self) -> dict[str, float]:
        """Those that are not as they are by default."""
        usual = {each.name: each.default for each in fields(self)}
        return {name: getattr(self, name) for name in THRESHOLDS if getattr(self, name) != usual[name]}

    @property
    def options(self) -> dict[str, Any]:
        """What an instrumentation is started with: what is not as it is by default."""
        off = {rule.name: {"enabled": False} for rule in RULES if self.hides(rule.name)}
        return {**self.thresholds, **({"rules": off} if off else {})}


class Watch:
    """Watches one run of a Trainer, on the thread that trains.

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
        self._started: hw.Instrumentation | None = None
        self._teller: Any = None
        self._firing: dict[tuple[str, str], Alert] = {}

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
        if self._settings.hides(alert.name):
            return
        key = alert.name, alert.transition.subject.key
        if alert.state is State.FIRING:
            self._firing[key] = alert
        else:
            self._firing.pop(key, None)
        if self._settings.on_alert is not None:
            self._settings.on_alert(alert)

    def look(self, epoch: int, batch: int) -> None:
        """Show and write what is known now; nothing before the first sample.

        Args:
            epoch: Its number, from 0.
            batch: Its number within the epoch, from 0.
        """
        if not self._shows:
            return
        snapshot = hw.snapshot()
        if snapshot is None:
            return
        figures = self._figures.of(snapshot)
        say(block(batch, figures, list(self._firing.values())))
        if self._files is not None:
            self._files.add(epoch, batch, figures)

    def end(self, error: BaseException | None = None) -> None:
        """End what was begun here.

        Args:
            error: What ended the run, if that was an exception.
        """
        if self._teller is not None:
            self._teller.finish(error)
            if self._teller in self._trainer.callbacks:
                self._trainer.callbacks.remove(self._teller)
        hw.off_alert(self._hear)
        if self._started is not None:
            self._started.shutdown()
