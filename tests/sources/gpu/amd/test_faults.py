# SPDX-License-Identifier: Apache-2.0
"""Every function and every file, and every way in which it can refuse: its own metric is missing, and it comes back."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from otel_hwmetrics.catalog import gpu as rows
from otel_hwmetrics.catalog import gpu_activity as activity
from otel_hwmetrics.catalog import gpu_health as health
from otel_hwmetrics.catalog import gpu_links as links
from otel_hwmetrics.model import Metric
from otel_hwmetrics.sources.base import Batch
from otel_hwmetrics.sources.gpu.amd import AmdSource
from otel_hwmetrics.sources.linux.files import KernelFile
from otel_hwmetrics.testing import ManualClock
from sources.gpu.amd.machines import FILES, FOR_NOW, FOREVER, Board, Smi, Tree, names, opened, table, values

MEMORY = (rows.MEMORY_USAGE, rows.MEMORY_LIMIT, rows.MEMORY_FREE)

FUNCTIONS: dict[str, tuple[Metric, ...]] = {
    "amdsmi_get_gpu_activity": (rows.UTILIZATION, rows.MEMORY_CONTROLLER_UTILIZATION),
    "amdsmi_get_gpu_memory_usage": MEMORY,
    "amdsmi_get_power_info": (rows.POWER_INSTANT,),
    "amdsmi_get_power_cap_info": (rows.POWER_LIMIT,),
    "amdsmi_get_energy_count": (rows.ENERGY,),
    "amdsmi_get_temp_metric": (rows.TEMPERATURE, rows.TEMPERATURE_LIMIT),
    "amdsmi_get_clock_info": (activity.CLOCK, activity.CLOCK_LIMIT),
    "amdsmi_get_gpu_fan_rpms": (rows.FAN_SPEED,),
    "amdsmi_get_gpu_fan_speed": (rows.FAN_SPEED_RATIO,),
    "amdsmi_get_gpu_total_ecc_count": (health.ERRORS,),
}
"""What a look asks the library for, and what is missing where it does not answer and there is no file."""

OF_THE_LIBRARY = {metric.name for metrics in FUNCTIONS.values() for metric in metrics}
BARE = {"vendor": b"0x1002\n"}

PERIOD = 400.0
"""Seconds in which every reader, the slowest too, has its turn."""


@pytest.fixture(autouse=True)
def _as_in_sysfs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A descriptor of a file of /sys that is gone is refused; on a disk it would live on."""
    genuine = KernelFile.read

    def read(self: KernelFile) -> bytes:
        try:
            same = self._descriptor < 0 or os.path.samestat(os.fstat(self._descriptor), os.stat(self.path))
        except FileNotFoundError:
            same = False
        if not same:
            self.close()
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), self.path)
        return genuine(self)

    monkeypatch.setattr(KernelFile, "read", read)


class Story:
    """Look after look at one GPU whose energy counter counts."""

    def __init__(self, source: AmdSource, clock: ManualClock, tick: Callable[[float], None]) -> None:
        self.source, self.clock, self.tick = source, clock, tick
        self.energy = 1000.0

    def look(self) -> Batch:
        """One look, in which everything is due."""
        self.clock.advance(PERIOD)
        self.energy += 100.0
        self.tick(self.energy)
        return self.source.read()

    def told(self) -> set[str]:
        """The names of what a look tells."""
        return names(self.look())


def by_library(source: AmdSource, clock: ManualClock, smi: Smi) -> Story:
    """A story told by the library."""

    def tick(joules: float) -> None:
        if "amdsmi_get_energy_count" not in smi.held:
            smi.count_energy(joules)

    return Story(source, clock, tick)


def by_files(source: AmdSource, clock: ManualClock, tree: Tree) -> Story:
    """A story told by the files."""

    def tick(joules: float) -> None:
        path = tree.devices[0] / "gpu_metrics"
        if path.is_file() and path.stat().st_size == len(FILES["gpu_metrics"]):
            path.write_bytes(table(joules, cycles=round(joules)))

    return Story(source, clock, tick)


def without(names_: set[str], *metrics: Metric) -> set[str]:
    """Without these metrics."""
    return names_ - {metric.name for metric in metrics}


def test_the_functions_above_are_those_of_a_look(tmp_path: Path) -> None:
    """The table that the following tests walk is what a look asks, no more and no less."""
    smi, clock = Smi(), ManualClock()
    with opened(Tree(tmp_path, Board(files=dict(BARE))), smi, clock=clock) as source:
        story = by_library(source, clock, smi)
        story.look()
        smi.calls.clear()
        assert story.told() == OF_THE_LIBRARY
        assert smi.calls.keys() == FUNCTIONS.keys()


@pytest.mark.parametrize("error", FOREVER, ids=("not supported", "not implemented", "no symbol"))
@pytest.mark.parametrize("function", FUNCTIONS)
def test_what_is_not_supported_is_asked_once(tmp_path: Path, function: str, error: Callable[[], Exception]) -> None:
    """Its metrics are absent, not lost, and not asked for again; energy is then summed up of power."""
    smi, clock = Smi(), ManualClock()
    smi.fail(function, error)
    with opened(Tree(tmp_path, Board(files=dict(BARE))), smi, clock=clock) as source:
        story = by_library(source, clock, smi)
        story.look()
        asked = smi.calls[function]
        for _ in range(3):
            batch = story.look()
            expected = (
                OF_THE_LIBRARY
                if function == "amdsmi_get_energy_count"
                else without(OF_THE_LIBRARY, *FUNCTIONS[function])
            )
            assert names(batch) == expected
            assert batch.lost == {}
        smi.recover()
        story.look()
        assert smi.calls[function] == asked


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_release_without_a_function(tmp_path: Path, function: str) -> None:
    """A function that the release has not got is not supported, and no fault."""
    smi, clock = Smi(), ManualClock()
    delattr(smi, function)
    with opened(Tree(tmp_path, Board(files=dict(BARE))), smi, clock=clock) as source:
        story = by_library(source, clock, smi)
        story.look()
        batch = story.look()
    assert OF_THE_LIBRARY - names(batch) == {metric.name for metric in FUNCTIONS[function] if metric is not rows.ENERGY}
    assert batch.lost == {}


@pytest.mark.parametrize("error", FOR_NOW)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_any_other_error_loses_its_own_metrics_until_it_goes(
    tmp_path: Path, function: str, error: Callable[[], Exception]
) -> None:
    """What fails for now is counted as lost by its error, and is asked at every look until it is well."""
    smi, clock = Smi(), ManualClock()
    with opened(Tree(tmp_path, Board(files=dict(BARE))), smi, clock=clock) as source:
        story = by_library(source, clock, smi)
        story.look()
        story.look()
        smi.fail(function, error)
        for _ in range(2):
            batch = story.look()
            assert names(batch) == without(OF_THE_LIBRARY, *FUNCTIONS[function])
            assert batch.lost.keys() == {type(error()).__name__}
        smi.recover()
        story.look()
        batch = story.look()
        assert names(batch) == OF_THE_LIBRARY
        assert batch.lost == {}


ABSENT: tuple[Any, ...] = ("N/A", "", None, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
GARBAGE: tuple[Any, ...] = ("eighty", -(2**40), 2**70, float("nan"), float("inf"), True, b"7", [1], 10**30)


def shaped(function: str, value: Any) -> Any:
    """An answer of the function's own shape in which every figure is that."""
    keys = {
        "amdsmi_get_gpu_activity": ("gfx_activity", "umc_activity"),
        "amdsmi_get_power_info": ("current_socket_power", "average_socket_power", "socket_power"),
        "amdsmi_get_power_cap_info": ("power_cap",),
        "amdsmi_get_energy_count": ("energy_accumulator", "counter_resolution"),
        "amdsmi_get_clock_info": ("clk", "max_clk"),
        "amdsmi_get_gpu_total_ecc_count": ("correctable_count", "uncorrectable_count", "deferred_count"),
    }.get(function)
    return value if keys is None else dict.fromkeys(keys, value)


@pytest.mark.parametrize("value", ABSENT, ids=repr)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_no_answer_is_no_reading(tmp_path: Path, function: str, value: Any) -> None:
    """The ways to say that there is none, for now or for good, give no reading and are no loss."""
    smi, clock = Smi(), ManualClock()
    with opened(Tree(tmp_path, Board(files=dict(BARE))), smi, clock=clock) as source:
        story = by_library(source, clock, smi)
        story.look()
        story.look()
        smi.hold(function, shaped(function, value))
        batch = story.look()
        missing = set(FUNCTIONS[function]) - {rows.MEMORY_LIMIT}  # its size was told before
        assert names(batch) == without(OF_THE_LIBRARY, *missing)
        assert batch.lost == {}
        smi.recover()
        story.look()
        assert story.told() == OF_THE_LIBRARY


@pytest.mark.parametrize("value", GARBAGE, ids=repr)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_garbage_is_a_loss_and_no_reading(tmp_path: Path, function: str, value: Any) -> None:
    """What no GPU can mean is counted as lost, loses nothing but its own metrics, and is gone with its cause."""
    smi, clock = Smi(), ManualClock()
    with opened(Tree(tmp_path, Board(files=dict(BARE))), smi, clock=clock) as source:
        story = by_library(source, clock, smi)
        story.look()
        story.look()
        smi.hold(function, shaped(function, value))
        batch = story.look()
        assert names(batch) == without(OF_THE_LIBRARY, *FUNCTIONS[function])
        assert batch.lost.keys() == {"ValueError"}
        smi.recover()
        story.look()
        assert story.told() == OF_THE_LIBRARY


@pytest.mark.parametrize("value", ["no dictionary", None, 7, []], ids=repr)
@pytest.mark.parametrize("function", [name for name in FUNCTIONS if isinstance(shaped(name, 0), Mapping)])
def test_an_answer_of_another_shape(tmp_path: Path, function: str, value: Any) -> None:
    """A release that answers something else loses those metrics, and no more."""
    smi, clock = Smi(), ManualClock()
    with opened(Tree(tmp_path, Board(files=dict(BARE))), smi, clock=clock) as source:
        story = by_library(source, clock, smi)
        story.look()
        story.look()
        smi.hold(function, value)
        batch = story.look()
    assert names(batch) == without(OF_THE_LIBRARY, *FUNCTIONS[function])
    assert batch.lost.keys() == {"ValueError"}


@pytest.mark.parametrize("function", [name for name in FUNCTIONS if isinstance(shaped(name, 0), Mapping)])
def test_an_answer_with_nothing_in_it(tmp_path: Path, function: str) -> None:
    """Keys that another release does not have are absent."""
    smi, clock = Smi(), ManualClock()
    with opened(Tree(tmp_path, Board(files=dict(BARE))), smi, clock=clock) as source:
        story = by_library(source, clock, smi)
        story.look()
        story.look()
        smi.hold(function, {})
        batch = story.look()
    assert names(batch) == without(OF_THE_LIBRARY, *FUNCTIONS[function])
    assert batch.lost == {}


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("how", ["not supported", "N/A"])
def test_files_stand_in_for_the_library(tmp_path: Path, function: str, how: str) -> None:
    """What the library has not got the files have: nothing is missing."""
    smi, clock, tree = Smi(), ManualClock(), Tree(tmp_path, Board())
    if how == "N/A":
        smi.hold(function, shaped(function, "N/A"))
    else:
        smi.fail(function, FOREVER[0])
    with opened(tree, smi, clock=clock) as source:
        story = by_files(source, clock, tree)
        story.look()
        story.look()
        batch = story.look()
        told = names(batch)
    missing = {rows.MEMORY_USAGE.name, rows.MEMORY_FREE.name} if how == "N/A" and function.endswith("usage") else set()
    assert told >= OF_THE_LIBRARY - missing - ({"hw.energy"} if function != "amdsmi_get_energy_count" else set())
    assert batch.lost == {}


# The files.

OF_FILES: dict[str, tuple[Metric, ...]] = {
    "gpu_busy_percent": (rows.UTILIZATION,),
    "mem_busy_percent": (rows.MEMORY_CONTROLLER_UTILIZATION,),
    "mem_info_vram_used": MEMORY,
    "gpu_metrics": (rows.ENERGY, activity.THROTTLE_TIME),
    "pp_dpm_sclk": (activity.CLOCK_LIMIT,),
    "pp_dpm_mclk": (activity.CLOCK_LIMIT,),
    "pcie_replay_count": (links.PCIE_ERRORS,),
    "current_link_speed": (links.PCIE_GENERATION,),
    "current_link_width": (links.PCIE_WIDTH,),
    "max_link_speed": (links.PCIE_GENERATION_LIMIT,),
    "max_link_width": (links.PCIE_WIDTH_LIMIT,),
    "temp1_input": (rows.TEMPERATURE,),
    "temp1_crit": (rows.TEMPERATURE_LIMIT,),
    "temp2_input": (rows.TEMPERATURE, rows.TEMPERATURE_MARGIN),
    "temp3_emergency": (rows.TEMPERATURE_LIMIT,),
    "power1_average": (rows.POWER_INSTANT,),
    "power1_cap": (rows.POWER_LIMIT,),
    "freq1_input": (activity.CLOCK,),
    "fan1_input": (rows.FAN_SPEED,),
    "pwm1": (rows.FAN_SPEED_RATIO,),
    "umc_err_count": (health.ERRORS,),
    "gpu_vram_bad_pages": (health.REMAPPED_ROWS, health.REMAP_PENDING, health.REMAP_FAILED),
    "config": (health.STATUS,),
}
"""The files of a look, and what each of them alone tells, or tells a part of."""


def series(batch: Batch) -> set[str]:
    """The series of a look: with a sensor's limit gone, its other limits are there."""
    return {f"{r.metric.name} {sorted(map(str, r.attributes.items()))}" for r in batch.readings}


def of(metrics: tuple[Metric, ...], told: set[str]) -> set[str]:
    """Those of some metrics."""
    return {each for each in told if each.split(" ")[0] in {metric.name for metric in metrics}}


def _break(path: Path, how: str) -> None:
    if how == "garbage":
        path.write_bytes(b"\xfe\xff\x00rubbish -1 %s\n" * 3)
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "huge":
        path.write_bytes(b"9" * 19 + b"\n")
    elif how == "negative":
        path.write_bytes(b"-9999999999\n")
    elif how == "a folder":
        path.unlink()
        path.mkdir()
    elif how == "gone":
        path.unlink()


def _mend(path: Path, content: bytes) -> None:
    if path.is_dir():
        path.rmdir()
    path.write_bytes(content)


BROKEN = ("garbage", "empty", "huge", "negative", "a folder", "gone")
HARMLESS = {("gpu_vram_bad_pages", "empty"), *(("config", how) for how in ("garbage", "empty", "huge", "negative"))}


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize("name", OF_FILES)
def test_a_file_that_breaks_loses_its_own_metrics_until_it_is_well(tmp_path: Path, name: str, how: str) -> None:
    """Whatever is in a file, or is not: its own metrics are missing, and are there again when it is well."""
    clock, tree = ManualClock(), Tree(tmp_path, Board())
    (path,) = tree.devices[0].rglob(name)
    with opened(tree, clock=clock) as source:
        story = by_files(source, clock, tree)
        story.look()
        whole = series(story.look())
        _break(path, how)
        batch = story.look()
        lost = whole - series(batch)
        if (name, how) not in HARMLESS:
            assert lost, "nothing is missing"
            assert sum(batch.lost.values()) or how == "gone"
        assert lost <= of(OF_FILES[name], whole)
        assert series(batch) <= whole
        if how == "gone" and ("link" in name or name == "config"):
            return  # a device that is there, and has no such file, never had it
        _mend(path, FILES[next(each for each in FILES if each.endswith(name))])
        story.look()
        assert series(story.look()) == whole


@pytest.mark.parametrize("name", OF_FILES)
def test_a_file_that_was_never_there(tmp_path: Path, name: str) -> None:
    """A model without it lacks its own metrics, and loses nothing."""
    files = {each: content for each, content in FILES.items() if not each.endswith(name)}
    clock, tree = ManualClock(), Tree(tmp_path, Board(files=files))
    with opened(tree, clock=clock) as source:
        source.read()
        clock.advance(PERIOD)
        batch = source.read()
    complete = {metric.name for metrics in OF_FILES.values() for metric in metrics} - {rows.ENERGY.name}
    assert complete - names(batch) <= {metric.name for metric in OF_FILES[name]}
    assert batch.lost == {}


@pytest.mark.parametrize("code", [errno.EPERM, errno.EACCES, errno.EIO, errno.EINVAL, errno.ENODATA, errno.ENODEV])
@pytest.mark.parametrize("name", OF_FILES)
def test_a_file_that_the_driver_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: int) -> None:
    """An error of the driver (reset, no permission) is counted as lost, and asked again at the next turn."""
    clock, tree = ManualClock(), Tree(tmp_path, Board())
    with opened(tree, clock=clock) as source:
        story = by_files(source, clock, tree)
        story.look()
        whole = series(story.look())
        with monkeypatch.context() as patched:
            refuse(patched, name, code)
            batch = story.look()
        assert whole - series(batch)
        assert whole - series(batch) <= of(OF_FILES[name], whole)
        assert sum(batch.lost.values()) >= 1
        story.look()
        assert series(story.look()) == whole


@pytest.mark.parametrize("name", [name for name in OF_FILES if name != "config"])
def test_a_file_that_the_driver_does_not_support(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A sensor that is listed and that this model has not got is absent for good, and no loss."""
    clock, tree = ManualClock(), Tree(tmp_path, Board())
    refuse(monkeypatch, name, errno.EOPNOTSUPP)
    with opened(tree, clock=clock) as source:
        story = by_files(source, clock, tree)
        for _ in range(3):
            batch = story.look()
            assert batch.lost == {}
        whole = {metric.name for metrics in OF_FILES.values() for metric in metrics}
        assert whole - names(batch) <= {metric.name for metric in OF_FILES[name]}


def refuse(patched: pytest.MonkeyPatch, name: str, code: int) -> None:
    """Let the kernel refuse files of this name."""
    genuine_open, genuine_read = os.open, KernelFile.read

    def opening(path: str, *arguments: Any, **more: Any) -> int:
        if os.path.basename(path) == name:
            raise OSError(code, os.strerror(code), path)
        return genuine_open(path, *arguments, **more)

    def reading(self: KernelFile) -> bytes:
        if os.path.basename(self.path) == name:
            self.close()
            raise OSError(code, os.strerror(code), self.path)
        return genuine_read(self)

    patched.setattr(os, "open", opening)
    patched.setattr(KernelFile, "read", reading)


# The GPU as a whole.


def test_a_driver_that_is_reloaded(tmp_path: Path) -> None:
    """While it is away nothing is told and nothing is given up; when it is back its sensors have another number."""
    clock, tree = ManualClock(), Tree(tmp_path, Board())
    device = tree.devices[0]
    with opened(tree, clock=clock) as source:
        story = by_files(source, clock, tree)
        story.look()
        whole = series(story.look())
        pci = ("vendor", "device", "revision", "config", "link_speed", "link_width")
        for name in FILES:
            if not name.endswith(pci):
                (device / name).unlink()
        shutil.rmtree(device / "hwmon")
        story.energy = 0.0
        for _ in range(3):
            told = {each.split(" ")[0] for each in series(source_look(story))}
            assert told == {metric.name for name, m in OF_FILES.items() if "link" in name for metric in m} | {
                "hw.status"
            }
        Tree.write(device, {name.replace("hwmon4", "hwmon7"): content for name, content in FILES.items()})
        story.look()
        story.look()
        assert series(story.look()) == whole


def source_look(story: Story) -> Batch:
    """A look with nothing to tick."""
    story.clock.advance(PERIOD)
    return story.source.read()


@pytest.mark.parametrize("how", ["off the bus", "removed"])
def test_a_gpu_that_is_lost(tmp_path: Path, how: str) -> None:
    """A GPU that does not answer on PCI, or is gone from it, has failed; its neighbour is told of as before."""
    boards = Board(), Board("0000:83:00.0", FILES | {"unique_id": b"1\n"})
    clock, tree = ManualClock(), Tree(tmp_path, *boards)
    with opened(tree, clock=clock) as source:
        assert [values(source.read(), health.STATUS, index)["ok"] for index in (0, 1)] == [1, 1]
        if how == "removed":
            shutil.move(tree.devices[0], tmp_path / "aside")
        else:
            tree.set(config=b"\xff\xff\xff\xff")
        clock.advance(PERIOD)
        batch = source.read()
        assert values(batch, health.STATUS, 0)["failed"] == 1
        assert values(batch, health.STATUS, 1)["ok"] == 1
        assert values(batch, rows.UTILIZATION, 1) == {"": 0.87}
        if how == "removed":
            assert names(batch, 0) == {"hw.status"}
            shutil.move(tmp_path / "aside", tree.devices[0])
        else:
            tree.set(config=b"\x02\x10\x0f\x74")
        clock.advance(PERIOD)
        source.read()
        clock.advance(PERIOD)
        batch = source.read()
        assert values(batch, health.STATUS, 0)["ok"] == 1
        assert names(batch, 0) == names(batch, 1)


def test_a_gpu_that_sleeps_is_left_asleep(tmp_path: Path) -> None:
    """A GPU that the driver has switched off is not asked, by file or library, and so stays off."""
    smi, clock, tree = Smi(), ManualClock(), Tree(tmp_path, Board())
    with opened(tree, smi, clock=clock) as source:
        assert source.read().readings
        tree.set(runtime_status=b"suspended\n")
        smi.calls.clear()
        clock.advance(PERIOD)
        batch = source.read()
        assert (batch.readings, batch.lost, smi.calls) == ([], {}, {})
        tree.set(runtime_status=b"active\n")
        assert source.read().readings


def test_an_energy_counter_that_stands_still(tmp_path: Path) -> None:
    """It would make a busy GPU's power 0 W: nothing is told of it, and after seconds power over time is."""
    smi, clock = Smi(), ManualClock()
    with opened(Tree(tmp_path, Board()), smi, clock=clock) as source:
        told = []
        for _ in range(6):
            told.append(values(source.read(), rows.ENERGY))
            clock.advance(1.0)
        assert told == [{}, {}, {}, {"integrated": 0.0}, {"integrated": 280.0}, {"integrated": 560.0}]
        # It begins to count after all; then it stops again.
        told = []
        for second in range(6):
            smi.count_energy(2000.0 + min(second, 1))
            told.append(values(source.read(), rows.ENERGY))
            clock.advance(1.0)
    counted = {"counter": 2001.0}
    assert told == [{"counter": 2000.0}, counted, counted, counted, {"integrated": 560.0}, {"integrated": 840.0}]


def test_energy_of_a_counter_that_says_nothing_for_a_moment(tmp_path: Path) -> None:
    """One that was seen before is waited for: nothing is summed up in its place."""
    smi, clock = Smi(), ManualClock()
    with opened(Tree(tmp_path, Board(files=dict(BARE))), smi, clock=clock) as source:
        told = []
        for joules in (10.0, 20.0, None, 40.0):
            if joules is None:
                smi.answer("amdsmi_get_energy_count", {"energy_accumulator": "N/A", "counter_resolution": 15.3})
            else:
                smi.count_energy(joules)
            told.append(values(source.read(), rows.ENERGY))
            clock.advance(1.0)
    assert told == [{}, {"counter": 20.0}, {}, {"counter": 40.0}]
