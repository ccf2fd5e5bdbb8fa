# SPDX-License-Identifier: Apache-2.0
"""Lists of CPUs and their clock speeds."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_hwmetrics.sources.linux import cpus

PROC = Path(__file__).parents[2] / "data" / "proc"


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"0\n", [0]), (b"0-3\n", [0, 1, 2, 3]), (b"0-1,8,10-11\n", [0, 1, 8, 10, 11]), (b"7", [7])],
)
def test_a_list_of_cpus(content: bytes, expected: list[int]) -> None:
    """Ranges and single ones."""
    assert cpus.numbers(content) == expected


@pytest.mark.parametrize("content", [b"", b"\n", b"3-1", b"0-", b"-1", b"0,,2", b"0 1", b"x", b"1" * 7])
def test_what_is_no_list_of_cpus_is_refused(content: bytes) -> None:
    """Also an empty one: some CPU runs this."""
    with pytest.raises(ValueError, match="list of CPUs"):
        cpus.numbers(content)


@given(st.integers(1, 10**10 - 1))
def test_a_frequency_is_in_hertz(khz: int) -> None:
    """The file has kHz."""
    assert cpus.frequency(b"%d\n" % khz) == khz * 1000


@pytest.mark.parametrize("content", [b"", b"0\n", b"<unknown>\n", b"-5\n", b"1_0", b"1.5", b"9" * 11])
def test_what_is_no_frequency_is_refused(content: bytes) -> None:
    """A CPU that does not tell has none; it does not stand still."""
    with pytest.raises(ValueError, match="no frequency"):
        cpus.frequency(content)


def test_the_speeds_in_cpuinfo() -> None:
    """In hertz, by the CPU's number; Arm has none."""
    server = (PROC / "server" / "cpuinfo").read_bytes()
    assert cpus.frequencies(server) == {0: 2000.5e6, 1: 2100.5e6, 2: 2200.5e6, 64: 2300.5e6}
    assert set(cpus.frequencies((PROC / "virtual-machine" / "cpuinfo").read_bytes())) == {0, 1}
    assert cpus.frequencies(b"processor\t: 0\nBogoMIPS\t: 50.00\nprocessor\t: 1\n") == {}


def test_speeds_that_nobody_owns_are_refused() -> None:
    """Which CPU's they are cannot be known."""
    with pytest.raises(ValueError, match="without a speed"):
        cpus.frequencies(b"processor\t: 0\nprocessor\t: 1\ncpu MHz\t\t: 1000.000\n")


@given(st.binary(max_size=200))
def test_garbage_is_a_value_error(content: bytes) -> None:
    """And no other."""
    for read in (cpus.numbers, cpus.frequency, cpus.frequencies):
        try:
            read(content)
        except ValueError:
            continue
