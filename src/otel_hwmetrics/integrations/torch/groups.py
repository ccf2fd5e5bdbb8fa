# SPDX-License-Identifier: Apache-2.0
"""What PyTorch's process group tells: which process of how many this is."""

from __future__ import annotations

from typing import Any

from otel_hwmetrics import ranks
from otel_hwmetrics._guard import guard
from otel_hwmetrics.model import Attribute

_torch: Any = None


def begin(torch: Any) -> None:
    """Ask this module from now on."""
    global _torch  # noqa: PLW0603 - there is one PyTorch in a process
    _torch = torch
    ranks.ask(identity)


def end() -> None:
    """Ask nobody."""
    global _torch  # noqa: PLW0603 - as above
    _torch = None
    ranks.ask(None)


def identity() -> dict[str, Attribute]:
    """Rank and world size by the process group; empty while there is none.

    Nobody waits: both are numbers that the group was made with. From any thread.
    """
    with guard("asking the process group for the rank"):
        distributed: Any = getattr(_torch, "distributed", None)
        if distributed is not None and distributed.is_available() and distributed.is_initialized():
            return {ranks.RANK: distributed.get_rank(), ranks.WORLD_SIZE: distributed.get_world_size()}
    return {}
