# SPDX-License-Identifier: Apache-2.0
"""PyTorch Lightning, as ``lightning`` and as ``pytorch_lightning``: spans, steps, and callbacks for those who prefer one.

Lightning asks the entry points of ``lightning.pytorch.callbacks_factory`` (the other package: of
``pytorch_lightning.callbacks_factory``) for callbacks whenever a Trainer is made
(https://lightning.ai/docs/pytorch/stable/extensions/entry_points.html), and is given one here while the instrumentation
runs. By hand, where one is wanted with other settings, or before the instrumentation runs:

    from otel_hwmetrics.integrations.lightning import HardwareMetricsCallback, ResourceMonitorCallback

    Trainer(callbacks=[HardwareMetricsCallback(step_spans=100)])

The two packages have a class of callbacks each. Ours stand on that of each package that is loaded, from the moment that it
is, so that one object is a callback to either.
"""

from __future__ import annotations

import itertools
import sys
from collections import defaultdict
from functools import partial
from types import MethodType, ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, Final

from wrapt import register_post_import_hook

from otel_hwmetrics._guard import guard
from otel_hwmetrics.config import Config
from otel_hwmetrics.integrations.following import FRAMEWORKS
from otel_hwmetrics.integrations.telling import Framework

if TYPE_CHECKING:
    from otel_hwmetrics.integrations.lightning_spans import HardwareMetricsCallback
    from otel_hwmetrics.integrations.resource_monitor import ResourceMonitorCallback

    __all__ = ["HardwareMetricsCallback", "ResourceMonitorCallback"]

PACKAGES: Final = FRAMEWORKS["lightning"]
LIGHTNING: Final = Framework("lightning", "pip install lightning")


def meet(module: ModuleType, config: Config) -> None:
    """Lightning was loaded: Trainers that are made from now on are given a callback, and waits for data are told.

    Args:
        module: ``lightning.pytorch`` or ``pytorch_lightning``.
        config: With ``step_spans``.
    """
    from otel_hwmetrics.integrations import lightning_around

    LIGHTNING.config = config
    lightning_around.wrap(module)


def leave() -> None:
    """Lightning is as it was; callbacks that have joined by themselves tell nothing any more."""
    LIGHTNING.leave()


def callbacks() -> list[object]:
    """What Lightning adds to the callbacks of a Trainer that is made: one where the instrumentation follows Lightning.

    A Trainer that has been given one by hand is told by that one alone. Raises nothing.
    """
    with guard("making a callback for Lightning"):
        if LIGHTNING.config is not None:
            from otel_hwmetrics.integrations.lightning_spans import HardwareMetricsCallback

            ours = HardwareMetricsCallback(LIGHTNING.config.step_spans)
            ours.automatic = True
            return [ours]
    return []


class Numbered:
    """A callback that Lightning can tell from others of its class.

    It refuses a Trainer two that keep their state under one key, and takes it that ours have a state where both packages are
    loaded, since the method that says so is not that of its own class then.
    """

    _numbers: ClassVar[defaultdict[type, itertools.count[int]]] = defaultdict(itertools.count)

    def __init__(self) -> None:
        super().__init__()
        self._number = next(self._numbers[type(self)])

    @property
    def state_key(self) -> str:
        """Under which Lightning would keep its state, if it had any; the class's name for the first."""
        name = type(self).__qualname__
        return f"{name}{{'number': {self._number}}}" if self._number else name

    def __getstate__(self) -> dict[str, Any]:
        """What a copy begins with, in this process or another: without what Lightning has bound to a module (``log``)."""
        return {name: value for name, value in vars(self).items() if not isinstance(value, MethodType)}


def join(ours: type) -> None:
    """Have a class stand on the packages' classes of callbacks: of those that are loaded, and will be.

    Args:
        ours: Has a base of its own beside `object`, or Python could give it no others.
    """
    ours.__module__ = __name__  # where it is asked for, also by pickle in another process
    for package in PACKAGES:
        register_post_import_hook(partial(_stand_on, ours), package)


def _stand_on(ours: type, module: ModuleType) -> None:
    with guard("standing on a class of Lightning's"):
        theirs = module.Callback
        if not issubclass(ours, theirs):
            ours.__bases__ = (*ours.__bases__, theirs)


def __getattr__(name: str) -> object:
    """The classes of callbacks; for the first that is asked for, Lightning is loaded if nobody has done so.

    Raises:
        ImportError: It is not there; says what to install.
    """
    if name == "HardwareMetricsCallback":
        _load(name)
        from otel_hwmetrics.integrations.lightning_spans import HardwareMetricsCallback

        return HardwareMetricsCallback
    if name == "ResourceMonitorCallback":
        _load(name)
        from otel_hwmetrics.integrations.resource_monitor import ResourceMonitorCallback

        return ResourceMonitorCallback
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _load(wanted: str) -> None:
    if any(package in sys.modules for package in PACKAGES):
        return
    try:
        import lightning.pytorch  # noqa: F401 - for who asks for a class that stands on it
    except ModuleNotFoundError:
        try:
            import pytorch_lightning  # noqa: F401
        except ModuleNotFoundError as absent:
            raise ImportError(
                f"{wanted} is a callback of PyTorch Lightning ({absent}): pip install lightning"
            ) from absent
