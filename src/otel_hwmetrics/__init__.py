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
        snapshot,
        uninstrument,
    )
    from otel_hwmetrics.sinks.spans import training_span, watch
    from otel_hwmetrics.sources.base import SourceUnavailable

__version__ = "0.1.0"

__all__ = [
    "ConfigError",
    "HardwareMetricsInstrumentor",
    "Instrumentation",
    "SourceUnavailable",
    "__version__",
    "instrument",
    "snapshot",
    "training_span",
    "uninstrument",
    "watch",
]

_HOMES = {
    "ConfigError": "config",
    "HardwareMetricsInstrumentor": "instrumentor",
    "Instrumentation": "instrumentor",
    "SourceUnavailable": "sources.base",
    "instrument": "instrumentor",
    "snapshot": "instrumentor",
    "training_span": "sinks.spans",
    "uninstrument": "instrumentor",
    "watch": "sinks.spans",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
