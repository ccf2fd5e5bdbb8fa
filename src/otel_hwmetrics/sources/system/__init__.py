# SPDX-License-Identifier: Apache-2.0
"""The host: the kernel's own files on Linux, psutil elsewhere."""

from otel_hwmetrics.sources.system.filesystems import FilesystemSource
from otel_hwmetrics.sources.system.source import SystemSource

__all__ = ["FilesystemSource", "SystemSource"]
