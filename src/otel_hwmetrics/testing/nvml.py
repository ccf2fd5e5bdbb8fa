# SPDX-License-Identifier: Apache-2.0
"""The scripted NVML, and making it misbehave."""

from __future__ import annotations

import contextlib
import math
import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from otel_hwmetrics.testing.binding import Library, under_pynvml
from otel_hwmetrics.testing.gpu import FakeGpu, InvalidValueError, is_number

if TYPE_CHECKING:
    import sys
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from otel_hwmetrics.testing.clock import Clock
    from otel_hwmetrics.testing.symbols import Machine, Symbol

    if sys.version_info >= (3, 11):
        from typing import Self
    else:
        from typing_extensions import Self

# Return codes of nvml.h, which never renumbers them.
_SUCCESS: Final = 0
_UNINITIALIZED: Final = 1
_NOT_SUPPORTED: Final = 3

_UUID_NAMESPACE: Final = uuid.UUID("6f6a3c1e-8d0b-5f5e-9d3a-3d7f6a0c51b2")
_EVERY_DEVICE_CALL: Final = "*"

_T = TypeVar("_T")


class Hang:
    """Calls that are stuck, made by [`FakeNvml.hang`][otel_hwmetrics.testing.FakeNvml.hang].

    Attributes:
        entered: Set when a call has got stuck, so that a test can wait for that instead of sleeping.
    """

    def __init__(self) -> None:
        self.entered = threading.Event()
        self._released = threading.Event()

    def release(self) -> None:
        """Let the stuck calls go on, and later ones pass. May be called from any thread, and twice."""
        self._released.set()

    def block(self) -> None:
        """Stay here until `release()`."""
        if not self._released.is_set():
            self.entered.set()
            self._released.wait()


@dataclass(frozen=True)
class _Rule(Generic[_T]):
    """An effect on some calls for some time."""

    function: str
    gpu: int | None
    after: float
    until: float
    effect: _T

    def applies(self, symbol: Symbol, gpu: int | None, now: float) -> bool:
        named = self.function == symbol.name or (self.function == _EVERY_DEVICE_CALL and symbol.find is not None)
        return named and self.gpu in (None, gpu) and self.after <= now < self.until


def _others(rules: list[_Rule[_T]], function: str | None) -> list[_Rule[_T]]:
    return [rule for rule in rules if function not in (None, rule.function)]


class FakeNvml:
    """An NVML with scripted GPUs, under the real `pynvml`.

    Every method may be called from any thread. While installed it is what every user of `pynvml` in the process
    sees. Where several scripted faults meet one call, the latest wins.

    Args:
        gpus: The GPUs by index, or how many default ones.
        driver_version: What nvmlSystemGetDriverVersion answers.
        clock: Something with `monotonic()` in seconds, such as `ManualClock`; real time by default.

    Attributes:
        gpus: The GPUs, each with its UUID.
        driver_version: As given.
        calls: How often each C function was called, by `(function, gpu index)`; the index is None where the function
            names no device, or none that exists.

    Raises:
        ValueError: Two GPUs share a UUID, or an `unsupported` name is no device function of this fake.
    """

    def __init__(
        self,
        gpus: Sequence[FakeGpu] | int = 1,
        *,
        driver_version: str = "580.95.05",
        clock: Clock | None = None,
    ) -> None:
        from otel_hwmetrics.testing.symbols import SYMBOLS

        self._symbols = SYMBOLS
        given = [FakeGpu()] * gpus if isinstance(gpus, int) else gpus
        self.gpus: tuple[FakeGpu, ...] = tuple(
            gpu if gpu.uuid else replace(gpu, uuid=_derived_uuid(index)) for index, gpu in enumerate(given)
        )
        self.driver_version = driver_version
        self.calls: Counter[tuple[str, int | None]] = Counter()
        self._check_gpus()

        self._clock: Clock = time if clock is None else clock
        self._started = 0.0
        self._machine: Machine | None = None  # None unless installed
        self._library = Library(self._resolve)
        self._binding = contextlib.ExitStack()
        # Reentrant, because a scripted function runs under it and may ask the fake something.
        self._lock = threading.RLock()
        self._failures: list[_Rule[int]] = []
        self._delays: list[_Rule[float]] = []
        self._hangs: list[_Rule[Hang]] = []
        self._missing: set[str] = set()

    def _check_gpus(self) -> None:
        if not isinstance(self.driver_version, str):
            raise InvalidValueError(self.driver_version, "driver_version", "a string")
        device_calls = sorted(name for name, symbol in self._symbols.items() if symbol.find)
        for index, gpu in enumerate(self.gpus):
            for name in gpu.unsupported:
                if name not in device_calls:
                    raise InvalidValueError(name, f"gpu[{index}].unsupported", f"one of {', '.join(device_calls)}")
            if gpu.uuid in (other.uuid for other in self.gpus[:index]):
                raise InvalidValueError(gpu.uuid, f"gpu[{index}].uuid", "a UUID no other GPU has")

    def install(self) -> None:
        """Put this NVML under `pynvml`; time 0 is now.

        Handles and initialisations from before do not carry over: call `pynvml.nvmlInit()`.

        Raises:
            RuntimeError: It is installed already.
        """
        from otel_hwmetrics.testing.symbols import Device, Machine

        with self._lock:
            if self._machine is not None:
                message = "this FakeNvml is installed already"
                raise RuntimeError(message)
            self._started = self._clock.monotonic()
            devices = (Device(index, gpu, self._elapsed) for index, gpu in enumerate(self.gpus))
            self._machine = Machine(self.driver_version, tuple(devices))
            self._binding.enter_context(under_pynvml(self._library, lambda: None))

    def uninstall(self) -> None:
        """Put back exactly what `pynvml` had before, and release stuck calls, which answer UNINITIALIZED.

        Does nothing if not installed.

        Raises:
            RuntimeError: Something else was put under `pynvml` since, and must go first.
        """
        import pynvml

        with self._lock:
            if self._machine is None:
                return
            if pynvml.nvmlLib is not self._library:
                message = "another library was put under pynvml after this FakeNvml; uninstall that first"
                raise RuntimeError(message)
            self._binding.close()
            self._machine = None
            for rule in self._hangs:
                rule.effect.release()

    def __enter__(self) -> Self:
        """Install."""
        self.install()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Uninstall."""
        self.uninstall()

    def fail(
        self,
        function: str,
        code: int | str,
        *,
        gpu: int | None = None,
        after: float = 0.0,
        until: float = math.inf,
    ) -> None:
        """Make a C function answer an error.

        Args:
            function: The C name, or `"*"` for every function that names a device.
            code: The NVML return code, or its constant's name such as `"NVML_ERROR_GPU_IS_LOST"`.
            gpu: Only calls about this GPU; None is every call.
            after: From this second since install on.
            until: Up to, but not including, this second.

        Raises:
            ValueError: An argument is not allowed.
        """
        from otel_hwmetrics.testing.symbols import return_code

        self._add(self._failures, _Rule(function, gpu, after, until, return_code(code)))

    def delay(
        self, function: str, seconds: float, *, gpu: int | None = None, after: float = 0.0, until: float = math.inf
    ) -> None:
        """Make a C function take real time before it answers, whatever the clock.

        Args:
            function: The C name, or `"*"` for every function that names a device.
            seconds: How long it sleeps.
            gpu: Only calls about this GPU; None is every call.
            after: From this second since install on.
            until: Up to, but not including, this second.

        Raises:
            ValueError: An argument is not allowed.
        """
        if not is_number(seconds) or seconds < 0:
            raise InvalidValueError(seconds, "seconds", "a number >= 0")
        self._add(self._delays, _Rule(function, gpu, after, until, float(seconds)))

    def hang(self, function: str, *, gpu: int | None = None, after: float = 0.0, until: float = math.inf) -> Hang:
        """Make calls of a C function block until the returned `Hang` is released.

        The time says which calls get stuck, not when they are let go. A stuck daemon thread does not keep the
        interpreter from exiting.

        Args:
            function: The C name, or `"*"` for every function that names a device.
            gpu: Only calls about this GPU; None is every call.
            after: From this second since install on.
            until: Up to, but not including, this second.

        Raises:
            ValueError: An argument is not allowed.
        """
        hang = Hang()
        self._add(self._hangs, _Rule(function, gpu, after, until, hang))
        return hang

    def init_error(self, code: int | str) -> None:
        """Make nvmlInit answer an error until `recover()`, such as NVML_ERROR_DRIVER_NOT_LOADED (9).

        Raises:
            ValueError: `code` is not an NVML error.
        """
        self.fail("nvmlInitWithFlags", code)

    def recover(self, function: str | None = None) -> None:
        """Forget failures, delays and hangs (which releases the stuck calls); `missing` functions stay missing.

        Args:
            function: Only what was scripted under this name, `"*"` included; None is everything.

        Raises:
            ValueError: No such function.
        """
        if function is not None:
            self._check_function(function)
        with self._lock:
            for rule in self._hangs:
                if function in (None, rule.function):
                    rule.effect.release()
            self._failures = _others(self._failures, function)
            self._delays = _others(self._delays, function)
            self._hangs = _others(self._hangs, function)

    def missing(self, function: str) -> None:
        """Take a C function out of the library, as if the driver were older.

        Raises:
            ValueError: This fake never had it.
        """
        import pynvml

        self._check_function(function, wildcard=False)
        with self._lock:
            self._missing.add(function)
            if self._machine is not None:
                # The binding looks a function up only once.
                with pynvml.libLoadLock:
                    pynvml._nvmlGetFunctionPointer_cache.pop(function, None)

    def reset_calls(self) -> None:
        """Count `calls` from zero again."""
        with self._lock:
            self.calls.clear()

    def _add(self, rules: list[_Rule[_T]], rule: _Rule[_T]) -> None:
        self._check_function(rule.function)
        if rule.gpu is not None:
            if type(rule.gpu) is not int or not 0 <= rule.gpu < len(self.gpus):
                raise InvalidValueError(rule.gpu, "gpu", f"an index below {len(self.gpus)}, the number of GPUs")
            if rule.function != _EVERY_DEVICE_CALL and not self._symbols[rule.function].find:
                raise InvalidValueError(rule.gpu, "gpu", f"nothing: {rule.function} names no device")
        if not is_number(rule.after) or rule.after < 0:
            raise InvalidValueError(rule.after, "after", "a number of seconds >= 0")
        if rule.until != math.inf and not (is_number(rule.until) and rule.until > rule.after):
            raise InvalidValueError(rule.until, "until", f"a number of seconds above after, {rule.after!r}")
        with self._lock:
            rules.append(rule)

    def _check_function(self, function: str, *, wildcard: bool = True) -> None:
        # A misspelt name would script nothing, and the test would pass for the wrong reason.
        allowed = [*([_EVERY_DEVICE_CALL] if wildcard else []), *sorted(self._symbols)]
        if function not in allowed:
            raise InvalidValueError(function, "function", f"one of {', '.join(allowed)}")

    def _elapsed(self) -> float:
        return self._clock.monotonic() - self._started

    def _resolve(self, name: str) -> Callable[..., int | bytes]:
        """Return what stands for a C function: a partial, because the binding sets `restype` on it."""
        # Without our lock: the binding holds libLoadLock here, and uninstall() takes the two the other way round.
        if name not in self._symbols or name in self._missing:
            raise AttributeError(name)
        return partial(self._call, self._symbols[name])

    def _call(self, symbol: Symbol, *arguments: object) -> int | bytes:
        """Answer one call: the only way into the fake."""
        with self._lock:
            gpu = None if self._machine is None else symbol.gpu(self._machine, arguments)
            self.calls[symbol.name, gpu] += 1
        self._stall(symbol, gpu)
        with self._lock:
            # Looked at after the stall: a call that was stuck across uninstall must not count as an initialisation.
            if self._machine is None or (symbol.needs_init and not self._machine.references):
                return _UNINITIALIZED
            return self._refusal(symbol, gpu) or symbol.call(self._machine, arguments)

    def _stall(self, symbol: Symbol, gpu: int | None) -> None:
        """Sleep or block as scripted, without the lock: other calls go on."""
        with self._lock:
            now = self._elapsed()
            seconds = [rule.effect for rule in self._delays if rule.applies(symbol, gpu, now)]
            hangs = [rule.effect for rule in self._hangs if rule.applies(symbol, gpu, now)]
        if seconds:
            time.sleep(seconds[-1])
        for hang in hangs:
            hang.block()

    def _refusal(self, symbol: Symbol, gpu: int | None) -> int:
        now = self._elapsed()
        codes = [rule.effect for rule in self._failures if rule.applies(symbol, gpu, now)]
        if codes:
            return codes[-1]
        if gpu is not None and symbol.name in self.gpus[gpu].unsupported:
            return _NOT_SUPPORTED
        return _SUCCESS


def _derived_uuid(index: int) -> str:
    return f"GPU-{uuid.uuid5(_UUID_NAMESPACE, str(index))}"
