# SPDX-License-Identifier: Apache-2.0
"""Which GPUs are a job's: those on which its processes have memory, else those that it may use."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

from otel_hwmetrics.catalog import gpu
from otel_hwmetrics.model import Reading, Snapshot
from otel_hwmetrics.sources.base import Clock
from otel_hwmetrics.sources.gpu.nvidia.ours import Ours

VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
_HIDE_ALL: Final = {"", "-1", "none", "void", "nodevfiles"}


class GpuLists(Ours):
    """What the driver says of who has memory on each GPU, for several jobs. The launcher's own tree is all of them.

    Told on the source's thread, asked on the sampler's.
    """

    every = 3.0
    """A list costs the driver milliseconds (`otel_hwmetrics.sources.gpu.nvidia.processes`)."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._memory: Mapping[str, tuple[float, Mapping[int, int | None]]] = {}

    def heard(self, gpu: str, memory: Mapping[int, int | None]) -> None:
        """See `Ours`."""
        self._memory = {
            **self._memory,
            gpu: (self._clock(), dict(memory)),
        }  # another one each time: it may be being read

    @property
    def tells(self) -> bool:
        """Whether the driver tells whose processes they are: not to a container with numbers of its own, nor where it is AMD's."""
        return self.can_tell and bool(self._memory)

    def of(self, pids: Collection[int], since: float) -> dict[str, int | None] | None:
        """By GPU, the bytes that some processes have on it together; None of one where it does not tell how many.

        None for all where a list is from before these processes: then nothing is known yet.

        Args:
            pids: By the host's numbers.
            since: When the first of them began, in seconds of the monotonic clock.
        """
        lists = self._memory
        if any(at < since for at, _ in lists.values()):
            return None
        found: dict[str, int | None] = {}
        for uuid, (_, memory) in lists.items():
            sizes = [size for pid, size in memory.items() if pid in pids]
            if sizes:
                known = [size for size in sizes if size is not None]
                found[uuid] = sum(known) if len(known) == len(sizes) else None
        return found


class Claim(NamedTuple):
    """What tells which GPUs are a job's.

    Attributes:
        pids: Its processes, by the host's numbers.
        since: When it began, in seconds of the monotonic clock.
        visible: Its own ``CUDA_VISIBLE_DEVICES``; None for none.
        alone: Whether no other job runs: else it is not known whose a GPU is that the driver says nothing of.
    """

    pids: Collection[int]
    since: float
    visible: str | None = None
    alone: bool = True


def gpus_of(lists: GpuLists, snapshot: Snapshot, claim: Claim) -> tuple[dict[str, float], bool] | None:
    """By GPU, the memory on it that is a job's; and whether the driver tells that. None where nothing is known."""
    used = {str(reading.attributes[gpu.HW_ID]): reading for reading in snapshot.of(gpu.MEMORY_USAGE)}
    if not lists.tells:
        if not used or not (claim.alone or claim.visible is not None):
            return None
        return {each: reading.value for each, reading in used.items() if _is_visible(reading, claim.visible)}, False
    told = lists.of(claim.pids, claim.since)
    if told is None:
        return None
    # Of a GPU that is divided, the list of the whole has the processes of its parts, too.
    divided = {str(used[each].attributes.get(gpu.HW_PARENT)) for each in told if each in used}
    memory: dict[str, float] = {}
    for each, ours in told.items():
        size = ours if ours is not None else used[each].value if each in used else None
        if each not in divided and size is not None:
            memory[each] = float(size)
    return memory, True


def _is_visible(reading: Reading, visible: str | None) -> bool:
    """Whether a job may use a GPU; where its words mean none that is known here, any."""
    if visible is None:
        return True
    if visible.strip().lower() in _HIDE_ALL:
        return False
    entries = [entry.strip() for entry in visible.split(",")]
    uuid, index = str(reading.attributes[gpu.HW_ID]), reading.attributes.get(gpu.GPU_INDEX)
    return any(entry == str(index) or (not entry.isdecimal() and uuid.startswith(entry)) for entry in entries)
