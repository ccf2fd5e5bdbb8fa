# SPDX-License-Identifier: Apache-2.0
"""Small recordings for tests, written by the real writer: a training of some epochs on two GPUs, by the second."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from struct import pack

from otel_hwmetrics.catalog import gpu, tree
from otel_hwmetrics.model import Series
from otel_hwmetrics.recording import SUFFIX, Writer
from otel_hwmetrics.recording.nouns import (
    DONE,
    PROCESS,
    About,
    Job,
    JobSample,
    RecordedAlert,
    RecordedFile,
    RecordedSpan,
    Request,
    Totals,
)

START = 1_760_000_040_000_000_000
"""Nanoseconds since the epoch: 2025-10-09 08:54:00 UTC, a whole minute."""
SECOND = 1_000_000_000
GIB = 2**30
GPUS = 2

REQUEST = Request(cpus=4, memory=8 * GIB, runtime=7200.0, gpus=2, gpu_memory=40 * GIB, by={"cpus": "argument"})

ACTIVITY = [Series(gpu.UTILIZATION, {"hw.id": f"GPU-{n}", "hwmetrics.gpu.index": n}) for n in range(GPUS)]
MEMORY = [Series(gpu.MEMORY_USAGE, {"hw.id": f"GPU-{n}", "hwmetrics.gpu.index": n}) for n in range(GPUS)]
ENERGY = [Series(gpu.ENERGY, {"hw.id": f"GPU-{n}", "hwmetrics.gpu.index": n}) for n in range(GPUS)]
TREE_MEMORY = Series(tree.MEMORY_USAGE)
SERIES = (*ACTIVITY, *MEMORY, *ENERGY, TREE_MEMORY)


def about(run: str = "1f3a9c2e", **changes: object) -> About:
    """Who writes."""
    usual = About(
        run, "train", PROCESS, "node7", 4242, started_ns=START, heard_ns=START, versions={"otel-hwmetrics": "0.1.0"}
    )
    return replace(usual, **changes)  # type: ignore[arg-type] # of a test's choosing


def sample(second: int) -> JobSample:
    """What the job does at a second: memory grows, the GPUs rest each tenth second."""
    busy = 0.0 if second % 10 == 0 else 0.9
    return JobSample(
        START + second * SECOND,
        cpu=1.5 + math.sin(second),
        memory=float(GIB + second * 2**20),
        processes=5.0,
        gpus=float(GPUS),
        gpu_activity=busy,
        gpu_memory=float(30 * GIB),
        gpu_memory_most=float(16 * GIB),
        gpu_power=300.0 + 200.0 * busy,
        gpu_temperature=60.0 + second % 7,
    )


def values(second: int) -> dict[Series, float]:
    """Where every series stands at a second."""
    busy = 0.0 if second % 10 == 0 else 0.9
    told = {**dict.fromkeys(ACTIVITY, busy), **dict.fromkeys(MEMORY, 15.0 * GIB)}
    return {**told, **dict.fromkeys(ENERGY, 240.0 * second), TREE_MEMORY: float(GIB + second * 2**20)}


def epochs(seconds: int, each: int = 60) -> list[RecordedSpan]:
    """A root span and an epoch every ``each`` seconds."""
    root = RecordedSpan("a" * 32, "b" * 16, "", "training", START, START + seconds * SECOND, "ok")
    return [
        root,
        *(
            RecordedSpan(
                root.trace_id,
                f"{number:016x}",
                root.span_id,
                "epoch",
                START + begin * SECOND,
                START + min(seconds, begin + each) * SECOND,
                attributes={
                    "hwmetrics.training.epoch": number - 1,
                    "hwmetrics.summary.gpu.energy": 28_800.0,
                    "hwmetrics.summary.gpu.utilization": 0.81,
                },
            )
            for number, begin in enumerate(range(0, seconds, each), 1)
        ),
    ]


def alert(second: int, state: str = "firing", rule: str = "gpu_hot", severity: str = "warning") -> RecordedAlert:
    """An alert at a second, on the root span."""
    text = "GPU 1 is at 87 °C (above 80 °C)." if state == "firing" else "Resolved after 20 s."
    return RecordedAlert(
        START + second * SECOND, rule, state, severity, "GPU 1", text, "a" * 32, "b" * 16, {"alert": rule}
    )


def run(
    folder: Path,
    seconds: int = 150,
    *,
    who: About | None = None,
    jobs: Sequence[Job] | None = None,
    step: int = 1,
    closed: bool = True,
    file_name: str = "",
) -> Path:
    """Write a recording.

    Args:
        folder: Where.
        seconds: How long the run takes.
        who: Its writer; `about` by default.
        jobs: Each does what `sample` says; one by default, which asked for `REQUEST`.
        step: Seconds between two looks.
        closed: Whether it was ended in good order.
        file_name: By default made of run, role and rank.

    Returns:
        The file.
    """
    who = who or about()
    path = folder / (file_name or f"{who.run}-{who.role}-{who.rank}-{who.pid}{SUFFIX}")
    writer = Writer(str(path), replace(who, interval=float(step)))
    end = START + seconds * SECOND
    if jobs is None:
        jobs = [Job(1, "train", "python train.py", DONE, START, end, end, 0, REQUEST, host=who.host)]
    for job in jobs:
        writer.job(job)
    for second in range(0, seconds + 1, step):
        told = values(second)
        writer.look(START + second * SECOND, SERIES, pack(f"{len(SERIES)}d", *(told[each] for each in SERIES)))
        for job in jobs:
            totals = Totals(1.5 * second, 480.0 * second, 2.0 * (second // 10), 2.0 * second, 3 * GIB)
            writer.sample(job.id, sample(second), totals)
        if second % 5 == 0:
            writer.commit(START + second * SECOND)
    for span in epochs(seconds):
        writer.span(span)
    for each in (alert(20), alert(40, "resolved")):
        writer.alert(each)
    writer.file(RecordedFile(START + 20 * SECOND, "profile", "/runs/x.trace.json"))
    if closed:
        writer.close(end)
    else:
        writer.commit(end)
    return path
