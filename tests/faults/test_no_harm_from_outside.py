# SPDX-License-Identifier: Apache-2.0
"""Every fault of the table that comes from outside the job: the driver, the system, the backend, other users."""

from __future__ import annotations

import pytest

from faults.case import Case
from faults.harm import assert_no_harm
from faults.table import FROM_OUTSIDE


@pytest.mark.parametrize("case", FROM_OUTSIDE, ids=[case.name for case in FROM_OUTSIDE])
def test_training_is_not_harmed(case: Case) -> None:
    """The result to the last bit, the exit status, the time; then what is missing and what was said."""
    assert_no_harm(case)
