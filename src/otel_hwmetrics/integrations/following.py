# SPDX-License-Identifier: Apache-2.0
"""When a framework is loaded by the job, its integration is, too; those that are loaded already are met at once.

wrapt tells of an import at its end, on the thread that imports (https://wrapt.readthedocs.io; OpenTelemetry's
instrumentors stand on it, so it is there). It forgets nobody, so what is asked of it is asked once in a process.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Final

from wrapt import register_post_import_hook

from otel_hwmetrics import forks
from otel_hwmetrics._guard import guard
from otel_hwmetrics.config import INTEGRATIONS, Config

FRAMEWORKS: Final[dict[str, tuple[str, ...]]] = {
    "torch": ("torch",),
    "lightning": ("lightning.pytorch", "pytorch_lightning"),
    "transformers": ("transformers.trainer",),
    "keras": ("keras",),
}
"""The frameworks that are followed, by the name of their module here: the modules of theirs whose import is waited for."""

_config: Config | None = None
_wanted: set[str] = set()
_met: set[str] = set()
_asked: set[str] = set()
_lock = threading.RLock()


@forks.in_child
def _renew() -> None:
    global _lock  # noqa: PLW0603 - another thread may have been importing
    _lock = threading.RLock()


def follow(config: Config) -> None:
    """Meet the frameworks that the option ``integrations`` names, now or when they are loaded.

    Each module here has ``meet(module, config)``, called with the framework's module once after that was loaded (and again
    after `leave`), and ``leave()``. Raises nothing. From any thread.
    """
    global _config  # noqa: PLW0603 - there is one instrumentation a process
    with _lock:
        leave()
        _config = config
        _wanted.update(INTEGRATIONS if config.integrations == ("auto",) else set(INTEGRATIONS) & {*config.integrations})
        for name in sorted(_wanted):
            for module in FRAMEWORKS[name]:
                _await(name, module)


def leave() -> None:
    """Let go of all frameworks: from now on the job is as if there were no integration. Raises nothing."""
    with _lock:
        for name in sorted({key.partition(":")[0] for key in _met}):
            with guard(f"leaving {name}"):
                _function(name, "leave")()
        _met.clear()
        _wanted.clear()


def _await(name: str, module: str) -> None:
    loaded = sys.modules.get(module)
    if loaded is not None and not _is_being_imported(loaded):
        _loaded(name, loaded)
    if module not in _asked:
        _asked.add(module)
        register_post_import_hook(partial(_loaded, name), module)


def _is_being_imported(module: ModuleType) -> bool:
    return bool(getattr(getattr(module, "__spec__", None), "_initializing", False))


def _loaded(name: str, module: ModuleType) -> None:
    with guard(f"following {name}"), _lock:
        key = f"{name}:{module.__name__}"
        if name in _wanted and key not in _met:
            _met.add(key)
            _function(name, "meet")(module, _config)


def _function(name: str, function: str) -> Callable[..., object]:
    found: Callable[..., object] = getattr(import_module(f"{__package__}.{name}"), function)
    return found
