# SPDX-License-Identifier: Apache-2.0
"""What a GPU tells, to the last digit, in SI units; and what it does not tell."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pynvml
import pytest

from otel_hwmetrics.catalog import gpu as rows
from otel_hwmetrics.catalog import gpu_activity as activity
from otel_hwmetrics.catalog import gpu_health as health
from otel_hwmetrics.catalog import gpu_links as links
from otel_hwmetrics.sources.base import Batch, Bench
from otel_hwmetrics.sources.gpu.nvidia import NvidiaSource
from otel_hwmetrics.sources.gpu.nvidia.fields import Field, Fields
from otel_hwmetrics.sources.gpu.nvidia.ours import Ours
from otel_hwmetrics.testing import FakeGpu, FakeMig, FakeNvml, FakeProcess, ManualClock
from otel_hwmetrics.windows import Accumulator, between
from sources.gpu.nvidia.machines import AGES, BUSY, GIB, metrics, opened, values

EXPECTED: dict[tuple[object, ...], float] = {
    (rows.UTILIZATION, "general"): 0.87,
    (rows.UTILIZATION, "encoder"): 0.05,
    (rows.UTILIZATION, "decoder"): 0.07,
    (rows.UTILIZATION_PEAK, "general"): 0.87,
    (rows.MEMORY_CONTROLLER_UTILIZATION,): 0.41,
    (rows.MEMORY_USAGE,): 60_000_000_512,
    (rows.MEMORY_LIMIT,): 80 * GIB,
    (rows.MEMORY_RESERVED,): 500 * 1024**2,
    (rows.MEMORY_FREE,): 80 * GIB - 500 * 1024**2 - 60_000_000_512,
    (rows.BAR1_LIMIT,): 128 * GIB,
    (rows.BAR1_USAGE,): 4_000_000_000,
    (rows.ENERGY, "counter"): 612.345 * (3 + AGES),
    (rows.POWER_INSTANT, "gpu"): 612.345,
    (rows.POWER_AVERAGE, "gpu"): 612.345,
    (rows.POWER_LIMIT,): 700.0,
    (rows.TEMPERATURE, "gpu"): 66,
    (rows.TEMPERATURE, "memory"): 71,
    (rows.TEMPERATURE_LIMIT, "high.critical", "gpu"): 92,
    (rows.TEMPERATURE_LIMIT, "throttled", "gpu"): 89,
    (rows.TEMPERATURE_LIMIT, "max", "gpu"): 87,
    (rows.TEMPERATURE_LIMIT, "max", "memory"): 95,
    (rows.TEMPERATURE_MARGIN,): 89 - 66,
    (rows.TEMPERATURE_MARGIN_LIMIT, "high.critical", "gpu"): -8,
    (rows.TEMPERATURE_MARGIN_LIMIT, "throttled", "gpu"): -2,
    (rows.TEMPERATURE_MARGIN_LIMIT, "max", "gpu"): 0,
    (rows.TEMPERATURE_MARGIN_LIMIT, "max", "memory"): 0,
    (rows.FAN_SPEED_RATIO, "0"): 0.3,
    (rows.FAN_SPEED, "0"): 2000,
    (activity.SM_ACTIVITY,): 0.8,
    (activity.SM_OCCUPANCY,): 0.4,
    (activity.TENSOR_ACTIVITY,): 0.6,
    (activity.DRAM_ACTIVITY,): 0.5,
    (activity.FP_ACTIVITY, "fp64"): 0.01,
    (activity.FP_ACTIVITY, "fp32"): 0.02,
    (activity.FP_ACTIVITY, "fp16"): 0.03,
    (activity.GRAPHICS_ACTIVITY,): 0.87,
    (activity.CLOCK, "sm"): 1_980_000_000,
    (activity.CLOCK, "memory"): 2_619_000_000,
    (activity.CLOCK, "graphics"): 1_980_000_000,
    (activity.CLOCK, "video"): 1_545_000_000,
    (activity.CLOCK_LIMIT, "sm"): 1_980_000_000,
    (activity.CLOCK_LIMIT, "memory"): 2_619_000_000,
    (activity.CLOCK_LIMIT, "graphics"): 1_980_000_000,
    (activity.CLOCK_LIMIT, "video"): 1_545_000_000,
    (activity.PERFORMANCE_STATE,): 0,
    (activity.THROTTLE_TIME, "sw_power_cap"): 0.25 * (3 + AGES),
    (activity.THROTTLE_TIME, "hw_thermal"): 0.125 * (3 + AGES),
    (activity.THROTTLE_TIME, "sw_thermal"): 0,
    (activity.THROTTLE_TIME, "hw_power_brake"): 0,
    (activity.THROTTLE_TIME, "sync_boost"): 0,
    **{(activity.THROTTLE_TIME, cause): 0 for cause in ("board_limit", "reliability", "low_utilization")},
    (activity.PROCESS_MEMORY, "tree"): 0,
    # These may wrap, so the source counts them itself, from the first look on.
    (links.IO, "receive"): 1e9 * (3 + AGES),
    (links.IO, "transmit"): 2e9 * (3 + AGES),
    (links.NVLINK_IO, "receive"): 3e9 * (3 + AGES),
    (links.NVLINK_IO, "transmit"): 4e9 * (3 + AGES),
    (links.NVLINK_ACTIVE,): 18,
    (links.NVLINK_LIMIT,): 18,
    **{(links.NVLINK_ERRORS, kind): 0 for kind in ("crc", "replay", "recovery")},
    (links.PCIE_GENERATION,): 5,
    (links.PCIE_GENERATION_LIMIT,): 5,
    (links.PCIE_WIDTH,): 16,
    (links.PCIE_WIDTH_LIMIT,): 16,
    **{(links.PCIE_ERRORS, kind): 0 for kind in ("replay", "correctable", "non_fatal", "fatal")},
    (health.STATUS, "ok"): 1,
    **{(health.STATUS, state): 0 for state in ("degraded", "failed", "predicted_failure")},
    (health.ERRORS, "corrected"): 0,
    (health.ERRORS, "uncorrected"): 0,
    (health.REMAPPED_ROWS, "corrected"): 0,
    (health.REMAPPED_ROWS, "uncorrected"): 0,
    (health.REMAP_PENDING,): 0,
    (health.REMAP_FAILED,): 0,
    (health.RECOVERY_ACTION,): 0,
}
"""Everything that a GPU with everything tells, by metric and the attributes that tell its series apart."""


def test_every_value_is_exact_and_in_si_units() -> None:
    """Percent are ratios, milliwatts watts, KiB bytes, megahertz hertz, nanoseconds seconds; no series more or less."""
    with opened(BUSY) as machine:
        machine.looks(4)
        batch = machine.look(AGES)
    assert values(batch) == pytest.approx(EXPECTED, rel=1e-8)
    assert batch.lost == {}


def test_idle_is_a_reading() -> None:
    """0 is no sentinel."""
    idle = FakeGpu(power=0, energy_offset=0, memory_used=0, temperature=0)
    with opened(idle) as machine:
        machine.looks(3)
        found = values(machine.look(1))
    assert found[rows.UTILIZATION, "general"] == found[rows.MEMORY_USAGE,] == found[rows.TEMPERATURE, "gpu"] == 0
    assert found[rows.ENERGY, "counter"] == found[activity.SM_ACTIVITY,] == 0


WITHOUT: dict[str, tuple[dict[str, Any], set[tuple[object, ...]]]] = {
    "gpm": ({"gpm": False}, {(activity.SM_ACTIVITY,), (activity.TENSOR_ACTIVITY,), (activity.GRAPHICS_ACTIVITY,)}),
    "memory sensor": ({"unsupported_fields": ("NVML_FI_DEV_MEMORY_TEMP",)}, {(rows.TEMPERATURE, "memory")}),
    "ECC": ({"ecc": False}, {(health.ERRORS, "corrected"), (health.ERRORS, "uncorrected")}),
    "NVLink": ({"nvlinks": 0}, {(links.NVLINK_IO, "receive"), (links.NVLINK_ACTIVE,), (links.NVLINK_ERRORS, "crc")}),
    "fans": ({"fans": 0}, {(rows.FAN_SPEED_RATIO, "0")}),
    "row remapping": ({"row_remapping": False}, {(health.REMAPPED_ROWS, "corrected"), (health.REMAP_FAILED,)}),
}


@pytest.mark.parametrize("what", WITHOUT)
def test_what_a_board_has_not_is_absent(what: str) -> None:
    """Neither 0 nor lost; the rest is there."""
    lacking, missing = WITHOUT[what]
    with opened(dataclasses.replace(BUSY, **lacking)) as machine:
        machine.looks(4)
        batch = machine.look(AGES)
    found = values(batch)
    assert missing.isdisjoint(found)
    assert {key[0] for key in set(EXPECTED) - set(found)} <= {key[0] for key in missing} | MAY_GO_WITH
    assert batch.lost == {}


MAY_GO_WITH = {
    *(activity.SM_OCCUPANCY, activity.DRAM_ACTIVITY, activity.FP_ACTIVITY, rows.FAN_SPEED),
    *(links.NVLINK_LIMIT, health.REMAP_PENDING),
}
"""What else is the same part's."""


def test_pages_that_were_retired_stand_in_for_rows() -> None:
    """Boards with ECC before Ampere count pages."""
    old = dataclasses.replace(
        BUSY,
        row_remapping=False,
        page_retirement=True,
        retired_single_bit=3,
        retired_double_bit=1,
        retired_pending=1,
    )
    with opened(old) as machine:
        machine.look()
        found = values(machine.look(1))
    assert found[health.REMAPPED_ROWS, "corrected"] == 3
    assert found[health.REMAPPED_ROWS, "uncorrected"] == 1
    assert found[health.REMAP_PENDING,] == 1
    assert (health.REMAP_FAILED,) not in found


# Links.


def test_nvlink_5_counts_bytes_by_link() -> None:
    """Blackwell has other fields: the sum over all links is told under the same name."""
    with opened(dataclasses.replace(BUSY, nvlink_generation=5)) as machine:
        machine.looks(2, every=0)
        found = values(machine.look(10))
    assert found[links.NVLINK_IO, "receive"] == pytest.approx(3e10, rel=1e-6)
    assert found[links.NVLINK_IO, "transmit"] == pytest.approx(4e10, rel=1e-6)


def test_links_that_are_down_are_not_active() -> None:
    """Of 18 links three are down."""
    with opened(dataclasses.replace(BUSY, nvlinks_down=(0, 4, 17))) as machine:
        found = values(machine.look())
    assert (found[links.NVLINK_ACTIVE,], found[links.NVLINK_LIMIT,]) == (15, 18)


@pytest.mark.parametrize(("bits", "exact"), [(64, True), (32, False)])
def test_a_pcie_counter_that_wraps_too_fast_is_not_guessed_at(bits: int, exact: bool) -> None:  # noqa: FBT001
    """At PCIe's speed 32 bits wrap many times a second: then the rate is that of GPM, and no bytes are told."""
    accumulator = Accumulator()
    with opened(dataclasses.replace(BUSY, pcie_counter_bits=bits)) as machine:
        first = accumulator.sample(machine.look().readings, 50, 0)
        for second in range(1, 5):
            latest = accumulator.sample(machine.look(1).readings, 50 + second, 0)
        assert bool(latest.points.keys() & {series for series in latest.points if series.metric is links.IO}) is exact
    rates = {reading.attributes[links.DIRECTION]: reading.value for reading in between(first, latest).of(links.IO_RATE)}
    assert rates == {"receive": pytest.approx(1e9, rel=1e-3), "transmit": pytest.approx(2e9, rel=1e-3)}


# The driver's ring.


def test_utilization_is_that_of_the_whole_time_with_its_peak() -> None:
    """A burst between two looks is in the mean, and is the peak."""
    burst = dataclasses.replace(BUSY, utilization=[(0, 0.1), (1.5, 0.1), (1.5, 0.9), (2, 0.9), (2, 0.1)])
    accumulator = Accumulator()
    with opened(burst) as machine:
        first = accumulator.sample(machine.look().readings, 50, 0)
        for second in range(1, 4):
            latest = accumulator.sample(machine.look(1).readings, 50 + second, 0)
    snapshot = between(first, latest)
    mean = {reading.attributes["hw.gpu.task"]: reading.value for reading in snapshot.of(rows.UTILIZATION)}
    (peak,) = (
        reading for reading in snapshot.of(rows.UTILIZATION_PEAK) if reading.attributes["hw.gpu.task"] == "general"
    )
    assert mean["general"] == pytest.approx((2.5 * 0.1 + 0.5 * 0.9) / 3, abs=0.01)
    assert peak.value == pytest.approx(0.9)


def test_what_the_ring_held_before_the_start_is_not_told() -> None:
    """A job that begins on a GPU that was busy until then does not inherit its history."""
    quiet = dataclasses.replace(BUSY, utilization=[(0, 1.0), (10, 1.0), (10, 0.0)])
    with opened(quiet) as machine:
        machine.clock.advance(10)
        machine.look()
        for batch in machine.looks(5):
            assert values(batch)[rows.UTILIZATION, "general"] == 0


def test_an_idle_gpu_s_empty_ring_is_no_gap() -> None:
    """Where the driver stops filling it, the figure of the moment stands in, and the ring takes over again."""
    pausing = dataclasses.replace(
        BUSY, utilization=[(0, 0.8), (3, 0.8), (3, 0.0), (60, 0.0), (60, 0.8)], idle_ring_is_empty=True
    )
    with opened(pausing) as machine:
        told = [values(batch)[rows.UTILIZATION, "general"] for batch in machine.looks(80)]
    assert told[4:58] == [0] * 54
    assert told[62:] == [pytest.approx(0.8)] * 18


def test_places_of_the_ring_that_were_never_filled_are_no_samples() -> None:
    """Timestamps of 0 and figures beyond the whole are dropped."""
    with opened(BUSY) as machine:
        machine.looks(2)
        kind = pynvml.NVML_GPU_UTILIZATION_SAMPLES
        now = int(machine.clock.monotonic() * 1e6) + 1000
        for timestamp, value in ((0, 3), (now, 101), (now + 1, 2**32 - 1)):
            machine.nvml.inject_sample(kind, timestamp, value)
        batch = machine.look(1)
        assert values(batch)[rows.UTILIZATION, "general"] == pytest.approx(0.87)
        assert values(batch)[rows.UTILIZATION_PEAK, "general"] == pytest.approx(0.87)


def test_looks_in_quick_succession_lose_nothing() -> None:
    """An export may ask 20 ms after a regular sample."""
    accumulator = Accumulator()
    with opened(BUSY) as machine:
        first = accumulator.sample(machine.look().readings, 50, 0)
        at = 50.0
        for step in (0.98, 0.02) * 6:
            at += step
            latest = accumulator.sample(machine.look(step).readings, at, 0)
    snapshot = between(first, latest)
    assert [reading.value for reading in snapshot.of(activity.SM_ACTIVITY)] == [pytest.approx(0.8)]
    general = [r.value for r in snapshot.of(rows.UTILIZATION) if r.attributes["hw.gpu.task"] == "general"]
    assert general == [pytest.approx(0.87)]


# Processes.

ME = os.getpid()


def tree(folder: Path, parents: dict[int, int], *, host: bool) -> Ours:
    """A /proc with these processes; this one is the root of the job."""
    for pid, parent in parents.items():
        (folder / str(pid)).mkdir()
        (folder / str(pid) / "stat").write_text(f"{pid} (a) b) S {parent} 0 0")
    (folder / "self" / "ns").mkdir(parents=True)
    (folder / "self" / "ns" / "pid").write_text("")
    ours = Ours(str(folder), 100)
    ours.can_tell = host
    return ours


PROCESSES = [
    FakeProcess(pid=100, memory=10 * GIB, sm_utilization=0.3),
    FakeProcess(pid=101, memory=2 * GIB, sm_utilization=0.1),
    FakeProcess(pid=102, memory=1 * GIB),
    FakeProcess(pid=900, memory=5 * GIB, sm_utilization=0.5),
]
PARENTS = {100: 1, 101: 100, 102: 101, 900: 1}


@pytest.mark.parametrize(
    ("host", "scope", "memory", "time"), [(True, "tree", 13 * GIB, 0.4), (False, "device", 18 * GIB, 0.9)]
)
def test_the_job_s_own_part_of_a_gpu(
    tmp_path: Path,
    host: bool,  # noqa: FBT001 - a row of the table
    scope: str,
    memory: int,
    time: float,
) -> None:
    """This process and what it started; in a container's own numbering everybody, and it says so."""
    gpu = dataclasses.replace(BUSY, processes=PROCESSES)
    with opened(gpu, ours=tree(tmp_path, PARENTS, host=host)) as machine:
        machine.looks(40)
        found = values(machine.look(40))
    assert found[activity.PROCESS_MEMORY, scope] == memory
    assert found[activity.PROCESS_SM, scope] == pytest.approx(time)
    other = "tree" if scope == "device" else "device"
    assert (activity.PROCESS_MEMORY, other) not in found


def test_memory_that_the_driver_does_not_know_is_absent(tmp_path: Path) -> None:
    """All ones is no size, and a part is not the sum."""
    gpu = dataclasses.replace(BUSY, processes=[FakeProcess(pid=100, memory=None), FakeProcess(pid=101, memory=GIB)])
    with opened(gpu, ours=tree(tmp_path, PARENTS, host=True)) as machine:
        assert activity.PROCESS_MEMORY not in metrics(machine.look())


def test_a_container_that_hides_processes_is_no_evidence_of_none(tmp_path: Path) -> None:
    """An empty list there says nothing."""
    with opened(BUSY, ours=tree(tmp_path, PARENTS, host=False)) as machine:
        assert activity.PROCESS_MEMORY not in metrics(machine.look())


def test_which_processes_are_ours_on_this_machine() -> None:
    """This one is, its parent is not, and nobody is who does not exist."""
    ours = Ours()
    assert ME in ours
    assert os.getppid() not in ours
    assert 2**22 + 1 not in ours


# MIG.

DIVIDED = dataclasses.replace(
    BUSY,
    name="NVIDIA H100 80GB HBM3",
    mig=[
        FakeMig(profile="1g.10gb", uuid="MIG-one", memory_total=10 * GIB, memory_used=4 * GIB, sm_activity=0.5),
        FakeMig(profile="2g.20gb", uuid="MIG-two", memory_total=20 * GIB, memory_used=GIB, sm_activity=0.25),
    ],
)


def of_device(batch: Any, uuid: str) -> dict[Any, float]:
    """What a look told of one device, by metric."""
    return {reading.metric: reading.value for reading in batch.readings if reading.attributes["hw.id"] == uuid}


def test_each_mig_instance_is_a_device() -> None:
    """With its own UUID, its GPU as parent, its memory and its activity; what NVML cannot give of a part is absent."""
    with opened(DIVIDED) as machine:
        machine.looks(4)
        batch = machine.look(2)
        whole = machine.nvml.gpus[0].uuid
    for uuid, total, used, sm in (("MIG-one", 10 * GIB, 4 * GIB, 0.5), ("MIG-two", 20 * GIB, GIB, 0.25)):
        found = of_device(batch, uuid)
        assert (found[rows.MEMORY_LIMIT], found[rows.MEMORY_USAGE]) == (total, used)
        assert found[activity.SM_ACTIVITY] == pytest.approx(sm)
        assert not {rows.UTILIZATION, rows.ENERGY, rows.TEMPERATURE, rows.POWER_LIMIT, health.STATUS} & set(found)
        (parent,) = {
            reading.attributes["hw.parent"] for reading in batch.readings if reading.attributes["hw.id"] == uuid
        }
        assert parent == whole
    assert rows.ENERGY in of_device(batch, whole)
    assert batch.lost == {}


@pytest.mark.parametrize(
    ("setting", "seen"),
    [("MIG-two", {"MIG-two"}), ("MIG-one,MIG-two", {"MIG-one", "MIG-two"}), ("0", {"MIG-one", "MIG-two"})],
)
def test_only_the_job_s_own_instances_are_reported(setting: str, seen: set[str]) -> None:
    """And the GPU that they are on, whose power and heat they share."""
    with opened(DIVIDED, visible="visible", environ={"CUDA_VISIBLE_DEVICES": setting}) as machine:
        batch = machine.look()
        whole = machine.nvml.gpus[0].uuid
    devices = {str(reading.attributes["hw.id"]).split("/")[0] for reading in batch.readings}
    assert devices == {whole, *seen}


# Unified memory.


def test_a_gpu_without_memory_of_its_own_has_everything_else() -> None:
    """On GB10 and Tegra NVML says that memory is not supported: absent, not 0, and asked once."""
    unified = dataclasses.replace(
        BUSY, unsupported=("nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetBAR1MemoryInfo")
    )
    with opened(unified) as machine:
        machine.looks(4)
        found = metrics(machine.look(1))
        assert machine.nvml.calls["nvmlDeviceGetMemoryInfo", 0] == 1
    assert not {rows.MEMORY_USAGE, rows.MEMORY_LIMIT, rows.MEMORY_FREE, rows.BAR1_USAGE} & found
    assert {rows.ENERGY, rows.UTILIZATION, activity.SM_ACTIVITY} <= found


def test_a_part_that_goes_does_not_take_the_others_along() -> None:
    """Of a field of many scopes the sum of those that answer is told; one that refuses is not asked for again."""
    with opened(BUSY) as machine:
        gpu = machine.source._boards[0].gpu
        fields = Fields(gpu, Bench(gpu, ()), [HALF])
        batch = Batch()
        fields.read_into(batch, machine.clock.monotonic)
        fields.read_into(batch, machine.clock.monotonic)
    assert [reading.value for reading in batch.readings] == [1, 1]
    assert batch.lost == {}


HALF = Field(
    "NVML_FI_DEV_NVLINK_GET_STATE",
    links.NVLINK_ACTIVE,
    lambda gpu: gpu.series(links.NVLINK_ACTIVE),
    lambda value: value,
    scopes=lambda _: (0, 99),  # there is no link 99
)
"""A field of which one scope is known."""


def test_links_are_counted_later_where_the_driver_could_not_say_at_first() -> None:
    """An error that passes is not taken for a board without links."""
    clock = ManualClock()
    nvml = FakeNvml([BUSY], clock=clock)
    nvml.fail_field(pynvml.NVML_FI_DEV_NVLINK_LINK_COUNT, "NVML_ERROR_UNKNOWN", until=2)
    with nvml:
        source = NvidiaSource("all", {}, clock.monotonic)
        source.open()
        for _ in range(20):
            clock.advance(1)
            batch = source.read()
        source.close()
    assert values(batch)[links.NVLINK_ACTIVE,] == 18


def test_a_ring_that_is_too_short_for_the_window_tells_of_its_own_length() -> None:
    """With exports a minute apart and nothing in between, 17 seconds are known, and said to be that."""
    with opened(BUSY) as machine:
        machine.looks(3)
        (mean,) = (
            reading
            for reading in machine.look(60).readings
            if reading.metric is rows.UTILIZATION and reading.attributes["hw.gpu.task"] == "general"
        )
    assert mean.since is not None
    assert mean.at - mean.since == pytest.approx(99 / 6, abs=0.2)


def test_all_ones_are_no_count() -> None:
    """What a device that is gone answers on its bus."""
    board = dataclasses.replace(BUSY, fields={"NVML_FI_DEV_PCIE_REPLAY_COUNTER": 2**32 - 1})
    with opened(board) as machine:
        batch = machine.look()
    assert (links.PCIE_ERRORS, "replay") not in values(batch)
    assert batch.lost["ValueError"] >= 1


def test_a_counter_that_dips_for_a_moment_draws_no_megawatts() -> None:
    """Energy that reads 0 once is garbage, and the watts after it are those before it."""
    accumulator = Accumulator()
    with opened(BUSY) as machine:
        watts = []
        previous = accumulator.sample(machine.look().readings, 50, 0)
        for second in range(1, 8):
            batch = machine.look(1)
            if second == 3:
                machine.nvml.fail_field(pynvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION, "NVML_ERROR_UNKNOWN")
            if second == 4:
                machine.nvml.recover()
            latest = accumulator.sample(batch.readings, 50 + second, 0)
            watts += [reading.value for reading in between(previous, latest).of(rows.POWER)]
            previous = latest
    assert watts
    assert max(watts) <= 613


def test_margin_of_a_board_before_ada_with_an_older_driver() -> None:
    """From the threshold and the older temperature call."""
    clock = ManualClock()
    nvml = FakeNvml([dataclasses.replace(BUSY, unsupported=("nvmlDeviceGetMarginTemperature",))], clock=clock)
    nvml.missing("nvmlDeviceGetTemperatureV")
    with nvml:
        source = NvidiaSource("all", {}, clock.monotonic)
        source.open()
        found = values(source.read())
        source.close()
    assert found[rows.TEMPERATURE_MARGIN,] == 89 - 66


def test_a_process_in_a_container_that_sees_the_host_s_numbers_finds_its_own(tmp_path: Path) -> None:
    """Where the host's /proc was passed into the container, NSpid tells the host's number of this very process."""
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "status").write_text("Name:\tpython\nNSpid:\t100\t7\n")
    ours = Ours(str(tmp_path))
    assert ours.can_tell
    assert 100 in ours
    assert 7 not in ours
