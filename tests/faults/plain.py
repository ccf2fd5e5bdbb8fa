# SPDX-License-Identifier: Apache-2.0
"""No fault at all: what every case is held against."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from faults.case import Case, Outcome
from faults.training import Job


@contextmanager
def nothing(job: Job) -> Iterator[None]:
    """Let the job be."""
    del job
    yield


def everything_is_there(outcome: Outcome) -> None:
    """Host, process, sums on the span, and nothing in the log that would worry anybody."""
    assert "system.cpu.time" in outcome.last
    assert "process.cpu.time" in outcome.last
    assert "hwmetrics.summary.time" in outcome.spans["train"]["attributes"], outcome.spans
    assert "WARNING" not in outcome.words
    assert "ERROR" not in outcome.words


CASES = (
    Case(
        name="nothing",
        happens="Nothing.",
        missing="Nothing.",
        said="Nothing.",
        fault="faults.plain:nothing",
        check=everything_is_there,
    ),
)
