# SPDX-License-Identifier: Apache-2.0
"""A training script that has children of every kind, and whose first line is ours, as the README says."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor

import otel_hwmetrics as hw

HANDLE = hw.instrument()


def look(_: int) -> list[object]:
    """What a worker of a pool sees of us: this very module is imported in it again, and with it the first line."""
    names = [thread.name for thread in threading.enumerate() if thread.name.startswith("hwmetrics")]
    return [names, HANDLE.snapshot() is None]


def train() -> None:
    """What a rank of `torch.multiprocessing.spawn` does: it says itself that it is to be measured."""
    with hw.instrument(sources=["process"], snapshot_timeout=20):
        time.sleep(1.5)


def main() -> None:
    """Start them all, and say which is which."""
    told: dict[str, object] = {"parent": os.getpid()}
    for method in ("spawn", "forkserver"):
        with ProcessPoolExecutor(2, multiprocessing.get_context(method)) as pool:
            told[method] = list(pool.map(look, range(2)))
    rank = multiprocessing.get_context("spawn").Process(target=train)
    rank.start()
    script = subprocess.Popen([sys.executable, sys.argv[2], "0.5"], stdout=subprocess.DEVNULL)
    rank.join()
    script.wait()
    told |= {"rank": rank.pid, "script": script.pid, "codes": [rank.exitcode, script.returncode]}
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        json.dump(told, file)


if __name__ == "__main__":
    main()
