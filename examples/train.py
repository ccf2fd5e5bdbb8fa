# SPDX-License-Identifier: Apache-2.0
"""A training script as a user has it: spans by OpenTelemetry's API, and not a word of hardware metrics.

It teaches a small network to tell two rings of points apart, in plain Python, so that it runs on any machine:

    python examples/train.py                            # as it is
    opentelemetry-instrument python examples/train.py   # with telemetry, hardware metrics and alerts; see demo.py
"""

from __future__ import annotations

import json
import math
import random
import tempfile
import time
from array import array
from collections.abc import Iterator
from pathlib import Path

from opentelemetry import trace

EPOCHS = 3
EPOCH_SECONDS = 4.5  # An epoch is as many passes over the data as fit, so the run is as long on any machine.
GPU_SECONDS = 0.002  # Each step waits as if a GPU were at work, and other threads may run.
SAMPLES, BATCH, HIDDEN, LEARNING_RATE = 40_000, 64, 12, 0.04

tracer = trace.get_tracer("train")
rng = random.Random(7)  # noqa: S311 - data, not secrets


def write_data(path: Path) -> None:
    """Write the data set: x, y and the ring (0 or 1) of each point."""
    with path.open("wb") as file:
        for _ in range(SAMPLES):
            ring, angle = rng.randrange(2), rng.uniform(0, math.tau)
            radius = rng.gauss(1 + ring, 0.3)
            array("d", (radius * math.cos(angle), radius * math.sin(angle), ring)).tofile(file)


def batches(path: Path) -> Iterator[list[tuple[float, float, float]]]:
    """Read the data set from its file, batch by batch."""
    with path.open("rb") as file:
        while block := file.read(3 * 8 * BATCH):
            numbers = iter(array("d", block))
            yield list(zip(numbers, numbers, numbers, strict=True))


class Network:
    """Two inputs, one hidden layer, the probability of ring 1 as output; trained by gradient descent."""

    def __init__(self) -> None:
        """Start from small random weights: for each hidden unit those of x, y, its bias and its output."""
        self.units = [[rng.gauss(0, 0.5) for _ in range(4)] for _ in range(HIDDEN)]
        self.bias = 0.0

    def forward(self, x: float, y: float) -> tuple[list[float], float]:
        """Return what the hidden units say, and the probability."""
        hidden = [math.tanh(wx * x + wy * y + b) for wx, wy, b, _ in self.units]
        return hidden, 1 / (1 + math.exp(-self.bias - sum(h * u[3] for h, u in zip(hidden, self.units, strict=True))))

    def step(self, batch: list[tuple[float, float, float]]) -> float:
        """Learn from one batch, and return its loss."""
        loss = 0.0
        for x, y, ring in batch:
            hidden, p = self.forward(x, y)
            loss -= math.log(max(p if ring else 1 - p, 1e-9))
            slope = LEARNING_RATE * (p - ring) / len(batch)
            self.bias -= slope
            for h, unit in zip(hidden, self.units, strict=True):
                inner = slope * unit[3] * (1 - h * h)
                unit[0] -= inner * x
                unit[1] -= inner * y
                unit[2] -= inner
                unit[3] -= slope * h
        return loss / len(batch)


def train_epoch(network: Network, data: Path) -> float:
    """Train until the epoch's time is up, and return the mean loss."""
    losses = []
    end = time.monotonic() + EPOCH_SECONDS
    while True:
        for batch in batches(data):
            losses.append(network.step(batch))
            time.sleep(GPU_SECONDS)
            if time.monotonic() >= end:
                return sum(losses) / len(losses)


def accuracy(network: Network, data: Path) -> float:
    """Return the share of points that the network puts on the right ring."""
    right = [(network.forward(x, y)[1] > 0.5) == ring for batch in batches(data) for x, y, ring in batch]  # noqa: PLR2004
    return sum(right) / len(right)


def main(folder: Path) -> None:
    """Train, save a checkpoint after each epoch, and evaluate: a span for each."""
    data, network = folder / "rings.bin", Network()
    with tracer.start_as_current_span("train"):
        write_data(data)
        for epoch in range(1, EPOCHS + 1):
            with tracer.start_as_current_span("epoch", attributes={"epoch": epoch}) as span:
                loss = train_epoch(network, data)
                span.set_attribute("loss", loss)
                (folder / f"checkpoint-{epoch}.json").write_text(json.dumps([network.bias, network.units]))
            print(f"epoch {epoch}/{EPOCHS}  loss {loss:.4f}")
        with tracer.start_as_current_span("evaluate"):
            print(f"accuracy {accuracy(network, data):.1%}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(temporary))
