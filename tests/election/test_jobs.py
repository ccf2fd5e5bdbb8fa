# SPDX-License-Identifier: Apache-2.0
"""Which processes are of one job, by what each launcher puts into their environment."""

from __future__ import annotations

import multiprocessing
import os

import pytest

from election.ranks import torchrun
from otel_hwmetrics.election import Job, job_of

SLURM = {"SLURM_JOB_ID": "4711", "SLURM_PROCID": "5", "SLURM_LOCALID": "1", "SLURM_NODEID": "2", "SLURM_NTASKS": "8"}
OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "5",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_SIZE": "8",
    "PMIX_NAMESPACE": "prterun-node-7-4242@1",
}
BY_HAND = {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "MASTER_ADDR": "node-7", "MASTER_PORT": "29501"}

LAUNCHERS = {
    "torchrun": torchrun(1, 8, "none"),
    "srun": SLURM,
    "srun of torchrun": SLURM | torchrun(1, 8, "none"),
    "mpirun": OPEN_MPI,
    "mpirun 4": {**OPEN_MPI, "PMIX_NAMESPACE": "", "OMPI_MCA_ess_base_jobid": "1483210753"},
    "LSF": BY_HAND | {"LSB_JOBID": "77"},
    "an element of an array of SLURM's": SLURM | {"SLURM_ARRAY_JOB_ID": "4700", "SLURM_ARRAY_TASK_ID": "3"},
    "an element of an array of LSF's": BY_HAND | {"LSB_JOBID": "77", "LSB_JOBINDEX": "3"},
    "MPICH": {"PMI_RANK": "5", "MPI_LOCALRANKID": "1", "PMI_SIZE": "8", "MASTER_ADDR": "node-7", "MASTER_PORT": "1"},
    "Lightning": {
        "NODE_RANK": "0",
        "LOCAL_RANK": "1",
        "WORLD_SIZE": "8",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "40001",
    },
    "PBS": BY_HAND | {"PBS_JOBID": "77.server"},
    "Grid Engine": BY_HAND | {"SGE_TASK_ID": "undefined", "JOB_ID": "77"},
    "Flux": BY_HAND | {"FLUX_JOB_ID": "f77"},
    "by hand": BY_HAND,
}
"""Of each launcher what rank 5 gets, the second one on its node."""


@pytest.mark.parametrize("environ", LAUNCHERS.values(), ids=LAUNCHERS)
def test_ranks_of_one_launcher_are_of_one_job(environ: dict[str, str]) -> None:
    """Whatever rank they have; and each knows its number on the node."""
    job = job_of(environ)
    assert job.key
    assert job.local_rank == 1
    ranks = {
        *("RANK", "LOCAL_RANK", "SLURM_PROCID", "SLURM_LOCALID", "PMI_RANK", "MPI_LOCALRANKID"),
        *("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK"),
    }
    sibling = {key: "0" if key in ranks else value for key, value in environ.items()}
    assert job_of(sibling) == Job(job.key, 0)


@pytest.mark.parametrize("environ", LAUNCHERS.values(), ids=LAUNCHERS)
def test_jobs_are_told_from_each_other(environ: dict[str, str]) -> None:
    """Another number is another job; the one that the outermost launcher gave counts."""
    numbers = (
        *(
            "SLURM_JOB_ID",
            "LSB_JOBINDEX",
            "LSB_JOBID",
            "PBS_JOBID",
            "JOB_ID",
            "FLUX_JOB_ID",
            "TORCHELASTIC_RUN_ID",
        ),
        *("PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid", "MASTER_PORT"),
    )
    outermost = next(name for name in numbers if environ.get(name))
    assert job_of(environ | {outermost: "another"}).key != job_of(environ).key
    if "SLURM_JOB_ID" in environ:
        assert job_of(environ | {"MASTER_PORT": "1"}).key == job_of(environ).key


def test_jobs_of_one_element_of_an_array_are_told_from_each_other() -> None:
    """What an element submits inherits the array's words, and has a number of its own."""
    array = {"SLURM_ARRAY_JOB_ID": "4700", "SLURM_ARRAY_TASK_ID": "3"}
    assert job_of(SLURM | array).key != job_of(SLURM | array | {"SLURM_JOB_ID": "4712"}).key
    assert job_of(SLURM | array).key == job_of(SLURM).key


def test_without_a_launcher_a_process_is_a_job_of_its_own() -> None:
    """`python train.py` shares nothing with anybody, though a rendezvous may be set for later."""
    assert job_of({}) == Job("", None)
    assert job_of({"MASTER_ADDR": "localhost", "MASTER_PORT": "1"}) == Job("", None)


def test_ranks_that_nobody_named_are_those_of_one_parent() -> None:
    """A launcher of one's own that meets by a file."""
    assert job_of({"RANK": "0"}).key == job_of({"RANK": "1"}).key != ""


@pytest.mark.parametrize("kind", ["net", "pid"])
def test_containers_have_a_localhost_and_a_process_1_each(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Two trainings that share /dev/shm (`docker run --ipc=host`) are two jobs all the same."""
    environ = torchrun(0, 2, "none") if kind == "net" else {"RANK": "0"}
    here = job_of(environ).key
    real = os.stat
    elsewhere = os.stat_result([0, 7, *[0] * 8])
    monkeypatch.setattr(
        "os.stat", lambda path, **more: elsewhere if path == f"/proc/self/ns/{kind}" else real(path, **more)
    )
    assert job_of(environ).key != here


def _job() -> Job:
    return job_of({})


def test_ranks_that_a_script_spawns_are_of_one_job() -> None:
    """As `torch.multiprocessing.spawn` does, which tells each its rank as an argument, and nobody else."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as one, context.Pool(1) as other:
        first, second = one.apply(_job), other.apply(_job)
    assert first == second
    assert first.key
    assert first.local_rank is None
