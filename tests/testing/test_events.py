# SPDX-License-Identifier: Apache-2.0
"""Events of the scripted NVML: who is told what, and how long waiting takes."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from typing import Any

import pynvml
import pytest

from otel_hwmetrics.testing import FakeGpu, FakeNvml
from otel_hwmetrics.testing.symbols import SYMBOLS
from otel_hwmetrics.testing.symbols.events import WHOLE_GPU, event_sets, send_event, xid

from .scripted import SCRIPTED, SPLIT, handle, in_thread, mig_handle

XID = pynvml.nvmlEventTypeXidCriticalError
DOUBLE_BIT = pynvml.nvmlEventTypeDoubleBitEccError
LONG = 30_000
"""Milliseconds that no test waits for."""

FUNCTIONS = (
    "nvmlEventSetCreate",
    "nvmlEventSetFree",
    "nvmlDeviceGetSupportedEventTypes",
    "nvmlDeviceRegisterEvents",
    "nvmlEventSetWait_v2",
)


def registered(types: int = XID, *gpus: int) -> Any:
    """Return a new set in which these GPUs are registered, by default the first."""
    events = pynvml.nvmlEventSetCreate()
    for gpu in gpus or (0,):
        pynvml.nvmlDeviceRegisterEvents(handle(gpu), types, events)
    return events


def told(events: Any, milliseconds: int = LONG) -> tuple[int, int, int]:
    """Wait for an event; the index of its GPU, its type and what came with it."""
    data = pynvml.nvmlEventSetWait_v2(events, milliseconds)
    return pynvml.nvmlDeviceGetIndex(data.device), data.eventType, data.eventData


def test_the_five_functions_are_there() -> None:
    """No more of them and no fewer, so that every one is tried here."""
    assert {name for name, symbol in SYMBOLS.items() if symbol.answer.__module__.endswith(".events")} == set(FUNCTIONS)


def test_an_event_is_told_once_with_its_gpu_and_its_code(nvml: FakeNvml) -> None:
    """The handle in it is that of the GPU it happened on; after it the queue is empty."""
    events = registered(XID, 0, 1)
    assert xid(nvml.machine, 79, gpu=1) == 1
    assert told(events) == (1, XID, 79)
    with pytest.raises(pynvml.NVMLError_Timeout):
        told(events, 0)
    assert nvml.calls["nvmlEventSetWait_v2", None] == 2


def test_events_come_in_order_and_none_is_lost(nvml: FakeNvml) -> None:
    """A set keeps what happens between two waits, the same code twice, too."""
    events = registered(XID, 0, 1)
    happened = [(gpu, XID, code) for code in (31, 31, 45, 13) for gpu in (0, 1)]
    for gpu, _, code in happened:
        xid(nvml.machine, code, gpu=gpu)
    assert [told(events, 0) for _ in happened] == happened


def test_what_happened_before_registration_is_not_told(nvml: FakeNvml) -> None:
    """Nobody hears of it, neither then nor later."""
    assert xid(nvml.machine, 79) == 0
    events = registered()
    with pytest.raises(pynvml.NVMLError_Timeout):
        told(events, 0)


def test_an_event_reaches_those_sets_that_asked_for_its_type(nvml: FakeNvml) -> None:
    """Each set has a queue of its own; types of one GPU add up over several calls."""
    both, one = registered(), registered(DOUBLE_BIT)
    pynvml.nvmlDeviceRegisterEvents(handle(0), DOUBLE_BIT, both)
    assert send_event(nvml.machine, DOUBLE_BIT) == 2
    assert xid(nvml.machine, 48) == 1
    assert [told(both, 0), told(both, 0)] == [(0, DOUBLE_BIT, 0), (0, XID, 48)]
    assert told(one, 0) == (0, DOUBLE_BIT, 0)


def test_an_event_of_an_instance_says_so(nvml: FakeNvml) -> None:
    """The numbers of the MIG instances are all ones where it is about the whole GPU."""
    events = registered()
    xid(nvml.machine, 94, instance=(9, 0))
    xid(nvml.machine, 95)
    seen = [pynvml.nvmlEventSetWait_v2(events, 0) for _ in range(2)]
    assert [(each.gpuInstanceId, each.computeInstanceId) for each in seen] == [(9, 0), (WHOLE_GPU, WHOLE_GPU)]


def test_a_wait_takes_as_long_as_it_is_told_in_real_time(nvml: FakeNvml) -> None:
    """It ends with TIMEOUT and not before, though the clock of the fake stands still."""
    events = registered()
    began = time.monotonic()
    with pytest.raises(pynvml.NVMLError_Timeout):
        told(events, 120)
    assert time.monotonic() - began >= 0.12


def test_an_event_ends_a_wait_while_other_calls_go_on(nvml: FakeNvml) -> None:
    """Who waits does not hold the fake's lock."""
    events = registered()
    waiting, results = in_thread(lambda: pynvml.nvmlEventSetWait_v2(events, LONG).eventData)
    while not nvml.calls["nvmlEventSetWait_v2", None]:
        time.sleep(0.001)
    assert pynvml.nvmlDeviceGetIndex(handle(1)) == 1
    xid(nvml.machine, 31)
    waiting.join(5)
    assert results == [31]


@pytest.mark.parametrize("end", ["reload", "back", "uninstall"])
def test_a_wait_ends_with_the_driver(end: str) -> None:
    """Who waits is told UNINITIALIZED when the driver goes, and its set is not one of the next driver."""
    with FakeNvml([SCRIPTED]) as fake:
        pynvml.nvmlInit()
        events = registered()
        waiting, results = in_thread(lambda: pynvml.nvmlEventSetWait_v2(events, LONG))
        while not any(each.waiting for each in event_sets(fake.machine).values()):
            time.sleep(0.001)
        if end == "uninstall":
            fake.uninstall()
        else:
            fake.reload_driver()
        waiting.join(5)
        assert results == [pynvml.NVMLError_Uninitialized]
        if end == "back":
            fake.driver_back()
            pynvml.nvmlInit()
            assert not event_sets(fake.machine)
            with pytest.raises(pynvml.NVMLError_InvalidArgument):
                pynvml.nvmlEventSetFree(events)


def test_a_set_in_use_is_not_freed(nvml: FakeNvml) -> None:
    """The driver's library would crash the process; the fake says IN_USE, so that a test can see it."""
    events = registered()
    waiting, _ = in_thread(lambda: pynvml.nvmlEventSetWait_v2(events, LONG))
    while not any(each.waiting for each in event_sets(nvml.machine).values()):
        time.sleep(0.001)
    with pytest.raises(pynvml.NVMLError_InUse):
        pynvml.nvmlEventSetFree(events)
    xid(nvml.machine, 13)
    waiting.join(5)
    pynvml.nvmlEventSetFree(events)
    assert not event_sets(nvml.machine)


def test_a_freed_set_is_no_set(nvml: FakeNvml) -> None:
    """Every use of it after that is INVALID_ARGUMENT."""
    events = registered()
    pynvml.nvmlEventSetFree(events)
    uses: list[Callable[[], object]] = [
        lambda: pynvml.nvmlEventSetFree(events),
        lambda: pynvml.nvmlEventSetWait_v2(events, 0),
        lambda: pynvml.nvmlDeviceRegisterEvents(handle(), XID, events),
    ]
    for use in uses:
        with pytest.raises(pynvml.NVMLError_InvalidArgument):
            use()


@pytest.mark.parametrize("ecc", [True, False])
def test_a_gpu_supports_events_of_its_memory_if_it_has_ecc(*, ecc: bool) -> None:
    """Registering for a type that is not supported registers for none."""
    with FakeNvml([FakeGpu(ecc=ecc)]) as fake:
        pynvml.nvmlInit()
        types = pynvml.nvmlDeviceGetSupportedEventTypes(handle())
        assert types & XID
        assert bool(types & DOUBLE_BIT) == ecc
        if not ecc:
            events = pynvml.nvmlEventSetCreate()
            with pytest.raises(pynvml.NVMLError_NotSupported):
                pynvml.nvmlDeviceRegisterEvents(handle(), XID | DOUBLE_BIT, events)
            assert xid(fake.machine, 31) == 0


def test_an_instance_of_mig_has_no_events_of_its_own() -> None:
    """Both functions that take a handle answer NOT_SUPPORTED for that of a MIG device."""
    with FakeNvml([SPLIT]):
        pynvml.nvmlInit()
        events, part = registered(), mig_handle(handle())
        with pytest.raises(pynvml.NVMLError_NotSupported):
            pynvml.nvmlDeviceGetSupportedEventTypes(part)
        with pytest.raises(pynvml.NVMLError_NotSupported):
            pynvml.nvmlDeviceRegisterEvents(part, XID, events)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_function_can_fail_and_be_missing(name: str, nvml: FakeNvml) -> None:
    """As any other of the fake: by the code that is scripted, and as in an older library."""
    events = registered()
    uses: dict[str, Any] = {
        "nvmlEventSetCreate": pynvml.nvmlEventSetCreate,
        "nvmlEventSetFree": lambda: pynvml.nvmlEventSetFree(events),
        "nvmlDeviceGetSupportedEventTypes": lambda: pynvml.nvmlDeviceGetSupportedEventTypes(handle()),
        "nvmlDeviceRegisterEvents": lambda: pynvml.nvmlDeviceRegisterEvents(handle(), XID, events),
        "nvmlEventSetWait_v2": lambda: pynvml.nvmlEventSetWait_v2(events, 0),
    }
    nvml.fail(name, pynvml.NVML_ERROR_GPU_IS_LOST)
    with pytest.raises(pynvml.NVMLError_GpuIsLost):
        uses[name]()
    nvml.missing(name)
    with pytest.raises(pynvml.NVMLError_FunctionNotFound):
        uses[name]()


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"kind": 3}, "kind"),
        ({"kind": 0}, "kind"),
        ({"kind": XID, "gpu": 2}, "gpu"),
        ({"kind": XID, "gpu": -1}, "gpu"),
        ({"kind": XID, "gpu": True}, "gpu"),
        ({"kind": XID, "data": -1}, "data"),
        ({"kind": XID, "data": 2**64}, "data"),
        ({"kind": XID, "instance": (2**32, 0)}, "instance"),
        ({"kind": XID, "instance": (0, -1)}, "instance"),
    ],
)
def test_an_event_that_cannot_be_is_refused(arguments: dict[str, Any], key: str, nvml: FakeNvml) -> None:
    """A misspelt event would test nothing."""
    with pytest.raises(ValueError, match=key):
        send_event(nvml.machine, **arguments)


def test_two_who_wait_for_one_set_share_its_events(nvml: FakeNvml) -> None:
    """One event is given to one of them."""
    events = registered()
    both = [in_thread(lambda: pynvml.nvmlEventSetWait_v2(events, LONG).eventData) for _ in range(2)]
    xid(nvml.machine, 13)
    xid(nvml.machine, 31)
    for thread, _ in both:
        thread.join(5)
    assert {code for _, results in both for code in results} == {13, 31}


def test_handle_in_an_event_compares_by_where_it_points(nvml: FakeNvml) -> None:
    """The binding gives another object for the same GPU each time, as it does with the driver's library."""
    events = registered()
    xid(nvml.machine, 13)
    given = pynvml.nvmlEventSetWait_v2(events, 0).device
    assert given is not handle()
    assert ctypes.cast(given, ctypes.c_void_p).value == ctypes.cast(handle(), ctypes.c_void_p).value


def test_the_fake_itself_sends_events(nvml: FakeNvml) -> None:
    """A test needs nothing but the fake: an XID of a GPU, any other event, and one of a MIG GPU instance."""
    events = registered(XID | DOUBLE_BIT, 0, 1)
    nvml.xid(79, gpu=1)
    nvml.send_event(DOUBLE_BIT)
    nvml.send_event(XID, 94, gpu_instance=9)
    assert [told(events), told(events)] == [(1, XID, 79), (0, DOUBLE_BIT, 0)]
    last = pynvml.nvmlEventSetWait_v2(events, 0)
    assert (last.eventData, last.gpuInstanceId, last.computeInstanceId) == (94, 9, WHOLE_GPU)


@pytest.mark.parametrize("wrong", [{"event_type": 3}, {"event_type": XID, "gpu": 2}, {"event_type": XID, "data": -1}])
def test_the_fake_sends_only_what_can_be(wrong: dict[str, int], nvml: FakeNvml) -> None:
    """Another argument is a ValueError, and before it is installed there is nobody to send anything to."""
    with pytest.raises(ValueError, match="allowed is"):
        nvml.send_event(**wrong)
    with pytest.raises(RuntimeError, match="not installed"):
        FakeNvml().xid(31)


def test_a_burst_is_told_to_the_last_event(nvml: FakeNvml) -> None:
    """A thousand events that come while nobody waits are there, in order."""
    events = registered()
    for code in range(1000):
        nvml.xid(code)
    assert [told(events, 0)[2] for _ in range(1000)] == list(range(1000))


def test_a_wait_can_be_made_to_hang(nvml: FakeNvml) -> None:
    """It hangs in the driver until it is released, and then has what happened meanwhile."""
    events = registered()
    stuck = nvml.hang("nvmlEventSetWait_v2")
    waiting, results = in_thread(lambda: pynvml.nvmlEventSetWait_v2(events, 0).eventData)
    assert stuck.entered.wait(5)
    nvml.xid(119)
    assert results == []
    stuck.release()
    waiting.join(5)
    assert results == [119]


def test_garbage_is_told_as_success(nvml: FakeNvml) -> None:
    """An event of which every number is all ones, as from a driver that cannot tell; the handle stays."""
    events = registered()
    nvml.garble("nvmlEventSetWait_v2")
    nvml.xid(31)
    assert told(events) == (0, 2**64 - 1, 2**64 - 1)
