# SPDX-License-Identifier: Apache-2.0
"""/proc/vmstat: the four counts of ours among two hundred."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_hwmetrics.sources.linux import vmstat
from otel_hwmetrics.sources.linux.vmstat import VirtualMemory

SERVER = (Path(__file__).parents[2] / "data" / "proc" / "server" / "vmstat").read_bytes()
WHOLE = VirtualMemory(1200, 524288, 98765432, 4321)

counts = st.integers(0, 10**19 - 1)


@given(st.none() | st.tuples(counts, counts), st.tuples(counts, counts))
def test_what_is_written_is_read(swapped: tuple[int, int] | None, faults: tuple[int, int]) -> None:
    """Both pairs; a kernel without swap has no first."""
    text = "nr_free_pages 1\npgpgin 2\n"
    text += "pswpin {}\npswpout {}\n".format(*swapped) if swapped else ""
    text += "pgalloc_dma 0\npgfault {}\npgmajfault {}\nthp_fault_alloc 3\n".format(*faults)
    assert vmstat.parse(text.encode()) == (*(swapped or (None, None)), *faults)


def test_a_server_s_file() -> None:
    """None of the names that begin alike is taken for one of ours."""
    assert vmstat.parse(SERVER) == WHOLE


@given(st.integers(0, len(SERVER)))
def test_a_file_that_is_cut_off_is_refused_or_read_right(length: int) -> None:
    """Nowhere does a part of a number pass for the number."""
    try:
        found = vmstat.parse(SERVER[:length])
    except ValueError:
        return
    assert all(cut in (None, whole) for cut, whole in zip(found, WHOLE, strict=True))


@given(st.binary(max_size=200) | st.binary(max_size=50).map(b"a 1\npswpin 1\npswpout ".__add__))
def test_garbage_is_a_value_error(content: bytes) -> None:
    """And no other."""
    try:
        found = vmstat.parse(content)
    except ValueError:
        return
    assert isinstance(found, VirtualMemory)


@pytest.mark.parametrize("number", ["-1", "1_0", "1.5", "x", "18446744073709551615", ""])
@pytest.mark.parametrize("name", ["pswpin", "pswpout", "pgfault", "pgmajfault"])
def test_what_is_no_count_is_refused(name: str, number: str) -> None:
    """Signs, underscores, and counters that fell below zero."""
    lines = [f"{each} {number if each == name else 1}\n" for each in ("pswpin", "pswpout", "pgfault", "pgmajfault")]
    with pytest.raises(ValueError, match="/proc/vmstat"):
        vmstat.parse(("nr_free_pages 1\n" + "".join(lines)).encode())
