# SPDX-License-Identifier: Apache-2.0
"""Where an office's counters stand, left by its holder for whoever has it next.

A file has a header, which names the series, and an entry of numbers for each: the count as its source told it, the total
that was exported for it, and when. It is written anew when a series comes or goes, and at every other look the entries
alone are written over. A holder that is killed in the middle leaves entries of two looks, and each of them is true: they
lie on multiples of their own size, so none is torn (a write is cut off, if at all, between two pages).
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from otel_hwmetrics.catalog import gpu
from otel_hwmetrics.election.files import Kept
from otel_hwmetrics.folders import Folder
from otel_hwmetrics.model import Series

_HEAD: Final = struct.Struct("<8sQ16x")
_MAGIC: Final = b"hwtotal1"
_ENTRY: Final = struct.Struct("<ddd8x")
_LARGEST: Final = 1 << 22
"""Bytes of a file that are read; ten thousand series with long names have less."""


class Count(Protocol):
    """Where a counter stands: `otel_hwmetrics.windows.accumulator.Counter`, as far as it matters here."""

    @property
    def raw(self) -> float:
        """As its source tells it."""
        ...

    @property
    def total(self) -> float:
        """Its growth, as it is exported."""
        ...

    @property
    def at(self) -> float:
        """When it was read, in seconds of the monotonic clock, which all processes of a machine share."""
        ...


class Entry(NamedTuple):
    """Where a counter of the last holder stood."""

    raw: float
    total: float
    at: float


_Seen = tuple[tuple[float, float], ...]
"""The last readings of a counter that another process tells of: total and time, two at most."""


class Ledger:
    """What a process adds to its counters, to go on from what others have exported; for its whole life.

    The SDK's streams go on through `uninstrument` and `instrument`, and so does this. Written by one thread at a time.

    Attributes:
        more: What is to be added to the total of a series.
        told: Where a series stood when this process told of it last, of those that it tells of no more.
    """

    def __init__(self) -> None:
        self.more: dict[Series, float] = {}
        self.told: dict[Series, float] = {}


class Books:
    """The counters of one office, as this process reads them. Used by one thread at a time.

    Args:
        folders: Where a holder leaves them; in each of them, since a successor may share any.
        name: Of the file.
        ledger: Of the process.
        anew: Begin to count anew, rather than to go on from what the last holder exported.
    """

    def __init__(self, folders: Sequence[Folder], name: str, ledger: Ledger, *, anew: bool = False) -> None:
        self._folders = folders
        self._name = name
        self._ledger = ledger
        self._anew = anew
        self._series: list[Series] = []
        self._counts: list[Count] = []
        self._seen: list[_Seen] = []
        self._left: dict[str, Entry] = {}
        self._kept: tuple[list[Series], list[float]] | None = None  # what was told last, while this process tells
        self._written: list[Series] = []
        self._files: list[Kept] = []
        self._offset = 0

    def of(self, counters: Sequence[tuple[Series, Count]]) -> None:
        """These are its counters from now on."""
        seen = dict(zip(self._series, self._seen, strict=True))
        self._series = [series for series, _ in counters]
        self._counts = [count for _, count in counters]
        self._seen = [seen.get(series, ()) for series in self._series]

    def remember(self) -> None:
        """See how far they have come, while another process has the office."""
        self.lose()
        seen = self._seen
        for number, count in enumerate(self._counts):
            last = seen[number]
            if not last or count.at > last[-1][1]:  # slow readings are told again for a while
                seen[number] = (*last[-1:], (count.total, count.at))

    def inherit(self) -> None:
        """The office is this process's now: read what its last holder has left."""
        self.lose()
        self._left = left_by(self._folders, self._name)

    def lose(self) -> None:
        """The office is this process's no more: note how far it has told."""
        if self._kept is not None:
            series, numbers = self._kept
            self._ledger.told.update(zip(series, numbers[1::4], strict=True))
            self._kept = None
            self.close()

    def keep(self) -> None:
        """Go on from where the last holder stood, and leave where that is now.

        Where it cannot be written a successor begins anew. Never raises `OSError`.
        """
        if self._left:
            for number, series in enumerate(self._series):
                self._go_on(series, self._counts[number], number)
        more = self._ledger.more.get
        numbers: list[float] = []
        for series, count in zip(self._series, self._counts, strict=True):
            numbers += (count.raw, count.total + more(series, 0.0), count.at, 0.0)
        self._kept = self._series, numbers
        entries = struct.pack(f"<{len(numbers)}d", *numbers)
        if self._series is not self._written:
            self._begin(entries)
        for file in self._files:
            file.write(entries, self._offset)

    def _go_on(self, series: Series, now: Count, number: int) -> None:
        """Find what is to be added to one counter, from now on.

        What the kernel counts is one count for all, so its growth since is the difference; one that has fallen was set
        back. What a driver counts, each process makes endless, or from a level, for itself: its growth is what this process
        has seen grow since; until it has read it since, the total stays where it was. What this process has told itself, it
        does not take back.
        """
        name = key(series)
        left = self._left.get(name)
        if left is None:
            return
        grown, known = 0.0, True
        if gpu.HW_ID not in series.metric.attributes:
            grown = max(0.0, now.raw - left.raw)
        elif now.at > left.at:
            grown = now.total - _total_at(left.at, (*self._seen[number], (now.total, now.at)))
        else:
            known = False
        if series.metric.integer:
            grown = round(grown)
        told = self._ledger.told.get(series)
        begins = 0.0 if self._anew else left.total
        if told is not None:
            begins = told if self._anew else max(told, begins)
        self._ledger.more[series] = begins + grown - now.total
        if known:
            del self._left[name]

    def _begin(self, entries: bytes) -> None:
        """Write all of it anew, with the names."""
        self.close()
        names = json.dumps([_key(each) for each in self._series], separators=(",", ":")).encode()
        names += b" " * (-len(names) % _ENTRY.size)
        for folder in self._folders:
            with contextlib.suppress(OSError):
                with folder.new(self._name) as file:
                    file.write(_HEAD.pack(_MAGIC, len(names)) + names + entries)
                self._files.append(Kept(folder, self._name))
        self._written, self._offset = self._series, _HEAD.size + len(names)

    def close(self) -> None:
        """Write no more."""
        files, self._files, self._written = self._files, [], []
        for file in files:
            file.close()


def left_by(folders: Iterable[Folder], name: str) -> dict[str, Entry]:
    """What the last holder has left: where each series stood, by its `key`; empty for nothing.

    Holders may not have shared all folders with each other: of several files the newest counts.
    """
    return max((_read(folder, name) for folder in folders), key=_newest, default={})


def _newest(entries: Mapping[str, Entry]) -> float:
    return max((entry.at for entry in entries.values()), default=-math.inf)


def _read(folder: Folder, name: str) -> dict[str, Entry]:
    with contextlib.suppress(OSError, ValueError, TypeError, struct.error):
        descriptor = folder.open_file(name)
        try:
            content = os.pread(descriptor, _LARGEST, 0)
        finally:
            os.close(descriptor)
        magic, length = _HEAD.unpack_from(content)
        if magic == _MAGIC:
            names = json.loads(content[_HEAD.size : _HEAD.size + length])
            entries = [Entry(*numbers) for numbers in _ENTRY.iter_unpack(content[_HEAD.size + length :])]
            return dict(zip(map(_text, names), entries, strict=True))
    return {}


def key(series: Series) -> str:
    """How a series is known to another process."""
    return _text(_key(series))


def _text(name: object) -> str:
    return json.dumps(name, separators=(",", ":"))


def _key(series: Series) -> list[object]:
    return [series.metric.name, sorted(map(list, series.attributes.items()))]


def _total_at(moment: float, readings: Sequence[tuple[float, float]]) -> float:
    """Where a counter stood between two of its readings, as if it grew evenly; before the first, as at that."""
    before, since = readings[0]
    for total, at in readings[1:]:
        if since <= moment < at:
            return before + (total - before) * (moment - since) / (at - since)
        before, since = total, at
    return readings[0][0] if moment < readings[0][1] else before
