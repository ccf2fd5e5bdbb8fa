# SPDX-License-Identifier: Apache-2.0
"""CPU sensors: each package's temperature and energy by one name, each once, and nothing that cannot be read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from otel_hwmetrics.catalog import gpu as rows
from otel_hwmetrics.model import Attribute, Metric
from otel_hwmetrics.sources.base import Batch, SourceUnavailable
from otel_hwmetrics.sources.linux.files import KernelFile
from otel_hwmetrics.sources.sensors import LIMITS_EVERY, TEMPERATURE_EVERY, SensorsSource
from otel_hwmetrics.testing import ManualClock
from otel_hwmetrics.windows import Accumulator, between

RANGE = 262_143_328_850
"""Microjoules that a counter of an Intel server goes up to."""

INTEL = {
    "class/hwmon/hwmon0/name": "nvme",
    "class/hwmon/hwmon0/temp1_input": "41850",
    **{
        f"class/hwmon/hwmon{chip}/{name}": value
        for chip, package, degrees in ((3, 0, 61), (4, 1, 58))
        for name, value in {
            "name": "coretemp",
            "temp1_label": f"Package id {package}",
            "temp1_input": f"{degrees}000",
            "temp1_max": "88000",
            "temp1_crit": "98000",
            "temp2_label": "Core 0",
            "temp2_input": "99000",
        }.items()
    },
    **{f"devices/system/cpu/cpu{cpu}/topology/physical_package_id": str(cpu // 2) for cpu in range(4)},
    **{
        f"class/powercap/{zone}/{name}": value
        for zone, what, energy in (
            ("intel-rapl:0", "package-0", 1_000_000),
            ("intel-rapl:0/intel-rapl:0:0", "dram", 2_000_000),
            ("intel-rapl:0/intel-rapl:0:1", "core", 3_000_000),
            ("intel-rapl:1", "package-1", 4_000_000),
            ("intel-rapl:1/intel-rapl:1:0", "dram", 5_000_000),
            ("intel-rapl:2", "psys", 6_000_000),
            ("intel-rapl-mmio:0", "package-0", 1_000_007),
        )
        for name, value in {"name": what, "energy_uj": str(energy), "max_energy_range_uj": str(RANGE)}.items()
    },
    "class/powercap/intel-rapl/enabled": "1",
}
"""Two sockets with DRAM counters, a platform counter, a second view of one package, and a disk's sensor."""

EPYC = {
    **{
        f"class/hwmon/hwmon{chip}/{name}": value
        for chip, degrees in ((0, 45), (1, 47))
        for name, value in {
            "name": "k10temp",
            "temp1_label": "Tctl",
            "temp1_input": f"{degrees}125",
            "temp3_label": "Tccd1",
            "temp3_input": "99000",
        }.items()
    },
    **{f"devices/system/cpu/cpu{cpu}/topology/physical_package_id": str(cpu // 2) for cpu in range(4)},
    **{
        f"class/powercap/intel-rapl:{package}/{name}": value
        for package in range(2)
        for name, value in {
            "name": f"package-{package}",
            "energy_uj": f"{package + 1}500000",
            "max_energy_range_uj": "65532610987",
        }.items()
    },
}
"""Two sockets of AMD, whose driver says nothing of packages and which have no DRAM counters."""

ZONE = {
    "class/thermal/thermal_zone0/type": "acpitz",
    "class/thermal/thermal_zone0/temp": "27800",
    "class/thermal/thermal_zone1/type": "x86_pkg_temp",
    "class/thermal/thermal_zone1/temp": "52000",
    "devices/system/cpu/cpu0/topology/physical_package_id": "0",
}
"""A kernel without hwmon."""

VIRTUAL = {
    "class/thermal/cooling_device0/type": "Processor",
    "devices/system/cpu/cpu0/topology/physical_package_id": "0",
}
"""A virtual machine."""

Tree = dict[str, str]


def plant(root: Path, tree: Tree) -> Path:
    """The tree as files."""
    for name, value in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")
    return root


def told(batch: Batch, metric: Metric, key: str = rows.HW_ID) -> dict[Attribute, float]:
    """The values of one metric."""
    return {reading.attributes[key]: reading.value for reading in batch.readings if reading.metric is metric}


@pytest.fixture
def clock() -> ManualClock:
    """Time that a test moves."""
    return ManualClock()


Opened = Callable[[Tree], SensorsSource]


@pytest.fixture
def opened(tmp_path: Path, clock: ManualClock) -> Iterator[Opened]:
    """Makes an open source of a tree, and closes it."""
    sources: list[SensorsSource] = []

    def make(tree: Tree) -> SensorsSource:
        source = SensorsSource(clock.monotonic, sys_root=str(plant(tmp_path, tree)))
        sources.append(source)
        source.open()
        return source

    yield make
    for source in sources:
        source.close()


def spend(root: Path, zone: str, energy: int) -> None:
    """Let a counter stand there."""
    (root / "class/powercap" / zone / "energy_uj").write_text(f"{energy}\n")


TEMPERATURES: dict[str, tuple[Tree, dict[str, float]]] = {
    "intel": (INTEL, {"cpu-package-0/temperature/package": 61.0, "cpu-package-1/temperature/package": 58.0}),
    "epyc": (EPYC, {"cpu-package-0/temperature/package": 45.125, "cpu-package-1/temperature/package": 47.125}),
    "zone": (ZONE, {"cpu-package-0/temperature/package": 52.0}),
    "two dies in a package": (
        INTEL
        | {"class/hwmon/hwmon4/temp1_label": "Package id 0"}
        # A kernel that shows no topology, so that the label is all there is.
        | {f"devices/system/cpu/cpu{cpu}/topology/physical_package_id": "-1" for cpu in range(4)},
        {"cpu-package-0-die-0/temperature/package": 61.0, "cpu-package-0-die-1/temperature/package": 58.0},
    ),
}


@pytest.mark.parametrize("tree", TEMPERATURES)
def test_each_package_s_temperature_once(opened: Opened, tree: str) -> None:
    """In degrees, without those of cores and of other devices, each of the package that it is in."""
    files, expected = TEMPERATURES[tree]
    batch = opened(files).read()
    assert told(batch, rows.TEMPERATURE) == pytest.approx(expected)
    for reading in batch.readings:
        if reading.metric is rows.TEMPERATURE:
            assert reading.attributes[rows.HW_SENSOR_LOCATION] == "package"
            assert f"{reading.attributes[rows.HW_PARENT]}/temperature/package" == reading.attributes[rows.HW_ID]


def test_a_sensor_of_which_nobody_says_where_it_is_has_no_parent(opened: Opened) -> None:
    """The first EPYCs have four to a package; no package is guessed, and each is told by a name of its own."""
    third = {name.replace("hwmon1", "hwmon2"): value for name, value in EPYC.items() if "hwmon1" in name}
    batch = opened(EPYC | third).read()
    readings = [reading for reading in batch.readings if reading.metric is rows.TEMPERATURE]
    assert len({reading.series for reading in readings}) == 3
    for reading in readings:
        assert rows.HW_PARENT not in reading.attributes
        assert reading.attributes[rows.HW_SENSOR_LOCATION] == "cpu"


def test_limits_are_those_of_the_driver(opened: Opened) -> None:
    """The highest that is meant to be, and the one at which the CPU saves itself."""
    batch = opened(INTEL).read()
    assert told(batch, rows.TEMPERATURE_LIMIT, rows.HW_LIMIT_TYPE) == {"max": 88.0, "high.critical": 98.0}
    assert len([reading for reading in batch.readings if reading.metric is rows.TEMPERATURE_LIMIT]) == 4


@pytest.mark.parametrize("tree", [INTEL, EPYC, ZONE], ids=["intel", "epyc", "zone"])
def test_attributes_are_the_rows(opened: Opened, tree: Tree) -> None:
    """No key that the catalog does not know, and no two readings of one series."""
    readings = opened(tree).read().readings
    assert all(set(reading.attributes) <= set(reading.metric.attributes) for reading in readings)
    assert len({reading.series for reading in readings}) == len(readings)


def test_energy_is_that_of_packages_and_dram_each_once(opened: Opened, tmp_path: Path, clock: ManualClock) -> None:
    """Since the first look; no part of a package, no platform that holds it, no second view of it."""
    source = opened(INTEL)
    clock.advance(1)
    for zone, joules in (("intel-rapl:0", 300), ("intel-rapl:0/intel-rapl:0:0", 20), ("intel-rapl-mmio:0", 300)):
        spend(tmp_path, zone, int(INTEL[f"class/powercap/{zone}/energy_uj"]) + joules * 10**6)
    batch = source.read()
    assert told(batch, rows.ENERGY) == {
        "cpu-package-0": 300.0,
        "cpu-package-0/dram": 20.0,
        "cpu-package-1": 0.0,
        "cpu-package-1/dram": 0.0,
    }
    kinds = {
        reading.attributes[rows.HW_ID]: reading.attributes[rows.HW_TYPE]
        for reading in batch.readings
        if reading.metric is rows.ENERGY
    }
    assert set(kinds.values()) == {"cpu", "memory"}
    assert all((kinds[name] == "memory") == str(name).endswith("/dram") for name in kinds)


def test_power_follows_from_energy(opened: Opened, tmp_path: Path, clock: ManualClock) -> None:
    """The mean over the window, by the same attributes."""
    source, accumulator = opened(EPYC), Accumulator()
    first = accumulator.sample(source.read().readings, clock.monotonic(), clock.time_ns())
    clock.advance(2)
    spend(tmp_path, "intel-rapl:0", 1_500_000 + 480 * 10**6)
    last = accumulator.sample(source.read().readings, clock.monotonic(), clock.time_ns())
    watts = {reading.attributes[rows.HW_ID]: reading.value for reading in between(first, last).of(rows.POWER)}
    assert watts == {"cpu-package-0": 240.0, "cpu-package-1": 0.0}


def test_a_counter_that_begins_again_goes_on(opened: Opened, tmp_path: Path, clock: ManualClock) -> None:
    """It wraps every quarter of an hour under load; nothing of that is lost but the size of one step."""
    source = opened(INTEL)
    for before, after, expected in ((RANGE - 10**6, None, None), (None, 99 * 10**6, 100.0)):
        clock.advance(1)
        if before is not None:
            spend(tmp_path, "intel-rapl:1", before)
            start = told(source.read(), rows.ENERGY)["cpu-package-1"]
        else:
            assert after is not None
            spend(tmp_path, "intel-rapl:1", after)
            assert told(source.read(), rows.ENERGY)["cpu-package-1"] - start == pytest.approx(expected, abs=1e-3)


def test_a_gap_in_which_it_may_have_wrapped_twice_adds_nothing(
    opened: Opened, tmp_path: Path, clock: ManualClock
) -> None:
    """A machine that slept: one reading is lost, and counting goes on."""
    source = opened(EPYC)
    clock.advance(3600)
    spend(tmp_path, "intel-rapl:0", 900 * 10**6)
    batch = source.read()
    assert batch.lost == {"ValueError": 2}
    assert told(batch, rows.ENERGY) == {}
    clock.advance(1)
    spend(tmp_path, "intel-rapl:0", 950 * 10**6)
    assert told(source.read(), rows.ENERGY)["cpu-package-0"] == 50.0


def test_cadences(opened: Opened, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Energy at each sample, temperatures every two seconds, limits every five minutes; no file of another driver."""
    read: list[str] = []
    real = KernelFile.read

    def note(file: KernelFile) -> bytes:
        read.append(file.path.rsplit("/", 1)[1])
        return real(file)

    monkeypatch.setattr(KernelFile, "read", note)
    source = opened(INTEL)
    counts = []
    for seconds in (1, TEMPERATURE_EVERY - 1, LIMITS_EVERY):
        read.clear()
        clock.advance(seconds)
        source.read()
        counts.append((read.count("energy_uj"), read.count("temp1_input"), read.count("temp1_crit")))
        assert len(read) == sum(counts[-1]) + read.count("temp1_max")
    assert counts == [(4, 0, 0), (4, 2, 0), (4, 2, 2)]


def test_files_of_other_drivers_are_not_opened(tmp_path: Path, clock: ManualClock) -> None:
    """A disk's sensor waits for the disk: only the driver's name is looked at. A pipe makes whoever opens it wait, too."""
    root = plant(tmp_path, {name: value for name, value in INTEL.items() if "hwmon0/temp" not in name})
    for name in ("temp1_input", "temp1_crit", "temp1_max"):
        os.mkfifo(root / "class/hwmon/hwmon0" / name)
    source = SensorsSource(clock.monotonic, sys_root=str(root))
    source.open()
    assert len(told(source.read(), rows.TEMPERATURE)) == 2
    source.close()


@pytest.mark.parametrize("tree", [{}, VIRTUAL], ids=["empty", "virtual machine"])
def test_where_there_is_nothing_the_source_says_so(opened: Opened, tree: Tree) -> None:
    """A reason that a person can act on."""
    with pytest.raises(SourceUnavailable, match="shows no sensors"):
        opened(tree)


def forbid(monkeypatch: pytest.MonkeyPatch, name: str) -> list[str]:
    """As for anybody but root: the file is there and may not be opened. Gives the attempts."""
    asked: list[str] = []
    real = KernelFile.read

    def refuse(file: KernelFile) -> bytes:
        if file.path.endswith(name):
            asked.append(file.path)
            raise PermissionError(13, "Permission denied", file.path)
        return real(file)

    monkeypatch.setattr(KernelFile, "read", refuse)
    return asked


def test_energy_for_root_only_is_absent_and_not_asked_for_again(
    opened: Opened, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a value nor a loss; the temperatures stay."""
    asked = forbid(monkeypatch, "energy_uj")
    source = opened(INTEL)
    for _ in range(3):
        clock.advance(1)
        batch = source.read()
        assert told(batch, rows.ENERGY) == {}
        assert len(told(batch, rows.TEMPERATURE)) == 2
        assert batch.lost == {}
    assert len(asked) == 4


def test_energy_for_root_only_and_nothing_else_is_said(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with counters is not told to have none."""
    forbid(monkeypatch, "energy_uj")
    with pytest.raises(SourceUnavailable, match="root only"):
        opened({name: value for name, value in EPYC.items() if "hwmon" not in name})


FILES = sorted(name for name in INTEL if "hwmon0" not in name and "mmio" not in name)
DAMAGES: dict[str, bytes | None] = {
    "absent": None,
    "empty": b"",
    "garbage": b"\xff\x00 garbage\n",
    "too large": b"9" * 40 + b"\n",
    "negative": b"-999999999\n",
}


@pytest.mark.parametrize("damage", [*DAMAGES, "a directory"])
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_cannot_be_read_costs_no_other_package_anything(
    tmp_path: Path, clock: ManualClock, name: str, damage: str
) -> None:
    """Whatever happens to one file: what remains is what was there before, and nothing is made up."""
    whole = plant(tmp_path / "whole", INTEL)
    hurt = plant(tmp_path / "hurt", INTEL)
    (hurt / name).unlink()
    if damage == "a directory":  # as root, a file's mode forbids nothing
        (hurt / name).mkdir()
    elif (content := DAMAGES[damage]) is not None:
        (hurt / name).write_bytes(content)
    batches = []
    for root in (whole, hurt):
        source = SensorsSource(clock.monotonic, sys_root=str(root))
        source.open()
        batches.append({reading.series: reading.value for reading in source.read().readings})
        source.close()
    if "topology" in name:
        assert batches[1] == batches[0]  # another CPU of the package still tells
        return
    package = "1" if "hwmon4" in name or "rapl:1" in name else "0"
    others = {
        series: value
        for series, value in batches[0].items()
        if f"package-{package}" not in str(series.attributes[rows.HW_ID])
    }
    assert others.items() <= batches[1].items()
    mine = {series: value for series, value in batches[1].items() if series in batches[0]}
    assert mine.items() <= batches[0].items()
    assert len(batches[1]) <= len(batches[0])
