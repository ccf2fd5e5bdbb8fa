# SPDX-License-Identifier: Apache-2.0
"""Whether two runs differ in a figure by more than each of them varies within itself."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

FEW: Final = 3
"""Pieces of a run that tell how much it varies, at the least."""

_FREEDOM: Final = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 60, 120)
_BEYOND: Final = (318.3, 22.33, 10.22, 7.173, 5.894, 5.208, 4.501, 4.144, 3.733, 3.552, 3.386, 3.232, 3.160)
"""Student's t that is exceeded once in 500 times, on either side, by chance, for so many degrees of freedom
(https://www.itl.nist.gov/div898/handbook/eda/section3/eda3672.htm, the column 0.999). A comparison asks a dozen questions, and
is to be wrong about one of them in one of 40 comparisons at most."""


def differ(one: Sequence[float], other: Sequence[float]) -> bool | None:
    """Whether the means of two runs differ by more than chance, by Welch's test; None where there are too few pieces to say.

    Args:
        one: The figure over pieces of a run: epochs, or parts of the time.
        other: Likewise of the other.
    """
    if min(len(one), len(other)) < FEW:
        return None
    spreads = [_variance(each) / len(each) for each in (one, other)]
    apart = abs(_mean(one) - _mean(other))
    error = math.sqrt(sum(spreads))
    if error == 0:
        return apart > 0
    freedom = sum(spreads) ** 2 / sum(
        spread**2 / (len(each) - 1) for spread, each in zip(spreads, (one, other), strict=True)
    )
    return apart / error > _beyond(freedom)


def differ_in_turn(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether runs differ turn by turn, by the paired test: each first epoch may be longer than all others, in both alike."""
    turns = [math.log(after / before) for before, after in zip(one, other, strict=False) if before > 0 and after > 0]
    if len(one) != len(other) or len(turns) != len(one) or len(turns) < FEW:
        return False
    error = math.sqrt(_variance(turns) / len(turns))
    apart = abs(_mean(turns))
    return apart > 0 if error == 0 else apart / error > _beyond(len(turns) - 1)


def _beyond(freedom: float) -> float:
    return _BEYOND[max(0, bisect_right(_FREEDOM, freedom) - 1)]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _variance(values: Sequence[float]) -> float:
    mean = _mean(values)
    return math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
