# SPDX-License-Identifier: Apache-2.0
"""Hugging Face's `Trainer` and what is derived from it, as TRL's are: spans for fit, epoch, evaluation, test, checkpoint.

A callback joins each Trainer, unless the user has given it one:

    from otel_hwmetrics.integrations.transformers import HardwareMetricsCallback

    Trainer(..., callbacks=[HardwareMetricsCallback(step_spans=100)])

Callbacks hear when an evaluation or a checkpoint is over, but not when it begins, and of exceptions nothing
(https://huggingface.co/docs/transformers/main_classes/callback). So the Trainer's methods for these have something of ours
around them, from the moment that the first callback is made.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from otel_hwmetrics._guard import guard
from otel_hwmetrics.config import Config
from otel_hwmetrics.integrations.run import EPOCH, STEP
from otel_hwmetrics.integrations.telling import Framework, Teller, heard, to_its_end
from otel_hwmetrics.integrations.wrapping import within
from otel_hwmetrics.stepclock import CLOCK

HUGGING_FACE: Final = Framework("transformers", "pip install torch 'transformers>=4.41' 'accelerate>=0.30'")

CHECKPOINT: Final = "checkpoint"
WITHIN: Final = {"evaluate": "evaluation", "predict": "test", "save_model": CHECKPOINT, "_save_checkpoint": CHECKPOINT}
"""Methods of the Trainer, and their spans. What saves more than the weights has no public name."""


class _Telling(Teller):
    """Tells a training of a Trainer's, on the thread that trains.

    An epoch ends where the Trainer ends it: evaluations and checkpoints that are due at its end come after it, within fit.
    A step is one of the optimizer's. Its samples are this process's, by the size of its batches; its tokens are told where
    the Trainer counts them (``include_num_input_tokens_seen``), and are this process's share of those of all.

    Args:
        step_spans: One of how many steps gets a span of its own; 0 for none.
    """

    framework = HUGGING_FACE

    def __init__(self, step_spans: int = 0) -> None:
        super().__init__(step_spans)
        self._epoch = self._batches = self._of_epoch = self._tokens = 0
        from transformers import trainer

        _wrap(trainer)

    @heard
    def on_train_begin(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
        """Training begins; with ``auto_find_batch_size`` perhaps anew."""
        self.finish()
        self._epoch = int(state.epoch or 0)
        self._tokens = state.num_input_tokens_seen // max(args.world_size, 1)
        self.begin("fit")

    @heard
    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Training has ended."""
        self.finish()

    @heard
    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        """An epoch begins; its first data is asked for next."""
        self._batches = self._of_epoch = 0
        if self.run:
            self.run.begin("epoch", {EPOCH: self._epoch})
            self._epoch += 1
            CLOCK.begin_wait()

    @heard
    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        """An epoch has ended."""
        CLOCK.end_wait()
        self.run.end("epoch")

    @heard
    def on_step_begin(self, _args: Any, state: Any, *_: Any, **__: Any) -> None:
        """The data of a step has come."""
        CLOCK.end_wait()
        if self.step_spans and self.run and state.global_step % self.step_spans == 0:
            self.run.begin("step", {STEP: state.global_step})

    @heard
    def on_substep_end(self, *_: Any, **__: Any) -> None:
        """A batch was gone through whose step has further ones."""
        self._batches += 1

    @heard
    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """A step has ended. What is logged next waits for the GPU, and is no wait for data."""
        tokens, before = state.num_input_tokens_seen // max(args.world_size, 1), self._tokens
        samples, self._batches, self._tokens = self._samples(args, state, **others), 0, tokens
        self.run.end("step")
        CLOCK.step(samples, tokens - before or None)
        if not control.should_log:
            CLOCK.begin_wait()

    @heard
    def on_log(self, *_: Any, **__: Any) -> None:
        """Something was logged."""
        if self.run.is_in("epoch"):
            CLOCK.begin_wait()

    def _samples(self, args: Any, state: Any, train_dataloader: Any = None, **_: Any) -> int:
        """Of the step that ends. The last batch of an epoch may be smaller, where no other process evens it out."""
        batch = getattr(state, "train_batch_size", None) or args.train_batch_size
        samples: int = batch * (self._batches + 1)
        if args.world_size == 1:
            with suppress(AttributeError, TypeError):  # it has no length, or the data comes otherwise
                samples = max(min(samples, len(train_dataloader.sampler) - self._of_epoch), 0)
        self._of_epoch += samples
        return samples


if TYPE_CHECKING:
    HardwareMetricsCallback = _Telling


def __getattr__(name: str) -> object:
    """The callback's class, which stands on one of the library's: that is loaded when somebody asks for it."""
    if name == "HardwareMetricsCallback":
        return _class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _class() -> type[_Telling]:
    return HUGGING_FACE.callback_class(_Telling, "transformers", "TrainerCallback")


def meet(module: ModuleType, config: Config) -> None:
    """The library's Trainer was loaded: a callback joins each that is made, or trains, from now on.

    Args:
        module: ``transformers.trainer``.
        config: With ``step_spans``.
    """
    HUGGING_FACE.config = config
    _wrap(module)


def leave() -> None:
    """The Trainer is as it was; callbacks that have joined by themselves tell nothing any more."""
    HUGGING_FACE.leave()


def _wrap(module: ModuleType) -> None:
    around = HUGGING_FACE.wrappings.around
    if not HUGGING_FACE.wrappings:
        around(module.CallbackHandler, "__init__", _made)
        around(module.CallbackHandler, "add_callback", _added)
        for training in ("train", "_inner_training_loop"):  # the latter, since the former may begin it anew
            around(module.Trainer, training, _trains)
        for method, name in WITHIN.items():
            around(module.Trainer, method, partial(_does, name))


def _callback(trainer: Any) -> _Telling | None:
    handler = getattr(trainer, "callback_handler", None)
    return None if handler is None else HUGGING_FACE.find(handler, _Telling, _class)


def _made(wrapped: Callable[..., Any], handler: Any, args: Any, kwargs: Any) -> None:
    wrapped(*args, **kwargs)
    HUGGING_FACE.find(handler, _Telling, _class)


def _added(wrapped: Callable[..., Any], handler: Any, args: Any, kwargs: Any) -> Any:
    """One that a user gives takes the place of one that joined by itself, and of itself: nothing is told twice."""
    with guard("making place for a callback"):
        given = next(iter((*args, *kwargs.values())), None)
        if isinstance(given, _Telling) or (isinstance(given, type) and issubclass(given, _Telling)):
            handler.callbacks[:] = [each for each in handler.callbacks if not _makes_place(each, given)]
    return wrapped(*args, **kwargs)


def _makes_place(callback: Any, given: object) -> bool:
    return isinstance(callback, _Telling) and (callback.automatic or callback is given)


def _trains(wrapped: Callable[..., Any], trainer: Any, args: Any, kwargs: Any) -> Any:
    _callback(trainer)
    return to_its_end(wrapped, args, kwargs)


def _does(name: str, wrapped: Callable[..., Any], trainer: Any, args: Any, kwargs: Any) -> Any:
    ours = _callback(trainer)
    return wrapped(*args, **kwargs) if ours is None else within(ours.run, name, wrapped, args, kwargs)
