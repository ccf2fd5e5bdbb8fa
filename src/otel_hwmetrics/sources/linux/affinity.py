# SPDX-License-Identifier: Apache-2.0
"""The CPUs that the scheduler grants this process."""

from __future__ import annotations

import os
import threading


def granted_cpus() -> int:
    """How many CPUs any thread of the job in this process may run on; at least 1.

    Threads have masks of their own: OpenMP pins the first one and leaves the others free, a launcher pins all. Our own
    threads keep the mask that the job had before it pinned itself, so they have no say. Looks at each thread: seldom.
    """
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    ours = {thread.native_id for thread in threading.enumerate() if thread.name.startswith("hwmetrics")}
    granted: set[int] = set()
    try:
        numbers = [int(number) for number in os.listdir("/proc/self/task")]
    except (OSError, ValueError):
        numbers = []
    # By pid, which is the main thread's number, where there is no /proc: 0 would be the thread that asks.
    for number in [number for number in numbers if number not in ours] or [os.getpid()]:
        try:
            granted.update(os.sched_getaffinity(number))
        except OSError:
            continue  # it ended
    return len(granted) or 1
