# SPDX-License-Identifier: Apache-2.0
"""hwmon: one sensor for each CPU package, and of no other device."""

from __future__ import annotations

import builtins
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import systrees
from otel_hwmetrics.sources.linux import hwmon

SENSORS: dict[str, list[tuple[int | None, str, int, float, dict[str, float]]]] = {
    "intel_two_sockets": [
        (0, "package", 2, 52.0, {"max": 82.0, "crit": 92.0}),
        (1, "package", 3, 61.0, {"max": 82.0, "crit": 92.0}),
    ],
    # Four dies on two packages: which die is on which package, the driver does not say.
    "intel_two_dies": [(None, "package", die, 40.0 + die, {}) for die in range(4)],
    "intel_without_hwmon": [(0, "package", 2, 47.0, {})],
    "amd_epyc": [(0, "tctl", 0, 54.25, {})],
    "amd_naples": [(None, "tctl", die, 50.0 + die, {}) for die in range(8)],
    # Tctl would be 27 degrees too much, and the limit of 70 is none of the CPU's.
    "amd_threadripper": [(0, "tdie", 1, 55.0, {})],
    "arm_board": [(None, "package", 3, 44.5, {})],
    "virtual_machine": [],
}
"""Package, location, number of the chip or zone, degrees, limits."""


@pytest.mark.parametrize("machine", SENSORS)
def test_each_package_s_sensor(tmp_path: Path, machine: str) -> None:
    """Of its driver's best figure, with its limits; no cores, chiplets, disks, power supplies."""
    found = [
        (
            sensor.package,
            sensor.location,
            sensor.place,
            hwmon.celsius(Path(sensor.path).read_bytes()),
            {word: hwmon.celsius(Path(path).read_bytes()) for word, path in sensor.limits.items()},
        )
        for sensor in hwmon.sensors(systrees.unpack(machine, tmp_path))
    ]
    assert found == SENSORS[machine]


@pytest.mark.parametrize("machine", SENSORS)
def test_no_other_device_is_asked(tmp_path: Path, machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a chip whose driver is none of a CPU only the driver's name is read, and no temperature to find the sensors."""
    root = systrees.unpack(machine, tmp_path)
    opened: list[str] = []
    real = builtins.open

    def watched(path: str, mode: str) -> object:
        opened.append(path)
        return real(path, mode)

    monkeypatch.setattr(builtins, "open", watched)
    found = hwmon.sensors(root)
    monkeypatch.undo()
    ours = {os.path.dirname(sensor.path) for sensor in found}
    for path in opened:
        assert os.path.dirname(path) in ours or path.endswith(("/name", "/type", "/physical_package_id"))
        assert not path.endswith(("_input", "/temp"))


def test_packages_that_are_numbered_with_gaps_keep_their_numbers(tmp_path: Path) -> None:
    """The driver counts from 0, the firmware need not."""
    root = systrees.unpack("intel_two_sockets", tmp_path)
    for cpu, package in ((0, 1), (1, 1), (2, 3), (3, 3)):
        (tmp_path / f"devices/system/cpu/cpu{cpu}/topology/physical_package_id").write_text(f"{package}\n")
    assert hwmon.packages(root) == [1, 3]
    assert [(sensor.package, sensor.place) for sensor in hwmon.sensors(root)] == [(1, 2), (3, 3)]


def test_a_sensor_of_one_package_is_not_taken_for_another_s(tmp_path: Path) -> None:
    """Where the driver has not found the first package's, the second's stays the second's."""
    root = systrees.unpack("intel_two_sockets", tmp_path)
    (tmp_path / "class/hwmon/hwmon2/name").write_text("other\n")
    assert [sensor.package for sensor in hwmon.sensors(root)] == [1]


def test_where_packages_are_not_numbered_the_driver_s_word_stands(tmp_path: Path) -> None:
    """As in a container that hides the topology."""
    root = systrees.unpack("intel_two_sockets", tmp_path)
    for path in tmp_path.glob("devices/system/cpu/*/topology/*"):
        path.unlink()
    assert hwmon.packages(root) == []
    assert [sensor.package for sensor in hwmon.sensors(root)] == [0, 1]


@pytest.mark.parametrize("machine", SENSORS)
def test_a_file_that_cannot_be_read_costs_its_own_chip_at_most(tmp_path: Path, machine: str) -> None:
    """Each file of the tree in turn: gone, or a directory. No other chip is looked into instead, but for zones."""
    root = systrees.unpack(machine, tmp_path)
    allowed = {os.path.dirname(sensor.path) for sensor in hwmon.sensors(root)}
    allowed |= {str(path) for path in tmp_path.glob("class/thermal/thermal_zone*")}
    for path in sorted(tmp_path.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            path.unlink()
            assert {os.path.dirname(sensor.path) for sensor in hwmon.sensors(root)} <= allowed
            path.mkdir()
            assert {os.path.dirname(sensor.path) for sensor in hwmon.sensors(root)} <= allowed
            path.rmdir()
            path.write_bytes(content)


def test_a_machine_without_sysfs_has_no_sensors(tmp_path: Path) -> None:
    """Nothing is raised."""
    assert hwmon.sensors(str(tmp_path / "nowhere")) == []
    assert hwmon.packages(str(tmp_path / "nowhere")) == []


@given(st.integers(-99_999, 199_999))
def test_degrees_are_thousandths_of_the_file(thousandths: int) -> None:
    """Below freezing, too, with the kernel's end of line or without."""
    assert hwmon.celsius(b"%d\n" % thousandths) == hwmon.celsius(b"%d" % thousandths) == thousandths / 1000


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"text\n", b"12.5\n", b"-", b"200000\n", b"-274000\n", b"9" * 30, b"1 2"]
)
def test_what_is_no_temperature_is_refused(content: bytes) -> None:
    """Nor one that only a broken sensor has."""
    with pytest.raises(ValueError, match="no temperature"):
        hwmon.celsius(content)


@given(st.binary(max_size=20))
def test_garbage_is_a_value_error_or_a_temperature(content: bytes) -> None:
    """And nothing else."""
    try:
        degrees = hwmon.celsius(content)
    except ValueError:
        return
    assert -100 < degrees < 200


@pytest.mark.skipif(not os.path.isdir("/sys/devices/system/cpu"), reason="reads /sys")
def test_this_machine_s_sensors_are_of_its_packages() -> None:
    """Whatever it shows."""
    known = hwmon.packages()
    for sensor in hwmon.sensors():
        assert sensor.package in {None, *known}
