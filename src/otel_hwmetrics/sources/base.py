# SPDX-License-Identifier: Apache-2.0
"""What every source is made of: readers in a table, bound to the subjects that they read."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Reader(Generic[S]):
    """One call that reads one or more metrics of a subject.

    Attributes:
        metrics: What it reads; counted as lost together when the call fails.
        read: Takes the subject and gives pairs of series and value in SI units.
        instead: Read when ``read`` is unsupported: an older call for the same metric.
    """

    metrics: tuple[Metric, ...]
    read: Callable[[S], Iterable[tuple[Series, float]]]
    instead: Reader[S] | None = None


class Bench(Generic[S]):
    """Readers bound to one subject (the host, the process, a GPU).

    One failing reader loses its own readings and no others. "Unsupported" is remembered for the subject's life, and
    the reader's successor, if it has one, takes its place; any other error is counted and asked again next time.
    """

    def __init__(
        self,
        subject: S,
        readers: Iterable[Reader[S]],
        *,
        unsupported: tuple[type[Exception], ...] = (),
        expected: tuple[type[Exception], ...] = (),
    ) -> None:
        self.subject = subject
        self._readers = list(readers)
        self._unsupported: tuple[type[Exception], ...] = (Unsupported, *unsupported)
        self._expected = expected

    def read_into(self, batch: Batch, clock: Clock = time.monotonic) -> None:
        """Run every reader once. Called on the source's thread; raises nothing."""
        for position, reader in reversed(list(enumerate(self._readers))):
            current: Reader[S] | None = reader
            while current is not None and not self._run(current, batch, clock):
                current = current.instead
            if current is None:
                del self._readers[position]
            else:
                self._readers[position] = current

    def _run(self, reader: Reader[S], batch: Batch, clock: Clock) -> bool:
        """Run one reader; False when its subject does not support it."""

        def lose(error: Exception) -> None:
            batch.lose(type(error).__name__, len(reader.metrics))

        with guard(f"reading {reader.metrics[0].name}", lose):
            try:
                # Before the call: a hardware counter is latched when asked for, not when the answer arrives.
                at = clock()
                pairs = list(reader.read(self.subject))
            except self._unsupported:
                return False
            except self._expected as error:
                lose(error)
                return True
            for series, value in pairs:
                if math.isfinite(value):
                    batch.readings.append(Reading(series, value, at))
                else:
                    batch.lose("not_finite")
        return True


class Source(ABC):
    """One part of the machine. Opened once, then read by one thread at a time, then closed."""

    name: ClassVar[str]
    may_hang: ClassVar[bool] = False
    """Whether a call may block for longer than a sample can wait; such a source is read on a thread of its own."""

    def open(self) -> None:  # noqa: B027 - most sources need no opening
        """Make ready to read.

        Raises:
            SourceUnavailable: It cannot be read here.
        """

    @abstractmethod
    def read(self) -> Batch:
        """Read everything once. Raises nothing: what fails is counted in the batch."""

    def close(self) -> None:  # noqa: B027 - most sources hold nothing
        """Let go of what `open` took. Raises nothing."""
