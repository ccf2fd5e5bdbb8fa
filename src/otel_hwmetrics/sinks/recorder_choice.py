# SPDX-License-Identifier: Apache-2.0
"""Which of a sample's series are recorded."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from itertools import compress
from typing import Final, NamedTuple

from otel_hwmetrics.catalog import METRICS, gpu, selected
from otel_hwmetrics.model import Rate, Ratio, Series, Share
from otel_hwmetrics.sinks.rows import TABLES, Row

_SAME_AT_A_LOOK: Final = frozenset({gpu.MEMORY_PEAK.name, gpu.TEMPERATURE_PEAK.name})
# Peaks of what we read ourselves: at one look no more than the level.

Kept = Callable[[tuple[Series, ...], float], tuple[Series, ...]]
"""Gives which of some series this process records, at a moment; the same tuple where it is all of them."""


def recorded_metrics(patterns: Iterable[str]) -> frozenset[str]:
    """The names of the metrics that a recording has, by the option ``metrics``.

    Of one that follows from a counter's growth, the counter: whoever reads it chooses over what time.
    """
    chosen = selected(patterns)
    counters = {
        metric.derivation.of.name
        for metric in METRICS
        if metric.name in chosen and isinstance(metric.derivation, Rate | Ratio | Share)
    }
    return (chosen | counters) - _SAME_AT_A_LOOK


class _Table(NamedTuple):
    """What is recorded of samples of the same series.

    Attributes:
        series: The sample's.
        recorded: Those of them that are.
        mask: Of each whether it is.
    """

    series: tuple[Series, ...]
    recorded: tuple[Series, ...]
    mask: tuple[bool, ...]


class Choice:
    """Chooses. On the sampler's thread.

    Args:
        metrics: Names of those that are recorded.
        kept: Which series of these.
    """

    def __init__(self, metrics: frozenset[str], kept: Kept) -> None:
        self._metrics = metrics
        self._kept = kept
        self._by_metric: list[_Table] = []
        self._by_series: list[_Table] = []

    def of(self, row: Row) -> Row:
        """The part of a row that is recorded; for the same series the same tuple."""
        table = next((each for each in self._by_metric if each.series is row.series), None)
        if table is None:
            recorded = tuple(series for series in row.series if series.metric.name in self._metrics)
            table = _remembered(self._by_metric, row.series, recorded)
        kept = self._kept(table.recorded, row.at)
        if kept is not table.recorded:
            known = (each for each in self._by_series if each.series is row.series and each.recorded == kept)
            table = next(known, None) or _remembered(self._by_series, row.series, kept)
        values = array("d", row.values)
        return row._replace(series=table.recorded, values=array("d", compress(values, table.mask)).tobytes())


def _remembered(tables: list[_Table], series: tuple[Series, ...], recorded: tuple[Series, ...]) -> _Table:
    chosen = frozenset(recorded)
    table = _Table(series, recorded, tuple(each in chosen for each in series))
    tables.insert(0, table)
    del tables[TABLES:]
    return table
