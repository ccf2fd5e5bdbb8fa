# SPDX-License-Identifier: Apache-2.0
"""Training spans and alerts in lanes: none hides another, and what cannot be shown is counted."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_hwmetrics.display.plots.lanes import MOST_BANDS, MOST_LANES, MOST_MARKS, Drawn, of_alerts, of_spans
from otel_hwmetrics.display.plots.picture import Stretch
from otel_hwmetrics.display.words import clock
from otel_hwmetrics.recording.nouns import RecordedAlert, RecordedSpan
from recorded import SECOND, START, alert, epochs

END = START + 1000 * SECOND


def span(name: str, first: int, last: int | None, number: int, parent: int = 0, **more: object) -> RecordedSpan:
    """A span by its seconds."""
    end = None if last is None else START + last * SECOND
    own, above = f"{number:016x}", f"{parent:016x}" if parent else ""
    return RecordedSpan("a" * 32, own, above, name, START + first * SECOND, end, **more)  # type: ignore[arg-type] # of a test's choosing


def shown(*spans: RecordedSpan, columns: int = 1000) -> Drawn:
    """As a picture from second 0 to 1000 has them."""
    return of_spans(spans, START, END, columns, clock)


def stretches(drawn: Drawn) -> dict[str, list[Stretch]]:
    """By the kind."""
    return {strip.name: list(strip.stretches) for strip in drawn.lanes.strips} if drawn.lanes else {}


def test_what_is_within_another_is_below_it() -> None:
    """An epoch is below the run, its validation below it; each says when it was and how long."""
    drawn = shown(
        span("fit", 0, 900, 1),
        span("epoch", 10, 400, 2, 1, attributes={"hwmetrics.training.epoch": 0}),
        span("validation", 300, 380, 3, 2, status="error"),
        span("epoch", 400, None, 4, 1, attributes={"hwmetrics.training.epoch": 1}),
    )
    found = stretches(drawn)
    assert drawn.lanes is not None
    assert (drawn.lanes.count, list(found)) == (3, ["fit", "epoch", "validation"])
    assert [(each.lane, each.label) for each in found["epoch"]] == [(1, "epoch 0"), (1, "epoch 1")]
    assert [each.end_ns for each in found["epoch"]] == [START + 400 * SECOND, END]
    begins, ends = clock(START + 300 * SECOND), clock(START + 380 * SECOND)
    assert found["validation"][0].lines == ("validation", f"{begins} to {ends}, 1 min 20 s", "it failed")
    assert found["epoch"][1].lines[1].endswith("and its end was not seen")
    assert drawn.notes == ()


def test_what_overlaps_is_beside_each_other() -> None:
    """Of one level, too, as spans of two threads."""
    found = stretches(shown(span("load", 0, 500, 1), span("load", 100, 600, 2), span("load", 500, 900, 3)))
    assert sorted(each.lane for each in found["load"]) == [0, 0, 1]


def test_the_panels_are_shaded_where_no_training_goes_on() -> None:
    """Validations and checkpoints are, and every other epoch a little."""
    drawn = shown(
        *epochs(960, 60),
        span("validation", 10, 20, 901),
        span("checkpoint", 20, 22, 902),
        span("evaluation", 30, 31, 903),
    )
    weak = [each for each in drawn.bands if each.strength < 0.1]
    assert (len(weak), len(drawn.bands)) == (8, 11)


def test_too_many_are_not_shaded() -> None:
    """They would be one grey."""
    drawn = shown(*(span("checkpoint", 2 * n, 2 * n + 1, n + 1) for n in range(MOST_BANDS + 1)))
    assert drawn.bands == ()
    assert len(stretches(drawn)["checkpoint"]) == MOST_BANDS + 1


@pytest.mark.parametrize("parents", [{1: 2, 2: 1}, {1: 1}, {1: 99}])
def test_parents_may_be_anything(parents: dict[int, int]) -> None:
    """Unknown, the span itself, or each other's."""
    drawn = shown(*(span("x", 10 * n, 10 * n + 5, n, parent) for n, parent in parents.items()))
    assert sum(len(each) for each in stretches(drawn).values()) == len(parents)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-50, 1050), st.integers(0, 300), st.integers(0, 12), st.booleans()), max_size=60),
    st.integers(1, 50),
)
def test_no_bar_hides_another_and_all_are_accounted_for(told: list[tuple[int, int, int, bool]], columns: int) -> None:
    """Whatever the spans are: in a lane each begins where the one before has ended, in a later column of pixels."""
    spans = [
        span("ab"[number % 2], first, None if is_open else first + lasts, number + 1, parent)
        for number, (first, lasts, parent, is_open) in enumerate(told)
    ]
    drawn = shown(*spans, columns=columns)
    found = [each for those in stretches(drawn).values() for each in those]
    for lane in range(drawn.lanes.count if drawn.lanes else 0):
        of_lane = sorted((each.start_ns, each.end_ns) for each in found if each.lane == lane)
        assert of_lane
        for (begin, end), (after, _) in pairwise(of_lane):
            assert end <= after
            assert (after - START) // (1000 * SECOND // columns) > (begin - START) // (1000 * SECOND // columns)
    assert all(START <= each.start_ns <= each.end_ns <= END for each in found)
    hidden = int(drawn.notes[0].split()[0]) if drawn.notes else 0
    assert len(found) + hidden == len(spans) or not found


def test_an_alert_lasts_until_it_is_resolved() -> None:
    """One that is not, to the end; one that fired before the picture, from its beginning. Each says what it says."""
    drawn = of_alerts(
        [
            [
                alert(100),
                alert(150, "resolved"),
                alert(300, rule="oom_ahead", severity="critical"),
                alert(400, "resolved", "old"),
            ]
        ],
        START,
        END,
        clock,
    )
    found = stretches(drawn)
    assert list(found) == ["critical", "warning"]
    hot, old = sorted(found["warning"], key=lambda each: each.label)
    assert (hot.label, hot.start_ns, hot.end_ns) == ("gpu_hot", START + 100 * SECOND, START + 150 * SECOND)
    assert hot.lines[:2] == ("warning: gpu_hot (GPU 1)", "GPU 1 is at 87 °C (above 80 °C).")
    assert (old.start_ns, old.end_ns) == (START, START + 400 * SECOND)
    (ahead,) = found["critical"]
    assert ahead.end_ns == END
    assert ahead.lines[-1].endswith("not resolved")
    assert {each.at_ns for each in drawn.marks} == {START, START + 100 * SECOND, START + 300 * SECOND}


def test_the_same_alert_of_two_processes_is_two() -> None:
    """One's end is not the other's."""
    one, other = [alert(100), alert(200, "resolved")], [alert(150), alert(900, "resolved")]
    found = stretches(of_alerts([one, other], START, END, clock))["warning"]
    assert sorted(each.end_ns - each.start_ns for each in found) == [100 * SECOND, 750 * SECOND]
    assert {each.lane for each in found} == {0, 1}


def test_alerts_that_cannot_be_shown_are_counted() -> None:
    """Six fire at once and are seen; of lines through all panels there are no more than one sees through."""
    many = [RecordedAlert(START + n * SECOND, f"rule{n}", "firing", "info", "", "") for n in range(MOST_LANES + 3)]
    drawn = of_alerts([many], START, END, clock)
    assert drawn.lanes is not None
    assert drawn.lanes.count == MOST_LANES
    assert drawn.notes == (f"3 of {MOST_LANES + 3} alerts are not shown: too many fire at once.",)
    short = [
        RecordedAlert(START + (3 * n + 2 * late) * SECOND, "flaps", state, "odd", "", "")
        for n in range(MOST_MARKS + 1)
        for late, state in ((False, "firing"), (True, "resolved"))
    ]
    drawn = of_alerts([short], START, END, clock)
    assert drawn.marks == ()
    assert len(stretches(drawn)["odd"]) == MOST_MARKS + 1


def test_what_is_over_before_the_picture_begins_is_not_in_it() -> None:
    """And what fires then begins with it."""
    told = [alert(-90), alert(-80, "resolved"), alert(-50), alert(30, "resolved")]
    (seen,) = stretches(of_alerts([told], START, END, clock))["warning"]
    assert (seen.start_ns, seen.end_ns) == (START, START + 30 * SECOND)
    assert seen.lines[-1].endswith("1 min 20 s")


def test_nothing_is_nothing() -> None:
    """No lane is drawn."""
    assert shown() == Drawn(None)
    assert of_alerts([[]], START, END, clock) == Drawn(None)
