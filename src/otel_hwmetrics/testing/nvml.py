# SPDX-License-Identifier: Apache-2.0
"""The scripted NVML: putting it under the binding, and answering its calls."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections import Counter
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from otel_hwmetrics.testing.binding import Library, under_pynvml
from otel_hwmetrics.testing.faults import Faults
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

# A return code of nvml.h, which never renumbers them.
_UNINITIALIZED: Final = 1

_UUID_NAMESPACE: Final = uuid.UUID("6f6a3c1e-8d0b-5f5e-9d3a-3d7f6a0c51b2")
_DRIVER_NOT_LOADED: Final = "NVML_ERROR_DRIVER_NOT_LOADED"


class FakeNvml(Faults):
    """An NVML with scripted GPUs, under the real `pynvml`.

    Every method may be called from any thread. While installed it is what every user of `pynvml` in the process
    sees. Where several scripted faults meet one call, the latest wins.

    Args:
        gpus: The GPUs by index, or how many default ones.
        driver_version: What nvmlSystemGetDriverVersion answers.
        clock: Something with `monotonic()` in seconds, such as `ManualClock`; real time by default. If it has a
            `time_ns()`, too, field values are stamped by it.
        boottime_offset: Seconds by which the clock that samples are stamped by, the machine's since it was booted, is
            ahead of `clock`.

    Attributes:
        gpus: The GPUs, each with its UUID.
        driver_version: As given.
        calls: How often each C function was called, by `(function, gpu index)`; the index is None where the function
            names no device, or none that exists.

    Raises:
        ValueError: Two GPUs share a UUID, or a name is of no device function, field or metric of this fake.
    """

    def __init__(
        self,
        gpus: Sequence[FakeGpu] | int = 1,
        *,
        driver_version: str = "580.95.05",
        clock: Clock | None = None,
        boottime_offset: float = 0.0,
    ) -> None:
        super().__init__()
        if not is_number(boottime_offset):
            raise InvalidValueError(boottime_offset, "boottime_offset", "a number of seconds")
        self.gpus = _with_uuids([FakeGpu()] * gpus if isinstance(gpus, int) else gpus)
        self.driver_version = driver_version
        self.calls: Counter[tuple[str, int | None]] = Counter()
        self._check_gpus()

        self._clock: Clock = time if clock is None else clock
        self._boottime_offset = boottime_offset
        self._started = 0.0
        self._library = Library(self._resolve)
        self._binding = contextlib.ExitStack()

    def _check_gpus(self) -> None:
        from otel_hwmetrics.testing.symbols.fields import field_number
        from otel_hwmetrics.testing.symbols.gpm import metric_number

        if not isinstance(self.driver_version, str):
            raise InvalidValueError(self.driver_version, "driver_version", "a string")
        device_calls = sorted(name for name, symbol in self._symbols.items() if symbol.find)
        seen: set[str] = set()
        for index, gpu in enumerate(self.gpus):
            where = f"gpu[{index}]"
            for name in gpu.unsupported:
                if name not in device_calls:
                    raise InvalidValueError(name, f"{where}.unsupported", f"one of {', '.join(device_calls)}")
            for field in gpu.fields:
                field_number(field, f"{where}.fields")
            for field in gpu.unsupported_fields:
                field_number(field, f"{where}.unsupported_fields")
            for metric in gpu.unsupported_gpm_metrics:
                metric_number(metric, f"{where}.unsupported_gpm_metrics")
            for name in (gpu.uuid, *(mig.uuid for mig in gpu.mig)):
                if name in seen:
                    raise InvalidValueError(name, f"{where}.uuid", "a UUID no other GPU has")
                seen.add(name)

    def install(self) -> None:
        """Put this NVML under `pynvml`; time 0 is now.

        Handles and initialisations from before do not carry over: call `pynvml.nvmlInit()`.

        Raises:
            RuntimeError: It is installed already.
        """
        with self._lock:
            if self._machine is not None:
                message = "this FakeNvml is installed already"
                raise RuntimeError(message)
            self._started = self._clock.monotonic()
            self._load_driver(reloaded=False)
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
            self.machine.gone.set()
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

    def reload_driver(self, code: int | str = _DRIVER_NOT_LOADED) -> None:
        """Unload the driver, as an upgrade does: every call answers UNINITIALIZED, and nvmlInit answers an error.

        Args:
            code: What nvmlInit answers until `driver_back()`, such as NVML_ERROR_LIB_RM_VERSION_MISMATCH (18).

        Raises:
            RuntimeError: It is not installed.
            ValueError: `code` is not an NVML error.
        """
        from otel_hwmetrics.testing.symbols import Machine, return_code

        with self._lock:
            away = return_code(code)
            self.machine.gone.set()
            self._machine = Machine(self.driver_version, self.machine.times, self._part_error, away=away)

    def driver_back(self, gpus: Sequence[FakeGpu] | None = None, *, driver_version: str | None = None) -> None:
        """Load the driver again: nvmlInit works, handles are new, and what counts since loading begins at 0.

        Args:
            gpus: The GPUs that it finds; None is those from before.
            driver_version: Its version; None is that from before.

        Raises:
            RuntimeError: It is not installed.
            ValueError: As of `FakeNvml`.
        """
        with self._lock:
            self.machine.gone.set()
            if gpus is not None:
                self.gpus = _with_uuids(gpus)
            self.driver_version = self.driver_version if driver_version is None else driver_version
            self._check_gpus()
            self._load_driver(reloaded=True)

    def _load_driver(self, *, reloaded: bool) -> None:
        from otel_hwmetrics.testing.symbols import Device, Machine
        from otel_hwmetrics.testing.symbols.fields import script_fields
        from otel_hwmetrics.testing.symbols.machine import Times

        epoch_ns = getattr(self._clock, "time_ns", time.time_ns)
        times = Times(self._elapsed, lambda: self._clock.monotonic() + self._boottime_offset, epoch_ns)
        machine = Machine(self.driver_version, times, self._part_error)
        machine.devices = tuple(Device(index, gpu, machine, reloaded=reloaded) for index, gpu in enumerate(self.gpus))
        for device in machine.devices:
            script_fields(device)
            device.strays = self._strays.setdefault(device.index, [])
        self._machine = machine

    def xid(self, code: int, gpu: int = 0) -> None:
        """Let the driver report an XID of a GPU to whoever has registered for such events.

        Args:
            code: The XID.
            gpu: The GPU's index.

        Raises:
            RuntimeError: It is not installed.
            ValueError: There is no such GPU, or `code` is no unsigned number of 64 bits.
        """
        from otel_hwmetrics.testing.symbols.events import xid

        with self._lock:
            xid(self.machine, code, gpu=gpu)

    def send_event(self, event_type: int, data: int = 0, gpu: int = 0, gpu_instance: int | None = None) -> None:
        """Let the driver report an event of a GPU to whoever has registered for it, by `nvmlEventSetWait_v2`.

        Args:
            event_type: One of pynvml's nvmlEventType...
            data: What comes with it.
            gpu: The GPU's index.
            gpu_instance: The MIG GPU instance that it is of; None is the GPU as a whole.

        Raises:
            RuntimeError: It is not installed.
            ValueError: There is no such GPU or event, or a number that has no place in the event.
        """
        from otel_hwmetrics.testing.symbols.events import WHOLE_GPU, send_event

        instance = None if gpu_instance is None else (gpu_instance, WHOLE_GPU)
        with self._lock:
            send_event(self.machine, event_type, data, gpu=gpu, instance=instance)

    @property
    def gpm_samples(self) -> int:
        """How many sample buffers of GPM are allocated: none may be left by who is done."""
        with self._lock:
            return 0 if self._machine is None else len(self._machine.gpm_samples)

    def calls_about(self, gpu: int) -> int:
        """Return how many calls were about a GPU or a MIG device of it, whatever the function."""
        with self._lock:
            return sum(count for (_, index), count in self.calls.items() if index == gpu)

    def reset_calls(self) -> None:
        """Count `calls` from zero again."""
        with self._lock:
            self.calls.clear()

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
            machine = self._machine
            # Looked at after the stall: a call that was stuck across uninstall must not count as an initialisation.
            if machine is None or (symbol.needs_init and not machine.references):
                return _UNINITIALIZED
            refusal = self._refusal(symbol, gpu)
            if refusal:
                return refusal
            if not symbol.blocks:
                return self._answer(symbol, gpu, machine, arguments)
        return self._answer(symbol, gpu, machine, arguments)

    def _answer(self, symbol: Symbol, gpu: int | None, machine: Machine, arguments: tuple[object, ...]) -> int | bytes:
        answer = symbol.call(machine, arguments)
        if answer == 0 and self._garbles(symbol, gpu):
            from otel_hwmetrics.testing.symbols.garbage import garble

            garble(symbol.name, arguments)
        return answer


def _with_uuids(gpus: Sequence[FakeGpu]) -> tuple[FakeGpu, ...]:
    return tuple(
        replace(
            gpu,
            uuid=gpu.uuid or _derived_uuid(index),
            mig=[
                replace(mig, uuid=mig.uuid or f"MIG-{uuid.uuid5(_UUID_NAMESPACE, f'{index}/{place}')}")
                for place, mig in enumerate(gpu.mig)
            ],
        )
        if not gpu.uuid or any(not mig.uuid for mig in gpu.mig)
        else gpu
        for index, gpu in enumerate(gpus)
    )


def _derived_uuid(index: int) -> str:
    return f"GPU-{uuid.uuid5(_UUID_NAMESPACE, str(index))}"
