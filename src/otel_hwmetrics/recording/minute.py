# SPDX-License-Identifier: Apache-2.0
"""The minute that is being written: its looks, as one matrix with a column a series, and what they come to."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from struct import Struct
from typing import Final, NamedTuple

from otel_hwmetrics.model import Series
from otel_hwmetrics.recording.codec import WIDTH

MINUTE: Final = 60_000_000_000
"""Nanoseconds."""
_ABSENT: Final = array("d", [math.nan]).tobytes()


class Look(NamedTuple):
    """Everything that was read at one look.

    Attributes:
        at_ns: Nanoseconds since the epoch.
        series: What was read.
        values: Of each a double, in the order of the series.
    """

    at_ns: int
    series: tuple[Series, ...]
    values: bytes


class OpenMinute:
    """Looks of one minute, or of a part of it. Series get their columns as they come, and keep them.

    Args:
        number: Minutes since the epoch.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.columns: dict[Series, int] = {}
        self.times: list[int] = []
        self.blocks: list[int] = []
        """Numbers of the blocks that parts of it were written in."""
        self._rows: list[bytes] = []
        self._in_order: tuple[Series, ...] | None = None  # a look of these is a row as it is

    def copy(self) -> OpenMinute:
        """Another one that can be gone on with."""
        other = OpenMinute(self.number)
        other.columns, other.times, other.blocks = dict(self.columns), list(self.times), list(self.blocks)
        other._rows, other._in_order = list(self._rows), self._in_order
        return other

    def add(self, look: Look) -> None:
        """Take one more look; where the clock was set back within the minute, it is of the moment of the last one."""
        self.times.append(max(look.at_ns, self.times[-1] if self.times else look.at_ns))
        if look.series is not self._in_order:
            for series in look.series:
                self.columns.setdefault(series, len(self.columns))
            self._in_order = look.series if tuple(self.columns) == look.series else None
        if self._in_order is not None:
            self._rows.append(look.values)
            return
        row = [math.nan] * len(self.columns)
        for series, value in zip(look.series, Struct(f"{len(look.series)}d").unpack(look.values), strict=True):
            row[self.columns[series]] = value
        self._rows.append(array("d", row).tobytes())

    def rows(self, begin: int = 0) -> list[bytes]:
        """The looks from one on, each with a value for every column by now."""
        width = len(self.columns) * WIDTH
        return [
            row if len(row) == width else row + _ABSENT * ((width - len(row)) // WIDTH) for row in self._rows[begin:]
        ]


class Span(NamedTuple):
    """What the values of a series come to; see `otel_hwmetrics.recording.nouns.Minute`."""

    looks: int
    mean: float
    low: float
    high: float
    last: float


def summed(values: Sequence[float]) -> Span | None:
    """What the values of a column come to, those that are absent left out; None where all are."""
    total = sum(values)
    if math.isnan(total):
        values = [value for value in values if not math.isnan(value)]
        if not values:
            return None
        total = sum(values)
    low, high = min(values), max(values)
    # A mean of values that are all alike is that value, whatever the rounding.
    return Span(len(values), min(high, max(low, total / len(values))), low, high, values[-1])
