# SPDX-License-Identifier: Apache-2.0
"""Jobs of one name that ran at the same time, as the ranks of a distributed job do: how many, where, and their memory."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from otel_hwmetrics.recording.nouns import Job


@dataclass(frozen=True)
class Together:
    """The most of each that there was at any moment.

    Attributes:
        tasks: Jobs, on all hosts together.
        nodes: Hosts that had one or more.
        tasks_per_node: Jobs on one host.
        node_memory: Bytes: the peaks of those that were on one host, added up; None where no job tells.
    """

    tasks: int = 1
    nodes: int = 1
    tasks_per_node: int = 1
    node_memory: float | None = None

    def most(self, other: Together) -> Together:
        """Of two, the most of each."""
        memory = [each for each in (self.node_memory, other.node_memory) if each is not None]
        return Together(
            max(self.tasks, other.tasks),
            max(self.nodes, other.nodes),
            max(self.tasks_per_node, other.tasks_per_node),
            max(memory, default=None),
        )


def together(jobs: Sequence[tuple[Job, float | None]]) -> Together:
    """What jobs of one run and of one name were together.

    Args:
        jobs: Each with the most memory that it had, bytes; one that does not tell is taken to have had as much as any other.
    """
    known = [memory for _, memory in jobs if memory is not None]
    most = max(known, default=0.0)
    running: Counter[str] = Counter()
    held: Counter[str] = Counter()
    found = Together(node_memory=most if known else None)
    for _, begins, host, memory in sorted(_changes(jobs, most)):
        running[host] += 1 if begins else -1
        held[host] += memory if begins else -memory  # type: ignore[assignment] # a Counter adds up bytes as well
        now = Together(
            running.total(), sum(count > 0 for count in running.values()), running[host], held[host] if known else None
        )
        found = found.most(now)
    return found


def _changes(jobs: Sequence[tuple[Job, float | None]], most: float) -> list[tuple[float, bool, str, float]]:
    """When each began and ended, where, and its memory; at one moment ends come first."""
    changes: list[tuple[float, bool, str, float]] = []
    for job, memory in jobs:
        if job.started_ns is None:
            continue
        end = job.ended_ns or job.heard_ns
        until = math.inf if end is None else max(end, job.started_ns + 1)
        bytes_ = most if memory is None else memory
        changes += [(job.started_ns, True, job.host, bytes_), (until, False, job.host, bytes_)]
    return changes
