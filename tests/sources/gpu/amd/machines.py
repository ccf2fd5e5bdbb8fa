# SPDX-License-Identifier: Apache-2.0
"""AMD GPUs that are not there: a tree of files as amdgpu shows it, and a module with amdsmi's names and answers.

Written by hand after the kernel's documentation and the binding's interface of ROCm 7.0 and 6.0; nothing here was
recorded on a machine with an AMD GPU.
"""

from __future__ import annotations

import ctypes
import enum
import struct
import sys
import types
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from otel_hwmetrics.model import Metric
from otel_hwmetrics.sources.base import Batch
from otel_hwmetrics.sources.gpu.amd import AmdSource
from otel_hwmetrics.testing import ManualClock

GIB = 1024**3
NOT_SUPPORTED, NOT_YET_IMPLEMENTED, NO_SYMBOL, RETRY, TIMEOUT, NO_PERMISSION, BUSY = 2, 3, 5, 9, 8, 10, 30


def table(joules: float = 0.0, *, cycles: int = 0, held: tuple[int, ...] = (0, 0, 0, 0, 0), content: int = 7) -> bytes:
    """The firmware's table in the layout of an MI300, every other field all ones."""
    size, energy, residency = {4: (288, 24, None), 6: (1664, 16, 32), 7: (2208, 24, 40), 8: (3872, 24, 40)}[content]
    data = bytearray(b"\xff" * size)
    struct.pack_into("<HBB", data, 0, size, 1, content)
    struct.pack_into("<Q", data, energy, round(joules * 65536))
    if residency is not None:
        struct.pack_into("<6I", data, residency, cycles, *held)
    return bytes(data)


FILES: dict[str, bytes] = {
    "vendor": b"0x1002\n",
    "device": b"0x740f\n",
    "revision": b"0x02\n",
    "unique_id": b"4eff74a0d5f3c0f0\n",
    "product_name": b"AMD INSTINCT MI210\n",
    "config": b"\x02\x10\x0f\x74",
    "power/runtime_status": b"active\n",
    "gpu_busy_percent": b"87\n",
    "mem_busy_percent": b"35\n",
    "mem_info_vram_total": b"68702699520\n",
    "mem_info_vram_used": b"60000002048\n",
    "gpu_metrics": table(1000.0, cycles=5000, held=(0, 100, 0, 0, 0)),
    "pp_dpm_sclk": b"0: 500Mhz\n1: 1200Mhz *\n2: 1700Mhz\n",
    "pp_dpm_mclk": b"0: 400Mhz\n1: 1600Mhz *\n",
    "pcie_replay_count": b"3\n",
    "current_link_speed": b"16.0 GT/s PCIe\n",
    "current_link_width": b"16\n",
    "max_link_speed": b"32.0 GT/s PCIe\n",
    "max_link_width": b"16\n",
    "hwmon/hwmon4/name": b"amdgpu\n",
    "hwmon/hwmon4/temp1_label": b"edge\n",
    "hwmon/hwmon4/temp1_input": b"61000\n",
    "hwmon/hwmon4/temp1_crit": b"100000\n",
    "hwmon/hwmon4/temp1_emergency": b"105000\n",
    "hwmon/hwmon4/temp2_label": b"junction\n",
    "hwmon/hwmon4/temp2_input": b"71500\n",
    "hwmon/hwmon4/temp2_crit": b"110000\n",
    "hwmon/hwmon4/temp2_emergency": b"115000\n",
    "hwmon/hwmon4/temp3_label": b"mem\n",
    "hwmon/hwmon4/temp3_input": b"66000\n",
    "hwmon/hwmon4/temp3_crit": b"94000\n",
    "hwmon/hwmon4/temp3_emergency": b"99000\n",
    "hwmon/hwmon4/power1_average": b"280000000\n",
    "hwmon/hwmon4/power1_cap": b"300000000\n",
    "hwmon/hwmon4/freq1_label": b"sclk\n",
    "hwmon/hwmon4/freq1_input": b"1200000000\n",
    "hwmon/hwmon4/freq2_label": b"mclk\n",
    "hwmon/hwmon4/freq2_input": b"1600000000\n",
    "hwmon/hwmon4/fan1_input": b"1850\n",
    "hwmon/hwmon4/pwm1": b"102\n",
    "ras/umc_err_count": b"ue: 1\nce: 20\n",
    "ras/gfx_err_count": b"ue: 0\nce: 3\nde: 2\n",
    "ras/features": b"feature mask: 0x1\n",
    "ras/gpu_vram_bad_pages": b"0x00000010 : 0x00001000 : R\n0x00000020 : 0x00001000 : R\n",
}
"""What the driver shows of one GPU."""


@dataclass
class Board:
    """One GPU of a tree.

    Attributes:
        address: On PCI.
        files: By their names below the device.
        node: Whether ROCm may use it: False for somebody else's, None for one that ROCm does not know.
        above: Devices between it and the root, from the top, each an address and a vendor.
    """

    address: str = "0000:03:00.0"
    files: dict[str, bytes] = field(default_factory=lambda: dict(FILES))
    node: bool | None = True
    above: tuple[tuple[str, str], ...] = (("0000:00:01.1", "0x1022"),)


class Tree:
    """A /sys with AMD GPUs.

    Args:
        root: An empty folder.
        boards: The GPUs, in the order in which the kernel met them.
        kfd: Whether there is a compute driver.
    """

    def __init__(self, root: Path, *boards: Board, kfd: bool = True) -> None:
        self.root = root
        self.devices: list[Path] = []
        (root / "class" / "drm").mkdir(parents=True)
        nodes = root / "class" / "kfd" / "kfd" / "topology" / "nodes"
        if kfd:
            self._node(nodes / "0", {"cpu_cores_count": 64, "simd_count": 0})
        for number, board in enumerate(boards):
            path = root / "devices" / "pci0000:00"
            for address, vendor in board.above:
                path /= address
                self.write(path, {"vendor": vendor.encode()})
            path /= board.address
            self.write(path, board.files)
            self.devices.append(path)
            for name in (f"card{number}", f"renderD{128 + number}", f"card{number}-DP-1"):
                link = root / "class" / "drm" / name
                link.mkdir()
                (link / "device").symlink_to(path)
            if kfd and board.node is not None:
                self._node(nodes / str(number + 1), self._properties(board) if board.node else None)

    @staticmethod
    def _properties(board: Board) -> dict[str, int]:
        domain, bus, rest = board.address.split(":")
        device, function = rest.split(".")
        location = int(bus, 16) << 8 | int(device, 16) << 3 | int(function)
        serial = int(board.files.get("unique_id", b"0"), 16)
        return {"simd_count": 416, "domain": int(domain, 16), "location_id": location, "unique_id": serial}

    @staticmethod
    def _node(path: Path, properties: dict[str, int] | None) -> None:
        path.mkdir(parents=True)
        if properties is not None:
            (path / "properties").write_text("".join(f"{key} {value}\n" for key, value in properties.items()))

    @staticmethod
    def write(device: Path, files: Mapping[str, bytes]) -> None:
        """Write files below a device."""
        for name, content in files.items():
            path = device / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def set(self, index: int = 0, **files: bytes) -> None:
        """Change files of one GPU, by the last part of their names."""
        for name, content in files.items():
            (found,) = self.devices[index].rglob(name)
            found.write_bytes(content)


class TemperatureType(enum.IntEnum):
    """As of ROCm 7.0."""

    EDGE = 0
    HOTSPOT = 1
    JUNCTION = 2
    VRAM = 3


class TemperatureMetric(enum.IntEnum):
    """As of ROCm 7.0."""

    CURRENT = 0
    CRITICAL = 5
    EMERGENCY = 7


class ClkType(enum.IntEnum):
    """As of ROCm 7.0."""

    GFX = 0
    MEM = 4


class MemoryType(enum.IntEnum):
    """As of ROCm 7.0."""

    VRAM = 0
    GTT = 2


DEGREES = {
    (TemperatureType.EDGE, TemperatureMetric.CURRENT): 61,
    (TemperatureType.EDGE, TemperatureMetric.CRITICAL): 100,
    (TemperatureType.EDGE, TemperatureMetric.EMERGENCY): 105,
    (TemperatureType.JUNCTION, TemperatureMetric.CURRENT): 71,
    (TemperatureType.JUNCTION, TemperatureMetric.CRITICAL): 110,
    (TemperatureType.JUNCTION, TemperatureMetric.EMERGENCY): 115,
    (TemperatureType.VRAM, TemperatureMetric.CURRENT): 66,
    (TemperatureType.VRAM, TemperatureMetric.CRITICAL): 94,
    (TemperatureType.VRAM, TemperatureMetric.EMERGENCY): 99,
}

ANSWERS: dict[str, Callable[..., Any]] = {
    "amdsmi_get_gpu_device_bdf": lambda: "0000:03:00.0",
    "amdsmi_get_gpu_device_uuid": lambda: "4eff740f-0000-1000-80a0-d5f3c0f0ffff",
    "amdsmi_get_gpu_asic_info": lambda: {"market_name": "AMD Instinct MI210", "asic_serial": "0x4EFF74A0D5F3C0F0"},
    "amdsmi_get_gpu_driver_info": lambda: {"driver_name": "amdgpu", "driver_version": "6.14.14", "driver_date": "N/A"},
    "amdsmi_get_gpu_activity": lambda: {"gfx_activity": 87, "umc_activity": 35, "mm_activity": "N/A"},
    "amdsmi_get_gpu_memory_total": lambda _: 68702699520,
    "amdsmi_get_gpu_memory_usage": lambda _: 60000002048,
    "amdsmi_get_power_info": lambda: {
        "socket_power": 280,
        "current_socket_power": "N/A",
        "average_socket_power": 280,
        "gfx_voltage": 806,
        "soc_voltage": "N/A",
        "mem_voltage": "N/A",
        "power_limit": 300000000,
    },
    "amdsmi_get_power_cap_info": lambda: {
        "power_cap": 300000000,
        "default_power_cap": 300000000,
        "dpm_cap": 1700,
        "min_power_cap": 0,
        "max_power_cap": 300000000,
    },
    "amdsmi_get_energy_count": lambda: {
        "energy_accumulator": 65536000,
        "counter_resolution": 15.300000190734863,
        "timestamp": 3824190842400799,
    },
    "amdsmi_get_temp_metric": lambda sensor, metric: DEGREES[sensor, metric],
    "amdsmi_get_clock_info": lambda kind: {
        "clk": {ClkType.GFX: 1200, ClkType.MEM: 1600}[kind],
        "min_clk": 400,
        "max_clk": {ClkType.GFX: 1700, ClkType.MEM: 1600}[kind],
        "clk_locked": False,
        "clk_deep_sleep": "N/A",
    },
    "amdsmi_get_gpu_fan_rpms": lambda _: 1850,
    "amdsmi_get_gpu_fan_speed": lambda _: 102,
    "amdsmi_get_gpu_total_ecc_count": lambda: {
        "correctable_count": 23,
        "uncorrectable_count": 1,
        "deferred_count": 2,
    },
}
"""What the functions of ROCm 7.0 answer of the same GPU, after the handle."""

OLDER: dict[str, Callable[..., Any]] = {
    "amdsmi_get_gpu_driver_info": lambda: {"driver_name": "amdgpu", "driver_version": "6.3.6"},
    "amdsmi_get_gpu_activity": lambda: {"gfx_activity": 87, "umc_activity": 35, "mm_activity": 65535},
    "amdsmi_get_power_info": lambda: {
        "current_socket_power": 65535,
        "average_socket_power": 280,
        "gfx_voltage": 806,
        "soc_voltage": 65535,
        "mem_voltage": 65535,
        "power_limit": 300,
    },
    "amdsmi_get_power_cap_info": lambda: {
        "power_cap": 300,
        "default_power_cap": 300000000,
        "dpm_cap": 1700,
        "min_power_cap": 0,
        "max_power_cap": 300000000,
    },
    "amdsmi_get_energy_count": lambda: {
        "power": 65536000,
        "counter_resolution": 15.300000190734863,
        "timestamp": 3824190842400799,
    },
    "amdsmi_get_clock_info": lambda kind: {
        "cur_clk": {ClkType.GFX: 1200, ClkType.MEM: 1600}[kind],
        "max_clk": {ClkType.GFX: 1700, ClkType.MEM: 1600}[kind],
        "min_clk": 400,
        "sleep_clk": 0,
    },
    "amdsmi_get_gpu_total_ecc_count": lambda: {"correctable_count": 23, "uncorrectable_count": 1},
}
"""What they answered in ROCm 6.0, where it was different."""

RELEASES = {"7.0": ANSWERS, "6.0": ANSWERS | OLDER}


class Smi(types.ModuleType):
    """The module ``amdsmi``, scripted.

    Args:
        gpus: How many GPUs there are.
        answers: By function; of the first GPU and, where `per_gpu` says nothing else, of all.
        per_gpu: Answers of one GPU, by its place.
    """

    def __init__(
        self,
        gpus: int = 1,
        answers: Mapping[str, Callable[..., Any]] = ANSWERS,
        per_gpu: Mapping[int, Mapping[str, Callable[..., Any]]] | None = None,
    ) -> None:
        super().__init__("amdsmi")
        self.handles = [ctypes.c_void_p(1000 + number) for number in range(gpus)]
        self.calls: Counter[str] = Counter()
        self.failing: dict[str, Callable[[], Exception]] = {}
        self.changed: dict[str, Callable[..., Any]] = {}
        self._answers = answers
        self._per_gpu = per_gpu or {}
        self.held: set[str] = set()
        for name in answers:
            setattr(self, name, self._function(name))
        for name in ("amdsmi_init", "amdsmi_shut_down", "amdsmi_get_processor_handles"):
            setattr(self, name, self._plain(name))
        self.AmdSmiTemperatureType = TemperatureType
        self.AmdSmiTemperatureMetric = TemperatureMetric
        self.AmdSmiClkType = ClkType
        self.AmdSmiMemoryType = MemoryType
        for error in (SmiException, SmiLibraryException, SmiRetryException, SmiTimeoutException, SmiParameterException):
            setattr(self, f"Amd{error.__name__}", error)

    def _plain(self, name: str) -> Callable[..., Any]:
        def call() -> Any:
            self.calls[name] += 1
            self._refuse(name)
            return list(self.handles) if name.endswith("handles") else None

        return call

    def _function(self, name: str) -> Callable[..., Any]:
        def call(handle: ctypes.c_void_p, *arguments: Any) -> Any:
            self.calls[name] += 1
            self._refuse(name)
            place = self.handles.index(handle)
            answer = self.changed.get(name) or self._per_gpu.get(place, {}).get(name) or self._answers[name]
            return answer(*arguments)

        return call

    def _refuse(self, name: str) -> None:
        if name in self.failing:
            error = self.failing[name]()
            raise error

    def fail(self, name: str, error: Callable[[], Exception]) -> None:
        """Let a function fail until `recover`."""
        self.failing[name] = error

    def answer(self, name: str, answer: Any) -> None:
        """Let a function answer that, whatever it is asked, until `recover`."""
        self.changed[name] = lambda *_: answer

    def hold(self, name: str, answer: Any) -> None:
        """Likewise, and for the energy counter, too, which a story sets at each look."""
        self.held.add(name)
        self.answer(name, answer)

    def recover(self) -> None:
        """Let everything be well again."""
        self.held.clear()
        self.failing.clear()
        self.changed.clear()

    def count_energy(self, joules: float, release: str = "7.0") -> None:
        """Set the energy counter."""
        key = "energy_accumulator" if release == "7.0" else "power"
        self.changed["amdsmi_get_energy_count"] = lambda: {
            key: round(joules * 65536),
            "counter_resolution": 15.300000190734863,
            "timestamp": 1,
        }


class SmiException(Exception):
    """The base of the binding's exceptions; the real names have Amd before them."""


class SmiLibraryException(SmiException):
    """A status of the library."""

    def __init__(self, err_code: int) -> None:
        super().__init__(abs(err_code))
        self.err_code = abs(err_code)


class SmiRetryException(SmiLibraryException):
    """To be asked again."""

    def __init__(self) -> None:
        super().__init__(RETRY)


class SmiTimeoutException(SmiLibraryException):
    """It took too long."""

    def __init__(self) -> None:
        super().__init__(TIMEOUT)


class SmiParameterException(SmiException):
    """The binding did not like an argument."""


def status(code: int) -> Callable[[], Exception]:
    """Makes the exception for a status."""
    return lambda: SmiLibraryException(code)


FOREVER: tuple[Callable[[], Exception], ...] = tuple(map(status, (NOT_SUPPORTED, NOT_YET_IMPLEMENTED, NO_SYMBOL)))
FOR_NOW: tuple[Callable[[], Exception], ...] = (
    SmiRetryException,
    SmiTimeoutException,
    SmiParameterException,
    SmiException,
    *map(status, (NO_PERMISSION, BUSY, 1, 7, 14, 31, 32, 43, 2**32 - 1)),
)


@contextmanager
def imported(smi: Smi | None) -> Iterator[None]:
    """``import amdsmi`` gives this module; None for a machine without."""
    before = sys.modules.get("amdsmi")
    sys.modules["amdsmi"] = smi  # type: ignore[assignment]  # None: cannot be imported
    try:
        yield
    finally:
        if before is None:
            del sys.modules["amdsmi"]
        else:
            sys.modules["amdsmi"] = before


@contextmanager
def opened(
    tree: Tree,
    smi: Smi | None = None,
    *,
    gpus: str = "all",
    environ: Mapping[str, str] | None = None,
    clock: ManualClock | None = None,
) -> Iterator[AmdSource]:
    """The source over a tree and a scripted library; without one it has the files alone."""
    with imported(smi):
        moment = (clock or ManualClock(start=100.0)).monotonic
        source = AmdSource(gpus, environ or {}, moment, str(tree.root), str(tree.root / "amdgpu.ids"))
        source.open()
        try:
            yield source
        finally:
            source.close()


_TELLING = (
    "hw.sensor_location",
    "hw.limit_type",
    "hw.state",
    "error.type",
    "hwmetrics.energy.method",
    "hwmetrics.gpu.clock.domain",
    "hwmetrics.gpu.throttle.cause",
    "hwmetrics.gpu.memory.remap.cause",
)


def values(batch: Batch, metric: Metric, index: int = 0) -> dict[str, float]:
    """The values of one metric of one GPU, by what tells its series apart."""
    found = {}
    for reading in batch.readings:
        if reading.metric is metric and reading.attributes["hwmetrics.gpu.index"] == index:
            key = "/".join(str(reading.attributes[each]) for each in _TELLING if each in reading.attributes)
            assert key not in found, f"{metric.name} {key} is told twice"
            found[key] = reading.value
    return found


def names(batch: Batch, index: int = 0) -> set[str]:
    """The names of the metrics that were told of one GPU."""
    return {reading.metric.name for reading in batch.readings if reading.attributes["hwmetrics.gpu.index"] == index}
