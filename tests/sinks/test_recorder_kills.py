# SPDX-License-Identifier: Apache-2.0
"""SIGKILL at random moments: every recording opens, is whole, and misses no more than the last batch. `make kills` has 50."""

from __future__ import annotations

from pathlib import Path

from recorded_kills import kill_some


def test_a_kill_takes_the_last_batch_at_most(tmp_path: Path) -> None:
    """All that was written in a transaction that was over is there, in order; and nothing that was never given."""
    left = kill_some(8, 4, tmp_path)
    assert len(left) == 8
    for each in left:
        assert each.broken == ""
        if each.committed:
            assert each.recorded is not None
            assert each.committed <= each.recorded <= each.given
            assert each.spans > 0
    assert any(each.committed for each in left)
