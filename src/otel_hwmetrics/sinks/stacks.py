# SPDX-License-Identifier: Apache-2.0
"""Where the threads of the job stand when it stalls.

Of each thread the calls that are open: file, line, function. No source is read and no variable looked at, so nothing of
the data, and no secret in a variable, is in it; what files, functions and threads are called goes through `redaction`.

Taken by `sys._current_frames` on a thread of ours. No thread is stopped for it, but none of Python's runs while the
interpreter lists them, and ours then goes through their calls as any other code does, in turn with them (`frames`). A call
into C that lets go of the interpreter's lock, as those of PyTorch, of drivers and of the system do, is seen as the line
that made it. While somebody keeps the lock nothing of ours runs, no alert begins to fire either, and only another process
can look (py-spy). The watchdog in C that the standard library has, `faulthandler.dump_traceback_later`, is one for a
process and does not tell whether it is in use, so it is left to the job.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from types import CodeType
from typing import Final, NamedTuple

from otel_hwmetrics import redaction
from otel_hwmetrics.alerts.rule import State
from otel_hwmetrics.catalog import own
from otel_hwmetrics.sinks.base import Alert
from otel_hwmetrics.sinks.frames import Walked, open_calls
from otel_hwmetrics.threads import PREFIX

RULES: Final = frozenset({"training_stalled", "gpu_idle"})
"""Alerts that are told with them: of a job that may hang."""
MOST: Final = 8192
"""Bytes of all stacks together."""
ON_A_SPAN: Final = 4096
"""Bytes of them that are on the event of a span: it waits in the job's memory for the span's end."""
STACKS: Final = 16
"""Different stacks; threads that stand at the same place are told of together."""
AN_HOUR: Final = 4
"""How often an hour they are taken for a rule; for what another process tells of, as often again."""
SHARED: Final = 30.0
"""Seconds in which those that were taken last are told again: GPUs of one hang idle one after the other."""
WALKED, WALKED_OF_OTHERS = 1000, 100
"""Open calls that are gone through, of the training's thread and of each other one."""

_HOUR: Final = 3600.0
_ENDS, _ENDS_OF_OTHERS = (30, 10), (12, 4)  # calls that are told of: the innermost, the outermost
_BEGINNING: Final = ("_bootstrap", "_bootstrap_inner")  # of every thread, in threading
_LONGEST: Final = 200  # letters of a name
_LEFT_OUT: Final = "(more is left out)"

Call = tuple[str, int | None, str]
"""A file, a line in it, and the function."""


class Taken(NamedTuple):
    """Stacks of a moment.

    Attributes:
        text: They as text; empty where there are none.
        at: Where the first thread stands, for a line of the log: the innermost call that is of no library, as
            ``/home/me/train.py, line 12 in collate``; empty where there is none.
    """

    text: str
    at: str


NOTHING: Final = Taken("", "")


class Stacks:
    """Takes them for the alerts of `RULES`, and now and then only.

    Args:
        on: Whether to.
        training: Gives the training's thread, which is told of first.
        monotonic: Seconds that never go back.
    """

    def __init__(
        self,
        training: Callable[[], threading.Thread],
        *,
        on: bool = True,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._training = training
        self._on = on
        self._monotonic = monotonic
        self._taken: dict[tuple[str, bool], deque[float]] = {}  # when, by the rule and whether it is told of here
        self._last = (float("-inf"), NOTHING)  # when, and what

    def attached(self, alert: Alert, *, tells: bool = True) -> Alert:
        """The alert with the stacks, if it begins to fire and is one of `RULES`. Called on the sampler's thread.

        Alerts within `SHARED` seconds have the same ones. They are taken `AN_HOUR` times an hour at most for each rule: a
        GPU that idles now and then takes nothing from a training that stalls.

        Args:
            alert: The alert.
            tells: Whether it is told of by this process. What another one tells of takes nothing from what is.
        """
        step = alert.transition
        if not (self._on and alert.name in RULES and step.state is State.FIRING and not step.blind):
            return alert
        taken_ = self._recent((alert.name, tells))
        if not taken_.text:
            return alert
        attributes = {**alert.attributes, own.CODE_STACKTRACE: shortened(taken_.text, ON_A_SPAN)}
        return replace(alert, stacks=taken_.text, at=taken_.at, attributes=attributes)

    def now(self) -> str:
        """Those of this moment, however often; empty where they are not wanted. From any thread.

        No lock of Python's `threading` is waited for, which a thread that a signal has interrupted may hold.
        """
        return taken(self._training()).text if self._on else ""

    def _recent(self, budget: tuple[str, bool]) -> Taken:
        now = self._monotonic()
        at, last = self._last
        if now - at <= SHARED:
            return last
        times = self._taken.setdefault(budget, deque(maxlen=AN_HOUR))
        if len(times) == AN_HOUR and now - times[0] < _HOUR:
            return NOTHING
        times.append(now)
        self._last = now, taken(self._training())
        return self._last[1]


def taken(training: threading.Thread) -> Taken:
    """The stacks of this process's threads but ours, the innermost call of each first.

    In the words of `faulthandler`, with names in place of numbers. Empty on a build of Python without the interpreter's
    lock: there the calls of a thread that runs cannot be gone through.

    Args:
        training: The thread that comes first; then the main one, then those that began first.
    """
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        return NOTHING
    # A copy that is made at once; `threading.enumerate` has a lock, which a thread that a signal has interrupted may hold.
    named: dict[int, threading.Thread] = dict(getattr(threading, "_active", {}))
    most = {ident: 0 for ident, thread in named.items() if thread.name.startswith(PREFIX)}
    if training.ident is not None:
        most[training.ident] = WALKED
    walked = open_calls(lambda ident: most.get(ident, WALKED_OF_OTHERS))
    by_place: dict[object, tuple[list[str], _Open]] = {}  # what is to be written of each is dearer than to compare them
    at = ""
    for ident in filter(
        walked.__contains__, dict.fromkeys((training.ident, threading.main_thread().ident, *named, *walked))
    ):
        thread = named.get(ident or 0)
        name = clean(f"{ident:#x}" if thread is None else thread.name)
        ends = _ENDS_OF_OTHERS
        if ident == training.ident:
            name, ends = f"{name} [training]", _ENDS
        at = at or _place(walked[ident or 0])
        calls = _open_in(walked[ident or 0], *ends)
        by_place.setdefault(calls, ([], calls))[0].append(name)
    return Taken(told((names, list(calls.lines())) for names, calls in islice(by_place.values(), STACKS + 1)), at)


class _Open(NamedTuple):
    """The open calls of a thread that are told of; equal for threads that stand at the same place.

    Attributes:
        inner: The innermost.
        left_out: What is between, in words.
        outer: The outermost.
    """

    inner: tuple[tuple[CodeType, int | None], ...]
    left_out: str
    outer: tuple[tuple[CodeType, int | None], ...]

    def lines(self) -> Iterator[str]:
        """They as text."""
        yield from map(line, map(_call, self.inner))
        if self.left_out:
            yield f"  ... {self.left_out} ..."
            yield from map(line, map(_call, self.outer))


def _open_in(walked: Walked, inner: int, outer: int) -> _Open:
    """Of those of a thread what is told."""
    calls = walked.calls
    while len(calls) > 1 and is_beginning(calls[-1][0].co_filename, calls[-1][0].co_name):
        calls.pop()
    if walked.more:  # what is outermost is not known
        return _Open(tuple(calls[:inner]), f"{len(calls) - inner} calls, and more", ())
    if len(calls) > inner + outer:
        return _Open(tuple(calls[:inner]), f"{len(calls) - inner - outer} calls", tuple(calls[-outer:]))
    return _Open(tuple(calls), "", ())


def _call(place: tuple[CodeType, int | None]) -> Call:
    code, number = place
    return code.co_filename, number, getattr(code, "co_qualname", code.co_name)  # the former from 3.11 on


def _place(walked: Walked) -> str:
    """The innermost call that is of no library, else the innermost."""
    own_calls = (each for each in walked.calls if not of_a_library(each[0].co_filename))
    file, number, function = _call(next(own_calls, walked.calls[0]))
    return f"{clean(file)}, line {_shown(number)} in {clean(function)}"


def line(call: Call) -> str:
    """One call, as `faulthandler` writes it."""
    file, number, function = call
    return f'  File "{clean(file)}", line {_shown(number)} in {clean(function)}'


def _shown(number: int | None) -> str:
    return "?" if number is None else str(number)


def clean(name: str) -> str:
    """A name on one line, without secrets, and of one that is too long its end; what cannot be shown is question marks.

    Each name by itself, and the whole of it before it is cut: half a secret does not look like one, and what is taken for
    a secret in one name must not take the next one with it.
    """
    name = name if name.isprintable() else "".join(each if each.isprintable() else "?" for each in name)
    name = redaction.text(name)
    return name if len(name) <= _LONGEST else f"…{name[-_LONGEST:]}"


def is_beginning(file: str, function: str) -> bool:
    """Whether a call is how every thread begins, and tells nothing."""
    return function.endswith(_BEGINNING) and file.endswith("threading.py")


def told(stacks: Iterable[tuple[Sequence[str], Sequence[str]]]) -> str:
    """Stacks as text: `MOST` bytes at most, one block for all threads that stand at the same place.

    Args:
        stacks: The names of threads, from `clean`, and the lines of their calls, from `line`; those that matter most first.
    """
    by_place: dict[tuple[str, ...], list[str]] = {}
    for threads, lines in stacks:
        by_place.setdefault(tuple(lines), []).extend(threads)
    blocks: list[str] = []
    for lines, names in islice(by_place.items(), STACKS):
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""  # noqa: PLR2004 - names that are told
        blocks.append("\n".join((f"Thread {'; '.join(names[:3])}{more} (most recent call first):", *lines)))
        if sum(map(len, blocks)) > MOST:
            break
    if len(by_place) > len(blocks):
        blocks.append(_LEFT_OUT)
    return shortened("\n\n".join(blocks), MOST)


def shortened(text: str, most: int) -> str:
    """The first stacks of a text, whole ones as long as they fit; of the very first one as many lines as do.

    Args:
        text: As `told` gives it.
        most: Bytes, in UTF-8.
    """
    if len(text.encode()) <= most:
        return text
    blocks = text.split("\n\n")
    room = most - len(f"\n\n{_LEFT_OUT}")
    while len(blocks) > 1 and len("\n\n".join(blocks).encode()) > room:
        blocks.pop()
    lines = "\n\n".join(blocks).split("\n")
    while len(lines) > 1 and len("\n".join(lines).encode()) > room:
        lines.pop()
    return "\n".join(lines).encode()[:room].decode(errors="ignore") + f"\n\n{_LEFT_OUT}"


_OURS: Final = os.path.dirname(os.path.dirname(__file__))
_LIBRARIES: Final = (os.path.dirname(os.__file__), "<frozen ", _OURS + os.sep)


def of_a_library(file: str) -> bool:
    """Whether a call in a file, by its whole name, is of Python's library, of what is installed, or of ours."""
    return file.startswith(_LIBRARIES) or "site-packages" in file or "dist-packages" in file
