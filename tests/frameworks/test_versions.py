# SPDX-License-Identifier: Apache-2.0
"""That the frameworks of this run are those that are named: the newest, or where their folder goes first the oldest."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

HERE = Path(__file__).parent
OLDEST = any(Path(folder).name == "oldest" for folder in sys.path)


@pytest.mark.oldest
@pytest.mark.parametrize("asked", [HERE / ("oldest.txt" if OLDEST else "newest.txt")], ids=lambda path: path.stem)
def test_the_versions_are_those_that_are_asked_for(asked: Path) -> None:
    """Each as its line says."""
    lines = [line for line in asked.read_text().splitlines() if line and not line.startswith("#")]
    assert lines
    for requirement in map(Requirement, lines):
        assert requirement.specifier.contains(version(requirement.name)), requirement
