# SPDX-License-Identifier: Apache-2.0
"""What callbacks have in common that stand on a class of their framework's: how they are made, and whether they tell."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from importlib import import_module
from typing import Any, ClassVar, Final, TypeVar

from opentelemetry.util.types import AttributeValue

from otel_hwmetrics._guard import guard
from otel_hwmetrics.config import Config
from otel_hwmetrics.integrations.run import Run, told_by_a_framework
from otel_hwmetrics.integrations.wrapping import Wrappings
from otel_hwmetrics.stepclock import CLOCK

T = TypeVar("T", bound="Teller")


class _Local(threading.local):
    def __init__(self) -> None:
        self.telling: list[weakref.ref[Teller]] = []


_LOCAL: Final = _Local()


def telling_here() -> list[Teller]:
    """Those that tell something on this thread, and have begun it with `Teller.begin`, the outermost first."""
    return [found for each in _LOCAL.telling if (found := each()) is not None]


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
        self._joined: weakref.WeakSet[Any] = weakref.WeakSet()  # whatever has callbacks and has, or had, one of ours

    def leave(self) -> None:
        """It is as it was; callbacks that have joined by themselves tell nothing any more.

        What they have open on this thread ends; on another thread it does when they next hear of anything.
        """
        self.config = None
        self.wrappings.undo()
        for each in reversed(telling_here()):
            if each.framework is self and not each.tells:
                each.finish()

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

    def find(self, owner: Any, telling: type[T], made: Callable[[], type[T]]) -> T | None:
        """The one of ours that tells, among the callbacks of something; one is added where there is none.

        Not where the framework is not followed, and never a second time: somebody has taken it away since.

        Args:
            owner: Has ``callbacks``.
            telling: The class of ours.
            made: Gives the class of those to add.

        Returns:
            None where none is to tell anything.
        """
        with guard(f"finding the callback of {self.name}"):
            ours = [each for each in getattr(owner, "callbacks", []) if isinstance(each, telling)]
            if not ours and self.config is not None and owner not in self._joined:
                joining = made()(self.config.step_spans)
                joining.automatic = True
                owner.callbacks.append(joining)
                ours.append(joining)
            if ours:
                self._joined.add(owner)
            return the_one_of(ours)
        return None


class Teller:
    """Tells a training, on the thread that trains. What derives from it names its framework."""

    framework: ClassVar[Framework]
    automatic = False
    """Whether it has joined by itself."""
    one_of_several = False
    """Whether another one tells the same."""

    def __init__(self, step_spans: int = 0) -> None:
        super().__init__()
        self.run = Run(self.framework.name)
        self.step_spans = step_spans

    @property
    def is_wanted(self) -> bool:
        """Whether it would tell anything, were it the only one: one that a user made always does."""
        return self.framework.config is not None or not self.automatic

    @property
    def tells(self) -> bool:
        """Whether it tells anything."""
        return not self.one_of_several and self.is_wanted

    def begin(self, name: str, attributes: Mapping[str, AttributeValue] | None = None) -> None:
        """A span begins, perhaps the outermost; until all is over this is one of `telling_here`."""
        if not any(each is self for each in telling_here()):
            _LOCAL.telling.append(weakref.ref(self))
        self.run.begin(name, attributes)

    def finish(self, error: BaseException | None = None) -> None:
        """All is over, by an exception or without: what is open ends, and no step is expected.

        Where this was within another training that is told on this thread, that goes on.
        """
        if self.run or any(each is self for each in telling_here()):
            with guard(f"ending a training of {self.framework.name}"):
                self.run.finish(error)
                if told_by_a_framework():
                    CLOCK.end_wait()
                else:
                    CLOCK.rest()
            _LOCAL.telling[:] = [each for each in _LOCAL.telling if each() is not None and each() is not self]


def the_one_of(ours: Iterable[T]) -> T | None:
    """The first of those that are to tell one thing: it tells, and the others are silent. None where none is wanted."""
    chosen: T | None = None
    for each in ours:
        each.one_of_several = chosen is not None and each is not chosen
        if chosen is None and each.is_wanted:
            chosen = each
    return chosen


def to_its_end(wrapped: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call what trains: whoever has begun to tell of it on this thread finishes with it, also with what it raises."""
    outer = telling_here()
    error: BaseException | None = None
    try:
        return wrapped(*args, **kwargs)
    except BaseException as raised:
        error = raised
        raise
    finally:
        for each in reversed(telling_here()):
            if not any(each is one for one in outer):
                each.finish(error)
        del error  # it has this frame, which would have it


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
