# SPDX-License-Identifier: Apache-2.0
"""Processes that come and go faster than they are looked at, numbers that are given anew, and a very great many."""

from __future__ import annotations

import functools
import os
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from faults.case import Case, Outcome
from faults.gpus import export, look, looked, operated, settle, shown, the_host_goes_on, warned
from faults.training import Job
from otel_hwmetrics import pipeline
from otel_hwmetrics.catalog import METRICS
from otel_hwmetrics.model import Kind
from otel_hwmetrics.sources import tree
from otel_hwmetrics.sources.tree import births
from otel_hwmetrics.sources.tree.forest import Forest
from otel_hwmetrics.sources.tree.member import read_once

CROWD: Final = 100_000
APART: Final = 0.5
"""Seconds between two listings of that many at least, however quick one is."""
COUNT: Final = "hwmetrics.tree.process.count"
LOST: Final = "hwmetrics.source.readings.lost"
COUNTERS: Final = {metric.name for metric in METRICS if metric.kind is Kind.COUNTER}


@contextmanager
def coming_and_going(job: Job) -> Iterator[None]:
    """Children are born, work, end, are waited for or not, and get each other's numbers; their files vanish under a look."""
    from sources.tree.scripted import Kernel, Story

    with tempfile.TemporaryDirectory() as root:
        kernel = Kernel(Path(root))
        story = Story(kernel, random.Random(3), tidy=False, reuse=0.5)  # noqa: S311 - to be the same each time
        kernel.show()
        _shown_to_us(root, kernel.job)

        def operate() -> None:
            settle(job, count=0)
            for _ in range(40):
                for _ in range(5):
                    story.go_on()
                kernel.show()  # while a look may be under way
                look(job)
            job.told.line(ended=len(story.ended))
            export(job)

        with patch.object(tree, "Forest", functools.partial(Forest, descriptors=0)), operated(job, operate):
            yield


def _shown_to_us(root: str, number: int) -> None:
    pipeline.SOURCES["tree"] = lambda _, clock: tree.TreeSource(clock.monotonic, proc=root, root=number)


def no_counter_falls(outcome: Outcome) -> None:
    """Whatever happened to the processes; and they are told of to the end, and nothing odd is said."""
    the_host_goes_on(outcome)
    expected = ("alert=worker_died", "does not answer in time")  # of the story's, and of a busy machine's
    assert not [line for line in warned(outcome) if not any(words in line for words in expected)]
    assert next(line["ended"] for line in outcome.lines if "ended" in line) > 10
    last: dict[str, float] = {}
    for line in outcome.lines:
        for name, attributes, value in line.get("points") or ():
            if name in COUNTERS:
                key = f"{name} {sorted(attributes.items())}"
                assert value >= last.get(key, 0.0), key
                last[key] = value
    assert COUNT in outcome.last, outcome.last.keys()


@contextmanager
def crowd(job: Job) -> Iterator[None]:
    """A hundred thousand processes of others, on a kernel that can neither list children nor tell the newest number."""
    from sources.tree.scripted import Kernel

    with tempfile.TemporaryDirectory() as root:
        kernel = Kernel(Path(root), children=False, loadavg=False)
        kernel.show()
        _shown_to_us(root, kernel.job)
        names = [str(number) for number in range(1_000_000, 1_000_000 + CROWD)]
        stat = b"1 (other) S 1 1 1 0 -1 0 2 0 0 0 3 1 0 0 20 0 1 0 5 1 1 1 1 1 0 0 0 0 0 0 0 1 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
        list_folder = os.listdir

        began: list[float] = []

        def listed(path: Any = ".") -> Sequence[str]:
            if path != root:
                return list_folder(path)
            began.append(time.monotonic())
            return [*list_folder(path), *names]

        def operate() -> None:
            looked(job, lambda: shown(job, COUNT, "process.state"), 20.0)  # the first takes its time
            settle(job, count=0)
            job.told.line(listings=began)

        def read(path: str, *, records: bool = False) -> bytes:
            return (
                stat if path.startswith(f"{root}/1") and len(path) > len(root) + 8 else read_once(path, records=records)
            )

        with (
            patch.object(tree, "Forest", functools.partial(Forest, descriptors=0)),
            patch.object(os, "listdir", listed),
            patch.object(births, "read_once", read),
            operated(job, operate),
        ):
            yield


def it_is_told_of_our_own(outcome: Outcome) -> None:
    """Of our few processes, and nobody waited for the look at all the others, of which there is one now and then."""
    the_host_goes_on(outcome)
    assert {value for _, value in outcome.points[COUNT]} == {0, 1}
    assert outcome.last["hwmetrics.source.up"]
    listings = next(line["listings"] for line in outcome.lines if "listings" in line)
    assert listings
    assert all(later - earlier > APART for earlier, later in pairwise(listings)), listings
    lost = {
        (attributes["hwmetrics.source"], attributes["error.type"]) for attributes, _ in outcome.points.get(LOST, ())
    }
    assert lost <= {("tree", "timeout")}
    # A machine of tomorrow may read a hundred thousand files in a second.
    assert outcome.words.count("tree does not answer in time") == len(lost)


CASES = (
    Case(
        name="coming_and_going",
        happens="Processes of the job come and go between two looks and in the middle of one, and get numbers that others had.",
        missing="At most what a process used between the last look and its end, where nobody waits for it.",
        said="The alert `worker_died`, of those that are killed; nothing else.",
        fault="faults.processes:coming_and_going",
        added=4.0,
        felt=False,
        check=no_counter_falls,
    ),
    Case(
        name="crowd",
        happens="There are 100,000 processes of others, and the kernel tells neither who is whose child nor who is new.",
        missing="The process tree until all were looked at once, and for some seconds who was born into it.",
        said="Where the first look takes longer than `source_timeout`: `hwmetrics.source.readings.lost` with `timeout`; one line.",
        fault="faults.processes:crowd",
        steps=600,
        added=4.0,
        felt=False,
        check=it_is_told_of_our_own,
    ),
)
