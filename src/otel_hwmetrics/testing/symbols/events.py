# SPDX-License-Identifier: Apache-2.0
"""Events: waiting for what the driver has to tell.

https://docs.nvidia.com/deploy/nvml-api/group__nvmlEvents.html
"""

from __future__ import annotations

import ctypes
import threading
import time
import weakref
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

import pynvml

from otel_hwmetrics.testing.gpu import InvalidValueError
from otel_hwmetrics.testing.symbols.core import Device, Machine, Refused, device_call, library_call, out, uint, ullong
from otel_hwmetrics.testing.symbols.machine import ADDRESSES

XID: Final[int] = pynvml.nvmlEventTypeXidCriticalError
_ALWAYS: Final[int] = (
    XID
    | pynvml.nvmlEventTypePState
    | pynvml.nvmlEventTypeClock
    | pynvml.nvmlEventTypePowerSourceChange
    | pynvml.nvmlEventTypeGpuUnavailableError
    | pynvml.nvmlEventTypeGpuRecoveryAction
)
_ECC: Final[int] = (
    pynvml.nvmlEventTypeSingleBitEccError
    | pynvml.nvmlEventTypeDoubleBitEccError
    | pynvml.nvmlEventTypeSingleBitEccErrorStorm
    | pynvml.nvmlEventTypeNonFatalPoisonError
    | pynvml.nvmlEventTypeFatalPoisonError
)
_RETIREMENT: Final[int] = pynvml.nvmlEventTypeDramRetirementEvent | pynvml.nvmlEventTypeDramRetirementFailure
EVENT_TYPES: Final = _ALWAYS | _ECC | _RETIREMENT

WHOLE_GPU: Final = 0xFFFFFFFF
"""What an event says of MIG instances that is of the GPU as a whole: all ones."""

_SLICE: Final = 0.01
"""Seconds between two looks at whether the driver has gone, which notifies nobody."""


@dataclass
class EventSet:
    """What somebody waits for, and what has happened of it and was not fetched yet.

    Attributes:
        condition: Guards the rest; notified of every event.
        registered: The types asked for, by the address of the device.
        pending: What happened, oldest first.
        waiting: How many threads are waiting.
    """

    condition: threading.Condition = field(default_factory=threading.Condition)
    registered: dict[int, int] = field(default_factory=dict)
    pending: deque[tuple[int, int, int, int, int]] = field(default_factory=deque)
    waiting: int = 0


# By the event that ends with their driver, since it lives exactly as long.
_SETS: Final[weakref.WeakKeyDictionary[threading.Event, dict[int, EventSet]]] = weakref.WeakKeyDictionary()


def event_sets(machine: Machine) -> dict[int, EventSet]:
    """Return the event sets that were created with this driver and not freed, by address."""
    return _SETS.setdefault(machine.gone, {})


def send_event(
    machine: Machine, kind: int, data: int = 0, *, gpu: int = 0, instance: tuple[int, int] | None = None
) -> int:
    """Let the driver report an event to whoever has registered for it. May be called from any thread.

    Args:
        machine: The driver.
        kind: One of pynvml's nvmlEventType...
        data: What comes with it, such as an XID.
        gpu: The GPU's index.
        instance: The numbers of the MIG GPU instance and compute instance that it is of; None is the whole GPU.

    Returns:
        How many event sets it has reached.

    Raises:
        InvalidValueError: There is no such event or GPU, or a number has no place in an event.
    """
    if type(kind) is not int or kind.bit_count() != 1 or not kind & EVENT_TYPES:
        raise InvalidValueError(kind, "kind", "one of pynvml's nvmlEventType...")
    if type(gpu) is not int or not 0 <= gpu < len(machine.devices):
        raise InvalidValueError(gpu, "gpu", f"an index below {len(machine.devices)}, the number of GPUs")
    parts = (WHOLE_GPU, WHOLE_GPU) if instance is None else instance
    for key, number, bits in (("data", data, 64), *(("instance", part, 32) for part in parts)):
        if type(number) is not int or not 0 <= number < 2**bits:
            raise InvalidValueError(number, key, f"a whole number from 0 to {2**bits - 1}")
    device = machine.devices[gpu].address
    reached = 0
    for each in list(event_sets(machine).values()):
        with each.condition:
            if each.registered.get(device, 0) & kind:
                each.pending.append((device, kind, data, *parts))
                each.condition.notify()
                reached += 1
    return reached


def xid(machine: Machine, code: int, *, gpu: int = 0, instance: tuple[int, int] | None = None) -> int:
    """Let the driver report an XID; as `send_event`."""
    return send_event(machine, XID, code, gpu=gpu, instance=instance)


def supported(device: Device) -> int:
    """Return the types of events that the board can have."""
    return _ALWAYS | (_ECC if device.gpu.ecc else 0) | (_RETIREMENT if device.gpu.row_remapping else 0)


def _event_set(raw: object) -> int:
    """Take the handle of an event set."""
    if isinstance(raw, pynvml.c_nvmlEventSet_t):
        return ctypes.cast(raw, ctypes.c_void_p).value or 0
    raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)


def _at(machine: Machine, address: int) -> EventSet:
    try:
        return event_sets(machine)[address]
    except KeyError:
        raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT) from None


@library_call("nvmlEventSetCreate", out(pynvml.c_nvmlEventSet_t))
def _create(machine: Machine, handle: Any) -> None:
    address = next(ADDRESSES)
    event_sets(machine)[address] = EventSet()
    ctypes.c_void_p.from_buffer(handle).value = address


@library_call("nvmlEventSetFree", _event_set)
def _free(machine: Machine, address: int) -> None:
    # The real library would free the memory below the feet of whoever waits; say so instead.
    if _at(machine, address).waiting:
        raise Refused(pynvml.NVML_ERROR_IN_USE)
    del event_sets(machine)[address]


@device_call("nvmlDeviceGetSupportedEventTypes", out(ctypes.c_ulonglong))
def _supported(device: Device, types: ctypes.c_ulonglong) -> None:
    types.value = supported(device)


@device_call("nvmlDeviceRegisterEvents", ullong, _event_set)
def _register(device: Device, types: int, address: int) -> None:
    wanted = _at(device.machine, address)
    if types & ~supported(device):
        raise Refused(pynvml.NVML_ERROR_NOT_SUPPORTED)
    with wanted.condition:
        wanted.registered[device.address] = wanted.registered.get(device.address, 0) | types


@library_call("nvmlEventSetWait_v2", _event_set, out(pynvml.c_nvmlEventData_t), uint, blocks=True)
def _wait(machine: Machine, address: int, data: Any, timeout_ms: int) -> None:
    wanted = _at(machine, address)
    deadline = time.monotonic() + timeout_ms / 1000  # real time, whatever the clock of the script
    with wanted.condition:
        wanted.waiting += 1
        try:
            while not wanted.pending:
                left = deadline - time.monotonic()
                if machine.gone.is_set():
                    raise Refused(pynvml.NVML_ERROR_UNINITIALIZED)
                if left <= 0:
                    raise Refused(pynvml.NVML_ERROR_TIMEOUT)
                wanted.condition.wait(min(left, _SLICE))
            device, data.eventType, data.eventData, *parts = wanted.pending.popleft()
        finally:
            wanted.waiting -= 1
    data.gpuInstanceId, data.computeInstanceId = parts
    ctypes.c_void_p.from_buffer(data, type(data).device.offset).value = device
