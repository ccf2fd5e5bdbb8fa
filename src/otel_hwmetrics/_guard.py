# SPDX-License-Identifier: Apache-2.0
"""The one broad ``except`` of the house.

We are guests in somebody's training job: a fault of ours must not end it. Faults that are expected (a device gone, a
file unreadable) are caught where they happen, by their type; this guard is for those that nobody foresaw. It counts
each, logs the first of its kind, and goes on. The project's own tests set `LOUD`, so that there it hides nothing.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_logger = logging.getLogger("otel_hwmetrics")

LOUD = os.environ.get("OTEL_PYTHON_HWMETRICS_LOUD") == "1"
"""Raise instead of passing over. Not tied to pytest: users run their training under pytest, too."""

faults: Counter[str] = Counter()
"""How often each place failed since the process began; exported as ``hwmetrics.internal.errors``."""


@contextmanager
def guard(place: str, otherwise: Callable[[Exception], object] | None = None) -> Iterator[None]:
    """Pass over any fault of the block, on whatever thread. KeyboardInterrupt and SystemExit go through.

    Args:
        place: What the block does, in a few words; it names the fault in logs and metrics.
        otherwise: Called with the fault that was passed over.
    """
    try:
        yield
    except Exception as error:
        if LOUD:
            raise
        faults[place] += 1
        if faults[place] == 1:
            _logger.warning(
                "otel_hwmetrics failed at: %s. Training is not affected; further failures there are only counted.",
                place,
                exc_info=True,
            )
        if otherwise is not None:
            otherwise(error)
