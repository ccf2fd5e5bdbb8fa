# SPDX-License-Identifier: Apache-2.0
"""Every fault of the table: training is as it would be without us, and only what the fault took is missing."""

from __future__ import annotations

import pytest

from faults.case import Case, without_us
from faults.table import CASES

TRIES = 3
"""How often a time is taken: a loaded machine may be late once, we may not be late each time."""


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_training_is_not_harmed(case: Case) -> None:
    """The result to the last bit, the exit status, the time; then what is missing and what was said."""
    without, with_us = without_us(case), case.run(instrumented=True)
    assert with_us.result == without.result, with_us.words
    assert with_us.code == without.code, with_us.words
    case.check(with_us)
    tries = [with_us.seconds - without.seconds]
    while tries[-1] > case.added and len(tries) < TRIES:
        tries.append(case.run(instrumented=True).seconds - case.run(instrumented=False).seconds)
    assert min(tries) <= case.added, tries
