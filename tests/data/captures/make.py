# SPDX-License-Identifier: Apache-2.0
"""Makes the scripted captures of this folder: what the recorder writes down of a scripted machine.

    python tests/data/captures/make.py [FOLDER]

The machines follow what NVIDIA documents of each board (https://docs.nvidia.com/deploy/nvml-api/ for which calls it
supports, the board's data sheet for its sizes and limits); the load is made up. None of them is a measurement. A
capture of a real machine is made with `benchmarks/record_nvml.py`, and says so in its `origin`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from otel_hwmetrics.testing import FakeGpu, FakeMig, FakeNvml, FakeProcess, ManualClock
from otel_hwmetrics.testing.captures import record
from otel_hwmetrics.testing.captures.survey import Survey

GIB = 1024**3
SECONDS = 30.0


def during(busy: float, idle: float) -> list[tuple[float, float]]:
    """A job from second 5 to 25, with a pause for a checkpoint from 15 to 17."""
    return [(0, idle), (5, idle), (6, busy), (15, busy), (15, idle), (17, idle), (17, busy), (25, busy), (26, idle)]


def h100(clock: ManualClock) -> FakeNvml:
    """Two H100 SXM: GPM, NVLink, HBM3, no fans of their own."""
    first = FakeGpu(
        utilization=during(0.98, 0.0),
        memory_controller_utilization=during(0.46, 0.0),
        sm_activity=during(0.87, 0.0),
        sm_occupancy=during(0.41, 0.0),
        tensor_activity=during(0.52, 0.0),
        dram_activity=during(0.44, 0.0),
        fp32_activity=during(0.09, 0.0),
        fp16_activity=during(0.06, 0.0),
        memory_used=[(0, 0.5 * GIB), (5, 0.5 * GIB), (7, 71 * GIB), (25, 71 * GIB), (26, 0.5 * GIB)],
        pcie_rx=during(3.1e9, 2e5),
        pcie_tx=during(4.0e8, 1e5),
        nvlink_rx=during(9.4e10, 0.0),
        nvlink_tx=during(9.4e10, 0.0),
        temperature=[(0, 34), (5, 34), (20, 66), (25, 67), (30, 51)],
        memory_temperature=[(0, 41), (5, 41), (20, 78), (25, 79), (30, 66)],
        power=during(642.0, 71.0),
        throttled_sw_power_cap=during(0.22, 0.0),
        processes=[FakeProcess(pid=41001, memory=70 * GIB, sm_utilization=0.94, since=5, until=26)],
    )
    second = replace(
        first,
        temperature=[(0, 32), (5, 32), (20, 61), (25, 62), (30, 47)],
        memory_temperature=[(0, 39), (5, 39), (20, 73), (25, 74), (30, 61)],
        power=during(618.0, 69.0),
        throttled_sw_power_cap=0.0,
        processes=[FakeProcess(pid=41002, memory=70 * GIB, sm_utilization=0.95, since=5, until=26)],
    )
    return FakeNvml([first, second], driver_version="580.95.05", clock=clock)


def h200(clock: ManualClock) -> FakeNvml:
    """One H200 SXM: as an H100, with 141 GB of memory."""
    gpu = FakeGpu(
        name="NVIDIA H200",
        memory_total=143_771 * 1024**2,
        memory_used=[(0, 0.6 * GIB), (5, 0.6 * GIB), (7, 118 * GIB), (25, 118 * GIB), (26, 0.6 * GIB)],
        utilization=during(1.0, 0.0),
        memory_controller_utilization=during(0.63, 0.0),
        sm_activity=during(0.79, 0.0),
        sm_occupancy=during(0.33, 0.0),
        tensor_activity=during(0.38, 0.0),
        dram_activity=during(0.71, 0.0),
        fp16_activity=during(0.04, 0.0),
        temperature=[(0, 31), (5, 31), (25, 58), (30, 44)],
        memory_temperature=[(0, 37), (5, 37), (25, 70), (30, 58)],
        power=during(571.0, 76.0),
        pcie_rx=during(1.2e9, 2e5),
        pcie_tx=during(2.0e8, 1e5),
        processes=[FakeProcess(pid=52001, memory=117 * GIB, sm_utilization=0.97, since=5, until=26)],
    )
    return FakeNvml([gpu], driver_version="570.172.08", clock=clock)


def a100_mig(clock: ManualClock) -> FakeNvml:
    """One A100 in three MIG instances. Ampere has no GPM."""
    instances = [
        FakeMig(
            profile="3g.20gb",
            memory_total=20 * GIB,
            memory_used=during(17 * GIB, 0.1 * GIB),
            multiprocessors=42,
            slices=3,
        ),
        FakeMig(
            profile="2g.10gb",
            memory_total=10 * GIB,
            memory_used=during(4 * GIB, 0.1 * GIB),
            multiprocessors=28,
            slices=2,
        ),
        FakeMig(profile="1g.5gb", memory_total=5 * GIB, memory_used=0.1 * GIB, multiprocessors=14, slices=1),
    ]
    gpu = FakeGpu(
        name="NVIDIA A100-SXM4-40GB",
        architecture="ampere",
        compute_capability=(8, 0),
        gpm=False,
        memory_total=40 * GIB,
        memory_used=during(21.2 * GIB, 0.4 * GIB),
        temperature=[(0, 33), (5, 33), (25, 52), (30, 42)],
        memory_temperature=[(0, 35), (5, 35), (25, 58), (30, 49)],
        power=during(243.0, 54.0),
        power_limit=400.0,
        nvlinks=12,
        nvlink_generation=3,
        pcie_generation=4,
        pcie_generation_max=4,
        gpu_pcie_generation_max=4,
        graphics_clock=1410e6,
        sm_clock=1410e6,
        memory_clock=1215e6,
        mig=instances,
    )
    return FakeNvml([gpu], driver_version="550.163.01", clock=clock)


def rtx4090(clock: ManualClock) -> FakeNvml:
    """A consumer card: fans and an energy counter; no ECC, no GPM, no memory sensor, no NVLink."""
    gpu = FakeGpu(
        name="NVIDIA GeForce RTX 4090",
        architecture="ada",
        compute_capability=(8, 9),
        gpm=False,
        memory_total=24_564 * 1024**2,
        memory_used=during(19 * GIB, 0.9 * GIB),
        bar1_total=32 * GIB,
        utilization=during(0.93, 0.03),
        memory_controller_utilization=during(0.38, 0.02),
        temperature=[(0, 38), (5, 38), (25, 69), (30, 57)],
        unsupported_fields=("NVML_FI_DEV_MEMORY_TEMP",),
        power=during(402.0, 21.0),
        power_limit=450.0,
        power_default_limit=450.0,
        power_min_limit=150.0,
        power_max_limit=600.0,
        fans=2,
        fan_speed=[(0, 0.0), (8, 0.0), (9, 0.30), (25, 0.58), (30, 0.41)],
        ecc=False,
        row_remapping=False,
        nvlinks=0,
        mig_capable=False,
        pcie_generation=[(0, 1), (5, 1), (5, 4), (26, 4), (26, 1)],
        pcie_generation_max=4,
        gpu_pcie_generation_max=4,
        pcie_rx=during(2.2e9, 1e6),
        pcie_tx=during(3.0e8, 1e6),
        processes=[
            FakeProcess(pid=2201, memory=0.4 * GIB, kind="graphics"),
            FakeProcess(pid=61001, memory=18 * GIB, sm_utilization=0.9, since=5, until=26),
        ],
    )
    return FakeNvml([gpu], driver_version="560.35.03", clock=clock)


def p100(clock: ManualClock) -> FakeNvml:
    """An old board: no energy counter (that came with Volta), no GPM, no row remapping but retired pages, an old driver."""
    gpu = FakeGpu(
        name="Tesla P100-PCIE-16GB",
        architecture="pascal",
        compute_capability=(6, 0),
        gpm=False,
        energy_counter=False,
        memory_total=16 * GIB,
        memory_used=during(11 * GIB, 0.0),
        utilization=during(0.9, 0.0),
        memory_controller_utilization=during(0.5, 0.0),
        temperature=[(0, 36), (5, 36), (25, 63), (30, 52)],
        unsupported_fields=("NVML_FI_DEV_MEMORY_TEMP",),
        power=during(188.0, 27.0),
        power_limit=250.0,
        power_default_limit=250.0,
        power_min_limit=125.0,
        power_max_limit=250.0,
        nvlinks=0,
        mig_capable=False,
        row_remapping=False,
        page_retirement=True,
        retired_single_bit=2,
        pcie_generation=3,
        pcie_generation_max=3,
        gpu_pcie_generation_max=3,
        processes=[FakeProcess(pid=9001, memory=10 * GIB, sm_utilization=0.88, since=5, until=26)],
    )
    nvml = FakeNvml([gpu], driver_version="470.256.02", clock=clock)
    # What came with later drivers is not in the library.
    for later in ("nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetTemperatureV", "nvmlDeviceGetMarginTemperature"):
        nvml.missing(later)
    return nvml


def lost_gpu(clock: ManualClock) -> FakeNvml:
    """Three A100; the second falls off the bus at second 10 and does not come back."""
    gpus = [
        FakeGpu(
            name="NVIDIA A100-SXM4-80GB",
            architecture="ampere",
            compute_capability=(8, 0),
            gpm=False,
            utilization=during(0.95, 0.0),
            memory_used=during(60 * GIB, 0.4 * GIB),
            temperature=[(0, 33), (5, 33), (25, 58 + index), (30, 45)],
            power=during(371.0 + index, 55.0),
            power_limit=400.0,
            nvlinks=12,
            nvlink_generation=3,
        )
        for index in range(3)
    ]
    nvml = FakeNvml(gpus, driver_version="535.261.03", clock=clock)
    nvml.fail("*", "NVML_ERROR_GPU_IS_LOST", gpu=1, after=10)
    return nvml


MACHINES: dict[str, tuple[Callable[[ManualClock], FakeNvml], str]] = {
    "h100_gpm": (h100, "two H100 SXM 80 GB: 20 s of training in a pause"),
    "h200_gpm": (h200, "one H200 SXM 141 GB: 20 s of training in a pause"),
    "a100_mig": (a100_mig, "one A100 SXM 40 GB in MIG mode: 3g.20gb, 2g.10gb, 1g.5gb"),
    "rtx4090": (rtx4090, "one GeForce RTX 4090: fans and energy, no ECC, no GPM"),
    "p100_no_energy": (p100, "one Tesla P100 with a driver of 2024: no energy counter, no later functions"),
    "lost_gpu": (lost_gpu, "three A100 SXM 80 GB, the second of which falls off the bus at second 10"),
}


def make(folder: Path, name: str) -> Path:
    """Write one capture and return where it is."""
    build, note = MACHINES[name]
    clock = ManualClock()
    nvml, path = build(clock), folder / f"{name}.json"
    # The script has no secrets, but pseudonyms make the files equal from one run to the next.
    with nvml, record(path, note=f"Scripted, not measured: {note}.", clock=clock) as recorder:
        survey = Survey()
        survey.open()
        for _ in recorder.rounds(SECONDS, sleep=clock.advance):
            survey.ask()
        survey.close()
        recorder.capture.latencies.clear()  # of a script they say nothing
    return path


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    for machine in MACHINES:
        made = make(target, machine)
        print(f"{made}: {made.stat().st_size / 1000:.0f} kB")  # noqa: T201 - a script that prints
