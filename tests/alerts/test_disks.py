# SPDX-License-Identifier: Apache-2.0
"""Disks that fill up, and checkpoints that do not fit."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from courses import GB, Course, found
from looks import Told, once
from otel_hwmetrics.alerts.conditions import Finding
from otel_hwmetrics.alerts.disks import DiskFull
from otel_hwmetrics.catalog import system, training
from otel_hwmetrics.model import Unit
from otel_hwmetrics.stepclock import CHECKPOINT, EVALUATION


def of_disk(
    free: Course, writing: Callable[[float], bool], every: float = 1.0, phase: str = CHECKPOINT
) -> Callable[[float], list[Told]]:
    """What is told of a filesystem that is looked at every so many seconds, and of the phase."""

    def tells(at: float) -> list[Told]:
        state = {system.FILESYSTEM_MODE: "rw", system.FILESYSTEM_MOUNTPOINT: "/data"}
        return [
            (system.FILESYSTEM_USAGE, {**state, system.FILESYSTEM_STATE: "free"}, free(at // every * every)),
            (system.FILESYSTEM_USAGE, {**state, system.FILESYSTEM_STATE: "used"}, 3.0),
            (training.PHASE, {training.PHASE_NAME: phase}, float(writing(at))),
        ]

    return tells


def written(at: float, starts: Iterable[float], lasting: float, size: float) -> float:
    """How many bytes of checkpoints have been written."""
    return sum(size * min(1.0, max(0.0, (at - start) / lasting)) for start in starts)


def does_not_fit(looks: Iterable[tuple[float, Finding | None]]) -> list[float]:
    """The moments at which the next checkpoint does not fit."""
    return [at for at, each in looks if each is not None and "does not fit" in str(each.evidence.get("outlook", ""))]


STARTS = (300.0, 900.0, 1500.0)


@pytest.mark.parametrize("every", [1.0, 10.0])
@pytest.mark.parametrize("lasting", [3.0, 40.0])
def test_the_size_of_checkpoints_is_learned(every: float, lasting: float) -> None:
    """Of 250 GB three checkpoints of 80 leave room for none: told as soon as that is so, and not before.

    A filesystem is looked at every ten seconds: what was written in between is seen at the next look.
    """
    free = lambda at: 250 * GB - written(at, STARTS, lasting, 80 * GB)  # noqa: E731 - a row of numbers
    writing = lambda at: any(start <= at < start + lasting for start in STARTS)  # noqa: E731
    looks = found(DiskFull(7200.0), of_disk(free, writing, every), 2000.0)
    moments = does_not_fit(looks)
    assert 1500.0 + lasting <= moments[0] <= 1500.0 + lasting + every
    assert moments == [at for at, _ in looks if at >= moments[0]]
    last = looks[-1][1]
    assert last is not None
    assert last.value == 0.0
    assert last.evidence["left_bytes"] == 10 * GB
    assert last.evidence["checkpoint_bytes"] == 80 * GB
    assert str(last.evidence["outlook"]).startswith("the next checkpoint takes 80 GB and does not fit")


@pytest.mark.parametrize("room", [85.0, 75.0])
def test_old_checkpoints_that_are_removed_make_room(room: float) -> None:
    """Written first, removed then: that fits as long as one more does; while it is written nobody is told."""
    starts = [300.0 + 600.0 * number for number in range(6)]

    def free(at: float) -> float:
        removed = sum(at >= start + 60.0 for start in starts[1:])
        return (80 + room + removed * 80) * GB - written(at, starts, 30.0, 80 * GB)

    looks = found(DiskFull(7200.0), of_disk(free, lambda at: any(start <= at < start + 30 for start in starts)), 3600.0)
    between = [at for at in does_not_fit(looks) if not any(start <= at <= start + 60.0 for start in starts)]
    assert bool(between) == (room < 80)
    assert not any(start <= at < start + 30.0 for start in starts for at in does_not_fit(looks))


def test_checkpoints_that_come_close_after_each_other_are_not_added_up() -> None:
    """Every twenty seconds one of 1 GB, the old one removed: it takes 1 GB, and not what all of them took."""
    starts = [60.0 + 20.0 * number for number in range(60)]

    def free(at: float) -> float:
        return 3 * GB - written(at, starts, 4.0, 1 * GB) + 1 * GB * sum(at >= start + 12.0 for start in starts)

    looks = found(DiskFull(7200.0), of_disk(free, lambda at: any(start <= at < start + 4 for start in starts)), 1300.0)
    assert does_not_fit(looks) == []
    rising = lambda at: 60 * GB - written(at, starts, 4.0, 1 * GB)  # noqa: E731 - a row of numbers
    kept = found(
        DiskFull(1e6), of_disk(rising, lambda at: any(start <= at < start + 4 for start in starts), 10.0), 1300.0
    )
    assert min(does_not_fit(kept)) >= starts[-5]


def test_old_checkpoints_that_are_removed_first_need_no_more_room() -> None:
    """What was freed and then written again is no size that the filesystem would lack."""

    def free(at: float) -> float:
        return 100 * GB if at < 300 or at >= 330 else 150 * GB - 50 * GB * (at - 300) / 30

    looks = found(DiskFull(7200.0), of_disk(free, lambda at: 300 <= at < 330), 900.0)
    assert does_not_fit(looks) == []


@pytest.mark.parametrize("phase", [EVALUATION, "train"])
def test_what_is_lost_outside_of_a_checkpoint_is_none(phase: str) -> None:
    """Another tenant, or a log: only what goes while a checkpoint is written counts."""
    free = lambda at: 100 * GB - 60 * GB * (at >= 305)  # noqa: E731 - a row of numbers
    assert does_not_fit(found(DiskFull(7200.0), of_disk(free, lambda at: 300 <= at < 330, phase=phase), 900.0)) == []
    between = found(DiskFull(7200.0), of_disk(free, lambda at: 100 <= at < 130), 900.0)
    assert does_not_fit(between) == []


@pytest.mark.parametrize("strange", [0, 1, 3])
def test_another_tenant_s_writing_during_a_checkpoint_is_no_checkpoint_s(strange: int) -> None:
    """On a shared filesystem somebody else writes 230 GB during one of 60: of the last three sizes the middle one counts.

    While there is but one, it is taken for what it seems to be.
    """
    starts = [300.0 + 300.0 * number for number in range(6)]

    def free(at: float) -> float:
        stranger = written(at, starts[strange : strange + 1], 30.0, 230 * GB)
        removed = 60 * GB * sum(at >= start + 50 for start in starts)
        return 500 * GB - stranger - written(at, starts, 30.0, 60 * GB) + removed

    looks = found(DiskFull(7200.0), of_disk(free, lambda at: any(start <= at < start + 30 for start in starts)), 2400.0)
    told = does_not_fit(looks)
    assert all(330 <= at < 670 for at in told)
    assert bool(told) == (strange == 0)


def test_a_disk_that_fills_up_is_forecast_and_one_that_is_not_ours_is_not_looked_at() -> None:
    """By its trend, in words; a filesystem that is mounted read-only is nobody's to fill."""
    looks = found(DiskFull(3600.0), of_disk(lambda at: 100 * GB - 10e6 * at, lambda _: False, 10.0), 3600.0, every=10.0)
    (at, last) = looks[-1]
    assert last is not None
    assert last.value == pytest.approx(1e4 - at, rel=0.05)
    assert str(last.evidence["outlook"]).startswith("it is full in about ")
    assert set(last.evidence) < set(DiskFull(3600.0).evidence)
    full = found(DiskFull(60.0), of_disk(lambda _: 0.0, lambda _: False), 60.0)[-1][1]
    assert full is not None
    assert (full.value, full.evidence["outlook"]) == (0.0, "it is full")
    other = {system.FILESYSTEM_MOUNTPOINT: "/cdrom", system.FILESYSTEM_STATE: "free", system.FILESYSTEM_MODE: "ro"}
    assert once(DiskFull(3600.0), (system.FILESYSTEM_USAGE, other, 0.0)) == {}


def test_the_condition_says_what_it_looks_at() -> None:
    """By the names of metrics, in seconds."""
    assert DiskFull(3600.0).unit is Unit.SECOND
    assert {system.FILESYSTEM_USAGE.name, training.PHASE.name} <= set(str(DiskFull(3600.0)).replace(";", " ").split())
