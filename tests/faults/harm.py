# SPDX-License-Identifier: Apache-2.0
"""What is asked of every case: training is as it would be without us, and only what the fault took is missing."""

from __future__ import annotations

from faults.case import Case, Outcome, without_us

TRIES = 5
"""How often a time is taken: a loaded machine may be late once, we may not be late each time."""

MORE_CPU = 1.5
"""Times the CPU time of the training's own thread without us; its steps take half a millisecond, and no training's are as short."""
STARTING = 0.1
"""CPU seconds of that thread besides: what is done once, on whatever thread comes first."""


def assert_no_harm(case: Case) -> None:
    """The result to the last bit, the exit status, the time; then what is missing and what was said."""
    without, with_us = without_us(case), case.run(instrumented=True)
    assert with_us.result == without.result, with_us.words
    assert with_us.code == without.code, with_us.words
    case.check(with_us)
    tries = [(with_us, without)]
    while is_late(case, tries) and len(tries) < TRIES:
        tries.append((case.run(instrumented=True), case.run(instrumented=False)))
    assert not is_late(case, tries), [
        [(each.seconds, each.ending, each.stop, each.cpu) for each in pair] for pair in tries
    ]


def is_late(case: Case, tries: list[tuple[Outcome, Outcome]]) -> bool:
    """Whether the process ended later with us than it may, at the best; or did so once the training had ended.

    Or whether `uninstrument()` took longer than it may; or the training's own thread worked far more than for itself.
    """
    late = min(ours.seconds - theirs.seconds for ours, theirs in tries)
    late_at_end = min((ours.ending or 0.0) - (theirs.ending or 0.0) for ours, theirs in tries)
    stop = min(ours.stop or 0.0 for ours, _ in tries)
    busy = min((ours.cpu or 0.0) - MORE_CPU * (theirs.cpu or 0.0) for ours, theirs in tries)
    return (
        late > case.added
        or (case.added_at_end is not None and late_at_end > case.added_at_end)
        or (case.stops_within is not None and stop > case.stops_within)
        or busy > STARTING
    )
