# SPDX-License-Identifier: Apache-2.0
"""Promises of how values are packed."""

from __future__ import annotations

import math
import random
import struct
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_hwmetrics.recording.codec import column_of, packed, packed_times, unpacked, unpacked_times

MATRICES = st.integers(1, 8).flatmap(
    lambda width: st.lists(st.lists(st.floats(), min_size=width, max_size=width), min_size=1, max_size=20)
)


def _bits(values: array[float]) -> bytes:
    return struct.pack(f"<{len(values)}d", *values)


@pytest.mark.no_cover
@given(MATRICES)
def test_every_bit_comes_out_as_it_went_in(rows: list[list[float]]) -> None:
    """NaN, infinities and minus zero included; as a whole, and column by column."""
    block = packed([array("d", row).tobytes() for row in rows])
    columns = unpacked(block, len(rows))
    assert [_bits(column) for column in columns] == [_bits(array("d", column)) for column in zip(*rows, strict=True)]
    assert [_bits(column_of(block, len(rows), place)) for place in range(len(columns))] == list(map(_bits, columns))


@pytest.mark.no_cover
@given(st.lists(st.integers(0, 2**62), min_size=1, max_size=60))
def test_times_come_out_as_they_went_in(times: list[int]) -> None:
    """Also where the clock was set back."""
    assert list(unpacked_times(packed_times(times))) == times


def test_what_stands_still_takes_next_to_nothing() -> None:
    """A minute of 400 series, of which one in five is noise, takes less than three bytes a value."""
    draw = random.Random(1)  # noqa: S311 - it keeps no secret
    constant = [draw.random() for _ in range(320)]
    rows = [array("d", [*constant, *(draw.random() for _ in range(80))]).tobytes() for _ in range(60)]
    assert len(packed(rows, 6)) / (60 * 400) < 3


@pytest.mark.parametrize("block", [b"", b"garbage", packed([b"\0" * 8])[:-2]])
def test_a_damaged_block_is_refused(block: bytes) -> None:
    """In a word of our own, and not with whatever came of it."""
    for read in (lambda: unpacked(block, 1), lambda: column_of(block, 1, 0), lambda: unpacked_times(block)):
        with pytest.raises(ValueError, match="unpacked"):
            read()


@pytest.mark.parametrize("looks", [0, -1, 2, 3])
def test_a_block_of_another_size_is_refused(looks: int) -> None:
    """Rather than read as something that it is not."""
    block = packed([b"\0" * 8] * 5)
    with pytest.raises(ValueError, match="look"):
        unpacked(block, looks)
    with pytest.raises(ValueError, match="look"):
        column_of(block, looks, 0)
    with pytest.raises(ValueError, match="column 7"):
        column_of(block, 5, 7)


def test_absent_is_nan_and_stays_that() -> None:
    """It is no number that could be taken for one."""
    (column,) = unpacked(packed([array("d", [math.nan]).tobytes()]), 1)
    assert math.isnan(column[0])
