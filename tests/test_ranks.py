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

OF_TORCHRUN = {
    "hwmetrics.rank": 5,
    "hwmetrics.local_rank": 1,
    "hwmetrics.node_rank": 2,
    "hwmetrics.world_size": 8,
}
OF_OPEN_MPI = {"hwmetrics.rank": 3, "hwmetrics.local_rank": 1, "hwmetrics.world_size": 4}
OF_SLURM = {"hwmetrics.rank": 6, "hwmetrics.local_rank": 0, "hwmetrics.node_rank": 3, "hwmetrics.world_size": 7}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        pytest.param({}, {}, id="no launcher"),
        pytest.param({"HOME": "/root", "RANKED": "1"}, {}, id="no launcher, other variables"),
        pytest.param(TORCHRUN, OF_TORCHRUN, id="torchrun"),
        pytest.param(OPEN_MPI, OF_OPEN_MPI, id="Open MPI"),
        pytest.param(SLURM, OF_SLURM, id="SLURM"),
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
