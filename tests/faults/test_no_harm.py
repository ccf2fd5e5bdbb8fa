# SPDX-License-Identifier: Apache-2.0
"""Every fault of the table that begins in the job itself: its processes, its end, threads of ours."""

from __future__ import annotations

import pytest

from faults.case import Case
from faults.harm import assert_no_harm
from faults.table import OF_THE_JOB


@pytest.mark.parametrize("case", OF_THE_JOB, ids=[case.name for case in OF_THE_JOB])
def test_training_is_not_harmed(case: Case) -> None:
    """The result to the last bit, the exit status, the time; then what is missing and what was said."""
    assert_no_harm(case)
