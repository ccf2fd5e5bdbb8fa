# SPDX-License-Identifier: Apache-2.0
"""The clock of a process: a hand for each training thread, and what others may ask of all together."""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple, TypeVar

from otel_hwmetrics._guard import guard
from otel_hwmetrics.stepclock.hand import KEPT, NEVER, Count, Counts, Hand, Life, Sums
from otel_hwmetrics.stepclock.handles import Phase, Steps, Waiting
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
        waited: Seconds of waiting for data, a present wait included; None where neither a loop of `steps` nor `begin_wait`
            ever told of it.
        age: Seconds since the last step ended or, if that is later, its loop began; of several threads the least. Time
            in phases that suspend it does not count. None before the first step's end, and where nothing is under way.
        looping: Whether a loop of `steps` is open.
        phases: The open phases of each thread that has any, the innermost last.
        samples: How many the job has told of; None where it never did.
        tokens: Likewise.
        gpu_time: Seconds that GPUs were at steps, as far as they have told; None where they never did.
    """

    begun: bool
    steps: int
    time: float
    completed: float
    waited: float | None
    age: float | None
    looping: bool
    phases: tuple[tuple[str, ...], ...]
    samples: int | None = None
    tokens: int | None = None
    gpu_time: float | None = None


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
        self._laps_past: deque[float] = deque(maxlen=KEPT)
        self._seen = Sums()
        self._due: deque[tuple[Callable[[], object], Callable[[bool], object] | None]] = deque()
        self._names = Names()
        self._begun = self._waits = False
        self._looking = threading.Lock()  # among those who look: a training thread never waits for it

    def steps(self, iterable: Iterable[T], samples: Count[T] | None = None, tokens: Count[T] | None = None) -> Steps[T]:
        """See `otel_hwmetrics.steps`."""
        return Steps(self, iterable, None if samples is None and tokens is None else (samples, tokens))

    def step(self, samples: int | None = None, tokens: int | None = None) -> None:
        """See `otel_hwmetrics.step`."""
        try:
            hand = self._local.hand
        except AttributeError:
            hand = self._new_hand()
        at = self._now()
        if samples is not None or tokens is not None:
            hand.tell(at, samples, tokens)
        if hand.told and at < hand.paused:  # what could be calls is written out, as in `_loop`
            duration = at - hand.since
            hand.since = at
            hand.steps += 1
            hand.laps.append(duration)
            longest = hand.longest
            if duration > longest[0]:  # noqa: PLR1730
                longest[0] = duration
            if self._due:
                self._call_due()
        elif not hand.loop:
            hand.go_on()
            if at < hand.paused:
                hand.told = True
                if hand.seen:
                    hand.seen = False
                else:
                    self._end_step(hand, at)

    def step_seen(self) -> None:
        """Somebody who looks on has seen a step end, as by its optimizer. On the thread that trains.

        It counts like a call of `step`, but where the job or its framework tells its steps itself: within a loop of `steps`, and
        once `step` was called on this thread, until `rest`. The first such call is of the step that was seen last.
        """
        hand = self._hand()
        at = self._now()
        if not hand.loop:
            hand.go_on()
        if not hand.told and not hand.loop and at < hand.paused:
            hand.seen = True
            self._end_step(hand, at)

    def _end_step(self, hand: Hand, at: float) -> None:
        if hand.began == NEVER:
            self._begun = True
            hand.since = hand.began = at
            hand.steps += 1  # how long it was, nobody knows
        else:
            hand.lap(at)
        if self._due:
            self._call_due()

    def has_begun(self, ago: float, waited: float) -> None:
        """It has turned out that this thread trains: what it has done for some time was its first step.

        Where something is under way already it does nothing; nothing counts that was counted, nor what was before the end of
        the last phase that suspends steps.

        Args:
            ago: Seconds since the step began.
            waited: Seconds of these that it waited for data.
        """
        if self._hand().has_begun(self._now(), ago, waited):
            self._begun = self._waits = True

    def loops_here(self) -> bool:
        """Whether a loop of `steps` that counts is open on this thread."""
        hand: Hand | None = getattr(self._local, "hand", None)
        return hand is not None and hand.loop

    def hand(self) -> Hand:
        """This thread's hand, for who moves it by himself since he is on as hot a path as a loop of `steps`."""
        return self._hand()

    @property
    def is_called_back(self) -> bool:
        """Whether somebody is to be called at the end of the next step."""
        return bool(self._due)

    def begin_wait(self) -> bool:
        """Data is asked for, outside of `steps`: from now on until `end_wait` this thread waits for it.

        With the first wait the first step begins. Within a loop of `steps`, within the phases that suspend steps and within
        another wait it does nothing. A thread that only loads ahead must not call it: it would be one that trains.

        Returns:
            Whether a wait has begun, which `end_wait` is to end.
        """
        hand = self._hand()
        hand.settle()
        begins = hand.ask(self._now())
        if begins:
            self._begun = self._waits = True
        return begins

    def end_wait(self) -> None:
        """The data has come, or there is none; where nobody waits for any it does nothing."""
        hand: Hand | None = getattr(self._local, "hand", None)
        if hand is not None and not hand.loop:
            hand.come(self._now())

    def waiting_for_data(self) -> Waiting:
        """See `otel_hwmetrics.stepclock.waiting_for_data`."""
        return Waiting(self)

    def rest(self, at: float | None = None) -> None:
        """Training on this thread is over for now: no step is expected until the next `step`, `begin_wait` or `steps`.

        For who knows it of a loop that is none of `steps`, as frameworks do. Within one of `steps` it does nothing.

        Args:
            at: Since when, by the clock's `now`; by default now, and no sooner than the last step's end.
        """
        hand: Hand | None = getattr(self._local, "hand", None)
        if hand is not None and not hand.loop:
            hand.rest(self._now() if at is None else at)

    def tell_gpu_time(self, seconds: float) -> None:
        """A GPU has been at steps of this thread for so long."""
        self._hand().gpu_time += seconds

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

    def loop(self, iterable: Iterable[T], counts_of: Counts[T] | None = None) -> Iterator[T]:
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
        return self._loop(iterator, counts_of)

    def _loop(self, iterator: Iterator[T], counts_of: Counts[T] | None) -> Iterator[T]:
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
            note = hand.laps.append
            for item in hand.counting(iterator, counts_of):
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
                    note(duration)
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
                phases=tuple(phases for hand in self._hands if (phases := hand.open_phases)),
                samples=seen.samples or None,
                tokens=seen.tokens or None,
                gpu_time=seen.gpu_time or None,
            )

    def longest(self) -> float | None:
        """Seconds of the longest step that has ended since the last call; None where none has. For one caller alone."""
        with self._looking:
            longest = max((self._longest_past, *(hand.take_longest() for hand in tuple(self._hands))))
            self._longest_past = 0.0
            return longest or None

    def durations(self) -> list[float]:
        """Seconds of each step that has ended since the last call, of each thread the newest at most. For one caller alone."""
        with self._looking:
            self._lay_to_rest()
            taken = list(self._laps_past)
            self._laps_past.clear()
            for hand in tuple(self._hands):
                taken += hand.take_laps()
            return taken

    def _lay_to_rest(self) -> Sums:
        """The sums of the threads that have ended; what was under way on one has lasted for as long as it was seen to."""
        for hand in tuple(self._hands):
            if hand.life() is None:
                self._past = self._past.plus(hand.sums(hand.since))
                self._longest_past = max(self._longest_past, hand.take_longest())
                self._laps_past += hand.take_laps()
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
