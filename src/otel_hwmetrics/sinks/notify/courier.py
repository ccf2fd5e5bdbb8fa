# SPDX-License-Identifier: Apache-2.0
"""One address's own way out: a thread, what waits for it, its pace, and its rest while it is out of reach."""

from __future__ import annotations

import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from otel_hwmetrics import redaction
from otel_hwmetrics._guard import guard
from otel_hwmetrics.sinks.base import Alert, dropped
from otel_hwmetrics.sinks.notify.address import Address, PartlyDeliveredError, UndeliveredError
from otel_hwmetrics.sinks.notify.message import Entry, Group, Key, Message, compose

if TYPE_CHECKING:
    from tenacity import RetryCallState

_logger = redaction.logger("otel_hwmetrics.notify")

WAITING = 1000
"""Most alerts that wait for one address; more are dropped, and counted."""
TOLD = 4096
"""Most alerts of which it is remembered that they were told as firing."""
ATTEMPTS = 4
"""How often one message is tried; so many failures in a row, and the address rests."""
BACKOFF = 2.0
"""Seconds: the most that the first retry waits; the next ones twice as long each. Full jitter: any time up to that is
as likely, so that a thousand ranks do not come back at once
(https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/)."""
MESSAGE_TIME = 60.0
"""Seconds after which one message is not tried again."""
REST, REST_MOST = 60.0, 900.0
"""Seconds that an address rests for the first time, and at most: twice as long each time, less up to a half."""
KEPT = 7200.0
"""Seconds after which an alert that could not be told is dropped; longer than the rate limit alone can hold it back."""
URGENT_WAIT = 1.0
"""Seconds for which others are waited for after a critical alert, at most: it may be the last thing that the job says."""
HOUR = 3600.0
LOG_EVERY = 600.0
"""Seconds between two lines on what was dropped."""
_LONGEST_WAIT = 3600.0
# A lock does not wait for as long as an option may say.


@dataclass(frozen=True)
class Pace:
    """How fast messages go out, and by which time.

    Attributes:
        group_wait: Seconds for which alerts are collected into one message, from the first of them on.
        per_hour: Most messages within any hour; a quarter of them only for a group with a critical alert.
        clock: Gives monotonic seconds.
        sleep: Waits for some seconds; None waits until the courier is stopped, at most.
        random: For the jitter; not the module's own, whose sequence belongs to the training.
    """

    group_wait: float = 10.0
    per_hour: int = 20
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] | None = None
    random: random.Random = field(default_factory=random.Random)

    @property
    def others_per_hour(self) -> int:
        """Most messages within any hour that tell of no critical alert: they must not use up what that one needs.

        At least one is kept for it, unless an hour has only one.
        """
        return self.per_hour - max(1, self.per_hour // 4) if self.per_hour > 1 else self.per_hour


class _Standing(Enum):
    """How an address stands after a message, and what is logged of it."""

    ARRIVES = "Notifications to %s arrive again."
    IN_PART = (
        "Notifications to %s arrive at some of those that it names, not at all of them. "
        "To see why: apprise -vvv --body=test ADDRESS"
    )
    FAILS = (
        "Notifications to %s do not arrive; they are tried again with growing pauses, and alerts wait for that. "
        "To see why: apprise -vvv --body=test ADDRESS"
    )


class Courier:
    """Brings alerts to one address. What cannot go out yet waits, grouped; what cannot wait is dropped and counted.

    Every address has its own, so that one that is slow or down delays nobody else.

    Args:
        address: Where to.
        place: Where the alerts are from.
        pace: How fast.
    """

    def __init__(self, address: Address, place: str, pace: Pace) -> None:
        from pybreaker import CircuitBreaker

        self._address = address
        self._place = place
        self._pace = pace
        self._changed = threading.Condition()
        self._waiting = Group(WAITING)
        self._under_way = 0
        self._stopping = threading.Event()
        self._abandoned = False
        self._thread: threading.Thread | None = None
        self._told: dict[Key, None] = {}
        self._sent: deque[float] = deque(maxlen=pace.per_hour)
        self._others_sent: deque[float] = deque(maxlen=pace.others_per_hour)
        # It counts, and knows its states. When to try again is decided here: its own clock is the wall clock.
        self._breaker = CircuitBreaker(fail_max=ATTEMPTS, exclude=[PartlyDeliveredError])
        self._rests = 0
        self._rest_until = -math.inf
        self._standing = _Standing.ARRIVES
        self._unsaid = 0
        self._log_at = -math.inf

    def take(self, alert: Alert) -> None:
        """Take one alert; never waits. Called on the sampler's thread."""
        with self._changed:
            taken = not self._stopping.is_set() and self._waiting.add(alert, self._pace.clock())
            self._changed.notify()
        if not taken:
            self._drop(1, "queue_full")

    def start(self) -> None:
        """Start the thread, if it is not there yet.

        Raises:
            RuntimeError: It is refused, where a cgroup limits threads; the next alert may try again.
        """
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="hwmetrics-notify", daemon=True)
            thread.start()
            self._thread = thread

    def due(self) -> float | None:
        """Seconds until something is to be sent; None while nothing waits."""
        if not self._waiting:
            return None
        wait = min(self._pace.group_wait, URGENT_WAIT) if self._waiting.urgent else self._pace.group_wait
        grouped = self._waiting.since + (0.0 if self._stopping.is_set() else wait)
        return max(0.0, max(grouped, self._allowed(), self._rest_until) - self._pace.clock())

    def _allowed(self) -> float:
        """When what waits may go out, by how many messages the last hour had."""
        counted = (self._sent,) if self._waiting.urgent else (self._sent, self._others_sent)
        return max((sent[0] + HOUR for sent in counted if len(sent) == sent.maxlen), default=-math.inf)

    def deliver(self) -> None:
        """Send what waits as one message, with retries; what fails waits again. Called on the courier's own thread."""
        with self._changed:
            group, self._waiting = self._waiting, Group(WAITING)
            entries = self._worth_telling(group.entries)
            self._under_way = len(entries)
        if entries:
            others = sum(key not in entries for key in self._told)
            standing = self._send(compose(entries.values(), self._place, others))
            if standing is _Standing.FAILS:
                self._keep(entries)
            else:
                for sent in (self._sent,) if group.urgent else (self._sent, self._others_sent):
                    sent.append(self._pace.clock())
                self._remember(entries)
            self._say(standing)
        self._under_way = 0

    def finish(self) -> None:
        """Send what waits as soon as may be, once, and take no more."""
        with self._changed:
            self._stopping.set()
            self._changed.notify()

    def join(self, timeout: float) -> None:
        """Wait for the end of the thread after `finish`; then count what is left as dropped, and let go of it."""
        if self._thread is not None:
            self._thread.join(timeout)
        with self._changed:
            left = 0 if self._abandoned else len(self._worth_telling(self._waiting.entries)) + self._under_way
            self._abandoned = True
        if left:
            self._drop(left, "undelivered")

    def _run(self) -> None:
        while self._wait_until_due():
            with guard("notifying of alerts"):
                self.deliver()

    def _wait_until_due(self) -> bool:
        """False at the end: it was stopped, and nothing waits that may go out now."""
        with self._changed:
            while (pause := self.due()) is None or pause > 0:
                if self._stopping.is_set():
                    return False
                self._changed.wait(None if pause is None else min(pause, _LONGEST_WAIT))
        return not self._abandoned

    def _worth_telling(self, entries: Mapping[Key, Entry]) -> dict[Key, Entry]:
        """Without what is resolved, and was never told to fire."""
        return {key: entry for key, entry in entries.items() if not entry.resolved or entry.fired or key in self._told}

    def _send(self, message: Message) -> _Standing:
        """Try a message a few times; once, where the address has rested."""
        from pybreaker import STATE_OPEN, CircuitBreakerError
        from tenacity import Retrying, retry_if_exception_type, sleep_using_event, stop_after_attempt
        from tenacity.stop import stop_when_event_set

        if self._breaker.current_state == STATE_OPEN:
            self._breaker.half_open()
        began = self._pace.clock()
        reached: set[object] = set()
        retrying = Retrying(
            retry=retry_if_exception_type(UndeliveredError),
            stop=lambda state: (
                stop_after_attempt(ATTEMPTS)(state)
                or stop_when_event_set(self._stopping)(state)
                or self._pace.clock() - began >= MESSAGE_TIME
            ),
            wait=self._backoff,
            sleep=self._pace.sleep or sleep_using_event(self._stopping),
            reraise=True,
        )
        try:
            retrying(self._breaker.call, self._address.send, message, reached)
        except PartlyDeliveredError:
            return _Standing.IN_PART
        except (UndeliveredError, CircuitBreakerError):
            return _Standing.FAILS
        return _Standing.ARRIVES

    def _backoff(self, state: RetryCallState) -> float:
        from tenacity import wait_exponential

        ceiling = wait_exponential(multiplier=BACKOFF)(state)
        return self._pace.random.uniform(0.0, ceiling)

    def _remember(self, entries: Mapping[Key, Entry]) -> None:
        self._rests = 0
        for key, entry in entries.items():
            self._told.pop(key, None)
            if not entry.resolved:
                self._told[key] = None
        while len(self._told) > TOLD:
            del self._told[next(iter(self._told))]

    def _keep(self, entries: Mapping[Key, Entry]) -> None:
        """Let what failed wait for the next message, and the address rest if it failed too often."""
        from pybreaker import STATE_OPEN

        now = self._pace.clock()
        if self._breaker.current_state == STATE_OPEN:
            longest = min(REST * 2 ** min(self._rests, 8), REST_MOST)
            self._rest_until = now + self._pace.random.uniform(longest / 2, longest)
            self._rests += 1
        stopping = self._stopping.is_set()
        kept = {key: entry for key, entry in entries.items() if not stopping and now - entry.since < KEPT}
        with self._changed:
            crowded_out = self._waiting.give_back(kept)
            given_up = 0 if self._abandoned else len(entries) - len(kept)
            self._under_way = 0
        if given_up:
            self._drop(given_up, "undelivered")
        if crowded_out:
            self._drop(crowded_out, "queue_full")

    def _drop(self, alerts: int, why: str) -> None:
        """Count alerts that nobody is told of, and say so now and then."""
        dropped["notify", why] += alerts
        self._unsaid += alerts
        now = self._pace.clock()
        if now >= self._log_at:
            self._log_at = now + LOG_EVERY
            unsaid, self._unsaid = self._unsaid, 0
            _logger.warning("Alerts that %s was not notified of: %d.", self._address.label, unsaid)

    def _say(self, standing: _Standing) -> None:
        """Say how the address stands, where that has changed."""
        if standing is not self._standing:
            self._standing = standing
            # A warning, also that it is over: who has read of the one should read of the other.
            _logger.warning(standing.value, self._address.label)
