# SPDX-License-Identifier: Apache-2.0
"""Kernels for tests of trees, of every sort, and folders to show them in."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .scripted import Kernel


@pytest.fixture(params=["children", "loadavg", "both", "neither"])
def kernel(request: pytest.FixtureRequest, tmp_path: Path) -> Kernel:
    """Kernels that tell of births in one way, the other, both, or only by a list of all processes."""
    return Kernel(
        tmp_path, children=request.param in {"children", "both"}, loadavg=request.param in {"loadavg", "both"}
    )


@pytest.fixture
def folders() -> Iterator[Callable[[], Path]]:
    """Fresh folders, in memory where there is such a place."""
    made: list[Path] = []

    def fresh() -> Path:
        memory = Path("/dev/shm")  # noqa: S108 - holds figures that a test made up
        made.append(Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None)))
        return made[-1]

    yield fresh
    for folder in made:
        shutil.rmtree(folder)
