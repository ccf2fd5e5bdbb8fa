# SPDX-License-Identifier: Apache-2.0
"""How a process has ended, in the words of `catalog.tree.EXIT_CAUSE`."""

from __future__ import annotations

import signal
from typing import Final

from otel_hwmetrics.catalog.tree import CRASHED, KILLED, STATUS, TERMINATED

UNTOLD: Final = "untold"
"""It has ended, and the kernel does not tell us how: it is none of the causes."""

# Those that leave a core by default (signal(7)), but SIGQUIT, which people and launchers send. By name, for their numbers
# are not the same on all processors, and Windows lacks them.
_FAULTS: Final = ("SEGV", "BUS", "ABRT", "FPE", "ILL", "SYS", "TRAP", "XCPU", "XFSZ")
_CAUSES: Final = {
    number: cause
    for cause, names in ((CRASHED, _FAULTS), (KILLED, ("KILL",)))
    for number in (getattr(signal, f"SIG{name}", None) for name in names)
    if number is not None
}


def cause_of(exit_code: int) -> str | None:
    """Why one has ended that did not end well; None for one that did.

    Args:
        exit_code: In the form of waitpid(2).
    """
    number = exit_code & 0x7F
    if number:
        return _CAUSES.get(number, TERMINATED)
    return STATUS if exit_code & 0xFF00 else None
