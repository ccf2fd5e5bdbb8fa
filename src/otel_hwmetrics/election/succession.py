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
from typing import Final, NamedTuple

from otel_hwmetrics.folders import Folder
from otel_hwmetrics.model import Series
from otel_hwmetrics.windows import Standing

_HEAD: Final = struct.Struct("<8sQ16x")
_MAGIC: Final = b"hwtotal1"
_ENTRY: Final = struct.Struct("<ddd8x")
_LARGEST: Final = 1 << 22
"""Bytes of a file that are read; ten thousand series with long names have less."""


class Will:
    """Writes down where an office's counters stand. Used by one thread.

    Args:
        folders: Where; in each of them, since a successor may share any.
        name: Of the file.
    """

    def __init__(self, folders: Sequence[Folder], name: str) -> None:
        self._folders = folders
        self._name = name
        self._series: list[Series] = []
        self._descriptors: list[int] = []
        self._offset = 0

    def write(self, standings: Sequence[Standing]) -> None:
        """Write them down; where that cannot be done, a successor begins anew. Never raises `OSError`."""
        series = [standing.series for standing in standings]
        numbers = [number for _, raw, total, at in standings for number in (raw, total, at, 0.0)]
        entries = struct.pack(f"<{len(numbers)}d", *numbers)
        if series != self._series:
            self.close()
            self._begin(series, entries)
        for descriptor in self._descriptors:
            with contextlib.suppress(OSError):
                os.pwrite(descriptor, entries, self._offset)

    def _begin(self, series: list[Series], entries: bytes) -> None:
        names = json.dumps([_key(each) for each in series], separators=(",", ":")).encode()
        names += b" " * (-len(names) % _ENTRY.size)
        for folder in self._folders:
            with contextlib.suppress(OSError):
                with folder.new(self._name) as file:
                    file.write(_HEAD.pack(_MAGIC, len(names)) + names + entries)
                self._descriptors.append(folder.open_file(self._name))
        self._series, self._offset = series, _HEAD.size + len(names)

    def close(self) -> None:
        """Write no more; in a forked child, the parent still does."""
        descriptors, self._descriptors, self._series = self._descriptors, [], []
        for descriptor in descriptors:
            with contextlib.suppress(OSError):
                os.close(descriptor)


class Entry(NamedTuple):
    """Where a counter of the last holder stood: see `otel_hwmetrics.windows.Standing`."""

    raw: float
    total: float
    at: float


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
