# SPDX-License-Identifier: Apache-2.0
"""The calls that are open in the threads of this process, without their frames.

A frame has the variables of its call. A thread that returns from a call while somebody holds its frame leaves them to the
holder, who then destroys them, on a thread that they may not be meant for. So of each frame only its code and its line are
kept, and it is let go of at once. A moment remains: should the interpreter switch to another thread in the middle of a
walk, variables of the call that is just looked at may be destroyed here.
"""

from __future__ import annotations

import gc
import operator
import sys
import threading
from collections.abc import Callable
from itertools import chain, compress
from types import CodeType, FrameType
from typing import NamedTuple, TypeVar

T = TypeVar("T")


class Walked(NamedTuple):
    """Open calls of a thread.

    Attributes:
        calls: The code and the line of each, the innermost first.
        more: Whether there are others further out.
    """

    calls: list[tuple[CodeType, int | None]]
    more: bool


def open_calls(most: Callable[[int], int]) -> dict[int, Walked]:
    """Those of each thread but this one. A thread goes on meanwhile, so one that runs may be seen at two moments.

    Args:
        most: Gives for the number of a thread how many of its calls are gone through; 0 for a thread that is left out.
    """
    frames = _innermost()
    frames.pop(threading.get_ident(), None)
    found = {ident: _walked(frames, ident, most(ident)) for ident in tuple(frames)}
    return {ident: walked for ident, walked in found.items() if walked.calls}


def _walked(frames: dict[int, FrameType], ident: int, most: int) -> Walked:
    """The calls of a thread; its frame is taken out, so that nobody else holds it."""
    frame: FrameType | None = frames.pop(ident)
    calls: list[tuple[CodeType, int | None]] = []
    while frame is not None and len(calls) < most:
        calls.append((frame.f_code, frame.f_lineno))
        frame = frame.f_back
    return Walked(calls, frame is not None)


def _innermost() -> dict[int, FrameType]:
    """The innermost frame of each thread.

    Python 3.11 makes them under a lock of the runtime. If garbage is collected meanwhile, and something in it needs that
    lock (a `threading.local` does), the thread waits for itself, and the whole process with it:
    https://github.com/python/cpython/issues/106883. Later versions switch the collector off there, earlier ones make none.
    """
    if sys.version_info[:2] == (3, 11):
        return without_collection(sys._current_frames)  # noqa: SLF001 - documented under this name, for debuggers
    return sys._current_frames()  # noqa: SLF001 - likewise


def without_collection(function: Callable[[], T]) -> T:
    """What a function of C gives, with no garbage collected meanwhile; the collector is left as it was.

    Jobs switch it as well, for steps of even length, and between two lines of Python another thread may do so: hence all
    of it in one call of C, within which no other one runs.
    """
    was_on: list[bool] = []
    call = operator.methodcaller("__call__")
    asked = map(was_on.append, map(call, (gc.isenabled,)))
    restored = map(call, compress((gc.enable,), was_on))
    found: list[T] = []
    noted = map(found.append, map(call, (function,)))
    try:
        list(chain(asked, map(call, (gc.disable,)), noted, restored))
    except BaseException:
        if was_on == [True]:
            gc.enable()
        raise
    return found[0]
