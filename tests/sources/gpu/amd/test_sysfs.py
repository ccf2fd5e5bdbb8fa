# SPDX-License-Identifier: Apache-2.0
"""What is written in the driver's files, and in its table of the firmware, down to the last form of garbage."""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_hwmetrics.sources.base import Unsupported
from otel_hwmetrics.sources.gpu.amd import gpu_metrics, sysfs
from otel_hwmetrics.sources.gpu.amd.device import STILL, Meter, number, watts
from otel_hwmetrics.sources.gpu.amd.sysfs import Address, Card
from otel_hwmetrics.sources.gpu.device import celsius, ratio
from sources.gpu.amd.machines import FILES, Board, Tree, table

PARSERS = {
    "integer": lambda content: sysfs.integer(content, "it"),
    "generation": sysfs.generation,
    "highest_megahertz": sysfs.highest_megahertz,
    "errors": sysfs.errors,
    "bad_pages": sysfs.bad_pages,
    "joules": gpu_metrics.joules,
    "residency": gpu_metrics.residency,
}


@settings(deadline=None)
@given(content=st.binary(max_size=200) | st.text(max_size=80).map(str.encode))
@pytest.mark.parametrize("parser", PARSERS)
def test_garbage_is_an_expected_error(parser: str, content: bytes) -> None:
    """Whatever a file holds, it parses, or says that it is garbage or not supported; nothing else comes out."""
    with suppress(ValueError, Unsupported):
        PARSERS[parser](content)


@pytest.mark.parametrize(
    ("parser", "content", "expected"),
    [
        ("integer", b"87\n", 87),
        ("integer", b"-40000\n", -40000),
        ("integer", b" 0 ", 0),
        ("integer", b"68702699520\n", 68702699520),
        ("generation", b"2.5 GT/s PCIe\n", 1),
        ("generation", b"5.0 GT/s PCIe\n", 2),
        ("generation", b"8.0 GT/s PCIe\n", 3),
        ("generation", b"8 GT/s\n", 3),  # kernels before 5.7
        ("generation", b"16.0 GT/s PCIe\n", 4),
        ("generation", b"32.0 GT/s PCIe\n", 5),
        ("generation", b"64.0 GT/s PCIe\n", 6),
        ("highest_megahertz", b"0: 500Mhz\n1: 1700Mhz *\n", 1700),
        ("highest_megahertz", b"S: 19Mhz *\n0: 500Mhz\n1: 2482Mhz\n", 2482),
        ("highest_megahertz", b"0: 96Mhz *\n1: 456Mhz\n2: 673Mhz\n3: 1249Mhz\n", 1249),
        ("errors", b"ue: 1\nce: 20\n", {"ue": 1, "ce": 20}),
        ("errors", b"ue: 0\nce: 0\nde: 4\n", {"ue": 0, "ce": 0, "de": 4}),
        ("bad_pages", b"", {"R": 0, "P": 0, "F": 0}),
        ("bad_pages", b"0x00000001 : 0x00001000 : R\n0x2 : 0x1000 : F\n", {"R": 1, "P": 0, "F": 1}),
        ("joules", table(1234.5), 1234.5),
        ("joules", table(1.0, content=4), 1.0),
        ("joules", table(1.0, content=6), 1.0),
        ("joules", table(2.0**40, content=8), 2.0**40),
        ("residency", table(cycles=7, held=(1, 2, 3, 4, 2**32 - 1)), (7, (1, 2, 3, 4, None))),
        ("residency", table(cycles=7, held=(1, 2, 3, 4, 5), content=6), (7, (1, 2, 3, 4, 5))),
        ("residency", table(cycles=7, held=(1, 2, 3, 4, 5), content=8), (7, (1, 2, 3, 4, 5))),
    ],
)
def test_what_drivers_write(parser: str, content: bytes, expected: object) -> None:
    """The forms that the kernel's documentation shows."""
    assert PARSERS[parser](content) == expected


@pytest.mark.parametrize(
    ("parser", "content"),
    [
        *(
            ("integer", each)
            for each in (b"", b"\n", b"12 34", b"0x10", b"1_000", b"1.5", "٣".encode(), b"9" * 21, b"N/A")
        ),
        *(("generation", each) for each in (b"", b"16", b"17.0 GT/s", b"fast GT/s", b"16.0 MT/s", b"1600.0 GT/s")),
        *(("highest_megahertz", each) for each in (b"", b"\n", b"S: 19Mhz *\n", b"0: fastMhz", b"0: 500")),
        *(("errors", each) for each in (b"", b"Query currently inaccessible\n", b"ue: -1\n", b"ue: many\n")),
        *(("bad_pages", each) for each in (b"rubbish\n", b"0x1 : 0x1000 : X\n", b"0x1 : 0x1000\n", b"1 : 2 : R\n")),
        *(("joules", each) for each in (b"", b"\x18", table()[:40], b"\xff" * 2208, b"\0" * 2208)),
    ],
)
def test_what_is_no_answer(parser: str, content: bytes) -> None:
    """Garbage and what was cut short is refused: no part of it is taken for the whole."""
    with pytest.raises(ValueError, match=r"\b(no|bytes of)\b"):
        PARSERS[parser](content)


@pytest.mark.parametrize(
    ("parser", "content"),
    [
        ("generation", b"Unknown\n"),
        ("generation", b"Unknown speed\n"),
        ("joules", struct.pack("<HBB", 120, 1, 9) + bytes(116)),  # a revision after the last
        ("joules", struct.pack("<HBB", 4000, 1, 7) + bytes(3996)),  # one of another size
        ("joules", struct.pack("<HBB", 120, 2, 1) + bytes(116)),  # graphics inside a CPU
        ("joules", struct.pack("<HBB", 120, 1, 3) + b"\xff" * 116),  # a GPU that does not count
        ("residency", table(1.0, content=4)),
        ("residency", table(1.0, cycles=2**32 - 1)),
    ],
)
def test_what_there_will_never_be(parser: str, content: bytes) -> None:
    """A layout that is not known is not guessed at; what is all ones is not there."""
    with pytest.raises(Unsupported):
        PARSERS[parser](content)


@given(st.binary(max_size=40))
def test_whether_graphics_are_inside_a_cpu(content: bytes) -> None:
    """Told by the table's format alone, and by nothing that is too short to have one."""
    assert gpu_metrics.is_integrated(content) is (len(content) >= 4 and content[2] in (2, 3))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0000:c1:00.0", Address(0, 0xC1, 0, 0)),
        ("0001:03:1F.7\n", Address(1, 3, 0x1F, 7)),
        ("10000:01:00.0", Address(0x10000, 1, 0, 0)),
        ("c1:00.0", None),
        ("N/A", None),
        ("", None),
        ("0000:c1:00.8", None),
    ],
)
def test_addresses(text: str, expected: Address | None) -> None:
    """An address is what PCI writes so, and it is written back likewise."""
    assert Address.parse(text) == expected
    if expected is not None:
        assert str(expected) == text.strip().lower()


@pytest.mark.parametrize("content", [b"", b"0\n", b"0x0\n", b"garbage\n", b"123456789abcdef01\n"])
def test_a_card_without_a_serial_number(tmp_path: Path, content: bytes) -> None:
    """All zeros, nothing, or garbage is no name."""
    tree = Tree(tmp_path, Board(files=FILES | {"unique_id": b"0"}))
    tree.set(unique_id=content)
    assert Card(str(tree.devices[0])).unique_id == ""


def test_a_file_longer_than_a_page(tmp_path: Path) -> None:
    """Lists of bad pages come in pieces and are read to their end."""
    content = b"".join(b"0x%08x : 0x00001000 : R\n" % page for page in range(2000))
    (tmp_path / "bad").write_bytes(content)
    assert sysfs.read(str(tmp_path / "bad")) == content
    assert sysfs.read(str(tmp_path / "bad"), 2) == b"0x"


@pytest.mark.parametrize(
    ("model", "expected"), [(b"AMD INSTINCT MI210\n", "AMD INSTINCT MI210"), (b"\n", "AMD GPU 740F")]
)
def test_models(tmp_path: Path, model: bytes, expected: str) -> None:
    """The board's own name, else the id of its kind where libdrm has no list or does not list it."""
    tree = Tree(tmp_path, Board(files=FILES | {"product_name": model}))
    card = Card(str(tree.devices[0]))
    assert card.model(str(tmp_path / "none")) == expected
    (tmp_path / "ids").write_text("# a list\n\n740F\n740F, 03\n740F,\t03,\tof another revision\n")
    assert card.model(str(tmp_path / "ids")) == expected


# Numbers.


@pytest.mark.parametrize("value", ["N/A", " N/A ", "", None, 0xFFFF, 0xFFFFFFFF, 2**64 - 1, 65535.0])
def test_ways_to_say_that_there_is_none(value: object) -> None:
    """A number is a number, and all ones of any width is none."""
    assert number(value, "it") is None


@given(st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5) | st.booleans() | st.none() | st.binary())
def test_numbers_are_finite_or_refused(value: object) -> None:
    """What comes through is the value itself and finite."""
    try:
        found = number(value, "it")
    except ValueError:
        return
    assert found is None or (found == value and abs(found) != float("inf"))


@given(st.integers(-(2**70), 2**70) | st.floats(allow_nan=False))
def test_figures_are_possible_or_refused(value: float) -> None:
    """No board can be outside these, whatever the driver says."""
    for convert, least, most in ((lambda v: ratio(v, "it"), 0, 1), (celsius, -250, 250), (watts, 0, 10_000)):
        try:
            found = convert(value)
        except ValueError:
            continue
        assert least <= found <= most


# What counts.


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0.0, 2.0)), max_size=40))
def test_a_meter_that_counts_has_moved_lately(steps: list[tuple[int, float]]) -> None:
    """A counter is believed if it was seen to move within the last seconds, and never before it was."""
    meter, value, at, moved_at, first = Meter(), 0, 0.0, None, True
    for growth, seconds in steps:
        value, at = value + growth, at + seconds
        if growth and not first:
            moved_at = at
        first = False
        counts = meter.moves(value, at)
        assert counts is (moved_at is not None and at - moved_at < STILL) or moved_at is None
        assert not (counts and meter.still)
        if moved_at is None:
            assert not counts


WORD = 2**32


@given(
    st.lists(
        st.tuples(st.integers(0, 5000), st.tuples(*[st.integers(0, 5000)] * 5), st.floats(0.1, 100.0), st.booleans()),
        min_size=1,
        max_size=20,
    )
)
def test_throttling_never_falls_and_never_exceeds_the_time(
    steps: list[tuple[int, tuple[int, ...], float, bool]],
) -> None:
    """Whatever the firmware counts, wraps, resets and garbage included: no cause holds for longer than there was time."""
    throttling, cycles, held, at = gpu_metrics.Throttling(), WORD - 3000, [WORD - 2000] * 5, 0.0
    before = dict.fromkeys(gpu_metrics.CAUSES, 0.0)
    for growth, more, seconds, reset in steps:
        at += seconds
        cycles = 0 if reset else (cycles + growth) % WORD
        held = [0 if reset else (each + extra) % WORD for each, extra in zip(held, more, strict=True)]
        after = throttling.add(gpu_metrics.Residency(cycles, tuple(held)), at)
        for cause, total in after.items():
            assert before[cause] <= total <= before[cause] + seconds + 1e-9
        before = after
    assert all(total <= at for total in before.values())
