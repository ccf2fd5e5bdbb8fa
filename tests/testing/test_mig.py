# SPDX-License-Identifier: Apache-2.0
"""A GPU that MIG splits: each device is found, and answers what NVML documents and no more."""

from __future__ import annotations

from collections.abc import Iterator

import pynvml
import pytest

from otel_hwmetrics.testing import FakeGpu, FakeMig, FakeNvml
from otel_hwmetrics.testing.symbols import SYMBOLS
from otel_hwmetrics.testing.symbols.core import MIG_ANSWERS

from .scripted import (
    CLOCK,
    GIB,
    HANDLE_CALLS,
    NOT_AVAILABLE,
    SCRIPTED,
    SPLIT,
    THROUGH_MIG,
    THROUGH_PYNVML,
    fields,
    handle,
    mig_handle,
)

ONLY_OF_THE_WHOLE = {
    "nvmlDeviceGetUtilizationRates",
    "nvmlDeviceGetEncoderUtilization",
    "nvmlDeviceGetDecoderUtilization",
    "nvmlDeviceGetProcessUtilization",
    "nvmlDeviceGetSamples",
}
"""What NVML does not know of a GPU in MIG mode."""


@pytest.fixture
def split() -> Iterator[FakeNvml]:
    """A GPU in MIG mode and one that is not, ten seconds after install."""
    with FakeNvml([SPLIT, SCRIPTED], clock=CLOCK) as fake:
        pynvml.nvmlInit()
        CLOCK.advance(10)
        yield fake


@pytest.mark.parametrize("name", THROUGH_MIG)
def test_function_of_mig_through_the_real_binding(name: str, split: FakeNvml) -> None:
    """Each gives the script, and is counted for the GPU that the MIG device is on."""
    call, expected = THROUGH_MIG[name]
    h = handle()
    split.reset_calls()
    assert call(h) == expected
    assert split.calls[name, 0] >= 1
    assert split.calls_about(1) == 0


@pytest.mark.parametrize("name", THROUGH_MIG)
def test_a_gpu_that_is_not_split_has_no_answer(name: str, split: FakeNvml) -> None:
    """Asked of a whole GPU, they answer an error."""
    with pytest.raises(pynvml.NVMLError):
        THROUGH_MIG[name][0](handle(1))


@pytest.mark.parametrize("name", THROUGH_MIG)
def test_a_lost_gpu_takes_its_mig_devices_along(name: str, split: FakeNvml) -> None:
    """Every call about a MIG device of a GPU that is lost is about that GPU."""
    h = handle()
    split.lose(0)
    with pytest.raises(pynvml.NVMLError_GpuIsLost):
        THROUGH_MIG[name][0](h)
    split.restore(0)
    THROUGH_MIG[name][0](h)


@pytest.mark.usefixtures("split")
def test_what_mig_devices_are() -> None:
    """Mode, count, name, UUID, index, memory in both versions and processes, and that it is one."""
    h = handle()
    assert pynvml.nvmlDeviceGetMigMode(h) == [1, 1]
    first, second = mig_handle(h, 0), mig_handle(h, 1)
    assert pynvml.nvmlDeviceIsMigDeviceHandle(first).value == 1
    assert pynvml.nvmlDeviceGetName(second) == "NVIDIA H100 80GB HBM3 MIG 2g.20gb"
    assert pynvml.nvmlDeviceGetUUID(first).startswith("MIG-")
    assert pynvml.nvmlDeviceGetIndex(second) == 1
    assert pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByUUID(b"MIG-x")) == "MIG-x"
    assert fields(pynvml.nvmlDeviceGetMemoryInfo(first)) == {"total": 10 * GIB, "free": 7 * GIB, "used": 3 * GIB}
    assert pynvml.nvmlDeviceGetMemoryInfo(second, version=pynvml.nvmlMemory_v2).free == 20 * GIB
    assert [each.pid for each in pynvml.nvmlDeviceGetComputeRunningProcesses_v3(first)] == [7]
    assert pynvml.nvmlDeviceGetComputeRunningProcesses_v3(second) == []
    with pytest.raises(pynvml.NVMLError_NotFound):
        mig_handle(h, 2)
    with pytest.raises(pynvml.NVMLError_InvalidArgument):
        mig_handle(h, 7)


@pytest.mark.parametrize("name", sorted(set(HANDLE_CALLS) - set(MIG_ANSWERS) - {"nvmlGpmMetricsGet"}))
def test_what_mig_devices_cannot_tell_is_not_supported(name: str, split: FakeNvml) -> None:
    """Whatever is not documented for MIG devices answers NOT_SUPPORTED, GPM by their own handle included."""
    h = mig_handle(handle())
    with pytest.raises(pynvml.NVMLError_NotSupported):
        THROUGH_PYNVML[name][0](h)


@pytest.mark.usefixtures("split")
def test_field_values_of_a_mig_device_are_refused_one_by_one() -> None:
    """The call succeeds, and no value does."""
    values = pynvml.nvmlDeviceGetFieldValues(mig_handle(handle()), [185, 83, 9999])
    assert {value.nvmlReturn for value in values} == {pynvml.NVML_ERROR_NOT_SUPPORTED}


@pytest.mark.parametrize("name", sorted(ONLY_OF_THE_WHOLE))
def test_a_split_gpu_does_not_know_its_utilization(name: str, split: FakeNvml) -> None:
    """Utilization, samples of it, codecs and processes' shares are not supported in MIG mode; power samples are."""
    with pytest.raises(pynvml.NVMLError_NotSupported):
        THROUGH_PYNVML[name][0](handle())
    assert pynvml.nvmlDeviceGetSamples(handle(), pynvml.NVML_TOTAL_POWER_SAMPLES, 0)[1]


def test_a_board_that_cannot_be_split_says_so() -> None:
    """Neither mode nor handle are supported; the count is none."""
    with FakeNvml([FakeGpu(mig_capable=False)]):
        pynvml.nvmlInit()
        for call in (pynvml.nvmlDeviceGetMigMode, mig_handle):
            with pytest.raises(pynvml.NVMLError_NotSupported):
                call(handle())
        assert pynvml.nvmlDeviceGetMaxMigDeviceCount(handle()) == 0


def test_uuids_are_derived_and_stay() -> None:
    """A MIG device without a UUID gets one by its place; two with the same are refused."""
    (gpu,) = FakeNvml([SPLIT]).gpus
    again = FakeNvml([SPLIT]).gpus[0]
    assert [mig.uuid for mig in gpu.mig] == [mig.uuid for mig in again.mig]
    with pytest.raises(ValueError, match=r"gpu\[0\].uuid = 'MIG-y': allowed is a UUID no other GPU has"):
        FakeNvml([FakeGpu(mig=[FakeMig(uuid="MIG-y"), FakeMig(uuid="MIG-y")])])


def test_processes_outside_mig_have_no_instance() -> None:
    """The instance of a process on a whole GPU is all ones, as NVML has it."""
    with FakeNvml([SCRIPTED]):
        pynvml.nvmlInit()
        (process,) = pynvml.nvmlDeviceGetComputeRunningProcesses_v3(handle())
    assert (process.gpuInstanceId, process.computeInstanceId) == (NOT_AVAILABLE, NOT_AVAILABLE)


def test_every_answer_for_mig_is_of_a_function() -> None:
    """No name in the table of MIG is misspelt."""
    assert set(MIG_ANSWERS) <= set(SYMBOLS)
