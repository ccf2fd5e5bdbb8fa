# SPDX-License-Identifier: Apache-2.0
"""AMD GPUs, through amdsmi where ROCm is installed and through the kernel's files where it is not.

Tested against scripted answers of the library and trees of files alone: no AMD GPU was at hand.
"""

from otel_hwmetrics.sources.gpu.amd.source import AmdSource

__all__ = ["AmdSource"]
