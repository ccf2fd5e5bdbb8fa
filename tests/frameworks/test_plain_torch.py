# SPDX-License-Identifier: Apache-2.0
"""What is told of a plain PyTorch training that tells nothing of itself, by the real PyTorch on its CPU, case by case."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, NamedTuple

import pytest
import torch
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import otel_hwmetrics as hw
from otel_hwmetrics.integrations.run import EPOCH, FRAMEWORK, STEP, STEPS, Run
from otel_hwmetrics.stepclock import CLOCK


class Span(NamedTuple):
    """What matters of a span here: its parent's name is empty for none."""

    name: str
    parent: str
    epoch: object
    steps: object


class Told:
    """What is told while a test trains."""

    def __init__(self, exporter: InMemorySpanExporter, provider: TracerProvider) -> None:
        self.exporter = exporter
        self.tracer = provider.get_tracer("job")

    def all(self) -> list[ReadableSpan]:
        """Ours and the job's, that have ended, in the order of their beginning."""
        return sorted(
            self.exporter.get_finished_spans(), key=lambda span: (span.start_time or 0, -(span.end_time or 0))
        )

    def ended(self) -> list[Span]:
        """The same, by what matters."""
        spans = self.all()
        names = {span.context.span_id: span.name for span in spans}
        return [
            Span(
                span.name,
                names.get(span.parent.span_id, "?") if span.parent is not None else "",
                (span.attributes or {}).get(EPOCH),
                (span.attributes or {}).get(STEPS),
            )
            for span in spans
        ]

    def at_the_end(self) -> list[Span]:
        """What there is once the instrumentation has ended."""
        hw.uninstrument()
        return self.ended()


class Job:
    """A training as people write it."""

    def __init__(self) -> None:
        self.model = torch.nn.Linear(4, 4)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01)

    def step(self, batch: Any, optimizer: Any = None) -> None:
        """Train on one batch."""
        optimizer = optimizer or self.optimizer
        optimizer.zero_grad()
        self.model(batch[0] if isinstance(batch, list) else batch).sum().backward()
        optimizer.step()


@pytest.fixture
def options() -> dict[str, Any]:
    """Further ones; a test may set its own by parametrization."""
    return {}


@pytest.fixture
def told(options: dict[str, Any]) -> Iterator[Told]:
    """The instrumentation, with a provider of its own."""
    CLOCK.reset()
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    hw.instrument(
        tracer_provider=provider, integrations="torch", sources="training", alerts=False, flight_recorder=0, **options
    )
    yield Told(exporter, provider)
    hw.uninstrument()
    CLOCK.reset()


@pytest.fixture
def job() -> Job:
    """A training."""
    return Job()


def batches(count: int, **options: Any) -> DataLoader[Any]:
    """A loader of so many batches of two."""
    return DataLoader(TensorDataset(torch.zeros(2 * count, 4)), batch_size=2, **options)


def steps() -> int:
    """How many the step clock has counted."""
    return CLOCK.look().steps


def test_a_pass_with_steps_is_an_epoch_below_the_training(told: Told, job: Job) -> None:
    """Numbered, with the number of its steps; the training ends with the instrumentation, and says who tells it."""
    loader = batches(3)
    for _ in range(2):
        for batch in loader:
            job.step(batch)
    assert told.ended() == [Span("epoch", "?", 0, 3), Span("epoch", "?", 1, 3)]
    assert told.at_the_end() == [
        Span("training", "", None, 6),
        Span("epoch", "training", 0, 3),
        Span("epoch", "training", 1, 3),
    ]
    assert steps() == 6
    assert {(span.attributes or {})[FRAMEWORK] for span in told.all()} == {"torch"}
    assert not trace.get_current_span().get_span_context().is_valid


def test_batches_are_the_very_same_and_so_are_errors(told: Told) -> None:
    """What the loader gives and raises comes through; nothing is kept."""
    first, error = object(), KeyError("broken")

    class Data(IterableDataset[object]):
        def __iter__(self) -> Iterator[object]:
            yield first
            raise error

    iterator = iter(DataLoader(Data(), batch_size=None))
    assert next(iterator) is first
    with pytest.raises(KeyError) as raised:
        next(iterator)
    assert raised.value is error


def accumulated(job: Job) -> int:
    """Four batches a step."""
    for number, batch in enumerate(batches(8)):
        job.model(batch[0]).sum().backward()
        if number % 4 == 3:
            job.optimizer.step()
    return 2


def gan(job: Job) -> int:
    """One optimizer five times, then the other one once."""
    other = torch.optim.SGD(job.model.parameters(), lr=0.01)
    for number, batch in enumerate(batches(12)):
        job.step(batch)
        if number % 5 == 4:
            job.step(batch, other)
    return 12


def groups(job: Job) -> int:
    """An optimizer for each group of parameters."""
    others = [torch.optim.SGD([each], lr=0.01) for each in job.model.parameters()]
    for batch in batches(5):
        job.step(batch)
        for each in others:
            each.step()
    return 5


def two_stages(job: Job) -> int:
    """Another optimizer from the second epoch on, while the first one is still there."""
    second = torch.optim.SGD(job.model.parameters(), lr=0.01)
    for optimizer in (job.optimizer, second):
        for batch in batches(4):
            job.step(batch, optimizer)
    return 8


def one_is_gone(job: Job) -> int:
    """A new optimizer in the middle of an epoch, after the first one."""
    optimizer = torch.optim.SGD(job.model.parameters(), lr=0.01)
    for number, batch in enumerate(batches(4)):
        if number == 2:
            optimizer = torch.optim.SGD(job.model.parameters(), lr=0.02)
            gc.collect()
        job.step(batch, optimizer)
    return 4


def scaled(job: Job) -> int:
    """Gradients that are not finite: GradScaler leaves the steps out."""
    scaler = torch.amp.GradScaler("cpu")
    for number, batch in enumerate(batches(5)):
        job.optimizer.zero_grad()
        factor = float("inf") if number in (0, 3) else 1.0
        scaler.scale(job.model(batch[0]).sum() * factor).backward()
        scaler.step(job.optimizer)
        scaler.update()
    return 3


def no_loader(job: Job) -> int:
    """Data that comes from elsewhere."""
    for _ in range(7):
        job.step(torch.zeros(2, 4))
    return 7


@pytest.mark.parametrize("train", [accumulated, gan, groups, two_stages, one_is_gone, scaled, no_loader])
def test_steps_are_counted_exactly(told: Told, job: Job, train: Callable[[Job], int]) -> None:
    """A step of training is one of the optimizer that steps first."""
    assert train(job) == steps()


def test_an_optimizer_that_rests_for_long_gives_way(told: Told, job: Job) -> None:
    """Without a loader nobody can tell a second stage; after a hundred steps it is plain."""
    job.step(torch.zeros(2, 4))
    second = torch.optim.SGD(job.model.parameters(), lr=0.01)
    for _ in range(150):
        job.step(torch.zeros(2, 4), second)
    assert steps() == 1 + 50


def infinite(job: Job, counted: int = 6) -> list[Span]:
    """A loader without an end is one epoch."""

    class Endless(IterableDataset[torch.Tensor]):
        def __iter__(self) -> Iterator[torch.Tensor]:
            while True:
                yield torch.zeros(4)

    iterator = iter(DataLoader(Endless(), batch_size=2))
    for _ in range(counted):
        job.step(next(iterator))
    return [Span("training", "", None, counted), Span("epoch", "training", 0, counted)]


def abandoned(job: Job) -> list[Span]:
    """A pass that is left is over."""
    loader = batches(9)
    for limit in (2, 3):
        for number, batch in enumerate(loader):
            job.step(batch)
            if number + 1 == limit:
                break
    return [Span("training", "", None, 5), Span("epoch", "training", 0, 2), Span("epoch", "training", 1, 3)]


def persistent(job: Job) -> list[Span]:
    """Workers that persist give the same iterator again, also after a pass that was left."""
    loader = batches(3, num_workers=1, persistent_workers=True, multiprocessing_context="fork")
    for batch in loader:
        job.step(batch)
    for batch in loader:
        job.step(batch)
        break
    for batch in loader:
        job.step(batch)
    return [
        Span("training", "", None, 7),
        Span("epoch", "training", 0, 3),
        Span("epoch", "training", 1, 1),
        Span("epoch", "training", 2, 3),
    ]


def nested(job: Job) -> list[Span]:
    """The pass that steps are asked of is the epoch."""
    inner = batches(2)
    for _ in batches(3):
        for batch in inner:
            job.step(batch)
    return [Span("training", "", None, 6), *(Span("epoch", "training", number, 2) for number in range(3))]


def side_by_side(job: Job) -> list[Span]:
    """A second loader that is gone through at its own pace is part of the epochs of the first."""
    others = iter(batches(50))
    loader = batches(3)
    for _ in range(2):
        for batch in loader:
            next(others)
            job.step(batch)
    return [Span("training", "", None, 6), Span("epoch", "training", 0, 3), Span("epoch", "training", 1, 3)]


def validated(job: Job) -> list[Span]:
    """Within an epoch, and between two."""
    loader, validation = batches(2), batches(2)

    def validate() -> None:
        with torch.no_grad():
            for batch in validation:
                job.model(batch[0])

    for _ in range(2):
        for number, batch in enumerate(loader):
            job.step(batch)
            if number == 0:
                validate()
        validate()
    whole = Span("epoch", "training", 0, 2)
    return [
        *(Span("training", "", None, 4), whole, Span("evaluation", "epoch", None, None)),
        *(Span("evaluation", "training", None, None), whole._replace(epoch=1)),
        *(Span("evaluation", "epoch", None, None), Span("evaluation", "training", None, None)),
    ]


def one_batch_validated(job: Job) -> list[Span]:
    """One batch between two steps is no evaluation that anybody would look for."""
    validation = iter(batches(50))
    for batch in batches(4):
        job.step(batch)
        with torch.inference_mode():
            next(validation)
    return [Span("training", "", None, 4), Span("epoch", "training", 0, 4)]


def only_evaluated(job: Job) -> list[Span]:
    """Without a training there is none; the evaluation is all there is."""
    with torch.no_grad():
        for batch in batches(3):
            job.model(batch[0])
    return [Span("evaluation", "", None, None)]


def without_gradients(job: Job) -> list[Span]:
    """Gradients are off where batches are asked for, and yet it trains."""
    with torch.no_grad():
        for batch in batches(4):
            with torch.enable_grad():
                job.step(batch)
    return [Span("training", "", None, 4), Span("epoch", "training", 0, 4)]


def looked_at_before(job: Job) -> list[Span]:
    """A pass over the data before there is any training, for its mean, is nothing."""
    loader = batches(3)
    for batch in loader:
        batch[0].mean()
    for batch in loader:
        job.step(batch)
    return [Span("training", "", None, 3), Span("epoch", "training", 0, 3)]


def below_the_job_s(job: Job) -> list[Span]:
    """A training span of the job's own takes the place of ours."""
    with hw.training_span("my training"):
        for batch in batches(2):
            job.step(batch)
    return [Span("my training", "", None, None), Span("epoch", "my training", 0, 2)]


def below_the_job_s_epoch(job: Job) -> list[Span]:
    """An epoch of the job's own as well."""
    with hw.training_span("my epoch"):
        for batch in batches(2):
            job.step(batch)
    return [Span("my epoch", "", None, None)]


def beside_a_span(job: Job) -> list[Span]:
    """What is current where the loop begins, and is no training span, is the parent; spans within the loop are the job's."""
    with trace.use_span(hw_tracer("request")) as span:
        for batch in batches(2):
            with trace.use_span(hw_tracer("inner"), end_on_exit=True):
                job.step(batch)
        span.end()
    return [
        Span("request", "", None, None),
        *(Span("training", "request", None, 2), Span("epoch", "training", 0, 2)),
        *(Span("inner", "request", None, None), Span("inner", "request", None, None)),
    ]


def accelerated(job: Job) -> list[Span]:
    """Accelerate asks for a batch ahead: the last step comes when the loader has nothing more."""
    accelerator = import_module("accelerate").Accelerator(cpu=True)
    model, optimizer, loader = accelerator.prepare(job.model, job.optimizer, batches(4))
    for _ in range(2):
        for batch in loader:
            optimizer.zero_grad()
            accelerator.backward(model(batch[0]).sum())
            optimizer.step()
    return [Span("training", "", None, 8), Span("epoch", "training", 0, 4), Span("epoch", "training", 1, 4)]


_TRACER: list[Any] = []


def hw_tracer(name: str) -> Any:
    """A span of the job's own."""
    return _TRACER[-1].start_span(name)


@pytest.mark.parametrize(
    "train",
    [
        *(infinite, abandoned, persistent, nested, side_by_side, validated, one_batch_validated, only_evaluated),
        *(without_gradients, looked_at_before, below_the_job_s, below_the_job_s_epoch, beside_a_span, accelerated),
    ],
)
def test_what_is_an_epoch_and_whose_child(told: Told, job: Job, train: Callable[[Job], list[Span]]) -> None:
    """Each way to go through loaders is told as what it is."""
    _TRACER.append(told.tracer)
    expected = train(job)
    assert told.at_the_end() == expected


def by_a_loop(job: Job) -> None:
    """`hw.steps`."""
    for batch in hw.steps(batches(5)):
        job.step(batch)
        with torch.no_grad():
            list(batches(2))


def by_a_framework(job: Job) -> None:
    """A run that a framework's integration tells."""
    run = Run("somebody")
    run.begin("fit")
    for batch in batches(5):
        job.step(batch)
        run.step()
    run.finish()


@pytest.mark.parametrize(("train", "expected"), [(by_a_loop, []), (by_a_framework, ["fit"])])
def test_where_somebody_else_tells_nothing_is_added(
    told: Told, job: Job, train: Callable[[Job], None], expected: list[str]
) -> None:
    """No span, no evaluation, and no step twice."""
    train(job)
    assert [span.name for span in told.at_the_end()] == expected
    assert steps() == 5
    assert "evaluation" not in CLOCK.phases_met


def test_a_job_that_says_each_step_is_believed(told: Told, job: Job) -> None:
    """Its word counts, and not the optimizer's as well; epochs are told all the same."""
    for _ in range(2):
        for batch in batches(6):
            job.step(batch)
            hw.step()
    assert steps() == 12
    assert [span.name for span in told.at_the_end()] == ["training", "epoch", "epoch"]


@pytest.mark.parametrize("options", [{"step_spans": 3}])
def test_some_steps_get_spans(told: Told, job: Job) -> None:
    """Every third one, within its epoch, and within its time."""
    for _ in range(2):
        for batch in batches(4):
            job.step(batch)
    told.at_the_end()
    spans = {span.context.span_id: span for span in told.all()}
    of_steps = [span for span in spans.values() if span.name == "step"]
    assert [(span.attributes or {})[STEP] for span in of_steps] == [0, 3, 6]
    parents = [spans[span.parent.span_id] for span in of_steps if span.parent]
    assert [(parent.attributes or {})[EPOCH] for parent in parents] == [0, 0, 1]
    for span, parent in zip(of_steps, parents, strict=True):
        assert parent.start_time <= span.start_time < span.end_time <= parent.end_time  # type: ignore[operator]


@pytest.mark.parametrize("options", [{"step_gpu_time": True}])
def test_steps_are_timed_on_the_gpu_where_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, told: Told, job: Job
) -> None:
    """From the first batch of a step, which may have several, to its end; not in an evaluation."""
    heard: list[str] = []

    class Timer:
        """In place of one that needs a GPU."""

        def __init__(self, module: object) -> None:
            assert module is torch

        def begin(self) -> None:
            heard.append("begin")

        def end(self) -> None:
            heard.append("end")

    monkeypatch.setattr("otel_hwmetrics.integrations.torch.watch.GpuTime", Timer)
    for number, batch in enumerate(batches(6)):
        heard.append("batch")
        if number % 2:
            job.step(batch)
    with torch.no_grad():
        list(batches(2))
    # Which batch is the first step's is known only with that step.
    assert heard == ["batch", "batch", "end", *("begin", "batch", "batch", "end") * 2]
    assert steps() == 3


class Slow(TensorDataset):
    """Takes a known time for each sample."""

    waited = 0.0

    def __getitem__(self, index: int) -> Any:
        began = time.monotonic()
        time.sleep(0.02)
        found = super().__getitem__(index)
        Slow.waited += time.monotonic() - began
        return found


def test_waiting_for_data_is_training_s_alone(told: Told, job: Job) -> None:
    """All of it, the first batch's as well; none of an evaluation's, whose time is no step's either."""
    Slow.waited = 0.0
    loader = DataLoader(Slow(torch.zeros(6, 4)), batch_size=2)
    began = time.monotonic()
    for batch in loader:
        job.step(batch)
    look, lasted = CLOCK.look(), time.monotonic() - began
    assert Slow.waited <= (look.waited or 0.0) <= look.time <= lasted
    assert look.time >= 0.9 * lasted
    with torch.no_grad():
        for _ in loader:
            assert CLOCK.look().phases == (("evaluation",),)
    assert CLOCK.look().phases == ()
    after = CLOCK.look()
    assert (after.steps, after.waited, after.time) == (look.steps, look.waited, look.time)
    assert after.age is None


def test_a_thread_that_only_loads_ahead_does_not_train(told: Told, job: Job) -> None:
    """What it waits for is not what training waits for, and its loader's pass is no evaluation."""
    queue: list[Any] = []

    def load() -> None:
        with torch.no_grad():
            for _ in range(2):
                queue.extend(batches(4))

    for _ in range(2):
        thread = threading.Thread(target=load)
        thread.start()
        thread.join()
        while queue:
            job.step(queue.pop())
    assert steps() == 16
    assert not CLOCK.look().waited
    assert CLOCK.phases_met == ()
    assert told.at_the_end() == [Span("training", "", None, 16)]


def test_a_training_on_another_thread_is_told(told: Told, job: Job) -> None:
    """As on the main one."""

    def train() -> None:
        for batch in batches(3):
            job.step(batch)

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert told.at_the_end() == [Span("training", "", None, 3), Span("epoch", "training", 0, 3)]


def test_nothing_of_it_is_kept_and_all_is_put_back(told: Told, job: Job) -> None:
    """Neither batches nor loaders live on; afterwards PyTorch's methods and hooks are its own."""
    from torch.optim import optimizer as optimizers
    from torch.utils.data import dataloader

    loader, alive = batches(2), []
    for batch in loader:
        alive.append(batch[0].untyped_storage()._weak_ref())
        job.step(batch)
    assert dataloader.DataLoader.__iter__.__module__.startswith("torch.")
    loaders = len([each for each in gc.get_objects() if type(each) is DataLoader])
    del loader, batch
    gc.collect()
    assert len([each for each in gc.get_objects() if type(each) is DataLoader]) == loaders - 1
    assert all(torch.UntypedStorage._expired(each) for each in alive)
    for each in alive:
        torch.UntypedStorage._free_weak_ref(each)
    told.at_the_end()
    assert not optimizers._global_optimizer_post_hooks
    for method in (dataloader.DataLoader.__iter__, dataloader._BaseDataLoaderIter.__next__):
        assert not hasattr(method, "__wrapped__")


def test_a_forked_child_tells_nothing(told: Told, job: Job) -> None:
    """It trains as if there were no instrumentation, and its parent's spans stay open."""
    loader = batches(3)
    for number, batch in enumerate(loader):
        job.step(batch)
        if number == 1 and not (child := os.fork()):
            try:
                for each in loader:
                    job.step(each)
                os._exit(CLOCK.look().steps)
            finally:
                os._exit(99)
    assert os.waitpid(child, 0)[1] == 0
    assert told.at_the_end() == [Span("training", "", None, 3), Span("epoch", "training", 0, 3)]


@pytest.mark.filterwarnings("default")  # PyTorch's own, of what its compiler loads
def test_a_compiled_step_is_counted(told: Told, job: Job) -> None:
    """Its graph has no more breaks than PyTorch's own."""

    def compiled() -> int:
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        step = torch.compile(lambda: job.optimizer.step(), backend="eager")  # noqa: PLW0108 - the step is to be in it
        job.model(torch.zeros(2, 4)).sum().backward()
        for _ in range(3):
            step()
        return sum(torch._dynamo.utils.counters["graph_break"].values())

    breaks = compiled()
    assert steps() == 3
    hw.uninstrument()
    assert breaks == compiled()
