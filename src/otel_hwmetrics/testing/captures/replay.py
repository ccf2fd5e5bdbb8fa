# SPDX-License-Identifier: Apache-2.0
"""A recorded machine in place of the driver.

    clock = ManualClock()
    with load_capture("h100.json", clock=clock):
        pynvml.nvmlInit()
        clock.advance(20)
        ...  # what the recorded machine answered after 20 s

A question is answered with the latest answer at or before the time since `install()`. Time stamps of the driver are
told as if it had all happened now. A function that the capture has no answer of is not in the library, and a question
that was never asked is not supported; `unknown` counts those.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal

from otel_hwmetrics.testing.binding import Library, under_pynvml
from otel_hwmetrics.testing.captures.calls import WAITS
from otel_hwmetrics.testing.captures.capture import Capture
from otel_hwmetrics.testing.captures.moments import Clocks
from otel_hwmetrics.testing.captures.playback import OWN, UNINITIALIZED, Playback, Question, Questions
from otel_hwmetrics.testing.captures.reader import CaptureError, read_capture
from otel_hwmetrics.testing.scenario import load_scenario

if TYPE_CHECKING:
    import sys

    from otel_hwmetrics.testing.clock import Clock
    from otel_hwmetrics.testing.nvml import FakeNvml

    if sys.version_info >= (3, 11):
        from typing import Self
    else:
        from typing_extensions import Self

_ERROR_STRING: Final = "nvmlErrorString"


class ReplayNvml:
    """An NVML that answers as a recorded machine did, under the real `pynvml`.

    Every method may be called from any thread. While installed it is what every user of `pynvml` in the process sees.

    Args:
        capture: What to answer.
        clock: Something with `monotonic()` in seconds, and `time_ns()` where wall time is its own, such as
            `ManualClock`; real time by default.
        at_end: After the last second, `"hold"` the last answers for ever, or `"loop"` and begin again: counters then
            fall back, as they do when a driver is reloaded.
        latencies: Let calls take as long as they took, in real time whatever the clock.

    Attributes:
        capture: As given.
        gpus: The names of the GPUs in the capture, by index.
        calls: How often each C function was called, by `(function, gpu index)`; the index is None where the function
            names no device, and that of the GPU for a MIG instance.
        unknown: How often something was asked that the capture has no answer to, by function, device and question.

    Raises:
        ValueError: `at_end` is neither.
    """

    def __init__(
        self,
        capture: Capture,
        *,
        clock: Clock | None = None,
        at_end: Literal["hold", "loop"] = "hold",
        latencies: bool = False,
    ) -> None:
        if at_end not in ("hold", "loop"):
            raise ValueError(f"at_end = {at_end!r}: allowed is 'hold' or 'loop'")
        self.capture = capture
        self.gpus: tuple[str, ...] = _gpus(capture)
        self.calls: Counter[tuple[str, int | None]] = Counter()
        self.unknown: Counter[Question] = Counter()
        self._clock = clock
        self._loop = at_end == "loop"
        self._latencies = latencies
        self._questions = Questions(capture)
        answered = {series.call for series in capture.series}
        self._functions = answered | {own for own, main in OWN.items() if main is None or main in answered}
        self._functions -= capture.absent
        self._library = Library(self._resolve)
        self._binding = contextlib.ExitStack()
        self._lock = threading.RLock()
        self._playback: Playback | None = None  # None unless installed

    def install(self) -> None:
        """Put this machine under `pynvml`; the recording's second 0 is now.

        Handles and initialisations from before do not carry over: call `pynvml.nvmlInit()`.

        Raises:
            RuntimeError: It is installed already.
        """
        with self._lock:
            if self._playback is not None:
                raise RuntimeError("this ReplayNvml is installed already")
            self._playback = Playback(
                self.capture, self._questions, Clocks(self._clock), loop=self._loop, unknown=self.unknown
            )
            self._binding.enter_context(under_pynvml(self._library, lambda: None))

    def uninstall(self) -> None:
        """Put back exactly what `pynvml` had before; waiting calls answer UNINITIALIZED. Does nothing if not installed.

        Raises:
            RuntimeError: Something else was put under `pynvml` since, and must go first.
        """
        import pynvml

        with self._lock:
            if self._playback is None:
                return
            if pynvml.nvmlLib is not self._library:
                raise RuntimeError("another library was put under pynvml after this ReplayNvml; uninstall that first")
            self._binding.close()
            self._playback.gone.set()
            self._playback = None

    def __enter__(self) -> Self:
        """Install."""
        self.install()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Uninstall."""
        self.uninstall()

    def reset_calls(self) -> None:
        """Count `calls` and `unknown` from zero again."""
        with self._lock:
            self.calls.clear()
            self.unknown.clear()

    def _resolve(self, name: str) -> Callable[..., int | bytes]:
        """Return what stands for a C function: a partial, because the binding sets `restype` on it."""
        # Without our lock: the binding holds libLoadLock here, and uninstall() takes the two the other way round.
        if name == _ERROR_STRING:
            return partial(_error_string)
        if name not in self._functions:
            raise AttributeError(name)
        return partial(self._call, name)

    def _call(self, function: str, *arguments: object) -> int:
        """Answer one call: the only way into the replay."""
        with self._lock:
            playback = self._playback
            if playback is None:
                return UNINITIALIZED
            call, of = playback.take_apart(function, arguments)
            gpu = None if of is None else of.partition("/")[0]
            self.calls[function, self.gpus.index(gpu) if gpu in self.gpus else None] += 1
        if self._latencies and function not in WAITS:
            time.sleep(self._latency(function, of, playback.second()))
        try:
            if function in WAITS and playback.references:
                return playback.wait(call, _milliseconds(call.asked) / 1000, self._lock)
            with self._lock:
                # Looked at after the sleep: a call from before uninstall must not count as an initialisation.
                return UNINITIALIZED if self._playback is not playback else playback.answer(call, of)
        except (TypeError, ValueError) as error:
            raise CaptureError(
                f"the answer to {function} of {of} does not fit what the caller wants: {error}"
            ) from error

    def _latency(self, function: str, of: str | None, second: float) -> float:
        latencies = self.capture.latencies.get((function, of))
        return latencies.at(second) if latencies else 0.0


def load_capture(
    path: str | os.PathLike[str],
    *,
    clock: Clock | None = None,
    at_end: Literal["hold", "loop"] = "hold",
    latencies: bool = False,
) -> ReplayNvml:
    """Read a recorded machine from a file, in the format that `otel_hwmetrics.testing.captures.capture` describes.

    Args:
        path: The file.
        clock: As for `ReplayNvml`: real time by default.
        at_end: As for `ReplayNvml`: `"hold"` or `"loop"`.
        latencies: As for `ReplayNvml`: let calls take as long as they took.

    Returns:
        The recorded machine, not installed yet.

    Raises:
        CaptureError: The file is not a capture, is cut short, or of a format that came later.
        OSError: The file cannot be read.
    """
    return ReplayNvml(read_capture(path), clock=clock, at_end=at_end, latencies=latencies)


def load_machine(path: str | os.PathLike[str], *, clock: Clock | None = None) -> FakeNvml | ReplayNvml:
    """Read a machine from a file: a capture if its name ends in `.json`, which is replayed in a loop, else a scenario.

    Args:
        path: The file.
        clock: As for `FakeNvml`: real time by default.

    Returns:
        The machine, not installed yet.

    Raises:
        ScenarioError: The file is not what its name says; for a capture, a `CaptureError`.
        OSError: The file cannot be read.
    """
    if Path(path).suffix.lower() == ".json":
        return load_capture(path, clock=clock, at_end="loop")
    return load_scenario(path, clock=clock)


def _gpus(capture: Capture) -> tuple[str, ...]:
    names = {series.of for series in capture.series if series.of is not None and "/" not in series.of}
    return tuple(
        sorted(names, key=lambda name: [int(part) if part.isdigit() else 0 for part in re.split(r"(\d+)", name)])
    )


def _milliseconds(asked: list[Any]) -> int:
    return int(asked[-1]) if asked and isinstance(asked[-1], int) else 0


def _error_string(code: Any) -> bytes:
    import pynvml

    number = int(getattr(code, "value", code))
    names = (name for name, value in vars(pynvml).items() if name.startswith("NVML_ERROR_") and value == number)
    name = next(names, None)
    if name is None:
        return b"The operation was successful" if number == pynvml.NVML_SUCCESS else b"Unknown Error"
    # The driver's own text where the binding has it.
    text: str | None = pynvml.NVMLError._errcode_to_string.get(number)
    return (text or name.removeprefix("NVML_ERROR_").replace("_", " ").capitalize()).encode()
