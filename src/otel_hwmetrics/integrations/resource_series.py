# SPDX-License-Identifier: Apache-2.0
"""Time series as one CSV file an epoch, for plots: a row at a time, and each row is there when it is written."""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Mapping
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

    Where the disk fails, the rest of the epoch has no rows, and the next one is tried again.

    Args:
        folder: Where; made with the first row, and again should it be taken away. It stays the same, wherever the job goes.
    """

    def __init__(self, folder: str) -> None:
        try:
            self.folder = os.path.abspath(folder)
        except FileNotFoundError:  # where the job is has been taken away
            self.folder = folder
        self._path = ""
        self._columns: list[str] = []
        self._failed: int | None = None  # in what epoch, last
        self._told = False

    def add(self, epoch: int, step: int, figures: Mapping[str, float], at: float) -> None:
        """Write a row.

        Args:
            epoch: Number of the epoch, from 0.
            step: What the row is of: the number of the batch within the epoch.
            figures: By their names; what is missing is left empty.
            at: When they were looked at, in seconds since 1970.
        """
        if self._failed == epoch:
            return
        path = os.path.join(self.folder, f"epoch_{epoch}.csv")
        try:
            try:
                self._add(path, step, figures, at)
            except FileNotFoundError:  # the folder was taken away meanwhile
                self._path = ""
                self._add(path, step, figures, at)
        except (OSError, ValueError) as error:  # full, read-only, gone; or what is there is no text
            self._failed = epoch
            self._tell(epoch, error)

    def _tell(self, epoch: int, error: Exception) -> None:
        if not self._told:
            _logger.error(
                "No more time series of epoch %d are written to %s: %s. The next epoch is tried again, without a further "
                "word. Training goes on.",
                epoch,
                redaction.place(self.folder),
                error,
            )
        self._told = True

    def _add(self, path: str, step: int, figures: Mapping[str, float], at: float) -> None:
        if path != self._path:
            os.makedirs(self.folder, exist_ok=True)
            self._columns = _columns_of(path)
            self._path = path
        if any(name not in self._columns for name in figures):
            self._widen({**dict.fromkeys(self._columns), **figures})
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(at))
        cells = [str(step), stamp, *(_cell(figures.get(name)) for name in self._columns)]
        # At once, and nothing that a child which is forked meanwhile could write again.
        with open(path, "ab", buffering=0, opener=opened) as file:
            new = os.fstat(file.fileno()).st_size == 0  # or taken away meanwhile
            rows = [[*FIXED, *self._columns], cells] if new else [cells]
            file.write("".join(",".join(row) + "\n" for row in rows).encode())

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
