# SPDX-License-Identifier: Apache-2.0
"""The step clock: how far training has come, how long its steps take, and how much of that is waiting for data.

    for batch in steps(loader): ...      # a step is what lies between two requests for a batch
    step()                               # or, in a loop of one's own: one has ended
    with waiting_for_data(): ...         # and there, what is part of it: the next batch is waited for
    with phase("checkpoint"): save()     # what goes on here is no step

It is on the hottest path of the job. So a training thread only writes a few attributes of a hand of its own, without a
lock. Whoever looks works the rest out, also for how long the step or the wait has lasted that is under way: so sums grow
while a wait lasts, and do not jump when it ends.

Nothing counts twice: on one thread the loop counts that was opened first. Loops within it are part of its steps, and
`step` does nothing there. Within a checkpoint or an evaluation nothing counts.

Times are those of `time.monotonic`, as samples and alerts are timed. On Linux it is the clock of `time.perf_counter`
(CLOCK_MONOTONIC: https://peps.python.org/pep-0418/) and costs the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from otel_hwmetrics.stepclock.clock import Look, StepClock
from otel_hwmetrics.stepclock.handles import Phase, Steps, Waiting
from otel_hwmetrics.stepclock.phases import CHECKPOINT, EVALUATION, MOST_PHASES, OTHER, SUSPENDING, TRAIN

__all__ = [
    "CHECKPOINT",
    "CLOCK",
    "EVALUATION",
    "MOST_PHASES",
    "OTHER",
    "SUSPENDING",
    "TRAIN",
    "Look",
    "Phase",
    "StepClock",
    "Steps",
    "Waiting",
    "phase",
    "step",
    "steps",
    "waiting_for_data",
]

T = TypeVar("T")

CLOCK: Final = StepClock()
"""That of this process."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=CLOCK.reset)


def steps(
    iterable: Iterable[T],
    samples: Callable[[T], int] | None = None,
    tokens: Callable[[T], int] | None = None,
) -> Steps[T]:
    """Go through a loader, or anything else, and have each round counted as a step of training.

    The same objects come in the same order, and what is raised goes through. From the request for a batch until it comes
    is waiting for data; the step ends with the next request, or where the loop is left.

        for batch in steps(loader, samples=len): ...

    On one thread the loop counts that was opened first: within another, and within the phases ``checkpoint`` and
    ``evaluation``, it only hands the objects on.

    Args:
        iterable: What to go through. As often as this can be gone through, and as long as it is, is what is returned.
        samples: Tells how many samples a batch holds; called with each as it comes, on the thread of the loop. What it
            raises is passed over.
        tokens: Tells how many tokens a batch holds, likewise.
    """
    return CLOCK.steps(iterable, samples, tokens)


def step(samples: int | None = None, tokens: int | None = None) -> None:
    """Say that a step of training has ended, in a loop that is none of `steps`.

    The next one begins with that. How long the first one was is not known, unless data was waited for before
    (`waiting_for_data`); nor is, without that, what of any was waiting for data. Within a loop of `steps` on the same thread it
    counts no step, only what it is told of; within the phases ``checkpoint`` and ``evaluation`` it does nothing.

    Nobody can tell which one was the last. What comes after it, an upload that takes its time, looks like a step that does
    not end, and where no GPU tells more is told as a stall after five minutes. So put that into a phase in which no step is
    expected; with its thread the loop ends as well, and one of `steps` ends by itself.

        for batch in batches:
            train(batch)
            step()
        with phase("checkpoint"):
            upload()

    Args:
        samples: How many samples it was of: a whole number. A tensor is not asked for its value, since that would wait for
            its GPU.
        tokens: How many tokens, likewise.
    """
    CLOCK.step(samples, tokens)


def waiting_for_data() -> Waiting:
    """Say that the next batch is waited for, in a loop that is none of `steps`: a context manager.

        while training:
            with waiting_for_data():
                batch = next(batches)
            train(batch)
            step()

    The first step begins with the first wait. Within a loop of `steps` on the same thread, and within the phases
    ``checkpoint`` and ``evaluation``, it does nothing.
    """
    return CLOCK.waiting_for_data()


def phase(name: str) -> Phase:
    """Say what training is at: a context manager, and a decorator.

        with phase("checkpoint"):
            save()

    Within ``checkpoint`` and ``evaluation`` time stands still for the steps of this thread: it is part of none, and
    nobody waits for one to end. Any other phase is only told of.

    Args:
        name: ``checkpoint``, ``evaluation`` (or ``eval``, ``validation``, ``val``, ``test``), ``train``, or one of your
            own; of these 13 are told apart, and further ones are ``other``.
    """
    return CLOCK.phase(name)
