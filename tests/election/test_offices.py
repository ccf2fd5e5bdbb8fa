# SPDX-License-Identifier: Apache-2.0
"""An office is held by one at a time, whatever folders processes share, and free as soon as its holder is gone."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from otel_hwmetrics.election import offices as module
from otel_hwmetrics.election.offices import FORGOTTEN, Offices, office_name
from otel_hwmetrics.folders import Folder

Member = Callable[..., Offices]


@pytest.fixture
def member(tmp_path: Path) -> Member:
    """Makes members of one job; locks of flock(2) are apart for each opened file, in one process, too."""

    def make(*folders: str, first: bool = False, job: str = "0123456789abcdef") -> Offices:
        made = Offices([Folder(str(tmp_path / name), alone=True) for name in folders or ("shared",)], job)
        made.join(first=first)
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
    one.abandon()
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
        one.abandon()
        os.write(tells, b".")
        time.sleep(60)
        os._exit(0)
    os.read(stays, 1)
    assert not other.take("node")  # the child closed its own, the parent's stands
    one.abandon()
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
    other.abandon()
    assert one.take("node")


def test_the_local_rank_0_is_seen_where_a_folder_is_shared(member: Member) -> None:
    """And not where none is; an earlier run of the same name is forgotten by who comes first."""
    zero, near, far = member("a", "b", first=True), member("b"), member("c")
    assert near.met_first
    assert not far.met_first
    zero.abandon()
    near.abandon()
    assert not member("b").met_first


def test_what_an_earlier_run_left_is_removed_by_who_is_alone(member: Member, tmp_path: Path) -> None:
    """And by nobody who is not: there a successor goes on from it."""
    first = member()
    totals = tmp_path / "shared" / first.file("node.totals")
    totals.write_bytes(b"...")
    second = member()
    assert totals.exists()
    first.abandon()
    second.abandon()
    member()
    assert not totals.exists()


def test_jobs_of_long_ago_leave_nothing(member: Member, tmp_path: Path) -> None:
    """But one that still runs, for however long, keeps its files."""
    gone, runs = member(job="a" * 16), member(job="b" * 16)
    gone.take("node")
    gone.abandon()
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
    assert not nowhere.met_first


def test_a_platform_without_such_locks_meets_nobody(member: Member, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows."""
    monkeypatch.setattr(module, "fcntl", None)
    assert member().folders == []


def test_names_of_offices_are_names_of_files() -> None:
    """Whatever a device calls itself."""
    assert office_name("node") == "node"
    assert office_name("gpu", "GPU-afd2/..\n") == "gpu-GPU-afd2_"
