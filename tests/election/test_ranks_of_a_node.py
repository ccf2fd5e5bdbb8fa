# SPDX-License-Identifier: Apache-2.0
"""Real ranks on one node: one of them tells of the machine at a time, and when it dies another does."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import time
from itertools import groupby, pairwise
from pathlib import Path

import pytest

from election.ranks import Export, Point, Ranks, ranks_in, torchrun

INTERVAL = 0.5


def tenures(exports: list[Export], name: str) -> list[tuple[int, list[Export]]]:
    """Who told of a metric, one after the other, and what."""
    told = [export for export in exports if export.has(name)]
    return [(pid, list(group)) for pid, group in groupby(told, lambda export: export.pid)]


FASTEST = {"system.cpu.time": 1.05 * (os.cpu_count() or 1), "hw.energy": 305.0}
"""How much the counters of these grow in a second at most: no CPU can do more, and the GPUs draw 300 W."""


def assert_goes_on(exports: list[Export], name: str) -> None:
    """No counter falls, begins anew or jumps, whoever tells of it; and over all it is what it was."""
    fastest = FASTEST[name]
    first: dict[Point, tuple[float, float]] = {}
    last: dict[Point, tuple[float, float]] = {}
    for export in exports:
        for series, value in export.points.items():
            if series[0] == name:
                at, before = last.get(series, (export.at, value))
                assert 0 <= value - before <= fastest * (export.at - at + 2 * INTERVAL), (series, before, value)
                last[series] = (export.at, value)
                first.setdefault(series, (export.at, value))
    assert last
    for series, (at, value) in last.items():
        began, before = first[series]
        assert value - before <= fastest * (at - began + 2 * INTERVAL), series


@pytest.mark.parametrize("kills", [20])
def test_a_holder_that_is_killed_is_succeeded(tmp_path: Path, kills: int) -> None:
    """Eight ranks, the one that tells of the machine killed again and again: no gap, no double, counters that go on."""
    chance = random.Random(11)  # noqa: S311 - a seed, so that it can be repeated
    with ranks_in(tmp_path) as job:
        for local_rank in range(8):
            job.start(local_rank, torchrun(local_rank, 8, job.run))
        job.until(lambda exports: len({export.pid for export in exports}) == 8)
        began = job.until(lambda exports: job.emitter(exports) and exports[-1].at)
        for _ in range(kills):
            job.until(
                lambda exports: len(set(job.running) & {export.pid for export in exports}) >= 4
            )  # who could succeed
            holder = job.until(job.emitter)
            time.sleep(chance.uniform(0, 2 * INTERVAL))
            local_rank = job.kill(holder)
            job.start(local_rank, torchrun(local_rank, 8, job.run))
        job.until(lambda exports: set(job.running) <= {export.pid for export in exports})
        job.until(job.emitter)
        ended = time.monotonic()
        job.stop()
        exports = job.exports()
    for name in ("system.cpu.time", "hw.energy"):
        held = tenures(exports, name)
        pids = [pid for pid, _ in held]
        assert len(set(pids)) == len(pids), "two told of it at a time"
        # Those that were killed told of the machine. The GPU is an office of its own, and may be another rank's.
        assert len(pids) > (kills if name == "system.cpu.time" else kills / 2)
        assert_goes_on(exports, name)
        moments = [export.at for _, group in held for export in group if began <= export.at <= ended]
        assert max(later - earlier for earlier, later in pairwise(moments)) <= 2 * INTERVAL + 1
    assert {export.pid for export in exports if export.has("process.cpu.time")} == {export.pid for export in exports}


def told_once(job: Ranks, pids: set[int]) -> None:
    """Wait until all of them export, and somebody tells of the machine, the same one for a while."""

    def settled(exports: list[Export]) -> bool:
        latest = [export for export in exports if export.at > exports[-1].at - 2]
        tell = {export.pid for export in latest if export.has("system.cpu.time")}
        return {export.pid for export in latest} >= pids and len(tell) == 1 and exports[-1].at - exports[0].at > 3

    job.until(settled)


def test_workers_that_outlive_their_killed_parent_keep_nothing(tmp_path: Path) -> None:
    """The lock of flock(2) is the opened file's, and a forked child has that, too."""
    with ranks_in(tmp_path) as job:
        first = job.start(0, torchrun(0, 2, job.run), workers=2)
        job.until(lambda exports: job.emitter(exports) == first)
        time.sleep(2)
        second = job.start(1, torchrun(1, 2, job.run))
        told_once(job, {first, second})
        killed = time.monotonic()
        job.kill(first)
        taken = job.until(
            lambda exports: next((e.at for e in exports if e.pid == second and e.has("system.cpu.time")), None)
        )
        assert taken - killed < 10  # the workers live for half a minute


@pytest.mark.parametrize("launcher", ["srun", "mpirun"])
def test_other_launchers_ranks_elect_one_too(tmp_path: Path, launcher: str) -> None:
    """By the variables that they set."""
    with ranks_in(tmp_path) as job:
        pids = set()
        for number in range(2):
            srun = {"SLURM_JOB_ID": job.run, "SLURM_PROCID": f"{number}", "SLURM_LOCALID": f"{number}"}
            mpirun = {
                "PMIX_NAMESPACE": job.run,
                "OMPI_COMM_WORLD_RANK": f"{number}",
                "OMPI_COMM_WORLD_LOCAL_RANK": f"{number}",
            }
            pids.add(job.start(number, {"srun": srun, "mpirun": mpirun}[launcher]))
        told_once(job, pids)


IN_TMP, IN_MEMORY = (f"{parent}/otel_hwmetrics-{os.geteuid()}" for parent in ("/tmp", "/dev/shm"))  # noqa: S108
OF_ITS_OWN = f'mkdir -p -m 700 {IN_TMP} {IN_MEMORY} && mount -t tmpfs -o mode=0700 none {IN_TMP} && exec "$@"'
WITHOUT_MEMORY = OF_ITS_OWN.replace("&& exec", f"&& mount -t tmpfs -o mode=0700 none {IN_MEMORY} && exec")


@pytest.mark.skipif(os.geteuid() != 0, reason="to give a rank a /tmp of its own takes root")
@pytest.mark.parametrize("shared", [True, False])
def test_containers_that_do_not_share_their_tmp(tmp_path: Path, shared: bool) -> None:  # noqa: FBT001
    """Real mount namespaces: where /dev/shm is shared one is elected, and where nothing is the local rank 0 tells."""
    script = OF_ITS_OWN if shared else WITHOUT_MEMORY
    with ranks_in(Path(tempfile.mkdtemp(dir="/var/tmp"))) as job:
        try:
            contained = ("unshare", "--mount", "sh", "-c", script, "-")
            one = job.start(1, torchrun(1, 2, job.run), *contained)
            zero = job.start(0, torchrun(0, 2, job.run), *contained)
            told_once(job, {zero, one})
            told = job.exports()
            for name in ("system.cpu.time", "hw.energy"):
                pids = {export.pid for export in told if export.has(name)}
                assert len(pids) == 1
                assert shared or pids == {zero}
        finally:
            shutil.rmtree(job.folder, ignore_errors=True)


def test_an_alert_on_what_ranks_share_is_told_of_once(tmp_path: Path) -> None:
    """Two ranks see two GPUs that are far too hot: each has events on its span, one of them tells the log."""
    with ranks_in(tmp_path) as job:
        pids = {
            job.start(number, torchrun(number, 2, job.run), temperature=95.0, alert_gpu_very_hot_for=0)
            for number in range(2)
        }
        told_once(job, pids)
        job.until(lambda exports: len([export for export in exports if export.alert]) >= 2)
        job.stop()
        told = job.exports()
    alerts = [export for export in told if "fires" in export.alert or "°C" in export.alert]
    assert len(alerts) == 2, [export.alert for export in alerts]
    assert len({export.pid for export in alerts}) == 1
    assert {export.pid for export in told if "hwmetrics.alert" in export.events} == pids
