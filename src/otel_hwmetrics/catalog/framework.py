# SPDX-License-Identifier: Apache-2.0
"""What the frameworks' own allocators say of a device's memory (PyTorch, JAX).

A driver sees what an allocator has taken from it, and not how much of that tensors use; so these stand beside
``hw.gpu.memory.usage``. They are this process's own, and no other's. The meaning of PyTorch's numbers:
https://docs.pytorch.org/docs/stable/generated/torch.cuda.memory.memory_stats.html
"""

from __future__ import annotations

from otel_hwmetrics.catalog.gpu import CUDA_ORDINAL, HW_ID, HW_MODEL
from otel_hwmetrics.model import Kind, Metric, Origin, Unit

TORCH_DEVICE = "hwmetrics.torch.device"
"""What PyTorch calls the device: ``cuda:0``, on ROCm, too; ``xpu:0``."""
JAX_DEVICE = "hwmetrics.jax.device"
"""What JAX calls the device: its platform and its number among those of all hosts, ``gpu:0``, ``tpu:5``."""

OF_TORCH = (HW_ID, HW_MODEL, CUDA_ORDINAL, TORCH_DEVICE)
"""Keys of what PyTorch's allocator holds on one device; ``hw.id`` where its UUID is known to be that of the driver."""
OF_JAX = (HW_MODEL, CUDA_ORDINAL, JAX_DEVICE)
"""Keys of what JAX's allocator holds on one device; JAX does not tell UUIDs."""

TORCH_ALLOCATED = Metric(
    "hwmetrics.torch.memory.allocated",
    Kind.UP_DOWN_COUNTER,
    Unit.BYTE,
    "Device memory that PyTorch's tensors occupy.",
    attributes=OF_TORCH,
    integer=True,
)
TORCH_ALLOCATED_PEAK = Metric(
    "hwmetrics.torch.memory.allocated.peak",
    Kind.UP_DOWN_COUNTER,
    Unit.BYTE,
    "Most device memory that PyTorch's tensors occupied since the job last reset its peak statistics, if it ever did.",
    attributes=OF_TORCH,
    integer=True,
)
TORCH_RESERVED = Metric(
    "hwmetrics.torch.memory.reserved",
    Kind.UP_DOWN_COUNTER,
    Unit.BYTE,
    "Device memory that PyTorch's allocator holds, for tensors and cached.",
    attributes=OF_TORCH,
    integer=True,
)
TORCH_RESERVED_PEAK = Metric(
    "hwmetrics.torch.memory.reserved.peak",
    Kind.UP_DOWN_COUNTER,
    Unit.BYTE,
    "Most device memory that PyTorch's allocator held since the job last reset its peak statistics, if it ever did.",
    attributes=OF_TORCH,
    integer=True,
)
TORCH_INACTIVE_SPLIT = Metric(
    "hwmetrics.torch.memory.inactive_split",
    Kind.UP_DOWN_COUNTER,
    Unit.BYTE,
    "Device memory lost to fragmentation: free parts of blocks that PyTorch's allocator cannot give back.",
    attributes=OF_TORCH,
    integer=True,
)
TORCH_RETRIES = Metric(
    "hwmetrics.torch.memory.allocation.retries",
    Kind.COUNTER,
    Unit.ALLOCATION,
    "Allocations that failed until PyTorch's allocator had given its cached blocks back to the device.",
    attributes=OF_TORCH,
    integer=True,
    origin=Origin.ZERO,
)
TORCH_OOMS = Metric(
    "hwmetrics.torch.memory.ooms",
    Kind.COUNTER,
    Unit.ERROR,
    "Out-of-memory errors that PyTorch's allocator raised.",
    attributes=OF_TORCH,
    integer=True,
    origin=Origin.ZERO,
)
TORCH_OTHER = Metric(
    "hwmetrics.torch.memory.other",
    Kind.UP_DOWN_COUNTER,
    Unit.BYTE,
    "GPU memory in use that is not held by this process's PyTorch allocator: CUDA contexts, buffers of NCCL and other "
    "libraries, other processes.",
    attributes=OF_TORCH,
    integer=True,
)
JAX_ALLOCATED = Metric(
    "hwmetrics.jax.memory.allocated",
    Kind.UP_DOWN_COUNTER,
    Unit.BYTE,
    "Device memory that JAX's arrays and programs occupy.",
    attributes=OF_JAX,
    integer=True,
)
JAX_ALLOCATED_PEAK = Metric(
    "hwmetrics.jax.memory.allocated.peak",
    Kind.UP_DOWN_COUNTER,
    Unit.BYTE,
    "Most device memory that JAX's arrays and programs occupied since the process began.",
    attributes=OF_JAX,
    integer=True,
)
JAX_RESERVED = Metric(
    "hwmetrics.jax.memory.reserved",
    Kind.UP_DOWN_COUNTER,
    Unit.BYTE,
    "Device memory that JAX's allocator holds, for arrays and free in its pool.",
    attributes=OF_JAX,
    integer=True,
)
JAX_LIMIT = Metric(
    "hwmetrics.jax.memory.limit",
    Kind.UP_DOWN_COUNTER,
    Unit.BYTE,
    "Device memory that JAX's allocator may hold at most.",
    attributes=OF_JAX,
    integer=True,
)

METRICS: tuple[Metric, ...] = (
    TORCH_ALLOCATED,
    TORCH_ALLOCATED_PEAK,
    TORCH_RESERVED,
    TORCH_RESERVED_PEAK,
    TORCH_INACTIVE_SPLIT,
    TORCH_RETRIES,
    TORCH_OOMS,
    TORCH_OTHER,
    JAX_ALLOCATED,
    JAX_ALLOCATED_PEAK,
    JAX_RESERVED,
    JAX_LIMIT,
)
