# SPDX-License-Identifier: Apache-2.0
"""Markdown, and the words for what the catalog says in types: windows, kinds, attributes."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from types import ModuleType
from typing import Final

from otel_hwmetrics.catalog import (
    container,
    dataset,
    framework,
    gpu,
    gpu_health,
    gpu_links,
    own,
    process,
    system,
    training,
    tree,
)
from otel_hwmetrics.model import Kind, Metric, Origin, Peak, Quotient, Rate, Ratio, Share

KINDS: Final = {
    Kind.COUNTER: "Counter",
    Kind.UP_DOWN_COUNTER: "Up-down counter",
    Kind.GAUGE: "Gauge",
    Kind.HISTOGRAM: "Histogram",
}

OF_A_MOMENT: Final = {system.UPTIME, process.UPTIME, training.STEP_AGE, tree.UNINTERRUPTIBLE_TIME, *own.HEALTH}
"""Gauges whose readings say that they are of one moment: no mean is made of them."""

_USER_AND_SYSTEM: Final = "`user`, `system`"

MEANINGS: Final[Mapping[str, str]] = {
    system.CPU_MODE: "`user`, `nice`, `system`, `idle`, `iowait`, `interrupt`, `steal`",
    system.CPU_NUMBER: "the number of the logical CPU, with the option `per_cpu`; without it the figure is that of all",
    system.MEMORY_STATE: "`used` (all but what is available), `free`, `buffers`, `cached`; they overlap",
    system.SLAB_STATE: "`reclaimable`, `unreclaimable`",
    system.PAGING_STATE: "`used`, `free`",
    system.PAGING_DIRECTION: "`in` from swap, `out` to it",
    system.FAULT_TYPE: "`major` had to wait for storage, `minor` did not",
    system.DEVICE: "the disk; of filesystems what is mounted, of packets the network interface",
    system.IO_DIRECTION: "`read`, `write`",
    system.FILESYSTEM_MODE: "`rw`, `ro`",
    system.FILESYSTEM_MOUNTPOINT: "where it is mounted",
    system.FILESYSTEM_TYPE: "as the kernel calls it",
    system.FILESYSTEM_STATE: "`used`, `free` to every user, `reserved` for root",
    system.NETWORK_INTERFACE: "the network interface",
    system.NETWORK_DIRECTION: "`receive`, `transmit`",
    system.PROCESS_STATE: "`running`, `blocked`",
    process.CONTEXT_SWITCH_TYPE: "`voluntary`, `involuntary`",
    gpu.HW_ID: "the driver's UUID, as DCGM and CUDA write it (`GPU-…`, `MIG-…`); of a CPU package its "
    "number (`cpu-package-0`); of a sensor that of what it sits on, with what it measures and where behind it "
    "(`GPU-…/temperature/memory`)",
    gpu.HW_NAME: "for people: `GPU 0`, `GPU 0 MIG 2`, `GPU 0 memory temperature`, `CPU package 0`",
    gpu.HW_PARENT: "of a sensor the `hw.id` of what it sits on, of a MIG instance that of its GPU",
    gpu.HW_TYPE: "`gpu`, `cpu`, `memory` (the DRAM of a CPU package); sensors have none",
    gpu.HW_VENDOR: "`NVIDIA`, `AMD`",
    gpu.HW_MODEL: "the maker's name for it",
    gpu.HW_DRIVER_VERSION: "that of the kernel's driver",
    gpu.HW_SENSOR_LOCATION: "`gpu`, `memory`; of AMD's also `edge`, `junction`; of a CPU `package`; of a fan its number",
    gpu.HW_GPU_TASK: "`general` (any kernel), `encoder`, `decoder`",
    gpu.HW_LIMIT_TYPE: "`throttled`: it slows itself down; `high.critical`: it switches off; `max`: it may be slowed down",
    gpu_health.HW_STATE: "`ok`, `degraded`, `failed`, `predicted_failure`",
    gpu_health.ERROR_TYPE: "`corrected`, `uncorrected`; of AMD's also `deferred`",
    gpu_health.XID: "NVIDIA's number for what went wrong, see [XID errors](xid.md)",
    own.SOURCE: "the source, as in the option `sources`",
    own.PLACE: "what was being done",
    own.THREAD_NAME: "`hwmetrics-sampler`, or `hwmetrics-` and the source that it reads",
    own.ALERT_RULE: "the alert",
    own.ALERT_SEVERITY: "`info`, `warning`, `critical`",
    own.ALERT_STATE: "`pending`, `firing`; of transitions `firing`, `resolved`",
}
"""What attributes mean, and their values; those that the catalog's files explain themselves are taken from there."""

NARROWER: Final[Mapping[ModuleType, Mapping[str, str]]] = {
    container: {container.CPU_MODE: _USER_AND_SYSTEM, system.DEVICE: "the disk"},
    process: {process.CPU_MODE: _USER_AND_SYSTEM},
    tree: {
        process.CPU_MODE: _USER_AND_SYSTEM,
        tree.PROCESS_STATE: "`running`, `sleeping`, `uninterruptible`, `stopped`, `defunct`",
    },
    dataset: {system.DEVICE: "the disk; where there is none what is mounted, such as a server's directory"},
    framework: {gpu.HW_ID: "that of `hw.gpu.memory.usage`, so that the two can be joined"},
    gpu_links: {gpu_links.ERROR_TYPE: "`replay`, `crc`, `recovery` and others, as the driver tells them apart"},
    own: {
        own.ERROR_TYPE: "the exception",
        gpu.HW_ID: "of alerts about a device, the device's",
        gpu.GPU_INDEX: "of alerts about a GPU, the driver's number for it",
        system.FILESYSTEM_MOUNTPOINT: "of alerts about a filesystem, where it is mounted",
        framework.TORCH_DEVICE: "of alerts about PyTorch's memory on a device whose `hw.id` is not known",
        framework.JAX_DEVICE: "of alerts about JAX's memory on a device whose `hw.id` is not known",
        dataset.DATASET_PATH: "of alerts about a data set, as in the option `dataset_paths`",
        system.NETWORK_INTERFACE: "of alerts about a network interface, its name",
        system.DEVICE: "of alerts about a disk, its name",
    },
}
"""What they mean in one file of the catalog, where that is less or something else."""


def meanings_in(module: ModuleType) -> dict[str, str]:
    """What the attributes of a file of the catalog mean."""
    return {**dict(_documented(gpu)), **dict(_documented(module)), **MEANINGS, **NARROWER.get(module, {})}


def _documented(module: ModuleType) -> Iterator[tuple[str, str]]:
    """The constants of a file of the catalog that have a docstring, with it."""
    for statement, below in pairwise(ast.parse(inspect.getsource(module)).body):
        match statement, below:
            case (
                ast.Assign([ast.Name(name)]) | ast.AnnAssign(ast.Name(name)),
                ast.Expr(ast.Constant(str(docstring))),
            ) if isinstance(getattr(module, name), str):
                text = prose(docstring).removesuffix(".")
                yield getattr(module, name), text[0].lower() + text[1:] if text[1:2].islower() else text


def window(metric: Metric) -> str:
    """What a metric's value says of the time since the export before."""
    match metric.derivation:
        case Rate(of, over):
            by = f" and by {link(over)}" if over else ""
            return f"growth of {link(of)} over the window, divided by the window's length{by}"
        case Ratio(of, by):
            return f"growth of {link(of)} over the window, divided by that of {link(by)}"
        case Share(of, across):
            return f"growth of {link(of)} over the window, as a share of that of every `{across}` together"
        case Quotient(of, by):
            return f"{link(of)} divided by {link(by)}, mean over the window"
        case Peak(of):
            return f"highest {link(of)} within the window"
        case None:
            return _window_of_what_is_read(metric)


def _window_of_what_is_read(metric: Metric) -> str:
    if metric.kind is Kind.COUNTER:
        return f"total since {'the process began' if metric.origin is Origin.ZERO else '`instrument()`'}"
    if metric.kind is Kind.UP_DOWN_COUNTER or metric in OF_A_MOMENT:
        return "what there is at the window's end"
    if metric.kind is Kind.HISTOGRAM:
        return f"each value since `instrument()`, in {len(metric.boundaries) + 1} buckets"
    return "mean over the window"


def prose(text: str) -> str:
    """Text of the code as Markdown: what stands in backticks is code, and nothing else is markup."""
    parts = " ".join(text.replace("``", "`").split()).split("`")
    return "`".join(part if place % 2 else re.sub(r"([*|<\[\]])", r"\\\1", part) for place, part in enumerate(parts))


def paragraphs(text: str) -> str:
    """A docstring as Markdown."""
    return "\n\n".join(prose(paragraph) for paragraph in inspect.cleandoc(text).split("\n\n"))


def code(text: str) -> str:
    """Code inside a table."""
    return "`" + text.replace("|", r"\|") + "`"


def table(*rows: Sequence[str]) -> str:
    """A table whose first row is its head. A column that is empty in all other rows is left out."""
    used = [column for column in range(len(rows[0])) if any(row[column] for row in rows[1:])]
    head, *lines = (" | ".join(row[column] for column in used) for row in rows)
    return "\n".join(f"| {line} |" for line in (head, " | ".join("---" for _ in used), *lines))


def anchor(heading: str) -> str:
    """Where GitHub puts a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def link(metric: Metric, page: str = "") -> str:
    """A metric's name, leading to what is said of it."""
    return f"[`{metric.name}`]({page}#{anchor(metric.name)})"
