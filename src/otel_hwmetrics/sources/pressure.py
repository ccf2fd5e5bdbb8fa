# SPDX-License-Identifier: Apache-2.0
"""Pressure of the machine and of this process's own cgroup, from the kernel's counters of stalls."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import ClassVar

from otel_hwmetrics.catalog import pressure as rows
from otel_hwmetrics.model import Series
from otel_hwmetrics.sources.base import Batch, Bench, Clock, Reader, Source, SourceUnavailable, Unsupported
from otel_hwmetrics.sources.linux import cgroup, psi

Pairs = Iterator[tuple[Series, float]]

RESOURCES = ("cpu", "memory", "io", "irq")

_MICRO = 10**6


class Scope:
    """The pressure files of the machine or of one cgroup.

    Args:
        name: ``host`` or ``cgroup``.
        directory: Where they are.
        suffix: What their names have behind the resource.
    """

    def __init__(self, name: str, directory: str, suffix: str = "") -> None:
        self.group = cgroup.Group(directory)
        self._suffix = suffix
        self._series = {
            (resource, kind): Series(
                rows.STALL_TIME,
                {rows.RESOURCE: resource, rows.KIND: kind, rows.SCOPE: name, rows.METHOD: "psi"},
            )
            for resource in RESOURCES
            for kind in psi.KINDS
            # The machine as a whole never waits for its own CPUs; the kernel writes zeros there for old programs' sake.
            if (name, resource, kind) != ("host", "cpu", "full")
        }
        self.bench = Bench(self, READERS[name], expected=(OSError, ValueError))

    def stalls(self, resource: str) -> Pairs:
        """The seconds of stalls for one resource.

        Raises:
            Unsupported: The kernel does not count them.
            OSError: They cannot be read.
            ValueError: It is no pressure file.
        """
        try:
            text = self.group.text(resource + self._suffix)
        except OSError as error:
            if psi.is_off(error):
                raise Unsupported from error
            raise
        for kind, microseconds in psi.parse_totals(text).items():
            series = self._series.get((resource, kind))
            if series is not None:
                yield series, microseconds / _MICRO


_WHERE = "Linux 4.20 and newer with CONFIG_PSI, booted with psi=1 where that is not the default"
_WHERE_IRQ = "Linux 6.1 and newer with CONFIG_PSI and CONFIG_IRQ_TIME_ACCOUNTING"


def _reader(resource: str, call: str, where: str) -> Reader[Scope]:
    return Reader((rows.STALL_TIME,), lambda scope: scope.stalls(resource), call=call, where=where)


def _where(resource: str) -> str:
    return _WHERE_IRQ if resource == "irq" else _WHERE


READERS: dict[str, tuple[Reader[Scope], ...]] = {
    "host": tuple(_reader(resource, f"/proc/pressure/{resource}", _where(resource)) for resource in RESOURCES),
    "cgroup": tuple(
        _reader(resource, f"{resource}.pressure", f"{_where(resource)}; cgroups of version 2") for resource in RESOURCES
    ),
}
"""What is read of each scope."""


class PressureSource(Source):
    """Stalls for want of CPU, memory and I/O: of the whole machine, and of the cgroup that this process is in.

    The machine's root cgroup is the machine, and so told once, as the host.

    Args:
        root: Put before every absolute path; a captured tree's directory.
        clock: Monotonic seconds.
        limits: Tells in which cgroup this process is, every few seconds; those of this process by default.
    """

    name: ClassVar[str] = "pressure"

    def __init__(self, root: str = "", *, clock: Clock = time.monotonic, limits: cgroup.Limits | None = None) -> None:
        self._clock = clock
        self._limits = limits or (cgroup.Limits(root, clock=clock) if root else cgroup.shared())
        self._host = Scope("host", f"{root}/proc/pressure")
        self._own: Scope | None = None
        self._continued = cgroup.Continued()

    def open(self) -> None:
        """See whether the kernel counts pressure.

        Raises:
            SourceUnavailable: Neither for the machine nor for this process's cgroup.
        """
        batch = self.read()
        if not batch.readings and not batch.lost:
            raise SourceUnavailable(
                self.name, "the kernel does not count pressure", "Linux does from 4.20 on when booted with psi=1"
            )

    def read(self) -> Batch:
        """Read every counter of stalls once."""
        batch = Batch()
        self._follow(batch)
        for scope in (self._host, self._own):
            if scope is not None:
                scope.group.begin()
                scope.bench.read_into(batch, self._clock)
        self._continued.apply(batch.readings)
        return batch

    def close(self) -> None:
        """Close the files."""
        for scope in (self._host, self._own):
            if scope is not None:
                scope.group.close()

    def _follow(self, batch: Batch) -> None:
        """Find the cgroup that this process is in now."""
        gone = self._own is not None and self._own.group.gone
        if gone:
            self._limits.look_again()
        try:
            found = self._limits.now().membership.unified
        except FileNotFoundError:  # no /proc, or a kernel without cgroups
            found = None
        except OSError as error:
            batch.lose(type(error).__name__)
            return
        directory = found.directory if found is not None and not found.is_root else None
        known = self._own.group.directory if self._own is not None else None
        if directory == known and not gone:
            return
        if self._own is not None:
            self._own.group.close()
            self._continued.moved(lambda series: series.attributes[rows.SCOPE] == "cgroup")
        self._own = Scope("cgroup", directory, ".pressure") if directory is not None else None
