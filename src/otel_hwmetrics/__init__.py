# SPDX-License-Identifier: Apache-2.0
"""Hardware metrics and alerts for training runs, as plain OpenTelemetry.

One line in a training script, or none under ``opentelemetry-instrument``:

    import otel_hwmetrics as hw

    hw.instrument()

Importing this package is not an act: it loads neither OpenTelemetry nor psutil nor NVML nor torch. The public names
below are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otel_hwmetrics.config import ConfigError
    from otel_hwmetrics.instrumentor import (
        HardwareMetricsInstrumentor,
        Instrumentation,
        instrument,
        profile,
        snapshot,
        uninstrument,
    )
    from otel_hwmetrics.sinks.base import Alert
    from otel_hwmetrics.sinks.hooks import off_alert, on_alert
    from otel_hwmetrics.sinks.tracker import training_span, watch
    from otel_hwmetrics.sources.base import SourceUnavailable
    from otel_hwmetrics.stepclock import phase, step, steps, waiting_for_data

__version__ = "0.1.0"

__all__ = [
    "Alert",
    "ConfigError",
    "HardwareMetricsInstrumentor",
    "Instrumentation",
    "SourceUnavailable",
    "__version__",
    "instrument",
    "off_alert",
    "on_alert",
    "phase",
    "profile",
    "snapshot",
    "step",
    "steps",
    "training_span",
    "uninstrument",
    "waiting_for_data",
    "watch",
]

_HOMES = {
    "Alert": "sinks.base",
    "ConfigError": "config",
    "HardwareMetricsInstrumentor": "instrumentor",
    "Instrumentation": "instrumentor",
    "SourceUnavailable": "sources.base",
    "instrument": "instrumentor",
    "off_alert": "sinks.hooks",
    "on_alert": "sinks.hooks",
    "phase": "stepclock",
    "profile": "instrumentor",
    "snapshot": "instrumentor",
    "step": "stepclock",
    "steps": "stepclock",
    "training_span": "sinks.tracker",
    "uninstrument": "instrumentor",
    "waiting_for_data": "stepclock",
    "watch": "sinks.tracker",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
