# SPDX-License-Identifier: Apache-2.0
"""The driver and its devices at this moment: what the C functions answer from."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import pynvml

from otel_hwmetrics.testing.gpu import FakeGpu, FakeMig, InvalidValueError
from otel_hwmetrics.testing.values import Signal

# A handle is an opaque pointer that nobody follows. No address is given twice, so that one from an earlier install is
# never taken for a GPU of this one.
ADDRESSES: Final = itertools.count(0x5EED_0000, 16)

ERRORS: Final[dict[str, int]] = {name: value for name, value in vars(pynvml).items() if name.startswith("NVML_ERROR_")}

_MICROSECONDS: Final = 1_000_000


class Refused(Exception):
    """The C function answers `code` instead of success."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def return_code(code: object) -> int:
    """Return an NVML error code given as a number or as the constant's name.

    Raises:
        InvalidValueError: It is neither; the message lists the names.
    """
    number = ERRORS.get(code) if isinstance(code, str) else code
    if type(number) is int and number > 0:
        return number
    raise InvalidValueError(code, "code", f"a number above 0 or one of {', '.join(sorted(ERRORS))}")


def not_supported() -> Refused:
    """What a board answers that does not have this."""
    return Refused(pynvml.NVML_ERROR_NOT_SUPPORTED)


@dataclass(frozen=True)
class Times:
    """The clocks that NVML's answers are stamped by, all of one driver.

    Attributes:
        elapsed: Seconds since install: the time of the script.
        boot: Seconds since the machine was booted.
        epoch_ns: Nanoseconds since 1970.
    """

    elapsed: Callable[[], float]
    boot: Callable[[], float]
    epoch_ns: Callable[[], int]

    def boot_us(self, elapsed: float) -> int:
        """Return a moment of the script as the driver stamps samples: in microseconds since boot."""
        return round((self.boot() - self.elapsed() + elapsed) * _MICROSECONDS)

    def epoch_us(self) -> int:
        """Return now as the driver stamps field values: in microseconds since 1970."""
        return self.epoch_ns() // 1000


class Quantities:
    """Scripted quantities at this moment."""

    def __init__(self, signals: Mapping[str, Signal], times: Times) -> None:
        self.signals = signals
        self.times = times

    def read(self, quantity: str) -> float:
        """Return one quantity now, in the unit of the scripted setting of that name.

        Raises:
            Refused: The script has no value at this moment.
        """
        signal = self.signals.get(quantity)
        value = None if signal is None else signal.at(self.times.elapsed())
        if value is None:
            raise not_supported()
        return value

    def count(self, quantity: str) -> int:
        """Return a scripted counter now: the whole part, since a third of an error is none yet.

        Raises:
            Refused: The script has no value at this moment.
        """
        return int(self.read(quantity))

    def area(self, quantity: str) -> float | None:
        """Return the integral of a quantity up to now, None where it has no value now."""
        now = self.times.elapsed()
        signal = self.signals.get(quantity)
        return None if signal is None or signal.at(now) is None else signal.integral(now)


class Device(Quantities):
    """A GPU as NVML has it: an index, a handle, and quantities at this moment.

    Args:
        index: Its place among the others.
        gpu: What it does.
        machine: The driver that has it.
        reloaded: Whether the driver was loaded after the script began: then what counts since loading begins at 0.
    """

    def __init__(self, index: int, gpu: FakeGpu, machine: Machine, *, reloaded: bool = False) -> None:
        super().__init__(gpu.signals(), machine.times)
        self.index = index
        self.gpu = gpu
        self.machine = machine
        self.address = next(ADDRESSES)
        self.mig = tuple(MigDevice(place, mig, self) for place, mig in enumerate(gpu.mig))
        self.fields: dict[int, Signal] = {}
        self.unsupported_fields: frozenset[int] = frozenset()
        self.strays: list[tuple[int, int, int]] = []  # kind, timestamp in us, raw value
        self._reloaded = reloaded
        self._highest: dict[str, float] = {}
        now = machine.times.elapsed()
        # A rate given as a function is integrated from its first reading: take that now.
        self._base = {key: self.signals[key].integral(now) for key in self.signals if _counts(key)}

    def total(self, quantity: str) -> float:
        """Return what a rate has come to since the driver was loaded, never less than before.

        Raises:
            Refused: There is no such quantity.
        """
        if quantity not in self._base:
            raise not_supported()
        total = self.signals[quantity].integral(self.times.elapsed()) - self._base[quantity]
        # The last bit of a float sum may fall where the true sum rises; a counter must not.
        self._highest[quantity] = max(self._highest.get(quantity, 0.0), total)
        return self._highest[quantity]

    def millijoules(self, quantity: str = "power") -> int:
        """Return an energy counter in whole mJ.

        Raises:
            Refused: The board has none.
        """
        if not self.gpu.energy_counter:
            raise not_supported()
        offset = 0.0 if self._reloaded else self.gpu.energy_offset
        return round((offset + self.total(quantity)) * 1000)

    def nanoseconds(self, quantity: str) -> int:
        """Return for how long a cause has held the clocks back, the share of time integrated."""
        return round(self.total(quantity) * 1e9)

    def pcie_bytes(self, quantity: str) -> int:
        """Return a byte counter of the PCI Express link, wrapped at its width."""
        offset = 0 if self._reloaded else self.gpu.pcie_counter_offset
        wrap: int = 2**self.gpu.pcie_counter_bits
        return (offset + int(self.total(quantity))) % wrap

    def refuse_if_split(self) -> None:
        """Answer what a GPU in MIG mode answers about its utilization.

        Raises:
            Refused: It is in MIG mode.
        """
        if self.mig:
            raise not_supported()


class MigDevice(Quantities):
    """A MIG device as NVML has it.

    Args:
        place: Its place among those of its GPU.
        mig: What it does.
        parent: Its GPU.
    """

    def __init__(self, place: int, mig: FakeMig, parent: Device) -> None:
        super().__init__(mig.signals(), parent.times)
        self.place = place
        self.gpu_instance_id = place + 1 if mig.gpu_instance_id is None else mig.gpu_instance_id
        self.mig = mig
        self.parent = parent
        self.index = parent.index
        self.address = next(ADDRESSES)
        self.name = mig.name or f"{parent.gpu.name} MIG {mig.profile}"


@dataclass(frozen=True)
class GpmSample:
    """What a sample buffer of GPM holds.

    Attributes:
        device: Whose sample it is.
        taken: When it was taken, in seconds of the script.
        areas: The integral of each quantity up to then.
    """

    device: Device | MigDevice
    taken: float
    areas: Mapping[str, float | None]


@dataclass
class Machine:
    """A driver, as long as it is loaded; or that there is none.

    Attributes:
        driver_version: Its version.
        times: Its clocks.
        error: Says which error is scripted for one `"field"` or `"metric"` of a GPU, by number and index; 0 is none.
        devices: Its GPUs.
        references: How many times NVML is initialised.
        away: What nvmlInit answers while there is no driver; 0 where there is one.
        gpm_samples: The sample buffers that are allocated, by address; None is one without a sample.
        gone: Set when the driver is unloaded: whoever waits for it must return.
    """

    driver_version: str
    times: Times
    error: Callable[[str, int, int], int]
    devices: tuple[Device, ...] = ()
    references: int = 0
    away: int = 0
    gpm_samples: dict[int, GpmSample | None] = field(default_factory=dict)
    gone: threading.Event = field(default_factory=threading.Event)

    def at(self, address: int | None) -> Device | MigDevice:
        """Return the device that a handle is of.

        Raises:
            Refused: It is of none.
        """
        for device in self.devices:
            if device.address == address:
                return device
            for mig in device.mig:
                if mig.address == address:
                    return mig
        raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)


def _counts(quantity: str) -> bool:
    return quantity in {"power", "module_power", "pcie_tx", "pcie_rx", "nvlink_tx", "nvlink_rx"} or quantity.startswith(
        "throttled_"
    )
