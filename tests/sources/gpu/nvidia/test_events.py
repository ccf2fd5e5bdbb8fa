# SPDX-License-Identifier: Apache-2.0
"""The events that a watch counts, and what becomes of it when the driver errs, hangs or goes."""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pynvml
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_hwmetrics import _guard
from otel_hwmetrics.catalog.xid import UNKNOWN
from otel_hwmetrics.sources.gpu.base import Identity
from otel_hwmetrics.sources.gpu.nvidia import events as module
from otel_hwmetrics.sources.gpu.nvidia.device import Gpu
from otel_hwmetrics.sources.gpu.nvidia.event_set import KINDS, XID
from otel_hwmetrics.sources.gpu.nvidia.events import BREATH, BURST, LONGEST_PAUSE, Event, EventWatch
from otel_hwmetrics.testing import FakeGpu, FakeMig, FakeNvml, ManualClock
from otel_hwmetrics.testing.symbols import events as symbols
from otel_hwmetrics.testing.symbols.events import event_sets
from otel_hwmetrics.testing.symbols.machine import ERRORS

PATIENCE = 10.0
"""Seconds after which a test gives up waiting for another thread."""

WAIT_CALL = "nvmlEventSetWait_v2"
CALLS = (
    "nvmlInitWithFlags",
    "nvmlEventSetCreate",
    "nvmlDeviceGetSupportedEventTypes",
    "nvmlDeviceRegisterEvents",
    WAIT_CALL,
    "nvmlEventSetFree",
)
TYPES = {kind: getattr(pynvml, name) for name, kind in KINDS.items()}


class Rests:
    """Stands for the rests of a watch: notes how long each would be and takes none, but for those of a test's choice.

    Args:
        most: How many rests there may be before the thread stays in one until it has something else to do.
        gate: Keeps the thread in a rest after an error until the test lets it go on.
    """

    def __init__(self, most: int = 10**6, gate: threading.Semaphore | None = None) -> None:
        self.seconds: list[float] = []
        self.most = most
        self.gate = gate
        self.enough = threading.Event()
        self.at_gate = threading.Event()

    def __call__(
        self, condition: threading.Condition, changed: Callable[[], bool], seconds: float | None = None
    ) -> object:
        """Rest, on the watch's thread, with the condition."""
        assert seconds is not None
        self.seconds.append(seconds)
        if len(self.seconds) >= self.most:
            self.enough.set()
            return condition.wait_for(changed)
        if self.gate is not None and seconds >= 1:
            self.at_gate.set()
            while not changed() and not self.gate.acquire(blocking=False):
                condition.wait(0.001)
            self.at_gate.clear()
        return changed()


class Watched:
    """A watch of the GPUs of a fake, and what it has told."""

    def __init__(self, fake: FakeNvml, **options: Any) -> None:
        self.fake = fake
        self.heard: queue.Queue[Event] = queue.Queue()
        self.watch = EventWatch(pynvml, on_event=self.heard.put, **options)

    def begin(self, gpus: Sequence[Gpu] | None = None) -> Watched:
        """Watch the GPUs, by default all, and wait until they are registered."""
        self.watch.rebind(every_gpu(self.fake) if gpus is None else gpus)
        self.until(lambda: self.watch.why_off is None)
        return self

    def until(self, predicate: Callable[[], bool]) -> None:
        """Wait for the thread to do something."""
        with self.watch._condition:
            assert self.watch._condition.wait_for(predicate, PATIENCE)

    def until_off(self) -> str:
        """Wait for the thread to give up; why it did."""
        begun = "the GPUs are not registered yet"
        self.until(lambda: self.watch.why_off not in (None, begun))
        return str(self.watch.why_off)

    def pass_gate(self, rests: Rests) -> None:
        """Let the thread go on that rests, or will, after an error."""
        assert rests.gate is not None
        assert rests.at_gate.wait(PATIENCE)
        so_far = len(rests.seconds)
        rests.gate.release()
        self.until(lambda: not rests.at_gate.is_set() or len(rests.seconds) > so_far)

    def hear(self) -> tuple[str, str, int | None]:
        """Return the next event that the watch tells of: whose, what and its code."""
        return self.heard.get(timeout=PATIENCE)[:3]


@pytest.fixture
def clock() -> ManualClock:
    """Return a clock that only the test moves."""
    return ManualClock(start=1000.0)


@contextmanager
def machine(gpus: Sequence[FakeGpu] | int = 2, **options: Any) -> Iterator[Watched]:
    """Make a machine with a watch that has not begun; in the end nothing of the watch is left."""
    with FakeNvml(gpus) as fake:
        pynvml.nvmlInit()
        watched = Watched(fake, **{"wait": 0.05, **options})
        try:
            yield watched
        finally:
            fake.recover()
            assert watched.watch.stop(PATIENCE)
        assert not event_sets(fake.machine)


def every_gpu(fake: FakeNvml) -> list[Gpu]:
    """Return the GPUs as the source would hand them over, each followed by its MIG devices."""
    found = []
    for index, each in enumerate(fake.gpus):
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        whole = Identity(each.uuid, index, "tested", "NVIDIA", None)
        found.append(Gpu(pynvml, handle, whole, time.monotonic))
        for place, part in enumerate(each.mig):
            identity = Identity(part.uuid, index, "tested", "NVIDIA", None, parent=each.uuid, part=f"MIG {place}")
            its_own = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, place)
            number = pynvml.nvmlDeviceGetGpuInstanceId(its_own)
            found.append(Gpu(pynvml, its_own, identity, time.monotonic, instance=number, parent=handle))
    return found


# What is counted.


def test_an_xid_is_counted_for_its_gpu_and_its_code(clock: ManualClock) -> None:
    """Two codes on two GPUs and one of them twice are three counts, each with the time of its last."""
    with machine(clock=clock.monotonic) as here:
        here.begin()
        first, second = (gpu.uuid for gpu in here.fake.gpus)
        for code, gpu in ((31, 0), (79, 1), (31, 0)):
            here.fake.xid(code, gpu=gpu)
            here.hear()
            clock.advance(10)
        assert here.watch.counts() == {(first, XID, 31): 2, (second, XID, 79): 1}
        assert here.watch.last_seen() == {(first, XID, 31): 1020.0, (second, XID, 79): 1010.0}


@pytest.mark.parametrize("kind", sorted(TYPES))
def test_every_kind_of_event_is_counted_by_its_name(kind: str) -> None:
    """Only an XID has a code, whatever the driver writes there for others."""
    with machine() as here:
        here.begin()
        here.fake.send_event(TYPES[kind], 62, gpu=1)
        key = (here.fake.gpus[1].uuid, kind, 62 if kind == XID else None)
        assert here.hear() == key
        assert here.watch.counts() == {key: 1}


def test_a_burst_is_counted_exactly() -> None:
    """10,000 events while nobody waits and while somebody does; every hundred of them the thread takes breath."""
    rests = Rests()
    with machine(rest=rests) as here:
        here.begin()
        for number in range(10_000):
            here.fake.xid(45 if number % 4 else 13, gpu=number % 2)
        told = Counter(here.hear() for _ in range(10_000))
        first, second = (gpu.uuid for gpu in here.fake.gpus)
        expected = {(first, XID, 13): 2500, (first, XID, 45): 2500, (second, XID, 45): 5000}
        assert here.watch.counts() == told == expected
        breaths = [seconds for seconds in rests.seconds if seconds == BREATH]
        assert len(breaths) <= 10_000 / BURST


def test_a_driver_that_reports_without_end_does_not_take_a_core() -> None:
    """However fast events come, there is a rest after every hundred."""
    rests = Rests(most=3)
    with machine(rest=rests) as here:
        # All of them are there before the first is fetched.
        hang = here.fake.hang(WAIT_CALL)
        here.watch.rebind(every_gpu(here.fake))
        assert hang.entered.wait(PATIENCE)
        for _ in range(1000):
            here.fake.xid(45)
        hang.release()
        assert rests.enough.wait(PATIENCE)
        assert rests.seconds == [BREATH] * 3
        assert sum(here.watch.counts().values()) == 3 * BURST
        assert here.fake.calls[WAIT_CALL, None] == 3 * BURST


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(sorted(TYPES)), st.integers(0, 2**32 - 1)), max_size=30))
@settings(max_examples=20, deadline=None)
def test_any_story_is_counted_exactly(story: list[tuple[int, str, int]]) -> None:
    """For any events on any GPUs the counts are what happened, and each is told once, in order. Garbage makes one key."""
    with machine(3) as here:
        here.begin()
        expected = []
        for gpu, kind, data in story:
            here.fake.send_event(TYPES[kind], data, gpu=gpu)
            expected.append((here.fake.gpus[gpu].uuid, kind, min(data, UNKNOWN) if kind == XID else None))
        assert [here.hear() for _ in expected] == expected
        assert here.watch.counts() == Counter(expected)


def test_what_happened_before_is_not_invented() -> None:
    """Nothing is counted of a time when nobody was registered, and nothing is there with a zero."""
    with machine() as here:
        here.fake.xid(79)
        here.begin()
        assert here.watch.counts() == here.watch.last_seen() == {}
        here.fake.xid(31)
        assert here.hear() == (here.fake.gpus[0].uuid, XID, 31)


SPLIT = FakeGpu(mig=[FakeMig(gpu_instance_id=3), FakeMig(gpu_instance_id=5), FakeMig(gpu_instance_id=5)])


@pytest.mark.parametrize(
    ("instance", "part"),
    [
        pytest.param(None, None, id="whole GPU"),
        pytest.param(3, 0, id="one device"),
        pytest.param(5, None, id="two devices on one instance"),
        pytest.param(4, None, id="somebody else's instance"),
    ],
)
def test_an_event_of_a_mig_instance_is_its_devices(instance: int | None, part: int | None) -> None:
    """It is the device's that is alone on the instance; where that cannot be told, the GPU's."""
    with machine([FakeGpu(), SPLIT]) as here:
        here.begin()
        here.fake.send_event(TYPES[XID], 94, gpu=1, gpu_instance=instance)
        gpu = here.fake.gpus[1]
        assert here.hear() == (gpu.uuid if part is None else list(gpu.mig)[part].uuid, XID, 94)


def test_a_job_that_has_only_a_mig_device_hears_of_it() -> None:
    """The GPU is registered for it, since MIG devices cannot be; what is about the whole GPU is counted for the GPU."""
    with machine([SPLIT]) as here:
        here.begin(every_gpu(here.fake)[1:2])
        gpu = here.fake.gpus[0]
        here.fake.send_event(TYPES[XID], 94, gpu_instance=3)
        here.fake.xid(48)
        assert [here.hear(), here.hear()] == [(next(iter(gpu.mig)).uuid, XID, 94), (gpu.uuid, XID, 48)]


def test_a_board_without_ecc_is_registered_for_what_it_has() -> None:
    """It is not asked for more than it says it supports, and its XIDs are heard of."""
    with machine([FakeGpu(ecc=False)]) as here:
        here.begin()
        (only,) = event_sets(here.fake.machine).values()
        (types,) = only.registered.values()
        assert types & TYPES[XID]
        assert not types & TYPES["double_bit_ecc"]
        here.fake.xid(13)
        assert here.hear()[2] == 13


def test_rubbish_is_not_counted_and_not_asked_for_at_once_again() -> None:
    """An event of no type, or with a code that is all ones, is nobody's; after it the thread rests for a wait."""
    rests = Rests()
    with machine(rest=rests) as here:
        here.begin()
        here.fake.xid(2**64 - 1)
        here.fake.xid(43)
        assert here.hear()[2] == 43
        assert rests.seconds.count(0.05) == 1
        here.fake.garble(WAIT_CALL)
        here.fake.xid(79)
        here.fake.recover()
        here.fake.xid(45)
        while here.hear()[2] != 45:
            pass
        assert {code for _, _, code in here.watch.counts()} <= {43, 79, 45}


# How it waits.


def test_an_idle_watch_makes_one_call_a_wait_and_uses_no_cpu() -> None:
    """While nothing happens the thread is in the driver; a wait of five seconds is one call."""
    with machine() as here:
        here.watch._wait = module.WAIT
        here.begin()
        thread = here.watch._thread
        assert thread is not None
        time.sleep(0.5)  # real time is what is looked at
        assert here.fake.calls[WAIT_CALL, None] == 1
        if hasattr(time, "pthread_getcpuclockid") and thread.ident is not None:
            assert time.clock_gettime(time.pthread_getcpuclockid(thread.ident)) < 0.1
        here.fake.xid(45)  # ends the long wait
        here.watch._wait = 0.05
        here.hear()


def test_a_timeout_that_comes_at_once_is_no_busy_loop() -> None:
    """A driver that does not wait is asked once in the time of a wait; what it has to tell is heard of all the same."""
    rests = Rests(most=20)
    with machine(rest=rests, wait=5.0) as here:
        here.fake.fail(WAIT_CALL, "NVML_ERROR_TIMEOUT")
        here.begin()
        assert rests.enough.wait(PATIENCE)
        assert here.fake.calls[WAIT_CALL, None] == 20
        assert all(4.5 < seconds <= 5.0 for seconds in rests.seconds)
        assert here.watch.why_off is None
        here.watch._wait = 0.05


@pytest.mark.parametrize("code", ["NVML_ERROR_UNKNOWN", "NVML_ERROR_GPU_IS_LOST", "NVML_ERROR_IRQ_ISSUE"])
def test_an_endless_error_is_asked_about_with_growing_pauses(code: str) -> None:
    """Every call that fails at once is followed by a rest of 1, 2, 4 ... 30 s, and each set is given back."""
    rests = Rests(most=50)
    with machine(rest=rests) as here:
        here.fake.fail(WAIT_CALL, code)
        here.watch.rebind(every_gpu(here.fake))
        assert rests.enough.wait(PATIENCE)
        assert rests.seconds == [1, 2, 4, 8, 16, *[30] * 45]
        assert here.fake.calls[WAIT_CALL, None] == 50
        assert here.fake.calls["nvmlEventSetCreate", None] == here.fake.calls["nvmlEventSetFree", None] == 50
        assert here.fake.machine.references == 1
        assert str(here.watch.why_off).startswith("NVMLError_")


def test_the_pause_is_short_again_after_all_went_well() -> None:
    """An error after a wait that was as it should be is a new one."""
    rests = Rests(gate=threading.Semaphore(0))
    with machine(rest=rests) as here:
        here.begin()
        for _ in range(3):
            here.fake.xid(45)
            here.hear()
            here.fake.fail(WAIT_CALL, "NVML_ERROR_UNKNOWN")
            here.pass_gate(rests)
            assert rests.at_gate.wait(PATIENCE)
            here.fake.recover()
            here.pass_gate(rests)
            here.until(lambda: here.watch.why_off is None)
        assert [seconds for seconds in rests.seconds if seconds >= 1] == [1, 2] * 3


# Errors of every kind, everywhere.


def _means_nothing_new(name: str, code: str) -> bool:
    """Whether that is no error at all."""
    return (name, code) == (WAIT_CALL, "NVML_ERROR_TIMEOUT")


@pytest.mark.parametrize("code", sorted(ERRORS))
@pytest.mark.parametrize("name", CALLS)
def test_any_error_of_any_call_ends_in_a_rest_and_a_reason(name: str, code: str) -> None:
    """The thread lives, says why it hears nothing, hammers on nothing; when the cause is gone it hears again."""
    rests = Rests(most=3)
    with machine(rest=rests) as here:
        here.fake.fail(name, code)
        here.watch.rebind(every_gpu(here.fake))
        if name == "nvmlEventSetFree":
            here.until(lambda: here.watch.why_off is None)
            here.watch.release(PATIENCE)
        elif not _means_nothing_new(name, code):
            here.until_off()
        calls = here.fake.calls[name, None] + here.fake.calls[name, 0] + here.fake.calls[name, 1]
        assert calls <= 2 * 3
        here.fake.recover()
        rests.most = 10**6
        with_rest = len(rests.seconds)
        here.begin()
        here.fake.xid(31)
        assert here.hear()[2] == 31
        assert len(rests.seconds) - with_rest <= 2
        if name == "nvmlEventSetFree":
            event_sets(here.fake.machine).clear()  # those that the driver did not take back


@pytest.mark.parametrize("code", sorted(set(ERRORS) - {"NVML_ERROR_NOT_SUPPORTED"}))
@pytest.mark.parametrize("name", ["nvmlDeviceGetSupportedEventTypes", "nvmlDeviceRegisterEvents"])
def test_one_gpu_that_cannot_be_registered_leaves_the_other_heard_of(name: str, code: str) -> None:
    """It is left out with its reason; a set that it may have spoilt is not used."""
    with machine() as here:
        here.fake.fail(name, code, gpu=0)
        here.begin()
        assert set(here.watch.left_out) == {here.fake.gpus[0].uuid}
        assert all(here.watch.left_out.values())
        here.fake.xid(79, gpu=1)
        assert here.hear() == (here.fake.gpus[1].uuid, XID, 79)
        sets = 2 if name == "nvmlDeviceRegisterEvents" else 1
        assert here.fake.calls["nvmlEventSetCreate", None] == sets


@pytest.mark.parametrize("name", CALLS)
def test_an_old_driver_without_a_function_is_off_and_asked_nothing(name: str) -> None:
    """It is said once that the driver is too old; no call is made in vain and nothing is kept."""
    with machine() as here:
        here.fake.missing(name)
        here.fake.reset_calls()
        here.watch.rebind(every_gpu(here.fake))
        assert here.until_off() == "the driver is too old to tell of events"
        assert not any(count for (each, _), count in here.fake.calls.items() if each == WAIT_CALL)
        assert here.fake.machine.references == 1


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("NVML_ERROR_NOT_SUPPORTED", "events are not supported here"),
        ("NVML_ERROR_NO_PERMISSION", "no permission to be told of events"),
    ],
)
def test_where_there_are_no_events_it_says_so_and_sleeps(code: str, why: str) -> None:
    """A virtual GPU, WSL, a container without the right: the thread rests for ever, and counts nothing."""
    rests = Rests()
    with machine(rest=rests) as here:
        here.fake.fail("nvmlDeviceRegisterEvents", code)
        here.watch.rebind(every_gpu(here.fake))
        assert here.until_off() == why
        assert rests.seconds == []
        assert here.watch.counts() == {}
        assert here.fake.machine.references == 1


def test_a_gpu_that_tells_only_of_clocks_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not registered for nothing, and the reason is that it does not support what is asked for."""
    monkeypatch.setattr(symbols, "supported", lambda _: pynvml.nvmlEventTypeClock | pynvml.nvmlEventTypePState)
    with machine() as here:
        here.watch.rebind(every_gpu(here.fake))
        assert here.until_off() == "events are not supported here"
        assert not here.fake.calls["nvmlDeviceRegisterEvents", 0]


def test_no_gpus_are_nothing_to_watch() -> None:
    """An empty list is told like a driver without events."""
    with machine() as here:
        assert here.watch.why_off == "no GPU was given"
        here.watch.rebind([])
        assert here.until_off() == "events are not supported here"


# GPUs and drivers that go and come back.


def test_a_lost_gpu_ends_the_set_and_the_others_are_watched_on() -> None:
    """Waiting fails for all of them; after a rest there is a set without it, and with it when the source has it back."""
    rests = Rests(gate=threading.Semaphore(0))
    with machine(3, rest=rests) as here:
        here.begin()
        here.fake.xid(31, gpu=1)
        here.hear()
        lost, kept = here.fake.gpus[1].uuid, here.fake.gpus[2].uuid
        here.fake.lose(1)
        here.fake.fail(WAIT_CALL, "NVML_ERROR_GPU_IS_LOST")
        assert rests.at_gate.wait(PATIENCE)
        here.fake.recover(WAIT_CALL)
        here.pass_gate(rests)
        here.until(lambda: here.watch.why_off is None and bool(here.watch.left_out))
        assert here.watch.left_out == {lost: "NVMLError_GpuIsLost"}
        here.fake.xid(45, gpu=2)
        assert here.hear() == (kept, XID, 45)
        here.fake.restore(1)
        here.watch.rebind(every_gpu(here.fake))
        here.until(lambda: here.watch.why_off is None and not here.watch.left_out)
        here.fake.xid(31, gpu=1)
        assert here.hear() == (lost, XID, 31)
        assert here.watch.counts() == {(lost, XID, 31): 2, (kept, XID, 45): 1}


def test_a_gpu_that_was_left_out_is_asked_again_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the longest pause, into the set that is there; nobody has to rebind, and nothing is lost meanwhile."""
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.0)
    with machine() as here:
        here.fake.fail("nvmlDeviceGetSupportedEventTypes", "NVML_ERROR_UNKNOWN", gpu=0)
        here.begin()
        here.until(lambda: bool(here.watch.left_out))
        here.fake.recover()
        here.until(lambda: not here.watch.left_out)
        here.fake.xid(79, gpu=0)
        assert here.hear() == (here.fake.gpus[0].uuid, XID, 79)
        assert here.fake.calls["nvmlEventSetCreate", None] == 1


def test_a_gpu_without_events_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it does not have it will not get."""
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.0)
    with machine() as here:
        here.fake.fail("nvmlDeviceRegisterEvents", "NVML_ERROR_NOT_SUPPORTED", gpu=0)
        here.begin()
        waits = here.fake.calls[WAIT_CALL, None]
        while here.fake.calls[WAIT_CALL, None] < waits + 3:
            time.sleep(0.001)
        assert here.fake.calls["nvmlDeviceRegisterEvents", 0] == 1
        assert here.watch.left_out == {here.fake.gpus[0].uuid: "events are not supported here"}


def test_a_reloaded_driver_is_left_alone_until_its_gpus_are_given() -> None:
    """The thread makes no call to it, gives back what is not its own any more to nobody, and counts on afterwards."""
    rests = Rests()
    with machine(rest=rests) as here:
        here.begin()
        here.fake.xid(79)
        key = here.hear()
        here.fake.reload_driver()
        assert here.until_off() == "NVML was shut down"
        here.fake.driver_back()
        pynvml.nvmlInit()
        here.fake.reset_calls()
        assert here.fake.machine.references == 1
        here.begin()
        here.fake.xid(79)
        assert here.hear() == key
        assert here.watch.counts() == {key: 2}
        assert [seconds for seconds in rests.seconds if seconds >= 1] == []


@pytest.mark.parametrize("code", ["NVML_ERROR_DRIVER_NOT_LOADED", "NVML_ERROR_LIB_RM_VERSION_MISMATCH"])
def test_without_a_driver_it_waits_for_the_source(code: str) -> None:
    """It is the source that asks for the driver, now and then; the watch does not ask too."""
    with machine() as here:
        here.begin()
        here.fake.fail(WAIT_CALL, code)
        here.until_off()
        here.fake.reset_calls()
        time.sleep(0.1)  # real time: long enough for what should not happen
        assert not here.fake.calls
        assert here.fake.machine.references == 1


def test_rebinding_the_same_gpus_disturbs_nothing() -> None:
    """A source may say at every look what it has; only other handles are a reason for another set."""
    with machine() as here:
        here.begin()
        for _ in range(5):
            here.watch.rebind(every_gpu(here.fake))
        here.fake.xid(13)
        here.hear()
        assert here.fake.calls["nvmlEventSetCreate", None] == 1


def test_rebinding_other_gpus_makes_another_set() -> None:
    """Those that are not in the new list are not heard of any more."""
    with machine() as here:
        here.begin()
        here.begin(every_gpu(here.fake)[1:])
        assert len(event_sets(here.fake.machine)) == 1
        here.fake.xid(13, gpu=0)
        here.fake.xid(31, gpu=1)
        assert here.hear()[2] == 31
        assert len(here.watch.counts()) == 1


# Letting go.


def test_release_gives_everything_back_and_rebind_takes_it_again() -> None:
    """NVML can be started anew in between, as after the driver went."""
    with machine() as here:
        here.begin()
        assert here.fake.machine.references == 2
        assert here.watch.release(PATIENCE)
        assert here.watch.why_off == "released"
        assert not event_sets(here.fake.machine)
        assert here.fake.machine.references == 1
        here.begin()
        here.fake.xid(31)
        assert here.hear()[2] == 31


def test_nobodys_shutdown_takes_the_set_from_under_a_wait() -> None:
    """The watch uses NVML itself: it hears on when the last other user has gone, and then lets go, too."""
    with machine() as here:
        here.begin()
        pynvml.nvmlShutdown()
        here.fake.xid(31)
        assert here.hear()[2] == 31
        assert here.watch.stop(PATIENCE)
        assert here.fake.machine.references == 0
        assert not event_sets(here.fake.machine)


def test_no_set_is_freed_while_the_thread_waits_in_it() -> None:
    """The thread frees its own; rebinding, releasing and stopping from elsewhere never do."""
    with machine(wait=0.3) as here:
        here.begin()
        gpus = every_gpu(here.fake)
        for turn in range(3):
            here.watch.rebind(gpus[turn % 2 :])
            here.watch.release()
        here.watch.rebind(gpus)
        here.until(lambda: here.watch.why_off is None)
        assert not here.watch.stop()
        assert here.watch.stop(PATIENCE)
        made = here.fake.calls["nvmlEventSetCreate", None]
        assert here.fake.calls["nvmlEventSetFree", None] == made  # none was answered IN_USE and tried again
        assert not event_sets(here.fake.machine)


def test_stop_does_not_wait_for_a_driver_that_hangs() -> None:
    """The thread is left behind as a daemon, and gives back what it holds when the driver lets it go."""
    with machine() as here:
        here.begin()
        hang = here.fake.hang(WAIT_CALL)
        assert hang.entered.wait(PATIENCE)
        began = time.monotonic()
        assert not here.watch.stop()
        assert not here.watch.release()
        assert time.monotonic() - began < 1
        assert here.watch._thread is not None
        assert here.watch._thread.daemon
        hang.release()
        assert here.watch.stop(PATIENCE)
        assert here.fake.machine.references == 1


def test_stop_is_for_ever_and_harmless_at_any_time() -> None:
    """Before it began, twice, and from its own callback; nothing begins after it, and what was counted stays."""
    with machine() as here:
        never = EventWatch(pynvml)
        assert never.stop()
        assert never.stop()
        never.rebind(every_gpu(here.fake))
        assert never._thread is None
        assert never.why_off == "stopped"
        here.begin()
        here.watch._on_event = lambda event: here.heard.put(event) if here.watch.stop() is False else None
        here.fake.xid(79)
        key = here.hear()
        assert here.watch.stop(PATIENCE)
        here.watch.rebind(every_gpu(here.fake))
        assert here.watch.why_off == "stopped"
        assert here.watch.counts() == {key: 1}


def test_a_fault_of_the_callback_costs_nothing_but_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is passed over and counted; this event and the next are."""
    monkeypatch.setattr(_guard, "LOUD", False)

    def fail(event: Event) -> None:
        here.heard.put(event)
        raise RuntimeError("a fault of ours")

    with machine() as here:
        here.watch._on_event = fail
        here.begin()
        here.fake.xid(31)
        here.fake.xid(31)
        key = here.hear()
        assert here.hear() == key
        here.until(lambda: here.watch.counts() == {key: 2})
        assert _guard.faults["telling of a GPU event"] >= 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_has_no_watch_takes_no_lock_and_calls_nothing() -> None:
    """Its copy of the lock may be held by a thread that it has not got; the parent's watch goes on."""
    with machine() as here:
        here.begin()
        here.fake.xid(79)
        key = here.hear()
        held, go_on = threading.Event(), threading.Event()

        def hold() -> None:
            with here.watch._condition:
                held.set()
                go_on.wait(PATIENCE)

        holder = threading.Thread(target=hold)
        holder.start()
        assert held.wait(PATIENCE)
        gpus = every_gpu(here.fake)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads in a process that forks
            pid = os.fork()
        if pid == 0:
            signal.alarm(5)  # in case a lock is waited for after all
            before = here.fake.calls.copy()
            here.watch.rebind(gpus)
            quiet = here.watch.counts() == {} and here.watch.last_seen() == {}
            ended = here.watch.release(1) and here.watch.stop(1)
            os._exit(0 if quiet and ended and here.fake.calls == before else 1)
        go_on.set()
        holder.join(PATIENCE)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        here.fake.xid(79)
        here.hear()
        assert here.watch.counts() == {key: 2}


def test_counts_can_be_read_while_events_come() -> None:
    """What another thread reads never falls, and is what happened in the end."""
    with machine() as here:
        here.begin()
        seen = [0]

        def send() -> None:
            for _ in range(2000):
                here.fake.xid(45)

        sender = threading.Thread(target=send)
        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        try:
            sender.start()
            deadline = time.monotonic() + PATIENCE
            while seen[-1] < 2000 and time.monotonic() < deadline:
                seen.append(sum(here.watch.counts().values()))
        finally:
            sys.setswitchinterval(before)
            sender.join(PATIENCE)
        assert seen == sorted(seen)
        assert seen[-1] == 2000


def test_the_longest_pause_is_no_shorter_than_a_wait() -> None:
    """The figures of the module go together: an error is never asked about more often than a quiet driver."""
    assert module.FIRST_PAUSE >= 1
    assert module.WAIT >= 1
    assert LONGEST_PAUSE >= module.WAIT
