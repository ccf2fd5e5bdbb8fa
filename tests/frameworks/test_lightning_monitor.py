# SPDX-License-Identifier: Apache-2.0
"""`ResourceMonitorCallback` in real Lightning, made by real Hydra: console, files and alerts exact on a scripted GPU."""

from __future__ import annotations

import queue
import re
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import otel_hwmetrics as hw
from otel_hwmetrics.integrations import lightning as integration
from otel_hwmetrics.integrations import resource_watch
from otel_hwmetrics.model import Snapshot
from otel_hwmetrics.sinks.hooks import HOOKS
from otel_hwmetrics.sinks.tracker import TRACKER
from otel_hwmetrics.testing import FakeGpu, FakeNvml

from .told import told_by

with warnings.catch_warnings():  # the oldest uses what is deprecated today
    warnings.simplefilter("ignore")
    import lightning.pytorch as pl

    from otel_hwmetrics.integrations.lightning import HardwareMetricsCallback, ResourceMonitorCallback

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

CONFIG = """
resource_monitor:
  _target_: otel_hwmetrics.integrations.lightning.ResourceMonitorCallback
  enabled: true
  log_interval: 2
  gpu_monitoring: true
  cpu_monitoring: false
  io_monitoring: false
  alert_gpu_underutilization: true
  alert_memory_pressure: true
  alert_io_bottleneck: true
  gpu_util_threshold: 0.5
  memory_threshold: 0.9
  io_wait_threshold: 0.3
  export_timeseries: true
  timeseries_path: resource_logs
"""
QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}


class Tiny(pl.LightningModule):
    """Does something in each training step."""

    def __init__(self, act: Any = id) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)
        self.act = act

    def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
        """Of Lightning's."""
        self.act(index)
        loss: torch.Tensor = self.layer(batch).sum()
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Of Lightning's."""
        return torch.optim.SGD(self.parameters(), lr=0.01)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Wait for what is yet to be shown for as long as this machine may take; nothing fires on in the next test."""
    monkeypatch.setattr(resource_watch, "PATIENCE", 60.0)
    yield
    HOOKS.begin()


def looked_at(_: int) -> None:
    """Wait until the machine was looked at."""
    end = time.monotonic() + 60
    while hw.snapshot() is None:
        assert time.monotonic() < end
        time.sleep(0.01)


def looked_at_anew(last: list[Snapshot | None]) -> None:
    """Wait until the machine was looked at once more."""
    end = time.monotonic() + 60
    while hw.snapshot() in (None, last[-1]):
        assert time.monotonic() < end
        time.sleep(0.01)
    last.append(hw.snapshot())


def fit(module: pl.LightningModule, batches: int, *callbacks: Any, epochs: int = 1) -> Any:
    """Train on so many batches."""
    trainer = pl.Trainer(max_epochs=epochs, accelerator="cpu", callbacks=list(callbacks), **QUIET)
    trainer.fit(module, torch.utils.data.DataLoader(torch.ones(batches, 4)))
    return trainer


def test_made_by_hydra_it_shows_and_writes_a_scripted_gpu_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every second batch of each epoch; the alert under the block from the batch on in which it fires."""
    hydra, omegaconf = pytest.importorskip("hydra.utils"), pytest.importorskip("omegaconf")
    monkeypatch.chdir(tmp_path)
    heard: queue.SimpleQueue[str] = queue.SimpleQueue()
    config = omegaconf.OmegaConf.create(CONFIG)
    monitor = hydra.instantiate(config.resource_monitor, on_alert=lambda alert: heard.put(alert.name))
    assert type(monitor) is ResourceMonitorCallback
    with told_by(integration) as told:
        world = told.world
        monkeypatch.setattr(hw, "snapshot", lambda: world.pipeline.sampler.snapshot)

        def act(index: int) -> None:
            heats = index == 2 and module.trainer.current_epoch == 0
            world.advance(9 if heats else 1)
            if heats:
                assert heard.get(timeout=60) == "gpu_hot"

        module = Tiny(act)
        fit(module, 4, monitor, epochs=2)
        assert told.alerts == [("fit/epoch 0", "gpu_hot")]
    block = "[Resources] Batch {}:\n  GPU 0: 90.0% util, 0/81920 MB (0%), {}°C\n"
    alerts = "\n[Resources] ⚠️ ALERTS:\n  - GPU temperature high: 90°C\n"
    cool, hot = (block.format("{}", degrees) for degrees in (60, 90))
    assert capsys.readouterr().out == cool.format(0) + "".join(hot.format(batch) + alerts for batch in (2, 0, 2))
    header = "step,timestamp,gpu_0_util,gpu_0_memory_pct,gpu_0_memory_used_mb,gpu_0_memory_total_mb,gpu_0_temp_c,gpu_0_power_w"
    for epoch, degrees in ((0, ["60.0", "90.0"]), (1, ["90.0", "90.0"])):
        lines = (tmp_path / "resource_logs" / f"epoch_{epoch}.csv").read_text().splitlines()
        rows = [line.split(",") for line in lines[1:]]
        assert lines[0] == header
        assert [row[:1] + row[2:] for row in rows] == [
            ["0", "90.0", "0.0", "0.0", "81920.0", degrees[0], "75.0"],
            ["2", "90.0", "0.0", "0.0", "81920.0", degrees[1], "75.0"],
        ]
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", row[1]) for row in rows)


@pytest.mark.oldest
def test_by_itself_it_is_all_that_is_needed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It has the machine measured and the run told, with its spans, and ends both with it; also after an exception."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    real = hw.instrument
    seen: list[bool] = []
    shown: list[Snapshot | None] = [None]

    def act(_: int) -> None:
        looked_at_anew(shown)
        seen.append(TRACKER.on)
        if len(seen) == 3:
            raise ValueError("no more")

    with FakeNvml([FakeGpu()]), pytest.MonkeyPatch.context() as patch:
        patch.setattr(hw, "instrument", lambda **options: real(tracer_provider=provider, flight_recorder=0, **options))
        for _ in range(2):
            monitor = ResourceMonitorCallback(log_interval=1, timeseries_path=str(tmp_path / "logs"))
            trainer = pl.Trainer(max_epochs=1, accelerator="cpu", callbacks=[monitor], **QUIET)
            with suppress(ValueError):
                trainer.fit(Tiny(act), torch.utils.data.DataLoader(torch.ones(2, 4)))
            assert not TRACKER.on
            assert not any(isinstance(each, HardwareMetricsCallback) for each in trainer.callbacks)
    spans = exporter.get_finished_spans()
    assert [span.name for span in spans] == ["epoch", "fit"] * 2
    assert [span.status.is_ok for span in spans] == [True, True, False, False]
    assert capsys.readouterr().out.count("[Resources] Batch ") == 2
    assert len((tmp_path / "logs" / "epoch_0.csv").read_text().splitlines()) == 3


def test_a_disk_without_room_does_not_stop_the_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A folder that is a file, say."""
    (tmp_path / "logs").write_text("in the way")
    with hw.instrument(sources=("system",), flight_recorder=0):
        trainer = fit(Tiny(looked_at), 2, ResourceMonitorCallback(timeseries_path=str(tmp_path / "logs")))
    assert trainer.global_step == 2
    assert [record.getMessage() for record in caplog.records if "No more time series" in record.getMessage()]
