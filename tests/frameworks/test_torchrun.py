# SPDX-License-Identifier: Apache-2.0
"""What PyTorch starts beside a training, under `opentelemetry-instrument`: its launcher, its compile workers."""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path

from e2e.children import DOORS, Looked, looked, watching
from e2e.launch import instrumented
from otlp_receiver import Receiver

RANK = """
import time
import torch
import torch.distributed as dist
import otel_hwmetrics as hw

dist.init_process_group("gloo")
total = torch.ones(1)
for _ in hw.steps(range(20)):
    dist.all_reduce(total)
    time.sleep(0.02)
dist.destroy_process_group()
"""

COMPILED = """
import torch
from torch._inductor.async_compile import AsyncCompile, shutdown_compile_workers

pool = AsyncCompile.process_pool()
assert pool.submit(abs, -7).result(120) == 7
shutdown_compile_workers()
"""


def run(folder: Path, *command: str, **environ: str) -> tuple[dict[str, list[Looked]], set[object]]:
    """Run a command; gives its instrumented processes by their kind, and the ranks whose metrics arrived."""
    told = folder / "told"
    told.mkdir()
    with Receiver() as receiver:
        instrumented(*command, endpoint=receiver.http_endpoint, protocol="http/protobuf", **watching(told), **environ)
        ranks = {point.attributes.get("hwmetrics.rank") for point in receiver.history("process.memory.usage")}
    kinds: dict[str, list[Looked]] = {}
    for process in looked(told):
        kinds.setdefault(process.kind, []).append(process)
    return kinds, ranks


def test_torchrun_is_silent_and_its_ranks_are_measured(tmp_path: Path) -> None:
    """Each rank tells which it is; of the launcher there is nothing."""
    script = tmp_path / "rank.py"
    script.write_text(RANK)
    torchrun = shutil.which("torchrun", path=sysconfig.get_path("scripts"))
    assert torchrun is not None
    kinds, ranks = run(tmp_path, torchrun, "--standalone", "--nproc-per-node", "2", str(script))
    (launcher,) = kinds["a launcher of PyTorch's"]
    assert set(launcher.modules) == DOORS
    assert launcher.threads == []
    assert len(kinds[""]) == 2
    assert all("hwmetrics-sampler" in rank.threads for rank in kinds[""])
    assert ranks == {0, 1}


def test_compile_workers_are_silent(tmp_path: Path) -> None:
    """Those that `torch.compile` starts, asked here for what needs no compiler."""
    script = tmp_path / "compiled.py"
    script.write_text(COMPILED)
    kinds, ranks = run(tmp_path, str(script), TORCHINDUCTOR_COMPILE_THREADS="2", OTEL_METRICS_EXPORTER="none")
    (worker,) = kinds["a compile worker of TorchInductor"]
    assert set(worker.modules) == DOORS
    assert worker.threads == []
    assert ranks == set()
