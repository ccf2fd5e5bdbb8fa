# SPDX-License-Identifier: Apache-2.0
"""What the readers of a container read: the groups of its controllers, its limits, its devices."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from otel_hwmetrics.model import Metric, Series
from otel_hwmetrics.sources.linux.cgroup import Cgroup, Group, Held

Pairs = Iterator[tuple[Series, float]]

_NOT_DISKS = ("loop", "ram", "zram")


class Container:
    """The cgroups of one process, one for each controller, and where it is held by those above them.

    Args:
        root: Put before every absolute path; a captured tree's directory.
        held: Its cgroups and limits when it was found; kept up to date by the source.
    """

    def __init__(self, root: str, held: Held) -> None:
        self.held = held
        self._root = root
        self._groups: dict[str, Group] = {}
        self._disks: dict[bytes, str | None] = {}
        self._series: dict[tuple[Metric, tuple[str, ...]], Series] = {}

    def cgroup(self, controller: str) -> Cgroup:
        """The cgroup that tells of a controller.

        Raises:
            FileNotFoundError: There is none.
        """
        found = self.held.membership.of(controller)
        if found is None:
            raise FileNotFoundError(f"no cgroup tells of {controller}")
        return found

    def text(self, cgroup: Cgroup, name: str) -> bytes:
        """What a file of a cgroup holds at this sample; two controllers of version 1 may share a directory.

        Raises:
            OSError: It cannot be read.
        """
        group = self._groups.get(cgroup.directory)
        if group is None:
            group = self._groups[cgroup.directory] = Group(cgroup.directory)
        return group.text(name)

    def series(self, metric: Metric, *values: str) -> Series:
        """The series of ``metric`` with these values of its attributes, in the row's order; the same object each time."""
        series = self._series.get((metric, values))
        if series is None:
            series = Series(metric, dict(zip(metric.attributes, values, strict=True)))
            self._series[metric, values] = series
        return series

    def disks(self, numbers: Iterable[bytes]) -> Iterator[tuple[bytes, str]]:
        """The numbers among these that are disks of their own, with their names; no loop and no memory."""
        for number in numbers:
            if number not in self._disks:
                self._disks[number] = self._disk(number.decode("ascii"))
            name = self._disks[number]
            if name is not None:
                yield number, name

    def _disk(self, number: str) -> str | None:
        try:
            name = os.path.basename(os.readlink(f"{self._root}/sys/dev/block/{number}")).replace("!", "/")
        except OSError:  # a device that is gone, or no sysfs: the number is name enough
            name = number
        return None if name.startswith(_NOT_DISKS) else name

    def begin(self) -> None:
        """Begin another sample."""
        for group in self._groups.values():
            group.begin()

    @property
    def gone(self) -> bool:
        """Whether one of its cgroups was removed."""
        return any(group.gone for group in self._groups.values())

    def close(self) -> None:
        """Close every file."""
        for group in self._groups.values():
            group.close()
