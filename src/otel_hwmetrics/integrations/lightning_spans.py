# SPDX-License-Identifier: Apache-2.0
"""What is told of a Trainer of Lightning: spans for fit, epoch, validation, test and checkpoint, its steps and its waits.

Checkpoints and waits for data have no hooks: `otel_hwmetrics.integrations.lightning_around`.
"""

from __future__ import annotations

import sys
from typing import Any, Final

from otel_hwmetrics._guard import guard
from otel_hwmetrics.integrations import lightning_around
from otel_hwmetrics.integrations.lightning import LIGHTNING, PACKAGES, Numbered, join
from otel_hwmetrics.integrations.run import EPOCH, STEP
from otel_hwmetrics.integrations.telling import Teller, heard, the_one_of
from otel_hwmetrics.stepclock import CLOCK

_ENDING: Final = guard("hearing the end of a batch of lightning")  # made once: each batch has it
SANITY_CHECK: Final = "hwmetrics.training.sanity_check"
"""Whether a validation is the short one before training begins."""


class HardwareMetricsCallback(Teller, Numbered):
    """Tells a Trainer's run, on the thread that trains.

    ``fit`` lasts from ``setup`` to ``teardown``, so that the process group's beginning and checkpoints that are restored are
    in it. An epoch is over when the next begins, or training ends: Lightning saves checkpoints that are due at its end after
    this callback has heard of that. Within it are its validations, and those before training in ``fit``.

    A step is one of the optimizer's: batches whose gradients are accumulated are one, and so is a batch with steps of several
    optimizers. Where the module optimizes by hand, and not by the optimizers that Lightning gives it, it is a batch. Its
    samples are those of its batches, by the first dimension of their first tensor.

    Args:
        step_spans: One of how many steps gets a span of its own; 0 for none.
    """

    framework = LIGHTNING

    def __init__(self, step_spans: int = 0) -> None:
        super().__init__(step_spans)
        self._in_epoch = False
        self._stepped = 0
        self._samples = 0  # of the batches of the present step

    def __getstate__(self) -> dict[str, Any]:
        """A copy, in this process or another, begins with nothing open."""
        return {**super().__getstate__(), "_in_epoch": False}

    def setup(self, trainer: Any, _module: Any, stage: str) -> None:
        """A run begins: fit, validate, test or predict."""
        with guard("hearing setup of lightning"):
            self.finish()
            the_one_of(each for each in trainer.callbacks if isinstance(each, HardwareMetricsCallback))
            if self.tells:
                for package in PACKAGES:
                    if package in sys.modules:
                        lightning_around.wrap(sys.modules[package])
                lightning_around.begin(self, trainer)
                if stage == "fit":
                    self.begin("fit")

    def finish(self, error: BaseException | None = None) -> None:
        """All is over, by an exception or without."""
        self._in_epoch = False
        lightning_around.end(self)
        super().finish(error)

    def teardown(self, _trainer: Any, _module: Any, stage: str) -> None:  # noqa: ARG002 - as Lightning calls it
        """The run is over."""
        self.finish()

    def on_exception(self, _trainer: Any, _module: Any, exception: BaseException) -> None:
        """The run is over by an exception, Ctrl-C or `sys.exit`; Lightning raises it on."""
        self.finish(exception)

    @heard
    def on_train_start(self, trainer: Any, _module: Any) -> None:
        """Training begins, from the start or from a checkpoint."""
        self._stepped, self._samples = trainer.global_step, 0

    @heard
    def on_train_epoch_start(self, trainer: Any, _module: Any) -> None:
        """An epoch begins."""
        self.run.end("epoch")
        self.run.begin("epoch", {EPOCH: trainer.current_epoch})
        self._in_epoch = True

    @heard
    def on_train_end(self, _trainer: Any, _module: Any) -> None:
        """Training is over; what follows within the run is no part of an epoch."""
        self.run.end("epoch")
        self._in_epoch = False

    def on_train_batch_start(self, trainer: Any, _module: Any, _batch: Any, _batch_idx: int) -> None:
        """A batch is there."""
        if self.step_spans or not self._in_epoch:
            self._begin_batch(trainer)

    @heard
    def _begin_batch(self, trainer: Any) -> None:
        if not self._in_epoch:  # resumed in the middle of one, whose start is told to nobody
            self.on_train_epoch_start(trainer, None)
        if self.step_spans and self._stepped % self.step_spans == 0 and not self.run.is_in("step"):
            self.run.begin("step", {STEP: self._stepped})

    def on_train_batch_end(self, trainer: Any, module: Any, _outputs: Any, batch: Any, _batch_idx: int) -> None:
        """A batch was gone through."""
        with _ENDING:
            if not self._in_epoch or not self.tells:
                self.finish()
                return
            self._samples += samples_of(batch)
            before, self._stepped = self._stepped, trainer.global_step
            if self._stepped != before or not module.automatic_optimization:
                if self.step_spans:
                    self.run.end("step")
                CLOCK.step(self._samples or None)
                self._samples = 0

    @heard
    def on_validation_start(self, trainer: Any, _module: Any) -> None:
        """A validation begins."""
        self.begin("validation", {SANITY_CHECK: True} if trainer.sanity_checking else None)

    @heard
    def on_validation_end(self, _trainer: Any, _module: Any) -> None:
        """A validation is over."""
        self.run.end("validation")

    @heard
    def on_test_start(self, _trainer: Any, _module: Any) -> None:
        """A test begins."""
        self.begin("test")

    @heard
    def on_test_end(self, _trainer: Any, _module: Any) -> None:
        """A test is over."""
        self.run.end("test")


join(HardwareMetricsCallback)


def samples_of(batch: Any) -> int:
    """How many samples a batch has, by the first dimension of its first tensor; 0 where there is none to be seen."""
    for _ in range(4):
        shape = getattr(batch, "shape", None)
        if shape is not None:
            return int(shape[0]) if len(shape) else 0
        if isinstance(batch, dict):
            batch = next(iter(batch.values()), None)
        elif isinstance(batch, list | tuple) and batch:
            batch = batch[0]
        else:
            break
    return 0
