# SPDX-License-Identifier: Apache-2.0
"""Which process of which job: told by the launcher's variables alone."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from otel_hwmetrics.ranks import identity, missing_from, ranks

TORCHRUN = {"RANK": "5", "LOCAL_RANK": "1", "GROUP_RANK": "2", "WORLD_SIZE": "8", "MASTER_ADDR": "node0"}
OPEN_MPI = {"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_LOCAL_RANK": "1", "OMPI_COMM_WORLD_SIZE": "4"}
SLURM = {"SLURM_PROCID": "6", "SLURM_LOCALID": "0", "SLURM_NODEID": "3", "SLURM_NTASKS": "7", "SLURM_JOB_ID": "99"}
RAY = {
    "RANK": "3",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "WORLD_SIZE": "4",
    "NODE_RANK": "1",
    "ACCELERATE_TORCH_DEVICE": "cuda:1",
    "MASTER_ADDR": "10.0.0.7",
    "MASTER_PORT": "41337",
    "RAY_JOB_ID": "02000000",
}
"""What Ray Train's backend of PyTorch sets, and what a worker of Ray's is started with."""
ACCELERATE = {
    "RANK": "1",
    "LOCAL_RANK": "1",
    "GROUP_RANK": "0",
    "LOCAL_WORLD_SIZE": "2",
    "WORLD_SIZE": "2",
    "ROLE_RANK": "1",
    "TORCHELASTIC_RUN_ID": "none",
    "ACCELERATE_MIXED_PRECISION": "bf16",
    "MASTER_ADDR": "127.0.0.1",
}
ACCELERATE_ALONE = {
    "ACCELERATE_MIXED_PRECISION": "no",
    "ACCELERATE_USE_CPU": "False",
    "ACCELERATE_DYNAMO_BACKEND": "NO",
}
HYDRA = {"PMI_RANK": "3", "PMI_SIZE": "4", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2"}
MVAPICH = {"MV2_COMM_WORLD_RANK": "3", "MV2_COMM_WORLD_LOCAL_RANK": "1", "MV2_COMM_WORLD_SIZE": "4"}
JSRUN = {"JSM_NAMESPACE_RANK": "3", "JSM_NAMESPACE_LOCAL_RANK": "1", "JSM_NAMESPACE_SIZE": "4", "LSB_JOBID": "77"}
LIGHTNING = {"NODE_RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "40001"}
KUBEFLOW = {"RANK": "3", "WORLD_SIZE": "4", "MASTER_ADDR": "job-master-0", "MASTER_PORT": "23456", "PET_NODE_RANK": "3"}
SRUN_BY_PMI = SLURM | {"PMI_RANK": "6", "PMI_SIZE": "7"}

OF_TORCHRUN = {
    "hwmetrics.rank": 5,
    "hwmetrics.local_rank": 1,
    "hwmetrics.node_rank": 2,
    "hwmetrics.world_size": 8,
}
OF_OPEN_MPI = {"hwmetrics.rank": 3, "hwmetrics.local_rank": 1, "hwmetrics.world_size": 4}
OF_SLURM = {"hwmetrics.rank": 6, "hwmetrics.local_rank": 0, "hwmetrics.node_rank": 3, "hwmetrics.world_size": 7}
OF_RAY = {"hwmetrics.rank": 3, "hwmetrics.local_rank": 1, "hwmetrics.node_rank": 1, "hwmetrics.world_size": 4}
OF_ACCELERATE = {"hwmetrics.rank": 1, "hwmetrics.local_rank": 1, "hwmetrics.node_rank": 0, "hwmetrics.world_size": 2}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        pytest.param({}, {}, id="no launcher"),
        pytest.param({"HOME": "/root", "RANKED": "1"}, {}, id="no launcher, other variables"),
        pytest.param(TORCHRUN, OF_TORCHRUN, id="torchrun"),
        pytest.param(OPEN_MPI, OF_OPEN_MPI, id="Open MPI"),
        pytest.param(SLURM, OF_SLURM, id="SLURM"),
        pytest.param(RAY, OF_RAY, id="Ray Train"),
        pytest.param(SLURM | RAY, OF_RAY, id="Ray Train under SLURM"),
        pytest.param(ACCELERATE, OF_ACCELERATE, id="Accelerate"),
        pytest.param(ACCELERATE_ALONE, {}, id="Accelerate, one process"),
        pytest.param(HYDRA, OF_OPEN_MPI, id="MPICH and Intel MPI"),
        pytest.param(MVAPICH, OF_OPEN_MPI, id="MVAPICH2"),
        pytest.param(JSRUN, OF_OPEN_MPI, id="jsrun"),
        pytest.param(LIGHTNING, OF_RAY | {"hwmetrics.rank": None}, id="Lightning"),
        pytest.param(KUBEFLOW, {"hwmetrics.rank": 3, "hwmetrics.world_size": 4}, id="Kubeflow"),
        pytest.param(SRUN_BY_PMI, OF_SLURM, id="srun --mpi=pmi2"),
        pytest.param(
            SRUN_BY_PMI | {"SLURM_NTASKS": "2"}, {"hwmetrics.rank": 6, "hwmetrics.world_size": 7}, id="mpiexec by srun"
        ),
        pytest.param(TORCHRUN | {"NODE_RANK": "7"}, OF_TORCHRUN, id="torchrun on a node that has a number"),
        pytest.param(SLURM | TORCHRUN, OF_TORCHRUN, id="torchrun under srun"),
        pytest.param(SLURM | OPEN_MPI, OF_OPEN_MPI, id="mpirun under SLURM"),
        pytest.param({"RANK": "0"}, {"hwmetrics.rank": 0}, id="rank alone"),
        pytest.param({"LOCAL_RANK": "1", "WORLD_SIZE": "2"}, {}, id="no rank"),
        pytest.param(
            SLURM | {"LOCAL_RANK": "1", "WORLD_SIZE": "2"}, OF_SLURM, id="torchrun's without a rank, then SLURM's"
        ),
        pytest.param(TORCHRUN | {"RANK": "abc"}, {}, id="garbage rank"),
        pytest.param(SLURM | TORCHRUN | {"RANK": ""}, OF_SLURM, id="empty rank, then SLURM's"),
        *(
            pytest.param(TORCHRUN | {"GROUP_RANK": garbage}, OF_TORCHRUN | {"hwmetrics.node_rank": None}, id=garbage)
            for garbage in ("", "two", "-1", "1.5", " 1", "²", "٣", "1\n", "nan", "0x1")
        ),
    ],
)
def test_ranks_by_what_the_launcher_gave(environ: dict[str, str], expected: dict[str, int | None]) -> None:
    """The innermost launcher that gave a rank counts, alone; what is no number is absent."""
    assert ranks(environ) == {key: value for key, value in expected.items() if value is not None}


def test_a_number_of_thousands_of_digits_is_no_rank() -> None:
    """Nothing in the environment makes it raise, or send what OTLP cannot hold."""
    assert ranks(TORCHRUN | {"RANK": "9" * 5000}) == {}
    assert "hwmetrics.world_size" not in ranks(TORCHRUN | {"WORLD_SIZE": "9" * 20})


def test_ranks_are_integers() -> None:
    """Not strings, or a backend could not sort them."""
    assert {type(value) for value in ranks(TORCHRUN).values()} == {int}


RANDOM = "8f9d2c9e-1111-4222-8333-123456789abc"
STANDALONE = TORCHRUN | {"GROUP_RANK": "0", "GROUP_WORLD_SIZE": "1", "TORCHELASTIC_RUN_ID": RANDOM}
"""What torchrun of PyTorch 2.13 sets on one node."""
ARRAY = {"SLURM_ARRAY_JOB_ID": "90", "SLURM_ARRAY_TASK_ID": "9"}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        pytest.param({}, "", id="none"),
        pytest.param(SLURM, "99", id="SLURM"),
        pytest.param(SLURM | ARRAY, "90_9", id="SLURM's array"),
        pytest.param({"LSB_JOBID": "77", "LSB_JOBINDEX": "0"}, "77", id="LSF"),
        pytest.param({"LSB_JOBID": "77", "LSB_JOBINDEX": "3"}, "77[3]", id="LSF's array"),
        pytest.param(JSRUN, "77", id="jsrun"),
        pytest.param({"PBS_JOBID": "77.server.example"}, "77.server.example", id="PBS"),
        pytest.param({"PBS_JOBID": "77[3].server"}, "77[3].server", id="PBS's array"),
        pytest.param({"JOB_ID": "77", "SGE_TASK_ID": "undefined"}, "77", id="Grid Engine"),
        pytest.param({"JOB_ID": "77", "SGE_TASK_ID": "3"}, "77.3", id="Grid Engine's array"),
        pytest.param({"JOB_ID": "77"}, "", id="a word that anybody may use"),
        pytest.param({"FLUX_JOB_ID": "ƒ2uZ"}, "ƒ2uZ", id="Flux"),
        pytest.param(TORCHRUN | {"TORCHELASTIC_RUN_ID": "exp-7"}, "exp-7", id="torchrun"),
        pytest.param(ACCELERATE, "", id="a run that nobody named"),
        pytest.param(STANDALONE, "", id="a run of one node that nobody named"),
        pytest.param(STANDALONE | {"GROUP_WORLD_SIZE": "2"}, RANDOM, id="a random name that two nodes know"),
        pytest.param(STANDALONE | {"TORCHELASTIC_RUN_ID": f"{RANDOM}-a"}, f"{RANDOM}-a", id="more than a random name"),
        pytest.param(STANDALONE | RAY, "02000000", id="a random name, then Ray's"),
        pytest.param({"TORCHELASTIC_RUN_ID": "exp 7", "RAY_JOB_ID": "02000000"}, "02000000", id="no name, then Ray's"),
        pytest.param({"SLURM_JOB_ID": "9 9", "TORCHELASTIC_RUN_ID": "exp-7"}, "exp-7", id="no name, then torchrun's"),
        pytest.param({"TORCHELASTIC_RUN_ID": "ghp_0123456789abcdefABCDEF"}, "", id="a key"),
        pytest.param({"TORCHELASTIC_RUN_ID": "token=abc123x", "PMIX_NAMESPACE": "n1"}, "n1", id="a secret, then PMIx'"),
        pytest.param(SLURM | TORCHRUN | {"TORCHELASTIC_RUN_ID": "exp-7"}, "99", id="torchrun under SLURM"),
        pytest.param(RAY, "02000000", id="Ray"),
        pytest.param(RAY | {"RAY_JOB_ID": "ffffffff"}, "", id="a worker of Ray's before its job"),
        pytest.param(OPEN_MPI | {"PMIX_NAMESPACE": "prterun-node-7-4242@1"}, "prterun-node-7-4242@1", id="Open MPI"),
        pytest.param(HYDRA | MVAPICH | LIGHTNING | KUBEFLOW, "", id="launchers that name none"),
        *(
            pytest.param({"TORCHELASTIC_RUN_ID": odd}, "", id=f"odd {number}")
            for number, odd in enumerate(("https://me:pw@host/x", "a b", "a\nb", "x" * 129, "\udcff", ""))
        ),
    ],
)
def test_the_job_is_called_what_its_batch_system_calls_it(environ: dict[str, str], expected: str) -> None:
    """As people give it to squeue, bjobs, qstat; else what the launcher calls it, if that names it and can be shown."""
    assert identity(environ).get("hwmetrics.job.id", "") == expected
    assert ("hwmetrics.job.id" in identity(environ)) is bool(expected)


def test_identity_tells_pid_executable_and_ranks() -> None:
    """By the conventions' keys; ranks below our own."""
    assert identity(TORCHRUN) == {
        "process.pid": os.getpid(),
        "process.executable.name": Path(sys.executable).name,
        **OF_TORCHRUN,
    }


def test_identity_is_of_the_process_s_own_environment_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an argument, `os.environ`."""
    for name, value in OPEN_MPI.items():
        monkeypatch.setenv(name, value)
    assert {key: value for key, value in identity().items() if key.startswith("hwmetrics.")} == OF_OPEN_MPI


@pytest.mark.parametrize("executable", [None, ""])
def test_an_embedded_interpreter_has_no_executable(executable: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Python does not know is absent, not empty, and nothing is raised."""
    monkeypatch.setattr(sys, "executable", executable)
    assert identity({}) == {"process.pid": os.getpid()}


def test_missing_from_gives_what_the_resource_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """By key: a Resource that tells a key has the last word on it, whatever its value."""
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    whole = identity()
    assert missing_from(None) == missing_from({}) == missing_from({"service.name": "x"}) == whole
    told = {"process.pid": -1, "hwmetrics.rank": 0}
    assert missing_from(told) == {key: value for key, value in whole.items() if key not in told}
    assert missing_from(whole) == {}
