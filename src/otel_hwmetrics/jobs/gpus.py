# SPDX-License-Identifier: Apache-2.0
"""Which GPUs are a job's: those on which its processes have memory, else those that it may use."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

from otel_hwmetrics.catalog import gpu
from otel_hwmetrics.model import Reading, Snapshot
from otel_hwmetrics.sources.base import Clock
from otel_hwmetrics.sources.gpu.amd.visible import visible
from otel_hwmetrics.sources.gpu.nvidia.ours import Ours

VARIABLES: Final = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
"""Variables that say which GPUs a job may use."""
_LOST_AFTER: Final = 10.0  # seconds
_AMD: Final = "AMD"
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
        self._memory: Mapping[str, _List] = {}

    def heard(self, gpu: str, memory: Mapping[int, int | None]) -> None:
        """See `Ours`."""
        before = self._memory[gpu].at if gpu in self._memory else None
        made = _List(self._clock(), before, dict(memory))
        self._memory = {**self._memory, gpu: made}  # another one each time: it may be being read

    @property
    def tells(self) -> bool:
        """Whether the driver tells whose processes they are: not to a container with numbers of its own, nor where it is AMD's."""
        return self.can_tell and bool(self._memory)

    def of(self, pids: Collection[int], since: float) -> dict[str, int | None] | None:
        """By GPU, the bytes that some processes have on it together; None of one where it does not tell how many.

        None for all where a list is from before these processes: then nothing is known yet. A GPU that is not heard of any
        more, as one that has fallen off the bus, is left out.

        Args:
            pids: By the host's numbers.
            since: When the first of them began, in seconds of the monotonic clock.
        """
        lists = self._lists()
        if any(each.at < since for each in lists.values()):
            return None
        found: dict[str, int | None] = {}
        for uuid, each in lists.items():
            sizes = [size for pid, size in each.memory.items() if pid in pids]
            if sizes:
                known = [size for size in sizes if size is not None]
                found[uuid] = sum(known) if len(known) == len(sizes) else None
        return found

    def _lists(self) -> Mapping[str, _List]:
        """Those of GPUs that are still heard of: none was twice while another was not, in longer than a look may take."""
        lists = self._memory
        newest = max((each.at for each in lists.values()), default=0.0)
        again = max((each.before for each in lists.values() if each.before is not None), default=float("-inf"))
        return {uuid: each for uuid, each in lists.items() if each.at >= again or newest - each.at <= _LOST_AFTER}


class _List(NamedTuple):
    """A GPU's list: when it was heard, when the one before was, and the memory by process."""

    at: float
    before: float | None
    memory: Mapping[int, int | None]


class Visible(NamedTuple):
    """Which GPUs a job may use, by its environment.

    Attributes:
        environ: Those of the `VARIABLES` that it has and that the GPUs were not chosen by yet.
        own: Whether the job itself sets one. What all jobs inherit leaves the same GPUs to each of them.
    """

    environ: Mapping[str, str]
    own: bool = False


NO_GPU: Final = Visible({"CUDA_VISIBLE_DEVICES": "", "ROCR_VISIBLE_DEVICES": ""})


def visible_to(own: Mapping[str, str], inherited: Mapping[str, str], *, every: bool) -> Visible:
    """Which GPUs a job may use.

    Args:
        own: The variables that the job itself sets.
        inherited: Those of the launcher.
        every: Whether every GPU of the machine is looked at: else it is those that the launcher may use.
    """
    said = {**(inherited if every else {}), **own}
    return Visible({name: said[name] for name in VARIABLES if name in said}, any(name in own for name in VARIABLES))


class Claim(NamedTuple):
    """What tells which GPUs are a job's.

    Attributes:
        pids: Its processes, by the host's numbers.
        since: When it began, in seconds of the monotonic clock.
        visible: Which it may use.
        alone: Whether no other job runs: else it is not known whose a GPU is that the driver says nothing of.
    """

    pids: Collection[int]
    since: float
    visible: Visible = Visible({})
    alone: bool = True


def gpus_of(lists: GpuLists, snapshot: Snapshot, claim: Claim) -> tuple[dict[str, float], bool] | None:
    """By GPU, the memory on it that is a job's; and whether the driver tells that. None where nothing is known."""
    used = {str(reading.attributes[gpu.HW_ID]): reading for reading in snapshot.of(gpu.MEMORY_USAGE)}
    if not lists.tells:
        if not used or not (claim.alone or claim.visible.own):
            return None
        left = _left(used.values(), claim.visible.environ)
        return {each: reading.value for each, reading in used.items() if each in left}, False
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


def _left(readings: Collection[Reading], environ: Mapping[str, str]) -> set[str]:
    """The GPUs that an environment leaves, each maker's by the maker's rules."""
    amd = sorted((each for each in readings if each.attributes.get(gpu.HW_VENDOR) == _AMD), key=_number)
    uuids = [str(each.attributes[gpu.HW_ID]) for each in amd]
    others = [each for each in readings if each.attributes.get(gpu.HW_VENDOR) != _AMD]
    setting = environ.get("CUDA_VISIBLE_DEVICES")
    return {uuids[place] for place in visible(environ, uuids)} | {
        str(each.attributes[gpu.HW_ID]) for each in others if _is_visible(each, setting)
    }


def _number(reading: Reading) -> int:
    """By which ROCm calls a GPU, as far as that is known."""
    number = reading.attributes.get(gpu.CUDA_ORDINAL, reading.attributes.get(gpu.GPU_INDEX))
    return number if isinstance(number, int) else 0


def _is_visible(reading: Reading, setting: str | None) -> bool:
    """Whether a job may use a GPU; where its words mean none that is known here, any."""
    if setting is None:
        return True
    if setting.strip().lower() in _HIDE_ALL:
        return False
    entries = [entry.strip() for entry in setting.split(",")]
    uuid, index = str(reading.attributes[gpu.HW_ID]), reading.attributes.get(gpu.GPU_INDEX)
    return any(entry == str(index) or (not entry.isdecimal() and uuid.startswith(entry)) for entry in entries)
