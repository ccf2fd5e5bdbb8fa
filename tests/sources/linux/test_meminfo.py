# SPDX-License-Identifier: Apache-2.0
"""/proc/meminfo: bytes, and what a kernel does not tell is not there."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_hwmetrics.sources.linux import meminfo
from otel_hwmetrics.sources.linux.meminfo import Memory

SERVER = (Path(__file__).parents[2] / "data" / "proc" / "server" / "meminfo").read_bytes()

NAMES = {
    "total": "MemTotal",
    "free": "MemFree",
    "available": "MemAvailable",
    "buffers": "Buffers",
    "cached": "Cached",
    "swap_total": "SwapTotal",
    "swap_free": "SwapFree",
    "shared": "Shmem",
    "slab_reclaimable": "SReclaimable",
    "slab_unreclaimable": "SUnreclaim",
}
"""Our names and the kernel's, in the kernel's order."""

sizes = st.integers(0, 10**15 - 1)
memory = st.fixed_dictionaries(
    {"total": sizes, "free": sizes},
    optional=dict.fromkeys([name for name in NAMES if name not in ("total", "free")], sizes),
)


@given(memory, st.lists(st.sampled_from(["SwapCached:  5 kB\n", "HugePages_Total:  0\n", "Dirty: 1 kB\n"]), max_size=3))
def test_what_is_written_is_read(values: dict[str, int], others: list[str]) -> None:
    """Each size in bytes, whatever lies between, and None for what is not there."""
    lines = [f"{NAMES[name] + ':':<16}{values[name]:8} kB\n" for name in NAMES if name in values]
    text = "".join(lines[:2]) + "".join(other + line for other, line in zip(others + [""] * 9, lines[2:], strict=False))
    found = meminfo.parse(text.encode())
    assert found._asdict() == {name: values[name] * 1024 if name in values else None for name in NAMES}


def test_a_server_s_file() -> None:
    """All ten, in bytes."""
    kib = (1056759204, 200000000, 700000000, 500000, 480000000, 8388604, 6291452, 2500000, 20000000, 4000000)
    assert meminfo.parse(SERVER) == tuple(size * 1024 for size in kib)


@given(st.integers(0, len(SERVER)))
def test_a_file_that_is_cut_off_is_refused_or_read_right(length: int) -> None:
    """Nowhere does a part of a number pass for the number."""
    try:
        found = meminfo.parse(SERVER[:length])
    except ValueError:
        return
    assert all(cut in (None, whole) for cut, whole in zip(found, meminfo.parse(SERVER), strict=True))


@given(st.binary(max_size=300) | st.binary(max_size=100).map(b"MemTotal: 5 kB\nMemFree: 1 kB\n".__add__))
def test_garbage_is_a_value_error(content: bytes) -> None:
    """And no other."""
    try:
        found = meminfo.parse(content)
    except ValueError:
        return
    assert isinstance(found, Memory)


@pytest.mark.parametrize("name", NAMES.values())
@pytest.mark.parametrize("size", ["-1 kB", "1_0 kB", "5 MB", "5", "x kB", "9999999999999999 kB", f"{'9' * 5000} kB"])
def test_what_is_no_size_is_refused(name: str, size: str) -> None:
    """Also where the line could be left out: what is there and wrong is not the same as absent."""
    lines = [f"{label}: {size if label == name else '1 kB'}\n" for label in NAMES.values()]
    with pytest.raises(ValueError, match=name if name not in ("MemTotal", "MemFree") else "MemTotal"):
        meminfo.parse("".join(lines).encode())
