# SPDX-License-Identifier: Apache-2.0
"""PyTorch Lightning as it is, on this machine's CPU: what is told of it, and that it is left alone otherwise."""

from __future__ import annotations

import copy
import inspect
import pickle
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from e2e.launch import instrumented
from otel_hwmetrics.integrations import following
from otel_hwmetrics.integrations import lightning as integration
from otel_hwmetrics.integrations.lightning_spans import SANITY_CHECK, samples_of
from otel_hwmetrics.integrations.run import told_by_a_framework
from otel_hwmetrics.stepclock import CLOCK
from otlp_receiver import Receiver

from .told import Told, told_by

with warnings.catch_warnings():  # the oldest uses what is deprecated today
    warnings.simplefilter("ignore")
    import lightning.pytorch as pl
    from lightning.pytorch.callbacks import ModelCheckpoint
    from lightning.pytorch.utilities.combined_loader import CombinedLoader

    from otel_hwmetrics.integrations.lightning import HardwareMetricsCallback

# Lightning's own, of trainings as small as these and of machines with many CPUs; and those of the oldest.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

METHODS = [(pl.Trainer, "save_checkpoint"), (CombinedLoader, "__iter__"), (CombinedLoader, "__next__")]


def methods() -> list[object]:
    """What of Lightning's is wrapped."""
    return [inspect.getattr_static(owner, name) for owner, name in METHODS]


class Points(torch.utils.data.Dataset[torch.Tensor]):
    """Some data, with something that is done whenever a piece of it is asked for."""

    def __init__(self, count: int, act: Callable[[int], object] = id) -> None:
        self._count, self._act = count, act

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> torch.Tensor:
        self._act(index)
        return torch.ones(4)


def loader(count: int, act: Callable[[int], object] = id) -> torch.utils.data.DataLoader[torch.Tensor]:
    """Batches of two."""
    return torch.utils.data.DataLoader(Points(count, act), batch_size=2)


def tiny(package: Any = pl) -> Any:
    """A module of one of the packages that is made in no time, with things to be done in its steps."""

    class Tiny(package.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 1)
            self.trains: Callable[[int], object] = id
            self.evaluates: Callable[[int], object] = id

        def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
            self.trains(index)
            return self.layer(batch).sum()

        def validation_step(self, _: torch.Tensor, index: int) -> None:
            self.evaluates(index)

        test_step = validation_step

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.01)

    return Tiny()


def trainer(folder: Path, package: Any = pl, **others: Any) -> Any:
    """A Trainer of two epochs that says nothing and saves nothing, unless it is asked to."""
    settings = {"max_epochs": 2, "enable_checkpointing": False, "num_sanity_val_steps": 0, **others}
    return package.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=str(folder),
        **settings,
    )


def ours(trained: Any) -> list[Any]:
    """The callbacks of ours that it has."""
    return [each for each in trained.callbacks if isinstance(each, HardwareMetricsCallback)]


@pytest.fixture
def told() -> Iterator[Told]:
    """Trainers are followed."""
    with told_by(integration) as telling:
        yield telling


@pytest.mark.oldest
def test_a_training_is_told(tmp_path: Path) -> None:
    """Spans within each other as things happen; steps and samples exact; a span for every third step."""
    with told_by(integration, step_spans=3) as told:
        saving = ModelCheckpoint(dirpath=str(tmp_path), save_top_k=-1, save_on_train_epoch_end=True)
        trained = trainer(
            tmp_path,
            max_epochs=3,
            accumulate_grad_batches=2,
            num_sanity_val_steps=1,
            check_val_every_n_epoch=2,
            enable_checkpointing=True,
            callbacks=[saving],
        )
        trained.fit(tiny(), loader(7), loader(2))
        trained.validate(dataloaders=loader(2), verbose=False, ckpt_path=None, model=trained.lightning_module)
        trained.test(dataloaders=loader(2), verbose=False, ckpt_path=None, model=trained.lightning_module)
        trained.save_checkpoint(str(tmp_path / "last.ckpt"))
    assert len(ours(trained)) == 1
    assert trained.global_step == 6
    assert told.paths == [
        "fit",
        "fit/validation",
        "fit/epoch 0",
        "fit/epoch 0/step 0",
        "fit/epoch 0/checkpoint",
        "fit/epoch 1",
        "fit/epoch 1/step 3",
        "fit/epoch 1/validation",
        "fit/epoch 1/checkpoint",
        "fit/epoch 2",
        "fit/epoch 2/checkpoint",
        "validation",
        "test",
        "checkpoint",
    ]
    assert [SANITY_CHECK in (span.attributes or {}) for span in told.spans if span.name == "validation"] == [
        True,
        False,
        False,
    ]
    assert told.counted(lambda look: look.steps) == 6
    assert told.counted(lambda look: look.samples) == 21
    assert not told_by_a_framework()


@pytest.mark.oldest
@pytest.mark.parametrize(("optimizers", "own"), [(2, False), (1, True)])
def test_a_step_of_a_module_that_optimizes_by_hand_is_a_batch(
    told: Told,
    tmp_path: Path,
    optimizers: int,
    own: bool,  # noqa: FBT001
) -> None:
    """With two optimizers that step in each batch, and with one that Lightning knows nothing of."""
    module = tiny()
    module.automatic_optimization = False
    of_its_own = torch.optim.SGD(module.parameters(), lr=0.01)
    module.configure_optimizers = lambda: [torch.optim.SGD(module.parameters(), lr=0.01) for _ in range(optimizers)]
    module.trains = lambda _: [each.step() for each in ([of_its_own] if own else module.optimizers())]
    trainer(tmp_path, max_epochs=1).fit(module, loader(8))
    assert told.counted(lambda look: look.steps) == 4


class Timing(pl.Callback):
    """A user's own measurement."""

    def __init__(self) -> None:
        self.began: dict[str, float] = {}
        self.seconds: dict[str, float] = {}

    def _begin(self, name: str) -> None:
        self.began[name] = time.perf_counter()

    def _end(self, name: str) -> None:
        self.seconds[name] = time.perf_counter() - self.began[name]

    def setup(self, *_: Any, **__: Any) -> None:
        """Of Lightning's."""
        self._begin("fit")

    def on_train_epoch_start(self, *_: Any) -> None:
        """Of Lightning's."""
        self._begin("fit/epoch 0")

    def on_train_batch_end(self, *_: Any) -> None:
        """Of Lightning's; as a logger that waits for the GPU."""
        time.sleep(0.1)

    def on_validation_start(self, *_: Any) -> None:
        """Of Lightning's."""
        self._begin("fit/epoch 0/validation")

    def on_validation_end(self, *_: Any) -> None:
        """Of Lightning's."""
        self._end("fit/epoch 0/validation")

    def on_train_end(self, *_: Any) -> None:
        """Of Lightning's."""
        self._end("fit/epoch 0")

    def teardown(self, *_: Any, **__: Any) -> None:
        """Of Lightning's."""
        self._end("fit")


class SlowToStart(torch.utils.data.DataLoader[torch.Tensor]):
    """Has workers that take their time to begin, say."""

    def __iter__(self) -> Any:
        time.sleep(0.3)
        return super().__iter__()


def test_spans_last_for_as_long_as_what_they_tell_of(told: Told, tmp_path: Path) -> None:
    """Within 5 %, or a tenth of a second, of what the script measures by itself; what its data took is known, and nothing else counts as that."""
    timing, took = Timing(), []

    def slowly(_: int) -> None:
        began = time.perf_counter()
        time.sleep(0.1)
        took.append(time.perf_counter() - began)

    validated = SlowToStart(Points(4, lambda _: time.sleep(0.1)), batch_size=2)
    trainer(tmp_path, callbacks=[timing], max_epochs=1).fit(tiny(), loader(8, slowly), validated)
    assert told.seconds == pytest.approx(timing.seconds, rel=0.05, abs=0.1)
    assert len(took) == 8
    assert told.counted(lambda look: look.waited) == pytest.approx(
        sum(took), rel=0.2
    )  # 1.1 s at least, if they were all


@pytest.mark.oldest
@pytest.mark.parametrize("span", ["fit/epoch 0", "fit/epoch 0/validation", "fit/epoch 1"])
def test_an_alert_is_on_the_span_in_which_it_happened(told: Told, tmp_path: Path, span: str) -> None:
    """A GPU gets hot there and nowhere else."""
    places = iter(["fit/epoch 0", "fit/epoch 0/validation", "fit/epoch 1", "fit/epoch 1/validation"])

    def heat(_: int) -> None:
        if next(places) == span:
            told.world.advance(15)

    module = tiny()
    module.trains = module.evaluates = heat
    trainer(tmp_path).fit(module, loader(2), loader(2))
    assert told.alerts == [(span, "gpu_hot")]


class Own(pl.Callback):
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

    setup = on_train_epoch_start = _begin
    teardown = on_train_epoch_end = _end


@pytest.mark.oldest
def test_spans_of_the_user_s_own_may_cross_those_that_are_told(told: Told, tmp_path: Path) -> None:
    """None is left current, and what is told lies within what is told alone."""
    own = Own()
    trainer(tmp_path, callbacks=[own]).fit(tiny(), loader(2))
    assert own.current == [True] * 3
    assert trace.get_current_span() is trace.INVALID_SPAN
    assert told.paths == ["fit", "fit/epoch 0", "fit/epoch 1"]


@pytest.mark.oldest
@pytest.mark.parametrize("inner", ["fit", "validate"])
def test_a_run_within_another_lets_that_go_on(told: Told, tmp_path: Path, inner: str) -> None:
    """The outer one's present step is under way still, and its waits for data are known as before."""
    took: list[float] = []
    waited: list[float] = []

    def slowly(_: int) -> None:
        began = time.perf_counter()
        time.sleep(0.05)
        took.append(time.perf_counter() - began)

    class Inner(pl.Callback):
        def on_train_batch_start(self, outer: Any, _module: Any, _batch: Any, index: int) -> None:
            if outer.current_epoch == 1 and index == 0:
                getattr(trainer(tmp_path, max_epochs=1), inner)(tiny(), loader(2))
                assert CLOCK.look().age is not None
                took.clear()
                waited.append(told.counted(lambda look: look.waited))

    trainer(tmp_path, callbacks=[Inner()]).fit(tiny(), loader(8, slowly))
    within = ["fit", "fit/epoch 0"] if inner == "fit" else ["validation"]
    assert told.paths[3:] == [f"fit/epoch 1/{path}" for path in within]
    assert len(took) >= 4
    assert told.counted(lambda look: look.waited) - waited[0] >= 0.9 * sum(took)
    assert CLOCK.look().age is None


class Stop(BaseException):
    """Not even an Exception."""


@pytest.mark.oldest
@pytest.mark.parametrize("error", [ValueError("no data"), KeyboardInterrupt(), SystemExit(3), Stop()])
@pytest.mark.parametrize("inner", ["fit/epoch 0", "fit/epoch 0/validation"])
def test_what_is_raised_goes_through(
    told: Told, tmp_path: Path, error: BaseException, inner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As without us; what was open has ended, with an error for its status, and nothing is open any more."""
    monkeypatch.setattr("signal.signal", lambda *_: None)  # Lightning switches Ctrl-C off for the process

    def fail(_: int) -> None:
        raise error

    module = tiny()
    if inner == "fit/epoch 0":
        module.trains = fail
    else:
        module.evaluates = fail
    trained = trainer(tmp_path)
    raised: BaseException | None = None
    try:
        trained.fit(module, loader(4), loader(4))
    except BaseException as caught:  # noqa: BLE001 - it is the subject
        raised = caught
    if not isinstance(error, KeyboardInterrupt):  # of which Lightning makes an exit, since 2.5
        assert raised is error
    assert told.paths[-1] == inner
    opened = {"/".join(inner.split("/")[: depth + 1]) for depth in range(inner.count("/") + 1)}
    assert set(told.failed) == opened
    assert all(type(error).__name__ in description for description in told.failed.values())
    assert not told_by_a_framework()
    assert not ours(trained)[0].run


def test_a_checkpoint_that_fails_is_told_as_that(told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole of its writing is in the span, not what comes before alone."""

    def full(*_: Any, **__: Any) -> None:
        told.world.advance(15)
        raise OSError("No space left on device")

    trained = trainer(tmp_path, max_epochs=1, enable_checkpointing=True, callbacks=[ModelCheckpoint(str(tmp_path))])
    monkeypatch.setattr(trained.strategy.checkpoint_io, "save_checkpoint", full)
    with pytest.raises(OSError, match="No space left"):
        trained.fit(tiny(), loader(2))
    assert list(told.failed) == ["fit", "fit/epoch 0", "fit/epoch 0/checkpoint"]
    assert told.alerts == [("fit/epoch 0/checkpoint", "gpu_hot")]


@pytest.mark.oldest
def test_nobody_is_told_twice(told: Told, tmp_path: Path) -> None:
    """A callback that was given by hand tells the Trainer alone; so does one of a list that goes from Trainer to Trainer."""
    by_hand: list[Any] = [HardwareMetricsCallback(step_spans=1)]
    first = trainer(tmp_path, callbacks=by_hand, max_epochs=1)
    second = trainer(tmp_path, callbacks=by_hand, max_epochs=1)
    assert len(ours(second)) == 3
    for trained in (first, second):
        trained.fit(tiny(), loader(2))
    assert told.paths == ["fit", "fit/epoch 0", "fit/epoch 0/step 0"] * 2


@pytest.mark.oldest
def test_a_callback_by_hand_tells_by_itself(tmp_path: Path) -> None:
    """Where Lightning is not to be followed, and nothing joins by itself."""
    with told_by(integration, integrations="none") as told:
        assert integration.callbacks() == []
        trained = trainer(tmp_path, max_epochs=1, callbacks=[HardwareMetricsCallback()])
        trained.fit(tiny(), loader(2))
        trained.save_checkpoint(str(tmp_path / "last.ckpt"))
        other = trainer(tmp_path, max_epochs=1)
        other.fit(tiny(), loader(2))
    assert ours(other) == []
    assert told.paths == ["fit", "fit/epoch 0", "checkpoint"]


def test_lightning_is_left_as_it_was(tmp_path: Path) -> None:
    """Its methods are its own again; a callback that had joined is silent, and ends what it had open."""
    before = methods()
    with told_by(integration) as told:
        assert all(now is not then for now, then in zip(methods(), before, strict=True))
        trained = trainer(tmp_path, max_epochs=2)
        module = tiny()
        module.trains = lambda index: following.leave() if index == 1 else None
        trained.fit(module, loader(6))
        assert methods() == before
        trained.fit_loop.max_epochs = 3
        trained.fit(module, loader(6))
        assert told.paths == ["fit", "fit/epoch 0"]
    assert integration.callbacks() == []


def test_a_callback_can_be_copied(told: Told, tmp_path: Path) -> None:
    """In the middle of a run as well, as tuners and launchers do; the copy has nothing open."""
    callback = HardwareMetricsCallback(step_spans=7)
    copies: list[Any] = []
    module = tiny()
    module.trains = lambda _: copies.extend([copy.deepcopy(callback), pickle.loads(pickle.dumps(callback))])  # noqa: S301
    trainer(tmp_path, max_epochs=1, callbacks=[callback]).fit(module, loader(2))
    assert [type(each) for each in copies] == [HardwareMetricsCallback] * 2
    assert [each.step_spans for each in copies] == [7, 7]
    assert not any(each.run for each in copies)
    assert told.paths == ["fit", "fit/epoch 0", "fit/epoch 0/step 0"]


@pytest.mark.parametrize(
    ("batch", "samples"),
    [
        (torch.ones(3, 4), 3),
        ((torch.ones(5, 4), torch.ones(5)), 5),
        ({"ids": [torch.ones(2, 9)], "labels": torch.ones(2)}, 2),
        (torch.tensor(1.0), 0),
        ([], 0),
        ({}, 0),
        ("text", 0),
        (None, 0),
        ([[[[[torch.ones(2)]]]]], 0),
    ],
)
def test_samples_are_counted_where_they_can_be_seen(batch: Any, samples: int) -> None:
    """By the first dimension of the first tensor, as Lightning's own logging has it; else they are not told."""
    assert samples_of(batch) == samples


def test_learning_rates_can_be_looked_for(told: Told, tmp_path: Path) -> None:
    """Lightning's tuner trains with callbacks of its own in place of ours, within a fit; what is ours ends with it."""
    from lightning.pytorch.tuner import Tuner

    module = tiny()
    module.lr = 0.01
    Tuner(trainer(tmp_path, max_epochs=1)).lr_find(module, loader(8), num_training=3, update_attr=False)
    assert told.paths[0] == "fit"
    assert not told_by_a_framework()


@pytest.mark.oldest
def test_both_packages_take_the_same_class(tmp_path: Path) -> None:
    """The other one may be loaded later; each Trainer is told once, and takes two callbacks of one class."""
    before = HardwareMetricsCallback()
    package = import_module("pytorch_lightning")
    assert isinstance(before, pl.Callback)
    assert isinstance(before, package.Callback)
    with told_by(integration) as told:
        for each in (package, pl):
            trained = trainer(tmp_path, each, max_epochs=1, callbacks=[before, HardwareMetricsCallback()])
            assert [callback.automatic for callback in ours(trained)] == [False, False, True]
            trained.fit(tiny(each), loader(2))
            trained.save_checkpoint(str(tmp_path / "last.ckpt"))
    assert told.paths == ["fit", "fit/epoch 0", "checkpoint"] * 2
    assert told.counted(lambda look: look.steps) == 2


JOB = """
import sys
assert "lightning" not in sys.modules and "torch" not in sys.modules
import lightning.pytorch as pl, torch
class Tiny(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)
    def training_step(self, batch, _):
        return self.layer(batch).sum()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)
settings = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
pl.Trainer(max_epochs=1, accelerator="cpu", **settings).fit(Tiny(), torch.utils.data.DataLoader(torch.ones(4, 4)))
"""


def test_a_script_needs_no_word_of_us(tmp_path: Path) -> None:
    """Under opentelemetry-instrument its run arrives as spans and steps, and PyTorch's own spans are not told beside it."""
    script = tmp_path / "train.py"
    script.write_text(JOB)
    with Receiver() as receiver:
        instrumented(
            str(script), endpoint=receiver.http_endpoint, protocol="http/protobuf", OTEL_PYTHON_HWMETRICS_LOUD="0"
        )
        names = [span.name for span in receiver.spans()]
    assert sorted(names) == ["epoch", "fit"]


def test_without_lightning_its_absence_is_told_to_who_asks_for_a_callback() -> None:
    """And to nobody else: the entry point gives nothing, and loads nothing."""
    code = (
        "import sys\n"
        "sys.modules['lightning.pytorch'] = sys.modules['lightning'] = sys.modules['pytorch_lightning'] = None\n"
        "from otel_hwmetrics.integrations import lightning\n"
        "assert lightning.callbacks() == []\n"
        "assert 'torch' not in sys.modules\n"
        "for name in list(sys.modules):\n"
        "    if sys.modules[name] is None: del sys.modules[name]\n"
        "sys.meta_path.insert(0, type('No', (), {'find_spec': staticmethod(lambda name, *_: (_ for _ in ()).throw("
        "ModuleNotFoundError(f'No module named {name!r}')) if 'lightning' in name.split('.')[0] else None)}))\n"
        "try:\n"
        "    lightning.HardwareMetricsCallback\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert "HardwareMetricsCallback is a callback of PyTorch Lightning" in done.stdout, done.stderr
    assert "pip install lightning" in done.stdout
