# SPDX-License-Identifier: Apache-2.0
"""What PyTorch's DistributedDataParallel has measured of the exchange of gradients; asked on the training's own thread.

``DistributedDataParallel._get_ddp_logging_data`` copies numbers that it keeps in any case, and synchronises nothing. It
takes a lock that a backward pass holds while it waits for the other processes; another thread that asked would wait for
them, too, and might keep from the backward pass what that waits for. So it is asked at the end of a step, when there is no
backward pass. Sources: ``torch/csrc/distributed/c10d/logger.cpp`` and ``reducer.cpp`` of https://github.com/pytorch/pytorch.
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
from otel_hwmetrics.stepclock import CLOCK, StepClock

ASKED_EVERY: Final = 5.0
"""Seconds between two questions."""
TOLD_FOR: Final = 60.0
"""Seconds for which an answer is told again while there is no newer one; a reader that exports as seldom so hears of each."""

_COMMUNICATION = Series(rows.DDP_COMMUNICATION)
_EXPOSED = Series(rows.DDP_EXPOSED)


class _Answer(NamedTuple):
    at: float
    communication: float
    exposed: float


class Exchange:
    """Asks the modules that it knows, at the end of a step, and tells the newest answer.

    Args:
        step_clock: Calls at the end of a step.
        clock: Monotonic seconds.
    """

    def __init__(self, step_clock: StepClock = CLOCK, clock: Clock = time.monotonic) -> None:
        self._step_clock = step_clock
        self._clock = clock
        self._modules: weakref.WeakKeyDictionary[Any, object] = weakref.WeakKeyDictionary()  # which step each told last
        self._answer: _Answer | None = None
        self._due = 0.0

    def know(self, module: Any) -> None:
        """Ask this DistributedDataParallel from now on, for as long as it lives. From any thread."""
        self._modules[module] = None

    def readings(self) -> Iterator[Item]:
        """What is known now; has the modules asked when it is time. On the thread of its source."""
        now = self._clock()
        if len(self._modules) and now >= self._due:
            self._due = now + ASKED_EVERY
            self._step_clock.at_next_step(self._ask)
        answer = self._answer
        if answer is not None and now - answer.at <= TOLD_FOR:
            yield Reading(_COMMUNICATION, answer.communication, answer.at)
            yield Reading(_EXPOSED, answer.exposed, answer.at)

    def _ask(self) -> None:
        """Called on a thread that trains, at the end of a step."""
        for module in tuple(self._modules):
            with guard("asking DistributedDataParallel what it has measured"):
                told = module._get_ddp_logging_data()  # noqa: SLF001 - see above
                step, took = told.get("iteration"), told.get("backward_comm_time", 0)
                if took > 0 and step != self._modules.get(module):
                    self._modules[module] = step
                    hidden = told.get("backward_compute_comm_overlap_time", 0)
                    self._answer = _Answer(self._clock(), took / 1e9, max(0, took - hidden) / 1e9)


EXCHANGE: Final = Exchange()
"""That of this process."""

READER: Final = Reader[Exchange](
    (rows.DDP_COMMUNICATION, rows.DDP_EXPOSED),
    Exchange.readings,
    call="torch.nn.parallel.DistributedDataParallel._get_ddp_logging_data",
    where="PyTorch jobs on DistributedDataParallel, while the integration torch is on",
)
