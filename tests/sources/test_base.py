# SPDX-License-Identifier: Apache-2.0
"""A bench of readers: what one failing reader costs the others, what is remembered of it, and what is asked again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_hwmetrics import _guard
from otel_hwmetrics.catalog import gpu, process
from otel_hwmetrics.model import Reading, Series
from otel_hwmetrics.sources.base import Batch, Bench, Incomplete, Item, Reader, Source, SourceUnavailable, Unsupported

FIRST, SECOND, THIRD = (Series(row) for row in (process.THREAD_COUNT, process.MEMORY_USAGE, process.MEMORY_VIRTUAL))

Pairs = Iterable[tuple[Series, float]]


class TooOldError(Exception):
    """What a library says of what it will never have."""


class BusyError(Exception):
    """What a library says of what it has not now."""


class Subject:
    """Whatever is read, with an answer for each series: a value, or what is raised."""

    def __init__(self, **answers: float | Exception) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def __call__(self, name: str) -> float:
        """Answer, and remember that it was asked."""
        self.asked.append(name)
        answer = self.answers[name]
        if isinstance(answer, Exception):
            raise answer
        return answer


def one(series: Series, name: str, instead: Reader[Subject] | None = None) -> Reader[Subject]:
    """A reader of one series."""
    return Reader((series.metric,), lambda subject: [(series, subject(name))], instead=instead)


def bench(subject: Subject, *readers: Reader[Subject]) -> Bench[Subject]:
    """A bench that knows both kinds of error."""
    return Bench(subject, readers, unsupported=(TooOldError,), expected=(BusyError,))


def read(of: Bench[Subject], clock: Callable[[], float] = lambda: 0.0) -> Batch:
    """One look."""
    batch = Batch()
    of.read_into(batch, clock)
    return batch


def told(batch: Batch) -> dict[Series, float]:
    """The values that a look gave, by series."""
    assert len({reading.series for reading in batch.readings}) == len(batch.readings)
    return {reading.series: reading.value for reading in batch.readings}


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """The guard as it is in production."""
    monkeypatch.setattr(_guard, "LOUD", False)


def test_every_reader_is_read() -> None:
    """One look runs every reader once and keeps what each gave."""
    subject = Subject(a=1, b=2.5, c=3)
    assert told(read(bench(subject, one(FIRST, "a"), one(SECOND, "b"), one(THIRD, "c")))) == {
        FIRST: 1,
        SECOND: 2.5,
        THIRD: 3,
    }
    assert sorted(subject.asked) == ["a", "b", "c"]


@pytest.mark.parametrize("error", [Unsupported("never"), TooOldError("never")])
def test_unsupported_is_remembered(error: Exception) -> None:
    """What a subject says it will never have is asked once, loses nothing, and costs the other readers nothing."""
    subject = Subject(a=1, b=error, c=3)
    readers = bench(subject, one(FIRST, "a"), one(SECOND, "b"), one(THIRD, "c"))
    for _ in range(3):
        batch = read(readers)
        assert told(batch) == {FIRST: 1, THIRD: 3}
        assert batch.lost == {}
    assert subject.asked.count("b") == 1
    assert subject.asked.count("a") == subject.asked.count("c") == 3


def test_what_takes_its_place_is_read_in_the_same_look() -> None:
    """Down a chain of older calls, the first that is supported gives its reading at once and alone from then on."""
    subject = Subject(new=TooOldError(), old=Unsupported(), oldest=7)
    chain = one(FIRST, "new", one(FIRST, "old", one(FIRST, "oldest")))
    readers = bench(subject, chain)
    assert told(read(readers)) == {FIRST: 7}
    assert subject.asked == ["new", "old", "oldest"]
    assert told(read(readers)) == {FIRST: 7}
    assert subject.asked == ["new", "old", "oldest", "oldest"]


def test_a_chain_that_ends_is_left_out() -> None:
    """Where no call of a chain is supported, none is asked again."""
    subject = Subject(new=TooOldError(), old=TooOldError(), a=1)
    readers = bench(subject, one(FIRST, "new", one(FIRST, "old")), one(SECOND, "a"))
    for _ in range(2):
        assert told(read(readers)) == {SECOND: 1}
    assert subject.asked.count("new") == subject.asked.count("old") == 1


def test_the_same_table_of_readers_serves_another_subject() -> None:
    """What one subject lacks is remembered of that subject only."""
    table = (one(FIRST, "new", one(FIRST, "old")),)
    poor, rich = Subject(new=TooOldError(), old=1), Subject(new=2, old=1)
    assert told(read(bench(poor, *table))) == {FIRST: 1}
    assert told(read(bench(rich, *table))) == {FIRST: 2}


def test_any_other_error_is_counted_and_asked_again() -> None:
    """A call that fails now loses the readings of its row and no others, and is not given up for an older one."""
    subject = Subject(new=BusyError(), old=1, a=2)
    both = Reader(
        (FIRST.metric, SECOND.metric),
        lambda subject: [(FIRST, subject("new")), (SECOND, subject("new"))],
        instead=one(FIRST, "old"),
    )
    readers = bench(subject, both, one(THIRD, "a"))
    for _ in range(2):
        batch = read(readers)
        assert told(batch) == {THIRD: 2}
        assert batch.lost == {"BusyError": 2}
    subject.answers["new"] = 5
    batch = read(readers)
    assert told(batch) == {FIRST: 5, SECOND: 5, THIRD: 2}
    assert batch.lost == {}
    assert "old" not in subject.asked


def test_a_reader_that_fails_half_way_gives_nothing() -> None:
    """What a reader gave before it failed is of a look that went wrong, so it is not told."""

    def halfway(subject: Subject) -> Pairs:
        yield FIRST, 1
        yield SECOND, subject("b")

    subject = Subject(b=BusyError())
    batch = read(bench(subject, Reader((FIRST.metric, SECOND.metric), halfway)))
    assert told(batch) == {}
    assert batch.lost == {"BusyError": 2}


def test_a_reader_that_could_read_some_devices_only_loses_the_others() -> None:
    """What it has is told, with what it could not have counted by the type of error, and it is asked again."""
    whole = Reading(SECOND, 2, 5)
    items: list[Item] = [(FIRST, 1), whole]

    def some(subject: Subject) -> Iterable[Item]:
        subject("a")
        raise Incomplete(items, 3, ValueError("odd"))

    subject = Subject(a=1, c=3)
    readers = bench(subject, Reader((FIRST.metric, SECOND.metric), some, instead=one(FIRST, "b")), one(THIRD, "c"))
    for _ in range(2):
        batch = read(readers, lambda: 7.0)
        assert batch.readings == [Reading(FIRST, 1, 7), whole, Reading(THIRD, 3, 7)]
        assert batch.lost == {"ValueError": 3}
    assert subject.asked.count("a") == 2


@given(st.lists(st.tuples(st.booleans(), st.floats() | st.integers(-(2**80), 2**80)), max_size=8))
def test_pairs_and_whole_readings_may_be_mixed(given_: list[tuple[bool, float]]) -> None:
    """Each finite value is told once, in order, with its own time or that of the call; sums beyond measure do not matter."""
    items: list[Item] = [Reading(FIRST, value, 1, since=0) if whole else (FIRST, value) for whole, value in given_]
    batch = read(bench(Subject(), Reader((FIRST.metric,), lambda _: items)), lambda: 7.0)
    assert batch.readings == [
        Reading(FIRST, value, 1, since=0) if whole else Reading(FIRST, value, 7)
        for whole, value in given_
        if math.isfinite(value)
    ]
    assert all(type(reading) is Reading for reading in batch.readings)
    assert sum(batch.lost.values()) == len(items) - len(batch.readings)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_dropped_and_counted(value: float) -> None:
    """A reading is always finite: what is not is counted, and what the same call gave beside it is kept."""
    both: Reader[Subject] = Reader((FIRST.metric, SECOND.metric), lambda subject: [(FIRST, subject("a")), (SECOND, 2)])
    subject = Subject(a=value)
    readers = bench(subject, both)
    batch = read(readers)
    assert told(batch) == {SECOND: 2}
    assert batch.lost == {"not_finite": 1}
    subject.answers["a"] = 1
    assert told(read(readers)) == {FIRST: 1, SECOND: 2}


def test_the_clock_is_read_before_the_call() -> None:
    """A counter is latched when it is asked for, so each reading has the time from before its own call."""
    now = [10.0]

    def slow(series: Series) -> Callable[[Subject], Pairs]:
        def call(_: Subject) -> Pairs:
            now[0] += 5
            yield series, now[0]

        return call

    readers = bench(Subject(), Reader((FIRST.metric,), slow(FIRST)), Reader((SECOND.metric,), slow(SECOND)))
    batch = read(readers, lambda: now[0])
    assert len(batch.readings) == 2
    assert {reading.at for reading in batch.readings} == {10, 15}
    assert all(reading.at == reading.value - 5 for reading in batch.readings)


@pytest.mark.usefixtures("quiet")
def test_the_unforeseen_is_guarded_and_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault that nobody foresaw loses its reader's readings only, is counted by its type, and is asked again."""
    monkeypatch.setattr(_guard, "faults", type(_guard.faults)())
    subject = Subject(a=1, b=ZeroDivisionError())
    readers = bench(subject, one(FIRST, "a"), one(SECOND, "b"))
    for _ in range(2):
        batch = read(readers)
        assert told(batch) == {FIRST: 1}
        assert batch.lost == {"ZeroDivisionError": 1}
    assert _guard.faults == {f"reading {SECOND.metric.name}": 2}
    subject.answers["b"] = 2
    assert told(read(readers)) == {FIRST: 1, SECOND: 2}


def test_under_tests_the_unforeseen_is_loud() -> None:
    """Our own tests see a fault that nobody foresaw."""
    with pytest.raises(ZeroDivisionError):
        read(bench(Subject(b=ZeroDivisionError()), one(FIRST, "b")))


def test_an_unavailable_source_says_why_and_what_would_mend_it() -> None:
    """The message has the source, the reason and, where there is one, the mend."""
    assert str(SourceUnavailable("nvidia", "no driver", "install one")) == "nvidia: no driver; install one"
    error = SourceUnavailable("nvidia", "no driver")
    assert str(error) == "nvidia: no driver"
    assert (error.source, error.reason, error.remedy) == ("nvidia", "no driver", "")


def test_a_source_needs_neither_opening_nor_closing() -> None:
    """A source that holds nothing writes `read` alone."""

    class Plain(Source):
        name = "plain"

        def read(self) -> Batch:
            batch = Batch()
            batch.readings.append(Reading(Series(gpu.POWER), 1, 0))
            batch.lose("BusyError")
            batch.lose("BusyError", 2)
            return batch

    source = Plain()
    source.open()
    assert source.read().lost == {"BusyError": 3}
    source.close()
    assert not source.may_hang


def test_a_slow_reader_is_asked_at_its_own_pace_and_told_in_between() -> None:
    """Its readings come again with the time at which they were made, so that nothing vanishes from an export."""
    subject = Subject(a=1, b=2)
    slow = Reader[Subject]((FIRST.metric,), lambda subject: [(FIRST, subject("a"))], every=10)
    readers = bench(subject, slow, one(SECOND, "b"))
    for now in range(25):
        batch = read(readers, lambda now=now: now)  # type: ignore[misc]
        (told_,) = (reading for reading in batch.readings if reading.series is FIRST)
        assert told_ == Reading(FIRST, 1, now // 10 * 10)
    assert subject.asked.count("a") == 3
    assert subject.asked.count("b") == 25


def test_a_slow_reader_that_fails_is_absent_until_it_is_read_again() -> None:
    """What it said before its failure is no longer told."""
    subject = Subject(a=1)
    readers = bench(subject, Reader((FIRST.metric,), lambda subject: [(FIRST, subject("a"))], every=10))
    assert told(read(readers, lambda: 0)) == {FIRST: 1}
    subject.answers["a"] = BusyError()
    for now in (10, 11, 19):
        assert told(read(readers, lambda now=now: now)) == {}  # type: ignore[misc]
    subject.answers["a"] = 2
    assert told(read(readers, lambda: 20)) == {FIRST: 2}


def test_slow_readers_of_many_subjects_take_turns() -> None:
    """So that the costly calls of eight GPUs never fall into one sample, but for the first."""
    subjects = [Subject(a=1) for _ in range(8)]
    slow = Reader[Subject]((FIRST.metric,), lambda subject: [(FIRST, subject("a"))], every=8)
    benches = [Bench(subject, [slow], phase=number / 8) for number, subject in enumerate(subjects)]
    asked = []
    for now in range(40):
        before = sum(len(subject.asked) for subject in subjects)
        for each in benches:
            read(each, lambda now=now: now)  # type: ignore[misc]
        asked.append(sum(len(subject.asked) for subject in subjects) - before)
    assert asked[0] == 8
    assert set(asked[1:]) == {1}


def test_a_reading_with_its_own_time_keeps_it() -> None:
    """For what is itself a mean over a stretch of time."""
    reading = Reading(FIRST, 3, 5, since=1)
    readers = bench(Subject(), Reader((FIRST.metric,), lambda _: [reading]))
    assert read(readers, lambda: 7).readings == [reading]


def test_a_reader_that_is_added_is_read_from_the_next_look_on() -> None:
    """Where one call of many answers is refused one of them, its older call joins."""
    readers = bench(Subject(a=1, b=2), one(FIRST, "a"))
    assert told(read(readers)) == {FIRST: 1}
    readers.add(one(SECOND, "b"))
    assert told(read(readers)) == {FIRST: 1, SECOND: 2}
