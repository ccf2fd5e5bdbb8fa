# SPDX-License-Identifier: Apache-2.0
"""What recording a run costs: CPU time, bytes on disk, and how long a reader of it waits.

For some seconds this process is watched with 8 scripted GPUs at work, while others keep the machine busy; that tells what the
sampler's thread spends on a look. These looks are then told again and again to the real writer, with counters that grow on,
until they are days: what the writer spends in batches of 5 s, roll-ups by the minute and what it forgets included.

    python benchmarks/recording_cost.py [--seconds N] [--hours N] [--days N] [--json]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from otel_hwmetrics.config import Config
from otel_hwmetrics.model import Kind, Series
from otel_hwmetrics.pipeline import Pipeline
from otel_hwmetrics.recording import Writer, open_run
from otel_hwmetrics.recording.nouns import About
from otel_hwmetrics.sinks.recorder import Recorder
from otel_hwmetrics.sinks.recorder_jobs import JobLook
from otel_hwmetrics.sinks.rows import Row
from otel_hwmetrics.testing import FakeGpu, FakeNvml, FakeProcess

GPUS = 8
INTERVAL = 0.2
BATCH = 5
"""Looks in one transaction, at one a second."""
DAY = 86_400
BEGAN = 1_767_225_600 * 10**9
OTHERS = "import os, time\nwhile True:\n    sum(i * i for i in range(200_000)); open(os.devnull, 'wb').write(bytes(2**20)); time.sleep(.05)"


class Captured(NamedTuple):
    """What was seen of the sampler's thread: its looks, and what each cost there, in seconds."""

    rows: list[Row]
    jobs: list[JobLook]
    spent: list[float]


def wave(number: int, low: float, high: float) -> Callable[[float], float]:
    """A quantity that is never the same twice, of one GPU."""

    def at(seconds: float) -> float:
        swing = sum(math.sin(seconds * rate + number * rate) for rate in (0.37, 2.9, 13.7)) / 3
        return low + (high - low) * (swing + 1) / 2

    return at


def at_work(number: int) -> FakeGpu:
    """A GPU of a training."""
    return FakeGpu(
        utilization=wave(number, 0.85, 1.0),
        sm_activity=wave(number, 0.6, 0.9),
        sm_occupancy=wave(number, 0.3, 0.5),
        tensor_activity=wave(number, 0.3, 0.6),
        dram_activity=wave(number, 0.3, 0.6),
        memory_controller_utilization=wave(number, 0.3, 0.6),
        power=wave(number, 450, 690),
        temperature=wave(number, 62, 71),
        memory_temperature=wave(number, 70, 80),
        sm_clock=wave(number, 1.6e9, 1.98e9),
        graphics_clock=wave(number, 1.6e9, 1.98e9),
        memory_used=wave(number, 60e9, 70e9),
        nvlink_tx=wave(number, 1e10, 1e11),
        nvlink_rx=wave(number, 1e10, 1e11),
        pcie_tx=wave(number, 1e8, 2e9),
        pcie_rx=wave(number, 1e8, 2e9),
        throttled_sw_power_cap=wave(number, 0.0, 0.2),
        processes=[FakeProcess(pid=os.getpid(), memory=wave(number, 58e9, 68e9), sm_utilization=0.9)],
    )


@contextmanager
def others() -> Iterator[None]:
    """The machine has more to do."""
    process = subprocess.Popen([sys.executable, "-c", OTHERS])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def capture(seconds: float, folder: str) -> Captured:
    """Record for real, and look over the recorder's shoulder."""
    captured = Captured([], [], [])
    on_look = Recorder.on_look

    def timed(self: Recorder, *args: Any) -> None:
        began = time.thread_time()
        on_look(self, *args)
        captured.spent.append(time.thread_time() - began)
        look = self._looks[-1] if self._looks else None
        if look is not None and look.row is not None:
            captured.rows.append(look.row)
            captured.jobs.extend(look.jobs)

    Recorder.on_look = timed  # type: ignore[method-assign,assignment]
    try:
        with FakeNvml([at_work(number) for number in range(GPUS)]), others():
            pipeline = Pipeline(Config(record=True, sample_interval=INTERVAL, cpu_budget=0, directory=folder))
            pipeline.start()
            time.sleep(seconds)
            pipeline.stop()
    finally:
        Recorder.on_look = on_look  # type: ignore[method-assign]
    begin = len(captured.rows) // 10  # sources open one after the other
    return Captured(captured.rows[begin:], captured.jobs[begin:], captured.spent[begin:])


class Replay:
    """The looks of a capture for ever, one a second: levels come again, counters grow on."""

    def __init__(self, captured: Captured) -> None:
        # What all have in common, so that each look has the same series, as hours of a steady training do.
        common = set.intersection(*(set(row.series) for row in captured.rows))
        self.series: tuple[Series, ...] = tuple(each for each in captured.rows[0].series if each in common)
        self.looks = [self._values(row) for row in captured.rows]
        self.jobs = captured.jobs
        first, last = self.looks[0], self.looks[-1]
        self.growth = [
            after - before if series.metric.kind is Kind.COUNTER else 0.0
            for series, before, after in zip(self.series, first, last, strict=True)
        ]

    def _values(self, row: Row) -> array[float]:
        place = {series: number for number, series in enumerate(row.series)}
        values = array("d", row.values)
        return array("d", [values[place[series]] for series in self.series])

    def look(self, number: int) -> bytes:
        """The values of a second."""
        again, place = divmod(number, len(self.looks))
        values = self.looks[place]
        if again:
            values = array("d", [value + again * more for value, more in zip(values, self.growth, strict=True)])
        return values.tobytes()


def days(replay: Replay, path: str, seconds: int, *, batch: int = BATCH, size: int = 2**30) -> tuple[float, int]:
    """So long a run, written; gives the CPU seconds that the writer took, and the largest that the files were."""
    about = About("bench", "bench", host="host", started_ns=BEGAN, heard_ns=BEGAN, interval=1.0)
    writer = Writer(path, about, size=size)
    spent, largest = 0.0, 0
    for begin in range(0, seconds, batch):
        looks = [(number, replay.look(number)) for number in range(begin, min(seconds, begin + batch))]
        began = time.thread_time()
        for number, values in looks:
            at_ns = BEGAN + number * 10**9 + number % 7 * 1000
            writer.look(at_ns, replay.series, values)
            job, sample, totals = replay.jobs[number % len(replay.jobs)]
            writer.job(job)
            writer.sample(job.id, sample._replace(at_ns=at_ns), totals)
        writer.commit(BEGAN + (begin + batch) * 10**9)
        spent += time.thread_time() - began
        if begin % 3600 < batch:
            largest = max(largest, sum(each.stat().st_size for each in Path(path).parent.glob(Path(path).name + "*")))
    began = time.thread_time()
    writer.close(BEGAN + seconds * 10**9)
    return spent + time.thread_time() - began, max(largest, os.path.getsize(path))


def block_bytes(path: str) -> list[float]:
    """Of each minute of full detail how many bytes a value has."""
    import sqlite3

    with sqlite3.connect(path) as connection:
        rows = connection.execute(
            "SELECT length(data) + length(times), looks, series FROM blocks JOIN layouts ON layouts.id = blocks.layout"
        ).fetchall()
    connection.close()
    return [size / (looks * len(json.loads(series))) for size, looks, series in rows]


def reading(path: str) -> dict[str, float]:
    """How long a reader waits for what a report is made of, in seconds."""
    taken: dict[str, float] = {}
    began = last = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal last
        taken[name], last = time.perf_counter() - last, time.perf_counter()

    with open_run(path) as run:
        lap("open")
        run.jobs(), run.spans(), run.alerts(), run.files()
        lap("jobs, spans, alerts, files")
        series = next(iter(run.recordings[0].series()), None)
        if series is not None:
            run.recordings[0].minutes(series.id)
        lap("every minute of a series")
        run.job_samples(1)
        lap("every look at the job")
    report = "import sys; from otel_hwmetrics.cli import main; sys.exit(main(['report', sys.argv[1]]))"
    subprocess.run([sys.executable, "-c", report, path], stdout=subprocess.DEVNULL, check=True)
    lap("otel-hwmetrics report, imports included")
    taken["all"] = time.perf_counter() - began
    return taken


def measure(seconds: float, short: int, long: int) -> dict[str, Any]:
    """All of it, of a capture of so many seconds: a run of so many seconds, and one of so many days."""
    with tempfile.TemporaryDirectory() as folder:
        captured = capture(seconds, os.path.join(folder, "real"))
        replay = Replay(captured)
        path = os.path.join(folder, "day.db")
        spent, largest = days(replay, path, short)
        look = statistics.mean(captured.spent)
        values = short * len(replay.series)
        result = {
            "series": len(replay.series),
            "look_us": look * 1e6,
            "look_share_of_a_core": look,  # one a second
            "writer_share_of_a_core": spent / short,
            "share_of_a_core": look + spent / short,
            "median_bytes_a_value_in_blocks": statistics.median(block_bytes(path)),
            "bytes_a_value_in_the_file": os.path.getsize(path) / values,
            "mib": os.path.getsize(path) / 2**20,
            "with_journal_mib": largest / 2**20,
            "reading_s": reading(path),
        }
        if long:
            path = os.path.join(folder, "long.db")
            bound = 2**28  # ten days do not fit
            _, largest = days(replay, path, long * DAY, batch=60, size=bound)
            result["long"] = {
                "days": long,
                "bound_mib": bound / 2**20,
                "largest_mib": largest / 2**20,
                "mib": os.path.getsize(path) / 2**20,
                "reading_s": reading(path),
            }
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="how long looks are captured (default 60)")
    parser.add_argument("--hours", type=float, default=24, help="how long the run is that is measured (default 24)")
    parser.add_argument("--days", type=int, default=10, help="how long the long run is; 0 for none (default 10)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    result = measure(arguments.seconds, round(arguments.hours * 3600), arguments.days)
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    print(f"{result['series']} series of {GPUS} scripted GPUs and this host, a look a second")
    print(f"a look, on the sampler's thread   {result['look_us']:8.0f} µs")
    print(f"CPU of it all, share of a core    {result['share_of_a_core']:8.3%}")
    print(f"bytes a value, median of minutes  {result['median_bytes_a_value_in_blocks']:8.2f}")
    print(f"bytes a value, whole file         {result['bytes_a_value_in_the_file']:8.2f}")
    print(f"{arguments.hours:g} hours                          {result['mib']:8.1f} MiB")
    for name, taken in result["reading_s"].items():
        print(f"reading them: {name:28} {taken:8.3f} s")
    if "long" in result:
        long = result["long"]
        print(f"{long['days']} days, {long['bound_mib']:.0f} MiB allowed: {long['largest_mib']:.1f} MiB at the most")
        print(f"reading them                      {long['reading_s']['all']:8.3f} s")


if __name__ == "__main__":
    main()
