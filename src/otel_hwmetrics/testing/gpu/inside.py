# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: RUF009 - the calls are `dataclasses.field`
"""What is on a GPU: processes, and the devices that MIG splits it into."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from otel_hwmetrics.testing.gpu.activity import Activity
from otel_hwmetrics.testing.gpu.board import GIB, Memory
from otel_hwmetrics.testing.gpu.settings import BYTES, COUNT, RATIO, Settings, choice, number, quantity, text, whole
from otel_hwmetrics.testing.values import Value

_PIDS: Final = 2**22


@dataclass(frozen=True, kw_only=True)
class FakeProcess(Settings):
    """A process that has a context on the GPU.

    Attributes:
        pid: Its number, as the host sees it.
        memory: Bytes it has allocated; None makes NVML answer all ones, as where the driver cannot tell.
        sm_utilization: Share of time its kernels ran.
        memory_utilization: Share of time it used device memory.
        encoder_utilization: Share of time it used the video encoder.
        decoder_utilization: Share of time it used the video decoder.
        kind: `"compute"` or `"graphics"`.
        gpu_instance_id: The MIG instance it runs on; None is a GPU without MIG.
        compute_instance_id: Likewise.
        since: When it came, in seconds since install.
        until: When it went.
    """

    pid: int = whole(0, 0, _PIDS)
    memory: Value | None = quantity(None, BYTES)
    sm_utilization: Value = quantity(0.0, RATIO)
    memory_utilization: Value = quantity(0.0, RATIO)
    encoder_utilization: Value = quantity(0.0, RATIO)
    decoder_utilization: Value = quantity(0.0, RATIO)
    kind: str = choice("compute", ("compute", "graphics"))
    gpu_instance_id: int | None = whole(None, 0, COUNT)
    compute_instance_id: int | None = whole(None, 0, COUNT)
    since: float = number(0.0, 0.0, math.inf, "seconds")
    until: float = number(1e15, 0.0, 1e15, "seconds")


@dataclass(frozen=True, kw_only=True)
class FakeMig(Memory, Activity):
    """One MIG device: a compute instance of a GPU instance, with memory and activity of its own.

    Attributes:
        profile: Compute and memory slices, as `nvidia-smi` prints them.
        name: The product name; empty is that of the GPU, `MIG` and the profile.
        uuid: As NVML prints it, `MIG-xxxxxxxx-xxxx-...`; empty derives one, always the same.
        gpu_instance_id: Empty counts from 1 on.
        compute_instance_id: Of that GPU instance.
        multiprocessors: How many it has.
        slices: Of the GPU's compute slices, how many it has.
    """

    memory_total: int = whole(10 * GIB, 1, BYTES, "bytes")
    profile: str = text("1g.10gb")
    name: str = text("")
    uuid: str = text("")
    gpu_instance_id: int | None = whole(None, 0, COUNT)
    compute_instance_id: int = whole(0, 0, COUNT)
    multiprocessors: int = whole(16, 1, COUNT)
    slices: int = whole(1, 1, 8)
