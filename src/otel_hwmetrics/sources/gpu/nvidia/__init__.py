# SPDX-License-Identifier: Apache-2.0
"""NVIDIA GPUs, through NVML by nvidia-ml-py."""

from otel_hwmetrics.sources.gpu.nvidia.source import NvidiaSource

__all__ = ["NvidiaSource"]
