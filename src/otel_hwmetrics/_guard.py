# SPDX-License-Identifier: Apache-2.0
"""The one place of the house that catches whatever comes.

We are guests in somebody's training job: a fault of ours must not end it. Faults that are expected (a device gone, a
file unreadable) are caught where they happen, by their type; this guard is for those that nobody foresaw. It counts
each, logs the first of its kind, and goes on. The project's own tests set `LOUD`, so that there it hides nothing.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable

from otel_hwmetrics import redaction

_logger = redaction.logger()

LOUD = os.environ.get("OTEL_PYTHON_HWMETRICS_LOUD") == "1"
"""Raise instead of passing over. Not tied to pytest: users run their training under pytest, too."""

faults: Counter[str] = Counter()
"""How often each place failed since the process began; exported as ``hwmetrics.internal.errors``."""


def staying(act: Callable[[], object], where: str) -> None:
    """Do something on a thread of ours; a way out of the program becomes an error: it would end the thread, and say nothing.

    Args:
        act: What to do.
        where: On what thread, in words.

    Raises:
        RuntimeError: It called for the end of the program, as `sys.exit` does, or that was thrown into the thread.
        Exception: Whatever else ``act`` raises.
    """
    try:
        act()
    except Exception:
        raise
    except BaseException as end:
        raise RuntimeError(f"{type(end).__name__} on {where} ends nothing") from end


class guard:  # noqa: N801 - reads like a word of the language, as contextlib's own
    """Pass over any fault of the block, on whatever thread. KeyboardInterrupt and SystemExit go through.

    A class and no generator: it stands around every reader of every sample, and takes a third of the time.

    Args:
        place: What the block does, in a few words; it names the fault in logs and metrics.
        otherwise: Called with the fault that was passed over.
    """

    __slots__ = ("_otherwise", "place")

    def __init__(self, place: str, otherwise: Callable[[Exception], object] | None = None) -> None:
        self.place = place
        self._otherwise = otherwise

    def __enter__(self) -> guard:  # noqa: PYI034 - Self is typing's from 3.11 on, and nobody derives from this
        """Begin the block, which may say by ``place`` how far it has come."""
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        """End it: True where a fault is passed over."""
        if error is None:
            return False
        if not isinstance(error, Exception) or LOUD:
            return False
        place = self.place
        faults[place] += 1
        if faults[place] == 1:
            _logger.warning(
                "otel_hwmetrics failed at: %s. Training is not affected; further failures there are only counted.",
                place,
                exc_info=error,
            )
        if self._otherwise is not None:
            self._otherwise(error)
        return True
