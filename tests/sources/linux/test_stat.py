# SPDX-License-Identifier: Apache-2.0
"""/proc/stat: every number that is there, and none that is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_hwmetrics.sources.linux import stat
from otel_hwmetrics.sources.linux.stat import Processes, Ticks

SERVER = (Path(__file__).parents[2] / "data" / "proc" / "server" / "stat").read_bytes()

counts = st.integers(0, 10**19 - 1)
ticks = st.lists(counts, min_size=8, max_size=10)


def line(name: str, numbers: list[int]) -> str:
    """One line as the kernel writes it."""
    return f"{name} {' '.join(map(str, numbers))}\n"


@given(ticks, st.dictionaries(st.integers(0, 9999), ticks, min_size=1, max_size=5), counts, counts, st.none() | counts)
def test_what_is_written_is_read(
    total: list[int], each: dict[int, list[int]], created: int, running: int, blocked: int | None
) -> None:
    """The total, each CPU by its number, and the processes; guest times are left out, user holds them."""
    text = line("cpu ", total) + "".join(line(f"cpu{number}", numbers) for number, numbers in each.items())
    text += f"intr 5 0 1\nbtime 1\nprocesses {created}\nprocs_running {running}\n"
    text += f"procs_blocked {blocked}\n" if blocked is not None else ""
    content = text.encode()
    assert stat.total(content) == tuple(total[:8])
    assert stat.each(content) == {number: tuple(numbers[:8]) for number, numbers in each.items()}
    assert stat.processes(content) == (created, running, blocked)


def test_a_server_s_file() -> None:
    """CPUs that are offline are not there, and thousands of interrupts are passed over."""
    assert stat.total(SERVER) == Ticks(10000, 100, 5000, 360006, 700, 30, 200, 50)
    assert list(stat.each(SERVER)) == [0, 1, 2, 64]
    assert stat.each(SERVER)[64] == Ticks(4000, 40, 2000, 90003, 280, 12, 80, 20)
    assert stat.processes(SERVER) == Processes(654321, 7, 3)


@given(st.integers(0, len(SERVER)))
def test_a_file_that_is_cut_off_is_refused_or_read_right(length: int) -> None:
    """Nowhere does a part of a number pass for the number."""
    content = SERVER[:length]
    for read in (stat.total, stat.each, stat.processes):
        try:
            found = read(content)
        except ValueError:
            continue
        if isinstance(found, dict):
            assert found.items() <= stat.each(SERVER).items()
        elif isinstance(found, Processes):
            assert found in (Processes(654321, 7, 3), Processes(654321, 7, None))
        else:
            assert found in (None, stat.total(SERVER))


@given(st.binary(max_size=300) | st.binary(max_size=100).map(b"cpu  1 2 3 4 5 6 7 8\ncpu0 ".__add__))
def test_garbage_is_a_value_error(content: bytes) -> None:
    """And no other."""
    for read in (stat.total, stat.each, stat.processes):
        try:
            read(content)
        except ValueError:
            continue


@pytest.mark.parametrize("number", ["-1", "+1", "1_0", "1.5", "x", "18446744073709551615", "9" * 5000, ""])
def test_what_is_no_count_is_refused(number: str) -> None:
    """Signs, underscores, and counters that fell below zero."""
    for text in (f"cpu  1 2 3 {number} 5 6 7 8 0 0\n", f"cpu  0\ncpu0 1 2 3 {number} 5 6 7 8\n"):
        with pytest.raises(ValueError, match="/proc/stat"):
            (stat.total if text.startswith("cpu  1") else stat.each)(text.encode())
    with pytest.raises(ValueError, match="/proc/stat"):
        stat.processes(f"cpu\nprocesses 1\nprocs_running {number}\nprocs_blocked 0\n".encode())


def test_a_file_without_cpus_has_none() -> None:
    """It is refused, not taken for a machine without CPUs."""
    with pytest.raises(ValueError, match="no CPU"):
        stat.each(b"cpu  1 2 3 4 5 6 7 8\nintr 0\n")
