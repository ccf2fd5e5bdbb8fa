# SPDX-License-Identifier: Apache-2.0
"""Counters that go on when a process is moved to another cgroup, whose own counters stand somewhere else."""

from __future__ import annotations

from collections.abc import Callable

from otel_hwmetrics.model import Kind, Reading, Series


class Continued:
    """Lets the counters of a new cgroup begin where those of the old one ended.

    The new cgroup may have counted for long before the process came; to take that for growth would be to invent it.
    What either counted between the last look before the move and the first after it is not known, and adds nothing.
    """

    def __init__(self) -> None:
        self._told: dict[Series, float] = {}
        self._pending: dict[Series, float] = {}
        self._offsets: dict[Series, float] = {}

    def moved(self, concerns: Callable[[Series], bool] = lambda _: True) -> None:
        """The next reading of each counter is another cgroup's.

        Args:
            concerns: Which counters are a cgroup's; all of them by default.
        """
        self._pending |= {series: told for series, told in self._told.items() if concerns(series)}

    def apply(self, readings: list[Reading]) -> None:
        """Turn what was just read into what is told, in place. Costs next to nothing until the first move."""
        for index, reading in enumerate(readings):
            series = reading.series
            if series.metric.kind is not Kind.COUNTER:
                continue
            if series in self._pending:
                self._offsets[series] = self._pending.pop(series) - reading.value
            if series in self._offsets:
                reading = readings[index] = reading._replace(value=reading.value + self._offsets[series])  # noqa: PLW2901
            self._told[series] = reading.value
