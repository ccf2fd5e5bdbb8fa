# SPDX-License-Identifier: Apache-2.0
"""Making the scripted NVML misbehave."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from otel_hwmetrics.testing.gpu import FakeGpu, InvalidValueError, is_number

if TYPE_CHECKING:
    from otel_hwmetrics.testing.symbols import Machine, Symbol

# Return codes of nvml.h, which never renumbers them.
_SUCCESS: Final = 0
_NOT_SUPPORTED: Final = 3

_LOST: Final = "NVML_ERROR_GPU_IS_LOST"
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


class Faults:
    """The part of `FakeNvml` that scripts faults."""

    gpus: tuple[FakeGpu, ...]

    def __init__(self) -> None:
        from otel_hwmetrics.testing.symbols import SYMBOLS

        self._symbols = SYMBOLS
        # Reentrant, because a scripted function runs under it and may ask the fake something.
        self._lock = threading.RLock()
        self._failures: list[_Rule[int]] = []
        self._delays: list[_Rule[float]] = []
        self._hangs: list[_Rule[Hang]] = []
        self._garbled: list[_Rule[bool]] = []
        # By what it is one of, "field" or "metric", and its number.
        self._parts: list[tuple[str, int, _Rule[int]]] = []
        self._lost: dict[int, int] = {}
        self._strays: dict[int, list[tuple[int, int, int]]] = {}
        self._machine: Machine | None = None  # None unless installed
        self._missing: set[str] = set()

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

    def garble(self, function: str, *, gpu: int | None = None, after: float = 0.0, until: float = math.inf) -> None:
        """Make a C function succeed and write rubbish: all ones into every number, as drivers do that cannot tell.

        What the caller wrote stays, and so do codes of single values and, where there are two calls, the number of
        entries.

        Args:
            function: The C name, or `"*"` for every function that names a device.
            gpu: Only calls about this GPU; None is every call.
            after: From this second since install on.
            until: Up to, but not including, this second.

        Raises:
            ValueError: An argument is not allowed.
        """
        self._add(self._garbled, _Rule(function, gpu, after, until, effect=True))

    def fail_field(
        self, field: str | int, code: int | str, *, gpu: int | None = None, after: float = 0.0, until: float = math.inf
    ) -> None:
        """Make one field of nvmlDeviceGetFieldValues answer an error, while the call succeeds.

        Args:
            field: The field by name (`"NVML_FI_DEV_..."`) or number.
            code: The NVML return code, or its constant's name.
            gpu: Only this GPU; None is every one.
            after: From this second since install on.
            until: Up to, but not including, this second.

        Raises:
            ValueError: An argument is not allowed.
        """
        from otel_hwmetrics.testing.symbols import return_code
        from otel_hwmetrics.testing.symbols.fields import field_number

        rule = _Rule("nvmlDeviceGetFieldValues", gpu, after, until, return_code(code))
        self._add_part("field", field_number(field, "field"), rule)

    def fail_gpm_metric(
        self, metric: str | int, code: int | str, *, gpu: int | None = None, after: float = 0.0, until: float = math.inf
    ) -> None:
        """Make one metric of nvmlGpmMetricsGet answer an error, while the call succeeds.

        Args:
            metric: The metric by name (`"NVML_GPM_METRIC_..."`) or number.
            code: The NVML return code, or its constant's name.
            gpu: Only this GPU; None is every one.
            after: From this second since install on.
            until: Up to, but not including, this second.

        Raises:
            ValueError: An argument is not allowed.
        """
        from otel_hwmetrics.testing.symbols import return_code
        from otel_hwmetrics.testing.symbols.gpm import metric_number

        rule = _Rule("nvmlGpmMetricsGet", gpu, after, until, return_code(code))
        self._add_part("metric", metric_number(metric, "metric"), rule)

    def lose(self, gpu: int, code: int | str = _LOST) -> None:
        """Make every call about a GPU and its MIG devices answer an error until `restore()`; its handles stay good.

        Args:
            gpu: Its index.
            code: The NVML return code, or its constant's name; by default the GPU has fallen off the bus.

        Raises:
            ValueError: An argument is not allowed.
        """
        from otel_hwmetrics.testing.symbols import return_code

        self._check_gpu(gpu)
        with self._lock:
            self._lost[gpu] = return_code(code)

    def restore(self, gpu: int) -> None:
        """Let a lost GPU answer again.

        Raises:
            ValueError: There is no such GPU.
        """
        self._check_gpu(gpu)
        with self._lock:
            self._lost.pop(gpu, None)

    def inject_sample(self, kind: int, timestamp_us: int, value: int, *, gpu: int = 0) -> None:
        """Put one more entry in the ring of samples of a GPU, such as the sentinels that some drivers leave there.

        Args:
            kind: Which ring: NVML_TOTAL_POWER_SAMPLES, NVML_GPU_UTILIZATION_SAMPLES or NVML_MEMORY_UTILIZATION_SAMPLES.
            timestamp_us: When, in microseconds since boot; 0 is given whatever the caller has seen.
            value: What, in NVML's unit; anything that an unsigned int can be.
            gpu: Whose.

        Raises:
            ValueError: An argument is not allowed.
        """
        from otel_hwmetrics.testing.symbols.activity import SAMPLE_KINDS

        self._check_gpu(gpu)
        if kind not in SAMPLE_KINDS:
            raise InvalidValueError(kind, "kind", f"one of {', '.join(map(str, sorted(SAMPLE_KINDS)))}")
        for key, number, most in (("timestamp_us", timestamp_us, 2**64), ("value", value, 2**32)):
            if type(number) is not int or not 0 <= number < most:
                raise InvalidValueError(number, key, f"a whole number from 0 to {most - 1}")
        with self._lock:
            self._strays.setdefault(gpu, []).append((kind, timestamp_us, value))

    def init_error(self, code: int | str) -> None:
        """Make nvmlInit answer an error until `recover()`, such as NVML_ERROR_DRIVER_NOT_LOADED (9).

        Raises:
            ValueError: `code` is not an NVML error.
        """
        self.fail("nvmlInitWithFlags", code)

    def recover(self, function: str | None = None) -> None:
        """Forget faults, and release the calls that hang; `missing` functions stay missing.

        Args:
            function: Only what was scripted under this name, `"*"` included; None is everything, with the failures of
                fields and metrics, the lost GPUs and the injected samples.

        Raises:
            ValueError: No such function.
        """
        if function is not None:
            self._check_function(function)
        with self._lock:
            for rule in self._hangs:
                if function in (None, rule.function):
                    rule.effect.release()
            if function is None:
                self._parts.clear()
                self._lost.clear()
                for strays in self._strays.values():
                    strays.clear()
            self._garbled = _others(self._garbled, function)
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

    @property
    def machine(self) -> Machine:
        """The driver that is loaded, as the C functions see it; for who adds to them.

        Raises:
            RuntimeError: It is not installed.
        """
        if self._machine is None:
            raise RuntimeError("this FakeNvml is not installed")
        return self._machine

    def _add(self, rules: list[_Rule[_T]], rule: _Rule[_T]) -> None:
        self._check(rule)
        with self._lock:
            rules.append(rule)

    def _add_part(self, kind: str, number: int, rule: _Rule[int]) -> None:
        self._check(rule)
        with self._lock:
            self._parts.append((kind, number, rule))

    def _check(self, rule: _Rule[_T]) -> None:
        self._check_function(rule.function)
        if rule.gpu is not None:
            self._check_gpu(rule.gpu)
            if rule.function != _EVERY_DEVICE_CALL and not self._symbols[rule.function].find:
                raise InvalidValueError(rule.gpu, "gpu", f"nothing: {rule.function} names no device")
        if not is_number(rule.after) or rule.after < 0:
            raise InvalidValueError(rule.after, "after", "a number of seconds >= 0")
        if rule.until != math.inf and not (is_number(rule.until) and rule.until > rule.after):
            raise InvalidValueError(rule.until, "until", f"a number of seconds above after, {rule.after!r}")

    def _check_gpu(self, gpu: object) -> None:
        if type(gpu) is not int or not 0 <= gpu < len(self.gpus):
            raise InvalidValueError(gpu, "gpu", f"an index below {len(self.gpus)}, the number of GPUs")

    def _check_function(self, function: str, *, wildcard: bool = True) -> None:
        # A misspelt name would script nothing, and the test would pass for the wrong reason.
        allowed = [*([_EVERY_DEVICE_CALL] if wildcard else []), *sorted(self._symbols)]
        if function not in allowed:
            raise InvalidValueError(function, "function", f"one of {', '.join(allowed)}")

    def _elapsed(self) -> float:
        raise NotImplementedError

    def _stall(self, symbol: Symbol, gpu: int | None) -> None:
        """Sleep or block as scripted, without the lock: other calls go on."""
        with self._lock:
            now = self._elapsed()
            seconds = [rule.effect for rule in self._delays if rule.applies(symbol, gpu, now)]
            hangs = [rule.effect for rule in self._hangs if rule.applies(symbol, gpu, now)]
        if seconds or symbol.takes:
            time.sleep(seconds[-1] if seconds else symbol.takes)
        for hang in hangs:
            hang.block()

    def _refusal(self, symbol: Symbol, gpu: int | None) -> int:
        if gpu in self._lost:
            return self._lost[gpu]
        now = self._elapsed()
        codes = [rule.effect for rule in self._failures if rule.applies(symbol, gpu, now)]
        if codes:
            return codes[-1]
        if gpu is not None and symbol.name in self.gpus[gpu].unsupported:
            return _NOT_SUPPORTED
        return _SUCCESS

    def _garbles(self, symbol: Symbol, gpu: int | None) -> bool:
        return any(rule.applies(symbol, gpu, self._elapsed()) for rule in self._garbled)

    def _part_error(self, kind: str, number: int, gpu: int) -> int:
        """Return the code that one field or metric of a GPU is to answer."""
        now = self._elapsed()
        codes = [
            rule.effect
            for each, wanted, rule in self._parts
            if (each, wanted) == (kind, number) and rule.gpu in (None, gpu) and rule.after <= now < rule.until
        ]
        return codes[-1] if codes else _SUCCESS
