# SPDX-License-Identifier: Apache-2.0
"""Time series as one CSV file an epoch, for plots: a row at a time, and each row is there when it is written."""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Callable, Mapping
from typing import Final

from otel_hwmetrics import redaction
from otel_hwmetrics.descriptors import opened
from otel_hwmetrics.integrations.resource_figures import in_order

_logger = redaction.logger()

FIXED: Final = ("step", "timestamp")
"""The first columns of each file."""


class EpochFiles:
    """Writes ``epoch_N.csv`` below a folder. Used by one thread; raises nothing that a disk may do.

    Each row opens the file anew: none is kept open that the job's forks would inherit, or that it would close. A figure that
    is read for the first time gets its column at once, between the others, and is empty in the rows before. A file that is
    there already, of an epoch that is resumed or of an earlier run, is continued.

    Args:
        folder: Where; made with the first row.
        now: Seconds since 1970.
    """

    def __init__(self, folder: str, now: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._now = now
        self._path = ""
        self._columns: list[str] = []
        self._failed = False

    def add(self, epoch: int, step: int, figures: Mapping[str, float]) -> None:
        """Write a row.

        Args:
            epoch: Number of the epoch, from 0.
            step: What the row is of: the number of the batch within the epoch.
            figures: By their names; what is missing is left empty.
        """
        if self._failed:
            return
        try:
            self._add(os.path.join(self._folder, f"epoch_{epoch}.csv"), step, figures)
        except (OSError, ValueError) as error:  # full, read-only, gone; or what is there is no text
            self._failed = True
            _logger.error(
                "No more time series are written to %s: %s. Training goes on.", redaction.place(self._folder), error
            )

    def _add(self, path: str, step: int, figures: Mapping[str, float]) -> None:
        if path != self._path:
            os.makedirs(self._folder, exist_ok=True)
            self._path, self._columns = path, _columns_of(path)
        if any(name not in self._columns for name in figures):
            self._widen({**dict.fromkeys(self._columns), **figures})
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(self._now()))
        cells = [str(step), stamp, *(_cell(figures.get(name)) for name in self._columns)]
        with open(path, "a", opener=opened, encoding="utf-8", newline="") as file:
            if file.tell() == 0:  # new, or taken away meanwhile
                file.write(",".join((*FIXED, *self._columns)) + "\n")
            file.write(",".join(cells) + "\n")

    def _widen(self, names: Mapping[str, object]) -> None:
        """Give the file columns for these; it is replaced as a whole, so that no row is ever lost."""
        self._columns = in_order(names)
        if not os.path.exists(self._path):
            return
        new = f"{self._path}.new"
        with (
            open(self._path, encoding="utf-8", newline="") as before,
            open(new, "w", opener=opened, encoding="utf-8", newline="") as after,
        ):
            rows = csv.DictReader(before, restval="")
            writer = csv.DictWriter(after, (*FIXED, *self._columns), "", "ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        os.replace(new, self._path)


def _columns_of(path: str) -> list[str]:
    """Those of the figures, of a file that is there; empty for none."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            header = next(csv.reader(file), [])
    except FileNotFoundError:
        return []
    return [name for name in header if name not in FIXED]


def _cell(value: float | None) -> str:
    return "" if value is None else str(round(value, 3))
