# SPDX-License-Identifier: Apache-2.0
"""The examples for loggers: each gives its logger names that this takes, without a network, and with no dependency of ours.

The loggers themselves are not installed for the tests; a few lines that write down what they are given stand in for them.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

WRITES = """
import json
class Logger:
    def __enter__(self): return self
    def __exit__(self, *_): pass
    def note(self, values, step):
        with open("noted.jsonl", "a") as file:
            file.write(json.dumps([step, values]) + chr(10))
"""
STAND_INS = {
    "wandb": {
        "wandb.py": WRITES
        + "class Run(Logger):\n    def log(self, values, *, step): self.note(values, step)\n"
        + "def init(*, project, mode):\n    assert mode == 'offline'\n    return Run()\n"
    },
    "mlflow": {
        "mlflow.py": WRITES
        + "def set_tracking_uri(uri):\n    assert uri.startswith('sqlite:///')\n"
        + "start_run = Logger\n"
        + "def log_metrics(values, step): Logger().note(values, step)\n"
    },
    "tensorboard": {
        "torch/__init__.py": "",
        "torch/utils/__init__.py": "",
        "torch/utils/tensorboard.py": WRITES
        + "class SummaryWriter(Logger):\n    def add_scalar(self, tag, value, step): self.note({tag: value}, step)\n",
    },
}


@pytest.mark.parametrize("logger", sorted(STAND_INS))
def test_a_logger_is_given_what_the_machine_did(logger: str, tmp_path: Path) -> None:
    """At three steps: the loss, and numbers by legal names beside it."""
    for name, text in STAND_INS[logger].items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"loggers_{logger}.py")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "OTEL_PYTHON_HWMETRICS_INTEGRATIONS": "none"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    noted = [json.loads(line) for line in (tmp_path / "noted.jsonl").read_text().splitlines()]
    assert sorted({step for step, _ in noted})[-2:] == [10, 20]
    values = {name: value for _, told in noted for name, value in told.items()}
    assert {"loss", "system.memory.usage/used", "process.memory.usage", "hwmetrics.training.steps"} <= set(values)
    assert all(type(value) is float and re.fullmatch(r"[\w./-]+", name, re.ASCII) for name, value in values.items())
