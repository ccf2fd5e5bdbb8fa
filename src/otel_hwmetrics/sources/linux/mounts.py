# SPDX-License-Identifier: Apache-2.0
"""/proc/self/mountinfo: what is mounted where.

proc_pid_mountinfo(5); the kernel's show_mountinfo in fs/proc_namespace.c. Pure: bytes to values.
"""

from __future__ import annotations

import os
import re
from typing import Final, NamedTuple

_ESCAPED: Final = re.compile(rb"\\([0-7]{3})")
_LINE: Final = re.compile(
    rb"\d+ \d+ (?P<number>\d+:\d+) (?P<root>[^ ]+) (?P<point>[^ ]+) (?P<options>[^ ]+)(?: [^ ]+)*? - "
    rb"(?P<type>[^ ]+) (?P<source>[^ ]*) (?P<super>[^ ]*)"
)


class Mount(NamedTuple):
    """One mount.

    Attributes:
        number: ``major:minor`` of its filesystem, the same for every mount of it; major 0 has no block device.
        root: The directory of the filesystem that is seen at the mount point; ``/`` unless it is a part of it.
        point: Where it is mounted.
        writable: Whether it may be written to here.
        type: Of the filesystem.
        source: The device, the server's export, or any word.
    """

    number: str
    root: str
    point: str
    writable: bool
    type: str
    source: str


def parse(content: bytes) -> list[Mount]:
    """Every mount, in the order in which they were made: of two at one place the later one is seen.

    Raises:
        ValueError: A line is not as kernels since 2.6.26 write it, or the last one is cut off.
    """
    if content and not content.endswith(b"\n"):
        raise ValueError("mountinfo ends within a line")
    return [_parse_line(line) for line in content.split(b"\n")[:-1]]


def _parse_line(line: bytes) -> Mount:
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError("mountinfo has a line that is no mount")
    options = match["options"].split(b",") + match["super"].split(b",")
    return Mount(
        match["number"].decode(),
        _text(match["root"]),
        _text(match["point"]),
        b"ro" not in options,
        _text(match["type"]),
        _text(match["source"]),
    )


def _text(field: bytes) -> str:
    """A field as text. Blanks and backslashes are written as three octal digits (mangle in fs/seq_file.c)."""
    if b"\\" in field:
        field = _ESCAPED.sub(lambda match: bytes([int(match[1], 8) & 0xFF]), field)
    return os.fsdecode(field)
