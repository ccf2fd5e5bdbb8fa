# SPDX-License-Identifier: Apache-2.0
"""Every case there is, by what it is about; the page `docs/reliability.md` has them in this order."""

from __future__ import annotations

from typing import Final

from faults import children, plain
from faults.case import Case

SUBJECTS: Final[dict[str, tuple[Case, ...]]] = {
    "No fault": plain.CASES,
    "Processes that a training starts": children.CASES,
}

CASES: Final = tuple(case for cases in SUBJECTS.values() for case in cases)
