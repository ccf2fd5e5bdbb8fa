# SPDX-License-Identifier: Apache-2.0
"""What is put around a few things of Lightning that have no hook, or one in their middle.

- **Checkpoints.** ``on_save_checkpoint`` is called while the checkpoint is put together, before a byte is written.
  ``Trainer.save_checkpoint`` is the public door that all go through, ``ModelCheckpoint``, ``OnExceptionCheckpoint``, what
  SLURM's requeueing saves and the user's own calls; with a plugin that writes in the background it is what training waits.
- **Waits for data.** Between the end of a batch and the start of the next, Lightning also logs (for which it may wait for
  the GPU), schedules and moves the batch to the device. ``CombinedLoader`` is what it fetches all batches from, of both
  packages and since 2.0.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

from otel_hwmetrics._guard import guard
from otel_hwmetrics.integrations.lightning import LIGHTNING
from otel_hwmetrics.integrations.telling import Teller
from otel_hwmetrics.integrations.wrapping import within
from otel_hwmetrics.stepclock import CLOCK

_FETCHING: Final = guard("telling a wait for data of lightning")


class _Local(threading.local):
    def __init__(self) -> None:
        # Who tells a Trainer on this thread, and that; the innermost last. Weak, since not everybody ends what they begin.
        self.told: list[tuple[weakref.ref[Teller], weakref.ref[Any]]] = []


_LOCAL: Final = _Local()
_wrapped: set[str] = set()


def wrap(module: ModuleType) -> None:
    """Put it around those of one of the packages; once, until `LIGHTNING.leave`."""
    around = LIGHTNING.wrappings.around
    if not LIGHTNING.wrappings:
        _wrapped.clear()
    if module.__name__ not in _wrapped:
        _wrapped.add(module.__name__)
        around(module.Trainer, "save_checkpoint", _saves)
        loader = sys.modules[f"{module.__name__}.utilities.combined_loader"].CombinedLoader
        for fetching in ("__iter__", "__next__"):
            around(loader, fetching, _fetches)


def begin(ours: Teller, trainer: object) -> None:
    """From now on a Trainer is told on this thread, perhaps within another one's run."""
    end(ours)
    _LOCAL.told.append((weakref.ref(ours), weakref.ref(trainer)))


def end(ours: Teller) -> None:
    """No more by that one; whose run it was within is told as before."""
    _LOCAL.told[:] = [each for each in _LOCAL.told if each[0]() is not ours and each[1]() is not None]


def _saves(wrapped: Callable[..., Any], trainer: Any, args: Any, kwargs: Any) -> Any:
    ours = next((each for each in trainer.callbacks if _tells(each)), None)
    return wrapped(*args, **kwargs) if ours is None else within(ours.run, "checkpoint", wrapped, args, kwargs)


def _tells(callback: object) -> bool:
    return isinstance(callback, Teller) and callback.framework is LIGHTNING and callback.tells


def _fetches(wrapped: Callable[..., Any], _loader: Any, args: Any, kwargs: Any) -> Any:
    waits = False
    with _FETCHING:
        told = _LOCAL.told[-1][1]() if _LOCAL.told else None
        waits = told is not None and told.training and CLOCK.begin_wait()
    try:
        return wrapped(*args, **kwargs)
    finally:
        if waits:
            CLOCK.end_wait()
