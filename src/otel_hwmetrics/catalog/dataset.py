# SPDX-License-Identifier: Apache-2.0
"""How the job reads its data: the size of its requests, what the page cache saves, and what a file server answers.

The kernel does not count by path. So `INFO` says on which filesystem and disks each data set of the option
``dataset_paths`` lies, by the keys of ``system.disk.*`` and of the rows of NFS here; everything on them counts there.
"""

from __future__ import annotations

from opentelemetry.semconv._incubating.attributes.disk_attributes import DiskIoDirectionValues

from otel_hwmetrics.catalog import tree
from otel_hwmetrics.catalog.system import DEVICE, FILESYSTEM_MOUNTPOINT, FILESYSTEM_TYPE, IO_DIRECTION
from otel_hwmetrics.model import Kind, Metric, Rate, Ratio, Unit

DATASET_PATH = "hwmetrics.dataset.path"
"""One of the paths of the option ``dataset_paths``, as it is written there."""

_MOUNT = (DEVICE, FILESYSTEM_MOUNTPOINT, FILESYSTEM_TYPE)
_DIRECTED = (*_MOUNT, IO_DIRECTION)

INFO = Metric(
    "hwmetrics.dataset.info",
    Kind.UP_DOWN_COUNTER,
    Unit.RATIO,
    "Always 1: the attributes tell on which filesystem and device a data set lies, once for each of several disks.",
    attributes=(DATASET_PATH, *_MOUNT),
    integer=True,
)
REQUEST_SIZE = Metric(
    "hwmetrics.dataset.request.size",
    Kind.GAUGE,
    Unit.BYTE,
    "Bytes that a read or write call of the process and its descendants moved on average over the window; calls on pipes "
    "and terminals are among them, memory-mapped files are not.",
    attributes=(IO_DIRECTION,),
    # read(2) and its like count themselves (add_rchar in the kernel's fs/read_write.c); recv(2) does not.
    derivation=Ratio(tree.DATA_IO, by=tree.DATA_OPERATIONS),
)
STORAGE_SHARE = Metric(
    "hwmetrics.dataset.storage.share",
    Kind.GAUGE,
    Unit.RATIO,
    "Bytes that came from storage for each byte that the process and its descendants read by read calls, over the window: "
    "near 0 where the page cache had them, above 1 with memory-mapped files or reading ahead.",
    attributes=(IO_DIRECTION,),
    # Of writes it would say nothing of use: a small one dirties a page, and is written long after.
    derivation=Ratio(tree.DISK_IO, by=tree.DATA_IO, only=(IO_DIRECTION, DiskIoDirectionValues.READ.value)),
)
NFS_IO = Metric(
    "hwmetrics.dataset.nfs.io",
    Kind.COUNTER,
    Unit.BYTE,
    "Bytes of files that this machine has received from the server and sent to it.",
    attributes=_DIRECTED,
    integer=True,
)
NFS_IO_RATE = Metric(
    "hwmetrics.dataset.nfs.io.rate",
    Kind.GAUGE,
    Unit.BYTE_PER_SECOND,
    "Bytes of files per second that this machine received from the server and sent to it, over the window.",
    attributes=_DIRECTED,
    derivation=Rate(NFS_IO),
)
NFS_REQUESTED = Metric(
    "hwmetrics.dataset.nfs.requested",
    Kind.COUNTER,
    Unit.BYTE,
    "Bytes that programs of this machine have read and written by calls, whether the page cache had them or the server.",
    attributes=_DIRECTED,
    integer=True,
    detail=True,
)
NFS_TRANSFER_SHARE = Metric(
    "hwmetrics.dataset.nfs.transfer.share",
    Kind.GAUGE,
    Unit.RATIO,
    "Bytes that went over the network for each byte that programs read or wrote by calls, over the window: near 0 where "
    "the page cache had them, above 1 with memory-mapped files or reading ahead.",
    attributes=_DIRECTED,
    derivation=Ratio(NFS_IO, by=NFS_REQUESTED),
)
NFS_OPERATIONS = Metric(
    "hwmetrics.dataset.nfs.operations",
    Kind.COUNTER,
    Unit.OPERATION,
    "READ and WRITE requests that the server has answered.",
    attributes=_DIRECTED,
    integer=True,
)
NFS_OPERATION_SIZE = Metric(
    "hwmetrics.dataset.nfs.operation.size",
    Kind.GAUGE,
    Unit.BYTE,
    "Bytes that a READ or WRITE request moved on average over the window.",
    attributes=_DIRECTED,
    derivation=Ratio(NFS_IO, by=NFS_OPERATIONS),
)
NFS_OPERATION_TIME = Metric(
    "hwmetrics.dataset.nfs.operation.time",
    Kind.COUNTER,
    Unit.SECOND,
    "Sum of the time that each READ or WRITE request took to complete, waiting to be sent included.",
    attributes=_DIRECTED,
)
NFS_LATENCY = Metric(
    "hwmetrics.dataset.nfs.latency",
    Kind.GAUGE,
    Unit.SECOND,
    "Time that a READ or WRITE request took on average over the window, waiting to be sent included.",
    attributes=_DIRECTED,
    derivation=Ratio(NFS_OPERATION_TIME, by=NFS_OPERATIONS),
)
NFS_ROUND_TRIP_TIME = Metric(
    "hwmetrics.dataset.nfs.round_trip.time",
    Kind.COUNTER,
    Unit.SECOND,
    "Sum of the time between the sending of each READ or WRITE request and the server's answer.",
    attributes=_DIRECTED,
    detail=True,
)
NFS_ROUND_TRIP = Metric(
    "hwmetrics.dataset.nfs.round_trip",
    Kind.GAUGE,
    Unit.SECOND,
    "Time between the sending of a READ or WRITE request and the server's answer, on average over the window.",
    attributes=_DIRECTED,
    derivation=Ratio(NFS_ROUND_TRIP_TIME, by=NFS_OPERATIONS),
    detail=True,
)
NFS_RETRANSMISSIONS = Metric(
    "hwmetrics.dataset.nfs.retransmissions",
    Kind.COUNTER,
    Unit.OPERATION,
    "How often READ and WRITE requests were sent again because the server was silent or the connection broke.",
    attributes=_DIRECTED,
    integer=True,
)
NFS_METADATA_OPERATIONS = Metric(
    "hwmetrics.dataset.nfs.metadata.operations",
    Kind.COUNTER,
    Unit.OPERATION,
    "Requests to look up, open, close and list files that the server has answered.",
    attributes=_MOUNT,
    integer=True,
)
NFS_METADATA_TIME = Metric(
    "hwmetrics.dataset.nfs.metadata.time",
    Kind.COUNTER,
    Unit.SECOND,
    "Sum of the time that each request to look up, open, close or list files took to complete.",
    attributes=_MOUNT,
)
NFS_METADATA_LATENCY = Metric(
    "hwmetrics.dataset.nfs.metadata.latency",
    Kind.GAUGE,
    Unit.SECOND,
    "Time that a request to look up, open, close or list files took on average over the window.",
    attributes=_MOUNT,
    derivation=Ratio(NFS_METADATA_TIME, by=NFS_METADATA_OPERATIONS),
)
NFS_REQUESTS = Metric(
    "hwmetrics.dataset.nfs.requests",
    Kind.COUNTER,
    Unit.OPERATION,
    "Requests of any kind sent over the mount's connections.",
    attributes=_MOUNT,
    integer=True,
    detail=True,
)
NFS_BACKLOG = Metric(
    "hwmetrics.dataset.nfs.backlog",
    Kind.COUNTER,
    Unit.OPERATION,
    "Sum, over all requests sent, of how many others were waiting at that moment for a free slot of the connection.",
    attributes=_MOUNT,
    integer=True,
    detail=True,
)
NFS_BACKLOG_LENGTH = Metric(
    "hwmetrics.dataset.nfs.backlog.length",
    Kind.GAUGE,
    Unit.RATIO,
    "How many requests were waiting for a free slot of the connection when one was sent, on average over the window.",
    attributes=_MOUNT,
    derivation=Ratio(NFS_BACKLOG, by=NFS_REQUESTS),
)

OF_PROCESS: tuple[Metric, ...] = (INFO, REQUEST_SIZE, STORAGE_SHARE)
"""How this process and its descendants read; what is told of file servers is of every program of the machine."""

METRICS: tuple[Metric, ...] = (
    INFO,
    REQUEST_SIZE,
    STORAGE_SHARE,
    NFS_IO,
    NFS_IO_RATE,
    NFS_REQUESTED,
    NFS_TRANSFER_SHARE,
    NFS_OPERATIONS,
    NFS_OPERATION_SIZE,
    NFS_OPERATION_TIME,
    NFS_LATENCY,
    NFS_ROUND_TRIP_TIME,
    NFS_ROUND_TRIP,
    NFS_RETRANSMISSIONS,
    NFS_METADATA_OPERATIONS,
    NFS_METADATA_TIME,
    NFS_METADATA_LATENCY,
    NFS_REQUESTS,
    NFS_BACKLOG,
    NFS_BACKLOG_LENGTH,
)
