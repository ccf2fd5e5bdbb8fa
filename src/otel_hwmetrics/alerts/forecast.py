# SPDX-License-Identifier: Apache-2.0
"""Where a series is going: when it will reach a limit, and whether it grows without end.

A series is first reduced to its envelope: some tens of extremes, which is what a limit is reached by, and few enough for
robust arithmetic. Through them goes a line, with an interval for its slope; a forecast is made only where the whole of
the interval leads towards the limit. Pure: time and data are arguments.

Sources:
    Theil 1950, and Sen 1968 (https://doi.org/10.1080/01621459.1968.10480934): the slope and its interval.
    Kendall 1975, Rank Correlation Methods, ch. 4: the variance with ties.
    Hamed and Rao 1998 (https://doi.org/10.1016/S0022-1694(97)00125-X): the autocorrelation of ranks of residuals.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from statistics import NormalDist
from typing import NamedTuple

FEWEST = 8
"""Points that a trend needs; with fewer, Kendall's statistic is far from normal."""
STILL = 0.5
"""Share of the whole's slope that the recent half must have for the trend to count as going on."""
RECOVERED = 0.02
"""Share of its highest level by which a leak never falls back (TraceML, step_memory/trend.py)."""


class Point(NamedTuple):
    """One value of a series.

    Attributes:
        at: When, in seconds, or at which training step; never falls from one point to the next.
        value: In any unit; finite.
    """

    at: float
    value: float


class Envelope:
    """The extremes of a series, one for each of at most so many stretches of equal length.

    Constant memory and time for each value, however long it runs. Used by one thread at a time.

    Args:
        extreme: The built-in `max` for usage that must not reach a limit, `min` for what must not be fallen short of:
            free space, or the floor below a leak, which a garbage collector's coming and going does not move.
        span: How much is looked back on, in the unit of ``at``.
        buckets: Into how many stretches it is divided, and so the most points there are.
        whole_run: Look back on all there was. Whenever the buckets are full, neighbours are merged in pairs and
            ``span`` doubles, so that there are always between half and all of them.

    Raises:
        ValueError: There is nothing to divide, or to divide it into.
    """

    __slots__ = ("_buckets", "_count", "_extreme", "_last", "_length", "_origin", "_whole_run")

    def __init__(
        self, extreme: Callable[[float, float], float], span: float, buckets: int, *, whole_run: bool = False
    ) -> None:
        if buckets < 1 or not 0 < span < math.inf:
            raise ValueError(f"{span} cannot be divided into {buckets} buckets")
        self._extreme = extreme
        self._length = span / buckets
        self._count = buckets
        self._whole_run = whole_run
        self._origin = 0.0  # the first value's `at`, where the first bucket begins
        self._last = -math.inf
        self._buckets: deque[tuple[int, Point]] = deque()  # by their number since the origin; empty ones are left out

    def add(self, at: float, value: float) -> None:
        """Take one more value.

        Args:
            at: Its time or step; what comes from before the last one is passed over.
            value: What it is; what is not finite is none.
        """
        if at < self._last or not math.isfinite(at + value):
            return
        if not self._buckets:
            self._origin = at
        self._last = at
        while (number := int((at - self._origin) / self._length)) >= self._count and self._whole_run:
            self._widen()
        self._join(number, Point(at, value))
        while self._buckets[0][0] <= number - self._count:
            self._buckets.popleft()

    def points(self, *, unfinished: bool = True) -> list[Point]:
        """The extremes, each with the time at which it was first seen, in the order of time.

        Args:
            unfinished: With the bucket that is being filled. What it has seen so far may be less than extreme: it is
                the freshest for a forecast, and the least to be trusted for a leak.
        """
        points = [point for _, point in self._buckets]
        return points if unfinished else points[:-1]

    def _join(self, number: int, point: Point) -> None:
        buckets = self._buckets
        if not buckets or buckets[-1][0] != number:
            buckets.append((number, point))
        elif self._extreme(buckets[-1][1].value, point.value) != buckets[-1][1].value:
            buckets[-1] = (number, point)

    def _widen(self) -> None:
        narrow, self._buckets = self._buckets, deque()
        self._length *= 2
        for number, point in narrow:
            self._join(number // 2, point)


@dataclass(frozen=True)
class Trend:
    """A line through a series.

    Attributes:
        slope: How much it rises for each second, or each step.
        low: The slope's lower confidence bound.
        high: Its upper one.
        level: Where the latest points say that the line is at the last of them.
        at: The last point's time or step.
        count: How many points it goes through.
        recent: The slope of the recent half of the points alone.
    """

    slope: float
    low: float
    high: float
    level: float
    at: float
    count: int
    recent: float

    @property
    def rising(self) -> bool:
        """Whether it surely rises, and still does."""
        return self.low > 0 and self.recent >= STILL * self.slope

    @property
    def falling(self) -> bool:
        """Whether it surely falls, and still does."""
        return self.high < 0 and self.recent <= STILL * self.slope


def trend(points: Sequence[Point], confidence: float = 0.95) -> Trend | None:
    """The line through a series, by Theil and Sen: its slope is the median of those of all pairs of points.

    Up to 29 % of the points may be arbitrarily wrong. The interval is Sen's, from Kendall's variance, widened by what
    autocorrelation costs: Sen takes points for independent, but a memory's level is a sum of what came before, and from
    30 points of a random walk his 95 % interval sees a trend in 72 of 100. The noise is taken for autoregressive of
    first order. The variance of a slope then grows by (1 + r) / (1 - r), and by 1.5 n, that of a random walk, at most.
    r comes from the ranks of the residuals; a line through so few points follows their noise, so that what it leaves is
    corrected for bias, (n r + 2) / (n - 4), and on the side of caution taken one standard error higher.

    That also answers for everything that is no line: what remains of a single jump, of a few large steps, of a rise that
    ended or of a slow sawtooth is strongly autocorrelated, so that the interval gets wide and has the zero in it. Steps
    are told from a jump when three or four of them have been seen. A sawtooth whose tooth is longer than the series
    is, within it, a ramp.

    Takes 0.15 ms for 30 points, 0.6 ms for 60; the cost grows with their square.

    Args:
        points: In the order of time; equal times are allowed.
        confidence: How probably the interval holds the slope, between 0 and 1, both bounds together. It holds for one
            look; an alarm that looks every few seconds for days wants 0.99.

    Returns:
        None where there are fewer than `FEWEST` points, or no time lies between the recent half of them.
    """
    count = len(points)
    if count < FEWEST or points[count // 2].at == points[-1].at:
        return None
    slopes = _slopes(points)
    slope = _median(slopes)
    low, high = _interval(points, slopes, slope, confidence)
    return Trend(
        slope=slope,
        low=low,
        high=high,
        level=_level(points[-(count // 4) :], slope),
        at=points[-1].at,
        count=count,
        recent=_median(_slopes(points[count // 2 :])),
    )


def _interval(points: Sequence[Point], slopes: Sequence[float], slope: float, confidence: float) -> tuple[float, float]:
    """Sen's, as much wider as autocorrelation makes it."""
    reach = NormalDist().inv_cdf((1 + confidence) / 2) * math.sqrt(_variance(points))
    outside = max(0, math.ceil((len(slopes) - reach) / 2) - 1)  # slopes below Sen's interval, and as many above it
    first = points[0]
    residuals = [value - first.value - slope * (at - first.at) for at, value in points]
    wider = math.sqrt(_inflation(_autocorrelation(residuals), len(points)))
    return slope - wider * (slope - slopes[outside]), slope + wider * (slopes[-1 - outside] - slope)


@dataclass(frozen=True)
class Outlook:
    """When nothing will be left, in seconds (or steps) from the trend's last point on; 0 where nothing is.

    Attributes:
        expected: By the slope.
        soonest: By the steeper bound of its interval, or by the slope of the recent half if that is steeper still: where
            a rise has just begun, the whole's slope is too low.
        latest: By the flatter bound.
    """

    expected: float
    soonest: float
    latest: float


def time_left(trend: Trend) -> Outlook | None:
    """When nothing is left of something, if it goes on as it does.

    Args:
        trend: That of what is left.

    Returns:
        None where it does not surely shrink, or has all but ceased to.
    """
    if trend.level <= 0:
        return Outlook(0.0, 0.0, 0.0)
    if not trend.falling:
        return None
    return Outlook(trend.level / -trend.slope, trend.level / -min(trend.low, trend.recent), trend.level / -trend.high)


@dataclass(frozen=True)
class Growth:
    """How something grows without end.

    Attributes:
        start: From what it grew by the line, in the unit of the values.
        grown: By how much it did.
        over: In how many seconds or steps.
        slope: How much it grows for each second, or each step.
        low: The slope's lower confidence bound.
        high: Its upper one.
    """

    start: float
    grown: float
    over: float
    slope: float
    low: float
    high: float


def leak(
    points: Sequence[Point],
    *,
    share: float,
    lasting: float = 0.0,
    confidence: float = 0.95,
) -> Growth | None:
    """Whether what a series never falls below grows without end, and how fast.

    A cache that fills and then is full is no leak: the recent half must rise at half the whole's slope or more, and the
    last point be as good as the highest. A cache that is still being filled looks like a leak; what tells them apart is
    time, so let it last. Where the whole is no line, since a cache was filled first, or the leak began with the tenth
    evaluation, the recent half is judged by itself.

    Thresholds in the field: 512 MiB, 6 %, 800 steps (TraceML, step_memory/trend.py).

    Args:
        points: Of an envelope of minima, as a rule of the whole run and without the unfinished bucket.
        share: It must have grown by this share of what it was at first,
        lasting: in so many seconds or steps or more.
        confidence: That of the slope's interval, the whole of which must be above 0.

    Returns:
        None where it does not leak, or not surely.
    """
    for stretch in (points, points[len(points) // 2 :]):
        growth = _growth(stretch, confidence)
        if growth is not None and growth.over >= lasting and growth.grown >= share * growth.start:
            return growth
    return None


def _growth(points: Sequence[Point], confidence: float) -> Growth | None:
    """How much a series has grown, if it surely does, and has not fallen back."""
    line = trend(points, confidence)
    highest = max((value for _, value in points), default=0.0)
    if line is None or not line.rising or points[-1].value < highest - RECOVERED * abs(highest):
        return None
    over = line.at - points[0].at
    # By the line, back from the last level: the very first points are of a program that is still being loaded, and what
    # a jump added is not leaking.
    grown = line.slope * over
    return Growth(line.level - grown, grown, over, line.slope, line.low, line.high)


def _slopes(points: Sequence[Point]) -> list[float]:
    """Those of all pairs of points, sorted; a pair of one time has none."""
    slopes = [(later - earlier) / (then - at) for (at, earlier), (then, later) in combinations(points, 2) if then > at]
    slopes.sort()
    return slopes


def _level(latest: Sequence[Point], slope: float) -> float:
    """Where a line of this slope is at the last of the latest points, but nowhere where none of them was.

    The whole series would tell a level that is long gone if there was a bend or a jump, and the slope one that will
    never be if the rise has ended.
    """
    last = latest[-1].at
    values = [value for _, value in latest]
    level = _median(sorted(value + slope * (last - at) for at, value in latest))
    return min(max(values), max(min(values), level))


def _median(ordered: Sequence[float]) -> float:
    middle = len(ordered) // 2
    return (ordered[middle] + ordered[~middle]) / 2


def _variance(points: Sequence[Point]) -> float:
    """Of the number of rising pairs less that of falling ones, were there no trend; less where values or times tie."""
    n = len(points)
    times = [ties for ties in Counter(at for at, _ in points).values() if ties > 1]
    values = [ties for ties in Counter(value for _, value in points).values() if ties > 1]
    pairs = [sum(t * (t - 1) for t in ties) for ties in (times, values)]
    triples = [sum(t * (t - 1) * (t - 2) for t in ties) for ties in (times, values)]
    tied = sum(t * (t - 1) * (2 * t + 5) for t in times + values)
    variance = (n * (n - 1) * (2 * n + 5) - tied) / 18
    variance += pairs[0] * pairs[1] / (2 * n * (n - 1))
    variance += triples[0] * triples[1] / (9 * n * (n - 1) * (n - 2))
    return max(0.0, variance)  # where all ties, rounding may leave less


def _autocorrelation(residuals: Sequence[float]) -> float:
    """How alike the ranks of neighbours are, -1 to 1. Ranks, so that one spike cannot drown it."""
    ordered = sorted(residuals)
    # Twice the mean rank of those that tie, less its mean over all.
    ranks = [bisect_left(ordered, each) + bisect_right(ordered, each) - len(ordered) for each in residuals]
    squares = sum(rank * rank for rank in ranks)
    return sum(one * other for one, other in pairwise(ranks)) / squares if squares else 0.0


def _inflation(lag_one: float, count: int) -> float:
    """By how much autocorrelation enlarges the variance of a slope over what the residuals tell, 1 or more."""
    cautious = lag_one + math.sqrt((1 - lag_one * lag_one) / count)
    r = (count * cautious + 2) / (count - 4)
    walk = 1.5 * count
    return min(walk, max(1.0, (1 + r) / (1 - r))) if r < 1 else walk
