# SPDX-License-Identifier: Apache-2.0
"""Figures by the files of the kernel's driver, made SI: they have microwatts, megahertz, thousandths of a degree.

https://docs.kernel.org/gpu/amdgpu/thermal.html, https://docs.kernel.org/gpu/amdgpu/ras.html
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from opentelemetry.semconv._incubating.attributes.hw_attributes import HwStateValues

from otel_hwmetrics.catalog import gpu_activity as activity
from otel_hwmetrics.catalog import gpu_health as health
from otel_hwmetrics.sources.base import Unsupported
from otel_hwmetrics.sources.gpu.amd import gpu_metrics, sysfs
from otel_hwmetrics.sources.gpu.amd.device import Gpu
from otel_hwmetrics.sources.gpu.amd.values import MEGA, MOST_COUNT, MOST_HERTZ, PWM, Value, memory
from otel_hwmetrics.sources.gpu.device import Items, celsius, ratio, within

_MOST_WATTS: Final = 10_000
_OFF_THE_BUS: Final = b"\xff\xff"
# What PCI reads of a device that does not answer.
_ERROR_TYPES: Final = {"ce": "corrected", "ue": "uncorrected", "de": "deferred"}
_BAD_PAGES: Final = "ras/gpu_vram_bad_pages"
_STATES: Final = (
    HwStateValues.OK,
    HwStateValues.DEGRADED,
    HwStateValues.FAILED,
    HwStateValues.PREDICTED_FAILURE,
)


def _card(gpu: Gpu) -> sysfs.Card:
    if gpu.card is None:
        raise Unsupported
    return gpu.card


def _integer(gpu: Gpu, name: str) -> int:
    return sysfs.integer(_card(gpu).file(name), name)


def busy(name: str) -> Value:
    """How busy a part is: ``gpu_busy_percent``, ``mem_busy_percent``."""
    return lambda gpu: ratio(_integer(gpu, name), name)


def memory_usage(gpu: Gpu) -> Items:
    """Size and use; the size is read once."""
    total = gpu.keep("memory", lambda: _integer(gpu, "mem_info_vram_total"))
    if total == 0:
        raise Unsupported
    yield from memory(gpu, total, _integer(gpu, "mem_info_vram_used"))


def power(gpu: Gpu) -> float | None:
    """Power of the moment where the model tells it, else its mean over the firmware's filter."""
    card = _card(gpu)
    try:
        microwatts = card.sensor("power1_input")
    except Unsupported:
        microwatts = card.sensor("power1_average")
    return within(sysfs.integer(microwatts, "power") / MEGA, _MOST_WATTS, "power")


def power_limit(gpu: Gpu) -> float | None:
    """The power limit that is set."""
    return within(sysfs.integer(_card(gpu).sensor("power1_cap"), "power limit") / MEGA, _MOST_WATTS, "power limit")


def _table(gpu: Gpu) -> bytes:
    return gpu.once("gpu_metrics", lambda: _card(gpu).file("gpu_metrics"))


def joules(gpu: Gpu) -> float | None:
    """What the energy counter says."""
    return gpu_metrics.joules(_table(gpu))


def throttling(gpu: Gpu) -> Items:
    """Seconds for which each cause held the clocks back."""
    residency = gpu_metrics.residency(_table(gpu))
    totals = gpu.keep("throttling", gpu_metrics.Throttling).add(residency, gpu.clock())
    for cause, seconds in totals.items():
        yield gpu.series(activity.THROTTLE_TIME, (activity.THROTTLE_CAUSE, cause)), seconds


def clock(label: str) -> Value:
    """A clock by the driver's label: ``sclk`` graphics, ``mclk`` memory."""
    return lambda gpu: within(sysfs.integer(_card(gpu).labelled(label, "_input"), label), MOST_HERTZ, label)


def clock_limit(name: str) -> Value:
    """The highest level of a clock: ``pp_dpm_sclk``, ``pp_dpm_mclk``."""
    return lambda gpu: within(sysfs.highest_megahertz(_card(gpu).file(name)) * MEGA, MOST_HERTZ, name)


def degrees(label: str, suffix: str = "_input") -> Callable[[Gpu], float]:
    """A temperature by the driver's label of the sensor, or one of its limits."""
    return lambda gpu: celsius(sysfs.integer(_card(gpu).labelled(label, suffix), "temperature") / 1000)


def margin(gpu: Gpu) -> float | None:
    """Degrees that the hottest spot is below what the firmware keeps it below."""
    return degrees("junction", "_crit")(gpu) - degrees("junction")(gpu)


def fan_rpm(gpu: Gpu) -> float | None:
    """How fast the fan turns."""
    return within(sysfs.integer(_card(gpu).sensor("fan1_input"), "fan speed"), 100_000, "fan speed in rpm")


def fan_ratio(gpu: Gpu) -> float | None:
    """How hard the fan is driven."""
    return within(sysfs.integer(_card(gpu).sensor("pwm1"), "fan speed"), PWM, "fan speed") / PWM


def _lanes(content: bytes) -> int:
    return sysfs.integer(content, "the width of the link")


_LINK: Final[dict[str, tuple[Callable[[bytes], int], int]]] = {
    "speed": (sysfs.generation, 6),
    "width": (_lanes, 32),
}


def _of_link(device: str, which: str, what: str) -> float:
    convert, most = _LINK[what]
    name = f"{which}_link_{what}"
    try:
        content = sysfs.read(os.path.join(device, name))
    except (FileNotFoundError, NotADirectoryError) as error:
        if os.path.isdir(device):
            raise Unsupported from error
        raise  # the device is gone, and may come back
    return within(convert(content), most, name, least=1)


def link(what: str) -> Value:
    """The PCIe link as it is: ``speed`` (as a generation), ``width`` (lanes)."""
    return lambda gpu: _of_link(gpu.keep("link", lambda: _card(gpu).link), "current", what)


def link_limit(what: str) -> Value:
    """The PCIe link at its best: what the GPU and the slot above it can both do."""

    def value(gpu: Gpu) -> float:
        end = gpu.keep("link", lambda: _card(gpu).link)
        own = _of_link(end, "max", what)
        try:
            return min(own, _of_link(os.path.dirname(end), "max", what))
        except (OSError, Unsupported):  # on a virtual machine there is nothing above it
            return own

    return value


def replays(gpu: Gpu) -> float | None:
    """Packets that were sent again over PCIe."""
    return within(_integer(gpu, "pcie_replay_count"), MOST_COUNT, "replays")


def ecc(gpu: Gpu) -> Items:
    """Errors of all blocks since the driver was loaded: of all of them or of none, or the sum would fall."""
    card = _card(gpu)
    blocks = gpu.keep("ras", lambda: card.inside("ras", "_err_count"))
    if not blocks:
        raise Unsupported
    totals: dict[str, int] = {}
    for block in blocks:
        for kind, count in sysfs.errors(card.file(block)).items():
            totals[kind] = totals.get(kind, 0) + count
    for kind, total in totals.items():
        yield (
            gpu.series(health.ERRORS, (health.ERROR_TYPE, _ERROR_TYPES[kind])),
            gpu.since_first(f"ECC {_ERROR_TYPES[kind]}", total),
        )


def bad_pages(gpu: Gpu) -> Items:
    """Pages of memory that are out of use, will be, or could not be taken out."""
    card = _card(gpu)
    if _BAD_PAGES not in gpu.keep("bad_pages", lambda: card.inside("ras", "_bad_pages")):
        raise Unsupported
    gpu.pages = counts = sysfs.bad_pages(card.file(_BAD_PAGES))
    yield gpu.series(health.REMAPPED_ROWS, (health.REMAP_CAUSE, "uncorrected")), counts["R"]
    yield gpu.series(health.REMAP_PENDING), int(counts["P"] > 0)
    yield gpu.series(health.REMAP_FAILED), int(counts["F"] > 0)


def status(gpu: Gpu) -> Items:
    """Failed where the GPU does not answer on PCI, or is gone; else by what its memory was like at the last look."""
    card = _card(gpu)
    try:
        gone = sysfs.read(os.path.join(card.path, "config"), 2) == _OFF_THE_BUS
    except (FileNotFoundError, NotADirectoryError) as error:
        if os.path.isdir(card.path):
            raise Unsupported from error
        gone = True
    current = HwStateValues.FAILED if gone else _judged(gpu.pages)
    for state in _STATES:
        yield gpu.series(health.STATUS, (health.HW_STATE, state.value)), int(state is current)


def _judged(pages: dict[str, int]) -> HwStateValues:
    if pages.get("F"):
        return HwStateValues.DEGRADED
    return HwStateValues.PREDICTED_FAILURE if pages.get("P") else HwStateValues.OK
