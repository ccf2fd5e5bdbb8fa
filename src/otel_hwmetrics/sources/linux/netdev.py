# SPDX-License-Identifier: Apache-2.0
"""/proc/net/dev: what each network interface has sent and received.

The columns are those of `dev_seq_printf_stats` in the kernel's net/core/net-procfs.c, the same since Linux 2.2. Pure:
bytes to values.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_HEADER_LINES: Final = 2
_COUNTERS: Final = re.compile(
    rb" *(\d{1,19})" + rb" +(\d{1,19})" * 3 + (rb" +\d+" * 4 + rb" +(\d{1,19})" * 4) + rb" +\d+" * 4
)


class Interface(NamedTuple):
    """Counts since the interface came: bytes, packets, errors and packets dropped, in either direction."""

    received: int
    received_packets: int
    received_errors: int
    received_dropped: int
    sent: int
    sent_packets: int
    sent_errors: int
    sent_dropped: int


def records(content: bytes) -> tuple[dict[bytes, bytes], int]:
    """The counters of each interface by its name, not taken apart: on a host of containers most do not count.

    And the number of lines that have no name.

    Raises:
        ValueError: The two lines of headings are missing, no line has a name though there are some, or the last one is
            cut off.
    """
    lines = content.splitlines()
    if len(lines) < _HEADER_LINES or b"|" not in lines[1] or not content.endswith(b"\n"):
        raise ValueError("/proc/net/dev is not a table of interfaces")
    found: dict[bytes, bytes] = {}
    odd = 0
    for line in lines[_HEADER_LINES:]:
        # From the right: the counters have no colon, and the name of an alias may.
        name, _, counters = line.rpartition(b":")
        if name:
            found[name.strip()] = counters
        else:
            odd += 1
    if odd and not found:
        raise ValueError("/proc/net/dev has no line of an interface")
    return found, odd


def parse(record: bytes) -> Interface:
    """The counters of one interface.

    Raises:
        ValueError: They are not sixteen numbers.
    """
    match = _COUNTERS.fullmatch(record)
    if match is None:
        raise ValueError("/proc/net/dev has an interface without its counters")
    return Interface._make(map(int, match.groups()))
