# SPDX-License-Identifier: Apache-2.0
"""/proc/diskstats: each device's counters, of kernels old and new."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_hwmetrics.sources.linux import diskstats
from otel_hwmetrics.sources.linux.diskstats import Disk

SERVER = (Path(__file__).parents[2] / "data" / "proc" / "server" / "diskstats").read_bytes()

counts = st.integers(0, 10**19 - 1)
names = st.from_regex(r"[a-z][a-z0-9!/_-]{0,15}", fullmatch=True)
counters = st.sampled_from([11, 15, 17]).flatmap(lambda size: st.lists(counts, min_size=size, max_size=size))


@given(st.dictionaries(names, counters, max_size=5))
def test_what_is_written_is_read(disks: dict[str, list[int]]) -> None:
    """Of eleven counters (2.6.25), fifteen (4.18) and seventeen (5.5) the nine that are ours."""
    text = "".join(f"{8:4} {0:7} {name} {' '.join(map(str, values))}\n" for name, values in disks.items())
    records, odd = diskstats.records(text.encode())
    assert odd == 0
    assert {name.decode(): diskstats.parse(record) for name, record in records.items()} == {
        name: (*values[:8], values[9]) for name, values in disks.items()
    }


def test_a_server_s_file() -> None:
    """Every device by its name; operations under way are passed over, whatever the driver made of them."""
    records, odd = diskstats.records(SERVER)
    assert odd == 0
    assert len(records) == 42
    assert diskstats.parse(records[b"nvme1n1"]) == Disk(2000, 20, 160000, 1000, 4000, 40, 320000, 1800, 2600)
    assert diskstats.parse(records[b"sda"]) == Disk(3000, 30, 240000, 1500, 6000, 60, 480000, 2700, 3900)
    assert diskstats.parse(records[b"cciss/c0d0"]).reads == 1000


@given(st.integers(0, len(SERVER)))
def test_a_file_that_is_cut_off_is_refused_or_read_right(length: int) -> None:
    """Nowhere does a part of a number pass for the number."""
    try:
        records, odd = diskstats.records(SERVER[:length])
    except ValueError:
        return
    assert odd == 0
    assert records.items() <= diskstats.records(SERVER)[0].items()


@pytest.mark.parametrize("line", [b"", b"8", b"<html>", b"8 0 sdz"])
def test_a_line_of_no_device_costs_no_other(line: bytes) -> None:
    """It is counted; alone it makes no table."""
    records, _ = diskstats.records(SERVER)
    assert diskstats.records(line + b"\n" + SERVER + line + b"\n") == (records, 2)
    with pytest.raises(ValueError, match="/proc/diskstats"):
        diskstats.records(line + b"\n")


@given(st.binary(max_size=300), st.binary(max_size=100))
def test_garbage_is_a_value_error(content: bytes, record: bytes) -> None:
    """And no other."""
    for read, garbage in ((diskstats.records, content), (diskstats.parse, record)):
        try:
            read(garbage)
        except ValueError:
            continue


@pytest.mark.parametrize("number", ["-1", "+1", "1_0", "1.5", "x", "18446744073709551615", "9" * 5000, ""])
@pytest.mark.parametrize("place", [0, 2, 6, 9])
def test_what_is_no_count_is_refused(number: str, place: int) -> None:
    """Signs, underscores, and counters that fell below zero."""
    values = ["1"] * 11
    values[place] = number
    with pytest.raises(ValueError, match="/proc/diskstats"):
        diskstats.parse(" ".join(values).encode())


@pytest.mark.parametrize("size", [0, 1, 4, 10])
def test_too_few_counters_are_refused(size: int) -> None:
    """As partitions had them before 2.6.25."""
    with pytest.raises(ValueError, match="/proc/diskstats"):
        diskstats.parse(b" ".join([b"1"] * size))
