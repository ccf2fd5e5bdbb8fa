# SPDX-License-Identifier: Apache-2.0
"""Pressure of the kernel, and what stands in for it where the kernel does not count."""

from __future__ import annotations

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
def test_a_broken_file_is_no_pressure(tmp_path: Path, content: str) -> None:
    """What cannot be read will not be read later, so iowait stands in."""
    root = cgrouptrees.unpack("docker_v2", tmp_path)
    (tmp_path / "proc/pressure/io").write_text(content)
    assert not psi.is_available(f"{root}/proc")


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
