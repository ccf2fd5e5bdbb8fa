# SPDX-License-Identifier: Apache-2.0
"""What a look at the host and the process costs, against bare reads of the same files, in one process and one run.

Floor: the very preads that the two sources make, found out by watching one look, on descriptors of its own and with
nothing done about what they give. Beside it, what opening and closing the same files anew costs, which is the least
that psutil does. Linux only; compare the ratios, not the microseconds. The smaller the machine, the less the kernel
has to write and the more of a look is ours.

    python benchmarks/host_cost.py [--rounds N] [--pause SECONDS] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
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


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2000, help="looks an arm (default 2000)")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds of rest before each, to cool the caches")
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
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
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
    main()
