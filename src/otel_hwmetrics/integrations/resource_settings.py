# SPDX-License-Identifier: Apache-2.0
"""The arguments of `ResourceMonitorCallback`, and what an instrumentation is told of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Final

from otel_hwmetrics.alerts.builtin import RULES
from otel_hwmetrics.config import FAMILIES
from otel_hwmetrics.integrations.resource_figures import CPU, GPU, IO
from otel_hwmetrics.sinks.base import Alert

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
