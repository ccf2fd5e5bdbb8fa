# SPDX-License-Identifier: Apache-2.0
"""Pressure stall information: how long work stood still for want of CPU, memory or I/O.

https://docs.kernel.org/accounting/psi.html. The kernel counts microseconds; its averages over 10 s and more are not
used, because the total gives the average over any window.
"""

from __future__ import annotations

import errno

from otel_hwmetrics.sources.linux.cgroup import parse
from otel_hwmetrics.sources.linux.files import KernelFile

KINDS = ("some", "full")
"""``some``: at least one task stood still; ``full``: all that were not idle did."""


def parse_totals(text: bytes) -> dict[str, int]:
    """The microseconds of stalls so far, by kind; old kernels have no ``full`` for the CPU, ``irq`` has no ``some``.

    Raises:
        ValueError: It is not what the kernel writes, or cut off.
    """
    totals: dict[str, int] = {}
    *lines, rest = text.split(b"\n")
    for line in lines:
        kind, _, averages = line.partition(b" ")
        _, found, total = averages.rpartition(b" total=")
        name = kind.decode("ascii", "replace")
        if not found or name not in KINDS or name in totals:
            raise ValueError(f"no line of a pressure file: {line[:40]!r}")
        totals[name] = parse.number(total)
    if rest or not totals:
        raise ValueError(f"no pressure file: {text[:40]!r}")
    return totals


def is_off(error: OSError) -> bool:
    """Whether an error says that the kernel does not count pressure: it was built or booted without, or told to stop."""
    return error.errno in (errno.ENOENT, errno.EOPNOTSUPP)


def is_available(proc_root: str = "/proc") -> bool:
    """Whether the machine's I/O pressure is counted; if not, the CPUs' iowait has to do (see `StallEstimate`).

    Raises:
        OSError: That cannot be told now, as where no descriptor is to be had: ask again later.
    """
    file = KernelFile(f"{proc_root}/pressure/io")
    try:
        # Some kernels have the file all the same, and refuse only to read it.
        file.read()
    except OSError as error:
        if is_off(error):
            return False
        raise
    finally:
        file.close()
    return True


class StallEstimate:
    """How long some work stood still for I/O, estimated from the CPUs' iowait, for kernels that do not count pressure.

    The CPUs' iowait is the time in which a CPU had nothing to do and a task that last ran on it waited for I/O. Summed
    over CPUs, and held to the time that went by, it is what pressure's ``some`` is where tasks wait one after the other;
    it is less where other work keeps the CPUs busy meanwhile (proc_stat(5) says why it is not reliable).
    """

    def __init__(self) -> None:
        self._last: tuple[float, float] | None = None
        self._total = 0.0

    def total(self, iowait: float, at: float) -> float:
        """Seconds of stalls since the first call.

        Args:
            iowait: Seconds of all CPUs so far. The kernel's figure may fall; a fall adds nothing.
            at: Seconds of the monotonic clock.
        """
        if self._last is not None:
            self._total += max(0.0, min(iowait - self._last[0], at - self._last[1]))
        self._last = (iowait, at)
        return self._total
