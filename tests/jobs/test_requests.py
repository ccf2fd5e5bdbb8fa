# SPDX-License-Identifier: Apache-2.0
"""What was asked for where nobody has typed it, and what the files of one run have in common."""

from __future__ import annotations

import re

import pytest

from otel_hwmetrics.recording.ids import run_id
from otel_hwmetrics.recording.nouns import Request
from otel_hwmetrics.recording.requests import Bounds, joined, requested

GIB = 2**30
BATCH = {"SLURM_JOB_ID": "77", "SLURM_PROCID": "0", "SLURM_NODEID": "0"}
STEP = {**BATCH, "SLURM_STEP_ID": "0", "SLURM_STEP_TASKS_PER_NODE": "4(x2),1"}


@pytest.mark.parametrize(
    ("environ", "bounds", "expected"),
    [
        ({}, Bounds(), {}),
        ({}, Bounds(2.5, GIB), {"cpus": (2.5, "cgroup"), "memory": (GIB, "cgroup")}),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, Bounds(4.0), {"cpus": (4.0, "kubernetes")}),
        (
            {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "NVIDIA_VISIBLE_DEVICES": "GPU-8a-1,GPU-8a-2"},
            Bounds(),
            {"gpus": (2.0, "kubernetes")},
        ),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "NVIDIA_VISIBLE_DEVICES": "all"}, Bounds(), {}),
        ({"NVIDIA_VISIBLE_DEVICES": "GPU-8a"}, Bounds(), {}),
        (
            {**BATCH, "SLURM_CPUS_ON_NODE": "16", "SLURM_MEM_PER_NODE": "65536", "SLURM_GPUS_ON_NODE": "4"},
            Bounds(64.0, GIB),
            {"cpus": (16.0, "slurm"), "memory": (64 * GIB, "slurm"), "gpus": (4.0, "slurm")},
        ),
        (
            {**BATCH, "SLURM_CPUS_ON_NODE": "16", "SLURM_CPUS_PER_TASK": "4"},
            Bounds(None, GIB),
            {"cpus": (16.0, "slurm"), "memory": (GIB, "cgroup")},
        ),
        (
            {**STEP, "SLURM_CPUS_ON_NODE": "16", "SLURM_MEM_PER_NODE": "65536", "SLURM_GPUS_ON_NODE": "4"},
            Bounds(),
            {"cpus": (4.0, "slurm"), "memory": (16 * GIB, "slurm"), "gpus": (1.0, "slurm")},
        ),
        ({**STEP, "SLURM_NODEID": "2", "SLURM_CPUS_ON_NODE": "16"}, Bounds(), {"cpus": (16.0, "slurm")}),
        (
            {**STEP, "SLURM_CPUS_PER_TASK": "3", "SLURM_CPUS_ON_NODE": "16", "SLURM_MEM_PER_CPU": "2G"},
            Bounds(),
            {"cpus": (3.0, "slurm"), "memory": (6 * GIB, "slurm")},
        ),
        ({**BATCH, "SLURM_MEM_PER_NODE": "0"}, Bounds(None, GIB), {"memory": (GIB, "cgroup")}),
        ({**BATCH, "SLURM_JOB_GPUS": "0,3"}, Bounds(), {"gpus": (2.0, "slurm")}),
        ({**STEP, "SLURM_GPUS_PER_TASK": "a100:2", "SLURM_GPUS_ON_NODE": "8"}, Bounds(), {"gpus": (2.0, "slurm")}),
        (
            {**BATCH, "SLURM_JOB_GPUS": "0,1", "SLURM_MEM_PER_GPU": "1024"},
            Bounds(),
            {"gpus": (2.0, "slurm"), "memory": (2 * GIB, "slurm")},
        ),
        (
            {**BATCH, "SLURM_JOB_START_TIME": "1760000000", "SLURM_JOB_END_TIME": "1760007200"},
            Bounds(),
            {"runtime": (7200.0, "slurm")},
        ),
        ({**BATCH, "SLURM_JOB_START_TIME": "1760000000", "SLURM_JOB_END_TIME": "1791536000"}, Bounds(), {}),
        (
            {**BATCH, "SLURM_CPUS_ON_NODE": "16", "LOCAL_WORLD_SIZE": "8", "SLURM_JOB_END_TIME": "9"},
            Bounds(None, 8 * GIB),
            {"cpus": (2.0, "slurm"), "memory": (GIB, "cgroup")},
        ),
        ({**BATCH, "SLURM_CPUS_ON_NODE": "many", "SLURM_MEM_PER_NODE": "-1", "SLURM_GPUS_ON_NODE": ""}, Bounds(), {}),
        ({"SLURM_CPUS_ON_NODE": "16"}, Bounds(), {}),
    ],
)
def test_what_was_asked_for_is_found(
    environ: dict[str, str], bounds: Bounds, expected: dict[str, tuple[float, str]]
) -> None:
    """By the words of each, the share of this process alone, and nothing where nobody says anything that makes sense."""
    request = requested(environ, bounds)
    names = ("cpus", "memory", "runtime", "gpus", "gpu_memory")
    found = {name: getattr(request, name) for name in names if getattr(request, name) is not None}
    assert {name: (value, request.by[name]) for name, value in found.items()} == expected
    assert request.by.keys() == found.keys()


def test_the_first_who_says_it_counts() -> None:
    """Of each resource by itself."""
    typed = Request(cpus=2, by={"cpus": "argument"})
    known = Request(cpus=8, memory=GIB, by={"cpus": "slurm", "memory": "slurm"})
    assert joined(typed, known) == Request(cpus=2, memory=GIB, by={"cpus": "argument", "memory": "slurm"})
    assert joined(Request(), Request()) == Request()


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        (BATCH, "slurm-77"),
        (STEP, "slurm-77.0"),
        ({**STEP, "SLURM_RESTART_COUNT": "2"}, "slurm-77.0-r2"),
        ({**BATCH, "SLURM_RESTART_COUNT": "0"}, "slurm-77"),
        ({"LSB_JOBID": "5", "LSB_JOBINDEX": "3"}, "lsf-5_3"),
        ({"PBS_JOBID": "1234[7].server"}, "pbs-1234_7_.server"),
        ({"PBS_JOBID": "9" * 99}, "pbs-" + "9" * 44),
    ],
)
def test_a_run_has_its_batch_job_s_id(environ: dict[str, str], expected: str) -> None:
    """All tasks of a step find the same one by themselves; it is a name as the option `record_run` takes it."""
    assert run_id(environ) == expected
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,47}", run_id(environ))


def test_processes_of_one_torchrun_find_the_same_id() -> None:
    """And of another run of the same name, from another port, another one."""
    words = {"TORCHELASTIC_RUN_ID": "none", "MASTER_ADDR": "localhost", "MASTER_PORT": "29501", "GROUP_WORLD_SIZE": "1"}
    ranks = {run_id({**words, "RANK": str(rank)}) for rank in range(4)}
    assert len(ranks) == 1
    assert run_id({**words, "MASTER_PORT": "29502"}) not in ranks
    assert run_id({**words, "GROUP_WORLD_SIZE": "2"}) not in ranks
    assert run_id({"PMIX_NAMESPACE": "a"}) == run_id({"PMIX_NAMESPACE": "a"}) != run_id({"PMIX_NAMESPACE": "b"})


def test_else_it_is_like_no_other() -> None:
    """Eight hexadecimal digits."""
    ids = {run_id({}) for _ in range(20)}
    assert len(ids) == 20
    assert all(re.fullmatch("[0-9a-f]{8}", each) for each in ids)
