# SPDX-License-Identifier: Apache-2.0
"""Steps a second of a PyTorch training on the CPU with everything on, over those with nothing, by turns in one process.

The loop is a plain one, with a DataLoader, and tells us nothing: steps of about 200 µs that hold the interpreter's lock for
most of the time. So what a thread of ours takes of that lock is missing to it, and what a step's hooks take, too. It is the
worst that can happen to training on a GPU, where Python has the next step ready before the last one is done.

Arms, taken in turn with the order changing from round to round:

- nothing: the loop alone.
- again: likewise. Its ratio to the first says what ratios are worth on this machine.
- everything: `instrument()` with its defaults: integrations, steps, all sources, alerts judged; two scripted GPUs; the real
  SDK, whose reader exports every second (``--export``) to nowhere; spans of the real SDK.
- With ``--arms``, to see where it goes: sampling (no reader and no integrations), exporting (with the reader, without
  integrations), hooks (integrations, and no look at the machine), sdk (no instrumentation; a reader every second over as many
  observable instruments that yield a constant, which is what any other way to the same metrics would cost).

Each arm of a round is set up, left alone for a second (`instrument()` opens sources and takes first looks), and then timed for
as long as ``--seconds`` says, by the wall: what waits for a lock takes no processor's time. The processor's time is told beside
it, of a step and of other threads: where a machine is busy the ratios scatter by more than there is to see, and these less.
Least of all does what is lost to stalls: by how much longer steps took that took half as long again as the median of their
round, which is compared with steps of the same second and not with those of another arm.
Scripted GPUs answer in Python, so they take more of the interpreter's lock than a driver does. Instrumentation can be taken off
again, so one process does, and neither the memory's layout nor the moment at which a process began is in the ratio. A meter
provider cannot give back its instruments, so each time there is a new one.

    python benchmarks/training_speed.py [--rounds N] [--seconds N] [--export SECONDS] [--arms NAME ...]
        [--least RATIO] [--json]

Needs PyTorch: .venv-frameworks has it (`make test-frameworks`).
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader, TensorDataset

import otel_hwmetrics as hw
from otel_hwmetrics.testing import FakeGpu, FakeNvml
from otel_hwmetrics.testing.symbols import events

BATCHES = 500
"""In an epoch: a tenth of a second, so that there are epochs' ends in what is timed."""
LONG = 1.5
"""A step is a long one that took so many times what is usual."""
SETTLING = 1.0
"""Seconds between the setting-up of an arm and its timing."""


class Nowhere(MetricExporter):
    """Takes metrics, and counts their points."""

    points = 0
    every = 1.0  # seconds

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: Any) -> MetricExportResult:  # noqa: ARG002
        """Let go of them."""
        Nowhere.points = sum(
            len(metric.data.data_points)
            for resource in metrics_data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        )
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:  # noqa: ARG002
        """There is nothing."""
        return True

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:
        """There is nothing."""


class SpansNowhere(SpanExporter):
    """Takes spans."""

    def export(self, spans: Any) -> SpanExportResult:  # noqa: ARG002
        """Let go of them."""
        return SpanExportResult.SUCCESS


def reader() -> PeriodicExportingMetricReader:
    """One that exports as often as is wanted."""
    return PeriodicExportingMetricReader(Nowhere(), export_interval_millis=1000 * Nowhere.every)


@contextmanager
def instrumented(*, exports: bool = True, **options: Any) -> Iterator[None]:
    """Ours, with new providers of the real SDK."""
    meters = MeterProvider([reader()] if exports else [])
    tracers = TracerProvider()
    tracers.add_span_processor(BatchSpanProcessor(SpansNowhere()))
    try:
        with hw.instrument(meter_provider=meters, tracer_provider=tracers, **options):
            yield
    finally:
        meters.shutdown()
        tracers.shutdown()


@contextmanager
def constants() -> Iterator[None]:
    """The SDK alone, with as many points as ours had last."""
    provider = MeterProvider([reader()])
    meter = provider.get_meter("constants")

    def one(_: CallbackOptions) -> Iterator[Observation]:
        yield Observation(1.0, {"hw.id": "GPU-1", "hw.name": "a GPU"})

    for number in range(Nowhere.points or 150):
        meter.create_observable_gauge(f"constant.{number}", [one])
    try:
        yield
    finally:
        provider.shutdown()


ARMS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "nothing": nullcontext,
    "again": nullcontext,
    "everything": instrumented,
    "sampling": lambda: instrumented(exports=False, integrations="none"),
    "exporting": lambda: instrumented(integrations="none"),
    "hooks": lambda: instrumented(exports=False, sample_interval=0),
    "sdk": constants,
}


class Training:
    """A small network, trained on the CPU as one does by hand."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        torch.set_num_threads(1)
        width = 32
        self.model = torch.nn.Sequential(torch.nn.Linear(width, width), torch.nn.ReLU(), torch.nn.Linear(width, 1))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3)
        batches = TensorDataset(torch.randn(BATCHES, 16, width), torch.randn(BATCHES, 16, 1))
        self.loader = DataLoader(batches, batch_size=None, shuffle=True)

    def steps(self, seconds: float) -> list[float]:
        """Train for so long.

        Returns:
            When it began, and then when each step ended, by `time.perf_counter`.
        """
        now = time.perf_counter
        started = now()
        ends = [started]
        while True:
            for inputs, targets in self.loader:
                self.optimizer.zero_grad()
                loss = torch.nn.functional.mse_loss(self.model(inputs), targets)
                loss.backward()
                self.optimizer.step()
                ends.append(now())
                if ends[-1] - started >= seconds:
                    return ends


class Timed(NamedTuple):
    """One arm in one round.

    Attributes:
        speed: Steps a second.
        own: Microseconds of processor's time that the training's thread took for a step: hooks are in it.
        beside: Milliseconds of processor's time that other threads took, in a second: what they may have kept from training.
        lost: Milliseconds a second by which steps took longer that took half as long again as their median.
    """

    speed: float
    own: float
    beside: float
    lost: float


def timed(training: Training, seconds: float) -> Timed:
    """Train for so long."""
    all_before, own_before = time.process_time(), time.thread_time()
    ends = training.steps(seconds)
    everybody, own = time.process_time() - all_before, time.thread_time() - own_before
    passed = ends[-1] - ends[0]
    each = [later - earlier for earlier, later in pairwise(ends)]
    usual = statistics.median(each)
    lost = sum(one - usual for one in each if one > LONG * usual)
    return Timed(len(each) / passed, 1e6 * own / len(each), 1e3 * (everybody - own) / passed, 1e3 * lost / passed)


def measure(names: list[str], rounds: int, seconds: float, settling: float) -> dict[str, list[Timed]]:
    """Each arm, round by round."""
    training = Training()
    training.steps(settling)
    found: dict[str, list[Timed]] = {name: [] for name in names}
    for number in range(rounds):
        shift = number % len(names)
        order = names[shift:] + names[:shift]
        for name in order if number % 2 else order[::-1]:
            with ARMS[name]():
                training.steps(settling)
                found[name].append(timed(training, seconds))
            gc.collect()
    return found


def ratios(found: dict[str, list[Timed]]) -> dict[str, dict[str, Any]]:
    """Of each arm over nothing in the same round: the median, and the quartiles as its spread."""
    told: dict[str, dict[str, Any]] = {}
    for name, speeds in found.items():
        each = [ours.speed / nothing.speed for ours, nothing in zip(speeds, found["nothing"], strict=True)]
        low, middle, high = statistics.quantiles(each, n=4) if len(each) > 1 else each * 3
        # Of the middle: half the width of what it would be in nine of ten such runs, were rounds independent.
        error = 1.25 * 1.645 * (high - low) / 1.35 / len(each) ** 0.5
        told[name] = {"median": middle, "quartiles": [low, high], "error": error}
    return told


def show(found: dict[str, Any]) -> None:
    """Print a table."""
    title = f"{found['rounds']} rounds of {found['seconds']:g} s; a step of nothing takes {found['step_us']:.0f} µs"
    heads = (
        "arm",
        "steps/s",
        "over nothing",
        "quartiles",
        "CPU of a step, µs",
        "other threads, ms/s",
        "lost to stalls, ms/s",
    )
    table = Table(*heads, title=title)
    for name, ratio in found["ratios"].items():
        low, high = ratio["quartiles"]
        middle = f"{ratio['median']:.4f} ± {ratio['error']:.4f}"
        keys = ("steps_a_second", "own_us_a_step", "beside_ms_a_second", "lost_ms_a_second")
        speed, own, beside, lost = (found[key][name] for key in keys)
        table.add_row(
            name, f"{speed:.0f}", middle, f"{low:.4f} to {high:.4f}", f"{own:.1f}", f"{beside:.2f}", f"{lost:.2f}"
        )
    Console().print(table)


def main() -> int:
    """Measure, print, and tell by the exit status whether the bound is kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=16, help="rounds (default 16)")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long an arm of a round is timed (default 3)")
    parser.add_argument("--settling", type=float, default=SETTLING, help="seconds before that (default 1)")
    parser.add_argument(
        "--export", type=float, default=1.0, help="seconds between exports (default 1; the SDK's is 60)"
    )
    parser.add_argument("--arms", nargs="*", default=["again", "everything"], choices=list(ARMS), help="beside nothing")
    parser.add_argument("--least", type=float, default=0.0, help="bound on the ratio of everything (default 0: none)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    Nowhere.every = arguments.export
    names = list(dict.fromkeys(["nothing", *arguments.arms]))
    # A driver waits for events without waking up a hundred times a second.
    vars(events)["_SLICE"] = 1.0
    with FakeNvml([FakeGpu(), FakeGpu()]):
        speeds = measure(names, arguments.rounds, arguments.seconds, arguments.settling)
    middle = {name: statistics.median(one.speed for one in each) for name, each in speeds.items()}
    found: dict[str, Any] = {
        "rounds": arguments.rounds,
        "seconds": arguments.seconds,
        "export_s": arguments.export,
        "step_us": 1e6 / middle["nothing"],
        "points": Nowhere.points,
        "steps_a_second": middle,
        "own_us_a_step": {name: statistics.median(one.own for one in each) for name, each in speeds.items()},
        "beside_ms_a_second": {name: statistics.median(one.beside for one in each) for name, each in speeds.items()},
        "lost_ms_a_second": {name: statistics.median(one.lost for one in each) for name, each in speeds.items()},
        "ratios": ratios(speeds),
    }
    if arguments.json:
        print(json.dumps(found, indent=2))
    else:
        show(found)
    ratio = found["ratios"].get("everything", {"median": 1.0})["median"]
    if ratio < arguments.least:
        print(
            f"with everything on there are {ratio:.4f} times the steps, less than {arguments.least:g}", file=sys.stderr
        )
    return int(ratio < arguments.least)


if __name__ == "__main__":
    sys.exit(main())
