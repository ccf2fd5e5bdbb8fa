# SPDX-License-Identifier: Apache-2.0
"""CPU packages: temperature by hwmon, energy of the package and of its DRAM by RAPL; power follows from energy."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from functools import partial
from typing import ClassVar, Final

from opentelemetry.semconv._incubating.attributes.hw_attributes import HwLimitTypeValues, HwTypeValues

from otel_hwmetrics.catalog import gpu as rows
from otel_hwmetrics.catalog import sensors as names
from otel_hwmetrics.model import Attribute, Series
from otel_hwmetrics.sources.base import Batch, Bench, Clock, Item, Reader, Source, SourceUnavailable, Unsupported
from otel_hwmetrics.sources.counters import Unwrapped
from otel_hwmetrics.sources.linux import hwmon, powercap
from otel_hwmetrics.sources.linux.files import KernelFile

TEMPERATURE_EVERY: Final = 2.0
"""Seconds; a package of metal takes longer to change by much."""
LIMITS_EVERY: Final = 300.0
"""Seconds; limits change only when somebody sets them."""
MOST_POWER: Final = 1000.0
"""Watts that no package or its DRAM exceeds; the counters, of 65 kJ and more, then last for a minute between looks."""

_MICRO: Final = 10**6
_LIMITS: Final = {"max": HwLimitTypeValues.MAX, "crit": HwLimitTypeValues.HIGH_CRITICAL}
"""Types of limits by hwmon's words for them."""

# What is not there is not there for good, and what only root may read will not be allowed to a process later.
_FOR_EVER: Final = (FileNotFoundError, PermissionError)


class Thermometer:
    """The temperature sensor of a CPU package.

    Args:
        sensor: Where its files are.
        place: The package, or the die, that it is in, as `_places` writes it; None where nobody says.
    """

    def __init__(self, sensor: hwmon.Sensor, place: str | None) -> None:
        attributes: dict[str, Attribute] = {
            rows.HW_ID: f"cpu-sensor-{sensor.place}/temperature",
            rows.HW_NAME: f"CPU sensor {sensor.place} temperature",
            rows.HW_SENSOR_LOCATION: names.UNKNOWN_LOCATION,
        }
        if place is not None:
            attributes |= {
                rows.HW_ID: names.TEMPERATURE_ID.format(f"cpu-{place}"),
                rows.HW_NAME: f"{_name(place)} temperature",
                rows.HW_PARENT: f"cpu-{place}",
                rows.HW_SENSOR_LOCATION: names.PACKAGE_LOCATION,
            }
        self.temperature = Series(rows.TEMPERATURE, attributes)
        self.input = KernelFile(sensor.path)
        self.limits = {
            kind: (KernelFile(path), Series(rows.TEMPERATURE_LIMIT, {**attributes, rows.HW_LIMIT_TYPE: kind.value}))
            for word, kind in _LIMITS.items()
            for path in (sensor.limits.get(word),)
            if path is not None
        }

    def close(self) -> None:
        """Close the files."""
        self.input.close()
        for file, _ in self.limits.values():
            file.close()


class Meter:
    """The energy counter of a CPU package or of its DRAM.

    Args:
        zone: Where its files are.
        clock: Monotonic seconds, by which a wrap is told from a reset.
    """

    def __init__(self, zone: powercap.Zone, clock: Clock) -> None:
        component, name = f"cpu-{zone.package}", _name(zone.package)
        attributes: dict[str, Attribute] = {
            rows.HW_ID: component,
            rows.HW_NAME: name,
            rows.HW_TYPE: HwTypeValues.CPU.value,
            rows.ENERGY_METHOD: "counter",
        }
        if zone.memory:
            attributes |= {
                rows.HW_ID: names.MEMORY_ID.format(component),
                rows.HW_NAME: f"{name} DRAM",
                rows.HW_PARENT: component,
                rows.HW_TYPE: HwTypeValues.MEMORY.value,
            }
        self.energy = Series(rows.ENERGY, attributes)
        self._file = KernelFile(zone.path)
        self._counter = Unwrapped(zone.size, MOST_POWER * _MICRO)
        self._clock = clock

    def joules(self) -> float:
        """Joules since the first call.

        Raises:
            OSError: The counter cannot be read.
            ValueError: It is no count, or nobody can say how often it wrapped since the last call.
        """
        at = self._clock()
        return self._counter.advance(powercap.microjoules(self._file.read()), at) / _MICRO

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _name(place: str) -> str:
    """What people call ``package-0-die-1``: ``CPU package 0 die 1``."""
    return f"CPU {place.replace('-', ' ')}"


def _places(sensors: Sequence[hwmon.Sensor]) -> list[str | None]:
    """Where each sensor is, as RAPL's driver writes it: ``package-0``, or ``package-0-die-1`` of several dies in one."""
    places: list[str | None] = []
    for number, sensor in enumerate(sensors):
        fellows = [other.package for other in sensors].count(sensor.package)
        before = [other.package for other in sensors[:number]].count(sensor.package)
        if sensor.package is None:
            places.append(None)
        else:
            places.append(f"package-{sensor.package}" + (f"-die-{before}" if fellows > 1 else ""))
    return places


def _temperature(thermometer: Thermometer) -> Iterable[Item]:
    yield thermometer.temperature, hwmon.celsius(thermometer.input.read())


def _limit(kind: HwLimitTypeValues, thermometer: Thermometer) -> Iterable[Item]:
    if kind not in thermometer.limits:
        raise Unsupported
    file, series = thermometer.limits[kind]
    yield series, hwmon.celsius(file.read())


def _energy(meter: Meter) -> Iterable[Item]:
    yield meter.energy, meter.joules()


_HWMON: Final = "/sys/class/hwmon/hwmon*"

THERMOMETER_READERS: tuple[Reader[Thermometer], ...] = (
    Reader(
        (rows.TEMPERATURE,),
        _temperature,
        every=TEMPERATURE_EVERY,
        call=f"{_HWMON}/temp*_input, /sys/class/thermal/thermal_zone*/temp",
        where="Linux with the driver coretemp, k10temp, zenpower, cpu_thermal or x86_pkg_temp; no virtual machine",
    ),
    *(
        Reader(
            (rows.TEMPERATURE_LIMIT,),
            partial(_limit, kind),
            every=LIMITS_EVERY,
            call=f"{_HWMON}/temp*_{suffix}",
            where="Linux with the driver coretemp",
        )
        for suffix, kind in _LIMITS.items()
    ),
)
"""What is read of each temperature sensor."""

METER_READERS: tuple[Reader[Meter], ...] = (
    Reader(
        (rows.ENERGY,),
        _energy,
        call="/sys/class/powercap/intel-rapl:*/energy_uj",
        where="Linux on Intel, and 5.8 and newer on AMD; root, from 5.10 on; no virtual machine",
    ),
)
"""What is read of each energy counter."""


class SensorsSource(Source):
    """Temperature and energy of the CPU packages.

    Args:
        clock: Monotonic seconds.
        sys_root: Where sysfs is.
    """

    name: ClassVar[str] = "sensors"

    def __init__(self, clock: Clock = time.monotonic, *, sys_root: str = "/sys") -> None:
        self._clock = clock
        self._root = sys_root
        self._thermometers: list[Bench[Thermometer]] = []
        self._meters: list[Bench[Meter]] = []

    def open(self) -> None:
        """Find the sensors and counters. What turns up later, with a driver that is loaded by hand, is not seen.

        Raises:
            SourceUnavailable: There are none, or only such as this process may not read.
        """
        expected = (OSError, ValueError)
        sensors = hwmon.sensors(self._root)
        self._thermometers = [
            Bench(Thermometer(sensor, place), THERMOMETER_READERS, unsupported=_FOR_EVER, expected=expected)
            for sensor, place in zip(sensors, _places(sensors), strict=True)
        ]
        self._meters = [
            Bench(Meter(zone, self._clock), METER_READERS, unsupported=_FOR_EVER, expected=expected)
            for zone in powercap.zones(self._root)
        ]
        batch = self.read()
        if batch.readings or batch.lost:
            return
        self.close()
        if self._thermometers or self._meters:
            raise SourceUnavailable(self.name, "the CPU's sensors may not be read", "RAPL is for root only")
        raise SourceUnavailable(self.name, "the CPU shows no sensors", "virtual machines have none")

    def read(self) -> Batch:
        """Read every sensor that is due, and every counter."""
        batch = Batch()
        for meter in self._meters:
            meter.read_into(batch, self._clock)
        for thermometer in self._thermometers:
            thermometer.read_into(batch, self._clock)
        return batch

    def close(self) -> None:
        """Close the files."""
        for thermometer in self._thermometers:
            thermometer.subject.close()
        for meter in self._meters:
            meter.subject.close()
