# SPDX-License-Identifier: Apache-2.0
"""The cgroup that this process is in: what it uses, and what it is held to."""

from __future__ import annotations

from otel_hwmetrics.sources.container.source import ContainerSource

__all__ = ["ContainerSource"]
