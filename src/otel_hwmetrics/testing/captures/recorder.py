# SPDX-License-Identifier: Apache-2.0
"""Recording what NVML answers, on a machine with a GPU.

    with record("h200.json") as recorder:
        source = NvidiaSource()
        source.open()
        for _ in recorder.rounds(60):
            source.read()
        source.close()

While it records, every user of `pynvml` in the process asks the driver through it; the answers are theirs as ever.
What a monitor asks for in general, rather than one source, is in `survey`. The file is described in `capture`.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

from otel_hwmetrics.testing.binding import Library, under_pynvml
from otel_hwmetrics.testing.captures.capture import Capture
from otel_hwmetrics.testing.captures.moments import Clocks
from otel_hwmetrics.testing.captures.notes import Notes
from otel_hwmetrics.testing.captures.pseudonyms import Pseudonyms

if TYPE_CHECKING:
    import sys

    from otel_hwmetrics.testing.clock import Clock

    if sys.version_info >= (3, 11):
        from typing import Self
    else:
        from typing_extensions import Self


class Recorder:
    """Stands between `pynvml` and the driver's library, and takes notes.

    Put it in place before the first `nvmlInit` of whoever is recorded: a handle from before is a device of unknown
    name. Every method may be called from any thread.

    Args:
        note: One line on the machine and what it did, for the file.
        keep_identities: Keep UUIDs, serial numbers, PCI addresses, process ids and names as they are.
        clock: Something with `monotonic()` in seconds; real time by default.
    """

    def __init__(self, *, note: str = "", keep_identities: bool = False, clock: Clock | None = None) -> None:
        self._clocks = Clocks(clock)
        self._capture = Capture(note=note, anonymous=not keep_identities)
        self._notes = Notes(self._capture, self._clocks, Pseudonyms(keep=keep_identities))
        self._binding = contextlib.ExitStack()
        self._library: Any = None
        self._proxy: Library | None = None  # None unless installed
        self._started = 0.0
        self._lock = threading.Lock()
        self._moment = threading.local()

    def install(self) -> None:
        """Begin to record; second 0 is now.

        Raises:
            pynvml.NVMLError: There is no NVML on this machine.
            RuntimeError: It records already, or has: a recorder makes one capture.
        """
        import pynvml

        with self._lock:
            if self._library is not None:
                raise RuntimeError("a recorder records once; make another")
            if pynvml.nvmlLib is None:
                pynvml._LoadNvmlLibrary()
            self._library = pynvml.nvmlLib
            self._capture.origin = "real" if isinstance(self._library, ctypes.CDLL) else "scripted"
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                self._capture.binding = importlib.metadata.version("nvidia-ml-py")
            self._started = self._clocks.start()
            self._proxy = Library(self._resolve)
            self._binding.enter_context(under_pynvml(self._proxy, lambda: None))

    def uninstall(self) -> None:
        """Stop recording, and put back exactly what `pynvml` had before. Does nothing if it does not record.

        Raises:
            RuntimeError: Something else was put under `pynvml` since, and must go first.
        """
        import pynvml

        with self._lock:
            if self._proxy is None:
                return
            if pynvml.nvmlLib is not self._proxy:
                raise RuntimeError("another library was put under pynvml after this recorder; uninstall that first")
            self._proxy = None
            self._capture.seconds = max(self._capture.seconds, self._elapsed())
        # Without our lock: the binding holds its own where it asks for a function, and then ours.
        self._binding.close()

    def __enter__(self) -> Self:
        """Begin to record."""
        self.install()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop recording."""
        self.uninstall()

    @contextlib.contextmanager
    def moment(self, seconds: float) -> Iterator[None]:
        """Note this thread's calls as made at one time: a round of questions, however long it takes, is one look.

        Args:
            seconds: Since the recording began.
        """
        self._moment.seconds = seconds
        try:
            yield
        finally:
            del self._moment.seconds

    def rounds(
        self, seconds: float, *, every: float = 1.0, sleep: Callable[[float], object] = time.sleep
    ) -> Iterator[int]:
        """Yield the number of each round of looking, from 0, when it is due. A round that is missed is left out.

        Second 0 of the recording becomes the first round: what was asked before, to open a driver that may take its
        time, counts as asked then.

        Args:
            seconds: For how long; there is a round at the end as well.
            every: Seconds from one round to the next.
            sleep: Waits for some seconds.
        """
        self._begin_here()
        number = 0
        while number * every <= seconds:
            with self.moment(number * every):
                yield number
            number = max(number + 1, math.ceil(round(self._elapsed() / every, 6)))
            if number * every <= seconds:
                sleep(max(0.0, number * every - self._elapsed()))

    def _begin_here(self) -> None:
        with self._lock:
            self._notes.begin_again(self._elapsed())
            self._started = self._clocks.start()

    @property
    def capture(self) -> Capture:
        """What has been recorded; to be read once recording has stopped."""
        return self._capture

    def _elapsed(self) -> float:
        return self._clocks.monotonic() - self._started

    def _resolve(self, name: str) -> Callable[..., Any]:
        try:
            function = getattr(self._library, name)
        except AttributeError:
            with self._lock:
                self._capture.absent.add(name)
            raise
        # The text of an error is the binding's business, and of another type.
        return function if name == "nvmlErrorString" else partial(self._through, name, function)

    def _through(self, name: str, function: Callable[..., int], *arguments: object) -> int:
        """Call the driver, without our lock, and take notes of it."""
        with self._lock:
            call = self._notes.asked(name, arguments)
        seconds = round(getattr(self._moment, "seconds", self._elapsed()), 3)
        began = time.perf_counter()
        code = function(*arguments)
        took = time.perf_counter() - began
        now = self._clocks.read()
        with self._lock:
            self._notes.note(call, int(code), max(0.0, seconds), took, now)
        return code


@contextlib.contextmanager
def record(
    path: str | os.PathLike[str], *, note: str = "", keep_identities: bool = False, clock: Clock | None = None
) -> Iterator[Recorder]:
    """Record what NVML answers in this block, and write it to a file, also if the block fails.

    Args:
        path: The file.
        note: One line on the machine and what it did.
        keep_identities: Keep UUIDs, serial numbers, PCI addresses, process ids and names as they are; captures go into
            bug reports, so by default they become pseudonyms.
        clock: As for `Recorder`: real time by default.

    Raises:
        pynvml.NVMLError: There is no NVML on this machine.
        OSError: The file cannot be written.
    """
    recorder = Recorder(note=note, keep_identities=keep_identities, clock=clock)
    recorder.install()
    try:
        yield recorder
    finally:
        recorder.uninstall()
        recorder.capture.save(path)
