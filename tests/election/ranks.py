# SPDX-License-Identifier: Apache-2.0
"""Starts ranks of a job, kills them, and reads what arrived of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RANK = Path(__file__).with_name("rank.py")
PATIENCE = 60.0
"""Seconds that a test waits for processes that share two cores with others."""

Point = tuple[str, tuple[tuple[str, Any], ...]]


@dataclass
class Export:
    """What one rank told at one moment: an export, an alert's line in its log, the events on its span."""

    at: float
    pid: int
    points: dict[Point, float]
    alert: str = ""
    events: list[str] = field(default_factory=list)

    def has(self, name: str) -> bool:
        """Whether a metric is among it."""
        return any(metric == name for metric, _ in self.points)


def torchrun(local_rank: int, ranks: int, run: str) -> dict[str, str]:
    """The environment that torchrun gives a worker."""
    return {
        "RANK": str(local_rank),
        "LOCAL_RANK": str(local_rank),
        "GROUP_RANK": "0",
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
        "TORCHELASTIC_RUN_ID": run,
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": "29500",
    }


@dataclass
class Ranks:
    """The ranks of one job. A file of lines for each process is all that is left of one that was killed."""

    folder: Path
    run: str = field(default_factory=lambda: uuid.uuid4().hex)
    running: dict[int, tuple[int, subprocess.Popen[bytes]]] = field(default_factory=dict)
    started: int = 0

    def start(self, local_rank: int, environ: Mapping[str, str], *prefix: str, **options: Any) -> int:
        """Start one; gives its pid."""
        others = ("OTEL_", "SLURM_", "COVERAGE_")  # to measure coverage would take a rank twice as long to start
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(others)}
        self.started += 1
        path = self.folder / f"{self.started}.lines"
        path.touch()
        process = subprocess.Popen(
            [*prefix, sys.executable, str(RANK), str(path), json.dumps({"sample_interval": 0.5, **options})],
            env=inherited | {"OTEL_PYTHON_HWMETRICS_LOUD": "1", "PYTHONWARNINGS": "ignore"} | dict(environ),
            start_new_session=True,
        )
        self.running[process.pid] = (local_rank, process)
        return process.pid

    def kill(self, pid: int) -> int:
        """Kill one at once; gives its local rank."""
        local_rank, process = self.running.pop(pid)
        process.kill()
        process.wait()
        return local_rank

    def exports(self) -> list[Export]:
        """Everything that arrived so far, by time."""
        found = []
        for path in self.folder.glob("*.lines"):
            for line in path.read_text(encoding="utf-8").splitlines():
                if line.endswith("}"):
                    told = json.loads(line)
                    points = {(name, tuple(map(tuple, pairs))): value for name, pairs, value in told.get("points", ())}
                    found.append(Export(told["at"], told["pid"], points, told.get("alert", ""), told.get("events", [])))
        return sorted(found, key=lambda export: export.at)

    def until(self, holds: Callable[[list[Export]], Any]) -> Any:
        """Wait until something is true of what arrived; gives what ``holds`` gave."""
        deadline = time.monotonic() + PATIENCE
        while not (result := holds(self.exports())):
            assert time.monotonic() < deadline, "nothing of the kind arrived"
            time.sleep(0.1)
        return result

    def emitter(self, exports: Iterable[Export] | None = None) -> int | None:
        """The process that told of the machine last."""
        last = None
        for export in self.exports() if exports is None else exports:
            if export.has("system.cpu.time"):
                last = export.pid
        return last if last in self.running else None

    def stop(self) -> None:
        """End them all in an orderly way."""
        for _, process in self.running.values():
            process.send_signal(signal.SIGINT)
        for _, process in self.running.values():
            process.wait(PATIENCE)
        self.running.clear()


@contextmanager
def ranks_in(folder: Path) -> Iterator[Ranks]:
    """A job, none of whose ranks outlives the test."""
    ranks = Ranks(folder)
    try:
        yield ranks
    finally:
        for _, process in ranks.running.values():
            process.kill()
            process.wait()
