# SPDX-License-Identifier: Apache-2.0
"""What callbacks have in common that stand on a class of their framework's: how they are made, and whether they tell."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import Any, ClassVar, Final, TypeVar

from otel_hwmetrics._guard import guard
from otel_hwmetrics.config import Config
from otel_hwmetrics.integrations.run import Run
from otel_hwmetrics.integrations.wrapping import Wrappings
from otel_hwmetrics.stepclock import CLOCK

T = TypeVar("T", bound="Teller")


class _Local(threading.local):
    def __init__(self) -> None:
        self.telling: list[Teller] = []


_LOCAL: Final = _Local()


def telling_here() -> list[Teller]:
    """Those that tell something on this thread, and have begun it with `Teller.begin`, the outermost first."""
    return _LOCAL.telling


class Framework:
    """A framework as the module has it that knows it.

    Args:
        name: As in `otel_hwmetrics.integrations.following.FRAMEWORKS`.
        install: What to type where it is not there.

    Attributes:
        config: The options, from `meet` until `leave`; while there are none, only callbacks that users made tell anything.
        wrappings: What of it has something of ours around it.
    """

    def __init__(self, name: str, install: str) -> None:
        self.name = name
        self.config: Config | None = None
        self.wrappings = Wrappings()
        self._install = install
        self._made: dict[type, type] = {}

    def leave(self) -> None:
        """It is as it was; callbacks that have joined by themselves tell nothing any more."""
        self.config = None
        self.wrappings.undo()

    def callback_class(self, telling: type[T], module: str, name: str) -> type[T]:
        """The class of callbacks, made once: what we have to tell, on the base of theirs, which is loaded for it.

        Args:
            telling: Ours.
            module: In which theirs is.
            name: Of theirs.

        Raises:
            ImportError: The framework is not there; says what to install.
        """
        if telling not in self._made:
            try:
                base = getattr(import_module(module), name)
            except (ImportError, AttributeError) as absent:
                raise ImportError(f"HardwareMetricsCallback needs {self.name} ({absent}): {self._install}") from absent
            told = {"__module__": telling.__module__, "__doc__": telling.__doc__}
            self._made[telling] = type("HardwareMetricsCallback", (telling, base), told)
        return self._made[telling]

    def find(self, callbacks: list[Any], telling: type[T], made: Callable[[], type[T]]) -> T | None:
        """The one of ours among callbacks; one is added where there is none and the framework is followed.

        Returns:
            None where none is to tell anything.
        """
        with guard(f"finding the callback of {self.name}"):
            for each in callbacks:
                if isinstance(each, telling):
                    return each if each.tells else None
            if self.config is not None:
                ours = made()(self.config.step_spans)
                ours.automatic = True
                callbacks.append(ours)
                return ours
        return None


class Teller:
    """Tells a training, on the thread that trains. What derives from it names its framework."""

    framework: ClassVar[Framework]
    automatic = False
    """Whether it has joined by itself."""

    def __init__(self, step_spans: int = 0) -> None:
        super().__init__()
        self.run = Run(self.framework.name)
        self.step_spans = step_spans

    @property
    def tells(self) -> bool:
        """Whether it tells anything: one that a user made always does."""
        return self.framework.config is not None or not self.automatic

    def begin(self, name: str) -> None:
        """A span begins, perhaps the outermost; until it ends this is one of `telling_here`."""
        if not self.run:
            telling_here().append(self)
        self.run.begin(name)

    def finish(self, error: BaseException | None = None) -> None:
        """All is over, by an exception or without: what is open ends, and no step is expected."""
        here = telling_here()
        if self.run or self in here:
            with guard(f"ending a training of {self.framework.name}"):
                self.run.finish(error)
                CLOCK.rest()
            if self in here:
                here.remove(self)


def heard(event: Callable[..., None]) -> Callable[..., None]:
    """What a callback does at an event: faults are passed over, and where it should not tell any more it ends."""

    @wraps(event)
    def hear(self: Teller, *args: Any, **kwargs: Any) -> None:
        with guard(f"hearing {event.__name__} of {self.framework.name}"):
            if self.tells:
                event(self, *args, **kwargs)
            else:
                self.finish()

    return hear
