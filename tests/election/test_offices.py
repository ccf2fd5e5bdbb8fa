# SPDX-License-Identifier: Apache-2.0
"""An office is held by one at a time, whatever folders processes share, and free as soon as its holder is gone."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from otel_hwmetrics.election import files
from otel_hwmetrics.election.offices import FORGOTTEN, Offices, office_name
from otel_hwmetrics.folders import Folder

Member = Callable[..., Offices]


@pytest.fixture
def member(tmp_path: Path) -> Member:
    """Makes members of one job; locks of flock(2) are apart for each opened file, in one process, too."""

    def make(*folders: str, first: bool = False, job: str = "0123456789abcdef") -> Offices:
        made = Offices([Folder(str(tmp_path / name), alone=True) for name in folders or ("shared",)], job)
        made.join("its container" if first else None)
        return made

    return make


def test_one_holds_it_until_it_is_given_up(member: Member) -> None:
    """Then the next one that asks has it."""
    one, other = member(), member()
    assert one.take("node")
    assert one.take("node")
    assert not other.take("node")
    assert other.take("gpu-0")
    one.give_up("node")
    assert other.take("node")
    assert not one.holds("node")


def test_jobs_have_offices_of_their_own(member: Member) -> None:
    """Two jobs of one user on one node."""
    assert member().take("node")
    assert member(job="f" * 16).take("node")


@pytest.mark.parametrize(("ours", "theirs"), [("ab", "b"), ("a", "ab"), ("abc", "bc"), ("ab", "bc"), ("abc", "cba")])
def test_to_share_one_folder_is_enough(member: Member, ours: str, theirs: str) -> None:
    """Containers that share /tmp but not /dev/shm, or the other way round."""
    one, other = member(*ours), member(*theirs)
    assert one.take("node")
    assert not other.take("node")
    one.leave()
    assert other.take("node")


def test_nobody_keeps_a_part_of_what_it_cannot_have(member: Member) -> None:
    """What was taken on the way is given back, for those who need nothing else."""
    holder, asks, third = member("b"), member("a", "b"), member("a")
    assert holder.take("node")
    assert not asks.take("node")
    assert third.take("node")


def test_a_forked_child_has_no_part_in_it(member: Member) -> None:
    """A worker that outlives its killed parent would keep the office from everybody."""
    one, other = member(), member()
    assert one.take("node")
    stays, tells = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(tells, b".")
        time.sleep(60)
        os._exit(0)
    os.read(stays, 1)
    assert not other.take("node")  # the child closed its own, the parent's stands
    one.leave()
    assert other.take("node")
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    os.close(stays)
    os.close(tells)


def test_files_that_somebody_removed_are_noticed(member: Member, tmp_path: Path) -> None:
    """A lock on what is no longer there keeps nobody out: whoever had it stands for it anew."""
    one, other = member(), member()
    assert one.take("node")
    for path in (tmp_path / "shared").iterdir():
        path.unlink()
    assert other.take("node")
    for _ in range(10):
        one.look_after()
    assert not one.take("node")
    other.leave()
    assert one.take("node")


def test_the_local_rank_0_is_seen_where_a_folder_is_shared(member: Member) -> None:
    """And not where none is; an earlier run of the same name is forgotten by who comes first."""
    zero, near, far = member("a", "b", first=True), member("b"), member("c")
    assert near.first == "its container"
    assert far.first is None
    zero.leave()
    near.leave()
    assert member("b").first is None


def test_what_an_earlier_run_left_is_removed_by_who_is_alone(member: Member, tmp_path: Path) -> None:
    """And by nobody who is not: there a successor goes on from it."""
    first = member()
    totals = tmp_path / "shared" / first.file("node.totals")
    totals.write_bytes(b"...")
    second = member()
    assert totals.exists()
    first.leave()
    second.leave()
    member()
    assert not totals.exists()


def test_jobs_of_long_ago_leave_nothing(member: Member, tmp_path: Path) -> None:
    """But one that still runs, for however long, keeps its files."""
    gone, runs = member(job="a" * 16), member(job="b" * 16)
    gone.take("node")
    gone.leave()
    long_ago = time.time() - FORGOTTEN - 60
    for path in (tmp_path / "shared").iterdir():
        os.utime(path, (long_ago, long_ago))
    member()
    left = {path.name[0] for path in (tmp_path / "shared").iterdir()}
    assert left == {"b", "0"}
    assert runs.take("node")


def test_without_a_folder_nobody_is_met_and_nothing_is_had(member: Member, tmp_path: Path) -> None:
    """The folder's name is taken by a file; or the platform knows no such locks."""
    (tmp_path / "taken").touch()
    nowhere = member("taken")
    assert nowhere.folders == []
    assert not nowhere.take("node")
    assert nowhere.first is None


def test_a_platform_without_such_locks_meets_nobody(member: Member, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows."""
    monkeypatch.setattr(files, "fcntl", None)
    assert member().folders == []


def test_names_of_offices_are_names_of_files() -> None:
    """Whatever a device calls itself."""
    assert office_name("node") == "node"
    assert office_name("gpu", "GPU-afd2/..\n") == "gpu-GPU-afd2_"


def _join_and_stay(folders: list[str], job: str, barriers: tuple[Any, Any, Any], number: int) -> None:
    """A rank: join with the others, and stay until it was looked at."""
    offices = Offices([Folder(path, alone=True) for path in folders], job)
    ready, joined, checked = barriers
    ready.wait(20)
    offices.join(None if number else "its container")
    joined.wait(20)
    checked.wait(20)
    os._exit(0)


def test_ranks_that_join_at_the_same_moment_are_all_members(tmp_path: Path) -> None:
    """Real processes from one barrier, again and again: nobody clears what another has just written, or is left out."""
    context = multiprocessing.get_context("fork")
    folders = [str(tmp_path / name) for name in ("a", "b")]
    for turn in range(30):
        job = f"{turn:016x}"
        ready, joined, checked = (context.Barrier(parties) for parties in (4, 5, 5))
        barriers = ready, joined, checked
        ranks = [
            context.Process(target=_join_and_stay, args=(folders, job, barriers, number), daemon=True)
            for number in range(4)
        ]
        for each in ranks:
            each.start()
        joined.wait(20)
        for path in folders:
            locks = Path("/proc/locks").read_text()
            inode = os.stat(os.path.join(path, f"{job}.members")).st_ino
            shared = [line for line in locks.splitlines() if "READ" in line and f":{inode} " in line]
            assert len(shared) == 4, (turn, path)
            assert os.path.exists(os.path.join(path, f"{job}.first")), (turn, path)
        checked.wait(20)
        for each in ranks:
            each.join(20)


def test_a_descriptor_that_is_somebody_else_s_now_is_left_alone(member: Member, tmp_path: Path) -> None:
    """A job that closes what it does not know has its checkpoint under the number that was ours."""
    one = member()
    assert one.take("node")
    ours = {number for number in map(int, os.listdir("/proc/self/fd")) if "shared" in _path(number)}
    assert ours
    for number in ours:
        checkpoint = os.open(tmp_path / f"checkpoint-{number}", os.O_RDWR | os.O_CREAT)
        os.dup2(checkpoint, number)
        os.close(checkpoint)
    for _ in range(10):
        one.look_after()
    one.leave()
    for number in ours:
        os.write(number, b"weights")
        assert (tmp_path / f"checkpoint-{number}").read_bytes() == b"weights"
        os.close(number)


def _path(number: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{number}")
    except OSError:
        return ""


def test_without_a_descriptor_to_spare_a_holder_stays_one(member: Member) -> None:
    """It cannot tell whether the files are still there, and so takes it that they are."""
    one = member()
    assert one.take("node")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        with contextlib.suppress(OSError):
            while True:
                spare.append(os.open("/dev/null", os.O_RDONLY))
        for _ in range(30):
            one.look_after()
        assert one.holds("node")
    finally:
        for number in spare:
            os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not member().take("node")
