# SPDX-License-Identifier: Apache-2.0
"""The files of cgroups: taken at their word when they are whole, and refused when they are not."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_hwmetrics.sources.linux import psi
from otel_hwmetrics.sources.linux.cgroup import parse

PARSERS: dict[str, Callable[[bytes], object]] = {
    "single": parse.single,
    "limit": parse.limit,
    "value": lambda text: parse.value(text, b"anon"),
    "cpu_max": parse.cpu_max,
    "cpu_count": parse.cpu_count,
    "io_stat": parse.io_stat,
    "blkio": parse.blkio,
    "pressure": psi.parse_totals,
}
"""Every parser of a file."""

PRESSURE = b"some avg10=0.00 avg60=0.11 avg300=0.17 total=4017438\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=123\n"

WHOLE: dict[str, dict[bytes, object]] = {
    "single": {b"0\n": 0, b"34553856\n": 34553856, b"9223372036854775807\n": 2**63 - 1},
    "limit": {b"max\n": None, b"-1\n": None, b"1073741824\n": 1 << 30, b"0\n": 0},
    "value": {
        b"anon 5\nfile 7\n": 5,
        b"file 7\nanon 5\n": 5,
        b"file_anon 1\nanon_thp 2\nanon 3\ninactive_anon 4\n": 3,
    },
    "cpu_max": {b"max 100000\n": None, b"150000 100000\n": 1.5, b"1000 1000000\n": 0.001},
    "cpu_count": {b"0\n": 1, b"0-3\n": 4, b"0-3,8,10-11\n": 7, b"4,6\n": 2},
    "io_stat": {
        b"": {},
        b"8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n": {
            b"8:0": {b"rbytes": 1, b"wbytes": 2, b"rios": 3, b"wios": 4}
        },
        b"7:7 7:6 8:0 rbytes=1 wbytes=2\n": {b"8:0": {b"rbytes": 1, b"wbytes": 2}},
        b"252:0 ": {},
        b"252:0 \n8:0 rbytes=1 cost.usage=3 use_delay=1/2\n": {b"8:0": {b"rbytes": 1}},
        b"(unknown) rbytes=9\n8:0 rbytes=1\n(unknown) rbytes=8\n": {b"8:0": {b"rbytes": 1}},
    },
    "blkio": {
        b"Total 0\n": {},
        b"8:0 Read 1\n8:0 Write 2\n(unknown) Read 9\n8:0 Total 3\nTotal 3\n": {
            b"8:0": {b"Read": 1, b"Write": 2, b"Total": 3}
        },
    },
    "pressure": {
        PRESSURE: {"some": 4017438, "full": 123},
        b"some avg10=0.00 avg60=0.11 avg300=0.17 total=7\n": {"some": 7},
        b"full avg10=0.00 avg60=0.11 avg300=0.17 total=7\n": {"full": 7},
    },
}
"""What whole files say."""

BROKEN: dict[str, tuple[bytes, ...]] = {
    "single": (
        b"",
        b"\n",
        b"12",
        b"1\n2\n",
        b"-1\n",
        b"max\n",
        b"1_000\n",
        b"+1\n",
        b"9223372036854775808\n",
        b"1.5\n",
    ),
    "limit": (b"", b"\n", b"max", b"12", b"-2\n", b"maximum\n", b"9" * 5000 + b"\n"),
    "value": (b"", b"anon 12", b"anon\n", b"anon x\n", b"file 7\n", b"anon  5\n", b"inactive_anon 4\n", b"anon -1\n"),
    "cpu_max": (b"", b"max\n", b"max 100000", b"150000 0\n", b"-1 100000\n", b"max max\n", b"1 2 3\n"),
    "cpu_count": (b"", b"\n", b"0-3", b"3-0\n", b"0-\n", b"-3\n", b"0,,1\n", b"a\n", b"0-3:1/2\n"),
    "io_stat": (b"\n8:0 rbytes=12", b"rbytes=1\n", b"8:0 rbytes=\n", b"8:0 rbytes=x\n", b"text\n", b"8:0 rbytes=-1\n"),
    "blkio": (b"8:0 Read 12", b"8:0 Read\n", b"8:0 Read x\n", b"text\n", b"a:b Read 1\n"),
    "pressure": (
        b"",
        b"\n",
        PRESSURE[:-1],
        PRESSURE + b"\n",
        PRESSURE * 2,
        b"some avg10=0.00\n",
        b"some avg10=0.00 total=-1\n",
        b"more avg10=0.00 avg60=0.11 avg300=0.17 total=7\n",
    ),
}
"""What is none, or cut off."""


@pytest.mark.parametrize(("name", "text"), [(name, text) for name in WHOLE for text in WHOLE[name]])
def test_a_whole_file_says_what_it_says(name: str, text: bytes) -> None:
    """Every form that kernels write, those of their known faults among them."""
    assert PARSERS[name](text) == WHOLE[name][text]


@pytest.mark.parametrize(("name", "text"), [(name, text) for name in BROKEN for text in BROKEN[name]])
def test_a_broken_file_is_refused(name: str, text: bytes) -> None:
    """With a ValueError, which a source counts; never with a number."""
    with pytest.raises(ValueError, match=r"\w"):
        PARSERS[name](text)


@pytest.mark.parametrize("name", PARSERS)
@given(
    text=st.one_of(st.binary(max_size=200), st.text("0123456789 :=-,\nmaxsometlf_().", max_size=200).map(str.encode))
)
def test_any_bytes_are_parsed_or_refused(name: str, text: bytes) -> None:
    """Nothing but a ValueError comes out of a parser."""
    with suppress(ValueError):
        PARSERS[name](text)


@pytest.mark.parametrize(("name", "text"), [(name, text) for name in WHOLE for text in WHOLE[name]])
def test_what_is_cut_off_never_says_another_number(name: str, text: bytes) -> None:
    """Each prefix of a file is refused, or says a part of the whole: a number is never a shorter one."""
    whole = WHOLE[name][text]
    for end in range(len(text)):
        try:
            part = PARSERS[name](text[:end])
        except ValueError:
            continue
        if isinstance(whole, dict):
            assert isinstance(part, dict)
            for key, value in part.items():
                assert value == whole[key] or value.items() <= whole[key].items()
        else:
            assert part == whole


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=1, max_size=20))
def test_a_list_of_cpus_has_as_many_as_it_names(ranges: list[tuple[int, int]]) -> None:
    """However it is cut into ranges."""
    cpus = sorted({cpu for low, length in ranges for cpu in range(low, low + length + 1)})
    runs: list[list[int]] = []
    for cpu in cpus:
        if runs and cpu == runs[-1][1] + 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    text = ",".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)
    assert parse.cpu_count(f"{text}\n".encode()) == len(cpus)


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,12}", fullmatch=True), st.integers(0, 2**63 - 1), min_size=1))
def test_each_key_of_a_file_has_its_own_number(numbers: dict[str, int]) -> None:
    """Also when one key is the end or the beginning of another."""
    text = "".join(f"{key} {number}\n" for key, number in numbers.items()).encode()
    for key, number in numbers.items():
        assert parse.value(text, key.encode()) == number
        assert parse.has(text, key.encode())
    assert not parse.has(text, b"absent_key_that_is_longer")
