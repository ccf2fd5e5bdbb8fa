# SPDX-License-Identifier: Apache-2.0
"""A thread between the sampler and a sink that may wait: an exporter whose backend is down blocks nobody else."""

from __future__ import annotations

import queue
import threading
from functools import partial

from otel_hwmetrics._guard import guard, staying
from otel_hwmetrics.sinks.base import Alert, Sink, dropped

WAITING = 1000
"""Most alerts that wait for the sink; more are dropped, and counted."""


class Background:
    """Passes alerts on to other sinks, on a daemon thread of its own that starts with the first of them.

    Args:
        name: What it is called, in the thread's name and where it is counted what was dropped.
        sinks: Who is told, one after the other, and may take their time.
    """

    def __init__(self, name: str, *sinks: Sink) -> None:
        self._name = name
        self._sinks = sinks
        self._waiting: queue.SimpleQueue[Alert | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed: threading.Thread | None = None
        self._changing = threading.RLock()  # a callback may close it before who started its thread knows of that

    def on_alert(self, alert: Alert) -> None:
        """Take one alert; never waits.

        Raises:
            RuntimeError: The thread is refused, where a cgroup limits threads; the next alert tries again, and this one
                waits for that.
        """
        with self._changing:
            if self._waiting.qsize() >= WAITING:
                self._drop(1, "queue_full")
            else:
                self._waiting.put(alert)
            if self._thread is None:
                name = f"hwmetrics-{self._name}"
                thread = threading.Thread(target=self._run, args=(self._waiting,), name=name, daemon=True)
                thread.start()
                self._thread = thread

    def close(self) -> None:
        """Have what waits passed on, and the thread end with that. Never waits; the next alert starts another thread."""
        with self._changing:
            waiting, self._waiting = self._waiting, queue.SimpleQueue()
            thread, self._thread = self._thread, None
        if thread is None:
            self._drop(waiting.qsize(), "no_thread")  # it was refused until now
            return
        waiting.put(None)
        self._closed = thread

    def join(self, timeout: float) -> None:
        """Wait for the thread's end after `close`, ``timeout`` seconds at most; later it ends when the sink lets it.

        On that very thread, where a callback calls this, it is nothing.
        """
        thread, self._closed = self._closed, None
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(0.0, timeout))

    def stop(self, timeout: float) -> None:
        """`close` and `join`."""
        self.close()
        self.join(timeout)

    def _drop(self, alerts: int, why: str) -> None:
        if alerts:
            dropped[self._name, why] += alerts

    def _run(self, waiting: queue.SimpleQueue[Alert | None]) -> None:
        while (alert := waiting.get()) is not None:
            for sink in self._sinks:
                with guard(f"telling {type(sink).__name__} of an alert"):
                    staying(partial(sink.on_alert, alert), "a thread of its own")
