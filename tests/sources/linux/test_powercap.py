# SPDX-License-Identifier: Apache-2.0
"""RAPL's counters: each package and its memory once, and nothing that contains or is contained in them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import systrees
from otel_hwmetrics.sources.linux import powercap

PACKAGES: dict[str, list[tuple[str, bool, int]]] = {
    "intel_two_sockets": [
        ("package-0", False, 123_456_789_012),
        ("package-0", True, 20_000_000_000),
        ("package-1", False, 262_143_000_000),
        ("package-1", True, 30_000_000_000),
    ],
    "intel_two_dies": [
        (f"package-{package}-die-{die}", False, 1000 * (2 * package + die + 1)) for package in (0, 1) for die in (0, 1)
    ],
    "amd_epyc": [("package-0", False, 44_000_000_000)],
    "amd_threadripper": [("package-0", False, 1)],
    "amd_naples": [],
    "virtual_machine": [],
}


@pytest.mark.parametrize("machine", PACKAGES)
def test_each_counter_once(tmp_path: Path, machine: str) -> None:
    """No cores, no whole platform, and no package a second time through another interface."""
    root = systrees.unpack(machine, tmp_path)
    found = [
        (zone.package, zone.memory, powercap.microjoules(Path(zone.path).read_bytes())) for zone in powercap.zones(root)
    ]
    assert found == PACKAGES[machine]
    assert not [zone for zone in powercap.zones(root) if "mmio" in zone.path or "psys" in zone.path]


def test_where_there_is_but_the_other_interface_it_is_used(tmp_path: Path) -> None:
    """As on machines whose processor registers are locked."""
    root = systrees.unpack("intel_two_sockets", tmp_path)
    (tmp_path / "class/powercap/intel-rapl:0/name").unlink()
    found = {zone.package: zone.path for zone in powercap.zones(root) if not zone.memory}
    assert found["package-0"].endswith("intel-rapl-mmio:0/energy_uj")


@pytest.mark.parametrize("step", [15.3, 30.5, 61.03515625])
def test_the_counter_begins_again_one_step_after_its_last_value(tmp_path: Path, step: float) -> None:
    """The register has 2**32 values, and the file tells the last of them in microjoules, cut off."""
    root = systrees.unpack("amd_epyc", tmp_path)
    last = int((2**32 - 1) * step)
    (tmp_path / "class/powercap/intel-rapl:0/max_energy_range_uj").write_text(f"{last}\n")
    (zone,) = powercap.zones(root)
    assert zone.size == pytest.approx(2**32 * step, abs=2)
    assert zone.size > last


@pytest.mark.parametrize("content", ["", "0\n", "text\n", "-5\n", "9" * 30])
def test_a_counter_that_wraps_nobody_knows_where_is_left_out(tmp_path: Path, content: str) -> None:
    """Alone; the others stay."""
    root = systrees.unpack("intel_two_sockets", tmp_path)
    (tmp_path / "class/powercap/intel-rapl:1/max_energy_range_uj").write_text(content)
    assert [(zone.package, zone.memory) for zone in powercap.zones(root)] == [
        *(("package-0", memory) for memory in (False, True)),
        ("package-1", True),
    ]


def test_no_powercap_is_no_counter(tmp_path: Path) -> None:
    """As where a container's runtime hides it: the class is there, and empty."""
    assert powercap.zones(str(tmp_path)) == []
    (tmp_path / "class/powercap/intel-rapl:0").mkdir(parents=True)
    assert powercap.zones(str(tmp_path)) == []


@given(st.integers(0, 10**19 - 1))
def test_microjoules_are_the_file_s_number(number: int) -> None:
    """As large as sixty-four bits hold."""
    assert powercap.microjoules(b"%d\n" % number) == number


@pytest.mark.parametrize("content", [b"", b"\n", b"-1\n", b"1.5\n", b"9" * 20, b"1 2\n"])
def test_what_is_no_energy_is_refused(content: bytes) -> None:
    """With a value error."""
    with pytest.raises(ValueError, match="no energy"):
        powercap.microjoules(content)
