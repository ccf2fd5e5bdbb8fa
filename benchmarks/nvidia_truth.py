# SPDX-License-Identifier: Apache-2.0
"""Our figures of real NVIDIA GPUs against nvidia-smi's, what each driver call costs, and what we cost a training loop.

Four parts, each on its own with ``--only``:

- ``compare``: every figure that nvidia-smi has, asked at the same time.
- ``calls``: how long each NVML call takes, as our source makes it, over a minute of samples.
- ``load``: activity counters under known loads: a matrix product keeps the tensor cores busy, a copy the memory.
- ``loop``: steps a second of a training loop with us and without, in alternating rounds of one process.

The last two need PyTorch with CUDA. Without a GPU, ``--scripted`` tries the first two on scripted ones (nvidia-smi is
left out then), so that this script cannot rot.

    python benchmarks/nvidia_truth.py [--only PART] [--seconds N] [--json FILE] [--scripted]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pynvml
from rich.console import Console
from rich.table import Table

from otel_hwmetrics.catalog import gpu as rows
from otel_hwmetrics.catalog import gpu_activity as activity
from otel_hwmetrics.catalog import gpu_health as health
from otel_hwmetrics.catalog import gpu_links as links
from otel_hwmetrics.model import Metric, Snapshot
from otel_hwmetrics.sources.gpu.nvidia import NvidiaSource
from otel_hwmetrics.testing import FakeGpu, FakeNvml
from otel_hwmetrics.windows import Accumulator, between

PARTS = ("compare", "calls", "load", "loop")

console = Console()

Query = tuple[str, Metric, dict[str, str], float, float]

QUERIES: tuple[Query, ...] = (
    # nvidia-smi's name, our row and what tells its series, our unit in nvidia-smi's, how far apart they may be
    ("utilization.gpu", rows.UTILIZATION, {rows.HW_GPU_TASK: "general"}, 100, 15),
    ("memory.used", rows.MEMORY_USAGE, {}, 1 / 2**20, 64),
    ("memory.total", rows.MEMORY_LIMIT, {}, 1 / 2**20, 1),
    ("memory.reserved", rows.MEMORY_RESERVED, {}, 1 / 2**20, 1),
    ("temperature.gpu", rows.TEMPERATURE, {rows.HW_SENSOR_LOCATION: "gpu"}, 1, 2),
    ("temperature.memory", rows.TEMPERATURE, {rows.HW_SENSOR_LOCATION: "memory"}, 1, 2),
    ("power.draw.average", rows.POWER, {}, 1, 30),
    ("power.draw.instant", rows.POWER_INSTANT, {rows.POWER_SCOPE: "gpu"}, 1, 60),
    ("enforced.power.limit", rows.POWER_LIMIT, {}, 1, 0.1),
    ("clocks.sm", activity.CLOCK, {activity.CLOCK_DOMAIN: "sm"}, 1e-6, 60),
    ("clocks.mem", activity.CLOCK, {activity.CLOCK_DOMAIN: "memory"}, 1e-6, 1),
    ("clocks.max.sm", activity.CLOCK_LIMIT, {activity.CLOCK_DOMAIN: "sm"}, 1e-6, 1),
    ("pcie.link.gen.gpucurrent", links.PCIE_GENERATION, {}, 1, 0),
    ("pcie.link.gen.max", links.PCIE_GENERATION_LIMIT, {}, 1, 0),
    ("pcie.link.width.current", links.PCIE_WIDTH, {}, 1, 0),
    ("fan.speed", rows.FAN_SPEED_RATIO, {}, 100, 3),
    ("remapped_rows.uncorrectable", health.REMAPPED_ROWS, {health.REMAP_CAUSE: "uncorrected"}, 1, 0),
)


@contextlib.contextmanager
def gpus(*, scripted: bool) -> Iterator[None]:
    """The machine's GPUs, or scripted ones."""
    if not scripted:
        yield
        return
    with FakeNvml([FakeGpu(utilization=0.6, memory_used=3e9, sm_activity=0.5), FakeGpu()]):
        yield


@contextlib.contextmanager
def opened() -> Iterator[NvidiaSource]:
    """Our source on every GPU."""
    source = NvidiaSource("all", {})
    source.open()
    try:
        yield source
    finally:
        source.close()


def observe(source: NvidiaSource, seconds: float, every: float = 1.0) -> Snapshot:
    """What the GPUs were like over some time, as an export over that time would say."""
    accumulator = Accumulator()
    accumulator.pause()
    first = latest = accumulator.sample(source.read().readings, time.monotonic(), time.time_ns())
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(every)
        latest = accumulator.sample(source.read().readings, time.monotonic(), time.time_ns())
    return between(first, latest)


def of(snapshot: Snapshot, metric: Metric, index: int | str, **attributes: str) -> float | None:
    """One figure of one GPU, by NVML's number or its UUID."""
    for reading in snapshot.of(metric):
        known = reading.attributes
        ours = index in (known.get(rows.GPU_INDEX), known.get(rows.HW_ID))
        if ours and all(known.get(key) == value for key, value in attributes.items()):
            return reading.value
    return None


def nvidia_smi() -> list[dict[str, str]]:
    """What nvidia-smi says of each GPU now."""
    names = ",".join(query[0] for query in QUERIES)
    command = ["nvidia-smi", f"--query-gpu={names}", "--format=csv,noheader,nounits"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    return [
        dict(zip([query[0] for query in QUERIES], map(str.strip, line.split(",")), strict=True))
        for line in answer.splitlines()
    ]


def compare(seconds: float, *, scripted: bool) -> list[dict[str, Any]]:
    """Ours beside nvidia-smi's; nvidia-smi is asked in the middle of our window."""
    theirs: list[dict[str, str]] = []
    with opened() as source:
        if not scripted:
            timer = threading.Timer(seconds / 2, lambda: theirs.extend(nvidia_smi()))
            timer.start()
        snapshot = observe(source, seconds)
        if not scripted:
            timer.join()
    found = []
    count = len({reading.attributes[rows.GPU_INDEX] for reading in snapshot})
    table = Table("GPU", "nvidia-smi", "ours", "theirs", "", title="Ours against nvidia-smi")
    for index in range(count):
        for name, metric, attributes, factor, apart in QUERIES:
            value = of(snapshot, metric, index, **attributes)
            ours = None if value is None else value * factor
            their = theirs[index][name] if theirs else "not asked"
            with contextlib.suppress(ValueError):
                agree = ours is not None and abs(ours - float(their)) <= apart
                verdict = "" if agree else "[bold]apart"
                found.append({"gpu": index, "name": name, "ours": ours, "theirs": float(their), "agree": agree})
                table.add_row(str(index), name, "absent" if ours is None else f"{ours:.6g}", their, verdict)
                continue
            table.add_row(str(index), name, "absent" if ours is None else f"{ours:.6g}", their, "")
    console.print(table)
    return found


class Timed:
    """NVML's library with a watch on every function."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self.seconds: dict[str, list[float]] = defaultdict(list)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function = getattr(self._library, name)

        def timed(*arguments: Any) -> Any:
            began = time.perf_counter()
            answer = function(*arguments)
            self.seconds[name].append(time.perf_counter() - began)
            return answer

        return timed


def calls(seconds: float) -> list[dict[str, Any]]:
    """How long each call takes, as the source makes it."""
    pynvml.nvmlInit()
    library, cache = pynvml.nvmlLib, dict(pynvml._nvmlGetFunctionPointer_cache)  # noqa: SLF001 - no public way below the binding
    pynvml.nvmlLib = timed = Timed(library)
    pynvml._nvmlGetFunctionPointer_cache.clear()  # noqa: SLF001 - likewise
    looks = []
    try:
        with opened() as source:
            source.read()
            timed.seconds.clear()
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                began = time.perf_counter()
                source.read()
                looks.append(time.perf_counter() - began)
                time.sleep(1)
            count = len({reading.attributes[rows.GPU_INDEX] for reading in source.read().readings})
    finally:
        pynvml.nvmlLib = library
        pynvml._nvmlGetFunctionPointer_cache.update(cache)  # noqa: SLF001 - likewise
        pynvml.nvmlShutdown()
    table = Table(
        "function", "calls", "median µs", "most µs", title=f"NVML calls over {len(looks)} samples, {count} devices"
    )
    found = []
    for name, each in sorted(timed.seconds.items(), key=lambda item: -sum(item[1])):
        row = {
            "function": name,
            "calls": len(each),
            "median_us": statistics.median(each) * 1e6,
            "most_us": max(each) * 1e6,
        }
        found.append(row)
        table.add_row(name, str(len(each)), f"{row['median_us']:.1f}", f"{row['most_us']:.1f}")
    table.add_section()
    table.add_row("one sample", str(len(looks)), f"{statistics.median(looks) * 1e6:.0f}", f"{max(looks) * 1e6:.0f}")
    per_gpu = sum(len(each) for each in timed.seconds.values()) / len(looks) / count
    table.add_row("calls a device and sample", f"{per_gpu:.2f}", "", "")
    console.print(table)
    return [*found, {"samples": len(looks), "sample_us": statistics.median(looks) * 1e6, "calls_per_device": per_gpu}]


def load(seconds: float) -> list[dict[str, Any]]:
    """Activity under loads that are known."""
    import torch

    size = 8192
    left, right = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    source_bytes = torch.empty(2**31, device="cuda", dtype=torch.uint8)
    target_bytes = torch.empty_like(source_bytes)
    loads: dict[str, Callable[[], Any]] = {
        "idle": lambda: time.sleep(0.05),
        "matrix product": lambda: torch.mm(left, right),
        "copy": lambda: target_bytes.copy_(source_bytes),
    }
    shown = (activity.SM_ACTIVITY, activity.SM_OCCUPANCY, activity.TENSOR_ACTIVITY, activity.DRAM_ACTIVITY)
    table = Table("load", *(metric.name.removeprefix("hwmetrics.gpu.") for metric in shown), title="Activity by GPM")
    found = []
    for name, work in loads.items():
        stop = threading.Event()

        def keep_busy(work: Callable[[], Any] = work, stop: threading.Event = stop) -> None:
            while not stop.is_set():
                work()
                torch.cuda.synchronize()

        worker = threading.Thread(target=keep_busy, daemon=True)
        worker.start()
        try:
            time.sleep(1)
            with opened() as source:
                snapshot = observe(source, seconds)
        finally:
            stop.set()
            worker.join()
        # CUDA's numbers need not be NVML's.
        uuid = f"GPU-{torch.cuda.get_device_properties(torch.cuda.current_device()).uuid}"
        figures = {metric.name: of(snapshot, metric, uuid) for metric in shown}
        found.append({"load": name, **figures})
        table.add_row(name, *("absent" if value is None else f"{value:.3f}" for value in figures.values()))
    console.print(table)
    return found


def loop(seconds: float, rounds: int = 8) -> list[dict[str, Any]]:
    """Steps a second of a loop with us, without us, and without us again, which says how much is noise."""
    import torch
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    import otel_hwmetrics

    model = torch.nn.Sequential(*(torch.nn.Linear(1024, 1024) for _ in range(8))).cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    batch = torch.randn(256, 1024, device="cuda")

    def steps() -> float:
        count, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            optimizer.zero_grad()
            model(batch).square().mean().backward()
            optimizer.step()
            count += 1
        torch.cuda.synchronize()
        return count / seconds

    arms: dict[str, list[float]] = {"without": [], "with": [], "without again": []}
    steps()
    for _ in range(rounds):
        arms["without"].append(steps())
        reader = InMemoryMetricReader()
        handle = otel_hwmetrics.instrument(meter_provider=MeterProvider([reader]), metrics="all")
        arms["with"].append(steps())
        reader.get_metrics_data()
        handle.shutdown()
        arms["without again"].append(steps())
    base = statistics.median(arms["without"])
    table = Table("arm", "steps/s", "over without", title=f"A training loop, {rounds} rounds of {seconds:g} s")
    for name, each in arms.items():
        table.add_row(name, f"{statistics.median(each):.1f}", f"{statistics.median(each) / base:.4f}")
    console.print(table)
    return [{"arm": name, "steps_per_second": statistics.median(each)} for name, each in arms.items()]


def board() -> dict[str, Any]:
    """Which board and driver the figures are of."""
    pynvml.nvmlInit()
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        return {
            "gpus": pynvml.nvmlDeviceGetCount(),
            "board": str(pynvml.nvmlDeviceGetName(handle)),
            "driver": str(pynvml.nvmlSystemGetDriverVersion()),
            "python": platform.python_version(),
            "date": time.strftime("%Y-%m-%d"),
        }
    finally:
        pynvml.nvmlShutdown()


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=PARTS, action="append", help="this part only; may be given more than once")
    parser.add_argument("--seconds", type=float, default=20, help="how long each measurement takes")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--scripted", action="store_true", help="try it on scripted GPUs")
    options = parser.parse_args()
    wanted = options.only or (PARTS[:2] if options.scripted else PARTS)
    with gpus(scripted=options.scripted):
        try:
            found: dict[str, Any] = board()
        except pynvml.NVMLError as error:
            print(f"No NVIDIA GPU can be asked here: {error}. Try it with --scripted.", file=sys.stderr)
            return 2
        console.print(f"{found['gpus']} x {found['board']}, driver {found['driver']}, {found['date']}")
        if "compare" in wanted:
            found["compare"] = compare(options.seconds, scripted=options.scripted)
        if "calls" in wanted:
            found["calls"] = calls(options.seconds)
        for name, part in (("load", load), ("loop", loop)):
            if name in wanted:
                found[name] = part(options.seconds)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
