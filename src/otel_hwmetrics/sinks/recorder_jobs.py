# SPDX-License-Identifier: Apache-2.0
"""Whose use of the machine a recording tells: the jobs, and who watches them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeAlias

from otel_hwmetrics.model import Snapshot
from otel_hwmetrics.recording.nouns import Job, JobSample, Totals

JobLook: TypeAlias = tuple[Job, JobSample, Totals]
"""A job as it is known at one look, what it used at it, and what it has used from its beginning on.

A sample without any figure says nothing but when: so a job that has ended is told, and one that waits.
"""


class JobWatch(Protocol):
    """Watches jobs. Everything is called on one thread at a time, and none of it waits."""

    def looked(self, snapshot: Snapshot) -> Iterable[JobLook]:
        """What is known of each job at a look at the machine. Called by the sampler, on its thread, at each regular one.

        Jobs are told anew whenever there is something new of them; of one that has ended it is enough once.
        """
        ...

    def ended(self, time_unix_nano: int, exit_code: int | None) -> Iterable[JobLook]:
        """What is known of each job at the end: of the recording, or of this process. Called once or more, on any thread.

        Args:
            time_unix_nano: When, by the wall clock.
            exit_code: How this process ends, as subprocess has it; None where that is not known.
        """
        ...
