# SPDX-License-Identifier: Apache-2.0
"""Which GPUs are a job's: those on which its processes have memory, else those that it may use."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from otel_hwmetrics.catalog import gpu
from otel_hwmetrics.model import Reading, Snapshot
from otel_hwmetrics.sources.gpu.nvidia.ours import Ours

VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
_HIDE_ALL: Final = {"", "-1", "none", "void", "nodevfiles"}


class GpuLists(Ours):
    """What the driver says of who has memory on each GPU, for several jobs. The launcher's own tree is all of them.

    Told on the source's thread, asked on the sampler's.
    """

    every = 5.0
    """A list costs the driver milliseconds (`otel_hwmetrics.sources.gpu.nvidia.processes`)."""

    def __init__(self, proc: str = "/proc", root: int | None = None) -> None:
        super().__init__(proc, root)
        self._memory: Mapping[str, Mapping[int, int | None]] = {}

    def heard(self, gpu: str, memory: Mapping[int, int | None]) -> None:
        """See `Ours`."""
        self._memory = {**self._memory, gpu: dict(memory)}  # another one each time: it may be being read

    def of(self, pids: Collection[int]) -> dict[str, int | None] | None:
        """By GPU, the bytes that some processes have on it together; None of one where it does not tell how many.

        None where it does not tell whose processes they are: in a container with numbers of its own, or before the first look.
        """
        lists = self._memory
        if not lists or not self.can_tell:
            return None
        found: dict[str, int | None] = {}
        for uuid, memory in lists.items():
            sizes = [size for pid, size in memory.items() if pid in pids]
            if sizes:
                known = [size for size in sizes if size is not None]
                found[uuid] = sum(known) if len(known) == len(sizes) else None
        return found


def gpus_of(
    lists: GpuLists, snapshot: Snapshot, pids: Collection[int], visible: str | None, *, alone: bool
) -> tuple[dict[str, float], bool] | None:
    """By GPU, the memory on it that is a job's; and whether the driver tells that. None where nothing is known.

    Args:
        lists: Whose memory is where.
        snapshot: The look.
        pids: The job's processes, by the host's numbers.
        visible: The job's own ``CUDA_VISIBLE_DEVICES``; None for none.
        alone: Whether no other job runs: else it is not known whose a GPU is that the driver says nothing of.
    """
    used = {str(reading.attributes[gpu.HW_ID]): reading for reading in snapshot.of(gpu.MEMORY_USAGE)}
    told = lists.of(pids)
    if told is not None:
        # Of a GPU that is divided, the list of the whole has the processes of its parts, too.
        divided = {str(used[each].attributes.get(gpu.HW_PARENT)) for each in told if each in used}
        memory: dict[str, float] = {}
        for each, ours in told.items():
            size = ours if ours is not None else used[each].value if each in used else None
            if each not in divided and size is not None:
                memory[each] = float(size)
        return memory, True
    if not used or not (alone or visible is not None):
        return None
    return {each: reading.value for each, reading in used.items() if _is_visible(reading, visible)}, False


def _is_visible(reading: Reading, visible: str | None) -> bool:
    """Whether a job may use a GPU; where its words mean none that is known here, any."""
    if visible is None:
        return True
    if visible.strip().lower() in _HIDE_ALL:
        return False
    entries = [entry.strip() for entry in visible.split(",")]
    uuid, index = str(reading.attributes[gpu.HW_ID]), reading.attributes.get(gpu.GPU_INDEX)
    return any(entry == str(index) or (not entry.isdecimal() and uuid.startswith(entry)) for entry in entries)
