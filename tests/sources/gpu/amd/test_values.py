# SPDX-License-Identifier: Apache-2.0
"""What is told of an AMD GPU, by the library of each release and by the files, to the last digit."""

from __future__ import annotations

from pathlib import Path

import pytest

from otel_hwmetrics.catalog import gpu as rows
from otel_hwmetrics.catalog import gpu_activity as activity
from otel_hwmetrics.catalog import gpu_health as health
from otel_hwmetrics.catalog import gpu_links as links
from otel_hwmetrics.model import Metric
from otel_hwmetrics.sources.gpu.amd.readers import READERS
from otel_hwmetrics.testing import ManualClock
from otel_hwmetrics.windows import Accumulator, between
from sources.gpu.amd.machines import ANSWERS, FILES, GIB, RELEASES, Board, Smi, Tree, opened, table, values

NOTHING_HELD = dict.fromkeys(("prochot", "power", "socket_thermal", "vr_thermal", "memory_thermal"), 0.0)

COMMON: dict[Metric, dict[str, float]] = {
    rows.UTILIZATION: {"": 0.87},
    rows.MEMORY_CONTROLLER_UTILIZATION: {"": 0.35},
    rows.MEMORY_LIMIT: {"": 68702699520},
    rows.MEMORY_USAGE: {"": 60000002048},
    rows.MEMORY_FREE: {"": 8702697472},
    rows.ENERGY: {"counter": 1300.0},
    rows.POWER_INSTANT: {"": 280.0},
    rows.POWER_LIMIT: {"": 300.0},
    rows.TEMPERATURE_LIMIT: {
        "edge/throttled": 100,
        "edge/high.critical": 105,
        "junction/throttled": 110,
        "junction/high.critical": 115,
        "memory/throttled": 94,
        "memory/high.critical": 99,
    },
    rows.TEMPERATURE_MARGIN: {"": 38.5},
    activity.CLOCK: {"graphics": 1.2e9, "memory": 1.6e9},
    activity.CLOCK_LIMIT: {"graphics": 1.7e9, "memory": 1.6e9},
    activity.THROTTLE_TIME: NOTHING_HELD,
    rows.FAN_SPEED: {"0": 1850},
    rows.FAN_SPEED_RATIO: {"0": 0.4},
    links.PCIE_GENERATION: {"": 4},
    links.PCIE_GENERATION_LIMIT: {"": 5},
    links.PCIE_WIDTH: {"": 16},
    links.PCIE_WIDTH_LIMIT: {"": 16},
    links.PCIE_ERRORS: {"replay": 3},
    health.ERRORS: {"corrected": 0, "uncorrected": 0, "deferred": 0},  # since the first look
    health.REMAPPED_ROWS: {"uncorrected": 2},
    health.REMAP_PENDING: {"": 0},
    health.REMAP_FAILED: {"": 0},
    health.STATUS: {"ok": 1, "degraded": 0, "failed": 0, "predicted_failure": 0},
}
BY_LIBRARY = COMMON | {rows.TEMPERATURE: {"edge": 61, "junction": 71, "memory": 66}}
BY_FILES = COMMON | {rows.TEMPERATURE: {"edge": 61.0, "junction": 71.5, "memory": 66.0}}


def test_the_table_above_is_all_that_is_read() -> None:
    """No row of the source is left out of what the following tests expect."""
    assert {metric for reader in READERS for metric in reader.metrics} == BY_FILES.keys()


def test_every_row_says_where_it_comes_from() -> None:
    """The reference page has the call of each reader and of each that stands in for it."""
    chain = list(READERS)
    for reader in chain:
        assert reader.call, reader.metrics
        if reader.instead is not None:
            chain.append(reader.instead)


@pytest.mark.parametrize("release", RELEASES)
def test_by_the_library(tmp_path: Path, release: str) -> None:
    """Whatever a release calls its answers, and whichever unit it has, the figures are the same."""
    smi = Smi(answers=RELEASES[release])
    # Deferred errors were not told apart before 6.2.
    before = {health.ERRORS: {"corrected": 0, "uncorrected": 0}}
    expected = BY_LIBRARY | (before if release == "6.0" else {})
    clock = ManualClock(start=50.0)
    with opened(Tree(tmp_path, Board()), smi, clock=clock) as source:
        smi.count_energy(1000.0, release)
        source.read()
        clock.advance(1.0)
        smi.count_energy(1300.0, release)
        batch = source.read()
    assert {metric: values(batch, metric) for metric in expected} == expected
    assert batch.lost == {}


def test_by_files(tmp_path: Path) -> None:
    """Without the library the files tell the same."""
    tree, clock = Tree(tmp_path, Board()), ManualClock(start=50.0)
    with opened(tree, clock=clock) as source:
        source.read()
        clock.advance(1.0)
        tree.set(gpu_metrics=table(1300.0, cycles=6000, held=(0, 100, 0, 0, 0)))
        batch = source.read()
    assert {metric: values(batch, metric) for metric in BY_FILES} == BY_FILES
    assert batch.lost == {}


def test_a_series_is_made_once(tmp_path: Path) -> None:
    """A reading costs a tuple: its series are the same objects at every look, and no series is told twice."""
    with opened(Tree(tmp_path, Board()), Smi()) as source:
        first, second = ([reading.series for reading in source.read().readings] for _ in range(2))
    assert len(set(first)) == len(first)
    assert all(one is other for one, other in zip(first, second, strict=True))


def test_attributes_are_those_of_the_rows(tmp_path: Path) -> None:
    """A reading carries what its row allows and nothing else, with the GPU's own name."""
    with opened(Tree(tmp_path, Board()), Smi()) as source:
        batch = source.read()
    for reading in batch.readings:
        assert set(reading.attributes) <= set(reading.metric.attributes), reading
        assert reading.attributes["hw.vendor"] == "AMD"
        assert reading.attributes["hw.model"] == "AMD Instinct MI210"
        assert reading.attributes["hw.driver_version"] == "6.14.14"
        parent = reading.attributes.get("hw.parent", reading.attributes["hw.id"])
        assert parent == "4eff740f-0000-1000-80a0-d5f3c0f0ffff"


def test_one_question_a_look(tmp_path: Path) -> None:
    """Figures of one answer share it, and what changes slowly is asked rarely: nine calls a second in steady state."""
    smi, clock = Smi(), ManualClock(start=50.0)
    with opened(Tree(tmp_path, Board()), smi, clock=clock) as source:
        source.read()
        smi.calls.clear()
        for _ in range(60):
            clock.advance(1.0)
            source.read()
    assert smi.calls["amdsmi_get_gpu_activity"] == 60
    assert smi.calls["amdsmi_get_gpu_memory_total"] == 0
    assert smi.calls["amdsmi_get_clock_info"] == 12  # two kinds, every 10 s
    assert smi.calls["amdsmi_get_gpu_total_ecc_count"] == 2
    assert sum(smi.calls.values()) < 9 * 60


@pytest.mark.parametrize("power", [0.0, 250.0])
def test_power_follows_from_energy(tmp_path: Path, power: float) -> None:
    """What is exported as power is the mean over the window, whichever way the energy was had."""
    smi, clock, accumulator = Smi(), ManualClock(start=50.0), Accumulator()
    smi.count_energy(5.0)
    with opened(Tree(tmp_path, Board()), smi, clock=clock) as source:
        samples = []
        for second in range(4):
            smi.count_energy(6.0 + second * (power or 0.001))
            samples.append(accumulator.sample(source.read().readings, clock.monotonic(), 0))
            clock.advance(1.0)
    (reading,) = between(samples[1], samples[3]).of(rows.POWER)
    assert reading.value == pytest.approx(power, abs=0.002)


def test_throttling_is_a_share_of_the_firmwares_cycles(tmp_path: Path) -> None:
    """However long the firmware's cycle is: 250 of 1000 cycles in two seconds are half a second."""
    tree, clock = Tree(tmp_path, Board()), ManualClock(start=50.0)
    with opened(tree, clock=clock) as source:
        source.read()
        clock.advance(2.0)
        tree.set(gpu_metrics=table(1300.0, cycles=6000, held=(0, 350, 0, 1000, 2**32 - 1)))
        told = values(source.read(), activity.THROTTLE_TIME)
    assert told == {"prochot": 0.0, "power": 0.5, "socket_thermal": 0.0, "vr_thermal": 2.0}


SWITCH = ("0000:01:00.0", "0x1002"), ("0000:02:00.0", "0x1002")


def test_the_link_is_that_of_the_slot(tmp_path: Path) -> None:
    """A GPU behind a switch of its own: its inner link is always at its best, the slot's is not."""
    board = Board(above=(("0000:00:01.1", "0x1022"), *SWITCH))
    tree = Tree(tmp_path, board)
    top = tree.devices[0].parent.parent
    speeds = {"current_link_speed": b"8.0 GT/s PCIe\n", "current_link_width": b"8\n"}
    Tree.write(top, speeds | {"max_link_speed": b"16.0 GT/s PCIe\n", "max_link_width": b"16\n"})
    Tree.write(top.parent, {"max_link_speed": b"8.0 GT/s PCIe\n", "max_link_width": b"8\n"})
    with opened(tree) as source:
        batch = source.read()
    told = (links.PCIE_GENERATION, links.PCIE_WIDTH, links.PCIE_GENERATION_LIMIT, links.PCIE_WIDTH_LIMIT)
    assert [values(batch, metric)[""] for metric in told] == [3, 8, 3, 8]


@pytest.mark.parametrize(
    ("pages", "state"),
    [
        (b"", "ok"),
        (b"0x1 : 0x1000 : R\n", "ok"),
        (b"0x1 : 0x1000 : R\n0x2 : 0x1000 : P\n", "predicted_failure"),
        (b"0x1 : 0x1000 : P\n0x2 : 0x1000 : F\n", "degraded"),
    ],
)
def test_memory_that_goes_bad_shows_in_the_status(tmp_path: Path, pages: bytes, state: str) -> None:
    """Pages that wait to be taken out foretell a failure; pages that cannot be taken out are one in part."""
    board = Board(files=FILES | {"ras/gpu_vram_bad_pages": pages})
    with opened(Tree(tmp_path, board)) as source:
        status = values(source.read(), health.STATUS)
    assert [name for name, value in status.items() if value] == [state]


def test_a_gpu_with_less_tells_less(tmp_path: Path) -> None:
    """A consumer card: no serial number, no ECC, no energy; its power is of the moment, and summed up here."""
    gone = ("unique_id", "product_name", "gpu_metrics", "ras/", "hwmon/hwmon4/temp3", "hwmon/hwmon4/power1_average")
    files = {name: content for name, content in FILES.items() if not name.startswith(gone)}
    files["hwmon/hwmon4/power1_input"] = b"100000000\n"
    tree, clock = Tree(tmp_path, Board(files=files)), ManualClock(start=50.0)
    (tmp_path / "amdgpu.ids").write_text("1.0.0\n740F,\t01,\tAnother\n740F,\t02,\tAMD Radeon, a test\n")
    with opened(tree, clock=clock) as source:
        source.read()
        clock.advance(2.0)
        tree.set(power1_input=b"200000000\n")
        batch = source.read()
    assert values(batch, rows.ENERGY) == {"integrated": 300.0}
    assert values(batch, rows.POWER_INSTANT) == {"": 200.0}
    assert set(values(batch, rows.TEMPERATURE)) == {"edge", "junction"}
    assert not values(batch, health.ERRORS)
    assert not values(batch, activity.THROTTLE_TIME)
    assert {reading.attributes["hw.model"] for reading in batch.readings} == {"AMD Radeon, a test"}
    assert {str(reading.attributes["hw.id"]).split("/")[0] for reading in batch.readings} == {"PCI-0000:03:00.0"}
    assert batch.lost == {}


def test_power_of_microwatts_and_of_watts(tmp_path: Path) -> None:
    """Releases differ in the unit; no GPU is so large or so small that one could be taken for the other."""
    smi, clock = Smi(), ManualClock()
    with opened(Tree(tmp_path, Board(files={"vendor": b"0x1002\n"})), smi, clock=clock) as source:
        for cap, power in ((300, 280), (300_000_000, 280_000_000), (750_000_000, 9), (65_000_000, 0)):
            smi.answer("amdsmi_get_power_cap_info", {"power_cap": cap})
            smi.answer("amdsmi_get_power_info", {"average_socket_power": power})
            clock.advance(11.0)
            batch = source.read()
            assert values(batch, rows.POWER_LIMIT)[""] == (cap if cap <= 10_000 else cap / 1e6)
            assert values(batch, rows.POWER_INSTANT)[""] == (power if power <= 10_000 else power / 1e6)


def test_the_librarys_rounded_unit_is_the_firmwares(tmp_path: Path) -> None:
    """15.3 µJ is 2^-16 J to the library; another unit is taken as it is told."""
    smi, clock = Smi(), ManualClock()
    with opened(Tree(tmp_path, Board()), smi, clock=clock) as source:
        for ticks, resolution, expected in ((1 << 20, 15.3, None), (2 << 20, 15.259, 32.0), (3 << 20, 1.0, 3.145728)):
            smi.answer("amdsmi_get_energy_count", {"energy_accumulator": ticks, "counter_resolution": resolution})
            clock.advance(1.0)
            told = values(source.read(), rows.ENERGY)
            assert told == ({} if expected is None else {"counter": pytest.approx(expected)})


def test_memory_of_an_apu_without_its_own(tmp_path: Path) -> None:
    """A size of 0 means that there is none: nothing is told of it, and it is not asked again."""
    smi = Smi(answers=ANSWERS | {"amdsmi_get_gpu_memory_total": lambda _: 0})
    board = Board(files=FILES | {"mem_info_vram_total": b"0\n"})
    with opened(Tree(tmp_path, board), smi) as source:
        for _ in range(3):
            batch = source.read()
    assert not values(batch, rows.MEMORY_LIMIT)
    assert batch.lost == {}
    assert smi.calls["amdsmi_get_gpu_memory_total"] == 1


def test_eight_gpus(tmp_path: Path) -> None:
    """Each tells its own: names, indices and values do not mix."""
    boards = [
        Board(f"0000:{10 * number + 3:02x}:00.0", FILES | {"unique_id": f"{number + 1:016x}\n".encode()})
        for number in range(8)
    ]
    for number, board in enumerate(boards):
        board.files["mem_info_vram_used"] = f"{number * GIB}\n".encode()
    with opened(Tree(tmp_path, *boards)) as source:
        batch = source.read()
    assert [values(batch, rows.MEMORY_USAGE, index)[""] for index in range(8)] == [each * GIB for each in range(8)]
    ids = {
        r.attributes["hwmetrics.gpu.index"]: r.attributes["hw.id"] for r in batch.readings if "hw.type" in r.attributes
    }
    assert ids == {index: f"GPU-{index + 1:016x}" for index in range(8)}
