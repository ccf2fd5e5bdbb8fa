# SPDX-License-Identifier: Apache-2.0
"""To come."""

from __future__ import annotations

from types import ModuleType

from otel_hwmetrics.config import Config


def meet(module: ModuleType, config: Config) -> None:
    """The framework was loaded."""


def leave() -> None:
    """The instrumentation ends."""
