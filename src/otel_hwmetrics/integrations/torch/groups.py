# SPDX-License-Identifier: Apache-2.0
"""What PyTorch tells of a training by several processes: which of how many this is, and how long they exchange gradients.

For that the method in which DistributedDataParallel notes what it has measured is replaced in its class, and put back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from otel_hwmetrics import ranks
from otel_hwmetrics._guard import guard
from otel_hwmetrics.integrations.wrapping import Wrappings
from otel_hwmetrics.model import Attribute
from otel_hwmetrics.sources.exchange import EXCHANGE

_torch: Any = None
_wrappings = Wrappings()


def begin(torch: Any) -> None:
    """Ask this module from now on."""
    global _torch  # noqa: PLW0603 - there is one PyTorch in a process
    _torch = torch
    ranks.ask(identity)
    logger = getattr(getattr(torch, "distributed", None), "Logger", None)
    if logger is not None:
        _wrappings.around(logger, "set_runtime_stats_and_log", _note)


def end() -> None:
    """Ask nobody."""
    global _torch  # noqa: PLW0603 - as above
    _torch = None
    ranks.ask(None)
    _wrappings.undo()


def identity() -> dict[str, Attribute]:
    """Rank and world size by the process group; empty while there is none.

    Nobody waits: both are numbers that the group was made with. From any thread.
    """
    with guard("asking the process group for the rank"):
        distributed: Any = getattr(_torch, "distributed", None)
        if distributed is not None and distributed.is_available() and distributed.is_initialized():
            return {ranks.RANK: distributed.get_rank(), ranks.WORLD_SIZE: distributed.get_world_size()}
    return {}


def _note(noting: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    result = noting(*args, **kwargs)
    EXCHANGE.noted(instance)
    return result
