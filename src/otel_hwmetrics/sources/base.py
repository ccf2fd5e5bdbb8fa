# SPDX-License-Identifier: Apache-2.0
"""What every source is made of: readers in a table, bound to the subjects that they read."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from operator import itemgetter
from typing import ClassVar, Generic, TypeVar

from otel_hwmetrics._guard import guard
from otel_hwmetrics.model import Metric, Reading, Series

S = TypeVar("S")

Clock = Callable[[], float]
"""Gives seconds of the monotonic clock."""


class SourceUnavailable(RuntimeError):
    """A source cannot be read here at all; the message says why and what would mend it."""

    def __init__(self, source: str, reason: str, remedy: str = "") -> None:
        super().__init__(f"{source}: {reason}" + (f"; {remedy}" if remedy else ""))
        self.source = source
        self.reason = reason
        self.remedy = remedy


class Unsupported(Exception):
    """Raised by a reader when its subject will never have what it reads."""


class Incomplete(Exception):
    """Raised by a reader that could read some of its subject's devices and not others: these alone are missing.

    Args:
        items: What it read.
        lost: How many readings it could not have.
        cause: Why not; of several, the first one's reason.
    """

    def __init__(self, items: Iterable[Item], lost: int, cause: Exception) -> None:
        super().__init__(f"{lost} readings could not be had: {cause}")
        self.items = items
        self.lost = lost
        self.cause = cause


class Batch:
    """What one look at one source gave.

    Attributes:
        readings: What was read.
        lost: How many readings were asked for and not had, by type of error.
        began: When the look began, in seconds of the monotonic clock.
        ended: When it ended.
    """

    __slots__ = ("began", "ended", "lost", "readings")

    def __init__(self) -> None:
        self.began = 0.0
        self.ended = 0.0
        self.readings: list[Reading] = []
        self.lost: Counter[str] = Counter()

    def lose(self, error_type: str, count: int = 1) -> None:
        """Count readings that were asked for and not had."""
        self.lost[error_type] += count


Item = tuple[Series, float] | Reading
"""What a reader gives: a value of this moment, or a reading that knows its own time."""


@dataclass(frozen=True)
class Reader(Generic[S]):
    """One call that reads one or more metrics of a subject.

    Attributes:
        metrics: What it reads; counted as lost together when the call fails.
        read: Takes the subject and gives pairs of series and value in SI units, or whole readings.
        instead: Read when ``read`` is unsupported: an older call for the same metric.
        every: Seconds between two calls, for one that is costly or whose answer hardly changes; in between its last
            readings are told again, with the time at which they were read. 0 for every sample.
        call: Where the figure comes from, for documentation: the driver's function, the kernel's file.
        where: What has it, in words, for documentation: boards, drivers, kernels.
        place: What it does, for the guard.
    """

    metrics: tuple[Metric, ...]
    read: Callable[[S], Iterable[Item]]
    instead: Reader[S] | None = None
    every: float = 0.0
    call: str = ""
    where: str = ""
    place: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "place", f"reading {self.metrics[0].name}")


def next_due(now: float, every: float, phase: float = 0.0) -> float:
    """When what was read now is to be read again.

    A little less than ``every`` later: samples come a few milliseconds early or late, and one that is early would put
    it off by a whole sample. The first period is cut short by ``phase``, a part of it.
    """
    return now + every * (1.0 - phase) - min(0.1, every / 10)


class _Seat(Generic[S]):
    """A reader at work: which of its chain, when it is due, and what it told last."""

    __slots__ = ("due", "kept", "reader")

    def __init__(self, reader: Reader[S]) -> None:
        self.reader = reader
        self.due: float | None = None
        self.kept: list[Reading] = []


class Bench(Generic[S]):
    """Readers bound to one subject (the host, the process, a GPU).

    One failing reader loses its own readings and no others. "Unsupported" is remembered for the subject's life, and
    the reader's successor, if it has one, takes its place; any other error is counted and asked again next time.

    Args:
        subject: What the readers read.
        readers: The table.
        unsupported: Errors that are for ever, beside `Unsupported`.
        expected: Errors that are not; any others are faults of ours.
        phase: From 0 to 1: where in their period the slow readers of this subject have their turn, so that those of
            eight GPUs do not fall into one sample.
    """

    def __init__(
        self,
        subject: S,
        readers: Iterable[Reader[S]],
        *,
        unsupported: tuple[type[Exception], ...] = (),
        expected: tuple[type[Exception], ...] = (),
        phase: float = 0.0,
    ) -> None:
        self.subject = subject
        self._seats = [_Seat(reader) for reader in readers]
        self._empty: list[_Seat[S]] = []
        self._unsupported: tuple[type[Exception], ...] = (Unsupported, *unsupported)
        self._expected = expected
        self._phase = phase

    def add(self, reader: Reader[S]) -> None:
        """Give one more reader a seat, from the next look on."""
        self._seats.append(_Seat(reader))

    def read_into(self, batch: Batch, clock: Clock = time.monotonic) -> None:
        """Run every reader that is due once. Called on the source's thread; raises nothing."""
        now = clock()
        seats = iter(self._seats)
        seat: _Seat[S] | None = None

        def lose(error: Exception) -> None:
            if seat is not None:
                _lose(batch, seat.reader, error)

        unfinished = True
        while unfinished:
            # One guard for all: after a fault of one reader a new one takes up with the next.
            with guard("reading", lose) as watch:
                for seat in seats:
                    if seat.due is not None and now < seat.due:
                        batch.readings += seat.kept
                    else:
                        seat.kept = []
                        watch.place = seat.reader.place
                        self._serve(seat, batch, clock)
                unfinished = False
        if self._empty:
            self._seats = [seat for seat in self._seats if seat not in self._empty]
            self._empty.clear()

    def _serve(self, seat: _Seat[S], batch: Batch, clock: Clock) -> None:
        """Tell what a seat has to tell, by the first of its chain that is supported."""
        told = len(batch.readings)
        reader: Reader[S] | None = seat.reader
        if reader is not None and reader.every:
            seat.due = next_due(clock(), reader.every, self._phase if seat.due is None else 0.0)
        while reader is not None and not self._run(reader, batch, clock):
            reader = reader.instead
        if reader is None:
            self._empty.append(seat)
            return
        seat.reader = reader
        if reader.every:
            seat.kept = batch.readings[told:]

    def _run(self, reader: Reader[S], batch: Batch, clock: Clock) -> bool:
        """Run one reader; False when its subject does not support it."""
        try:
            # Before the call: a hardware counter is latched when asked for, not when the answer arrives.
            at = clock()
            told = _readings(reader.read(self.subject), at)
        except Incomplete as some:
            told = _readings(some.items, at)
            batch.lose(type(some.cause).__name__, some.lost)
        except self._unsupported:
            return False
        except self._expected as error:
            _lose(batch, reader, error)
            return True
        if not math.isfinite(sum(map(_VALUE, told))):  # the sum is, if all are: one question for all of them
            finite = [reading for reading in told if math.isfinite(reading.value)]
            if len(finite) < len(told):
                batch.lose("not_finite", len(told) - len(finite))
            told = finite
        batch.readings += told
        return True


_VALUE = itemgetter(1)
_NEW = tuple.__new__  # what `Reading`'s constructor calls; it takes half the time, and there are a hundred a second


def _readings(items: Iterable[Item], at: float) -> list[Reading]:
    """What a reader gave as readings; those that do not know their own time are of the time of its call."""
    return [item if isinstance(item, Reading) else _NEW(Reading, (item[0], item[1], at, None)) for item in items]


def _lose(batch: Batch, reader: Reader[S], error: Exception) -> None:
    batch.lose(type(error).__name__, len(reader.metrics))


class Source(ABC):
    """One part of the machine. Opened once, then read by one thread at a time, then closed."""

    name: ClassVar[str]
    may_hang: ClassVar[bool] = False
    """Whether a call may block for longer than a sample can wait; such a source is read on a thread of its own."""

    @property
    def dormant(self) -> bool:
        """Whether there is nothing to read yet, and may never be; no thread is started for it as long as that is so."""
        return False

    def open(self) -> None:  # noqa: B027 - most sources need no opening
        """Make ready to read.

        Raises:
            SourceUnavailable: It cannot be read here.
        """

    @abstractmethod
    def read(self) -> Batch:
        """Read everything once. Raises nothing: what fails is counted in the batch."""

    def aside(self, *, hangs: bool) -> Iterable[Reading]:  # noqa: ARG002 - most sources know nothing
        """What is known without asking: told also while `read` hangs. Called on the sampler's thread; never blocks.

        Args:
            hangs: Whether a look has been under way for so long that it hangs.
        """
        return ()

    def close(self) -> None:  # noqa: B027 - most sources hold nothing
        """Let go of what `open` took. Raises nothing."""
