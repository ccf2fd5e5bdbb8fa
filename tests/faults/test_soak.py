# SPDX-License-Identifier: Apache-2.0
"""The soak: after 60,000 looks in which everything went wrong, nothing has grown and no alert was lost.

Two or three minutes of CPU time in one process. ``PYTHONPATH=tests python -m faults.soak`` goes on for 200,000, and
`make soak-faults` does so with all sources and two whole GPUs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from alarms import alert
from faults.soak_books import PLACES, Books, Lost, Told
from faults.soak_chaos import FAULTS
from faults.soak_scales import Scales, Weighing

LOOKS = 60_000
GROWTH = 1024 * 1024
"""Bytes that may be added after the first quarter of the looks, in which what is remembered of the past, of names and of errors fills up."""
MOST_FILES = 60
"""Recordings in their folder at any time, with what is being written."""

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="memory and threads are read from /proc")


@pytest.fixture(scope="module")
def soaked() -> dict[str, Any]:
    """What came of it. It fails at once where anything that was decided did not arrive, with its seed and its look."""
    tests = Path(__file__).parents[1]
    # Coverage would take several times as long.
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("COV", "OTEL_"))}
    finished = subprocess.run(
        [sys.executable, "-m", "faults.soak", "--looks", str(LOOKS)],
        # Quiet, as with users: most faults are of the kind that the guard passes over.
        env=inherited | {"PYTHONPATH": str(tests), "OTEL_PYTHON_HWMETRICS_LOUD": "0"},
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return dict(json.loads(finished.stdout))


def test_everything_went_wrong_and_everybody_was_told(soaked: dict[str, Any]) -> None:
    """Each kind of fault came, alerts of many rules were told, and each place that is told refused some.

    That nothing was lost is asked all the time (`faults.soak_books`), and ends the soak where it is not so.
    """
    assert soaked["looks"] == LOOKS
    assert {*soaked["faults"]} >= {fault.__name__ for fault in FAULTS}
    assert soaked["told"] > LOOKS / 100
    assert soaked["certain"] > LOOKS / 1000, "how often the GPU left no doubt, and the alert was held against that"
    assert len(soaked["rules"]) >= 10
    assert {*soaked["refused"]} == {"records", "lines", "callbacks"}
    assert min(soaked["events"].values()) > 0


def test_memory_stays_what_it_is(soaked: dict[str, Any]) -> None:
    """In a pipeline that goes on for half of the time, and from one to the next."""
    assert soaked["grown"] <= GROWTH, soaked["during"]
    assert soaked["grown_in_life"]["memory"] <= GROWTH, soaked["during"]


def test_threads_and_descriptors_are_given_back(soaked: dict[str, Any]) -> None:
    """Between any two pipelines there are as many as before the first, whatever was stuck or had died; in one, no more."""
    before, *others = [counts for _, _, *counts in soaked["between"]]
    assert others
    assert [counts for counts in others if counts != before] == []
    assert soaked["grown_in_life"]["tasks"] <= 0, soaked["during"]
    assert soaked["grown_in_life"]["descriptors"] <= 0, soaked["during"]


def test_recordings_do_not_fill_the_disk(soaked: dict[str, Any]) -> None:
    """The oldest make room."""
    assert 1 < soaked["most_files"] <= MOST_FILES


def test_only_what_was_broken_failed(soaked: dict[str, Any]) -> None:
    """No fault of our own that a guard passed over hides among those that were injected: each is there as often as it came.

    But for files: how many of a folder's that vanished were being written is not known.
    """
    refused = dict(zip(("LogSink", "LineSink", "_Hook"), ("records", "lines", "callbacks"), strict=True))
    injected = soaked["raised"] | {
        f"telling {sink} of an alert": soaked["refused"][place] for sink, place in refused.items()
    }
    assert {
        place: count
        for place, count in soaked["internal"].items()
        if not place.startswith(("writing a flight", "keeping hwmetrics-"))
    } == injected


def test_what_a_pipeline_gathers_and_gives_back_at_its_end_is_seen() -> None:
    """As well as what it does not give back; of a call that hangs for a while nothing is held against it."""
    scales = Scales(looks=8000)
    for look in range(scales.every, 8001, scales.every):
        gathered = max(0, look - 2000) if look <= 6000 else 0
        hangs = look % 3000 < 300
        scales.during.append(Weighing(look, 1000 + gathered, 5, 5 + hangs, 9 + gathered // 500))
    assert scales.grown <= 0
    assert scales.grown_in_life == {"memory": 3400, "tasks": 0, "descriptors": 7}


def test_what_is_lacking_is_as_wrong_as_what_is_too_much() -> None:
    """A count that was decided and is not exported; a span that is owed an event and does not end."""
    books = Books()
    hot = alert()
    books.decide([hot.transition], span=1)
    with pytest.raises(Lost, match="gpu_hot"):
        books.compare({})
    for place in PLACES:
        books.arrive(place, Told.by(hot.attributes))
    books.compare({("gpu_hot", "firing"): 1})
    books.close()
    with pytest.raises(Lost, match="1 events"):
        books.settle()
