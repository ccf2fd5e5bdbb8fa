# SPDX-License-Identifier: Apache-2.0
"""The CPUs' temperature sensors in sysfs: hwmon, and thermal zones where there is no hwmon.

https://docs.kernel.org/hwmon/sysfs-interface.html, https://docs.kernel.org/hwmon/coretemp.html and k10temp.html,
https://docs.kernel.org/driver-api/thermal/sysfs-api.html. Only the drivers of CPUs are looked into: those of disks and
radios ask their device, which can take tens of milliseconds and keep a disk awake.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

_INTEL: Final = "coretemp"
_AMD: Final = ("k10temp", "zenpower", "k8temp")
_OTHERS: Final = ("cpu_thermal", "cpu-thermal")  # of boards with Arm cores, by the name in the device tree
_ZONES: Final = ("x86_pkg_temp", *_OTHERS)

_INTEL_LABEL: Final = re.compile(r"(?:Package|Physical) id (\d+)")
_AMD_LABELS: Final = ("Tdie", "Tctl", "")
# In this order: Tctl is what fans are steered by, on some models 10 or 27 degrees above the die, and those have a Tdie.
# Kernels before 5.5 give Tctl no name where it is the only one.
_MILLIDEGREES: Final = re.compile(rb"(-?\d{1,7})\n?")
_POSSIBLE: Final = (-100.0, 200.0)


class Sensor(NamedTuple):
    """One sensor of a CPU package.

    Attributes:
        path: The file with its temperature.
        package: The number of the package that it is on, as in ``physical_package_id``; None where nobody says.
        location: ``package``, ``tdie``, ``tctl``, or the type of the thermal zone.
        place: What tells it from others of the same location where the package is not known; its chip's number.
        limits: The files with its limits, by the kernel's word for them: ``max``, ``crit``.
    """

    path: str
    package: int | None
    location: str
    place: int
    limits: dict[str, str]


def celsius(content: bytes) -> float:
    """The temperature in a file that has thousandths of a degree.

    Raises:
        ValueError: It is none, or none that a CPU can have.
    """
    match = _MILLIDEGREES.fullmatch(content)
    degrees = int(match[1]) / 1000 if match else None
    if degrees is None or not _POSSIBLE[0] < degrees < _POSSIBLE[1]:
        raise ValueError("this is no temperature")
    return degrees


def packages(sys_root: str = "/sys") -> list[int]:
    """The numbers of the CPU packages (sockets), ascending; empty where the kernel does not tell."""
    found = set()
    cpus = f"{sys_root}/devices/system/cpu"
    for entry in _entries(cpus):
        if re.fullmatch(r"cpu\d+", entry):
            number = _word(f"{cpus}/{entry}/topology/physical_package_id")
            if number.isdecimal():  # -1 where the firmware does not say
                found.add(int(number))
    return sorted(found)


def sensors(sys_root: str = "/sys") -> list[Sensor]:
    """The sensors of the CPU packages, one for each where there is one. What cannot be read is not there."""
    chips = f"{sys_root}/class/hwmon"
    found = [
        sensor for number, chip in _numbered(chips, "hwmon") for sensor in _on_chip(chip, number, _word(f"{chip}/name"))
    ]
    found = found or list(_in_zones(f"{sys_root}/class/thermal"))
    return _with_packages(found, packages(sys_root))


def _on_chip(chip: str, number: int, driver: str) -> Iterator[Sensor]:
    if driver not in (_INTEL, *_AMD, *_OTHERS):
        return
    labels = {
        index: _word(f"{chip}/temp{index}_label")
        for index in _numbers_of(_entries(chip), re.compile(r"temp(\d+)_input"))
    }
    if driver == _INTEL:
        for index, label in labels.items():
            match = _INTEL_LABEL.fullmatch(label)
            if match:
                yield Sensor(f"{chip}/temp{index}_input", int(match[1]), "package", number, _limits(chip, index))
    elif driver in _AMD:
        for wanted in _AMD_LABELS:
            index = next((index for index, label in labels.items() if label == wanted), 0)
            if index:
                limits = _limits(chip, index)
                limits.pop("max", None)  # 70 degrees on every model: the driver's own invention
                yield Sensor(f"{chip}/temp{index}_input", None, wanted.lower() or "tctl", number, limits)
                break
    elif driver in _OTHERS and 1 in labels:
        yield Sensor(f"{chip}/temp1_input", None, "package", number, _limits(chip, 1))


def _limits(chip: str, index: int) -> dict[str, str]:
    paths = {word: f"{chip}/temp{index}_{word}" for word in ("max", "crit")}
    return {word: path for word, path in paths.items() if os.path.exists(path)}


def _in_zones(zones: str) -> Iterator[Sensor]:
    for number, zone in _numbered(zones, "thermal_zone"):
        kind = _word(f"{zone}/type")
        if kind in _ZONES:
            yield Sensor(f"{zone}/temp", None, "package", number, {})


def _with_packages(found: list[Sensor], known: list[int]) -> list[Sensor]:
    """With the package of each sensor as far as it can be known.

    Intel's driver counts packages, or dies where a package has several, from 0; AMD's says nothing, but meets packages
    in their order. As many sensors as packages are one each; the first generation of EPYC has four to a package, and
    then it is not guessed.
    """
    told = {sensor.package for sensor in found}
    if not known or (told <= set(known) and len(found) <= len(known)):
        return found
    in_order: list[int | None] = [*known] if len(found) == len(known) else [None] * len(found)
    found = sorted(found, key=lambda sensor: (sensor.package or 0, sensor.place))
    return [sensor._replace(package=package) for sensor, package in zip(found, in_order, strict=True)]


def _numbered(directory: str, prefix: str) -> list[tuple[int, str]]:
    """The entries ``<prefix>0``, ``<prefix>1``, …, in the order of their numbers."""
    return [
        (number, f"{directory}/{prefix}{number}")
        for number in _numbers_of(_entries(directory), re.compile(rf"{prefix}(\d+)"))
    ]


def _numbers_of(entries: list[str], pattern: re.Pattern[str]) -> list[int]:
    return sorted(int(match[1]) for match in map(pattern.fullmatch, entries) if match)


def _entries(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:  # no such class here, or the chip is gone
        return []


def _word(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(128).decode("ascii", "replace").strip()
    except OSError:  # it has no such file, or the chip is gone
        return ""
