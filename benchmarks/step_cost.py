# SPDX-License-Identifier: Apache-2.0
"""What a step costs that the step clock counts, against a bare loop, in one process and one run.

Arms, taken in turn, of which medians are compared:

- bare: a loop over a list, with nothing in it.
- floor: a generator that reads the time twice a step and does nothing about it. Nobody who tells waiting for data from
  work does with less.
- steps: the loop through `otel_hwmetrics.steps`.
- step: a generator that calls `otel_hwmetrics.step` once a step.

Then the same with work in each step, for as long as the shortest steps that people train with: steps a second (of the
processor's time) over those of the bare loop. The work leaves little of ours in the processor's caches, so a step then
costs more than an empty one. The bound ``--most`` is on nanoseconds that `steps` adds to an empty step; the exit status
is 1 if it is exceeded.

    python benchmarks/step_cost.py [--rounds N] [--steps N] [--work MICROSECONDS] [--most NANOSECONDS] [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice, repeat
from typing import Any

from rich.console import Console
from rich.table import Table

import otel_hwmetrics as hw

Loop = Callable[[Iterable[int]], Iterable[int]]


def read_twice(items: Iterable[int]) -> Iterator[int]:
    """Give the items, and read the time before and after."""
    now = time.monotonic
    for item in items:
        now()
        yield item
        now()


def called(items: Iterable[int]) -> Iterator[int]:
    """Give the items, and call after each."""
    call = hw.step
    for item in items:
        yield item
        call()


LOOPS: dict[str, Loop] = {"bare": iter, "floor": read_twice, "steps": hw.steps, "step": called}


def nanoseconds_of(loop: Iterable[int], count: int, work: Callable[[], object] | None = None) -> float:
    """Of the processor's time, a step: no arm waits for anything, and what else the machine does is not to count."""
    started = time.thread_time()
    if work is None:
        for _ in loop:
            pass
    else:
        for _ in loop:
            work()
    return (time.thread_time() - started) / count * 1e9


def empty_steps(rounds: int, count: int) -> dict[str, float]:
    """Nanoseconds a step of each arm, with nothing in it."""
    items = list(range(count))
    taken: dict[str, list[float]] = {name: [] for name in LOOPS}
    for _ in range(rounds):
        for name, loop in LOOPS.items():
            taken[name].append(nanoseconds_of(loop(items), count))
    return {name: statistics.median(each) for name, each in taken.items()}


def work_of(microseconds: float) -> Callable[[], object]:
    """Something that keeps the interpreter busy for about so long."""
    numbers = list(range(1000))
    once = min(nanoseconds_of(numbers, len(numbers), lambda: sum(numbers)) for _ in range(5))
    times = range(max(1, round(microseconds * 1e3 / once)))

    def work() -> None:
        for _ in times:
            sum(numbers)

    return work


def steps_at_work(loop: Loop, rounds: int, work: Callable[[], object]) -> tuple[float, float]:
    """Nanoseconds of a bare step, and steps a second of a loop over it.

    Two loops are gone on with by turns, a few steps at a time: the machine's moods last longer than that.
    """
    count = 10
    ours, bare = iter(loop(repeat(0))), repeat(0)
    lengths, ratios = [], []
    for number in range(rounds):
        pair = (bare, ours) if number % 2 else (ours, bare)
        taken = {each: nanoseconds_of(islice(each, count), count, work) for each in pair}
        lengths.append(taken[bare])
        ratios.append(taken[bare] / taken[ours])
    return statistics.median(lengths), statistics.median(ratios)


def main() -> int:
    """Measure, print, and tell by the exit status whether the bound is kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40, help="rounds an arm (default 40)")
    parser.add_argument("--steps", type=int, default=50_000, help="empty steps a round (default 50000)")
    parser.add_argument("--work", type=float, default=200.0, help="microseconds of work in a step (default 200)")
    parser.add_argument("--most", type=float, default=2000.0, help="bound in nanoseconds (default 2000)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    empty = empty_steps(arguments.rounds, arguments.steps)
    work = work_of(arguments.work)
    at_work = {name: steps_at_work(loop, arguments.rounds * 25, work) for name, loop in LOOPS.items()}
    added = empty["steps"] - empty["bare"]
    found: dict[str, Any] = {
        "empty_ns": empty,
        "steps_adds_ns": added,
        "step_adds_ns": empty["step"] - empty["bare"],
        "work_us": at_work["bare"][0] / 1e3,
        "steps_a_second_over_bare": {name: ratio for name, (_, ratio) in at_work.items()},
    }
    if arguments.json:
        print(json.dumps(found, indent=2))
    else:
        show(found)
    if added > arguments.most:
        print(f"a step costs {added:.0f} ns, more than {arguments.most:g}", file=sys.stderr)
    return int(added > arguments.most)


def show(found: dict[str, Any]) -> None:
    """Print a table."""
    table = Table("arm", "ns an empty step", f"steps/s over bare, {found['work_us']:.0f} µs steps")
    for name, nanoseconds in found["empty_ns"].items():
        table.add_row(name, f"{nanoseconds:.0f}", f"{found['steps_a_second_over_bare'][name]:.4f}")
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
