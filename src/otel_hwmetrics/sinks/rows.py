# SPDX-License-Identifier: Apache-2.0
"""Samples as they are kept: 8 bytes a value, each packed once however many remember it."""

from __future__ import annotations

from operator import itemgetter
from struct import pack
from typing import NamedTuple

from otel_hwmetrics.model import Series
from otel_hwmetrics.windows.samples import Sample

TABLES = 4
"""Samples before that are looked at for the same series: those of a slow reader may come and go."""

_value = itemgetter(0)  # of a Point, in a third of the time of its name


class Row(NamedTuple):
    """One sample as it is kept: 8 bytes a value, and a tuple of series that it shares with samples of the same ones.

    Attributes:
        at: Seconds of the monotonic clock.
        time_unix_nano: The same moment by the wall clock.
        series: What was read.
        values: Of each a double, in the order of the series.
    """

    at: float
    time_unix_nano: int
    series: tuple[Series, ...]
    values: bytes


class Rows:
    """Packs samples. On the sampler's thread."""

    def __init__(self) -> None:
        self._tables: list[tuple[Series, ...]] = []
        self._last: tuple[Sample, Row] | None = None

    def of(self, sample: Sample) -> Row:
        """The sample packed; the same object for the same sample, and for the same series the same tuple."""
        if self._last is None or self._last[0] is not sample:
            points = sample.points
            series = self._table(tuple(points))
            values = pack(f"{len(series)}d", *map(_value, points.values()))
            self._last = sample, Row(sample.at, sample.time_unix_nano, series, values)
        return self._last[1]

    def _table(self, series: tuple[Series, ...]) -> tuple[Series, ...]:
        # They are the same objects from sample to sample, so this compares quickly.
        known = next((table for table in self._tables if table == series), series)
        if not self._tables or known is not self._tables[0]:
            self._tables = [known, *(table for table in self._tables if table is not known)][:TABLES]
        return known
