# SPDX-License-Identifier: Apache-2.0
"""Hugging Face's Trainer as it is, on this machine's CPU: what is told of it, and that it is left alone otherwise."""

from __future__ import annotations

import copy
import inspect
import pickle
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer import CallbackHandler

from e2e.launch import instrumented
from otel_hwmetrics.integrations import following
from otel_hwmetrics.integrations import transformers as integration
from otel_hwmetrics.integrations.run import told_by_a_framework
from otel_hwmetrics.integrations.transformers import HardwareMetricsCallback
from otel_hwmetrics.stepclock import CLOCK
from otlp_receiver import Receiver

from .told import Told, told_by

METHODS = [
    *((Trainer, name) for name in ("train", "_inner_training_loop", "evaluate", "predict", "save_model")),
    *((Trainer, "_save_checkpoint"), (CallbackHandler, "__init__"), (CallbackHandler, "add_callback")),
]


def methods() -> list[object]:
    """What of the library's is wrapped."""
    return [inspect.getattr_static(owner, name) for owner, name in METHODS]


class Points(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Some data, with something that is done whenever a piece of it is asked for."""

    def __init__(self, count: int, act: Callable[[int], object] = id) -> None:
        self._count, self._act = count, act

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        if index >= self._count:
            raise IndexError(index)
        self._act(index)
        return {"input_ids": torch.tensor([1, 2, 3, index % 16]), "labels": torch.tensor(index % 2)}


def tiny() -> BertForSequenceClassification:
    """A model that is made in no time."""
    config = BertConfig(
        vocab_size=16,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        max_position_embeddings=8,
    )
    return BertForSequenceClassification(config)


def trainer(folder: Path, data: Points, *, kind: type[Trainer] = Trainer, **others: Any) -> Trainer:
    """A Trainer of two epochs with batches of two; other arguments are its own, or those of its TrainingArguments."""
    own = {name: others.pop(name) for name in ("callbacks", "eval_dataset", "model") if name in others}
    settings = {"num_train_epochs": 2, "per_device_train_batch_size": 2, "save_strategy": "no", **others}
    arguments = TrainingArguments(
        output_dir=str(folder), use_cpu=True, report_to="none", disable_tqdm=True, logging_strategy="no", **settings
    )
    return kind(args=arguments, train_dataset=data, **{"model": tiny(), **own})


def ours(trained: Trainer) -> list[Any]:
    """The callbacks of ours that it has."""
    return [each for each in trained.callback_handler.callbacks if isinstance(each, HardwareMetricsCallback)]


@pytest.fixture
def told() -> Iterator[Told]:
    """Trainers are followed."""
    with told_by(integration) as telling:
        yield telling


@pytest.mark.oldest
def test_a_training_is_told(tmp_path: Path) -> None:
    """Spans within each other as things happen; steps, samples and tokens exact; a span for every third step."""
    with told_by(integration, step_spans=3) as told:
        trained = trainer(
            tmp_path,
            Points(8),
            eval_dataset=Points(2),
            eval_strategy="epoch",
            save_strategy="steps",
            save_steps=3,
            gradient_accumulation_steps=2,
            include_num_input_tokens_seen=True,
            num_train_epochs=3,
        )
        trained.train()
        told_of_all = told.paths
    assert len(ours(trained)) == 1
    assert trained.state.global_step == 6
    assert told_of_all == [
        "fit",
        "fit/epoch 0",
        "fit/epoch 0/step 0",
        "fit/evaluation",
        "fit/epoch 1",
        "fit/epoch 1/checkpoint",
        "fit/epoch 1/step 3",
        "fit/evaluation",
        "fit/epoch 2",
        "fit/epoch 2/checkpoint",
        "fit/evaluation",
    ]
    assert told.counted(lambda look: look.steps) == 6
    assert told.counted(lambda look: look.samples) == 24
    assert told.counted(lambda look: look.tokens) == 24 * 4
    assert not told_by_a_framework()


def test_a_last_batch_that_is_smaller_counts_as_it_is(told: Told, tmp_path: Path) -> None:
    """Nothing is told that was not trained on."""
    trainer(tmp_path, Points(5)).train()
    assert told.counted(lambda look: look.steps) == 6
    assert told.counted(lambda look: look.samples) == 10


class Timing(TrainerCallback):
    """A user's own measurement."""

    def __init__(self) -> None:
        self.began: dict[str, float] = {}
        self.seconds: dict[str, float] = {}

    def _begin(self, name: str) -> None:
        self.began[name] = time.perf_counter()

    def _end(self, name: str) -> None:
        self.seconds[name] = time.perf_counter() - self.began[name]

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Of the library's."""
        self._begin("fit")

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        """Of the library's."""
        self._begin("fit/epoch 0")

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        """Of the library's."""
        self._end("fit/epoch 0")
        self._begin("fit/evaluation")

    def on_evaluate(self, *_: Any, **__: Any) -> None:
        """Of the library's."""
        self._end("fit/evaluation")

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Of the library's."""
        self._end("fit")


def test_spans_last_for_as_long_as_what_they_tell_of(told: Told, tmp_path: Path) -> None:
    """Within 5 %, or a tenth of a second, of what the script measures by itself; what the data took is known, and not more."""
    slow = Points(8, lambda _: time.sleep(0.1))
    timing = Timing()
    trainer(tmp_path, slow, eval_dataset=slow, eval_strategy="epoch", num_train_epochs=1, callbacks=[timing]).train()
    assert told.seconds == pytest.approx(timing.seconds, rel=0.05, abs=0.1)
    waited = told.counted(lambda look: look.waited)
    assert 0.8 <= waited <= timing.seconds["fit/epoch 0"]


@pytest.mark.oldest
@pytest.mark.parametrize("span", ["fit/epoch 0", "fit/evaluation", "fit/epoch 1"])
def test_an_alert_is_on_the_span_in_which_it_happened(told: Told, tmp_path: Path, span: str) -> None:
    """A GPU gets hot there and nowhere else."""
    places = iter(["fit/epoch 0", "fit/evaluation", "fit/epoch 1", "the second evaluation"])

    def heat(index: int) -> None:
        if index == 0 and next(places) == span:
            told.world.advance(15)

    trainer(
        tmp_path,
        Points(2, heat),
        eval_dataset=Points(2, heat),
        eval_strategy="epoch",
    ).train()
    assert told.alerts == [(span, "gpu_hot")]


class Own(TrainerCallback):
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
def test_spans_of_the_user_s_own_may_cross_those_that_are_told(told: Told, tmp_path: Path) -> None:
    """None is left current, and what is told lies within what is told alone."""
    own = Own()
    trainer(tmp_path, Points(2), callbacks=[own]).train()
    assert own.current == [True] * 3
    assert trace.get_current_span() is trace.INVALID_SPAN
    assert told.paths == ["fit", "fit/epoch 0", "fit/epoch 1"]


class Stop(BaseException):
    """Not even an Exception."""


@pytest.mark.parametrize(
    "error",
    [pytest.param(ValueError("no data"), marks=pytest.mark.oldest), KeyboardInterrupt(), SystemExit(3), Stop()],
)
@pytest.mark.parametrize("inner", ["fit/epoch 0", "fit/evaluation"])
def test_what_is_raised_goes_through(told: Told, tmp_path: Path, error: BaseException, inner: str) -> None:
    """The very same object; what was open has ended, with an error for its status, and nothing is open any more."""

    def fail(_: int) -> None:
        raise error

    data, evaluated = Points(4, fail), Points(4)
    if inner == "fit/evaluation":
        data, evaluated = evaluated, data
    trained = trainer(tmp_path, data, eval_dataset=evaluated, eval_strategy="epoch")
    with pytest.raises(type(error)) as raised:
        trained.train()
    assert raised.value is error
    assert told.paths[-1] == inner
    assert set(told.failed) == {"fit", inner}
    assert all(type(error).__name__ in description for description in told.failed.values())
    assert not told_by_a_framework()
    assert not ours(trained)[0].run


class Greedy(torch.nn.Module):
    """Has no room for batches of more than one."""

    def __init__(self) -> None:
        super().__init__()
        self.model = tiny()

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor) -> Any:
        """What the model gives."""
        if len(labels) > 1:
            raise RuntimeError("CUDA out of memory. Tried to allocate 1.0 GiB.")
        return self.model(input_ids=input_ids, labels=labels)


def test_a_training_that_begins_anew_with_smaller_batches(told: Told, tmp_path: Path) -> None:
    """Each attempt is a fit of its own, with the error that ended it; samples are counted by the smaller batches."""
    trainer(tmp_path, Points(4), model=Greedy(), auto_find_batch_size=True, num_train_epochs=1).train()
    assert told.paths == ["fit", "fit/epoch 0", "fit", "fit/epoch 0"]
    statuses = [span.status.description or "" for span in told.spans]
    assert ["out of memory" in description for description in statuses] == [True, True, False, False]
    assert told.counted(lambda look: look.samples) == 4


def test_what_a_trainer_does_without_training(told: Told, tmp_path: Path) -> None:
    """An evaluation, a test and a checkpoint by themselves; also of a Trainer with methods of its own."""

    class Own(Trainer):
        def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
            found: dict[str, float] = super().evaluate(*args, **kwargs)
            return found

    idle = trainer(tmp_path, Points(4), kind=Own)
    idle.evaluate({"one": Points(2), "two": Points(2)})
    idle.predict(Points(2))
    idle.save_model(str(tmp_path))
    assert told.paths == ["evaluation", "test", "checkpoint"]
    assert told.counted(lambda look: look.steps) == 0


def test_none_is_told_twice(told: Told, tmp_path: Path) -> None:
    """However the callback came: by itself, by the user, as a class, one after the other; the user's first counts."""
    given = HardwareMetricsCallback()

    class Derived(HardwareMetricsCallback):
        pass

    for each, has in (
        (trainer(tmp_path, Points(2), callbacks=[given]), 1),
        (trainer(tmp_path, Points(2), callbacks=[HardwareMetricsCallback]), 2),
        (trainer(tmp_path, Points(2), callbacks=[Derived]), 2),
        (trainer(tmp_path, Points(2), callbacks=[Derived()]), 2),
        (trainer(tmp_path, Points(2)), 1),
    ):
        each.add_callback(given)
        each.train()
        assert len(ours(each)) == has
        assert [one.tells for one in ours(each)] == [True, False][:has]
    for added in (Derived, Derived()):
        late = trainer(tmp_path, Points(2))
        late.add_callback(added)
        late.train()
        assert [type(one) for one in ours(late)] == [Derived]
    assert told.paths.count("fit") == 7
    assert told.counted(lambda look: look.steps) == 7 * 2


@pytest.mark.parametrize("by_hand", [False, True])
def test_one_that_is_taken_away_does_not_come_again(told: Told, tmp_path: Path, by_hand: bool) -> None:  # noqa: FBT001
    """The user does not want it."""
    trained = trainer(tmp_path, Points(2), callbacks=[HardwareMetricsCallback] if by_hand else [])
    trained.remove_callback(HardwareMetricsCallback)
    trained.train()
    trained.evaluate(Points(2))
    assert ours(trained) == []
    assert told.paths == []


def test_a_training_within_another_lets_that_go_on(told: Told, tmp_path: Path) -> None:
    """It is told within it, and the outer one's present step is under way still."""

    class Inner(TrainerCallback):
        def on_epoch_end(self, *_: Any, **__: Any) -> None:
            trainer(tmp_path, Points(2), num_train_epochs=1).train()
            assert CLOCK.look().age is not None

    trainer(tmp_path, Points(2), num_train_epochs=1, callbacks=[Inner()]).train()
    assert told.paths == ["fit", "fit/epoch 0", "fit/epoch 0/fit", "fit/epoch 0/fit/epoch 0"]
    assert CLOCK.look().age is None


def test_a_trainer_can_be_copied_in_the_middle_of_its_run(told: Told, tmp_path: Path) -> None:
    """As without us."""
    copies: list[Any] = []

    class Copying(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            copies.append(copy.deepcopy(trained.callback_handler))
            copies.append(pickle.loads(pickle.dumps(ours(trained))))  # noqa: S301

    trained = trainer(tmp_path, Points(2), num_train_epochs=1, callbacks=[Copying()])
    trained.train()
    assert len(copies) == 2
    assert not any(each.run for each in copies[1])
    assert told.paths == ["fit", "fit/epoch 0"]


def test_a_trainer_from_before_is_told_and_one_from_after_is_not(tmp_path: Path) -> None:
    """Instrumentation may begin late; once it has ended, callbacks that came by themselves are silent and nothing is wrapped."""
    before = methods()
    trained = trainer(tmp_path, Points(2))
    with told_by(integration) as told:
        trained.train()
        assert told.paths == ["fit", "fit/epoch 0", "fit/epoch 1"]
        assert all(now is not then for now, then in zip(methods(), before, strict=True))
        following.leave()
        assert all(now is then for now, then in zip(methods(), before, strict=True))
        steps = told.counted(lambda look: look.steps)
        trained.train()
        trainer(tmp_path, Points(2)).train()
        assert told.counted(lambda look: look.steps) == steps
        assert len(told.paths) == 3


def test_training_goes_on_where_the_instrumentation_ends_meanwhile(told: Told, tmp_path: Path) -> None:
    """What was open has ended."""

    def leave(_: int) -> None:
        following.leave()

    trainer(tmp_path, Points(4, leave)).train()
    assert told.paths == ["fit", "fit/epoch 0"]
    assert not told_by_a_framework()


def test_by_hand_it_needs_no_integration(tmp_path: Path) -> None:
    """The callback alone does, with exceptions and all."""
    with told_by(integration, integrations="none") as told:

        def fail(_: int) -> None:
            raise ValueError("no data")

        with pytest.raises(ValueError, match="no data"):
            trainer(tmp_path, Points(4, fail), callbacks=[HardwareMetricsCallback(step_spans=1)]).train()
        assert set(told.failed) == {"fit", "fit/epoch 0"}
        assert ours(trainer(tmp_path, Points(4))) == []


def test_the_callback_goes_to_where_a_trainer_is_sent() -> None:
    """A search for hyperparameters may send Trainers to other processes."""
    sent = copy.deepcopy(HardwareMetricsCallback(step_spans=7))  # as pickle does it
    assert type(sent) is HardwareMetricsCallback
    assert sent.step_spans == 7
    assert pickle.dumps(sent)


SCRIPT = """
import sys
import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

class Points(torch.utils.data.Dataset):
    def __len__(self):
        return 8
    def __getitem__(self, index):
        return {"input_ids": torch.tensor([1, 2, 3, index]), "labels": torch.tensor(index % 2)}

sizes = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, max_position_embeddings=8)
model = BertForSequenceClassification(BertConfig(vocab_size=16, **sizes))
arguments = TrainingArguments(
    output_dir=sys.argv[1], use_cpu=True, report_to="none", disable_tqdm=True, save_strategy="epoch",
    num_train_epochs=2, per_device_train_batch_size=2, eval_strategy="epoch",
)
Trainer(model=model, args=arguments, train_dataset=Points(), eval_dataset=Points()).train()
"""


def test_an_unchanged_script_is_told_over_otlp(tmp_path: Path) -> None:
    """Under `opentelemetry-instrument`: spans within each other, steps and samples exact, of the framework and nobody else."""
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    with Receiver() as receiver:
        instrumented(str(script), str(tmp_path), endpoint=receiver.http_endpoint, protocol="http/protobuf")
        spans, metrics = receiver.spans(), receiver.metrics()
    names = {span.span_id: span.name for span in spans}
    assert sorted((names.get(span.parent_id, ""), span.name) for span in spans) == sorted(
        [("", "fit"), *[("fit", "epoch"), ("fit", "evaluation"), ("fit", "checkpoint")] * 2]
    )
    assert [point.value for point in metrics["hwmetrics.training.steps"].points] == [8]
