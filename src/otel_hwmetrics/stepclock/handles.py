# SPDX-License-Identifier: Apache-2.0
"""What a job is given by the step clock: a loader that is counted, and the blocks of phases and waits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ContextDecorator
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from otel_hwmetrics._guard import guard
from otel_hwmetrics.stepclock.hand import Counts

if TYPE_CHECKING:
    from otel_hwmetrics.stepclock.clock import StepClock

T = TypeVar("T")

_OVER: Final[Iterator[Any]] = iter(())
"""A loop of which nothing is left."""


class Steps(Generic[T]):
    """What `steps` gives: as long, as true, and to be gone through as often as what it was given.

    `next` upon it begins a loop that the next ``for`` goes on with, unless that is over.
    """

    __slots__ = ("_clock", "_counts_of", "_going", "_iterable")

    def __init__(self, clock: StepClock, iterable: Iterable[T], counts_of: Counts[T] | None = None) -> None:
        self._clock = clock
        self._iterable = iterable
        self._counts_of = counts_of
        self._going: Iterator[T] | None = None

    def __iter__(self) -> Iterator[T]:
        going, self._going = self._going, None
        return self._clock.loop(self._iterable, self._counts_of) if going is None or going is _OVER else going

    def __next__(self) -> T:
        if self._going is None:
            self._going = self._clock.loop(self._iterable, self._counts_of)
        try:
            return next(self._going)
        except BaseException:  # at its end or broken: who calls again has nothing more of it, and a ``for`` begins anew
            self._going = _OVER
            raise

    def __len__(self) -> int:
        return len(self._iterable)  # type: ignore[arg-type] # where it has none, the TypeError is that which it always was

    def __bool__(self) -> bool:
        return bool(self._iterable)


class Waiting(ContextDecorator):
    """What `waiting_for_data` gives: a context manager that may be used again, also within itself; a decorator, too."""

    def __init__(self, clock: StepClock) -> None:
        self._clock = clock
        self._begun: list[bool] = []

    def __enter__(self) -> None:
        self._begun.append(self._clock.begin_wait())

    def __exit__(self, *_: object) -> None:
        if self._begun.pop():
            self._clock.end_wait()


class Phase(ContextDecorator):
    """What `phase` gives: a context manager that may be used again, also within itself; a decorator, too."""

    def __init__(self, clock: StepClock, name: str) -> None:
        self._clock = clock
        self._name = name

    def __enter__(self) -> None:
        with guard("opening a phase"):
            self._clock.enter(self._name)

    def __exit__(self, *_: object) -> None:
        with guard("closing a phase"):
            self._clock.leave(self._name)
