# SPDX-License-Identifier: Apache-2.0
"""A run to look at: a data set is prepared, then a model is trained on two GPUs, with epochs, validations, checkpoints, alerts."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from struct import pack

from otel_hwmetrics.catalog import gpu
from otel_hwmetrics.model import Attribute, Series
from otel_hwmetrics.recording import SUFFIX, Writer
from otel_hwmetrics.recording.nouns import (
    DONE,
    PARENT,
    PROCESS,
    Job,
    JobSample,
    RecordedAlert,
    RecordedSpan,
    Request,
    Totals,
)
from recorded import GIB, SECOND, START, about

RUN = "7c41d0aa"
NAME = "resnet50-lr3e-4"
PREPARED, TRAINED = 420, 2700
"""Seconds from the beginning: the one job is over, the other."""
EPOCH, VALIDATION, CHECKPOINT = 500, 70, 16
TRAINING = PREPARED + 30
GPUS = 2


def _of_gpu(number: int, **more: Attribute) -> dict[str, Attribute]:
    return {"hw.id": f"GPU-{number}", "hw.name": f"GPU {number}", "hwmetrics.gpu.index": number, **more}


def _sensor(number: int) -> dict[str, Attribute]:
    own = {"hw.id": f"GPU-{number}/temperature/gpu", "hw.parent": f"GPU-{number}", "hw.sensor.location": "gpu"}
    return _of_gpu(number) | own


ACTIVITY = [Series(gpu.UTILIZATION, _of_gpu(n, **{"hw.gpu.task": "general"})) for n in range(GPUS)]
MEMORY = [Series(gpu.MEMORY_USAGE, _of_gpu(n)) for n in range(GPUS)]
TEMPERATURE = [Series(gpu.TEMPERATURE, _sensor(n)) for n in range(GPUS)]
ENERGY = [Series(gpu.ENERGY, _of_gpu(n)) for n in range(GPUS)]
SERIES = (*ACTIVITY, *MEMORY, *TEMPERATURE, *ENERGY)


def phase(second: int) -> str:
    """What the training does at a second."""
    if not TRAINING <= second < TRAINED - 20:
        return "idle"
    within = (second - TRAINING) % EPOCH
    if within >= EPOCH - CHECKPOINT:
        return "checkpoint"
    return "validation" if within >= EPOCH - CHECKPOINT - VALIDATION else "epoch"


def _starved(second: int) -> bool:
    return 1500 <= second < 1680


def write(folder: Path, name: str = NAME, seed: int = 7) -> Path:
    """Write the run: the launcher's file, which is returned, and that of the process that trains."""
    chance = random.Random(seed)  # noqa: S311 - the same at each time
    launcher = about(RUN, name=name, role=PARENT, pid=100)
    path = folder / f"{RUN}-launcher{SUFFIX}"
    writer = Writer(str(path), launcher)
    end = START + TRAINED * SECOND
    jobs = (
        Job(1, "prepare", "python prepare.py", DONE, START, START + PREPARED * SECOND, end, 0, Request(8, 16 * GIB), host="node7"),
        Job(
            2, "train", "python train.py", DONE, START + PREPARED * SECOND, end, end, 0,
            Request(8, 48 * GIB, 3600.0, 2, 80 * GIB), blocked_by=("prepare",), host="node7",
        ),
    )  # fmt: skip
    for job in jobs:
        writer.job(job)
    heat, energy, gpu_seconds = [38.0] * GPUS, [0.0] * GPUS, 0.0
    for second in range(TRAINED + 1):
        doing = phase(second)
        busy = [_busy(doing, second, chance) for _ in range(GPUS)]
        power = [70 + 560 * each + chance.uniform(-9, 9) for each in busy]
        heat = [
            was + (31 + watts / 12.5 + 5 * n - was) / 45 for n, (was, watts) in enumerate(zip(heat, power, strict=True))
        ]
        energy = [was + watts for was, watts in zip(energy, power, strict=True)]
        memory = [(61.2 * GIB if second > TRAINING else 0.6 * GIB) + 0.4 * GIB * n for n in range(GPUS)]
        told = dict(zip(SERIES, (*busy, *memory, *heat, *energy), strict=True))
        writer.look(START + second * SECOND, SERIES, pack(f"{len(SERIES)}d", *(told[each] for each in SERIES)))
        if second <= PREPARED:
            cpu = 7.4 + chance.uniform(-0.6, 0.6)
            rss = (2 + 11 * second / PREPARED) * GIB + chance.uniform(0, 0.4) * GIB
            writer.sample(1, JobSample(START + second * SECOND, cpu, rss, 9.0), Totals(7.4 * second))
        if second >= PREPARED:
            gpu_seconds += GPUS
            look = _look(second, doing, chance, (busy, memory, power, heat))
            writer.sample(2, look, Totals(4.0 * second, sum(energy), None, gpu_seconds))
        if second % 60 == 0:
            writer.commit(START + second * SECOND)
    writer.close(end)
    _training(folder, name)
    return path


def _busy(doing: str, second: int, chance: random.Random) -> float:
    if doing == "idle":
        return 0.0
    level = {"epoch": 0.95, "validation": 0.71, "checkpoint": 0.02}[doing]
    level = 0.42 if _starved(second) and doing == "epoch" else level
    return min(1.0, max(0.0, level + chance.gauss(0, 0.025)))


def _look(second: int, doing: str, chance: random.Random, gpus: Sequence[Sequence[float]]) -> JobSample:
    busy, memory, power, heat = gpus
    cpu = {"idle": 1.0, "epoch": 5.1, "validation": 3.2, "checkpoint": 1.6}[doing] + chance.gauss(0, 0.18)
    cpu = 7.9 + chance.gauss(0, 0.05) if _starved(second) else cpu
    grown = (second - PREPARED) / (TRAINED - PREPARED)
    rss = (5.5 + 12 * (1 - math.exp(-grown * 9)) + 7 * grown + (9 if doing == "checkpoint" else 0)) * GIB
    return JobSample(
        START + second * SECOND, max(0.1, cpu), rss, 18.0 if second > TRAINING else 2.0, float(GPUS), sum(busy) / GPUS,
        sum(memory), max(memory), sum(power), max(heat),
    )  # fmt: skip


def spans() -> Iterator[RecordedSpan]:
    """The spans of the training: epochs in it, in each a validation and a checkpoint."""
    trace, root = "a" * 32, "b" * 16
    stop = TRAINED - 20
    yield RecordedSpan(trace, root, "", "fit", START + (PREPARED + 12) * SECOND, START + stop * SECOND, "ok")
    for number, begin in enumerate(range(TRAINING, stop, EPOCH)):
        end = min(stop, begin + EPOCH)
        epoch = f"{number + 1:016x}"
        yield RecordedSpan(
            trace, epoch, root, "epoch", START + begin * SECOND, START + end * SECOND, "ok",
            {"hwmetrics.training.epoch": number},
        )  # fmt: skip
        if end == begin + EPOCH:
            half = end - CHECKPOINT
            for name, first, last in (("validation", half - VALIDATION, half), ("checkpoint", half, end)):
                own = f"{ord(name[0]):08x}{number:08x}"
                yield RecordedSpan(trace, own, epoch, name, START + first * SECOND, START + last * SECOND, "ok")


ALERTS = (
    (
        1560,
        "gpu_underused",
        "warning",
        "GPU 0",
        "GPU 0 is 42% busy (below 50% for 60 s): the input pipeline is too slow?",
    ),
    (1690, "gpu_underused", "resolved", "GPU 0", "Resolved after 130 s."),
    (2230, "gpu_hot", "critical", "GPU 1", "GPU 1 is at 85 °C (above 84 °C): look at fans and airflow."),
    (2390, "gpu_hot", "resolved", "GPU 1", "Resolved after 160 s."),
    (1530, "input_bound", "info", "", "38% of each step is waiting for data."),
    (1700, "input_bound", "resolved", "", "Resolved after 170 s."),
)
"""Second, rule, severity or that it is resolved, device, message."""


def alerts() -> Iterator[RecordedAlert]:
    """The alerts of the training, by their time."""
    severities = {(rule, device): how for _, rule, how, device, _ in ALERTS if how != "resolved"}
    for second, rule, how, device, message in sorted(ALERTS):
        state = "resolved" if how == "resolved" else "firing"
        yield RecordedAlert(START + second * SECOND, rule, state, severities[rule, device], device, message, "a" * 32)


def _training(folder: Path, name: str) -> None:
    """The file of the process that trains."""
    began = START + (PREPARED + 10) * SECOND
    who = about(RUN, name=name, role=PROCESS, pid=101, started_ns=began, heard_ns=began)
    writer = Writer(str(folder / f"{RUN}-process{SUFFIX}"), who)
    end = START + TRAINED * SECOND
    writer.job(Job(1, "train", "python train.py", DONE, began, end, end, 0, host="node7"))
    for span in spans():
        writer.span(span)
    for alert in alerts():
        writer.alert(alert)
    writer.close(end)
