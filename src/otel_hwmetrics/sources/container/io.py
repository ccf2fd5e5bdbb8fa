# SPDX-License-Identifier: Apache-2.0
"""What a container reads from disks and writes to them.

Version 1 counts a write only when the task itself sends it to the disk, not when the kernel does so later from its
cache (https://docs.kernel.org/admin-guide/cgroup-v1/blkio-controller.html).
"""

from __future__ import annotations

from collections.abc import Callable

from opentelemetry.semconv._incubating.attributes.disk_attributes import DiskIoDirectionValues

from otel_hwmetrics.catalog import container as rows
from otel_hwmetrics.model import Metric
from otel_hwmetrics.sources.base import Reader
from otel_hwmetrics.sources.container.subject import Container, Pairs
from otel_hwmetrics.sources.linux.cgroup import parse

_READ, _WRITE = DiskIoDirectionValues.READ.value, DiskIoDirectionValues.WRITE.value


def _read_disks(container: Container) -> Pairs:
    devices = parse.io_stat(container.text(container.cgroup("io"), "io.stat"))
    for number, name in container.disks(devices):
        for metric, direction, key in (
            (rows.DISK_IO, _READ, b"rbytes"),
            (rows.DISK_IO, _WRITE, b"wbytes"),
            (rows.DISK_OPERATIONS, _READ, b"rios"),
            (rows.DISK_OPERATIONS, _WRITE, b"wios"),
        ):
            if key in devices[number]:
                yield container.series(metric, name, direction), devices[number][key]


def _v1(metric: Metric, name: str) -> Callable[[Container], Pairs]:
    def read(container: Container) -> Pairs:
        devices = parse.blkio(container.text(container.cgroup("blkio"), name))
        for number, disk in container.disks(devices):
            for direction, key in ((_READ, b"Read"), (_WRITE, b"Write")):
                if key in devices[number]:
                    yield container.series(metric, disk, direction), devices[number][key]

    return read


def _v1_reader(metric: Metric, name: str) -> Reader[Container]:
    recursive = f"{name}_recursive"
    older: Reader[Container] = Reader((metric,), _v1(metric, name), call=name, where="version 1")
    return Reader((metric,), _v1(metric, recursive), older, call=recursive, where="version 1, Linux 4.12 and newer")


READERS: dict[int, tuple[Reader[Container], ...]] = {
    1: (
        _v1_reader(rows.DISK_IO, "blkio.throttle.io_service_bytes"),
        _v1_reader(rows.DISK_OPERATIONS, "blkio.throttle.io_serviced"),
    ),
    2: (Reader((rows.DISK_IO, rows.DISK_OPERATIONS), _read_disks, call="io.stat", where="version 2"),),
}
"""By the version of the cgroup that tells of disks."""
