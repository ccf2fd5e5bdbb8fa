# SPDX-License-Identifier: Apache-2.0
"""What the driver tells by itself: XID errors and other events, counted on a thread that only waits.

NVML keeps a queue for each event set, so nothing that happens between two waits is lost; what happened before a GPU was
registered is not known, and nothing is invented for it.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from otel_hwmetrics._guard import guard
from otel_hwmetrics.sources.base import Clock
from otel_hwmetrics.sources.gpu.nvidia.device import Gpu
from otel_hwmetrics.sources.gpu.nvidia.event_set import EventSet, Key, Unwatchable, address

WAIT: Final = 1.0
"""Seconds of one wait. An event ends it at once, so this only says how late `EventWatch.rebind` and `release` may be
heard, and how long the thread may outlive `stop`; and a wake-up a second is nothing to the training."""
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 30.0
"""Seconds of rest after an error, at first and at most; in between they double, until a wait is as it should be."""
BURST: Final = 100
BREATH: Final = 0.01
"""After so many events in a row, so many seconds of rest: a driver that reports without end must not take a core."""

HANGS_AFTER: Final = 30.0
"""Seconds after which a call of this thread's hangs; a wait ends after `WAIT`."""

_NOT_HERE: Final = {
    "NVML_ERROR_FUNCTION_NOT_FOUND": "the driver is too old to tell of events",
    "NVML_ERROR_NOT_SUPPORTED": "events are not supported here",
    "NVML_ERROR_NO_PERMISSION": "no permission to be told of events",
}
NOT_HERE: Final = frozenset(_NOT_HERE.values())
"""Reasons for which events are not heard of where nothing is wrong: the machine is so."""
_LASTING: Final = {
    **_NOT_HERE,
    "NVML_ERROR_UNINITIALIZED": "NVML was shut down",
    "NVML_ERROR_DRIVER_NOT_LOADED": "the driver is not loaded",
    "NVML_ERROR_LIB_RM_VERSION_MISMATCH": "NVML and the driver are of different versions",
    "NVML_ERROR_INVALID_ARGUMENT": "the GPUs are those of a driver that has gone",
}
# Errors that asking again does not mend, and what they mean here.
_BEGINNING: Final = "the GPUs are not registered yet"

Rest = Callable[[threading.Condition, Callable[[], bool], "float | None"], object]
"""How to wait on a condition; as `threading.Condition.wait_for`."""


class Event(NamedTuple):
    """One event.

    Attributes:
        uuid: Whose: of the GPU, or of the MIG device if it is about one that is watched.
        kind: A value of `event_set.KINDS`.
        code: The code of an XID (see `otel_hwmetrics.catalog.xid`); None for any other kind.
        at: When it was heard of, in seconds of the monotonic clock.
    """

    uuid: str
    kind: str
    code: int | None
    at: float


class EventWatch:
    """Counts the events of GPUs, on a daemon thread of its own that waits in the driver and does nothing else.

    Every method may be called from any thread, and none of them calls NVML: the thread does, alone, and it alone frees
    what it waits for. In a forked child, which has no such thread, they do nothing and take no lock.

    One event set is for all GPUs. When waiting fails (a GPU was lost, the driver went) the set is ended. The thread then
    makes another after a rest, without those GPUs that cannot be registered any more; or, if the driver has gone or
    never tells of events, it sleeps until `rebind`. What happens in between is not heard of; counts go on.

    Args:
        nvml: The module ``pynvml``.
        on_event: Told of each event, on the watch's thread; it should be quick, and a fault of it is passed over.
        clock: Stamps the events; waits are in real time.
        wait: Seconds of one wait.
        rest: How the thread rests when it does not wait in the driver.
    """

    def __init__(
        self,
        nvml: Any,
        *,
        on_event: Callable[[Event], object] | None = None,
        clock: Clock = time.monotonic,
        wait: float = WAIT,
        rest: Rest = threading.Condition.wait_for,
    ) -> None:
        self._nvml = nvml
        self._on_event = on_event
        self._clock = clock
        self._wait = wait
        self._rest_on = rest
        self._pid = os.getpid()
        self._lasting = {getattr(nvml, name): why for name, why in _LASTING.items()}
        self._condition = threading.Condition()
        # What the thread is to do; each change of it has a number.
        self._order = 0
        self._gpus: tuple[Gpu, ...] | None = None
        self._stopping = False
        self._thread: threading.Thread | None = None
        # How it stands.
        self._in_nvml = False
        self._called = math.inf  # when the call that is under way was made, in real time
        self._pause = FIRST_PAUSE
        self._why_off: str | None = "no GPU was given"
        self._left_out: dict[str, str] = {}
        self._counts: dict[Key, int] = {}
        self._last: dict[Key, float] = {}

    @property
    def why_off(self) -> str | None:
        """Why no events are heard of at the moment; None while they are."""
        return "the driver does not answer" if time.monotonic() - self._called >= HANGS_AFTER else self._why_off

    @property
    def left_out(self) -> dict[str, str]:
        """By UUID: the GPUs whose events are not heard of, while those of others are, and why."""
        return dict(self._left_out)

    def counts(self) -> dict[Key, int]:
        """How often each thing has happened since the first `rebind`; only what has happened is there."""
        return self._copy(self._counts)

    def last_seen(self) -> dict[Key, float]:
        """When each thing happened last, in seconds of the monotonic clock."""
        return self._copy(self._last)

    def rebind(self, gpus: Iterable[Gpu]) -> None:
        """Watch these GPUs, by the handles that they have now, instead of those before; the first call begins.

        Takes effect within one wait. Does nothing after `stop`, nor where these very GPUs are watched.
        """
        if os.getpid() != self._pid:
            return
        new = tuple(gpus)
        with self._condition:
            under_way = self._why_off in (None, _BEGINNING) and not self._left_out
            if self._stopping or (under_way and _handles(new) == _handles(self._gpus or ())):
                return
            self._command(new, _BEGINNING)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="hwmetrics-nvidia-events", daemon=True)
                self._thread.start()

    def release(self, timeout: float = 0.0) -> bool:
        """Let go of NVML until the next `rebind`, so that nvmlShutdown can end it and nvmlInit start it anew.

        Returns:
            Whether NVML is let go of. If not, the thread is still in a call after ``timeout`` seconds, and lets go when
            that ends; an nvmlShutdown before then does no harm, and ends nothing.
        """
        if os.getpid() != self._pid:
            return True
        with self._condition:
            self._command(None, "released")
            return self._condition.wait_for(lambda: not self._in_nvml, timeout)

    def stop(self, timeout: float = 0.0) -> bool:
        """End the thread, for ever.

        Returns:
            Whether it has ended. One that still waits in the driver after ``timeout`` seconds is left behind as a
            daemon, and gives back what it holds by itself when its wait ends.
        """
        if os.getpid() != self._pid:
            return True
        with self._condition:
            self._stopping = True
            self._command(None, "stopped")
            thread = self._thread
        if thread is None:
            return True
        if thread is not threading.current_thread():  # a callback may stop the watch
            thread.join(timeout)
        return not thread.is_alive()

    def _copy(self, of: dict[Key, Any]) -> dict[Key, Any]:
        if os.getpid() != self._pid:
            return {}
        with self._condition:
            return dict(of)

    def _command(self, gpus: tuple[Gpu, ...] | None, why_off: str) -> None:
        """Change what the thread is to do. Called with the condition."""
        self._gpus = gpus
        self._order += 1
        self._why_off = why_off
        self._left_out = {}
        self._condition.notify_all()

    # What follows runs on the watch's thread.

    def _run(self) -> None:
        order = 0
        while True:
            with self._condition:
                self._condition.wait_for(self._changed_since(order))
                order, gpus = self._order, self._gpus
                if self._stopping:
                    return
            if gpus is not None:
                with guard("watching GPU events"):
                    self._serve(order, gpus)

    def _changed_since(self, order: int) -> Callable[[], bool]:
        return lambda: self._order != order

    def _current(self, order: int) -> bool:
        with self._condition:
            return self._order == order

    def _rest(self, order: int, seconds: float) -> None:
        """Do nothing for so long, or until there is something else to do."""
        with self._condition:
            self._rest_on(self._condition, self._changed_since(order), seconds)

    def _stands(self, order: int, why_off: str | None, left_out: dict[str, str] | None = None) -> None:
        with self._condition:
            if self._order == order:
                self._why_off = why_off
                self._left_out = left_out or {}
                self._condition.notify_all()

    def _serve(self, order: int, gpus: tuple[Gpu, ...]) -> None:
        """Watch these GPUs until there is something else to do, or until it is of no use."""
        self._pause = FIRST_PAUSE
        while self._current(order):
            try:
                self._listen(order, gpus)
            except (self._nvml.NVMLError, Unwatchable) as failure:
                errors = failure.errors if isinstance(failure, Unwatchable) else [failure]
                passing = [error for error in errors if error.value not in self._lasting]
                self._stands(order, self._why((*passing, *errors)[0]))
                if not passing:
                    return
                self._rest(order, self._pause)
                self._pause = min(self._pause * 2, LONGEST_PAUSE)

    def _why(self, error: Any) -> str:
        # Never its text: that is the driver's, which may be what does not answer.
        return self._lasting.get(error.value, type(error).__name__)

    def _listen(self, order: int, gpus: tuple[Gpu, ...]) -> None:
        """Count what a set of these GPUs tells until there is something else to do.

        Raises:
            NVMLError: The set is worth nothing any more.
            Unwatchable: No GPU could be registered.
        """
        self._uses_nvml(True)
        try:
            events = EventSet(self._nvml, gpus)
            try:
                self._hear(order, events)
            finally:
                events.close()
        finally:
            self._uses_nvml(False)

    def _uses_nvml(self, uses: bool) -> None:  # noqa: FBT001 - a flag is what it sets
        self._called = time.monotonic() if uses else math.inf
        with self._condition:
            self._in_nvml = uses
            self._condition.notify_all()

    def _hear(self, order: int, events: EventSet) -> None:
        registered = time.monotonic()
        burst = 0
        self._tell(order, events)
        while self._current(order):
            began = self._called = time.monotonic()
            try:
                key = events.wait(self._wait)
            except self._nvml.NVMLError_Timeout:
                self._pause = FIRST_PAUSE
                burst = 0
                # A signal ends a wait early, and some driver may not wait at all; the queue is kept meanwhile.
                early = self._wait - (time.monotonic() - began)
                if early > self._wait / 2:
                    self._rest(order, early)
                if self._missing(events) and time.monotonic() - registered >= LONGEST_PAUSE:
                    registered = time.monotonic()
                    events.register()
                    self._tell(order, events)
                continue
            if key is None:
                self._rest(order, self._wait)
                continue
            self._count(key)
            self._pause = FIRST_PAUSE
            burst += 1
            if burst % BURST == 0:
                self._rest(order, BREATH)

    def _tell(self, order: int, events: EventSet) -> None:
        self._stands(order, None, {uuid: self._why(error) for uuid, error in events.left_out.items()})

    def _missing(self, events: EventSet) -> bool:
        """Whether a GPU is left out that might be registered by now."""
        return any(error.value not in self._lasting for error in events.left_out.values())

    def _count(self, key: Key) -> None:
        at = self._clock()
        with self._condition:
            self._counts[key] = self._counts.get(key, 0) + 1
            self._last[key] = at
        if self._on_event is not None:
            with guard("telling of a GPU event"):
                self._on_event(Event(*key, at))


def _handles(gpus: Iterable[Gpu]) -> list[tuple[str, int]]:
    return [(gpu.identity.uuid, address(gpu.handle)) for gpu in gpus]
