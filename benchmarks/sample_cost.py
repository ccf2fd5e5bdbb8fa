# SPDX-License-Identifier: Apache-2.0
"""What one look at the machine costs, against its floor and against a peer, in one process and one run.

Floor: the same psutil and NVML calls, bare, with nothing done about them. Peer: opentelemetry-instrumentation-
system-metrics without its connection scan (which alone costs more than everything here), through the same SDK.
GPUs are scripted, so a driver's own time is not in it: compare the ratios, not the microseconds.

    python benchmarks/sample_cost.py [--rounds N] [--seconds N] [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pynvml
from opentelemetry.instrumentation.system_metrics import _DEFAULT_CONFIG, SystemMetricsInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from rich.console import Console
from rich.table import Table

import otel_hwmetrics
from otel_hwmetrics import pipeline as pipeline_module
from otel_hwmetrics.config import Config
from otel_hwmetrics.pipeline import Pipeline
from otel_hwmetrics.testing import FakeGpu, FakeNvml


def host_floor() -> None:
    """The host's and the process's calls, bare."""
    psutil.cpu_times()
    psutil.virtual_memory()
    psutil.swap_memory()
    psutil.disk_io_counters(perdisk=True, nowrap=False)
    psutil.net_io_counters(pernic=True, nowrap=False)
    with _process.oneshot():
        _process.cpu_times()
        _process.memory_info()
        _process.io_counters()
        _process.num_threads()


_process = psutil.Process()


FIELDS = tuple(
    getattr(pynvml, name)
    for name in (
        "NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
        "NVML_FI_DEV_POWER_INSTANT",
        "NVML_FI_DEV_POWER_AVERAGE",
        "NVML_FI_DEV_MEMORY_TEMP",
        "NVML_FI_DEV_PCIE_COUNT_RX_BYTES",
        "NVML_FI_DEV_PCIE_COUNT_TX_BYTES",
        "NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX",
        "NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX",
        "NVML_FI_DEV_PERF_POLICY_POWER",
        "NVML_FI_DEV_PERF_POLICY_THERMAL",
        "NVML_FI_DEV_PERF_POLICY_BOARD_LIMIT",
        "NVML_FI_DEV_PERF_POLICY_RELIABILITY",
    )
)


def gpu_floor(count: int) -> Callable[[], None]:
    """The GPUs' calls of every sample, bare, through the binding's own functions; without the slow ones."""
    handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]

    def read() -> None:
        for handle in handles:
            for value in pynvml.nvmlDeviceGetFieldValues(handle, FIELDS):
                _ = value.value.ullVal
            pynvml.nvmlDeviceGetUtilizationRates(handle)
            pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
            pynvml.nvmlDeviceGetTemperatureV(handle, pynvml.NVML_TEMPERATURE_GPU)

    return read


def points(reader: InMemoryMetricReader) -> int:
    """Collect once; gives how many points there were."""
    data = reader.get_metrics_data()
    return sum(
        len(metric.data.data_points)
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
    )


@contextmanager
def our_pipeline(sources: tuple[str, ...], reader: InMemoryMetricReader | None = None) -> Iterator[Pipeline]:
    """Ours, sampling only when told."""
    provider = MeterProvider([reader] if reader else [])
    pipeline = Pipeline(Config(sources=sources, sample_interval=0), meter_provider=provider)
    pipeline.start()
    pipeline.sampler.fresh(10)  # its own first look is over
    try:
        yield pipeline
    finally:
        pipeline.stop()


@contextmanager
def peer(reader: InMemoryMetricReader) -> Iterator[None]:
    """system-metrics as most run it, without the scan of every socket of the machine."""
    config = {name: value for name, value in _DEFAULT_CONFIG.items() if name != "system.network.connections"}
    instrumentor = SystemMetricsInstrumentor(config=config)
    instrumentor.instrument(meter_provider=MeterProvider([reader]))
    try:
        yield
    finally:
        instrumentor.uninstrument()


def alternate(arms: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Time the arms in turn, so that the machine's moods fall on all alike; seconds by arm."""
    taken: dict[str, list[float]] = {name: [] for name in arms}
    for arm in arms.values():
        arm()
    for _ in range(rounds):
        for name, arm in arms.items():
            started = time.perf_counter()
            arm()
            taken[name].append(time.perf_counter() - started)
    return taken


def measure(rounds: int) -> list[dict[str, Any]]:
    """Every comparison: what, floor or peer, ours, their ratio with its spread over ten parts of the run."""
    rows = []
    ours_reader, peer_reader = InMemoryMetricReader(), InMemoryMetricReader()
    with our_pipeline(("system", "process")) as pipeline:
        taken = alternate({"floor": host_floor, "ours": pipeline.sampler.sample}, rounds)
        rows.append(compare("one sample of host and process", "bare psutil calls", taken))
    for count in (2, 8):
        with FakeNvml([FakeGpu() for _ in range(count)]), our_pipeline(("nvidia",)) as pipeline:
            pipeline.sampler.sample()
            taken = alternate({"floor": gpu_floor(count), "ours": pipeline.sampler.sample}, rounds)
            rows.append(compare(f"one sample of {count} GPUs, judged", "bare NVML calls", taken))
    with our_pipeline(("system", "process"), ours_reader), peer(peer_reader):
        # SHARED_FOR would serve the same sample again within 50 ms; here every collection is to look anew.
        pipeline_module.SHARED_FOR = 0.0
        counts = points(peer_reader), points(ours_reader)
        arms = {"floor": lambda: points(peer_reader), "ours": lambda: points(ours_reader)}
        taken = alternate(arms, max(rounds // 5, 20))
        what = f"one export cycle with the SDK ({counts[1]} points)"
        rows.append(compare(what, f"system-metrics, no connection scan ({counts[0]} points)", taken))
    return rows


def share_of_a_core(seconds: float) -> float:
    """CPU time over time of a process that does nothing but be watched, by the defaults, with 8 scripted GPUs."""
    with FakeNvml([FakeGpu() for _ in range(8)]), otel_hwmetrics.instrument(meter_provider=MeterProvider([])):
        time.sleep(2)  # opening is over
        started, started_cpu = time.monotonic(), time.process_time()
        time.sleep(seconds)
        return (time.process_time() - started_cpu) / (time.monotonic() - started)


def compare(what: str, against: str, taken: dict[str, list[float]]) -> dict[str, Any]:
    """One row: medians, and the ratio's quartiles over ten slices of the run as its noise."""
    size = max(1, len(taken["ours"]) // 10)
    ratios = [
        statistics.median(taken["ours"][at : at + size]) / statistics.median(taken["floor"][at : at + size])
        for at in range(0, size * 10, size)
    ]
    low, _, high = statistics.quantiles(ratios, n=4)
    return {
        "what": what,
        "against": against,
        "against_us": statistics.median(taken["floor"]) * 1e6,
        "ours_us": statistics.median(taken["ours"]) * 1e6,
        "ratio": statistics.median(taken["ours"]) / statistics.median(taken["floor"]),
        "ratio_quartiles": [low, high],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1000, help="samples an arm (default 1000)")
    parser.add_argument("--seconds", type=float, default=20, help="how long the defaults are watched (default 20)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    share = share_of_a_core(arguments.seconds)
    rows = measure(arguments.rounds)
    if arguments.json:
        print(json.dumps({"share_of_a_core": share, "comparisons": rows}, indent=2))
        return
    table = Table("what", "against", "its µs", "our µs", "ratio (quartiles)", title="Medians; only ratios travel")
    for row in rows:
        low, high = row["ratio_quartiles"]
        ratio = f"{row['ratio']:.2f} ({low:.2f} to {high:.2f})"
        table.add_row(row["what"], row["against"], f"{row['against_us']:.0f}", f"{row['ours_us']:.0f}", ratio)
    console = Console()
    console.print(table)
    console.print(
        f"By the defaults, with 8 scripted GPUs and no reader: {share:.2%} of a core over {arguments.seconds:g} s"
    )


if __name__ == "__main__":
    main()
