# SPDX-License-Identifier: Apache-2.0
"""What a look at a process tree costs, alone and among a thousand other processes, and what one at this process costs.

The tree is a root with 16 workers; the others are idle children of somebody else, started and ended again in turn with
the measurements, so that the machine's moods fall on all alike. Floor: bare preads of the same files, kept open. Peer:
psutil's ``children(recursive=True)``, then CPU time, memory, threads and I/O of each.

    python benchmarks/tree_cost.py [--others N] [--blocks N] [--looks N] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from otel_hwmetrics.sources.process import ProcessSource
from otel_hwmetrics.sources.tree import TreeSource
from otel_hwmetrics.sources.tree.births import Births

WORKERS = 16
LIMIT = 1.2
"""What a look may cost among the others, over what it costs without them."""

Arms = dict[str, Callable[[], Any]]
Times = dict[str, list[float]]


FAMILY = """
import subprocess, sys
children = [subprocess.Popen(["/bin/sleep", "3600"], close_fds=False) for _ in range(int(sys.argv[1]))]
print("ready", flush=True)
sys.stdin.read()
for child in children: child.kill()
for child in children: child.wait()
"""


@contextmanager
def family(children: int) -> Iterator[int]:
    """A process with that many idle children; gives its number once all are there, and ends when all are gone."""
    command = [sys.executable, "-I", "-S", "-c", FAMILY, str(children)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as root:
        if root.stdout is not None:
            root.stdout.readline()
        yield root.pid
        if root.stdin is not None:
            root.stdin.close()


class Listing(Births):
    """As on a kernel that tells neither the newest number nor anybody's children."""

    def _is_ours(self) -> bool:
        return False

    def _lists_children(self, members: Any) -> bool:
        del members
        return False


class Walking(Listing):
    """As on a kernel that tells everybody's children, but where births elsewhere never cease."""

    def _lists_children(self, members: Any) -> bool:
        return Births._lists_children(self, members)  # noqa: SLF001 - the real one


def ours(root: int, births: type[Births] | None = None) -> Callable[[], Any]:
    """Our source, on the tree of a process."""
    source = TreeSource(root=root)
    source.open()
    if births is not None:
        source._watch._births = births("/proc", time.monotonic)  # type: ignore[union-attr]  # noqa: SLF001
    return source.read


def born_elsewhere(look: Callable[[], Any]) -> Callable[[], Any]:
    """A look before each of which a stranger came and went; only the look is timed."""

    def read() -> float:
        subprocess.run(["/bin/true"], check=True)
        started = time.perf_counter()
        look()
        return time.perf_counter() - started

    return read


def bare(root: int) -> Callable[[], None]:
    """The same files, read and nothing else."""
    pids = [root, *(child.pid for child in psutil.Process(root).children(recursive=True))]
    files = [os.open(f"/proc/{pid}/{name}", os.O_RDONLY) for pid in pids for name in ("stat", "statm", "io")]

    def read() -> None:
        for file in files:
            os.pread(file, 4096, 0)

    return read


def peer(root: int) -> Callable[[], None]:
    """psutil, as most do it."""
    process = psutil.Process(root)

    def read() -> None:
        for member in (process, *process.children(recursive=True)):
            with member.oneshot():
                member.cpu_times()
                member.memory_info()
                member.num_threads()
                member.io_counters()

    return read


def timed(arms: Arms, looks: int, taken: Times) -> None:
    """Time the arms in turn; one that gives a float has timed itself."""
    for arm in arms.values():
        for _ in range(3):  # whoever was born since the last block is met here
            arm()
    for _ in range(looks):
        for name, arm in arms.items():
            started = time.perf_counter()
            told = arm()
            took = time.perf_counter() - started
            taken.setdefault(name, []).append(told if isinstance(told, float) else took)


def trees(others: int, blocks: int, looks: int) -> list[dict[str, Any]]:
    """Each way to look at the tree, alone and among the others."""
    alone: Times = {}
    among: Times = {}
    with family(WORKERS) as root:
        look = ours(root)
        light: Arms = {
            "bare preads": bare(root),
            "ours": look,
            "ours, somebody else was born": born_elsewhere(ours(root)),
            "ours, walking all threads' children": ours(root, Walking),
        }
        # These touch every process of the machine: among the others' looks they would leave nothing in the CPU's caches.
        heavy: Arms = {"ours, listing all processes": ours(root, Listing), "psutil": peer(root)}
        for _ in range(blocks):
            for arms in (light, heavy):
                timed(arms, looks, alone)
            with family(others):
                for arms in (light, heavy):
                    timed(arms, looks, among)
    return [compare(name, alone[name], among[name], alone["bare preads"], blocks) for name in alone]


def compare(name: str, alone: list[float], among: list[float], floor: list[float], blocks: int) -> dict[str, Any]:
    """One row: medians, their ratio, and the ratios of the single blocks as its noise."""
    size = len(alone) // blocks
    ratios = [
        statistics.median(among[at : at + size]) / statistics.median(alone[at : at + size])
        for at in range(0, size * blocks, size)
    ]
    return {
        "what": name,
        "alone_us": statistics.median(alone) * 1e6,
        "among_us": statistics.median(among) * 1e6,
        "ratio": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
        "over_floor": statistics.median(alone) / statistics.median(floor),
    }


def process(looks: int) -> dict[str, Any]:
    """A look at this process, over the bare calls that it makes."""
    source = ProcessSource()
    source.open()
    files = [os.open(f"/proc/self/{name}", os.O_RDONLY) for name in ("statm", "io", "stat")]
    library = psutil.Process()

    def floor() -> None:
        resource.getrusage(resource.RUSAGE_SELF)
        os.sched_getaffinity(os.getpid())
        for file in files:
            os.pread(file, 4096, 0)

    def with_psutil() -> None:
        with library.oneshot():
            library.cpu_times()
            library.memory_info()
            library.io_counters()
            library.num_threads()

    taken: Times = {}
    timed({"floor": floor, "ours": source.read, "psutil": with_psutil}, looks, taken)
    medians = {name: statistics.median(times) * 1e6 for name, times in taken.items()}
    return {f"{name}_us": median for name, median in medians.items()} | {"ratio": medians["ours"] / medians["floor"]}


def main() -> None:
    """Measure and print; the exit status says whether the promise was kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--others", type=int, default=1000, help="other processes (default 1000)")
    parser.add_argument("--blocks", type=int, default=5, help="how often the others come and go (default 5)")
    parser.add_argument("--looks", type=int, default=40, help="looks an arm and block (default 40)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    rows = trees(arguments.others, arguments.blocks, arguments.looks)
    own = process(arguments.looks * arguments.blocks * 5)
    kept = next(row["ratio"] for row in rows if row["what"] == "ours") <= LIMIT
    if arguments.json:
        print(json.dumps({"others": arguments.others, "trees": rows, "process": own, "kept": kept}, indent=2))
        sys.exit(not kept)
    title = f"A root with {WORKERS} workers; medians, only ratios travel"
    table = Table(
        "look", "alone, µs", f"among {arguments.others}, µs", "ratio (range)", "over bare preads", title=title
    )
    for row in rows:
        low, high = row["ratio_range"]
        ratio = f"{row['ratio']:.2f} ({low:.2f} to {high:.2f})"
        floor = f"{row['over_floor']:.1f}"
        table.add_row(row["what"], f"{row['alone_us']:.0f}", f"{row['among_us']:.0f}", ratio, floor)
    console = Console()
    console.print(table)
    console.print(
        f"This process: bare calls {own['floor_us']:.0f} µs, ours {own['ours_us']:.0f} µs ({own['ratio']:.1f} times), "
        f"the same of psutil {own['psutil_us']:.0f} µs"
    )
    console.print(f"At most {LIMIT} times among the others: {'yes' if kept else 'NO'}")
    sys.exit(not kept)


if __name__ == "__main__":
    main()
