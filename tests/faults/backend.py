# SPDX-License-Identifier: Apache-2.0
"""Backends that are down, slow, refuse, or take everything and never answer: training does not wait, memory is bounded."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from faults.case import Case, Outcome
from faults.gpus import export, gpus, installed, look, operated, settle, the_host_goes_on, told_of
from faults.training import Job
from otel_hwmetrics.testing import FakeNvml

EXPORTS: Final = 12
"""How often everything is exported while nobody takes it."""
GROWN: Final = 6.0
"""MiB of memory that may be used more after the last of them than after the first few: the allocator's pages."""
KEPT: Final = 4000
"""Blocks of memory in objects of Python that may be more then; three exports that are kept have as many."""


class _Backend(BaseHTTPRequestHandler):
    """Answers as it is told."""

    answer = 200
    wait = 0.0

    def do_POST(self) -> None:
        """Take whatever it is."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        time.sleep(self.wait)
        self.send_response(self.answer)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _open(kind: str) -> str:
    """Start a backend of a kind; where it is."""
    if kind == "down":
        return "http://127.0.0.1:9"  # the port of "discard", which nobody listens at
    answers = {"answer": int(kind) if kind.isdigit() else 200, "wait": {"slow": 0.3, "silent": 600.0}.get(kind, 0.0)}
    handler = type("Backend", (_Backend,), answers)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def _told_to(job_module: Any, address: str) -> None:
    """Have what the job tells go to the backend, too, by the real exporters."""
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    signals = {
        "Points": OTLPMetricExporter(f"{address}/v1/metrics", timeout=0.2),
        "Spans": OTLPSpanExporter(f"{address}/v1/traces", timeout=0.2),
        "Records": OTLPLogExporter(f"{address}/v1/logs", timeout=0.2),
    }
    for name, exporter in signals.items():
        told = getattr(job_module, name)
        setattr(job_module, name, type(name, (told,), {"export": _both(told.export, exporter)}))


def _both(tell: Callable[..., Any], exporter: Any) -> Callable[..., Any]:
    def export(self: Any, batch: Any, *arguments: Any, **options: Any) -> Any:
        tell(self, batch, *arguments, **options)
        return exporter.export(batch)

    return export


def _used() -> tuple[float, int]:
    """MiB of memory, and blocks of it that Python's objects have."""
    gc.collect()
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20, sys.getallocatedblocks()


@contextmanager
def backend(job: Job) -> Iterator[None]:
    """All that is told goes to a backend of some kind; a GPU is lost meanwhile, and people are to be notified there."""
    address = _open(job.argument)
    _told_to(sys.modules["__main__"], address)
    nvml = installed(FakeNvml(gpus()))
    if job.instrumented:
        job.options |= {"notify": (address.replace("http", "json"),), "notify_group_wait": 0.1}

    def operate() -> None:
        settle(job, count=0)
        nvml.lose(0)
        told_of(job)
        used = []
        for _ in range(EXPORTS):
            look(job)
            export(job)
            used.append(_used())
        (memory, blocks), (before, fewer) = used[-1], used[EXPORTS // 3 - 1]
        job.told.line(grown=memory - before, blocks=blocks - fewer)

    with operated(job, operate):
        yield


def nothing_piles_up(outcome: Outcome) -> None:
    """Sampling and alerts go on, memory does not grow with what nobody takes, and that it is not taken is said."""
    the_host_goes_on(outcome)
    used = next(line for line in outcome.lines if "grown" in line)
    assert used["grown"] < GROWN, used
    assert used["blocks"] < KEPT, used
    assert "Failed to export metrics batch" in outcome.words
    assert "failed" in {attributes["hw.state"] for attributes, value in outcome.last["hw.status"] if value}
    assert [line for line in outcome.lines if line.get("record") == "hwmetrics.alert"]


def _case(name: str, kind: str, happens: str, **more: Any) -> Case:
    return Case(
        name=f"backend_{name}",
        happens=happens,
        missing="There, what it did not take; nothing is kept for it but what the SDK's own queues hold.",
        said="The SDK's exporters log it.",
        fault="faults.backend:backend",
        argument=kind,
        check=nothing_piles_up,
        # The job without us has spans alone: the metrics' and the logs' last exports are tried as long as exporters do.
        added=6.0,
        **more,
    )


CASES = (
    _case("down", "down", "Nobody listens at the backend's address."),
    _case("slow", "slow", "The backend takes longer to answer than exporters wait."),
    _case("unauthorized", "401", "The backend rejects the credentials."),
    _case("unavailable", "503", "The backend is there, and says that it is not available."),
    _case("silent", "silent", "The backend takes everything and answers in ten minutes."),
)
