# SPDX-License-Identifier: Apache-2.0
"""One event set of NVML: which GPUs are registered in it, and what it tells.

https://docs.nvidia.com/deploy/nvml-api/group__nvmlEvents.html. Of MIG it says that GPUs are registered and never MIG
devices, and that an event carries the numbers of the instances that it is about, if it is not about the whole GPU.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterable
from typing import Any, Final

from otel_hwmetrics.catalog.xid import UNKNOWN
from otel_hwmetrics.sources.gpu.nvidia.device import Gpu
from otel_hwmetrics.sources.gpu.nvidia.library import function

XID: Final = "xid"
KINDS: Final = {
    "nvmlEventTypeXidCriticalError": XID,
    "nvmlEventTypeSingleBitEccError": "single_bit_ecc",
    "nvmlEventTypeDoubleBitEccError": "double_bit_ecc",
    "nvmlEventTypeSingleBitEccErrorStorm": "single_bit_ecc_storm",
    "nvmlEventTypeDramRetirementEvent": "dram_retirement",
    "nvmlEventTypeDramRetirementFailure": "dram_retirement_failure",
    "nvmlEventTypeNonFatalPoisonError": "poison",
    "nvmlEventTypeFatalPoisonError": "fatal_poison",
    "nvmlEventTypeGpuUnavailableError": "gpu_unavailable",
    "nvmlEventTypeGpuRecoveryAction": "recovery_action",
}
"""What is asked for, by NVML's names, and what we call it. Changes of clocks and of the performance state are no errors,
and come by the thousand."""

Key = tuple[str, str, "int | None"]
"""Whose (UUID), what (a value of `KINDS`), and of XIDs the code, `UNKNOWN` at the highest."""

_WHOLE_GPU: Final = 2**32 - 1
_MOST_CODE: Final = 2**32 - 1


class Unwatchable(Exception):
    """None of the GPUs could be registered.

    Attributes:
        errors: Why, each an `NVMLError`; at least one.
    """

    def __init__(self, errors: list[Any]) -> None:
        super().__init__(errors)
        self.errors = errors


class EventSet:
    """An event set, and a use of NVML, so that nobody's nvmlShutdown takes it from under a call that waits.

    Made, used and closed by one thread.

    Attributes:
        left_out: The GPUs that are not registered, by UUID: the `NVMLError` that says why.

    Args:
        nvml: The module.
        gpus: What to register.

    Raises:
        NVMLError: It cannot be had.
        Unwatchable: It can, and is of no use.
    """

    def __init__(self, nvml: Any, gpus: Iterable[Gpu]) -> None:
        self._nvml = nvml
        self._create = function(nvml, "nvmlEventSetCreate")
        self._free = function(nvml, "nvmlEventSetFree")
        self._supported = function(nvml, "nvmlDeviceGetSupportedEventTypes")
        self._register = function(nvml, "nvmlDeviceRegisterEvents")
        self._wait = function(nvml, "nvmlEventSetWait_v2")
        self._shut_down = function(nvml, "nvmlShutdown")
        self._kinds = {getattr(nvml, name): kind for name, kind in KINDS.items()}
        self._data = nvml.c_nvmlEventData_t()
        self._types = ctypes.c_ulonglong()
        self._set: Any = None
        self._registered: set[str] = set()
        self.left_out: dict[str, Any] = {}
        self._handles: dict[str, Any] = {}
        self._whole: dict[int, str] = {}
        self._parts: dict[tuple[int, int], list[str]] = {}
        for gpu in gpus:
            handle, uuid = gpu.handle, gpu.identity.uuid
            if gpu.instance is not None and gpu.identity.parent is not None:
                handle, uuid = gpu.parent, gpu.identity.parent
                self._parts.setdefault((address(handle), gpu.instance), []).append(gpu.identity.uuid)
            self._handles[uuid] = handle
            self._whole[address(handle)] = uuid
        function(nvml, "nvmlInitWithFlags")(0)
        try:
            self.register()
        except BaseException:
            self.close()
            raise

    def register(self) -> None:
        """Register every GPU that is not yet; those that cannot be are left out.

        Raises:
            NVMLError: The set cannot be had.
            Unwatchable: All are left out.
        """
        self.left_out = {}
        if self._set is None:
            self._make()
        while not self._register_others():
            self._drop()
            self._make()
        if not self._registered:
            raise Unwatchable(list(self.left_out.values()) or [self._not_supported()])

    def _register_others(self) -> bool:
        """Register who is neither registered nor left out; False when a failure has spoilt the set."""
        for uuid, handle in self._handles.items():
            if uuid in self._registered or uuid in self.left_out:
                continue
            asked = False
            try:
                self._supported(handle, ctypes.byref(self._types))
                wanted = self._types.value & sum(self._kinds)
                if not wanted:
                    raise self._not_supported()
                asked = True
                self._register(handle, ctypes.c_ulonglong(wanted), self._set)
                self._registered.add(uuid)
            except self._nvml.NVMLError as error:
                self.left_out[uuid] = error
                # Of "not supported" NVML says that the set can still be used, of others that it is in no defined state.
                if asked and error.value != self._nvml.NVML_ERROR_NOT_SUPPORTED:
                    return False
        return True

    def _not_supported(self) -> Any:
        return self._nvml.NVMLError(self._nvml.NVML_ERROR_NOT_SUPPORTED)

    def _make(self) -> None:
        made = self._nvml.c_nvmlEventSet_t()
        self._create(ctypes.byref(made))
        self._set = made

    def _drop(self) -> None:
        dropped, self._set = self._set, None  # whatever comes of it, it is not freed twice
        self._registered.clear()
        if dropped is not None:
            self._free(dropped)

    def wait(self, seconds: float) -> Key | None:
        """Wait for the next event.

        Returns:
            Its key; None when the driver told something that makes no sense.

        Raises:
            NVMLError: NVMLError_Timeout if nothing happened, also when a signal interrupted the wait; or what is wrong.
        """
        data = self._data
        self._wait(self._set, ctypes.byref(data), ctypes.c_uint(round(seconds * 1000)))
        kind = self._kinds.get(data.eventType)
        where = address(data.device)
        if kind is None or where not in self._whole or (kind == XID and data.eventData > _MOST_CODE):
            return None
        # A code that no catalog can have is garbage: it must not make a key of its own, of which there would be no end.
        return self._whose(where, data.gpuInstanceId), kind, min(data.eventData, UNKNOWN) if kind == XID else None

    def _whose(self, where: int, instance: int) -> str:
        """The MIG device that an event is about, if it is one of ours and alone on its GPU instance, else the GPU."""
        parts = self._parts.get((where, instance), []) if instance != _WHOLE_GPU else []
        return parts[0] if len(parts) == 1 else self._whole[where]

    def close(self) -> None:
        """Give everything back. Raises nothing."""
        try:
            self._drop()
        except self._nvml.NVMLError as error:
            # The NVML that we used is not there any more, and our use of it neither: we must not end another's.
            if error.value in (self._nvml.NVML_ERROR_UNINITIALIZED, self._nvml.NVML_ERROR_INVALID_ARGUMENT):
                return
        with contextlib.suppress(self._nvml.NVMLError):
            self._shut_down()


def address(handle: Any) -> int:
    """What tells handles apart: where they point to. The binding makes a new object whenever it gives one."""
    return ctypes.cast(handle, ctypes.c_void_p).value or 0
