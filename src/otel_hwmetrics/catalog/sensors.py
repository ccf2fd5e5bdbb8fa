# SPDX-License-Identifier: Apache-2.0
"""CPU temperature and power, where the machine shows them.

The conventions name sensors and energy alike for all hardware, so the rows are those of `otel_hwmetrics.catalog.gpu`
(``hw.temperature``, ``hw.temperature.limit``, ``hw.energy``, ``hw.power``), and here is only how a CPU is called.
"""

from __future__ import annotations

from otel_hwmetrics.model import Metric

MEMORY_ID = "{}/dram"
"""``hw.id`` of the DRAM of a CPU package, whose own is ``cpu-package-0``, or ``cpu-package-0-die-1`` of one of its dies."""
TEMPERATURE_ID = "{}/temperature/package"
"""``hw.id`` of a package's temperature sensor."""
PACKAGE_LOCATION = "package"
"""``hw.sensor_location`` of a sensor of a whole package; those of cores are not told."""
UNKNOWN_LOCATION = "cpu"
"""``hw.sensor_location`` where nobody says of which package it is; such a sensor has no ``hw.parent``."""

METRICS: tuple[Metric, ...] = ()
