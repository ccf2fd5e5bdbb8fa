# SPDX-License-Identifier: Apache-2.0
"""Hears a signal though the main thread does not, and ends the process as the signal would have.

Python runs a signal's handler on the main thread, between two of its instructions. A job that hangs in the driver or in
a collective operation has none, so that with a handler on it SIGTERM would no longer end the very jobs that most need
it (https://docs.python.org/3/library/signal.html#execution-of-python-signal-handlers). But `faulthandler.register` has
a handler in C, which writes a stack to a descriptor at once, and goes on to the interpreter's own one: a thread can wait
there, and takes any word as the signal. `signal.set_wakeup_fd` would do it, too, but there is one in a process, every
event loop takes it and leaves none when it ends, and only the main thread can set it: what hangs could not get it back.

A child shares the descriptor from its fork until it lets go of it, and signals to the child are written to it, too. So
it is a socket by which the kernel tells who wrote (SO_PASSCRED, https://man7.org/linux/man-pages/man7/unix.7.html), and
there is no hearing where it does not tell.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import signal
import socket
import struct
import threading
import weakref
from collections.abc import Callable
from types import FrameType

from otel_hwmetrics._guard import guard
from otel_hwmetrics.descriptors import apart

LOOK_EVERY = 2.0
"""Seconds after which we hear again, at the latest, where somebody has replaced the Python handler and put it back."""

_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid
_STOP = b"\0"  # no stack begins with it


class _Entry:
    """What `faulthandler` writes to: it alone keeps this, so that with it goes what was registered by us.

    It has one entry for a signal, and does not tell whose it is.
    """

    def __init__(self, writer: socket.socket) -> None:
        self._number = writer.fileno()

    def fileno(self) -> int:
        """The descriptor."""
        return self._number

    def flush(self) -> None:
        """Nothing is kept back."""


class Wakeup:
    """Calls back on a thread of its own when a signal comes that a Python handler is to be run for.

    Args:
        signum: The signal.
        handler: The Python handler. While another one is installed nothing is heard.
        heard: Called for each signal, at least once.
    """

    def __init__(
        self, signum: int, handler: Callable[[int, FrameType | None], object], heard: Callable[[], object]
    ) -> None:
        self._signum = signum
        self._handler = handler
        self._heard = heard
        self._pid = 0
        self._reader: socket.socket | None = None
        self._writer: socket.socket | None = None
        self._below: int | None = None  # the interpreter's own handler in C
        self._armed: int | None = None  # ours
        self._entry: weakref.ref[_Entry] | None = None

    @property
    def followed(self) -> bool:
        """Whether somebody has registered stacks to be written since, in our place; their handler in C calls Python's.

        Who gives the signal back in Python takes it away.
        """
        gone = self._entry is not None and self._entry() is None
        return gone and self._armed is not None and handler_in_c(self._signum) == self._armed

    def start(self) -> bool:
        """Begin to listen, once the handler is installed; whether that is so. From any thread.

        It is not where the kernel does not tell who sends, or no thread can be started.
        """
        if self._writer is not None:
            return True
        if not hasattr(socket, "SO_PASSCRED"):
            return False
        # Never by the number of a standard output that was closed: what is printed then would be the signal to us.
        pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        reader, writer = (socket.socket(fileno=apart(each.detach())) for each in pair)
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        reader.settimeout(LOOK_EVERY)
        # It is written to by whatever the signal interrupts, and whoever is late misses nothing.
        writer.setblocking(False)
        self._pid, self._below = os.getpid(), handler_in_c(self._signum)
        self._reader, self._writer = reader, writer
        thread = threading.Thread(target=self._run, args=(reader, writer), name="hwmetrics-sigterm", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # a cgroup limits threads
            self._reader = self._writer = None
            reader.close()
            writer.close()
            return False
        self._arm(writer)
        return True

    def stop(self) -> None:
        """Listen no more, and end the thread; in a forked child, without disturbing the parent's. From any thread."""
        writer, self._writer = self._writer, None
        reader, self._reader = self._reader, None
        if reader is None or writer is None:
            return
        if os.getpid() == self._pid:
            with contextlib.suppress(OSError):  # the socket is full: the thread looks every few seconds
                writer.send(_STOP)
        else:
            reader.close()  # there is no thread that would
        if handler_in_c(self._signum) in (None, self._below, self._armed):
            if not self.followed:
                self._disarm()
            writer.close()
        else:
            # Another library's, which may call ours when it ends: the descriptor must not be another file's by then.
            writer.detach()

    def _arm(self, writer: socket.socket) -> None:
        """Put the handler in C before the interpreter's own one, where that is not so. From any thread."""
        if handler_in_c(self._signum) != self._below or signal.getsignal(self._signum) != self._handler:
            return
        # Of the interrupted thread only: the stacks of others may be in motion.
        self._register(writer)
        if handler_in_c(self._signum) == self._below:  # it believes that it is there still
            faulthandler.unregister(self._signum)
            self._register(writer)
        self._armed = handler_in_c(self._signum)
        if self._writer is not writer or signal.getsignal(self._signum) != self._handler:  # meanwhile, elsewhere
            self._disarm()

    def _register(self, writer: socket.socket) -> None:
        entry = _Entry(writer)
        self._entry = weakref.ref(entry)
        faulthandler.register(self._signum, entry, all_threads=False, chain=True)

    def _disarm(self) -> None:
        """Take the handler in C away, and leave another one that is there. From any thread."""
        current = handler_in_c(self._signum)
        self._entry = None
        faulthandler.unregister(self._signum)  # puts back what it found once, whatever is there
        if current != self._armed:
            set_handler_in_c(self._signum, current)

    def _run(self, reader: socket.socket, writer: socket.socket) -> None:
        with reader:
            while self._writer is writer:
                try:
                    told, ancillary, _, _ = reader.recvmsg(1, socket.CMSG_SPACE(_CREDENTIALS.size))
                except TimeoutError:
                    with guard("listening for a signal"):
                        self._arm(writer)
                    continue
                pid = next((_CREDENTIALS.unpack(data)[0] for _, _, data in ancillary), 0)
                if pid == self._pid and told != _STOP:
                    with guard("hearing a signal"):
                        self._heard()


def end_by(signum: int) -> None:
    """Let a signal do to this process what it does by default. From any thread, unlike `signal.signal`."""
    set_handler_in_c(signum, None)
    os.kill(os.getpid(), signum)


def handler_in_c(signum: int) -> int | None:
    """The address of what the kernel calls on a signal; nothing where it does what is the default. From any thread.

    https://docs.python.org/3/c-api/sys.html#c.PyOS_getsig
    """
    get = ctypes.pythonapi.PyOS_getsig
    get.argtypes, get.restype = (ctypes.c_int,), ctypes.c_void_p
    address: int | None = get(signum)
    return address


def set_handler_in_c(signum: int, address: int | None) -> None:
    """Have the kernel call another one, behind Python's back. From any thread."""
    put = ctypes.pythonapi.PyOS_setsig
    put.argtypes, put.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
    put(signum, address)
