# SPDX-License-Identifier: Apache-2.0
"""Plain PyTorch: spans, steps and waits of a training that tells nothing of itself.

`watch` listens to PyTorch, `course` makes of that how the training of a thread goes, `spans` are what is told of it, and
`groups` is what the process group tells. Where a framework tells a training, or a loop of `otel_hwmetrics.steps` is open,
all this is silent on that thread.
"""

from __future__ import annotations

from types import ModuleType

from otel_hwmetrics.config import Config
from otel_hwmetrics.integrations.torch import groups
from otel_hwmetrics.integrations.torch.watch import Watch

_watch: Watch | None = None


def meet(module: ModuleType, config: Config) -> None:
    """Listen to PyTorch, which the job has loaded. On the thread that did."""
    global _watch  # noqa: PLW0603 - there is one PyTorch in a process
    leave()
    groups.begin(module)
    _watch = Watch(module, config, groups.identity)
    _watch.begin()


def leave() -> None:
    """Leave PyTorch as it was, and end what spans are open."""
    global _watch
    watch, _watch = _watch, None
    if watch is not None:
        groups.end()
        watch.end()
