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
import os
import struct
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, Protocol

from otel_hwmetrics.catalog import gpu
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


class Books:
    """The counters of one office, as this process reads them. Used by one thread, but for ``more``.

    Args:
        folders: Where a holder leaves them; in each of them, since a successor may share any.
        name: Of the file.
        anew: Begin to count anew, rather than to go on from what the last holder exported.

    Attributes:
        more: What is to be added to the total of a series, to go on from where the last holder stood.
    """

    def __init__(self, folders: Sequence[Folder], name: str, *, anew: bool = False) -> None:
        self.more: dict[Series, float] = {}
        self._folders = folders
        self._name = name
        self._anew = anew
        self._series: list[Series] = []
        self._counts: list[Count] = []
        self._seen: list[_Seen] = []
        self._left: dict[str, Entry] = {}
        self._written: list[Series] = []
        self._descriptors: list[int] = []
        self._offset = 0

    def of(self, counters: Sequence[tuple[Series, Count]]) -> None:
        """These are its counters from now on."""
        seen = dict(zip(self._series, self._seen, strict=True))
        self._series = [series for series, _ in counters]
        self._counts = [count for _, count in counters]
        self._seen = [seen.get(series, ()) for series in self._series]

    def remember(self) -> None:
        """See how far they have come, while another process has the office."""
        seen = self._seen
        for number, count in enumerate(self._counts):
            last = seen[number]
            if not last or count.at > last[-1][1]:  # slow readings are told again for a while
                seen[number] = (*last[-1:], (count.total, count.at))

    def inherit(self) -> None:
        """The office is this process's now: read what its last holder has left."""
        self._left = left_by(self._folders, self._name)

    def keep(self) -> None:
        """Go on from where the last holder stood, and leave where that is now.

        Where it cannot be written a successor begins anew. Never raises `OSError`.
        """
        if self._left:
            for number, series in enumerate(self._series):
                self._go_on(series, self._counts[number], number)
        more = self.more.get
        numbers: list[float] = []
        for series, count in zip(self._series, self._counts, strict=True):
            numbers += (count.raw, count.total + more(series, 0.0), count.at, 0.0)
        entries = struct.pack(f"<{len(numbers)}d", *numbers)
        if self._series is not self._written:
            self._begin(entries)
        for descriptor in self._descriptors:
            with contextlib.suppress(OSError):
                os.pwrite(descriptor, entries, self._offset)

    def _go_on(self, series: Series, now: Count, number: int) -> None:
        """Find what is to be added to one counter, from now on.

        What the kernel counts is one count for all, so its growth since is the difference; one that has fallen was set
        back. What a driver counts, each process makes endless, or from a level, for itself: its growth is what this process
        has seen grow since; until it has read it since, the total stays where it was.
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
        self.more[series] = (0.0 if self._anew else left.total) + grown - now.total
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
                self._descriptors.append(folder.open_file(self._name))
        self._written, self._offset = self._series, _HEAD.size + len(names)

    def close(self) -> None:
        """Write no more; in a forked child, the parent still does."""
        descriptors, self._descriptors, self._written = self._descriptors, [], []
        for descriptor in descriptors:
            with contextlib.suppress(OSError):
                os.close(descriptor)


def left_by(folders: Iterable[Folder], name: str) -> dict[str, Entry]:
    """What the last holder has left: where each series stood, by its `key`; empty for nothing."""
    for folder in folders:
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
