# SPDX-License-Identifier: Apache-2.0
"""What is told of NVIDIA GPUs while a call into their driver hangs."""

from __future__ import annotations

from otel_hwmetrics.catalog import gpu as rows
from otel_hwmetrics.catalog import gpu_health as health
from otel_hwmetrics.sources.gpu.nvidia.source import HUNG_FOR
from sources.gpu.nvidia import machines
from sources.gpu.nvidia.machines import BUSY, values


def states(machine: machines.Machine, *, hangs: bool = True) -> list[object]:
    """The status of each GPU in order, as it is told aside."""
    told = [r for r in machine.source.aside(hangs=hangs) if r.metric is health.STATUS and r.value]
    return [
        reading.attributes[health.HW_STATE] for reading in sorted(told, key=lambda r: str(r.attributes[rows.GPU_INDEX]))
    ]


def test_while_a_call_hangs_its_gpus_are_degraded_and_after_a_minute_failed() -> None:
    """Another monitor may hold the driver's lock for ten seconds of every fifteen: no reason to give a node up."""
    with machines.opened(BUSY, BUSY) as machine:
        machine.looks(3)
        for _ in range(20):
            for _ in range(10):
                assert states(machine) == ["degraded"] * 2
                machine.clock.advance(1.0)
            assert states(machine, hangs=False) == []
            machine.clock.advance(5.0)
        assert states(machine) == ["degraded"] * 2
        machine.clock.advance(HUNG_FOR - 0.1)
        assert states(machine) == ["degraded"] * 2
        machine.clock.advance(0.1)
        assert states(machine) == ["failed"] * 2
        assert states(machine, hangs=False) == []
        assert states(machine) == ["degraded"] * 2


def test_a_gpu_that_was_lost_before_the_call_hung_stays_failed() -> None:
    """That it is lost it has said itself; the other one has said nothing."""
    with machines.opened(BUSY, BUSY) as machine:
        machine.looks(3)
        machine.nvml.lose(1)
        machine.look(1)
        assert states(machine) == ["degraded", "failed"]


def test_so_does_one_that_answers_in_part() -> None:
    """Where it says that it is gone, and still tells something."""
    with machines.opened(BUSY) as machine:
        machine.looks(3)
        machine.nvml.fail(machines.LOOK_CALLS[0], "NVML_ERROR_GPU_IS_LOST")
        assert values(machine.look(1))[health.STATUS, "failed"] == 1
        assert states(machine) == ["failed"]
