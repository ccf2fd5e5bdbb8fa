# SPDX-License-Identifier: Apache-2.0
"""Pressure of the kernel, and what stands in for it where the kernel does not count."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cgrouptrees
from otel_hwmetrics.sources.linux import psi

# What a pressure file says, whole or broken, is in test_cgroup_parse.py.


@pytest.mark.parametrize(
    ("tree", "expected"),
    [("docker_v2", True), ("kubernetes_v2", True), ("hybrid", True), ("docker_v1", False), ("no_cgroup", False)],
)
def test_pressure_is_available_where_the_kernel_counts_it(tmp_path: Path, tree: str, *, expected: bool) -> None:
    """Judged by the machine's own file for I/O."""
    assert psi.is_available(f"{cgrouptrees.unpack(tree, tmp_path)}/proc") is expected


@pytest.mark.parametrize("content", ["", "some", "0\n"])
def test_a_broken_file_is_pressure_all_the_same(tmp_path: Path, content: str) -> None:
    """It is asked again as pressure, so iowait must not come to stand beside it."""
    root = cgrouptrees.unpack("docker_v2", tmp_path)
    (tmp_path / "proc/pressure/io").write_text(content)
    assert psi.is_available(f"{root}/proc")


@pytest.mark.parametrize(
    ("number", "expected"),
    [(errno.ENOENT, False), (errno.EOPNOTSUPP, False), (errno.EMFILE, None), (errno.EACCES, None), (errno.EIO, None)],
)
def test_only_what_is_for_ever_is_no_pressure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, *, expected: bool | None
) -> None:
    """Any other error leaves the question open."""

    def refuse(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    if expected is None:
        with pytest.raises(OSError, match=os.strerror(number)):
            psi.is_available(str(tmp_path))
    else:
        assert psi.is_available(str(tmp_path)) is expected


def test_iowait_of_one_cpu_is_the_stall() -> None:
    """As many seconds as a CPU waited, from the first call on."""
    estimate = psi.StallEstimate()
    assert estimate.total(100.0, at=10.0) == 0
    assert estimate.total(100.25, at=11.0) == 0.25
    assert estimate.total(101.0, at=12.0) == 1.0


def test_iowait_of_many_cpus_is_no_more_than_the_time() -> None:
    """Eight CPUs that wait for a second are one second of stall."""
    estimate = psi.StallEstimate()
    estimate.total(0.0, at=0.0)
    assert estimate.total(8.0, at=1.0) == 1.0


def test_a_fall_of_iowait_adds_nothing() -> None:
    """The kernel's figure may fall; the next growth counts from there."""
    estimate = psi.StallEstimate()
    estimate.total(5.0, at=0.0)
    assert estimate.total(4.0, at=1.0) == 0
    assert estimate.total(4.5, at=2.0) == 0.5


@given(st.lists(st.tuples(st.floats(-10, 10), st.floats(0, 10)), max_size=30))
def test_the_estimate_never_falls_and_never_outruns_the_clock(steps: list[tuple[float, float]]) -> None:
    """Whatever the kernel says."""
    estimate, iowait, at, last = psi.StallEstimate(), 0.0, 0.0, 0.0
    estimate.total(iowait, at)
    for growth, seconds in steps:
        iowait, at = iowait + growth, at + seconds
        total = estimate.total(iowait, at)
        assert last <= total <= at + 1e-6
        last = total
