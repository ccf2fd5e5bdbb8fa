# SPDX-License-Identifier: Apache-2.0
"""What PyTorch's DistributedDataParallel has measured of the exchange of gradients; asked where it has just noted that.

Its `torch.distributed.Logger` copies numbers that it keeps in any case, and synchronises nothing. But it takes a lock, and
a backward pass holds that lock while it waits for the other processes, and while it calls a communication hook, in which a
job may step its optimizer. Whoever asks elsewhere, at the end of a step or on another thread, may wait for ever. So it is
asked in one place: within ``DistributedDataParallel.forward``, on its thread, between two calls that take the same lock one
after the other, ``Logger.set_runtime_stats_and_log`` and ``Reducer.prepare_for_forward``. Where this would wait, the job
would wait there without it. Sources: ``torch/nn/parallel/distributed.py`` and ``logger.cpp`` and ``reducer.cpp`` in
``torch/csrc/distributed/c10d`` of https://github.com/pytorch/pytorch.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from otel_hwmetrics._guard import guard
from otel_hwmetrics.catalog import distributed as rows
from otel_hwmetrics.model import Reading, Series
from otel_hwmetrics.sources.base import Clock, Item, Reader

ASKED_EVERY: Final = 5.0
"""Seconds between two answers of a module."""
ASKED_AGAIN: Final = 0.5
"""Seconds after which a module is asked again that had measured nothing."""
TOLD_FOR: Final = 60.0
"""Seconds for which an answer is told again while there is no newer one; a reader that exports as seldom so hears of each."""

_COMMUNICATION = Series(rows.DDP_COMMUNICATION)
_EXPOSED = Series(rows.DDP_EXPOSED)


class _Answer(NamedTuple):
    at: float
    communication: float
    exposed: float


class _Asked(NamedTuple):
    due: float = 0.0
    """When to ask again."""
    step: object = None
    """Which step it told of."""


_NEVER: Final = _Asked()


class Exchange:
    """Asks each logger now and then, and tells the newest answer.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._asked: weakref.WeakKeyDictionary[Any, _Asked] = weakref.WeakKeyDictionary()
        self._answer: _Answer | None = None
        self.is_read = False
        """Whether anybody reads what is answered; otherwise nobody is asked."""

    def noted(self, logger: Any) -> None:
        """Ask a `torch.distributed.Logger` if it is time, and if anybody reads what it answers.

        To be called right after `set_runtime_stats_and_log` has returned, on the same thread, and nowhere else: see above.
        """
        if not self.is_read:
            return
        with guard("asking DistributedDataParallel what it has measured"):
            now = self._clock()
            asked = self._asked.get(logger, _NEVER)
            if now < asked.due:
                return
            self._asked[logger] = asked._replace(due=now + ASKED_AGAIN)
            told = logger._get_ddp_logging_data().ints_map  # noqa: SLF001 - what the module's own method of this name asks
            step, took = told.get("iteration"), told.get("backward_comm_time", 0)
            if took > 0:
                self._asked[logger] = _Asked(now + ASKED_EVERY, step)
                if step != asked.step:
                    hidden = told.get("backward_compute_comm_overlap_time", 0)
                    self._answer = _Answer(now, took / 1e9, max(0, took - hidden) / 1e9)

    def readings(self) -> Iterator[Item]:
        """What is known now. On the thread of its source."""
        self.is_read = True
        answer = self._answer
        if answer is not None and self._clock() - answer.at <= TOLD_FOR:
            yield Reading(_COMMUNICATION, answer.communication, answer.at)
            yield Reading(_EXPOSED, answer.exposed, answer.at)


EXCHANGE: Final = Exchange()
"""That of this process."""

READER: Final = Reader[Exchange](
    (rows.DDP_COMMUNICATION, rows.DDP_EXPOSED),
    Exchange.readings,
    call="torch.distributed.Logger._get_ddp_logging_data",
    where="PyTorch jobs on DistributedDataParallel, while the integration torch is on",
)
