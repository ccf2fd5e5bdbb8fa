# SPDX-License-Identifier: Apache-2.0
"""PyTorch's allocators: read when the job uses them, and never begun, imported or waited for by us."""

from __future__ import annotations

import logging
import subprocess
import sys
import textwrap
from collections import Counter
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import pynvml
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_hwmetrics.catalog import framework as rows
from otel_hwmetrics.catalog.gpu import CUDA_ORDINAL, HW_ID, HW_MODEL
from otel_hwmetrics.sources.base import Batch
from otel_hwmetrics.sources.torch import OTHER_EVERY, READERS, UNUSED_EVERY, TorchSource
from otel_hwmetrics.testing import FakeGpu, FakeNvml, ManualClock

UUID = "5a1e0000-0000-4000-8000-00000000000"
GIB = 2**30

ARRAYS = (
    *("allocation", "segment", "active", "inactive_split", "allocated_bytes", "reserved_bytes"),
    *("active_bytes", "inactive_split_bytes", "requested_bytes"),
)
"""Whatever torch 2.13 counts by pool; torch/csrc/cuda/Module.cpp."""
NUMBERS = (
    *("num_alloc_retries", "num_ooms", "max_split_size", "num_sync_all_streams", "num_device_alloc"),
    *("num_device_free", "num_oom_rejections"),
)

LEVELS = {
    "hwmetrics.torch.memory.allocated": 2 * GIB,
    "hwmetrics.torch.memory.allocated.peak": 5 * GIB,
    "hwmetrics.torch.memory.reserved": 4 * GIB,
    "hwmetrics.torch.memory.reserved.peak": 6 * GIB,
}
FULL = {
    **LEVELS,
    "hwmetrics.torch.memory.inactive_split": GIB,
    "hwmetrics.torch.memory.allocation.retries": 3,
    "hwmetrics.torch.memory.ooms": 1,
}

NAMES = (
    *("is_initialized", "_is_in_bad_fork", "get_allocator_backend", "device_count"),
    *("memory_stats_as_nested_dict", "get_device_properties"),
)
"""Everything that is asked of ``torch.cuda``."""


def statistics(*, used: bool = True) -> dict[str, Any]:
    """What the native allocator tells of one device."""

    def array(current: int = 0, peak: int = 0) -> dict[str, dict[str, int]]:
        stat = {"current": current, "peak": peak, "allocated": 9 * peak, "freed": 9 * peak - current}
        return {"all": stat, "small_pool": dict.fromkeys(stat, 7), "large_pool": dict.fromkeys(stat, 8)}

    stats: dict[str, Any] = {name: array() for name in ARRAYS} | dict.fromkeys(NUMBERS, 0)
    stats |= {"oversize_allocations": array()["all"], "oversize_segments": array()["all"]}
    stats["reserved_bytes_by_private_pools"] = {(0, 1): array(1, 1)}
    if used:
        stats["allocated_bytes"], stats["reserved_bytes"] = array(2 * GIB, 5 * GIB), array(4 * GIB, 6 * GIB)
        stats["inactive_split_bytes"] = array(GIB, GIB)
        stats |= {"num_alloc_retries": 3, "num_ooms": 1}
    return stats


class Uuid:
    """A `_CUuuid`: a text is made of it on demand."""

    def __init__(self, ordinal: int) -> None:
        self._ordinal = ordinal

    def __str__(self) -> str:
        return f"{UUID}{self._ordinal}"


class Properties:
    """A `_CudaDeviceProperties`."""

    def __init__(self, ordinal: int, name: str = "NVIDIA H100 80GB HBM3") -> None:
        self.name = name
        self.uuid = Uuid(ordinal)


class ScriptedCuda(ModuleType):
    """``torch.cuda`` of a job: of two devices it uses the second."""

    def __init__(self, name: str = "torch.cuda") -> None:
        super().__init__(name)
        self.initialized = True
        self.forked = False
        self.backend = "native"
        self.stats: dict[int, Any] = {0: statistics(used=False), 1: statistics()}
        self.properties: dict[int, Any] = {0: Properties(0), 1: Properties(1)}
        self.errors: dict[str, Exception] = {}
        self.answers: dict[str, Any] = {}
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        """The functions that exist; anything else that is asked for would be a call we must not make."""
        if name not in NAMES:
            raise AttributeError(name)

        def call(*arguments: Any) -> Any:
            self.calls[name] += 1
            if name in self.errors:
                raise self.errors[name]
            return self.answers[name] if name in self.answers else self.answer(name, *arguments)

        return call

    def answer(self, name: str, *arguments: Any) -> Any:
        """What each function gives when all is well."""
        if name == "memory_stats_as_nested_dict":
            return self.stats[arguments[0]]
        if name == "get_device_properties":
            return self.properties[arguments[0]]
        simple = {
            "is_initialized": self.initialized and not self.forked,
            "_is_in_bad_fork": self.forked,
            "get_allocator_backend": self.backend,
            "device_count": len(self.stats),
        }
        return simple[name]


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> ScriptedCuda:
    """A job that has imported PyTorch and uses ``cuda:1``."""
    torch, module = ModuleType("torch"), ScriptedCuda()
    torch.version = ModuleType("torch.version")  # type: ignore[attr-defined]
    torch.version.hip = None
    for name, loaded in {"torch": torch, "torch.cuda": module}.items():
        monkeypatch.setitem(sys.modules, name, loaded)
    monkeypatch.delitem(sys.modules, "torch.xpu", raising=False)
    return module


def values(batch: Batch) -> dict[str, float]:
    """Every reading by the metric's name; one device at most."""
    told = {reading.metric.name: reading.value for reading in batch.readings}
    assert len(told) == len(batch.readings)
    return told


def test_each_row_is_read_from_the_allocator_of_the_device_in_use(cuda: ScriptedCuda) -> None:
    """Bytes and counts of all pools; the device by the driver's UUID, CUDA's number and PyTorch's name."""
    batch = TorchSource(ManualClock().monotonic).read()
    assert values(batch) == FULL
    assert not batch.lost
    assert {tuple(sorted(reading.attributes.items())) for reading in batch.readings} == {
        tuple(
            sorted(
                {
                    HW_ID: f"GPU-{UUID}1",
                    HW_MODEL: "NVIDIA H100 80GB HBM3",
                    CUDA_ORDINAL: 1,
                    rows.TORCH_DEVICE: "cuda:1",
                }.items()
            )
        )
    }
    assert all(set(reading.attributes) <= set(reading.metric.attributes) for reading in batch.readings)


def test_a_look_asks_once_and_a_device_not_in_use_seldom(cuda: ScriptedCuda) -> None:
    """Properties once in a life, statistics once a look; of what the job does not use, once in five seconds."""
    clock = ManualClock()
    source = TorchSource(clock.monotonic)
    source.read()
    assert cuda.calls["get_device_properties"] == 1
    cuda.calls.clear()
    for _ in range(int(UNUSED_EVERY)):
        clock.advance(1.0)
        source.read()
    assert cuda.calls["memory_stats_as_nested_dict"] == UNUSED_EVERY + 1
    assert not cuda.calls["get_device_properties"] + cuda.calls["device_count"] + cuda.calls["get_allocator_backend"]


def test_a_device_is_told_from_its_first_use_on_and_also_when_emptied(cuda: ScriptedCuda) -> None:
    """Found within five seconds; what was once in use and now holds nothing is told as that."""
    clock = ManualClock()
    source = TorchSource(clock.monotonic)
    cuda.stats[1] = statistics(used=False)
    assert values(source.read()) == {}
    cuda.stats[1] = statistics()
    clock.advance(UNUSED_EVERY)
    assert values(source.read()) == FULL
    cuda.stats[1] = statistics(used=False)
    clock.advance(1.0)
    assert values(source.read()) == dict.fromkeys(FULL, 0)


@pytest.mark.parametrize("several", [True, False])
def test_a_process_that_uses_several_gpus_is_left_alone_unless_asked_for(
    cuda: ScriptedCuda, caplog: pytest.LogCaptureFixture, *, several: bool
) -> None:
    """Waiting for one allocator with the interpreter's lock could hold up the thread that the other waits for."""
    caplog.set_level(logging.INFO)
    clock = ManualClock()
    source = TorchSource(clock.monotonic, several=several)
    assert len(source.read().readings) == len(FULL)
    cuda.stats[0] = statistics()
    clock.advance(UNUSED_EVERY)
    source.read()
    for _ in range(3):
        clock.advance(1.0)
        cuda.calls.clear()
        assert len(source.read().readings) == (2 * len(FULL) if several else 0)
        assert bool(cuda.calls["memory_stats_as_nested_dict"]) is several
    assert len([record for record in caplog.records if "several GPUs" in record.getMessage()]) == (0 if several else 1)


@pytest.mark.parametrize("state", ["no torch", "importing", "not initialised", "forked", "forked, older"])
def test_nothing_is_asked_before_the_job_uses_cuda(
    cuda: ScriptedCuda, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    """Neither of a PyTorch that is not there, nor not yet, nor of what a fork has left: nothing told, nothing lost."""
    if state == "no torch":
        monkeypatch.delitem(sys.modules, "torch.cuda")
    elif state == "importing":
        monkeypatch.setitem(sys.modules, "torch.cuda", ModuleType("torch.cuda"))
    elif state == "not initialised":
        cuda.initialized = False
    else:
        cuda.forked = True
        if state == "forked, older":
            cuda.answers["is_initialized"] = True
    source = TorchSource(ManualClock().monotonic)
    source.open()
    batch = source.read()
    source.close()
    assert (batch.readings, dict(batch.lost)) == ([], {})
    assert set(cuda.calls) <= {"is_initialized", "_is_in_bad_fork"}


def test_a_child_forked_later_asks_nothing_of_the_allocator(cuda: ScriptedCuda) -> None:
    """What was found before the fork is not asked after it."""
    source = TorchSource(ManualClock().monotonic)
    assert source.read().readings
    cuda.forked = True
    cuda.calls.clear()
    assert not source.read().readings
    assert set(cuda.calls) <= {"is_initialized", "_is_in_bad_fork"}


@pytest.mark.parametrize("backend", ["cudaMallocAsync", "pluggable"])
def test_other_allocators_are_not_asked(cuda: ScriptedCuda, backend: str) -> None:
    """Their zeros mean nothing, and asking would call the CUDA runtime."""
    cuda.backend = backend
    batch = TorchSource(ManualClock().monotonic).read()
    assert (batch.readings, dict(batch.lost)) == ([], {})
    assert not cuda.calls["memory_stats_as_nested_dict"]


@pytest.mark.parametrize(
    "error", [RuntimeError("CUDA error"), AssertionError("Invalid device id"), AttributeError("x")]
)
@pytest.mark.parametrize("name", NAMES)
def test_a_call_that_raises_is_counted_and_asked_again(cuda: ScriptedCuda, name: str, error: Exception) -> None:
    """Whatever fails: nothing goes through, it shows as lost, and all is told once it works again."""
    clock = ManualClock()
    source = TorchSource(clock.monotonic)
    cuda.errors[name] = error
    batch = source.read()
    assert not batch.readings
    assert set(batch.lost) == {type(error).__name__}
    cuda.errors.clear()
    clock.advance(UNUSED_EVERY)
    assert values(source.read()) == FULL


def test_an_error_while_in_use_loses_every_reading_with_one_call(cuda: ScriptedCuda) -> None:
    """The allocator is not asked anew for each metric."""
    clock = ManualClock()
    source = TorchSource(clock.monotonic)
    source.read()
    clock.advance(1.0)
    cuda.errors["memory_stats_as_nested_dict"] = RuntimeError("CUDA error: unspecified launch failure")
    cuda.calls.clear()
    batch = source.read()
    assert (batch.readings, dict(batch.lost)) == ([], {"RuntimeError": len(FULL)})
    assert cuda.calls["memory_stats_as_nested_dict"] == 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("answer", [None, -1, "2", {}, [], {"reserved_bytes": None}])
def test_garbage_gives_no_reading(cuda: ScriptedCuda, name: str, answer: Any) -> None:
    """No answer of any function brings the source down, or a value that is none."""
    cuda.answers[name] = answer
    told = values(TorchSource(ManualClock().monotonic).read())
    assert told.items() <= FULL.items()
    if name not in ("_is_in_bad_fork", "get_device_properties"):
        assert not told


PATHS = {
    "hwmetrics.torch.memory.allocated": ("allocated_bytes", "all", "current"),
    "hwmetrics.torch.memory.allocated.peak": ("allocated_bytes", "all", "peak"),
    "hwmetrics.torch.memory.reserved": ("reserved_bytes", "all", "current"),
    "hwmetrics.torch.memory.reserved.peak": ("reserved_bytes", "all", "peak"),
    "hwmetrics.torch.memory.inactive_split": ("inactive_split_bytes", "all", "current"),
    "hwmetrics.torch.memory.allocation.retries": ("num_alloc_retries",),
    "hwmetrics.torch.memory.ooms": ("num_ooms",),
}


@pytest.mark.parametrize("rubbish", [None, "missing", -1, 2**63, True, 1.5, float("nan"), "7"])
@pytest.mark.parametrize("name", PATHS)
def test_a_number_that_is_none_loses_its_own_metric_alone(cuda: ScriptedCuda, name: str, rubbish: Any) -> None:
    """A key that a version lacks is absent without a word, anything else is counted; the others are told."""
    source = TorchSource((clock := ManualClock()).monotonic)
    source.read()
    *parents, key = PATHS[name]
    place = cuda.stats[1]
    for parent in parents:
        place = place[parent]
    if rubbish == "missing":
        del place[key]
    else:
        place[key] = rubbish
    clock.advance(1.0)
    batch = source.read()
    assert values(batch) == {other: value for other, value in FULL.items() if other != name}
    assert dict(batch.lost) == ({} if rubbish == "missing" else {"ValueError": 1})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.dictionaries(
        st.sampled_from(["all", "current", "peak", "reserved_bytes", "num_ooms", "allocated_bytes"]), inner
    ),
    max_leaves=12,
)


@given(JSON)
def test_whatever_the_statistics_are_a_value_is_a_whole_number_of_bytes(stats: Any) -> None:
    """Any nesting of anything: no fault of ours, and every value told is a count that a device can have."""
    module = ScriptedCuda()
    module.stats = {0: stats}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torch.cuda", module)
        patch.delitem(sys.modules, "torch.xpu", raising=False)
        for reading in TorchSource(ManualClock().monotonic).read().readings:
            assert type(reading.value) is int
            assert 0 <= reading.value < 2**60


@pytest.mark.parametrize("case", ["no uuid", "rocm", "mig, unknown", "no name"])
def test_an_id_that_is_not_known_to_be_the_driver_s_is_left_out(cuda: ScriptedCuda, case: str) -> None:
    """Older PyTorch, ROCm, a MIG instance: the device has PyTorch's name and CUDA's number then."""
    properties = cuda.properties[1]
    if case == "no uuid":
        del properties.uuid
    elif case == "rocm":
        torch: Any = sys.modules["torch"]
        torch.version.hip = "6.4"
    elif case == "mig, unknown":
        properties.name = "NVIDIA H100 80GB HBM3 MIG 1g.10gb"
    else:
        del properties.name
    batch = TorchSource(ManualClock().monotonic).read()
    assert values(batch) == FULL
    for reading in batch.readings:
        assert (HW_ID in reading.attributes) is (case == "no name")
        assert (HW_MODEL in reading.attributes) is (case != "no name")
        assert reading.attributes[CUDA_ORDINAL] == 1


def test_a_mig_instance_has_its_own_id_where_nvml_knows_it(cuda: ScriptedCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA's UUID is the instance's if there is an instance of that UUID."""
    cuda.properties[1].name = "NVIDIA H100 80GB HBM3 MIG 1g.10gb"
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", {f"MIG-{UUID}1".encode(): 1}.__getitem__)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", lambda _, version: Properties(version))
    batch = TorchSource(ManualClock().monotonic).read()
    assert values(batch) == FULL
    assert {reading.attributes[HW_ID] for reading in batch.readings} == {f"MIG-{UUID}1"}


@pytest.fixture
def gpu() -> FakeGpu:
    """The one in use."""
    return FakeGpu(uuid=f"GPU-{UUID}1", memory_total=80 * GIB, memory_used=float(7 * GIB))


def test_what_is_not_the_allocator_s_is_the_driver_s_figure_less_its_own(cuda: ScriptedCuda, gpu: FakeGpu) -> None:
    """Used by anybody, less what this allocator holds; from NVML when somebody has started it, on a slow cadence."""
    clock = ManualClock()
    with FakeNvml([gpu], clock=clock) as nvml:
        source = TorchSource(clock.monotonic)
        assert values(source.read()) == FULL  # not started: no answer, and not by us
        assert not [name for name, _ in nvml.calls if "Init" in name]
        pynvml.nvmlInit()
        clock.advance(OTHER_EVERY)
        assert values(source.read()) == FULL | {"hwmetrics.torch.memory.other": 3 * GIB}
        calls = sum(nvml.calls.values())
        clock.advance(1.0)
        assert values(source.read())["hwmetrics.torch.memory.other"] == 3 * GIB  # told again
        assert sum(nvml.calls.values()) == calls
        nvml.fail("*", 15)
        clock.advance(OTHER_EVERY)
        batch = source.read()
        assert (values(batch), dict(batch.lost)) == (FULL, {"RuntimeError": 1})
        pynvml.nvmlShutdown()


def test_an_allocator_that_is_at_work_meanwhile_gives_no_difference(cuda: ScriptedCuda, gpu: FakeGpu) -> None:
    """Its book is not the same before and after the driver's: absent, not a wrong number."""
    growing = iter(range(4 * GIB, 5 * GIB, 2**20))

    class Growing(dict[str, int]):
        def __getitem__(self, key: str) -> int:
            return next(growing) if key == "current" else super().__getitem__(key)

    clock = ManualClock()
    with FakeNvml([gpu], clock=clock):
        pynvml.nvmlInit()
        source = TorchSource(clock.monotonic)
        held = cuda.stats[1]["reserved_bytes"]
        held["all"], still = Growing(held["all"]), held["all"]
        assert "hwmetrics.torch.memory.other" not in values(source.read())
        held["all"] = still
        clock.advance(OTHER_EVERY)
        assert values(source.read())["hwmetrics.torch.memory.other"] == 3 * GIB
        pynvml.nvmlShutdown()


def test_an_allocator_that_holds_more_than_is_in_use_gives_no_difference(cuda: ScriptedCuda, gpu: FakeGpu) -> None:
    """The driver's book is of another moment, or of another device: absent, not below zero."""
    cuda.stats[1]["reserved_bytes"]["all"]["current"] = 8 * GIB
    clock = ManualClock()
    with FakeNvml([gpu], clock=clock):
        pynvml.nvmlInit()
        assert "hwmetrics.torch.memory.other" not in values(TorchSource(clock.monotonic).read())
        pynvml.nvmlShutdown()


def test_an_intel_gpu_tells_what_its_allocator_counts(cuda: ScriptedCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    """``torch.xpu`` in the same shape, without CUDA's number and NVIDIA's UUID."""
    xpu = ScriptedCuda("torch.xpu")
    for stats in xpu.stats.values():
        for name in (*NUMBERS, "inactive_split_bytes"):
            del stats[name]
    monkeypatch.setitem(sys.modules, "torch.xpu", xpu)
    cuda.initialized = False
    batch = TorchSource(ManualClock().monotonic).read()
    assert values(batch) == LEVELS
    assert {reading.attributes[rows.TORCH_DEVICE] for reading in batch.readings} == {"xpu:1"}
    assert not any(CUDA_ORDINAL in reading.attributes or HW_ID in reading.attributes for reading in batch.readings)
    assert not xpu.calls["get_allocator_backend"]


def test_every_row_of_pytorch_has_its_reader_and_says_where_it_comes_from() -> None:
    """The table and the catalog name the same metrics."""
    read = {metric for readers in READERS.values() for reader in readers for metric in reader.metrics}
    assert read == {metric for metric in rows.METRICS if metric.name.startswith("hwmetrics.torch.")}
    assert all(reader.call and reader.where for readers in READERS.values() for reader in readers)


def test_pytorch_and_jax_are_not_imported_and_cuda_not_initialised() -> None:
    """In a process of its own: our looks load neither; and where the job loads a PyTorch, they begin nothing in it."""
    present = find_spec("torch") is not None
    program = textwrap.dedent(
        f"""
        import sys, warnings
        from otel_hwmetrics.sources.jax import JaxSource
        from otel_hwmetrics.sources.torch import TorchSource

        def look():
            for source in (TorchSource(), JaxSource()):
                source.open()
                batch = source.read()
                source.close()
                assert not batch.readings and not batch.lost, (batch.readings, batch.lost)

        look()
        loaded = {{name.partition(".")[0] for name in sys.modules}}
        assert not loaded & {{"torch", "jax", "jaxlib"}}, loaded
        if {present}:
            warnings.simplefilter("ignore")  # PyTorch's own, of a numpy that is not there
            import torch
            look()
            assert torch.cuda.memory_stats_as_nested_dict and torch.cuda.get_allocator_backend
            assert torch.xpu.memory_stats_as_nested_dict
            torch.ones(3).sum()
            look()
            assert not torch.cuda.is_initialized() and not torch.xpu.is_initialized()
        print("looked")
        """
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert (ran.returncode, ran.stdout.strip()) == (0, "looked"), ran.stderr
