# SPDX-License-Identifier: Apache-2.0
"""What a fault case is, and how one is run: the same job with us and without, and what each left.

Run in a process of its own each; `docs/reliability.md` is written from the cases.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LONGEST = 120.0
"""Seconds after which a job hangs."""


@dataclass(frozen=True)
class Outcome:
    """What is left of a job.

    Attributes:
        result: The digest of its weights; None where it did not come to that.
        code: Its exit status; negative for a signal.
        seconds: From before it was instrumented to the end of the process, without what a fault took for itself.
        ending: Of these, from the end of the training on; None where it did not come to that.
        stop: What `uninstrument()` alone took; None where the case does not measure it.
        cpu: CPU seconds of the training's own thread while it trained; None where it did not come to that.
        lines: What it told its backend.
        words: What it printed and logged.
    """

    result: str | None
    code: int
    seconds: float
    ending: float | None
    stop: float | None
    cpu: float | None
    lines: list[dict[str, Any]]
    words: str

    @property
    def points(self) -> dict[str, list[tuple[dict[str, Any], float]]]:
        """Every exported point by its metric's name, in the order of the exports."""
        found: dict[str, list[tuple[dict[str, Any], float]]] = {}
        for line in self.lines:
            for name, attributes, value in line.get("points", ()):
                found.setdefault(name, []).append((attributes, value))
        return found

    @property
    def last(self) -> dict[str, list[tuple[dict[str, Any], float]]]:
        """The points of the last export that had any."""
        full = [line["points"] for line in self.lines if line.get("points")]
        found: dict[str, list[tuple[dict[str, Any], float]]] = {}
        for name, attributes, value in full[-1] if full else ():
            found.setdefault(name, []).append((attributes, value))
        return found

    def told(self, metric: str) -> bool:
        """Whether any export had it: on a loaded machine the last one may be without what came too late for it."""
        return any(name == metric for line in self.lines for name, *_ in line.get("points") or ())

    @property
    def spans(self) -> dict[str, dict[str, Any]]:
        """Every finished span by its name."""
        return {line["span"]: line for line in self.lines if "span" in line}


def _nothing(_: Outcome) -> None:
    """Ask no more than what is asked of every case."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One fault, one row of the table.

    Attributes:
        name: For the test.
        happens: What goes wrong, in words: a row's first column.
        missing: What is missing afterwards: its second.
        said: What was said about it: its third.
        fault: Where the fault is: ``faults.forks:in_a_sample``.
        argument: What it is given (JSON).
        options: Of `instrument()`.
        environ: More environment variables of the job.
        steps: How many steps the training has; each takes about 4 ms.
        added: Seconds of the whole process that we may add at the most: wide, for it is there to find what hangs.
        added_at_end: Of these, at the most after the training's end; None for all of them.
        stops_within: Seconds that `uninstrument()` may take; None where the case does not measure it.
        felt: Whether training without us meets the fault, too; what is a fault to us alone is held against no fault at all.
        check: Looks at what is missing and what was said, and raises where it is not so.
    """

    name: str
    happens: str
    missing: str
    said: str
    fault: str
    argument: Any = None
    options: Mapping[str, Any] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)
    steps: int = 150
    added: float = 2.0
    added_at_end: float | None = None
    stops_within: float | None = None
    felt: bool = True
    check: Callable[[Outcome], None] = _nothing

    def run(self, *, instrumented: bool) -> Outcome:
        """Run the job once."""
        plan = {
            "instrumented": instrumented,
            "fault": self.fault,
            "argument": self.argument,
            "options": {"sample_interval": 0.2, **self.options},
            "steps": self.steps,
        }
        return _run(json.dumps(plan, sort_keys=True), tuple(sorted(self.environ.items())))


def without_us(case: Case) -> Outcome:
    """The job without otel_hwmetrics; run once for all cases of one fault."""
    fault, argument = (case.fault, case.argument) if case.felt else ("faults.plain:nothing", None)
    plain: dict[str, Any] = {
        "fault": fault,
        "argument": argument,
        "steps": case.steps,
        "options": {},
        "instrumented": False,
    }
    return _once(json.dumps(plain, sort_keys=True), tuple(sorted(case.environ.items())))


def _run(plan: str, environ: tuple[tuple[str, str], ...]) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="hwmetrics-fault-") as folder:
        told = Path(folder, "told")
        told.touch()
        # To measure its coverage would take the job twice as long, and more from us than from the training. A proxy would
        # stand between the job and the backend that the fault is about.
        inherited = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("OTEL_", "COVERAGE_")) and not key.lower().endswith("_proxy")
        }
        paths = os.pathsep.join(filter(None, (str(HERE.parent), os.environ.get("PYTHONPATH"))))
        process = subprocess.run(
            [sys.executable, str(HERE / "training.py"), json.dumps({**json.loads(plan), "told": str(told)})],
            # Quiet, as with users: what a fault of ours would do to training is what is asked here.
            env=inherited | {"PYTHONPATH": paths, "OTEL_PYTHON_HWMETRICS_LOUD": "0", "TMPDIR": folder} | dict(environ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=LONGEST,
            check=False,
        )
        end = time.monotonic()
        lines = [json.loads(line) for line in told.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
    known = {key: value for line in lines for key, value in line.items()}
    return Outcome(
        result=known.get("result"),
        code=process.returncode,
        seconds=end - known["began"] - known.get("waited", 0.0),
        ending=end - known["done"] if "done" in known else None,
        stop=known.get("stopped_within"),
        cpu=known.get("cpu"),
        lines=lines,
        words=process.stdout,
    )


_once = functools.cache(_run)
