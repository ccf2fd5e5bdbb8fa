# SPDX-License-Identifier: Apache-2.0
"""What a look at the host and the process costs, against bare reads of the same files, in one process and one run.

Three arms, taken in turn, of which medians are compared:

- ours: a whole look, from the system calls to the readings with their series and times. Files that are read seldom
  (CPU frequencies, counts of CPUs, shared memory) are not due in it, and their last readings are told again.
- reopened: the files that such a look reads, each opened, read to its end and closed, as `cat` or psutil does, and
  nothing done about what they give. The bound ``--most`` is on ours over this, for host and process together.
- bare: the very preads of such a look, found out by watching one, on descriptors that stay open, likewise. This is the
  floor below which nobody comes who reads these files at all; readings are made in Python and cost more than that.

Linux only; the ratios count, not the microseconds. The smaller the machine, the less the kernel has to write and the
more of a look is ours. The exit status is 1 if the bound is exceeded.

    python benchmarks/host_cost.py [--rounds N] [--pause SECONDS] [--most RATIO] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from unittest import mock

from rich.console import Console
from rich.table import Table

from otel_hwmetrics.sources.base import Source
from otel_hwmetrics.sources.process import ProcessSource
from otel_hwmetrics.sources.system import SystemSource


class Read(NamedTuple):
    """One pread: of what, how much, from where."""

    path: str
    size: int
    offset: int


def reads_of(sources: Sequence[Source]) -> list[Read]:
    """The preads of one look that is not the first, when everything is open and every size is known."""
    found: list[Read] = []
    pread = os.pread

    def watched(descriptor: int, size: int, offset: int) -> bytes:
        found.append(Read(os.readlink(f"/proc/self/fd/{descriptor}"), size, offset))
        return pread(descriptor, size, offset)

    with mock.patch.object(os, "pread", watched):
        for source in sources:
            source.read()
    return found


def bare(reads: list[Read]) -> Callable[[], object]:
    """The same preads, on descriptors that stay open."""
    descriptors = {path: os.open(path, os.O_RDONLY) for path in {read.path for read in reads}}
    calls = [(descriptors[read.path], read.size, read.offset) for read in reads]

    def arm() -> None:
        for descriptor, size, offset in calls:
            os.pread(descriptor, size, offset)

    return arm


def reopened(reads: list[Read]) -> Callable[[], object]:
    """The same files, each opened, read to its end and closed."""
    paths = list(dict.fromkeys(read.path for read in reads))

    def arm() -> None:
        for path in paths:
            with open(path, "rb", buffering=0) as file:
                file.readall()

    return arm


def look(sources: Sequence[Source]) -> Callable[[], object]:
    """Ours."""

    def arm() -> None:
        for source in sources:
            source.read()

    return arm


def compare(what: str, sources: Sequence[Source], rounds: int, pause: float) -> dict[str, Any]:
    """One row: medians of the arms, taken in turn so that the machine's moods fall on all alike, and their ratios."""
    for source in sources:
        source.open()
        source.read()
    reads = reads_of(sources)
    arms = {"bare": bare(reads), "reopened": reopened(reads), "ours": look(sources)}
    taken: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(rounds):
        for name, arm in arms.items():
            if pause:
                time.sleep(pause)
            started = time.perf_counter()
            arm()
            taken[name].append(time.perf_counter() - started)
    median = {name: statistics.median(times) for name, times in taken.items()}
    return {
        "what": what,
        "files": len({read.path for read in reads}),
        "readings": sum(len(source.read().readings) for source in sources),
        **{f"{name}_us": seconds * 1e6 for name, seconds in median.items()},
        "ratio_to_bare": median["ours"] / median["bare"],
        "ratio_to_reopened": median["ours"] / median["reopened"],
    }


def main() -> int:
    """Measure, print, and tell by the exit status whether the bound is kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2000, help="looks an arm (default 2000)")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds of rest before each, to cool the caches")
    parser.add_argument(
        "--most", type=float, default=2.5, help="bound of the last row's ratio to reopened (default 2.5)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    rows = [
        compare(what, sources, arguments.rounds, arguments.pause)
        for what, sources in (
            ("host", [SystemSource()]),
            ("process", [ProcessSource()]),
            ("host and process", [SystemSource(), ProcessSource()]),
        )
    ]
    found = rows[-1]["ratio_to_reopened"]
    kept: bool = found <= arguments.most
    if arguments.json:
        print(json.dumps(rows, indent=2))
    else:
        show(rows)
    if not kept:
        print(f"host and process cost {found:.2f} times the reads, more than {arguments.most:g}", file=sys.stderr)
    return 0 if kept else 1


def show(rows: list[dict[str, Any]]) -> None:
    """Print a table."""
    table = Table("a look at", "files", "readings", "bare µs", "reopened µs", "our µs", "to bare", "to reopened")
    for row in rows:
        table.add_row(
            row["what"],
            str(row["files"]),
            str(row["readings"]),
            *(f"{row[f'{name}_us']:.0f}" for name in ("bare", "reopened", "ours")),
            *(f"{row[f'ratio_to_{name}']:.2f}" for name in ("bare", "reopened")),
        )
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
