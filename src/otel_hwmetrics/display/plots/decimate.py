# SPDX-License-Identifier: Apache-2.0
"""Long lines with few points: of each column of pixels what is first, last, lowest and highest there.

What is drawn of those is what would have been drawn of all, column by column (M4: Jugel et al., "M4: A Visualization-Oriented
Time Series Data Aggregation", VLDB 2014, https://www.vldb.org/pvldb/vol7/p797-jugel.pdf). So no peak is lost, however
short, and each point that is left is one that was measured.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from otel_hwmetrics.display.plots.picture import Times, Values

MISSED: Final = 5.0
"""From how many intervals without a look on a line breaks; a look or two that are late break none."""
_BESIDE: Final = 4  # distances on either side that tell how often there were looks at the time


def thin(times: Times, values: Values, columns: int, interval_ns: float = 0.0) -> tuple[Times, Values]:
    """A line with as many points as can be seen.

    Args:
        times: Nanoseconds, rising; not one of them twice where it matters which is first.
        values: As many, none of them NaN.
        columns: Of pixels.
        interval_ns: Between two looks; 0 for what most of them are apart.

    Returns:
        Points in their order: up to ``4 * columns`` of those given, all of them where there are no more; and one with NaN, at
        the middle of it, for each gap between two of them.

    Raises:
        ValueError: There is not even one column.
    """
    if columns < 1:
        raise ValueError(f"a line needs one column at least, not {columns}")
    kept = _kept(times, values, columns)
    # A gap within one column is narrower than a pixel. To those beside it there is a line, else neither could be seen.
    places = kept[:-1][np.diff(kept) == 1] if len(kept) else kept
    gaps = _gaps(times, places, interval_ns)
    apart = np.searchsorted(kept, gaps)
    before, after = times[kept[apart]], times[kept[apart] + 1]
    return (
        np.insert(times[kept], apart + 1, before + (after - before) // 2),
        np.insert(values[kept], apart + 1, np.nan),
    )


def _kept(times: Times, values: Values, columns: int) -> npt.NDArray[np.int64]:
    """The places of the points that are left."""
    if len(times) <= 4 * columns:
        return np.arange(len(times))
    first, span = int(times[0]), max(1, int(times[-1]) - int(times[0]))
    edges = first + np.round(np.arange(1, columns) * (span / columns)).astype(np.int64)
    bounds = np.concatenate(([0], np.searchsorted(times, edges), [len(times)]))
    kept: list[int] = []
    for begin, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        if begin < end:
            part = values[begin:end]
            kept += sorted({begin, begin + int(part.argmin()), begin + int(part.argmax()), end - 1})
    return np.array(kept, np.int64)


def _gaps(times: Times, places: npt.NDArray[np.int64], interval_ns: float) -> npt.NDArray[np.int64]:
    """Those of some places after which looks are missing.

    Looks are not always one interval apart: a monitor that costs too much takes fewer, and of an old recording every other
    one is gone. So it counts how far apart the looks on either side are.
    """
    distances = np.diff(times)
    usual = interval_ns or (float(np.median(distances)) if len(distances) else 0.0)
    found = []
    for place in places[distances[places] > MISSED * usual].tolist():
        sides = (distances[max(0, place - _BESIDE) : place], distances[place + 1 : place + 1 + _BESIDE])
        around = max((float(np.sort(side)[(len(side) - 1) // 2]) for side in sides if len(side)), default=usual)
        if distances[place] > MISSED * max(usual, around):
            found.append(place)
    return np.array(found, np.int64)
