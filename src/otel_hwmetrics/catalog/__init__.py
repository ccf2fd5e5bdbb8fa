# SPDX-License-Identifier: Apache-2.0
"""What is measured: one row a metric, whoever reads it.

Names and attribute keys are the constants of the semantic conventions, units and descriptions their words to the
letter; what the conventions lack lives below ``hwmetrics.``. Instruments, documentation and whatever else shows a
metric follow from these rows, so a metric is added by a row here and a reader in a source.
"""

from __future__ import annotations

from opentelemetry.semconv.schemas import Schemas

from otel_hwmetrics.catalog import gpu, own, process, system
from otel_hwmetrics.model import Metric

METRICS: tuple[Metric, ...] = (*system.METRICS, *process.METRICS, *gpu.METRICS, *own.METRICS)
"""Every row, in the order in which people read them: the host, the process, its GPUs, ourselves."""

SCHEMA_URL: str = list(Schemas)[-1].value
"""The newest schema of the installed conventions, since the names above are its constants."""

__all__ = ["METRICS", "SCHEMA_URL", "gpu", "own", "process", "system"]
