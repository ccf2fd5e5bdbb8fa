# SPDX-License-Identifier: Apache-2.0
"""Keras 3 on any backend: spans for fit, epoch, validation, test, checkpoint.

A callback joins the `keras.callbacks.CallbackList` of each `Model.fit` and `Model.evaluate`, unless one is there:

    from otel_hwmetrics.integrations.keras import HardwareMetricsCallback

    model.fit(..., callbacks=[HardwareMetricsCallback(step_spans=100)])

Callbacks hear nothing of exceptions (https://keras.io/api/callbacks/base_callback/). And where one of them wants to hear
of a batch's end, Keras no longer tells these in the background, but waits for the losses of each batch. So ours hears of it
with the list of callbacks: that, `fit` and what saves have something of ours around them once a callback was made.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from otel_hwmetrics._guard import guard
from otel_hwmetrics.config import Config
from otel_hwmetrics.integrations.run import EPOCH, STEP
from otel_hwmetrics.integrations.telling import Framework, Teller, heard, telling_here, to_its_end
from otel_hwmetrics.integrations.wrapping import within
from otel_hwmetrics.stepclock import CLOCK

KERAS: Final = Framework("keras", "pip install 'keras>=3', and a backend for it, as torch is")


class _Local(threading.local):
    def __init__(self) -> None:
        self.training = 0  # how many calls of `fit` and `evaluate` are within each other


_LOCAL: Final = _Local()


class _Telling(Teller):
    """Tells what a model's `fit` and `evaluate` do, on the thread that trains.

    What `fit` evaluates is ``validation``, within the epoch; what is evaluated by itself is ``test``. A step is one execution
    of the model's function: with ``steps_per_execution`` several batches. Samples are not told by Keras. On TensorFlow the
    data is asked for within the step, so that no wait for it is known.

    Args:
        step_spans: One of how many steps gets a span of its own; 0 for none.
    """

    framework = KERAS

    def __init__(self, step_spans: int = 0) -> None:
        super().__init__(step_spans)
        self._steps = 0
        import keras

        self._waits = keras.backend.backend() != "tensorflow"
        _wrap(keras)

    @property
    def is_wanted(self) -> bool:
        """See `Teller`. One that joined by itself is so in `fit` and `evaluate` alone: of a user's own loop nobody says it failed."""
        return super().is_wanted and (_LOCAL.training > 0 or not self.automatic)

    @heard
    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """`fit` begins to train."""
        self.finish()
        self._steps = 0
        self.begin("fit")

    @heard
    def on_train_end(self, *_: Any, **__: Any) -> None:
        """`fit` has trained."""
        self.finish()

    @heard
    def on_epoch_begin(self, epoch: int, *_: Any, **__: Any) -> None:
        """An epoch begins; its first data is asked for next."""
        if self.run:
            self.run.begin("epoch", {EPOCH: epoch})
            self._begin_wait()

    @heard
    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        """An epoch has ended, its validation with it."""
        CLOCK.end_wait()
        self.run.end("epoch")

    @heard
    def on_train_batch_begin(self, *_: Any, **__: Any) -> None:
        """The data of a step has come."""
        CLOCK.end_wait()
        if self.step_spans and self.run and self._steps % self.step_spans == 0:
            self.run.begin("step", {STEP: self._steps})

    @heard
    def step_ended(self) -> None:
        """The step has ended, and everybody has heard of it."""
        if self.run:
            self._steps += 1
            self.run.end("step")
            CLOCK.step()
            self._begin_wait()

    @heard
    def on_test_begin(self, *_: Any, **__: Any) -> None:
        """An evaluation begins, of `fit`'s or by itself."""
        CLOCK.end_wait()
        self.begin("validation" if self.run else "test")

    @heard
    def on_test_end(self, *_: Any, **__: Any) -> None:
        """An evaluation has ended."""
        self.run.end("validation" if self.run.is_in("validation") else "test")
        if not self.run:
            self.finish()

    def _begin_wait(self) -> None:
        if self._waits and self.run.is_in("epoch"):
            CLOCK.begin_wait()


if TYPE_CHECKING:
    HardwareMetricsCallback = _Telling


def __getattr__(name: str) -> object:
    """The callback's class, which stands on one of the library's: that is loaded when somebody asks for it."""
    if name == "HardwareMetricsCallback":
        return _class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _class() -> type[_Telling]:
    return KERAS.callback_class(_Telling, "keras.callbacks", "Callback")


def meet(module: ModuleType, config: Config) -> None:
    """Keras was loaded: a callback joins each list of callbacks that is made, or trained with, from now on.

    Args:
        module: ``keras``; that of a version before 3 is left alone.
        config: With ``step_spans``.
    """
    if int(module.__version__.partition(".")[0]) >= 3:  # noqa: PLR2004 - as it is told
        KERAS.config = config
        _wrap(module)


def leave() -> None:
    """Keras is as it was; callbacks that have joined by themselves tell nothing any more."""
    KERAS.leave()


def _wrap(keras: ModuleType) -> None:
    around = KERAS.wrappings.around
    if not KERAS.wrappings:
        around(keras.callbacks.CallbackList, "__init__", _made)
        around(keras.callbacks.CallbackList, "on_train_batch_end", _ends_step)
        for training in ("fit", "evaluate"):
            around(keras.Model, training, _trains)
        for saving in ("save", "save_weights"):
            around(keras.Model, saving, _saves)


def _made(wrapped: Callable[..., Any], callbacks: Any, args: Any, kwargs: Any) -> None:
    wrapped(*args, **kwargs)
    if _LOCAL.training:
        KERAS.find(callbacks, _Telling, _class)


def _ends_step(wrapped: Callable[..., Any], callbacks: Any, args: Any, kwargs: Any) -> None:
    wrapped(*args, **kwargs)
    for each in callbacks.callbacks:
        if isinstance(each, _Telling):
            each.step_ended()


def _trains(wrapped: Callable[..., Any], _model: Any, args: Any, kwargs: Any) -> Any:
    import keras

    _LOCAL.training += 1
    try:
        with guard("joining the callbacks of a model"):
            for given in (*args, *kwargs.values()):
                if isinstance(given, keras.callbacks.CallbackList):
                    KERAS.find(given, _Telling, _class)
        return to_its_end(wrapped, args, kwargs)
    finally:
        _LOCAL.training -= 1


def _saves(wrapped: Callable[..., Any], _model: Any, args: Any, kwargs: Any) -> Any:
    """Of a model that is not in training nothing is told."""
    telling = telling_here()
    return within(telling[-1].run, "checkpoint", wrapped, args, kwargs) if telling else wrapped(*args, **kwargs)
