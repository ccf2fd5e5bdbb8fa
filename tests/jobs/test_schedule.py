# SPDX-License-Identifier: Apache-2.0
"""Which job is next."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from otel_hwmetrics.jobs.schedule import Schedule
from otel_hwmetrics.jobs.spec import JobSpec


@st.composite
def plans(draw: st.DrawFn) -> list[JobSpec]:
    """Jobs that wait for some before them."""
    count = draw(st.integers(1, 8))
    return [
        JobSpec(
            str(place), ("x",), blocked_by=tuple(map(str, draw(st.sets(st.integers(0, place - 1))))) if place else ()
        )
        for place in range(count)
    ]


@given(plans(), st.integers(1, 4), st.data())
def test_each_runs_once_after_those_that_it_waits_for(jobs: list[JobSpec], at_once: int, data: st.DataObject) -> None:
    """Never more than may; what waits for one that fails never begins, and in the end nothing is left."""
    schedule = Schedule(jobs, at_once)
    running: list[int] = []
    ended: dict[str, bool] = {}
    skipped: set[int] = set()
    while not schedule.is_over:
        while (number := schedule.ready()) is not None:
            assert all(ended.get(name) for name in jobs[number - 1].blocked_by)
            running.append(number)
        assert 0 < len(running) <= at_once
        number = running.pop(data.draw(st.integers(0, len(running) - 1)))
        works = data.draw(st.booleans())
        assert jobs[number - 1].name not in ended
        ended[jobs[number - 1].name] = works
        skipped.update(schedule.ended(number, failed=not works))
    names = {jobs[number - 1].name for number in skipped}
    assert names.isdisjoint(ended)
    assert names | ended.keys() == {job.name for job in jobs}
    for number in skipped:
        assert any(not ended.get(name, False) for name in jobs[number - 1].blocked_by)


def test_stopped_it_begins_no_more() -> None:
    """And says who waited."""
    jobs = [JobSpec("a", ("x",)), JobSpec("b", ("x",)), JobSpec("c", ("x",), blocked_by=("a",))]
    schedule = Schedule(jobs, 1)
    assert schedule.ready() == 1
    assert schedule.stop() == [2, 3]
    assert schedule.ready() is None
    assert not schedule.is_over
    assert schedule.ended(1, failed=True) == []
    assert schedule.is_over
