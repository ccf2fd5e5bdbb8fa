# SPDX-License-Identifier: Apache-2.0
"""The clock of a process: a hand for each training thread, and what others may ask of all together."""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ContextDecorator
from typing import Any, Final, Generic, NamedTuple, TypeVar

from otel_hwmetrics._guard import guard
from otel_hwmetrics.stepclock.hand import NEVER, Hand, Life, Sums
from otel_hwmetrics.stepclock.phases import SUSPENDING, Names

T = TypeVar("T")

SWEPT_EVERY: Final = 64
"""Hands after which a new one looks for those of threads that have ended: whoever looks clears them away, but nobody may."""


class Look(NamedTuple):
    """What the clock knew at one moment. Sums never fall from one look to the next.

    Attributes:
        begun: Whether there has been a loop of `steps` or a call of `step` at all.
        steps: How many steps have ended.
        time: Seconds in steps, the present one and waiting for data included; those of several threads added up.
        completed: Seconds in the steps that have ended.
        waited: Seconds of waiting for data, a present wait included; None where no loop of `steps` ever told of it.
        age: Seconds since the last step ended or, if that is later, its loop began; of several threads the least. Time
            in phases that suspend it does not count. None before the first step's end, and where nothing is under way.
        looping: Whether a loop of `steps` is open.
        phases: The open phases of each thread that has any, the innermost last.
    """

    begun: bool
    steps: int
    time: float
    completed: float
    waited: float | None
    age: float | None
    looping: bool
    phases: tuple[tuple[str, ...], ...]


class StepClock:
    """Counts steps by the loops and calls of training threads, and may be looked at by any other thread.

    Args:
        now: Seconds that never go back.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self.reset()

    def reset(self) -> None:
        """Know nothing: loops and phases that are open now no longer count. So begins a forked child."""
        self._local = threading.local()
        self._hands: list[Hand] = []
        self._past = Sums()  # of threads that have ended
        self._longest_past = 0.0
        self._seen = Sums()
        self._due: deque[tuple[Callable[[], object], Callable[[bool], object] | None]] = deque()
        self._names = Names()
        self._begun = self._waits = False
        self._looking = threading.Lock()  # among those who look: a training thread never waits for it

    def steps(self, iterable: Iterable[T]) -> Steps[T]:
        """See `otel_hwmetrics.steps`."""
        return Steps(self, iterable)

    def step(self) -> None:
        """See `otel_hwmetrics.step`."""
        try:
            hand = self._local.hand
        except AttributeError:
            hand = self._new_hand()
        at = self._now()
        if hand.loop or at >= hand.paused:
            return
        if hand.began == NEVER:
            self._begun = True
            hand.since = hand.began = at
        hand.lap(at)
        if self._due:
            self._call_due()

    def phase(self, name: str) -> Phase:
        """See `otel_hwmetrics.phase`."""
        return Phase(self, name)

    def enter(self, name: str) -> None:
        """Open a phase on this thread, for who cannot use `phase`."""
        phase = self._names.meet(name)
        if self._due:
            self._call_otherwise(still=phase in SUSPENDING)
        self._hand().enter(phase, self._now())

    def leave(self, name: str) -> None:
        """Close the innermost phase of that name on this thread; one that is not open is passed over."""
        self._hand().leave(self._names.meet(name), self._now())
        if self._due:
            self._call_otherwise(still=False)

    def name_of_phase(self, called: str) -> str:
        """What a phase is told as that somebody calls so, and from now on is one of `phases_met`."""
        return self._names.meet(called)

    @property
    def phases_met(self) -> tuple[str, ...]:
        """The names of all phases so far."""
        return self._names.met

    def at_next_step(self, callback: Callable[[], object], otherwise: Callable[[bool], object] | None = None) -> None:
        """Call something once, at the end of the next step, on the thread that it ends on. From any thread.

        What it raises is passed over. It may ask to be called again, and then is at the end of the step after.

        Args:
            callback: What is called.
            otherwise: Called instead, if before that a loop is over or a phase begins or ends, on the thread where that
                is; with whether steps stand still from then on: True for a loop, and for a phase that suspends them.
                Neither is called again then.
        """
        self._due.append((callback, otherwise))

    def loop(self, iterable: Iterable[T]) -> Iterator[T]:
        """One loop of `steps`, as a generator.

        To get at the iterator may start workers and take its time; so that is waiting for data, too.
        """
        hand = self._hand()
        counts = hand.open(self._now())
        try:
            if counts:
                self._begun = self._waits = True
            iterator = iter(iterable)
        finally:
            if counts:
                hand.close(self._now())
        return self._loop(iterator)

    def _loop(self, iterator: Iterator[T]) -> Iterator[T]:
        hand, now, never = self._hand(), self._now, NEVER
        while not hand.open(now()):  # part of another loop's step, or of a phase that has none
            try:
                item = next(iterator)
            except StopIteration:
                return
            yield item
        try:
            # The hottest lines of the house: what could be calls of `Hand.lap` and of `min` is written out, since these
            # would double what a step costs.
            for item in iterator:
                at = now()
                if at > hand.paused:  # noqa: PLR1730
                    at = hand.paused
                asked = hand.asked
                hand.asked = never
                hand.waited += at - asked
                yield item
                at = now()
                if at < hand.paused:
                    duration = at - hand.since
                    hand.since = at
                    hand.steps += 1
                    longest = hand.longest
                    if duration > longest[0]:  # noqa: PLR1730
                        longest[0] = duration
                    if self._due:
                        self._call_due()
                        at = now()
                hand.asked = at if at < hand.paused else hand.paused  # noqa: FURB136
        finally:
            # Of a loop that was left, by whoever lets go of it last: nobody is called back on another thread than its own.
            ended = hand.close(now())
            if self._due and getattr(self._local, "hand", None) is hand:
                if ended:
                    self._call_due()
                self._call_otherwise(still=True)

    def look(self) -> Look:
        """What there is to know now. From any thread; training threads do not notice."""
        with self._looking:
            at = self._now()
            ages: list[float] = []
            found = self._lay_to_rest()
            for hand in tuple(self._hands):
                found = found.plus(hand.sums(at))
                if (age := hand.age(at)) is not None:
                    ages.append(age)
            self._seen = seen = found.at_least(self._seen)  # by a rounding it could be less, where a thread has ended
            return Look(
                begun=self._begun,
                steps=seen.steps,
                time=seen.time,
                completed=seen.completed,
                waited=seen.waited if self._waits else None,
                age=min(ages) if ages and seen.steps else None,
                looping=any(hand.loop for hand in self._hands),
                phases=tuple(phases for hand in self._hands if (phases := hand.phases)),
            )

    def longest(self) -> float | None:
        """Seconds of the longest step that has ended since the last call; None where none has. For one caller alone."""
        with self._looking:
            longest = max((self._longest_past, *(hand.take_longest() for hand in tuple(self._hands))))
            self._longest_past = 0.0
            return longest or None

    def _lay_to_rest(self) -> Sums:
        """The sums of the threads that have ended; what was under way on one has lasted for as long as it was seen to."""
        for hand in tuple(self._hands):
            if hand.life() is None:
                self._past = self._past.plus(hand.sums(hand.since))
                self._longest_past = max(self._longest_past, hand.take_longest())
                self._hands.remove(hand)
        return self._past

    def _hand(self) -> Hand:
        """This thread's."""
        hand: Hand | None = getattr(self._local, "hand", None)
        return self._new_hand() if hand is None else hand

    def _new_hand(self) -> Hand:
        if self._hands and len(self._hands) % SWEPT_EVERY == 0 and self._looking.acquire(blocking=False):
            try:
                self._lay_to_rest()
            finally:
                self._looking.release()
        life = self._local.life = Life()
        hand = self._local.hand = Hand(weakref.ref(life))
        self._hands.append(hand)
        return hand

    def _call_due(self) -> None:
        for _ in range(len(self._due)):
            try:
                callback, _ = self._due.popleft()
            except IndexError:  # another training thread took it
                return
            with guard("calling back at the end of a step"):
                callback()

    def _call_otherwise(self, *, still: bool) -> None:
        for _ in range(len(self._due)):
            try:
                callback, otherwise = self._due.popleft()
            except IndexError:
                return
            if otherwise is None:
                self._due.append((callback, None))
                continue
            with guard("calling back between steps"):
                otherwise(still)


_OVER: Final[Iterator[Any]] = iter(())
"""A loop of which nothing is left."""


class Steps(Generic[T]):
    """What `steps` gives: as long, as true, and to be gone through as often as what it was given.

    `next` upon it begins a loop that the next ``for`` goes on with, unless that is over.
    """

    __slots__ = ("_clock", "_going", "_iterable")

    def __init__(self, clock: StepClock, iterable: Iterable[T]) -> None:
        self._clock = clock
        self._iterable = iterable
        self._going: Iterator[T] | None = None

    def __iter__(self) -> Iterator[T]:
        going, self._going = self._going, None
        return self._clock.loop(self._iterable) if going is None or going is _OVER else going

    def __next__(self) -> T:
        if self._going is None:
            self._going = self._clock.loop(self._iterable)
        try:
            return next(self._going)
        except BaseException:  # at its end or broken: who calls again has nothing more of it, and a ``for`` begins anew
            self._going = _OVER
            raise

    def __len__(self) -> int:
        return len(self._iterable)  # type: ignore[arg-type] # where it has none, the TypeError is that which it always was

    def __bool__(self) -> bool:
        return bool(self._iterable)


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
