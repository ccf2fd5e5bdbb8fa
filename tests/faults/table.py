# SPDX-License-Identifier: Apache-2.0
"""Every case there is, by what it is about; the page `docs/reliability.md` has them in this order."""

from __future__ import annotations

from typing import Final

from faults import (
    backend,
    budget,
    children,
    clocks,
    devices,
    driver,
    endings,
    forks,
    plain,
    processes,
    ranks,
    recordings,
    security,
    system,
)
from faults.case import Case

_IN_THE_JOB: Final[dict[str, tuple[Case, ...]]] = {
    "No fault": plain.CASES,
    "Ranks of one node": ranks.CASES,
    "Processes that a training starts": children.CASES,
    "Processes that are forked": forks.CASES,
    "How a training ends": endings.CASES,
    "What we cost, and threads of ours that die": budget.CASES,
}
_OUTSIDE: Final[dict[str, tuple[Case, ...]]] = {
    "The driver of the GPUs": (*driver.CASES, *devices.CASES),
    "The operating system": (*system.CASES, *processes.CASES, *clocks.CASES),
    "The file that a run is recorded in": recordings.CASES,
    "The backend": backend.CASES,
    "Other users of the machine, and secrets": security.CASES,
}
SUBJECTS: Final = _IN_THE_JOB | _OUTSIDE

# In two parts, which are tried at the same time.
OF_THE_JOB: Final = tuple(case for cases in _IN_THE_JOB.values() for case in cases)
FROM_OUTSIDE: Final = tuple(case for cases in _OUTSIDE.values() for case in cases)
