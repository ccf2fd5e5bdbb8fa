# SPDX-License-Identifier: Apache-2.0
"""How long ten million samples take to be drawn.

First the lines alone: so many points become as many as can be seen. Then the whole command, from a recording that the real
writer has made: one job that is looked at four times a second, with eight GPUs of its own, nine figures of the job and
four series of each GPU. The promise is that it takes seconds.

    python benchmarks/plot_cost.py [--samples N] [--format html|png|svg] [--json]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from struct import pack
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from otel_hwmetrics.catalog import gpu
from otel_hwmetrics.display.plots.decimate import thin
from otel_hwmetrics.model import Attribute, Series
from otel_hwmetrics.recording import SUFFIX, Writer
from otel_hwmetrics.recording.nouns import DONE, FIGURES, About, Job, JobSample, Totals

GPUS = 8
PROMISED = 30.0
"""Seconds."""
WIDTH = 1600
STEP = 250_000_000
START = 1_760_000_040_000_000_000


def record(folder: str, samples: int) -> int:
    """Write a recording of about so many samples; gives how many there are."""
    rows = (gpu.UTILIZATION, gpu.MEMORY_USAGE, gpu.TEMPERATURE, gpu.POWER)
    devices: list[dict[str, Attribute]] = [
        {"hw.id": f"GPU-{n}", "hw.name": f"GPU {n}", "hwmetrics.gpu.index": n} for n in range(GPUS)
    ]
    series = tuple(Series(row, device) for device in devices for row in rows)
    a_look = len(series) + len(FIGURES)
    looks = samples // a_look
    end = START + looks * STEP
    about = About("benchmark", "benchmark", host="here", started_ns=START, interval=STEP / 1e9)
    writer = Writer(f"{folder}/benchmark{SUFFIX}", about, detail=1e9, size=2**40)
    writer.job(Job(1, "train", "python train.py", DONE, START, end, end, 0, host="here"))
    noise = np.random.default_rng(1).random((looks, a_look))
    for look in range(looks):
        at = START + look * STEP
        busy = noise[look]
        writer.look(at, series, pack(f"{len(series)}d", *(busy[: len(series)] * 100)))
        cpu, memory, activity, watts, heat, *_ = busy[len(series) :]
        figures = (
            cpu * 8,
            memory * 2**35,
            9.0,
            float(GPUS),
            activity,
            memory * 2**38,
            memory * 2**36,
            watts * 5000,
            heat * 90,
        )
        writer.sample(1, JobSample(at, *map(float, figures)), Totals())
        if look % 240 == 0:
            writer.commit(at)
    writer.close(end)
    return looks * a_look


def thinned(samples: int) -> float:
    """Seconds for one line of so many points."""
    times = START + 1_000_000_000 * np.arange(samples)
    values = np.random.default_rng(1).random(samples)
    started = time.perf_counter()
    thin(times, values, WIDTH, 1e9)
    return time.perf_counter() - started


def measure(samples: int, form: str) -> list[dict[str, Any]]:
    """A row for each."""
    rows: list[dict[str, Any]] = [{"what": "one line", "samples": samples, "seconds": thinned(samples)}]
    with tempfile.TemporaryDirectory() as folder:
        recorded = record(folder, samples)
        command = [sys.executable, "-c", "from otel_hwmetrics.cli import main; raise SystemExit(main())"]
        started = time.perf_counter()
        subprocess.run(
            [*command, "plot", folder, "-o", folder, "--format", form], check=True, stdout=subprocess.DEVNULL
        )
        seconds = time.perf_counter() - started
        most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        size = (Path(folder) / f"resource_plot_job_1.{form}").stat().st_size / 2**20
    rows.append(
        {
            "what": f"the command, as {form}",
            "samples": recorded,
            "seconds": seconds,
            "memory_gib": most,
            "page_mib": size,
        }
    )
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=10_000_000, help="how many (default 10000000)")
    parser.add_argument("--format", choices=("html", "png", "svg"), default="html")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    rows = measure(arguments.samples, arguments.format)
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    table = Table("what", "samples", "seconds", "memory", "job's file", title=f"promised: {PROMISED:g} s at the most")
    for row in rows:
        more = (f"{row['memory_gib']:.2f} GiB", f"{row['page_mib']:.1f} MiB") if "memory_gib" in row else ("", "")
        table.add_row(row["what"], f"{row['samples']:,}", f"{row['seconds']:.2f}", *more)
    Console().print(table)


if __name__ == "__main__":
    main()
