# SPDX-License-Identifier: Apache-2.0
"""The cgroups of a process, version 1, 2 or both: where they are, what is in their files, what they hold it to.

Version 2: https://docs.kernel.org/admin-guide/cgroup-v2.html; version 1: https://docs.kernel.org/admin-guide/cgroup-v1/.
"""

from __future__ import annotations

from otel_hwmetrics.sources.linux.cgroup.continued import Continued
from otel_hwmetrics.sources.linux.cgroup.group import Group
from otel_hwmetrics.sources.linux.cgroup.limits import (
    EVERY,
    Held,
    Level,
    Limits,
    Memory,
    Quota,
    bounds,
    effective_cpus,
    effective_memory,
    shared,
    smallest,
)
from otel_hwmetrics.sources.linux.cgroup.membership import Cgroup, Membership, find

__all__ = [
    "EVERY",
    "Cgroup",
    "Continued",
    "Group",
    "Held",
    "Level",
    "Limits",
    "Membership",
    "Memory",
    "Quota",
    "bounds",
    "effective_cpus",
    "effective_memory",
    "find",
    "shared",
    "smallest",
]
