# SPDX-License-Identifier: Apache-2.0
"""The soak's books: what was decided, and what came of it in every place that is to hear of it.

What is decided is noted before anybody is told. Each place notes what it is given before it may refuse it; so a
refusal in one is no excuse for what another lacks.

What is not asked here: whether it was right to decide so. That is what `faults.soak` asks of the temperature alone, and
the rules' own tests of all else. Spans are counted and not read: which alert an event is of is not compared.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from opentelemetry.sdk._logs import LogRecordProcessor, ReadWriteLogRecord
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from otel_hwmetrics import Alert
from otel_hwmetrics.alerts.rule import State
from otel_hwmetrics.alerts.transition import Transition
from otel_hwmetrics.catalog import gpu, own
from otel_hwmetrics.sinks.lines import LOGGER

PATIENCE: Final = 30.0
"""Seconds that a place on a thread of its own may take to hear of the last alert, on a machine that is busy elsewhere."""
PLACES: Final = ("records", "lines", "callbacks")
"""Who is told one alert after the other, on a thread of their own."""


class Lost(AssertionError):
    """Something that was decided did not arrive, or something else did."""


class Refused(Exception):
    """What a place of the application's raises when it is broken."""


class Told(NamedTuple):
    """What tells one alert's step from another's, wherever it is heard of."""

    rule: str
    state: str
    blind: bool
    device: str
    message: str

    @classmethod
    def of(cls, step: Transition) -> Told:
        """As it was decided."""
        device = str(step.subject.attributes.get(gpu.HW_ID, ""))
        return cls(step.rule.name, step.state.value, step.blind, device, step.message)

    @classmethod
    def by(cls, attributes: Mapping[str, Any]) -> Told:
        """As it arrived, by the attributes of the event."""
        return cls(
            attributes[own.ALERT_RULE],
            attributes[own.ALERT_STATE],
            attributes.get(own.ALERT_BLIND, False),
            attributes.get(gpu.HW_ID, ""),
            attributes[own.ALERT_MESSAGE],
        )


class Books:
    """What was decided and what arrived, up to the last time that they were closed.

    Attributes:
        refusing: The places that are broken for now.
        totals: What was decided in all, but for blind steps, by rule and state.
        told: How many alerts were told in all.
        refused: How many of them each place refused.
        events: How many alerts' events are on spans that have ended, and how many those had no room for.
    """

    def __init__(self) -> None:
        self.refusing: set[str] = set()
        self.totals: Counter[tuple[str, str]] = Counter()
        self.told = 0
        self.refused: Counter[str] = Counter()
        self.events: Counter[str] = Counter()
        self._of_this: set[tuple[str, str]] = set()  # rules and states that the present pipeline has counted
        self._decided: list[Told] = []
        self._arrived: dict[str, list[Told]] = {place: [] for place in PLACES}
        self._onto: Counter[int] = Counter()  # by span: how many events it is to have
        self._homeless: dict[tuple[str, str], Told] = {}  # those that fire and wait for a training span
        self._wrong: list[str] = []

    def decide(self, steps: Iterable[Transition], span: int | None) -> None:
        """Steps that were made at one look, with the training span that is open, by its identifier."""
        for step in (step for step in steps if step.told):
            told = Told.of(step)
            self._decided.append(told)
            self.told += 1
            if not step.blind:
                self.totals[told.rule, told.state] += 1
                self._of_this.add((told.rule, told.state))
            key = (told.rule, step.subject.key)
            waiting = self._homeless.pop(key, None)
            if span is not None:
                self._onto[span] += 1
            elif step.state is State.FIRING:
                self._homeless[key] = waiting or told

    def house(self, span: int) -> None:
        """A training span has opened: it gets what waited for one."""
        self._onto[span] += len(self._homeless)
        self._homeless.clear()

    def forget(self) -> None:
        """The pipeline ends; the next one knows nothing of what waited, nor of what was counted."""
        self._homeless.clear()
        self._of_this.clear()

    def arrive(self, place: str, told: Told) -> None:
        """A place is told of an alert.

        Raises:
            Refused: It is broken for now.
        """
        self._arrived[place].append(told)
        if place in self.refusing:
            self.refused[place] += 1
            raise Refused(place)

    def ended(self, span: ReadableSpan) -> None:
        """A span has ended: it must have an event for every alert, or say how many it had no room for."""
        context = span.get_span_context()
        expected = self._onto.pop(context.span_id, 0) if context is not None else 0
        attributes = span.attributes or {}
        dropped = attributes.get(own.ALERT_EVENTS_DROPPED, 0)
        found = sum(event.name == own.ALERT_EVENT for event in span.events)
        if not isinstance(dropped, int) or found + dropped != expected:
            self._wrong.append(f"the span {span.name} has {found} events and dropped {dropped}, of {expected}")
        else:
            self.events["on spans"] += found
            self.events["dropped"] += dropped

    def close(self) -> None:
        """Hold all places against what was decided since the last time, and begin anew.

        Raises:
            Lost: They differ.
        """
        for place, arrived in self._arrived.items():
            _wait_for(lambda arrived=arrived: len(arrived) >= len(self._decided))  # type: ignore[misc]
            if arrived != self._decided:
                raise Lost(f"{place}: {_difference(self._decided, arrived)}")
            arrived.clear()
        self._decided.clear()
        if self._wrong:
            raise Lost("; ".join(self._wrong))

    def settle(self) -> None:
        """Close the books for good: every span has ended.

        Raises:
            Lost: Places differ, or a span that is owed events was never seen to end.
        """
        self.close()
        if owed := +self._onto:
            raise Lost(f"spans that have not ended: {len(owed)}, which {owed.total()} events are for")

    def compare(self, exported: Mapping[tuple[str, str], float]) -> None:
        """Hold exported counts of steps, by rule and state, against all that were decided.

        What earlier pipelines alone decided may be lacking: it is shown again, and goes on, with this one's first step.

        Raises:
            Lost: They differ, or one has what the other lacks.
        """
        wrong = {
            key: (exported.get(key, 0), self.totals[key])
            for key in exported.keys() | self._of_this
            if exported.get(key, 0) != self.totals[key]
        }
        if wrong:
            raise Lost(f"exported and decided: {wrong}")


def _wait_for(there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not there() and time.monotonic() < deadline:
        time.sleep(0.001)


def _difference(decided: list[Told], arrived: list[Told]) -> str:
    pairs = enumerate(zip(decided, arrived, strict=False))
    at = next((at for at, (one, other) in pairs if one != other), min(len(decided), len(arrived)))
    return f"{len(arrived)} of {len(decided)}; first at {at}: {arrived[at : at + 1]} instead of {decided[at : at + 1]}"


class Records(LogRecordProcessor):
    """OpenTelemetry's log records."""

    def __init__(self, books: Books) -> None:
        self._books = books

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """One more."""
        self._books.arrive("records", Told.by(log_record.log_record.attributes or {}))

    def shutdown(self) -> None:
        """Nothing to close."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing waits."""
        del timeout_millis
        return True


class Lines(logging.Handler):
    """Lines of Python's logging."""

    def __init__(self, books: Books) -> None:
        super().__init__()
        self._books = books
        logger = logging.getLogger(LOGGER)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """One more."""
        self._books.arrive("lines", Told.by(record.hwmetrics))  # type: ignore[attr-defined]


class Callbacks:
    """A callback of the training's own."""

    def __init__(self, books: Books) -> None:
        self._books = books

    def __call__(self, alert: Alert) -> None:
        """One more."""
        self._books.arrive("callbacks", Told.by(alert.attributes))


class Spans(SpanProcessor):
    """Spans that have ended."""

    def __init__(self, books: Books) -> None:
        self._books = books

    def on_end(self, span: ReadableSpan) -> None:
        """One more."""
        self._books.ended(span)
