# SPDX-License-Identifier: Apache-2.0
"""Histograms, which are not observable: their values are recorded one by one, on the sampler's thread.

The SDK goes on telling what was recorded once. So when nothing is to be shown any more, and in a forked child, which would
repeat its parent's, it is made to forget it (`forget`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from opentelemetry.context import Context
from opentelemetry.metrics import Meter, MeterProvider

from otel_hwmetrics import forks
from otel_hwmetrics.catalog import METRICS
from otel_hwmetrics.model import Attribute, Kind, Metric

RECORDING: Final = forks.Section(patience=0.5)
"""What takes the locks of the SDK's histograms. Nothing in it can hang."""
PATIENCE: Final = 0.05
"""Seconds that `forget` waits for a collection that is being formatted."""

_ROWS: Final = {metric.name: metric for metric in METRICS if metric.kind is Kind.HISTOGRAM}


class Histograms:
    """Those of the catalog, on one meter."""

    def __init__(self, meter: Meter) -> None:
        self._made = {
            metric.name: meter.create_histogram(
                metric.name,
                metric.unit.value,
                metric.description,
                explicit_bucket_boundaries_advisory=metric.boundaries,
            )
            for metric in _ROWS.values()
        }

    def record(
        self,
        metric: Metric,
        values: Sequence[float],
        attributes: Mapping[str, Attribute],
        contexts: tuple[Context, Context],
    ) -> None:
        """Record values, which are some. Each takes the SDK 3 to 10 µs.

        Args:
            metric: What they are of.
            values: In its unit.
            attributes: Of its series.
            contexts: That of the largest value, of which one wants to see what was going on, and that of the others: an
                exemplar takes as long as all the rest.
        """
        record, largest = self._made[metric.name].record, max(values)
        of_largest, of_others = contexts
        for value in values:
            record(value, attributes, of_largest if value == largest else of_others)


def forget(provider: MeterProvider) -> None:
    """Have the SDK tell no more of what was recorded; what is recorded from now on begins anew.

    It has no public way to that: https://github.com/open-telemetry/opentelemetry-python/blob/main/opentelemetry-sdk/src/opentelemetry/sdk/metrics/_internal/metric_reader_storage.py
    """
    consumer = getattr(provider, "_measurement_consumer", None)
    for storage in tuple(getattr(consumer, "_reader_storages", {}).values()):
        kept, lock = getattr(storage, "_instrument_view_instrument_matches", {}), getattr(storage, "_lock", None)
        # In a child it may be taken for ever, but then nobody is in the way.
        taken = lock is not None and lock.acquire(timeout=PATIENCE)
        try:
            for instrument in tuple(kept):
                if instrument.name in _ROWS:
                    kept.pop(instrument, None)
        finally:
            if lock is not None and taken:
                lock.release()
