# SPDX-License-Identifier: Apache-2.0
"""How jobs and runs ended, in words."""

from __future__ import annotations

import signal
from typing import Final

from otel_hwmetrics.display.report.material import ENDED, Material
from otel_hwmetrics.display.words import when
from otel_hwmetrics.recording.nouns import LOST, RUNNING, Job

NEAR: Final = 0.9
"""The part of the memory that was asked for, from which on a job that was killed is thought to have been killed for it."""
_SHELLS: Final = 128
"""What a shell adds to the number of the signal that ended a command."""


def exit_word(job: Job) -> str:
    """A word: the exit code, the signal, or how it stands: ``0``, ``SIGKILL``, ``running``, ``lost``."""
    if job.exit_code is None:
        return job.state
    return f"{job.exit_code}" if job.exit_code >= 0 else signal_name(-job.exit_code)


def ending(job: Job) -> str:
    """How it ended, as a part of a sentence: ``exit code 0``, ``ended by SIGKILL``."""
    if job.state == LOST:
        return "was lost: its recorder was killed, and nobody saw its end"
    if job.exit_code is None:
        return {RUNNING: "still runs"}.get(job.state, job.state)
    if job.exit_code < 0:
        return f"ended by {signal_name(-job.exit_code)}"
    return f"exit code {job.exit_code}"


def signal_name(number: int) -> str:
    """Its name: ``SIGKILL``; of real-time signals and what this system does not know, its number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def killed(job: Job) -> bool:
    """Whether it ended by SIGKILL, also as seen through a shell."""
    return job.exit_code in (-signal.SIGKILL, _SHELLS + signal.SIGKILL)


def memory_peak(job: Job) -> float | None:
    """Bytes: the most memory that was seen of it; the kernel's own peak of one process, where a look missed that."""
    seen = job.summary.figures.get("memory")
    told = [value for value in (seen and seen.peak, job.summary.max_rss) if value is not None]
    return max(told, default=None)


def starved(job: Job) -> bool:
    """Whether it was most likely killed for want of memory: by SIGKILL, with what it had asked for almost or wholly in use."""
    peak, asked = memory_peak(job), job.request.memory
    return killed(job) and peak is not None and bool(asked) and peak >= NEAR * (asked or 0)


def run_state(material: Material) -> str:
    """How a run stands, as a sentence's part."""
    if material.state == ENDED:
        return "ended in good order"
    if material.state == RUNNING:
        return f"still runs; last heard of {when(material.heard_ns)}"
    return f"was not ended in good order: its recorder was killed; last heard of {when(material.heard_ns)}"
