# SPDX-License-Identifier: Apache-2.0
"""How long steps take on the GPU, by CUDA events: recorded on the way, read when the GPU has long been past them.

Nothing here waits for a GPU, initialises one, or creates a context on one:

- ``torch.cuda.Event.record`` puts a mark into the current stream, behind the work that was given to it. It would create a
  context (hundreds of megabytes) on a device without one. So it is done only where the job has taken memory on the current
  device, which is asked of PyTorch's own books (``torch.cuda.memory_reserved``).
- ``torch.cuda.Event.query`` asks whether the GPU has come to the mark, and ``elapsed_time`` of two that it has come to how
  far they are apart; neither blocks.
- While the current stream is captured into a graph, nothing is called at all: a mark would become part of the graph, and a
  query would spoil the capture.

Sources: https://pytorch.org/docs/stable/generated/torch.cuda.Event.html, and of capturing
https://docs.nvidia.com/cuda/cuda-c-programming-guide/#prohibited-and-unhandled-operations.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple

from otel_hwmetrics import redaction
from otel_hwmetrics._guard import guard
from otel_hwmetrics.stepclock import CLOCK, StepClock

_logger = redaction.logger(__name__)

MOST_AHEAD: Final = 64
"""Steps that the CPU may be ahead of the GPU; what goes beyond is not timed, until the GPU has caught up."""
MOST_READ: Final = 4
"""Steps that are read at one call: a training thread is not held up by those of a long while."""
UNUSED_FOR: Final = 100
"""Steps until it is asked again whether the current device is used, when it is not."""


class _Step(NamedTuple):
    """Marks at both ends of a step, and the device that they are on."""

    device: int
    begun: Any
    ended: Any


class GpuTime:
    """Times the steps of one training thread on its GPU, and tells the step clock. Used on that thread alone.

    Where the current device is not the one that is trained on, or another at the end of a step than at its beginning,
    nothing is told; nor where PyTorch's allocator is not its native one, which alone says without CUDA what it holds. Should a
    call fail, as all do once a GPU has failed, no more are made.

    Args:
        torch: The module ``torch``, as the job has loaded it.
        clock: Is told the time of each step (`StepClock.tell_gpu_time`).
    """

    def __init__(self, torch: Any, clock: StepClock = CLOCK) -> None:
        self._cuda = torch.cuda
        self._clock = clock
        self._device = -1  # that of the spare marks
        self._spare: list[Any] = []
        self._begun: Any = None  # on that device
        self._under_way: deque[_Step] = deque()
        self._used: set[int] = set()
        self._pause = 0
        self._failed = False

    def begin(self) -> None:
        """A step begins. Raises nothing."""
        self._begun = None
        self._do(self._begin)

    def end(self) -> None:
        """The step has ended that was begun last; without one nothing is timed. Raises nothing."""
        begun, self._begun = self._begun, None
        self._do(partial(self._end, begun))

    def _do(self, act: Callable[[], object]) -> None:
        """Do something if CUDA may be called now."""
        with guard("timing a step on the GPU"):
            if self._failed or not self._cuda.is_initialized():
                return
            try:
                if not self._cuda.is_current_stream_capturing():
                    act()
            except RuntimeError as error:  # PyTorch's are; the device is lost, or a kernel of the job has failed
                self._failed = True
                self._begun = None
                self._under_way.clear()
                self._spare.clear()
                _logger.info("Steps are not timed on the GPU any more: %s", str(error).partition("\n")[0])

    def _begin(self) -> None:
        self._read()
        device = self._cuda.current_device()
        if len(self._under_way) >= MOST_AHEAD or not self._is_used(device):
            return
        if device != self._device:
            self._device = device
            self._spare.clear()
        self._begun = self._mark()

    def _end(self, begun: Any) -> None:
        if begun is not None and self._cuda.current_device() == self._device:
            self._under_way.append(_Step(self._device, begun, self._mark()))
        self._read()

    def _is_used(self, device: int) -> bool:
        """Whether the job has taken memory on a device."""
        if device in self._used:
            return True
        if self._pause:
            self._pause -= 1
            return False
        if self._cuda.get_allocator_backend() == "native" and self._cuda.memory_reserved(device) > 0:
            self._used.add(device)
            return True
        self._pause = UNUSED_FOR
        return False

    def _mark(self) -> Any:
        event = self._spare.pop() if self._spare else self._cuda.Event(enable_timing=True)
        event.record()
        return event

    def _read(self) -> None:
        """Tell of the steps that the GPU has done, the oldest first."""
        for _ in range(MOST_READ):
            if not self._under_way or not self._under_way[0].ended.query():
                return
            step = self._under_way.popleft()
            milliseconds = step.begun.elapsed_time(step.ended)
            if milliseconds > 0:
                self._clock.tell_gpu_time(milliseconds / 1e3)
            if step.device == self._device:
                self._spare += step.begun, step.ended
