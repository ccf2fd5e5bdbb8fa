# SPDX-License-Identifier: Apache-2.0
"""CSV: a row a look, a column a series; the whole run, or a file an epoch as `ResourceMonitorCallback` writes them."""

from __future__ import annotations

import csv
import io
import os
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import BinaryIO, Final

from otel_hwmetrics.catalog import training
from otel_hwmetrics.display.export.choice import Choice, within
from otel_hwmetrics.display.export.looks import MINUTE, Part
from otel_hwmetrics.display.export.rows import Row, header_of, rows_of
from otel_hwmetrics.display.export.target import Heard, NoEpochs, target
from otel_hwmetrics.display.words import iso
from otel_hwmetrics.recording.nouns import RecordedSpan

TIME: Final = "timestamp"
STEP: Final = "step"
OF_PROCESS: Final = ("host", "rank", "pid")
"""Columns of a run of several processes: who has looked."""
EPOCH: Final = "hwmetrics.training.epoch"
"""Attribute of a training span: number of the epoch (`otel_hwmetrics.integrations.run`)."""

_AT_ONCE: Final = 256  # rows
_EPOCH_NAME: Final = re.compile(r"(?:train(?:ing)?[ _./-]*)?epoch(?:[ _./#-]*(\d+))?", re.IGNORECASE)
_BEFORE: Final = 3_600_000_000_000  # how far back the number of steps is looked for


def write_csv(parts: Sequence[Part], choice: Choice, path: str, told: Heard) -> int:
    """Write the whole run as one file; gives the number of rows.

    Raises:
        OSError: It cannot be written.
    """
    header = header_of(parts)
    with target(path) as file:
        sheet = _Sheet(file, [TIME, *_of_process(parts), *header])
        for row in rows_of(parts, choice, header):
            sheet.add([iso(row.at_ns) or "", *_process(parts, row), *row.cells])
            told(row.at_ns)
        sheet.flush()
    return sheet.rows


def write_epochs(parts: Sequence[Part], choice: Choice, folder: str, told: Heard) -> dict[str, int]:
    """Write a file ``epoch_N.csv`` for each epoch; gives the number of rows of each, by its path.

    Raises:
        NoEpochs: No training span of the run is an epoch.
        OSError: A file cannot be written.
    """
    epochs = epochs_of(parts)
    if not epochs:
        raise NoEpochs
    os.makedirs(folder, exist_ok=True)
    header = header_of(parts)
    written = {}
    for epoch, windows in sorted(epochs.items()):
        path = os.path.join(folder, f"epoch_{epoch}.csv")
        with target(path) as file:
            sheet = _Sheet(file, [STEP, TIME, *_of_process(parts), *header])
            _write_epoch(sheet, parts, choice, windows, told)
        written[path] = sheet.rows
    return written


_Windows = dict[int, list[tuple[int, int]]]


def epochs_of(parts: Sequence[Part]) -> dict[int, _Windows]:
    """When each file of a run was in each epoch, by the epoch's number; one without epochs when any other was."""
    epochs: dict[int, _Windows] = {}
    for part in parts:
        met = 0
        for span in part.recording.spans():
            number = _number(span, met)
            if number is not None:
                met = number + 1
                end = span.ended_ns or part.recording.about.heard_ns + 1
                epochs.setdefault(number, {}).setdefault(part.number, []).append((span.started_ns, end))
    with_epochs = {number for windows in epochs.values() for number in windows}
    for windows in epochs.values():
        every = sorted(window for of_part in windows.values() for window in of_part)
        windows |= {part.number: every for part in parts if part.number not in with_epochs}
    return epochs


def _number(span: RecordedSpan, following: int) -> int | None:
    named = _EPOCH_NAME.fullmatch(span.name)
    if named is None:
        return None
    told = span.attributes.get(EPOCH, span.attributes.get("epoch"))
    if isinstance(told, int) and not isinstance(told, bool) and told >= 0:
        return told
    return int(named[1]) if named[1] else following


def _write_epoch(sheet: _Sheet, parts: Sequence[Part], choice: Choice, windows: _Windows, told: Heard) -> None:
    start = min(start for of_part in windows.values() for start, _ in of_part)
    end = max(end for of_part in windows.values() for _, end in of_part)
    start, end = max(start, choice.start_ns or start), min(end, choice.end_ns or end)
    steps = {part.number: _Steps(part, windows.get(part.number, [])) for part in parts}
    for row in rows_of(parts, replace(choice, start_ns=start, end_ns=end), header_of(parts)):
        if within(row.at_ns, windows.get(row.part, ())):
            step = steps[row.part].at(row.at_ns)
            sheet.add([step, iso(row.at_ns) or "", *_process(parts, row), *row.cells])
        told(row.at_ns)
    sheet.flush()


class _Steps:
    """How many steps of an epoch had ended at a moment, where steps were recorded; asked in the order of time.

    Of the time of which only minutes were kept, as many as had ended with the minute; and what had ended before an epoch that
    began within a minute is as if the steps of that minute had taken the same time, each.
    """

    def __init__(self, part: Part, windows: Sequence[tuple[int, int]]) -> None:
        series = next((each for each in part.recording.series() if each.metric == training.STEPS.name), None)
        self._looks: Iterator[tuple[int, float]] = iter(())
        self._next: tuple[int, float] | None = None
        self._steps: float | None = None
        if series is None or not windows:
            return
        first, last = windows[0][0], windows[-1][1]
        looks = _looks_at(part, series.id, first - _BEFORE, last)
        began = bisect_right(looks, first, key=itemgetter(0))
        self._base = looks[began - 1][1] if began else 0.0
        if 0 < began < len(looks) and first < (part.rolled_until or first):
            (before, so_far), (after, then) = looks[began - 1 : began + 1]
            self._base += (then - so_far) * (first - before) / (after - before)
        self._looks = iter(looks[bisect_left(looks, first, key=itemgetter(0)) :])
        self._next = next(self._looks, None)

    def at(self, at_ns: int) -> str:
        while self._next is not None and self._next[0] <= at_ns:
            self._steps, self._next = self._next[1] - self._base, next(self._looks, None)
        return "" if self._steps is None else str(round(self._steps))


def _looks_at(part: Part, series: int, start_ns: int, end_ns: int) -> list[tuple[int, float]]:
    """A counter's totals, by time: at the ends of the minutes of which no more was kept, then by the look."""
    until = part.rolled_until
    minutes = [] if until is None or start_ns >= until else part.recording.minutes(series, start_ns - MINUTE, end_ns)
    ended = [(minute.start_ns + MINUTE, minute.last) for minute in minutes if minute.start_ns + MINUTE <= (until or 0)]
    return [*ended, *zip(*part.recording.values(series, start_ns, end_ns), strict=True)]


class _Sheet:
    """Writes rows to a file, some at a time.

    Attributes:
        rows: How many there are, without the header.
    """

    def __init__(self, file: BinaryIO, header: Sequence[str]) -> None:
        self._file = file
        self._text = io.StringIO(newline="")
        self._writer = csv.writer(self._text, lineterminator="\n")
        self._writer.writerow(header)
        self.rows = 0

    def add(self, cells: Sequence[str]) -> None:
        self._writer.writerow(cells)
        self.rows += 1
        if self.rows % _AT_ONCE == 0:
            self.flush()

    def flush(self) -> None:
        self._file.write(self._text.getvalue().encode("utf-8", "replace"))
        self._text.seek(0)
        self._text.truncate()


def _of_process(parts: Sequence[Part]) -> tuple[str, ...]:
    return OF_PROCESS if len(parts) > 1 else ()


def _process(parts: Sequence[Part], row: Row) -> tuple[str, ...]:
    if len(parts) == 1:
        return ()
    about = parts[row.part].recording.about
    return (about.host, "" if about.rank is None else str(about.rank), str(about.pid))
