# SPDX-License-Identifier: Apache-2.0
"""Keras 3 as it is, on PyTorch and this machine's CPU: what is told of it, and that it is left alone otherwise."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"  # before it is loaded; also for the subprocess below

import keras
import numpy as np
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from e2e.launch import instrumented
from otel_hwmetrics.integrations import following
from otel_hwmetrics.integrations import keras as integration
from otel_hwmetrics.integrations.keras import HardwareMetricsCallback
from otel_hwmetrics.integrations.run import told_by_a_framework
from otel_hwmetrics.integrations.telling import telling_here
from otel_hwmetrics.stepclock import CLOCK
from otlp_receiver import Receiver

from .told import Told, told_by

METHODS = [
    *((keras.Model, name) for name in ("fit", "evaluate", "save", "save_weights")),
    *((keras.callbacks.CallbackList, name) for name in ("__init__", "on_train_batch_end")),
]

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
# Of Keras's own: what it asks NumPy for.

TWO_EPOCHS = ["fit", "fit/epoch 0", "fit/epoch 1"]


def methods() -> list[object]:
    """What of the library's is wrapped."""
    return [inspect.getattr_static(owner, name) for owner, name in METHODS]


class Points(keras.utils.PyDataset):
    """Batches of two, with something that is done whenever one is asked for."""

    def __init__(self, batches: int, act: Callable[[int], object] = id) -> None:
        super().__init__()
        self._batches, self._act = batches, act

    def __len__(self) -> int:
        return self._batches

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        self._act(index)
        return np.ones((2, 4), "float32"), np.ones((2, 1), "float32")


def tiny() -> Any:
    """A model that is made in no time."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(optimizer="sgd", loss="mse")
    return model


def fit(model: Any, data: Points, **others: Any) -> Any:
    """Two epochs, in silence."""
    return model.fit(data, **{"epochs": 2, "verbose": 0, **others})


@pytest.fixture
def told() -> Iterator[Told]:
    """Models are followed."""
    with told_by(integration) as telling:
        yield telling


@pytest.mark.oldest
def test_a_training_is_told(tmp_path: Path) -> None:
    """Spans within each other as things happen; steps exact, and a span for every second one."""
    model = tiny()
    # Not by its ModelCheckpoint, whose oldest does not work with NumPy 2.
    saving = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_, **__: model.save(str(tmp_path / "some.keras")))
    with told_by(integration, step_spans=2) as told:
        fit(model, Points(3), validation_data=Points(1), callbacks=[saving])
        assert model.optimizer.iterations == 6
        model.evaluate(Points(1), verbose=0)
        model.predict(np.ones((2, 4)), verbose=0)
        model.save(str(tmp_path / "all.keras"))
    assert told.paths == [
        "fit",
        "fit/epoch 0",
        "fit/epoch 0/step 0",
        "fit/epoch 0/step 2",
        "fit/epoch 0/validation",
        "fit/epoch 0/checkpoint",
        "fit/epoch 1",
        "fit/epoch 1/step 4",
        "fit/epoch 1/validation",
        "fit/epoch 1/checkpoint",
        "test",
    ]
    assert told.counted(lambda look: look.steps) == 6
    assert not told_by_a_framework()


class Timing(keras.callbacks.Callback):
    """A user's own measurement."""

    def __init__(self) -> None:
        super().__init__()
        self.began: dict[str, float] = {}
        self.seconds: dict[str, float] = {}

    def _begin(self, name: str) -> None:
        self.began[name] = time.perf_counter()

    def _end(self, name: str) -> None:
        self.seconds[name] = time.perf_counter() - self.began[name]

    def on_train_begin(self, _: Any = None) -> None:
        """Of the library's."""
        self._begin("fit")

    def on_epoch_begin(self, *_: Any) -> None:
        """Of the library's."""
        self._begin("fit/epoch 0")

    def on_test_begin(self, _: Any = None) -> None:
        """Of the library's."""
        self._begin("fit/epoch 0/validation")

    def on_test_end(self, _: Any = None) -> None:
        """Of the library's."""
        self._end("fit/epoch 0/validation")

    def on_epoch_end(self, *_: Any) -> None:
        """Of the library's."""
        self._end("fit/epoch 0")

    def on_train_end(self, _: Any = None) -> None:
        """Of the library's."""
        self._end("fit")


def test_spans_last_for_as_long_as_what_they_tell_of(told: Told) -> None:
    """Within 5 %, or a tenth of a second, of what the script measures by itself; what the data took is known, and not more."""
    slow, timing = Points(8, lambda _: time.sleep(0.1)), Timing()
    fit(tiny(), slow, epochs=1, validation_data=slow, callbacks=[timing])
    assert told.seconds == pytest.approx(timing.seconds, rel=0.05, abs=0.1)
    waited = told.counted(lambda look: look.waited)
    assert 0.7 <= waited <= timing.seconds["fit/epoch 0"] - timing.seconds["fit/epoch 0/validation"]


@pytest.mark.oldest
@pytest.mark.parametrize("span", ["fit/epoch 0", "fit/epoch 0/validation", "fit/epoch 1"])
def test_an_alert_is_on_the_span_in_which_it_happened(told: Told, span: str) -> None:
    """A GPU gets hot there and nowhere else."""
    places = iter(["fit/epoch 0", "fit/epoch 0/validation", "fit/epoch 1", "the second validation"])

    class Hot(keras.callbacks.Callback):
        def _heat(self, *_: Any, **__: Any) -> None:
            if next(places) == span:
                told.world.advance(15)

        on_train_batch_begin = on_test_batch_begin = _heat

    fit(tiny(), Points(1), validation_data=Points(1), callbacks=[Hot()])
    assert told.alerts == [(span, "gpu_hot")]


class Own(keras.callbacks.Callback):
    """A user's own spans: of the training, and of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self._tracer = TracerProvider(shutdown_on_exit=False).get_tracer("own")
        self._open: list[Any] = []
        self.current: list[bool] = []

    def _begin(self, *_: Any, **__: Any) -> None:
        self._open.append(self._tracer.start_as_current_span("own"))
        span = self._open[-1].__enter__()
        self.current.append(trace.get_current_span() is span)

    def _end(self, *_: Any, **__: Any) -> None:
        self._open.pop().__exit__(None, None, None)

    on_train_begin = on_epoch_begin = _begin
    on_train_end = on_epoch_end = _end


@pytest.mark.oldest
def test_spans_of_the_user_s_own_may_cross_those_that_are_told(told: Told) -> None:
    """None is left current, and what is told lies within what is told alone."""
    own = Own()
    fit(tiny(), Points(1), callbacks=[own])
    assert own.current == [True] * 3
    assert trace.get_current_span() is trace.INVALID_SPAN
    assert told.paths == ["fit", "fit/epoch 0", "fit/epoch 1"]


class Stop(BaseException):
    """Not even an Exception."""


@pytest.mark.parametrize(
    "error",
    [pytest.param(ValueError("no data"), marks=pytest.mark.oldest), KeyboardInterrupt(), SystemExit(3), Stop()],
)
@pytest.mark.parametrize("inner", ["fit/epoch 0", "fit/epoch 0/validation"])
def test_what_is_raised_goes_through(told: Told, error: BaseException, inner: str) -> None:
    """The very same object; what was open has ended, with an error for its status, and nothing is open any more."""

    class Failing(keras.callbacks.Callback):
        def fail(self, *_: Any, **__: Any) -> None:
            raise error

    failing = Failing()
    setattr(failing, "on_train_batch_begin" if inner == "fit/epoch 0" else "on_test_batch_begin", failing.fail)
    with pytest.raises(type(error)) as raised:
        fit(tiny(), Points(2), validation_data=Points(2), callbacks=[failing])
    assert raised.value is error
    assert told.paths[-1] == inner
    assert set(told.failed) == set(told.paths)
    assert all(type(error).__name__ in description for description in told.failed.values())
    assert not told_by_a_framework()


def test_none_is_told_twice(told: Told) -> None:
    """However the callback came: by itself or given, at its place or by name, alone or in a list of the user's."""
    given = HardwareMetricsCallback()
    model = tiny()
    inputs = np.ones((4, 4)), np.ones((4, 1))
    model.fit(*inputs, 2, 2, 0)
    model.fit(*inputs, 2, 2, 0, [given])
    model.fit(*inputs, batch_size=2, epochs=2, verbose=0, callbacks=given)
    everything = keras.callbacks.CallbackList([given], add_history=True, model=model, epochs=2)
    model.fit(*inputs, 2, 2, 0, everything)
    model.fit(*inputs, 2, 2, 0, [given, HardwareMetricsCallback()])
    model.fit(*inputs, 2, 2, 0, [HardwareMetricsCallback(), given])
    model.fit(*inputs, 2, 2, 0, given)  # which was silent the last time
    assert told.paths == TWO_EPOCHS * 7
    assert told.counted(lambda look: look.steps) == 7 * 4


def loop(callbacks: Any) -> None:
    """A loop of a user's own."""
    callbacks.on_train_begin()
    callbacks.on_epoch_begin(0)
    for batch in range(2):
        callbacks.on_train_batch_begin(batch)
        callbacks.on_train_batch_end(batch)
    callbacks.on_epoch_end(0)
    callbacks.on_train_end()
    callbacks.on_test_begin()
    callbacks.on_test_end()


def test_a_loop_of_one_s_own_is_told_by_a_callback_by_hand(told: Told) -> None:
    """As often as it runs; nothing is kept of those that are over."""
    for _ in range(3):
        loop(keras.callbacks.CallbackList([HardwareMetricsCallback()], model=tiny()))
    assert told.paths == ["fit", "fit/epoch 0", "test"] * 3
    assert told.counted(lambda look: look.steps) == 6
    assert telling_here() == []


def test_nothing_joins_a_loop_of_one_s_own(told: Told) -> None:
    """If it fails nobody says so; what has joined for `fit` is silent there as well."""
    model = tiny()
    everything = keras.callbacks.CallbackList([], add_history=True, model=model)
    loop(everything)
    assert not any(isinstance(each, HardwareMetricsCallback) for each in everything.callbacks)
    fit(model, Points(1), callbacks=everything)
    assert any(isinstance(each, HardwareMetricsCallback) for each in everything.callbacks)
    loop(everything)
    everything.on_train_begin()
    everything.on_epoch_begin(0)  # and fails
    assert told.paths == TWO_EPOCHS
    assert not told_by_a_framework()


def test_what_is_open_ends_with_the_instrumentation(told: Told) -> None:
    """At once, on the thread where that ends: the callback may hear of nothing more."""
    left: list[tuple[list[str], bool]] = []

    def leave(*_: Any) -> None:
        following.leave()
        left.append((told.paths, told_by_a_framework()))

    fit(tiny(), Points(1), epochs=1, callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=leave)])
    assert left == [(["fit", "fit/epoch 0"], False)]


def test_a_model_that_trains_another_is_told_with_it(told: Told) -> None:
    """The inner training lies within the outer one."""

    class Inner(keras.callbacks.Callback):
        def on_epoch_end(self, *_: Any) -> None:
            tiny().evaluate(Points(1), verbose=0)
            assert CLOCK.look().age is not None  # the outer one goes on

    fit(tiny(), Points(1), epochs=1, callbacks=[Inner()])
    assert told.paths == ["fit", "fit/epoch 0", "fit/epoch 0/test"]
    assert CLOCK.look().age is None
    assert not told_by_a_framework()


def test_batches_are_handed_on_in_the_background_as_they_would_be_without_us(told: Told) -> None:
    """Ours makes Keras wait for nothing: who else hears of a batch's end decides."""
    model = tiny()
    made = keras.callbacks.CallbackList(None, add_history=True, add_progbar=True, model=model)
    without_ours = made._async_train
    fit(model, Points(1), callbacks=made)
    assert any(isinstance(each, HardwareMetricsCallback) for each in made.callbacks)
    assert made._async_train == without_ours
    following.leave()
    without = keras.callbacks.CallbackList(None, add_history=True, add_progbar=True, model=tiny())
    assert not any(isinstance(each, HardwareMetricsCallback) for each in without.callbacks)
    assert made._async_train == without._async_train
    assert keras.callbacks.CallbackList([HardwareMetricsCallback()])._async_train == without._async_train


def test_callbacks_from_before_are_joined_and_those_from_after_are_not() -> None:
    """Instrumentation may begin late; once it has ended, callbacks that came by themselves are silent and nothing is wrapped."""
    before = methods()
    model = tiny()
    old = keras.callbacks.CallbackList([], add_history=True, model=model)
    with told_by(integration) as told:
        fit(model, Points(1), callbacks=old)
        assert told.paths == TWO_EPOCHS
        assert all(now is not then for now, then in zip(methods(), before, strict=True))
        following.leave()
        assert all(now is then for now, then in zip(methods(), before, strict=True))
        steps = told.counted(lambda look: look.steps)
        fit(model, Points(1), callbacks=old)
        fit(model, Points(1))
        assert told.counted(lambda look: look.steps) == steps
        assert told.paths == TWO_EPOCHS


def test_by_hand_it_needs_no_integration() -> None:
    """The callback alone does, with exceptions and all."""
    with told_by(integration, integrations="none") as told:

        def fail(*_: Any) -> None:
            raise ValueError("no data")

        failing = keras.callbacks.LambdaCallback(on_epoch_end=fail)
        with pytest.raises(ValueError, match="no data"):
            fit(tiny(), Points(1), callbacks=[HardwareMetricsCallback(step_spans=1), failing])
        fit(tiny(), Points(1))
        assert told.paths == ["fit", "fit/epoch 0", "fit/epoch 0/step 0"]
        assert set(told.failed) == {"fit"}


SCRIPT = """
import keras
import numpy as np

model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
model.compile(optimizer="sgd", loss="mse")
inputs, targets = np.ones((8, 4)), np.ones((8, 1))
model.fit(inputs, targets, 2, 2, 0, None, 0.25)
model.evaluate(inputs, targets, verbose=0)
"""


def test_an_unchanged_script_is_told_over_otlp(tmp_path: Path) -> None:
    """Under `opentelemetry-instrument`: spans within each other, steps exact, of the framework and nobody else."""
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    with Receiver() as receiver:
        instrumented(str(script), endpoint=receiver.http_endpoint, protocol="http/protobuf")
        spans, metrics = receiver.spans(), receiver.metrics()
    names = {span.span_id: span.name for span in spans}
    assert sorted((names.get(span.parent_id, ""), span.name) for span in spans) == sorted(
        [("", "fit"), ("", "test"), *[("fit", "epoch"), ("epoch", "validation")] * 2]
    )
    assert [point.value for point in metrics["hwmetrics.training.steps"].points] == [6]
