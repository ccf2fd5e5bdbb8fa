# SPDX-License-Identifier: Apache-2.0
"""The CPUs that the scheduler grants this process."""

from __future__ import annotations

import os
import threading


def granted_cpus() -> int | None:
    """How many CPUs any thread of the job in this process may run on; None where nothing tells.

    Threads have masks of their own. OpenMP pins the first one to a single CPU and each of its others to another
    (OMP_PROC_BIND, KMP_AFFINITY), so what the process has is their union; where a launcher or a job pins all, it is
    that. Our own threads keep the mask that the job had before it pinned itself, so they have no say.

    One call where the first thread may run anywhere, which is the rule; else one for each thread: 0.5 ms for five
    hundred.
    """
    machine = os.cpu_count()
    if not hasattr(os, "sched_getaffinity"):
        return machine
    # By pid, which is the main thread's number: 0 would be the thread that asks.
    granted = _mask(os.getpid())
    if machine is not None and len(granted) < machine:
        for number in _others():
            granted |= _mask(number)
            if len(granted) >= machine:
                break
    return len(granted) or None


def _others() -> list[int]:
    """The threads of the job, but for the main one; none where /proc does not count as we do, or is not there."""
    try:
        numbers = {int(number) for number in os.listdir("/proc/self/task")}
    except (OSError, ValueError):
        return []
    main = os.getpid()
    if main not in numbers:
        return []
    ours = {thread.native_id for thread in threading.enumerate() if thread.name.startswith("hwmetrics")}
    return sorted(numbers - ours - {main})


def _mask(number: int) -> set[int]:
    try:
        return set(os.sched_getaffinity(number))
    except OSError:
        return set()  # it ended
