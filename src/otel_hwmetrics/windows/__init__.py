# SPDX-License-Identifier: Apache-2.0
"""From readings of a moment to what a window of time was like: totals, means, rates, shares, peaks.

An `Accumulator` takes every sample's readings and keeps two running sums a series: for a counter its growth, for a
gauge its integral over time. Either way a window is then the difference of two samples, however far apart, so each
consumer (every metric reader, the alerts) has windows of its own length, and nothing between two exports is missed.
"""

from otel_hwmetrics.windows.accumulator import FORGET_AFTER, FORGET_EVERY, Accumulator
from otel_hwmetrics.windows.samples import SHORTEST, Point, Sample
from otel_hwmetrics.windows.snapshots import between

__all__ = ["FORGET_AFTER", "FORGET_EVERY", "SHORTEST", "Accumulator", "Point", "Sample", "between"]
