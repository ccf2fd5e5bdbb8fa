# SPDX-License-Identifier: Apache-2.0
"""/proc/self/mountstats: what each NFS mount has asked of its server.

nfs_show_stats in fs/nfs/super.c, rpc_clnt_show_stats in net/sunrpc/stats.c and the transports' print_stats in
net/sunrpc/xprtsock.c; the columns' meaning in include/linux/nfs_iostat.h and include/linux/sunrpc/metrics.h. The file
has a block for each mount of the machine, a hundred lines for one of NFS: only those asked for are taken apart. Pure:
bytes to values.
"""

from __future__ import annotations

import os
import re
from typing import Final, NamedTuple

_NUMBER: Final = rb"(\d{1,19})"
_BYTES: Final = re.compile(rb"\n\tbytes:\t" + rb" ".join([_NUMBER] * 8) + rb" *\n")
_OPERATION: Final = re.compile(
    rb"\n\t *([A-Z0-9_]{1,32}): " + _NUMBER + b" " + _NUMBER + rb" \d+ \d+ \d+ \d+ " + _NUMBER + b" " + _NUMBER
    # An error count follows since Linux 5.4.
    + rb"(?= \d+\n|\n)"
)  # fmt: skip
_TRANSPORT: Final = re.compile(rb"\n\txprt:\t(\w+) ([\d -]+)(?=\n)")
_SENDS: Final = {b"tcp": 5, b"rdma": 5, b"udp": 2, b"local": 4}
"""Which number of a transport's line is the requests sent; the backlog is four further on in each."""
_BACKLOG: Final = 4


class Traffic(NamedTuple):
    """Bytes since the mount was made.

    Attributes:
        read: That programs read, whether the page cache had them or not; not of mapped files, as the next.
        written: That programs wrote.
        received: That the server sent for reads.
        sent: That were sent to the server for writes.
    """

    read: int
    written: int
    received: int
    sent: int


class Operation(NamedTuple):
    """One kind of request since the mount was made.

    Attributes:
        done: Requests that have ended.
        transmissions: How often they were sent; more where the server was silent.
        round_trip_ms: From sending to the answer, in milliseconds.
        total_ms: From the request's making to its end, waiting for a slot included.
    """

    done: int
    transmissions: int
    round_trip_ms: int
    total_ms: int


class Transport(NamedTuple):
    """Connections to the server, those of ``nconnect`` together.

    Attributes:
        sends: Requests sent.
        backlog: How many requests waited for a slot when one was sent, summed over all.
    """

    sends: int
    backlog: int


def block(content: bytes, mount_point: str) -> bytes | None:
    """The part of the file that tells of the NFS mount at that place, as far as it is seen: of two the later one.

    Raises:
        ValueError: The file is cut off within it.
    """
    mangled = re.sub(rb"[ \t\n\\]", lambda match: b"\\%03o" % ord(match[0]), os.fsencode(mount_point))
    start = content.rfind(b" mounted on " + mangled + b" with fstype nfs")
    if start < 0:
        return None
    end = content.find(b"\ndevice ", start)
    if end < 0 and not content.endswith(b"\n"):
        raise ValueError("mountstats ends within a line")
    return content[start : end + 1] if end >= 0 else content[start:]


def traffic(part: bytes) -> Traffic:
    """The bytes of one mount.

    Raises:
        ValueError: They are not told as kernels since 2.6.17 do.
    """
    match = _BYTES.search(part)
    if match is None:
        raise ValueError("mountstats has a mount of NFS without its bytes")
    read, written, direct_read, direct_written, received, sent = map(int, match.groups()[:6])
    return Traffic(read + direct_read, written + direct_written, received, sent)


def operations(part: bytes) -> dict[bytes, Operation]:
    """The requests of one mount by their names in the protocol, such as ``READ`` and ``GETATTR``.

    Raises:
        ValueError: None is told as kernels since 2.6.17 do.
    """
    found = {name: Operation(*map(int, numbers)) for name, *numbers in _OPERATION.findall(part)}
    if not found:
        raise ValueError("mountstats has a mount of NFS without its operations")
    return found


def transport(part: bytes) -> Transport:
    """The connections of one mount.

    Raises:
        ValueError: There is none, or one of a kind that is not known; or the file is cut off before the last of them.
    """
    sends = backlog = 0
    lines = _TRANSPORT.findall(part)
    # The operations come after the connections, so that these are all of them (rpc_clnt_show_stats).
    if not lines or b"\n\tper-op statistics\n" not in part:
        raise ValueError("mountstats has a mount of NFS without its connections")
    for kind, line in lines:
        numbers = line.split()
        place = _SENDS.get(kind, len(numbers))
        if place + _BACKLOG >= len(numbers):
            raise ValueError("mountstats has a connection of an unknown kind")
        sends += int(numbers[place])
        backlog += int(numbers[place + _BACKLOG])
    return Transport(sends, backlog)
