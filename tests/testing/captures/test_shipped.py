# SPDX-License-Identifier: Apache-2.0
"""The captures that we ship say what they are, and our source reads each of them."""

from __future__ import annotations

import math
import runpy
from pathlib import Path

import pytest

from otel_hwmetrics.model import Metric, Unit
from otel_hwmetrics.sources.gpu.nvidia import NvidiaSource
from otel_hwmetrics.testing import ManualClock
from otel_hwmetrics.testing.captures import load_capture, read_capture

FOLDER = Path(__file__).parents[2] / "data" / "captures"
SHIPPED = sorted(FOLDER.glob("*.json"))
GPUS = {"h100_gpm": 2, "h200_gpm": 1, "a100_mig": 1, "rtx4090": 1, "p100_no_energy": 1, "lost_gpu": 3}

names = pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)


def test_every_shape_is_there() -> None:
    """GPM, MIG, a consumer card, a board without energy counter, a lost GPU: one file each, and no other."""
    assert {path.stem for path in SHIPPED} == GPUS.keys()


@names
def test_a_capture_says_what_it_is(path: Path) -> None:
    """Real or scripted, in the file and in its note; short, small, and without names."""
    capture = read_capture(path)
    assert capture.origin in {"real", "scripted"}
    assert ("Scripted, not measured" in capture.note) == (capture.origin == "scripted")
    assert 20 <= capture.seconds <= 60
    assert capture.anonymous
    assert path.stat().st_size < 200_000
    assert load_capture(path).gpus == tuple(f"gpu{index}" for index in range(GPUS[path.stem]))


@names
def test_our_source_reads_it(path: Path, clock: ManualClock) -> None:
    """Every second there are readings of each GPU, each finite and none beyond what its unit allows."""
    nvml = load_capture(path, clock=clock)
    seen: set[object] = set()
    with nvml:
        source = NvidiaSource(gpus="all", clock=clock.monotonic)
        source.open()
        for _ in range(int(nvml.capture.seconds) + 1):
            readings = source.read().readings
            assert readings
            for reading in readings:
                seen.add(reading.series.attributes.get("hw.id"))
                assert math.isfinite(reading.value), reading
                lowest, highest = _plausible(reading.series.metric)
                assert lowest <= reading.value <= highest, reading
            clock.advance(1)
        source.close()
    assert len(seen) >= GPUS[path.stem]
    assert not nvml.unknown


def _plausible(metric: Metric) -> tuple[float, float]:
    """Return between what the values of a GPU's metric lie."""
    if metric.name.endswith(("utilization", "activity", "occupancy", ".status")):
        return 0, 1 + 1e-6
    by_unit = {Unit.CELSIUS: (-50, 120), Unit.WATT: (0, 1500), Unit.BYTE: (0, 1e15)}
    return by_unit.get(metric.unit, (-100, math.inf))


def test_scripted_captures_are_what_their_script_makes(tmp_path: Path) -> None:
    """Whoever changes the format or the script makes the files anew: `python tests/data/captures/make.py`."""
    script = runpy.run_path(str(FOLDER / "make.py"))
    name = "p100_no_energy"
    made, shipped = read_capture(script["make"](tmp_path, name)), read_capture(FOLDER / f"{name}.json")
    assert script["MACHINES"].keys() == GPUS.keys()
    assert made.seconds == shipped.seconds
    calls = {series.call for series in made.series}
    # Another release of the binding, or a wider fake, may ask more.
    assert calls >= {series.call for series in shipped.series} - made.absent
