# SPDX-License-Identifier: Apache-2.0
"""What the files of a cgroup say. Strict: what is cut off, or is not what the kernel writes, is a `ValueError`.

The kernel ends every line, so a number without a line's end behind it was cut off and may be any other number.
"""

from __future__ import annotations

from typing import Final

LARGEST: Final = 2**63 - 1
"""The kernel's counters have 64 bits, and OpenTelemetry's integers a sign; a larger number is garbage."""


def number(text: bytes) -> int:
    """A whole number as the kernel writes it: digits alone.

    Raises:
        ValueError: It is none, or too large.
    """
    # int() would take underscores, signs and spaces, too.
    if not text.isdigit() or len(text) > len(str(LARGEST)) or (value := int(text)) > LARGEST:
        raise ValueError(f"no number of the kernel's: {text[:40]!r}")
    return value


def line(text: bytes) -> bytes:
    """The only line of a file, without its end.

    Raises:
        ValueError: It is empty, cut off, or one of several.
    """
    if text.count(b"\n") != 1 or not text.endswith(b"\n"):
        raise ValueError(f"not one line: {text[:40]!r}")
    return text[:-1].strip()


def single(text: bytes) -> int:
    """The only number of a file.

    Raises:
        ValueError: It is not that.
    """
    return number(line(text))


def limit(text: bytes) -> int | None:
    """The only number of a file; None when it says that there is no limit: ``max``, in version 1 of a quota ``-1``.

    Raises:
        ValueError: It says neither.
    """
    content = line(text)
    return None if content in (b"max", b"-1") else number(content)


def value(text: bytes, key: bytes) -> int:
    """The number behind ``key`` in a file of lines of a key and a number: ``memory.stat``, ``cpu.stat``.

    Looks for the one line; to take all fifty of ``memory.stat`` apart would cost ten times as much.

    Raises:
        ValueError: It is not there, or cut off, or no number.
    """
    _, found, after = (b"\n" + text).partition(b"\n" + key + b" ")
    content, ended, _ = after.partition(b"\n")
    if not (found and ended):
        raise ValueError(f"has no whole line of {key!r}: {text[:40]!r}")
    return number(content)


def has(text: bytes, key: bytes) -> bool:
    """Whether a file of keys and numbers has a line of this key.

    Raises:
        ValueError: It is empty or cut off, so that nobody can say.
    """
    if not text.endswith(b"\n"):
        raise ValueError(f"cut off: {text[-40:]!r}")
    return b"\n" + key + b" " in b"\n" + text


def cpu_max(text: bytes) -> float | None:
    """The CPUs that ``cpu.max`` allows, quota by period; None when it allows any.

    Raises:
        ValueError: It is not what the kernel writes.
    """
    quota, _, period = line(text).partition(b" ")
    microseconds = number(period)
    if microseconds == 0:
        raise ValueError("a period of 0")
    return None if quota == b"max" else number(quota) / microseconds


def cpu_count(text: bytes) -> int:
    """How many CPUs a list such as ``0-3,8,10-11`` holds.

    Raises:
        ValueError: It is no such list, or an empty one: a process with no CPU at all reads nothing.
    """
    count = 0
    for part in line(text).split(b","):
        first, dash, last = part.partition(b"-")
        low = number(first)
        high = number(last) if dash else low
        if high < low:
            raise ValueError(f"a range that runs backwards: {part[:40]!r}")
        count += high - low + 1
    return count


def io_stat(text: bytes) -> dict[bytes, dict[bytes, int]]:
    """The counters of ``io.stat`` by device number; those of a device that the kernel cannot name are left out.

    A line may hold several devices' numbers of which only the last has counters
    (https://github.com/canonical/lxd/issues/10052), ``(unknown)`` in the place of a number
    (https://github.com/canonical/lxd/issues/18609), and, while a cgroup is being made, nothing else and no end.

    Raises:
        ValueError: It is cut off, or a counter is no number.
    """
    devices: dict[bytes, dict[bytes, int]] = {}
    counters: dict[bytes, int] | None = None
    word = b""
    for word in text.split():
        key, equals, content = word.partition(b"=")
        if _is_device(word):
            counters = devices[word] = {}
        elif equals and counters is not None:
            # Beside the six counters stand those of cost and latency control, and not all of these are numbers.
            if key in _IO_COUNTERS:
                counters[key] = number(content)
        else:
            raise ValueError(f"neither a device nor a counter of one: {word[:40]!r}")
    if text and not text.endswith(b"\n") and not _is_device(word):
        raise ValueError(f"cut off: {text[-40:]!r}")
    devices.pop(_UNKNOWN, None)
    return {device: counters for device, counters in devices.items() if counters}


def blkio(text: bytes) -> dict[bytes, dict[bytes, int]]:
    """The counters of a ``blkio.throttle.*`` file of version 1, by device number and operation (``Read``, ``Write``).

    Those of a device that the kernel cannot name are left out (https://github.com/containerd/cgroups/issues/393).

    Raises:
        ValueError: It is cut off, or a counter is no number.
    """
    if text and not text.endswith(b"\n"):
        raise ValueError(f"cut off: {text[-40:]!r}")
    devices: dict[bytes, dict[bytes, int]] = {}
    for row in text.splitlines():
        words = row.split()
        if len(words) == 3 and _is_device(words[0]):  # noqa: PLR2004 - device, operation, number
            devices.setdefault(words[0], {})[words[1]] = number(words[2])
        elif len(words) != 2 or words[0] != b"Total":  # noqa: PLR2004 - the sum of all devices
            raise ValueError(f"neither a device's counter nor the total: {row[:40]!r}")
    devices.pop(_UNKNOWN, None)
    return devices


_IO_COUNTERS: Final = (b"rbytes", b"wbytes", b"rios", b"wios")
_UNKNOWN: Final = b"(unknown)"


def _is_device(word: bytes) -> bool:
    major, colon, minor = word.partition(b":")
    return word == _UNKNOWN or (bool(colon) and major.isdigit() and minor.isdigit())
