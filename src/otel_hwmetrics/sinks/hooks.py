# SPDX-License-Identifier: Apache-2.0
"""Callbacks of the training's own on alerts: each on a thread of its own, so that a slow one or an error harms nobody."""

from __future__ import annotations

import time
from collections.abc import Callable

from otel_hwmetrics._guard import guard
from otel_hwmetrics.alerts.rule import State
from otel_hwmetrics.sinks.background import Background
from otel_hwmetrics.sinks.base import Alert

Callback = Callable[[Alert], object]

STOP_TIMEOUT = 0.2
"""Seconds that a callback that is under way is waited for when it is to be called no more."""


class _Hook:
    """A callback as a sink."""

    def __init__(self, callback: Callback) -> None:
        self._callback = callback

    def on_alert(self, alert: Alert) -> None:
        self._callback(alert)


class Hooks:
    """The callbacks. One for the process, not one for the pipeline: a callback may be there before `instrument()`."""

    def __init__(self) -> None:
        self._hooks: dict[Callback, Background] = {}
        self._firing: dict[tuple[str, str], Alert] = {}

    def begin(self) -> None:
        """A pipeline begins, of which nothing fires yet."""
        self._firing = {}

    @property
    def firing(self) -> tuple[Alert, ...]:
        """The alerts that fire now, as they were last told of, in the order in which they began to. From any thread."""
        return tuple(self._firing.values())

    def add(self, callback: Callback) -> Callback:
        """Call it on every alert from now on; once, however often it is added.

        Raises:
            TypeError: It cannot be called.
        """
        if not callable(callback):
            raise TypeError(f"on_alert takes something to call with an Alert, not {callback!r}")
        if callback not in self._hooks:
            self._hooks = {**self._hooks, callback: Background("callbacks", _Hook(callback))}
        return callback

    def remove(self, callback: Callback) -> None:
        """Call it no more."""
        hooks = dict(self._hooks)
        hook = hooks.pop(callback, None)
        self._hooks = hooks  # never changed in place: the sampler's thread may be going through it
        if hook is not None:
            hook.stop(STOP_TIMEOUT)

    def on_alert(self, alert: Alert) -> None:
        """Pass it on; never waits. One whose thread is refused keeps it from no other."""
        with guard("knowing what fires"):
            self._know(alert)
        for hook in self._hooks.values():
            with guard("passing an alert on to a callback"):
                hook.on_alert(alert)

    def _know(self, alert: Alert) -> None:
        key = alert.name, alert.transition.subject.key
        if alert.state is State.FIRING:
            self._firing = {**self._firing, key: alert}  # likewise never changed in place
        else:
            self._firing = {each: told for each, told in self._firing.items() if each != key}

    def close(self) -> None:
        """Have what waits be called, and the threads end with that. Never waits.

        Callbacks stay, and are called again by the next pipeline.
        """
        for hook in self._hooks.values():
            hook.close()

    def join(self, timeout: float) -> None:
        """Wait for the ends of the threads after `close`, ``timeout`` seconds at most in all."""
        deadline = time.monotonic() + timeout
        for hook in self._hooks.values():
            hook.join(deadline - time.monotonic())

    def stop(self, timeout: float) -> None:
        """`close` and `join`."""
        self.close()
        self.join(timeout)

    def forget_threads(self) -> None:
        """Begin anew in a forked child, which has none of the threads."""
        self._hooks = {callback: Background("callbacks", _Hook(callback)) for callback in self._hooks}
        self._firing = {}


HOOKS = Hooks()


def on_alert(callback: Callback) -> Callback:
    """Call back on every alert: when it begins to fire, when it is resolved, when it fires on without readings.

    A decorator, too. One that raises is logged once and called again on the next alert; one that is slow holds up nobody,
    and misses what does not fit into a queue of 1000. It is called until `off_alert`.

    Args:
        callback: Gets one `Alert`, on a thread of its own that is a daemon; alerts come in their order.

    Returns:
        The same callback.

    Raises:
        TypeError: It cannot be called.
    """
    return HOOKS.add(callback)


def off_alert(callback: Callback) -> None:
    """Call it no more; nothing happens if it never was.

    Args:
        callback: What `on_alert` was given. A call that is under way is waited for, 0.2 s at most; not by itself,
            should this be called in it.
    """
    HOOKS.remove(callback)
