# SPDX-License-Identifier: Apache-2.0
"""The page of faults: each case of the suite in `tests/faults` is a row, so that what it says is what is tried."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from words import anchor, table

sys.path.append(str(Path(__file__).parents[2] / "tests"))

from faults.table import SUBJECTS

ABOUT: Final = """\
# What may go wrong, and what is left

A monitor lives in somebody's job. Each row below is a fault that is made to happen in a real process that trains: with
otel_hwmetrics and without. Each time

- the weights that come out are the same to the last bit,
- the process ends with the same exit status,
- the CPU time of the training's own thread is at most half as much again and a tenth of a second, and
- the process takes no longer than the seconds of the last column more. These are wide, for they are there to find what
  hangs: all that the fault's own part of the job does is in them, on a machine that is busy elsewhere.

Of the times the best of five tries counts: machines are noisy.

What is missing is only what the fault took, and that is said. The rows are the cases of `tests/faults`: `make test` runs
them, and this page is written from them.
"""


def reliability() -> str:
    """The page."""
    parts = [ABOUT]
    parts += [f"- [{subject}](#{anchor(subject)})" for subject in SUBJECTS]
    for subject, cases in SUBJECTS.items():
        rows = [(case.happens, case.missing, case.said, f"{case.added:g}") for case in cases]
        parts += [f"\n## {subject}\n", table(("What happens", "What is missing", "What is said", "At most, s"), *rows)]
    return "\n".join(parts) + "\n"
