# SPDX-License-Identifier: Apache-2.0
"""Something of ours around a framework's functions, where it has no callback for what is to be told; and all put back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wrapt import FunctionWrapper

from otel_hwmetrics.integrations.run import Run

Wrapper = Callable[[Callable[..., Any], Any, tuple[Any, ...], dict[str, Any]], Any]
"""Called with the function, the object that it is bound to, and the arguments; as wrapt has it."""


class Wrappings:
    """Which functions have something around them, and what they were before. Whoever meets frameworks calls it."""

    def __init__(self) -> None:
        self._done: list[tuple[type, str, object, object]] = []

    def __bool__(self) -> bool:
        """Whether anything is wrapped."""
        return bool(self._done)

    def around(self, owner: type, name: str, wrapper: Wrapper) -> None:
        """Put a wrapper around a method, in the class that has it; a name that this version lacks is passed over."""
        holder = next((each for each in owner.__mro__ if name in vars(each)), None)
        if holder is not None:
            before = vars(holder)[name]
            ours = FunctionWrapper(before, wrapper)
            setattr(holder, name, ours)
            self._done.append((holder, name, before, ours))

    def undo(self) -> None:
        """Put everything back, but what somebody else has wrapped again since: that would be lost with ours."""
        while self._done:
            holder, name, before, ours = self._done.pop()
            if vars(holder).get(name) is ours:
                setattr(holder, name, before)


def within(run: Run, name: str, wrapped: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a function within a span of the run, unless one of that name is open; what it raises goes through."""
    if run.is_in(name):
        return wrapped(*args, **kwargs)
    run.begin(name)
    try:
        result = wrapped(*args, **kwargs)
    except BaseException as error:
        run.end(name, error)
        raise
    run.end(name)
    return result
