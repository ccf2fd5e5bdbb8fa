# SPDX-License-Identifier: Apache-2.0
"""/proc/net/dev: received and sent, the right way round, whatever the interface is called."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_hwmetrics.sources.linux import netdev
from otel_hwmetrics.sources.linux.netdev import Interface

SERVER = (Path(__file__).parents[2] / "data" / "proc" / "server" / "net" / "dev").read_bytes()
HEADER = b"".join(SERVER.splitlines(keepends=True)[:2])

counts = st.integers(0, 10**19 - 1)
names = st.from_regex(r"[a-z][a-z0-9.@:_-]{0,14}", fullmatch=True)


@given(st.dictionaries(names, st.lists(counts, min_size=16, max_size=16), max_size=5))
def test_what_is_written_is_read(interfaces: dict[str, list[int]]) -> None:
    """Bytes, packets, errors and drops in either direction; the widths of the columns do not matter."""
    text = "".join(f"{name:>6}:{values[0]:8} {' '.join(map(str, values[1:]))}\n" for name, values in interfaces.items())
    records, odd = netdev.records(HEADER + text.encode())
    assert odd == 0
    assert {name.decode(): netdev.parse(record) for name, record in records.items()} == {
        name: (*values[:4], *values[8:12]) for name, values in interfaces.items()
    }


def test_a_server_s_file() -> None:
    """Each interface by its name."""
    records, odd = netdev.records(SERVER)
    assert odd == 0
    assert list(records)[:5] == [b"lo", b"enp1s0f0", b"enp1s0f1", b"bond0", b"bond0.42"]
    assert netdev.parse(records[b"enp1s0f0"]) == Interface(1000000, 10000, 1, 2, 500000, 5000, 3, 4)


@given(st.integers(0, len(SERVER)))
def test_a_file_that_is_cut_off_is_refused_or_read_right(length: int) -> None:
    """Nowhere does a part of a number pass for the number."""
    try:
        records, odd = netdev.records(SERVER[:length])
    except ValueError:
        return
    assert odd == 0
    assert records.items() <= netdev.records(SERVER)[0].items()


@pytest.mark.parametrize("line", [b"", b"eth0 1 2 3", b"<html>", b": 1 2 3"])
def test_a_line_of_no_interface_costs_no_other(line: bytes) -> None:
    """It is counted; alone it makes no table."""
    records, _ = netdev.records(SERVER)
    assert netdev.records(SERVER + line + b"\n" + line + b"\n") == (records, 2)
    with pytest.raises(ValueError, match="/proc/net/dev"):
        netdev.records(HEADER + line + b"\n")


@given(st.binary(max_size=300) | st.binary(max_size=100).map(HEADER.__add__), st.binary(max_size=100))
def test_garbage_is_a_value_error(content: bytes, record: bytes) -> None:
    """And no other."""
    for read, garbage in ((netdev.records, content), (netdev.parse, record)):
        try:
            read(garbage)
        except ValueError:
            continue


@pytest.mark.parametrize("number", ["-1", "+1", "1_0", "1.5", "x", "18446744073709551615", "9" * 5000, ""])
@pytest.mark.parametrize("place", [0, 3, 8, 11])
def test_what_is_no_count_is_refused(number: str, place: int) -> None:
    """Signs, underscores, and counters that fell below zero."""
    values = ["1"] * 16
    values[place] = number
    with pytest.raises(ValueError, match="/proc/net/dev"):
        netdev.parse(" ".join(values).encode())


@pytest.mark.parametrize("content", [b"", b"Inter-|\n", b"a\nb\n", HEADER + b"eth0 1 2 3\n", HEADER + b"eth0: 1 2"])
def test_what_is_no_table_is_refused(content: bytes) -> None:
    """No headings, no colon, no end."""
    with pytest.raises(ValueError, match="/proc/net/dev"):
        netdev.records(content)
