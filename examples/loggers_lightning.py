# SPDX-License-Identifier: Apache-2.0
"""Hardware metrics beside the loss in whatever logger a Trainer of Lightning has: `pip install lightning`.

To a CSV file here. Lightning logs numbers as tensors of 32 bits: seven digits, which is enough for a plot.
"""

from __future__ import annotations

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import CSVLogger

import otel_hwmetrics as hw

hw.instrument()


class Model(pl.LightningModule):  # type: ignore[misc] # where Lightning is not installed it is no class
    """A model of one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
        """Log the loss of each batch, and the machine with every tenth."""
        loss: torch.Tensor = self.layer(batch).square().mean()
        self.log("loss", loss)
        snapshot = hw.snapshot()  # the newest look at the machine, of the last second; reads nothing
        if index % 10 == 0 and snapshot is not None:
            self.log_dict(snapshot.as_dict())
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Of Lightning's."""
        return torch.optim.SGD(self.parameters(), lr=0.01)


data = torch.utils.data.DataLoader(torch.rand(200, 4), batch_size=4)
trainer = pl.Trainer(
    max_epochs=1, accelerator="cpu", logger=CSVLogger("runs"), log_every_n_steps=10, enable_progress_bar=False
)
trainer.fit(Model(), data)
hw.uninstrument()
