# SPDX-License-Identifier: Apache-2.0
"""Many looks at the same series in a few bytes each: how the values of a block are packed.

A block is a matrix of doubles, a row a look and a column a series, NaN where a series was not read. It is stored column by
column, so that values that hardly change are beside each other; then all first bytes of the doubles, all second ones, and so
on, so that signs and exponents are, too (https://www.hdfgroup.org/2016/03/hdf5-data-compression-demystified-2-performance-tuning,
"shuffle"); then deflated (zlib). Nothing is lost: a double comes out as it went in.
"""

from __future__ import annotations

import sys
import zlib
from array import array
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

WIDTH: Final = 8
"""Bytes of a double."""


def packed(rows: Sequence[bytes], level: int = 1) -> bytes:
    """The block of some looks.

    Args:
        rows: Of each look its values as doubles in this machine's order of bytes, all of one length.
        level: How hard to try, as zlib has it.
    """
    columns = len(rows[0]) // WIDTH if rows else 0
    joined = array("d", b"".join(rows))
    turned = array("d")
    for column in range(columns):
        turned.extend(joined[column::columns])
    return zlib.compress(_shuffled(_little(turned).tobytes()), level)


def unpacked(block: bytes, looks: int) -> list[array[float]]:
    """The columns of a block: one array a series, a value a look.

    Args:
        block: As `packed` made it.
        looks: How many there are in it.

    Raises:
        ValueError: It is no such block.
    """
    shuffled = _inflated(block)
    count, rest = divmod(len(shuffled), WIDTH)
    if rest or looks <= 0 or count % looks:
        raise ValueError(f"a block of {looks} looks cannot have {len(shuffled)} bytes")
    values = array("d")
    values.frombytes(_joined(shuffled, count))
    values = _little(values)
    return [values[begin : begin + looks] for begin in range(0, count, looks)]


def column_of(block: bytes, looks: int, place: int) -> array[float]:
    """One column of a block, without the others: `unpacked(block, looks)[place]`.

    Raises:
        ValueError: It is no such block.
    """
    shuffled = _inflated(block)
    count, rest = divmod(len(shuffled), WIDTH)
    if rest or looks <= 0 or count % looks or not 0 <= place < count // looks:
        raise ValueError(f"a block of {looks} looks and {len(shuffled)} bytes has no column {place}")
    values = bytearray(looks * WIDTH)
    for byte in range(WIDTH):
        begin = byte * count + place * looks
        values[byte::WIDTH] = shuffled[begin : begin + looks]
    column = array("d")
    column.frombytes(values)
    return _little(column)


def packed_times(times_ns: Sequence[int]) -> bytes:
    """The moments of a block's looks, nanoseconds since the epoch: the first one, then what lies between them."""
    steps = array("q", times_ns[:1])
    steps.extend(later - earlier for earlier, later in pairwise(times_ns))
    return zlib.compress(_shuffled(_little(steps).tobytes()), 1)


def unpacked_times(packed_steps: bytes) -> array[int]:
    """What `packed_times` was given.

    Raises:
        ValueError: It is no such thing.
    """
    shuffled = _inflated(packed_steps)
    if len(shuffled) % WIDTH:
        raise ValueError(f"times cannot have {len(shuffled)} bytes")
    steps = array("q")
    steps.frombytes(_joined(shuffled, len(shuffled) // WIDTH))
    steps = _little(steps)
    for place in range(1, len(steps)):
        steps[place] += steps[place - 1]
    return steps


def _inflated(block: bytes) -> bytes:
    try:
        return zlib.decompress(block)
    except zlib.error as error:
        raise ValueError(f"a block cannot be unpacked: {error}") from error


def _shuffled(values: bytes) -> bytes:
    return b"".join(values[place::WIDTH] for place in range(WIDTH))


def _joined(shuffled: bytes, count: int) -> bytes:
    values = bytearray(count * WIDTH)
    for place in range(WIDTH):
        values[place::WIDTH] = shuffled[place * count : (place + 1) * count]
    return bytes(values)


def _little(values: array[float] | array[int]) -> array:  # type: ignore[type-arg] # of what it is given
    """The same in the file's order of bytes, which is little-endian; there and back."""
    if sys.byteorder == "big":
        values = values[:]
        values.byteswap()
    return values
