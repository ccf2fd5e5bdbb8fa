# SPDX-License-Identifier: Apache-2.0
"""A thread between the sampler and a sink that may wait: an exporter whose backend is down blocks nobody else."""

from __future__ import annotations

import contextlib
import queue
import threading

from opentelemetry.trace import Span

from otel_hwmetrics._guard import faults, guard
from otel_hwmetrics.alerts.engine import Transition
from otel_hwmetrics.sinks.base import Sink

WAITING = 1000
"""Most transitions that wait for the sink; more are dropped, and counted as internal errors."""


class Background:
    """Passes transitions on to another sink, on a daemon thread of its own that starts with the first of them."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._queue: queue.Queue[tuple[Transition, Span | None] | None] = queue.Queue(WAITING)
        self._thread: threading.Thread | None = None

    def on_transition(self, transition: Transition, span: Span | None) -> None:
        """Take one transition; never waits."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="hwmetrics-alerts", daemon=True)
            thread.start()  # may be refused, where a cgroup limits threads: the next transition tries again
            self._thread = thread
        try:
            self._queue.put_nowait((transition, span))
        except queue.Full:
            self._drop()

    def stop(self, timeout: float) -> None:
        """Let what waits be passed on and end the thread; after ``timeout`` seconds it ends when the sink lets it."""
        if self._thread is None:
            return
        try:
            self._queue.put(None, timeout=timeout)
        except queue.Full:
            with contextlib.suppress(queue.Empty):  # it may have let go just now
                self._queue.get_nowait()
                self._drop()
            self._queue.put_nowait(None)
        self._thread.join(timeout)

    def _drop(self) -> None:
        faults[f"{type(self._sink).__name__} is behind"] += 1

    def _run(self) -> None:
        while (waiting := self._queue.get()) is not None:
            with guard(f"telling {type(self._sink).__name__} of an alert"):
                self._sink.on_transition(*waiting)
