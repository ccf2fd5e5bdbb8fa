# SPDX-License-Identifier: Apache-2.0
"""What rules of the training loop look at where it waits for data."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from looks import Told, once, snapshot, watch
from otel_hwmetrics.alerts.conditions import Condition, Finding, Level
from otel_hwmetrics.alerts.loops import Felt, InputBound
from otel_hwmetrics.catalog import container, pressure, training, tree
from otel_hwmetrics.model import Attribute, Unit


def waits(
    watcher: Any, at: float, waited: float | None, whole: float | None, steps: float | None = 10.0, *more: Told
) -> Finding | None:
    """What is found where training waited so long in its steps so far."""
    told: list[Told] = [*more]
    for metric, value in ((training.DATA_WAIT_TIME, waited), (training.STEP_TIME, whole), (training.STEPS, steps)):
        told += [(metric, {}, value)] if value is not None else []
    return next(iter(watcher.look(snapshot(at, told)).values()), None)


def share(finding: Finding | None) -> float | None:
    """Its value; that it is known is asserted."""
    assert finding is not None
    return finding.value


def test_the_share_of_waiting_is_that_of_the_last_minute() -> None:
    """What was before the first look is of other data; a good minute later it is over."""
    watcher = watch(InputBound())
    assert share(waits(watcher, 0.0, 500.0, 1000.0)) is None
    for second in range(1, 121):
        finding = waits(watcher, float(second), 500.0 + 0.4 * second, 1000.0 + second)
        assert share(finding) == pytest.approx(0.4)
    for second in range(121, 200):
        finding = waits(watcher, float(second), 548.0, 1000.0 + second)
        expected = 0.4 * max(0, 180 - second) / 60
        assert share(finding) == pytest.approx(expected, abs=0.02)


def test_it_takes_steps_and_time_in_them_and_both_figures() -> None:
    """The first batches wait for the loader to start; in a phase that is no step's there is nothing to be a share of."""
    watcher = watch(InputBound())
    assert waits(watcher, 0.0, None, 0.0) is None
    assert waits(watcher, 0.0, 0.0, None) is None
    assert waits(watcher, 0.0, 0.0, 0.0, None) is None
    for steps in (0.0, 4.0):
        assert waits(watcher, 1.0 + steps, 1.0, 1.0, steps) == Finding(None)
    assert share(waits(watcher, 6.0, 1.0, 1.0, 5.0)) == 1.0
    assert waits(watcher, 200.0, 1.0, 1.0, 6.0) == Finding(None)
    assert waits(watcher, 300.0, 1.0, 1.0, 6.0) == Finding(None)


def test_totals_that_begin_late_are_shares_of_what_they_began_in() -> None:
    """A loop of data that begins half an hour after the first step, in the middle of the minute."""
    watcher = watch(InputBound())
    for second in range(100):
        assert waits(watcher, float(second), None, float(second)) is None
    shares = [share(waits(watcher, 100.0 + second, 0.5 * second, 100.0 + second)) for second in range(200)]
    assert shares[0] == 0.0
    assert all(one is not None and one <= 0.5 + 1e-9 for one in shares)
    assert shares[-1] == pytest.approx(0.5)


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 5)), min_size=2, max_size=90))
def test_the_share_is_always_one(growth: list[tuple[float, float]]) -> None:
    """Between 0 and 1, though the two totals are not read at the same moment."""
    watcher, waited, whole = watch(InputBound()), 3.0, 7.0
    for second, (one, other) in enumerate(growth):
        waited, whole = waited + one, whole + other
        finding = waits(watcher, float(second), waited, whole)
        assert finding is not None
        assert finding.value is None or 0 <= finding.value <= 1


def stalled(resource: str, value: float, scope: str = "cgroup", kind: str = "some") -> Told:
    """For what share of the time work stood still."""
    attributes: dict[str, Attribute] = {
        pressure.RESOURCE: resource,
        pressure.KIND: kind,
        pressure.SCOPE: scope,
        pressure.METHOD: "psi",
    }
    return (pressure.STALL_SHARE, attributes, value)


QUOTA = container.CPU_THROTTLED_SHARE
NOT_THE_MACHINE = "not the machine: too few workers, or too little prefetching"
NOTHING_TELLS = "nothing here tells: pressure of I/O and CPUs cannot be read"
CALM = stalled("io", 0.05), stalled("cpu", 0.1)
FIGURES = {"io_share": 0.05, "cpu_share": 0.1}


@pytest.mark.parametrize(
    ("told", "why", "figures"),
    [
        ([], NOTHING_TELLS, {}),
        ([stalled("io", 0.05)], "nothing here tells: pressure of CPUs cannot be read", {"io_share": 0.05}),
        ([*CALM], NOT_THE_MACHINE, FIGURES),
        ([stalled("io", 0.4)], "storage: work waits for I/O 40% of the time", {"io_share": 0.4}),
        ([stalled("io", 0.02), stalled("io", 0.4, "host")], "storage: work waits for I/O 40%", {"io_share": 0.4}),
        ([*CALM, stalled("io", 0.4, kind="full")], NOT_THE_MACHINE, FIGURES),
        ([stalled("memory", 0.9)], NOTHING_TELLS, {}),
        ([stalled("cpu", 0.5)], "the CPUs: work waits for one 50% of the time", {"cpu_share": 0.5}),
        ([stalled("cpu", 0.1), (QUOTA, {}, 0.0)], "nothing here tells: pressure of I/O cannot be read", {"cpu_share": 0.1, "quota_share": 0.0}),
        ([(QUOTA, {}, 0.3)], "the CPU quota: used up in 30% of its periods", {"quota_share": 0.3}),
        (
            [stalled("cpu", 0.9), (QUOTA, {}, 0.3)],
            "the CPU quota: used up in 30% of its periods",
            {"cpu_share": 0.9, "quota_share": 0.3},
        ),
        (
            [stalled("io", 0.2), stalled("cpu", 0.9), (QUOTA, {}, 0.3)],
            "storage: work waits for I/O 20% of the time",
            {"io_share": 0.2, "cpu_share": 0.9, "quota_share": 0.3},
        ),
        (
            [*CALM, (tree.PROCESS_COUNT, {tree.PROCESS_STATE: "running"}, 1.0),
             (tree.PROCESS_COUNT, {tree.PROCESS_STATE: "sleeping"}, 4.0)],
            f"{NOT_THE_MACHINE} (5 processes in all)",
            FIGURES | {"processes": 5},
        ),
    ],
)  # fmt: skip
def test_what_on_this_machine_tells_why_data_comes_late(told: list[Told], why: str, figures: dict[str, float]) -> None:
    """The first of note, storage before quota before CPUs; every figure that there is, and none that there is not.

    What was not looked at cannot be ruled out.
    """
    watcher = watch(InputBound())
    waits(watcher, 0.0, 0.0, 0.0)
    finding = waits(watcher, 1.0, 0.5, 1.0, 10.0, *told)
    assert finding is not None
    assert str(finding.evidence["why"]).startswith(why)
    assert why not in {NOT_THE_MACHINE, NOTHING_TELLS} or finding.evidence["why"] == why
    assert {word: value for word, value in finding.evidence.items() if word != "why"} == figures
    assert set(finding.evidence) <= set(InputBound().evidence)


def test_what_the_job_hardly_feels_is_none() -> None:
    """Where it tells that it does not wait for data, others' storage may be as busy as it likes."""
    felt = Felt(Level(QUOTA))
    watcher = watch(felt)

    def at(second: float, waited: float | None, whole: float) -> Finding | None:
        return waits(watcher, second, waited, whole, 10.0, (QUOTA, {}, 0.9))

    assert at(0.0, None, 0.0) == Finding(0.9)
    assert at(1.0, 0.0, 1.0) == Finding(None)
    assert at(2.0, 0.01, 2.0) == Finding(None)
    assert at(3.0, 0.5, 3.0) == Finding(0.9)
    assert at(4.0, None, 4.0) == Finding(0.9)
    assert (felt.unit, felt.evidence) == (Unit.RATIO, ())
    assert once(felt) == {}


@pytest.mark.parametrize(
    ("condition", "unit", "names"),
    [
        (InputBound(), Unit.RATIO, {training.DATA_WAIT_TIME, training.STEP_TIME}),
        (Felt(Level(QUOTA)), Unit.RATIO, {QUOTA, training.DATA_WAIT_SHARE}),
    ],
)
def test_conditions_say_what_they_look_at(condition: Condition, unit: Unit, names: set[Any]) -> None:
    """By the names of metrics."""
    assert condition.unit is unit
    assert {metric.name for metric in names} <= set(str(condition).replace(",", " ").replace(";", " ").split())
