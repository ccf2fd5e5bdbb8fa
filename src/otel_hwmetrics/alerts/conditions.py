# SPDX-License-Identifier: Apache-2.0
"""What a rule looks at: something that has a value for each subject of a snapshot.

A condition is a row and has no memory; what looks at one snapshot after the other for it is its `Watcher`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar, NamedTuple, Protocol

from otel_hwmetrics.alerts.subjects import Subject, subject_of
from otel_hwmetrics.model import Attribute, Metric, Reading, Series, Snapshot, Unit

Where = Mapping[str, "Attribute | frozenset[Attribute] | None"]
"""Attribute values that a reading must have; of a set, any one; None for an attribute that it must not have."""

Totals = Mapping[Series, float]
"""Where counters stood before a watcher's first snapshot; one that is not there stood at 0."""

_NONE: Mapping[str, Attribute] = MappingProxyType({})


class Finding(NamedTuple):
    """What a condition found of one subject.

    Attributes:
        value: In the condition's unit; None where what was read has no such value, so that the rule does not hold:
            memory that does not grow has no time in which it is full.
        evidence: What else tells why, by words for messages; attributes of the event.
        deviation: How far the value is from what is usual in this run, in its usual scatter; None if nobody knows.
    """

    value: float | None
    evidence: Mapping[str, Attribute] = _NONE
    deviation: float | None = None


class Watcher(Protocol):
    """Looks at one snapshot after the other. Used by one thread at a time."""

    def look(self, snapshot: Snapshot) -> dict[Subject, Finding]:
        """What is found of each subject; one that could not be read is not there."""
        ...


class Condition(ABC):
    """Something that has a value for each subject of a snapshot. Its text says in words what it looks at."""

    also: ClassVar[tuple[Metric, ...]] = ()  # that its values are of, beside those of its fields: see `alerts.judged`

    @property
    @abstractmethod
    def unit(self) -> Unit:
        """Of the values."""

    @property
    def evidence(self) -> tuple[str, ...]:
        """The words of the evidence that its findings may have."""
        return ()

    @abstractmethod
    def watcher(self, totals: Totals) -> Watcher:
        """Somebody who looks, with a memory of its own."""

    @abstractmethod
    def __str__(self) -> str:
        """What it looks at, in words; metrics and attributes by their names."""


MOST_SERIES = 4096  # whose subjects are remembered for a metric, before they are worked out anew


class Readings:
    """The readings of one metric that have certain attributes, each with its subject; found out once a series."""

    __slots__ = ("_row", "_subjects", "metric", "where")

    def __init__(self, metric: Metric, where: Where = _NONE) -> None:
        self.metric = metric
        self.where = where
        self._subjects: dict[Series, Subject | None] = {}
        self._row: list[tuple[Series, Subject | None]] = []  # of the last snapshot

    def of(self, snapshot: Snapshot) -> Sequence[tuple[Subject, Reading]]:
        """Those of a snapshot."""
        readings = snapshot.of(self.metric)
        if not readings:  # most of what rules ask for is of devices that are not there
            return ()
        # Sources tell the same series in the same order, look for look: then nothing has to be looked up.
        if len(self._row) == len(readings):
            found = []
            for reading, (series, subject) in zip(readings, self._row, strict=True):
                if reading[0] is not series:  # by its place, in a third of the time of its name
                    break
                if subject is not None:
                    found.append((subject, reading))
            else:
                return found
        self._row = [(reading.series, self._subject(reading.series)) for reading in readings]
        row = zip(readings, self._row, strict=True)
        return [(subject, reading) for reading, (_, subject) in row if subject is not None]

    def _subject(self, series: Series) -> Subject | None:
        known = self._subjects
        if series not in known:
            if len(known) >= MOST_SERIES:
                known.clear()
            known[series] = subject_of(series) if _fits(series.attributes, self.where) else None
        return known[series]

    def __str__(self) -> str:
        that = ", ".join(f"{key}={_choice(value)}" for key, value in self.where.items() if value is not None)
        return self.metric.name + (f" with {that}" if that else "")


def _fits(attributes: Mapping[str, Attribute], where: Where) -> bool:
    return all(
        attributes.get(key) in wanted if isinstance(wanted, frozenset) else attributes.get(key) == wanted
        for key, wanted in where.items()
    )


def _choice(value: Attribute | frozenset[Attribute]) -> str:
    return "|".join(sorted(map(str, value))) if isinstance(value, frozenset) else str(value)


@dataclass(frozen=True)
class Level(Condition):
    """The value of a metric.

    Attributes:
        metric: Which.
        where: Attribute values that the reading must have.
    """

    metric: Metric
    where: Where = field(default_factory=dict, hash=False)

    @property
    def unit(self) -> Unit:
        """The metric's."""
        return self.metric.unit

    def watcher(self, totals: Totals) -> Watcher:
        """Somebody who looks; of counters at their totals."""
        del totals
        return _Levels(Readings(self.metric, self.where))

    def __str__(self) -> str:
        return str(Readings(self.metric, self.where))


class _Levels:
    def __init__(self, readings: Readings) -> None:
        self._readings = readings

    def look(self, snapshot: Snapshot) -> dict[Subject, Finding]:
        return {subject: Finding(reading.value) for subject, reading in self._readings.of(snapshot)}


@dataclass(frozen=True)
class Extreme(Condition):
    """The furthest value of a metric among the series of a subject, and which series that is.

    Attributes:
        metric: Which.
        where: Attribute values that the readings must have.
        lowest: The lowest and not the highest one.
        across: The attribute that tells the series of one subject apart; empty if nobody need know which it is.
        word: What that attribute is called in the evidence.
    """

    metric: Metric
    where: Where = field(default_factory=dict, hash=False)
    lowest: bool = False
    across: str = ""
    word: str = ""

    @property
    def unit(self) -> Unit:
        """The metric's."""
        return self.metric.unit

    @property
    def evidence(self) -> tuple[str, ...]:
        """Which series it is."""
        return (self.word,) if self.word else ()

    def watcher(self, totals: Totals) -> Watcher:
        """Somebody who looks."""
        del totals
        return _Extremes(self)

    def __str__(self) -> str:
        which = f" of any {self.across}" if self.across else ""
        return f"the {'lowest' if self.lowest else 'highest'} {Readings(self.metric, self.where)}{which}"


class _Extremes:
    def __init__(self, condition: Extreme) -> None:
        self._condition = condition
        self._readings = Readings(condition.metric, condition.where)

    def look(self, snapshot: Snapshot) -> dict[Subject, Finding]:
        condition = self._condition
        worst: dict[Subject, Reading] = {}
        for subject, reading in self._readings.of(snapshot):
            known = worst.get(subject)
            if known is None or (reading.value < known.value if condition.lowest else reading.value > known.value):
                worst[subject] = reading
        return {subject: Finding(reading.value, self._evidence(reading)) for subject, reading in worst.items()}

    def _evidence(self, reading: Reading) -> Mapping[str, Attribute]:
        condition = self._condition
        return {condition.word: reading.attributes.get(condition.across, "")} if condition.word else _NONE


class _Composed(Condition):
    """Something worked out from several conditions' values of the same subject."""

    @abstractmethod
    def over(self) -> tuple[Condition, ...]:
        """The conditions."""

    @property
    def unit(self) -> Unit:
        """That of all of them, unless a sub-class says otherwise."""
        return self.over()[0].unit

    @property
    def evidence(self) -> tuple[str, ...]:
        """The words of all of them."""
        return tuple(dict.fromkeys(word for part in self.over() for word in part.evidence))

    @abstractmethod
    def of_values(self, values: Sequence[float | None]) -> float | None:
        """The value from those of the conditions, None for one that was not read; None if there is none then."""

    def watcher(self, totals: Totals) -> Watcher:
        """Somebody who looks at all of them."""
        return _Together(self, [part.watcher(totals) for part in self.over()])


class _Together:
    def __init__(self, whole: _Composed, watchers: Sequence[Watcher]) -> None:
        self._whole = whole
        self._watchers = watchers

    def look(self, snapshot: Snapshot) -> dict[Subject, Finding]:
        looks = [watcher.look(snapshot) for watcher in self._watchers]
        if not any(looks):
            return {}
        subjects: dict[Subject, Subject] = {}
        for subject in (subject for look in looks for subject in look):
            known = subjects.setdefault(subject, subject)
            if len(subject.attributes) > len(known.attributes):  # an allocator knows less of a GPU than its driver
                subjects[subject] = subject
        found: dict[Subject, Finding] = {}
        for subject in subjects.values():
            findings = [look.get(subject) for look in looks]
            value = self._whole.of_values([finding.value if finding is not None else None for finding in findings])
            if value is not None:
                found[subject] = Finding(value, _joined(value, findings))
        return found


def _joined(value: float, findings: Sequence[Finding | None]) -> Mapping[str, Attribute]:
    """The evidence of all findings. Of those that use one word, the one that has the value is right, else the first."""
    told = [finding for finding in reversed(findings) if finding is not None and finding.evidence]
    told.sort(key=lambda finding: finding.value == value)
    return {word: each for finding in told for word, each in finding.evidence.items()} if told else _NONE


@dataclass(frozen=True)
class _OfOneUnit(_Composed):
    """Several conditions that can be compared or added.

    Raises:
        ValueError: Their units differ.
    """

    parts: tuple[Condition, ...]

    def __post_init__(self) -> None:
        _check_units(self.parts)

    def over(self) -> tuple[Condition, ...]:
        """All of them."""
        return self.parts


class Highest(_OfOneUnit):
    """The highest of several conditions' values: a limit of one's own, and that of the machine, whichever is nearer."""

    def of_values(self, values: Sequence[float | None]) -> float | None:
        """Of those that were read."""
        return max((value for value in values if value is not None), default=None)

    def __str__(self) -> str:
        return f"the highest of {' and '.join(map(_in_words, self.parts))}"


class Lowest(_OfOneUnit):
    """The lowest of several conditions' values."""

    def of_values(self, values: Sequence[float | None]) -> float | None:
        """Of those that were read."""
        return min((value for value in values if value is not None), default=None)

    def __str__(self) -> str:
        return f"the lowest of {' and '.join(map(_in_words, self.parts))}"


class Sum(_OfOneUnit):
    """Several conditions' values together; absent where one of them is."""

    def of_values(self, values: Sequence[float | None]) -> float | None:
        """Of all of them."""
        read = [value for value in values if value is not None]
        return sum(read) if len(read) == len(values) else None

    def __str__(self) -> str:
        return f"the sum of {' and '.join(map(_in_words, self.parts))}"


class FirstOf(_OfOneUnit):
    """The first of several conditions that has a value: what is known best, else what stands in for it."""

    def of_values(self, values: Sequence[float | None]) -> float | None:
        """Of the first that was read."""
        return next((value for value in values if value is not None), None)

    def __str__(self) -> str:
        return ", else ".join(map(_in_words, self.parts))


@dataclass(frozen=True)
class Less(_Composed):
    """What of one condition's value another leaves: a limit less what is used of it.

    Raises:
        ValueError: Their units differ.
    """

    whole: Condition
    part: Condition

    def __post_init__(self) -> None:
        _check_units(self.over())

    def over(self) -> tuple[Condition, ...]:
        """Both."""
        return (self.whole, self.part)

    def of_values(self, values: Sequence[float | None]) -> float | None:
        """Absent where either is."""
        whole, part = values
        return whole - part if whole is not None and part is not None else None

    def __str__(self) -> str:
        return f"{_in_words(self.whole)} less {_in_words(self.part)}"


@dataclass(frozen=True)
class ShareOf(_Composed):
    """One condition's value as a share of another's."""

    part: Condition
    whole: Condition

    def over(self) -> tuple[Condition, ...]:
        """Both."""
        return (self.part, self.whole)

    @property
    def unit(self) -> Unit:
        """A ratio."""
        return Unit.RATIO

    def of_values(self, values: Sequence[float | None]) -> float | None:
        """Absent where either is, and where the whole is 0."""
        part, whole = values
        return part / whole if part is not None and whole else None

    def __str__(self) -> str:
        return f"{_in_words(self.part)} as a share of {_in_words(self.whole)}"


def _in_words(part: Condition) -> str:
    """A part as its whole tells of it: one that has parts itself in brackets."""
    return f"({part})" if isinstance(part, _Composed) else str(part)


def _check_units(conditions: Sequence[Condition]) -> None:
    if len({condition.unit for condition in conditions}) != 1:
        raise ValueError("values of different units cannot be compared")
