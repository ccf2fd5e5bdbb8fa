# SPDX-License-Identifier: Apache-2.0
"""Trainings that end in many ways, each in a process of its own, with the instrumentation and without.

PyTorch is loaded once: the processes are forked from one that does nothing else. Prints a JSON line for each.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from torch.utils.data import DataLoader, TensorDataset

import otel_hwmetrics as hw

BATCHES = 6
torch.set_num_threads(1)


def train(at_the_third: Callable[[], object], **options: Any) -> None:
    """Two epochs, with something that happens at the third step of the second."""
    model = torch.nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    loader = DataLoader(TensorDataset(torch.zeros(2 * BATCHES, 4)), batch_size=2, **options)
    for epoch in range(2):
        for number, (batch,) in enumerate(loader):
            model(batch).sum().backward()
            optimizer.step()
            if (epoch, number) == (1, 2):
                at_the_third()


def fail_later() -> None:
    """An error after an epoch that was left, and so ended well."""
    model = torch.nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    loader = DataLoader(TensorDataset(torch.zeros(2 * BATCHES, 4)), batch_size=2)
    for limit in (BATCHES, 3):
        for number, (batch,) in enumerate(loader):
            model(batch).sum().backward()
            optimizer.step()
            if number + 1 == limit:
                break
    fail()


def fail() -> None:
    """An error of the job's own."""
    raise ValueError("the loss is no number")


def interrupt() -> None:
    """Ctrl-C."""
    signal.raise_signal(signal.SIGINT)


def kill() -> None:
    """A worker is killed, as the kernel does where memory is short; PyTorch hears of it."""
    (worker,) = torch.multiprocessing.active_children()
    worker.kill()
    time.sleep(60)


ENDS: dict[str, Callable[[], object]] = {
    "end": lambda: train(lambda: None),
    "error": lambda: train(fail),
    "later error": fail_later,
    "interrupt": lambda: train(interrupt),
    "exit": lambda: train(lambda: sys.exit(3)),
    "killed worker": lambda: train(kill, num_workers=1, multiprocessing_context="fork"),
    "leave": lambda: train(hw.uninstrument),
}


class Kept(SpanExporter):
    """Writes each span as a line."""

    def __init__(self, path: str) -> None:
        self._file = Path(path).open("a", encoding="utf-8")  # noqa: SIM115 - as long as the process lives

    def export(self, spans: Any) -> SpanExportResult:
        """Write them."""
        each: ReadableSpan
        for each in spans:
            told = {
                "name": each.name,
                "status": each.status.status_code.name,
                "why": each.status.description,
                "events": [event.name for event in each.events],
                "steps": (each.attributes or {}).get("hwmetrics.training.steps"),
            }
            self._file.write(json.dumps(told) + "\n")
        self._file.flush()
        return SpanExportResult.SUCCESS


def run(how: str, spans: str | None, out: str) -> None:
    """One process, which ends here."""
    descriptor = os.open(out, os.O_WRONLY | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    if spans is not None:
        provider = TracerProvider()
        provider.add_span_processor(BatchSpanProcessor(Kept(spans), schedule_delay_millis=60_000))
        hw.instrument(tracer_provider=provider, sources="training", alerts=False)
    ENDS[how]()


def load() -> None:
    """Load what PyTorch loads at the first step. Without a backward pass, whose threads no fork may come after."""
    weight = torch.nn.Parameter(torch.zeros(1))
    weight.grad = torch.zeros(1)
    torch.optim.SGD([weight], lr=0.1).step()
    gc.collect()
    gc.freeze()  # else each process goes through all of PyTorch at its end, which takes seconds


def main() -> None:
    """Fork one after the other."""
    load()
    folder = tempfile.mkdtemp()
    for how in ENDS:
        for instrumented in (False, True):
            spans, out = (os.path.join(folder, f"{how} {instrumented} {what}") for what in ("spans", "out"))
            child = os.fork()
            if not child:
                run(how, spans if instrumented else None, out)
                return
            told = {
                "how": how,
                "instrumented": instrumented,
                "status": os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]),
                "out": Path(out).read_text(encoding="utf-8"),
                "spans": Path(spans).read_text(encoding="utf-8") if instrumented else "",
            }
            sys.stdout.write(json.dumps(told) + "\n")
            sys.stdout.flush()
    shutil.rmtree(folder)


main()
