# SPDX-License-Identifier: Apache-2.0
"""A signal is heard on another thread than the main one. What comes of it is in ``test_last_words.py``."""

from __future__ import annotations

import errno
import faulthandler
import os
import signal
import socket
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

from otel_hwmetrics.sinks import wakeup as module
from otel_hwmetrics.sinks.wakeup import Wakeup, handler_in_c, set_handler_in_c

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody tells who has sent a signal")


def until(condition: Callable[[], object]) -> None:
    """Wait for something that is about to be the case."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def listening() -> list[threading.Thread]:
    """The threads that wait for signals."""
    return [thread for thread in threading.enumerate() if thread.name == "hwmetrics-sigterm"]


handled: list[int] = []
"""The signals that the Python handler was run for."""


def handler(signum: int, _: FrameType | None) -> None:
    """The Python handler, above which it is heard."""
    handled.append(signum)


@pytest.fixture(autouse=True)
def handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Python handlers; as it was before, in C as well, after the test."""
    monkeypatch.setattr(module, "LOOK_EVERY", 0.05)
    handled.clear()
    signals = (signal.SIGUSR1, signal.SIGUSR2)
    before = [signal.signal(signum, handler) for signum in signals]
    yield
    assert handler_in_c(signal.SIGUSR1) == handler_in_c(signal.SIGUSR2)
    for signum, each in zip(signals, before, strict=True):
        signal.signal(signum, each)
    until(lambda: not listening())


def test_a_signal_is_heard_on_another_thread() -> None:
    """Each one of its number, no other, and the handler is run, too; until it is stopped, when the thread ends."""
    heard: list[threading.Thread] = []
    wakeup = Wakeup(signal.SIGUSR1, handler, lambda: heard.append(threading.current_thread()))
    assert wakeup.start()
    assert wakeup.start()
    assert len(listening()) == 1
    signal.raise_signal(signal.SIGUSR2)
    signal.raise_signal(signal.SIGUSR1)
    until(lambda: heard)
    assert handled == [signal.SIGUSR2, signal.SIGUSR1]
    assert heard[0] not in (threading.main_thread(), None)
    wakeup.stop()
    wakeup.stop()
    until(lambda: not listening())
    heard.clear()
    signal.raise_signal(signal.SIGUSR1)
    assert handled == [signal.SIGUSR2, signal.SIGUSR1, signal.SIGUSR1]
    assert heard == []


def test_it_can_be_started_again_and_from_any_thread() -> None:
    """The handler in C is there once more."""
    heard: list[None] = []
    wakeup = Wakeup(signal.SIGUSR1, handler, lambda: heard.append(None))
    for _ in range(2):
        for step in (
            wakeup.start,
            lambda: signal.raise_signal(signal.SIGUSR1),
            lambda: until(lambda: heard),
            wakeup.stop,
        ):
            thread = threading.Thread(target=step)
            thread.start()
            thread.join()
        heard.clear()


def test_a_signal_to_a_child_is_not_heard() -> None:
    """Though the child has the descriptor from its fork."""
    heard: list[None] = []
    wakeup = Wakeup(signal.SIGUSR1, handler, lambda: heard.append(None))
    wakeup.start()
    assert wakeup._writer is not None
    descriptor = os.dup(wakeup._writer.fileno())
    sender = os.posix_spawn(
        "/bin/sh", ["sh", "-c", "printf Stack"], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, descriptor, 1)]
    )
    assert os.waitpid(sender, 0)[1] == 0
    os.close(descriptor)
    wakeup.stop()  # which is read after it
    until(lambda: not listening())
    assert heard == []


def test_it_is_heard_again_when_the_handler_is_put_back() -> None:
    """By a library that has had the signal for a while; what is heard while it has is nobody's."""
    heard: list[None] = []
    wakeup = Wakeup(signal.SIGUSR1, handler, lambda: heard.append(None))
    wakeup.start()
    armed = handler_in_c(signal.SIGUSR1)
    theirs: list[int] = []
    for other in (signal.SIG_DFL, lambda signum, _: theirs.append(signum)):
        before = signal.signal(signal.SIGUSR1, other)
        assert handler_in_c(signal.SIGUSR1) != armed
        if callable(other):
            signal.raise_signal(signal.SIGUSR1)
        signal.signal(signal.SIGUSR1, before)
        until(lambda: handler_in_c(signal.SIGUSR1) == armed)
    assert theirs == [signal.SIGUSR1]
    assert heard == handled == []
    signal.raise_signal(signal.SIGUSR1)
    until(lambda: heard)
    wakeup.stop()


@pytest.mark.parametrize("there", [signal.SIG_DFL, handler, lambda *_: None])
def test_what_somebody_has_put_there_stays(there: Callable[..., object] | signal.Handlers) -> None:
    """Also while one looks whether to hear again, and when it is stopped."""
    wakeup = Wakeup(signal.SIGUSR1, lambda *_: None, lambda: None)
    signal.signal(signal.SIGUSR1, wakeup._handler)
    wakeup.start()
    signal.signal(signal.SIGUSR1, there)
    in_c = handler_in_c(signal.SIGUSR1)
    assert wakeup._writer is not None
    wakeup._arm(wakeup._writer)
    assert handler_in_c(signal.SIGUSR1) == in_c
    wakeup.stop()
    assert handler_in_c(signal.SIGUSR1) == in_c
    assert signal.getsignal(signal.SIGUSR1) is there
    signal.signal(signal.SIGUSR1, handler)


def test_one_that_is_replaced_while_it_looks_leaves_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The main thread may give the signal back in the very moment; then it does what is the default, in C as well."""
    wakeup = Wakeup(signal.SIGUSR1, handler, lambda: None)
    register = faulthandler.register

    def late(*args: Any, **options: Any) -> None:
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        register(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(faulthandler, "register", late)
        wakeup.start()
    assert handler_in_c(signal.SIGUSR1) is None
    wakeup.stop()
    assert handler_in_c(signal.SIGUSR1) is None
    signal.signal(signal.SIGUSR1, handler)


def test_a_handler_in_c_that_is_later_stays_and_may_call_ours() -> None:
    """The descriptor is still the socket that it was, and nothing else's."""
    wakeup = Wakeup(signal.SIGUSR1, handler, lambda: None)
    wakeup.start()
    assert wakeup._writer is not None
    ours, descriptor = handler_in_c(signal.SIGUSR1), wakeup._writer.fileno()
    set_handler_in_c(signal.SIGUSR1, 4096)
    wakeup.stop()
    assert handler_in_c(signal.SIGUSR1) == 4096
    set_handler_in_c(signal.SIGUSR1, ours)
    signal.raise_signal(signal.SIGUSR1)
    assert handled == [signal.SIGUSR1]
    faulthandler.unregister(signal.SIGUSR1)
    with socket.socket(fileno=descriptor) as left:
        assert left.family == socket.AF_UNIX


def test_somebody_may_have_stacks_written_instead() -> None:
    """Theirs are, and the handler is still run where they say so."""
    wakeup = Wakeup(signal.SIGUSR1, handler, lambda: None)
    wakeup.start()
    with tempfile.TemporaryFile() as file:
        faulthandler.register(signal.SIGUSR1, file, chain=True)
        signal.raise_signal(signal.SIGUSR1)
        assert handled == [signal.SIGUSR1]
        assert file.seek(0, os.SEEK_END) > 0
        wakeup.stop()
        faulthandler.unregister(signal.SIGUSR1)  # it is theirs, and stays until they say so


@pytest.mark.parametrize("where", ["parent", "child"])
def test_what_somebody_else_has_registered_since_is_left_to_them(where: str) -> None:
    """Their stacks are written after our end, and in a child from which we are gone."""
    in_child = where == "child"
    wakeup = Wakeup(signal.SIGUSR1, handler, lambda: None)
    wakeup.start()
    with tempfile.TemporaryFile() as file:
        # Of this thread only: Python may crash on the stack of one that ends just then, as ours does.
        faulthandler.register(signal.SIGUSR1, file, all_threads=False, chain=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # forking with threads is what this is about
            pid = os.fork() if in_child else 0
        if pid:
            assert os.waitpid(pid, 0)[1] == 0
            wakeup.stop()
        else:
            code = 1
            try:
                wakeup.stop()
                signal.raise_signal(signal.SIGUSR1)
                code = 0 if handled == [signal.SIGUSR1] else 2
            finally:
                if in_child:
                    os._exit(code)
            assert code == 0
        assert file.seek(0, os.SEEK_END) > 0
        faulthandler.unregister(signal.SIGUSR1)


def test_where_no_thread_can_be_started_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """No descriptor, and no handler in C."""
    before = handler_in_c(signal.SIGUSR1)

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    made: list[int] = []
    pair = socket.socketpair

    def remembered(*families: int) -> tuple[socket.socket, socket.socket]:
        both = pair(*families)
        made.extend(each.fileno() for each in both)
        return both

    monkeypatch.setattr(socket, "socketpair", remembered)
    assert not Wakeup(signal.SIGUSR1, handler, lambda: None).start()
    assert handler_in_c(signal.SIGUSR1) == before
    assert len(made) == 2
    for descriptor in made:
        with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
            os.fstat(descriptor)


def test_where_nobody_tells_who_sends_it_does_not_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child's signal might be taken for this process's."""
    monkeypatch.delattr(socket, "SO_PASSCRED")
    assert not Wakeup(signal.SIGUSR1, handler, lambda: None).start()
    assert not listening()
