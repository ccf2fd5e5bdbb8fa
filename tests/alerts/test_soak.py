# SPDX-License-Identifier: Apache-2.0
"""The soak: on a machine on which nothing fails no alert rings, and what fails is found, as soon as the page says.

`make soak` goes through all of it, which takes some minutes on all CPUs, and keeps the figures beside the page with a
fingerprint of the rules, of what judges them and of the simulation. They are what is asked here; and they are found again,
figure for figure, in the beginnings of the healthy runs and in one of six faults.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from alerts.simulation.faults import FAULTS, Fault
from alerts.simulation.fingerprint import fingerprint
from alerts.simulation.measure import FEW, FILE, kept, measure
from alerts.simulation.runs import HEALTHY
from otel_hwmetrics.alerts.builtin import RULES
from otel_hwmetrics.catalog import framework, training

OF_OTHER_JOBS = {framework.JAX_ALLOCATED.name, framework.JAX_LIMIT.name, framework.JAX_RESERVED.name}
"""Metrics that rules ask for and this job has not: it uses PyTorch."""

RULE_OF = {rule.name: rule for rule in RULES}
KEPT: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    """The beginnings of healthy runs, and some faults."""
    return measure(whole=False)


def found(fault: Fault) -> dict[str, Any]:
    """What became of a fault."""
    (outcome,) = (each for each in KEPT["faults"] if each["title"] == fault.title)
    return dict(outcome)


@pytest.mark.parametrize("name", HEALTHY)
def test_on_a_healthy_machine_nothing_above_info_fires(name: str, measured: Mapping[str, Any]) -> None:
    """Whatever noise there is: an alarm that rings for nothing is switched off."""
    alarms = measured["healthy"][name]["alarms"]
    assert not alarms, "\n".join(["", *alarms])


@pytest.mark.parametrize("name", HEALTHY)
def test_nor_did_it_in_the_whole_of_the_run(name: str) -> None:
    """What is kept of the last `make soak` says so, of all of its snapshots."""
    run = KEPT["healthy"][name]
    assert run["snapshots"] == HEALTHY[name].snapshots
    assert [rule for severity, rules in run["fired"].items() if severity != "info" for rule in rules] == []


def test_what_is_kept_is_of_these_rules() -> None:
    """Whole runs take minutes, and are gone through anew where a rule, what judges it or the simulation has changed."""
    assert KEPT["of"] == fingerprint(), "make soak"


def test_every_rule_has_a_fault() -> None:
    """No rule is without a proof that it finds what it is there for."""
    assert {name for fault in FAULTS for name in fault.rules} == set(RULE_OF)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.title)
def test_a_fault_is_found(fault: Fault) -> None:
    """By each rule that is to find it, on the device that fails, not before it has lasted, and while it lasts."""
    for name, told in found(fault)["rules"].items():
        assert told["delay"] is not None, name
        assert told["delay"] >= RULE_OF[name].for_seconds * 0.9
        assert told["delay"] <= max(fault.lasts, 10.0)


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.full], ids=lambda fault: fault.title)
def test_what_fills_up_is_told_of_in_time(fault: Fault) -> None:
    """A third of its time before it is full at the latest: there is time for a checkpoint."""
    for name, told in found(fault)["rules"].items():
        assert told["delay"] <= (fault.full or 0.0) * 2 / 3, name


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.ends is not None], ids=lambda fault: fault.title)
def test_an_alert_ends_after_its_fault(fault: Fault) -> None:
    """It does not ring for ever."""
    assert {name: told["resolved"] for name, told in found(fault)["rules"].items()} != {}
    assert [name for name, told in found(fault)["rules"].items() if told["resolved"] is None] == []


def test_rules_are_quiet_for_no_want_of_readings(measured: Mapping[str, Any]) -> None:
    """The simulated machine tells all that any rule asks for, and every rule could judge."""
    told = measured["healthy"]["told"]
    assert set(told["never_told"]) <= OF_OTHER_JOBS
    assert told["never_judged"] == []
    assert set(measured["healthy"]["untold"]["never_told"]) <= {*OF_OTHER_JOBS, training.PHASE.name}


def test_the_page_says_what_was_found(measured: Mapping[str, Any]) -> None:
    """What is kept for it is what is found now: the delays, and what fired in the beginning of each healthy run."""
    now = kept(measured)
    assert KEPT["faults"][::FEW] == now["faults"], "make soak"
    assert {name: run["beginning"] for name, run in KEPT["healthy"].items()} == {
        name: run["beginning"] for name, run in now["healthy"].items()
    }, "make soak"
    assert (KEPT["seed"], KEPT["injected_at"]) == (now["seed"], now["injected_at"]), "make soak"
