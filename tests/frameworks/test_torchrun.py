# SPDX-License-Identifier: Apache-2.0
"""What PyTorch starts beside a training, under `opentelemetry-instrument`: its launcher, its compile workers."""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path
from typing import NamedTuple

import pytest

from e2e.children import DOORS, Looked, looked, watching
from e2e.launch import instrumented
from otlp_receiver import Point, ReceivedSpan, Receiver

RANK = """
import time
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, TensorDataset
from otel_hwmetrics.sources.exchange import EXCHANGE

end = time.monotonic() + 60
while not EXCHANGE.is_read and time.monotonic() < end:
    time.sleep(0.05)
dist.init_process_group("gloo")
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _ in range(2):
    for (batch,) in DataLoader(TensorDataset(torch.zeros(40, 4)), batch_size=2):
        optimizer.zero_grad()
        model(batch).sum().backward()
        optimizer.step()
        time.sleep(0.1)  # long enough for PyTorch to be asked what it has measured
dist.destroy_process_group()
"""

IN_BACKWARD = """
import faulthandler
import tempfile
import threading
import time
import types
import torch
import torch.distributed as dist
from torch.distributed.optim import _apply_optimizer_in_backward
from torch.nn.parallel import DistributedDataParallel
from otel_hwmetrics.sources import exchange

faulthandler.dump_traceback_later(60, exit=True)  # where it hangs
exchange.ASKED_EVERY = exchange.ASKED_AGAIN = 0.0
end = time.monotonic() + 30
while not exchange.EXCHANGE.is_read and time.monotonic() < end:
    time.sleep(0.05)
dist.init_process_group("gloo", init_method=f"file://{tempfile.mktemp()}", rank=0, world_size=1)

def linear():
    return torch.nn.Linear(4, 4)

def train(model, *optimizers):
    for _ in range(30):
        model(torch.zeros(1, 4)).sum().backward()
        for optimizer in optimizers:
            optimizer.step()
        time.sleep(0.03)

def hooked(work):
    def hook(state, bucket):
        model.reducer._run_allreduce_hook(bucket).wait()
        work()
        done = torch.futures.Future()
        done.set_result(bucket.buffer())
        return done

    model = DistributedDataParallel(linear(), gradient_as_bucket_view=True)
    model.register_comm_hook(None, hook)
    return model

# PyTorch's own hook steps the optimizers; it asks for a stream, which a CPU lacks.
torch.accelerator.current_stream = lambda: types.SimpleNamespace(wait_stream=lambda stream: None)
bare = linear()
_apply_optimizer_in_backward(torch.optim.SGD, bare.parameters(), {"lr": 0.01})
train(DistributedDataParallel(bare, gradient_as_bucket_view=True))

# One of the job's own steps all of them.
model = hooked(lambda: [each.step() for each in optimizers])
optimizers = [torch.optim.SGD([parameter], lr=0.01) for parameter in model.parameters()]
train(model)

# A backward pass of one thread goes on for as long as another thread trains.
plain = DistributedDataParallel(linear())
other = threading.Thread(target=train, args=(plain, torch.optim.SGD(plain.parameters(), lr=0.01)))
waits = hooked(other.join)
other.start()
waits(torch.zeros(1, 4)).sum().backward()
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


class Ran(NamedTuple):
    """What a command left: its instrumented processes by their kind, and what arrived."""

    kinds: dict[str, list[Looked]]
    spans: list[ReceivedSpan]
    history: dict[str, list[Point]]

    def of_ranks(self, name: str) -> dict[object, float]:
        """The last value of a metric, by rank."""
        return {point.attributes.get("hwmetrics.rank"): point.value for point in self.history[name]}


STEPS, EXCHANGE = "hwmetrics.training.steps", "hwmetrics.torch.ddp.communication.duration"


def run(folder: Path, *command: str, **environ: str) -> Ran:
    """Run a command."""
    told = folder / "told"
    told.mkdir()
    with Receiver() as receiver:
        instrumented(*command, endpoint=receiver.http_endpoint, protocol="http/protobuf", **watching(told), **environ)
        history = {name: receiver.history(name) for name in ("process.memory.usage", STEPS, EXCHANGE)}
        spans = receiver.spans()
    kinds: dict[str, list[Looked]] = {}
    for process in looked(told):
        kinds.setdefault(process.kind, []).append(process)
    return Ran(kinds, spans, history)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A plain training on two ranks."""
    folder = tmp_path_factory.mktemp("ranks")
    script = folder / "rank.py"
    script.write_text(RANK)
    torchrun = shutil.which("torchrun", path=sysconfig.get_path("scripts"))
    assert torchrun is not None
    command = (torchrun, "--standalone", "--nproc-per-node", "2", str(script))
    return run(folder, *command, OTEL_PYTHON_HWMETRICS_SAMPLE_INTERVAL="0.2")


def test_torchrun_is_silent_and_its_ranks_are_measured(ran: Ran) -> None:
    """Each rank tells which it is; of the launcher there is nothing."""
    (launcher,) = ran.kinds["a launcher of PyTorch's"]
    assert set(launcher.modules) == DOORS
    assert launcher.threads == []
    assert len(ran.kinds[""]) == 2
    assert all("hwmetrics-sampler" in rank.threads for rank in ran.kinds[""])
    assert set(ran.of_ranks("process.memory.usage")) == {0, 1}


def test_a_run_that_nobody_named_has_no_job(ran: Ran) -> None:
    """The torchrun that is here has made up a name, which is not sent."""
    points = ran.history["process.memory.usage"]
    assert points
    assert all("hwmetrics.job.id" not in point.attributes for point in points)


def test_each_rank_tells_its_training(ran: Ran) -> None:
    """Its epochs and its steps; and how long gradients were exchanged, by what PyTorch has measured."""
    assert sorted(span.name for span in ran.spans) == ["epoch"] * 4 + ["training"] * 2
    roots = {span.span_id: span for span in ran.spans if span.name == "training"}
    assert {span.attributes["hwmetrics.training.steps"] for span in roots.values()} == {40}
    for span in ran.spans:
        if span.name == "epoch":
            assert span.trace_id == roots[span.parent_id].trace_id
    assert ran.of_ranks(STEPS) == {0: 40, 1: 40}
    exchanges = ran.of_ranks(EXCHANGE)
    assert set(exchanges) == {0, 1}
    assert all(0 < seconds < 10 for seconds in exchanges.values())


def test_a_job_that_steps_its_optimizer_within_a_backward_pass_does_not_hang(tmp_path: Path) -> None:
    """DistributedDataParallel holds a lock there, and is asked what it has measured without waiting for that."""
    script = tmp_path / "in_backward.py"
    script.write_text(IN_BACKWARD)
    ran = run(tmp_path, str(script), OTEL_PYTHON_HWMETRICS_SAMPLE_INTERVAL="0.2")
    assert ran.history[STEPS]
    assert ran.history[EXCHANGE]


def test_compile_workers_are_silent(tmp_path: Path) -> None:
    """Those that `torch.compile` starts, asked here for what needs no compiler."""
    script = tmp_path / "compiled.py"
    script.write_text(COMPILED)
    ran = run(tmp_path, str(script), TORCHINDUCTOR_COMPILE_THREADS="2", OTEL_METRICS_EXPORTER="none")
    (worker,) = ran.kinds["a compile worker of TorchInductor"]
    assert set(worker.modules) == DOORS
    assert worker.threads == []
    assert ran.history["process.memory.usage"] == []


def test_without_a_launcher_s_words_the_process_group_tells_the_rank(tmp_path: Path) -> None:
    """Processes that the job spawns by itself, and that are told their rank by an argument."""
    script = tmp_path / "spawned.py"
    script.write_text(SPAWNED)
    with Receiver() as receiver:
        instrumented(str(script), endpoint=receiver.http_endpoint, protocol="http/protobuf")
        history = receiver.history("process.memory.usage")
    told = {(point.attributes.get("hwmetrics.rank"), point.attributes.get("hwmetrics.world_size")) for point in history}
    assert {(0, 2), (1, 2)} <= told
