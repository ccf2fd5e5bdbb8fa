# SPDX-License-Identifier: Apache-2.0
"""A training script that knows nothing of us nor of OpenTelemetry; prints what it measured of itself."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import torch
from torch.utils.data import DataLoader, TensorDataset

EPOCHS, TRAINED, VALIDATED = 3, 24, 12
waits: list[float] = []


class Slow(TensorDataset):
    """Takes its time for each sample, and knows how much."""

    def __getitem__(self, index: int) -> Any:
        began = time.monotonic()
        time.sleep(0.01)
        found = super().__getitem__(index)
        waits.append(time.monotonic() - began)
        return found


model = torch.nn.Linear(4, 4)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
training = DataLoader(Slow(torch.zeros(2 * TRAINED, 4)), batch_size=2)
validation = DataLoader(TensorDataset(torch.zeros(2 * VALIDATED, 4)), batch_size=2)
passes: list[tuple[str, int, int]] = []
for _ in range(EPOCHS):
    began = time.time_ns()
    for (batch,) in training:
        optimizer.zero_grad()
        model(batch).sum().backward()
        optimizer.step()
        time.sleep(0.03)
    passes.append(("epoch", began, time.time_ns()))
    model.eval()
    began = time.time_ns()
    with torch.no_grad():
        for (batch,) in validation:
            model(batch)
            time.sleep(0.03)
    passes.append(("evaluation", began, time.time_ns()))
    model.train()
sys.stdout.write(json.dumps({"passes": passes, "waited": sum(waits), "steps": EPOCHS * TRAINED}) + "\n")
