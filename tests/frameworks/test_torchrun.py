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

PLAIN = """
import time
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, TensorDataset

dist.init_process_group("gloo")
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _ in range(2):
    for (batch,) in DataLoader(TensorDataset(torch.zeros(20, 4)), batch_size=2):
        optimizer.zero_grad()
        model(batch).sum().backward()
        optimizer.step()
        time.sleep(0.05)
dist.destroy_process_group()
"""

SPAWNED = """
import time
import torch
import torch.distributed as dist
import otel_hwmetrics as hw

def rank(number, place):
    hw.instrument()
    dist.init_process_group("gloo", init_method=f"file://{place}", rank=number, world_size=2)
    total = torch.ones(1)
    end = time.monotonic() + 3
    while time.monotonic() < end:
        time.sleep(0.05)
    dist.all_reduce(total)
    dist.destroy_process_group()

if __name__ == "__main__":
    import tempfile
    torch.multiprocessing.spawn(rank, (tempfile.mktemp(),), 2)
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


def test_a_plain_training_on_two_ranks_is_told_by_each(tmp_path: Path) -> None:
    """Its training, its epochs and its steps; what PyTorch measures of the exchange of gradients is there, too."""
    script = tmp_path / "plain.py"
    script.write_text(PLAIN)
    torchrun = shutil.which("torchrun", path=sysconfig.get_path("scripts"))
    assert torchrun is not None
    with Receiver() as receiver:
        instrumented(
            *(torchrun, "--standalone", "--nproc-per-node", "2", str(script)),
            endpoint=receiver.http_endpoint,
            protocol="http/protobuf",
        )
        spans, history = receiver.spans(), receiver.history("hwmetrics.training.steps")
    assert sorted(span.name for span in spans) == ["epoch"] * 4 + ["training"] * 2
    roots = {span.span_id: span for span in spans if span.name == "training"}
    assert {span.attributes["hwmetrics.training.steps"] for span in roots.values()} == {20}
    for span in spans:
        if span.name == "epoch":
            assert span.trace_id == roots[span.parent_id].trace_id
    steps = {point.attributes["hwmetrics.rank"]: point.value for point in history}
    assert steps == {0: 20, 1: 20}


def test_without_a_launcher_s_words_the_process_group_tells_the_rank(tmp_path: Path) -> None:
    """Processes that the job spawns by itself, and that are told their rank by an argument."""
    script = tmp_path / "spawned.py"
    script.write_text(SPAWNED)
    with Receiver() as receiver:
        instrumented(str(script), endpoint=receiver.http_endpoint, protocol="http/protobuf")
        history = receiver.history("process.memory.usage")
    told = {(point.attributes.get("hwmetrics.rank"), point.attributes.get("hwmetrics.world_size")) for point in history}
    assert {(0, 2), (1, 2)} <= told
