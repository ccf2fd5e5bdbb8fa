# SPDX-License-Identifier: Apache-2.0
"""How an alert's steps are told to people."""

from __future__ import annotations

from typing import Any

import pytest

from otel_hwmetrics.alerts.conditions import Condition, Extreme, Finding, Level
from otel_hwmetrics.alerts.rule import Adaptive, Rule, Severity, Side, State, show
from otel_hwmetrics.alerts.subjects import HOST, Subject
from otel_hwmetrics.alerts.transition import Transition
from otel_hwmetrics.catalog import gpu, gpu_activity
from otel_hwmetrics.model import Kind, Metric, Unit

GPU = Subject("GPU-a", {gpu.HW_NAME: "GPU 0"})
WEIGHT = Metric("test.weight", Kind.GAUGE, Unit.WATT, "Something in watts.")


def rule(
    condition: Condition, threshold: float = 80.0, message: str = "{device}: {value} {beyond}.", **more: Any
) -> Rule:
    """A rule that fires above a threshold."""
    return Rule("r", Severity.INFO, condition, Side.ABOVE, threshold, 0, 0, message, **more)


def step(of: Rule, state: State, finding: Finding | None, **more: Any) -> Transition:
    """A step of it on a GPU."""
    before = {State.FIRING: State.PENDING, State.RESOLVED: State.FIRING}[state]
    return Transition(of, GPU, more.pop("before", before), state, finding, 0, more.pop("duration", 61.5), **more)


@pytest.mark.parametrize(
    ("metric", "value", "threshold", "shown"),
    [
        (gpu.UTILIZATION, 0.914, 0.9, "GPU 0: 91% above 90%."),
        (gpu.UTILIZATION, 0.0, 0.05, "GPU 0: 0% above 5%."),
        (gpu.TEMPERATURE, 81.6, 80.0, "GPU 0: 82 °C above 80 °C."),
        (WEIGHT, 312.5, 300.0, "GPU 0: 312.5 W above 300 W."),
        (gpu.UTILIZATION, None, 0.5, "GPU 0: ? above 50%."),
    ],
)
def test_a_message_shows_values_with_their_units(
    metric: Metric, value: float | None, threshold: float, shown: str
) -> None:
    """As people read them: percent, degrees, a number with its unit; and while it fires, what to do."""
    of = rule(Level(metric), threshold, advice="Cool it.")
    assert step(of, State.FIRING, Finding(value)).message == f"{shown} Cool it."
    if value is not None:
        resolved = step(of, State.RESOLVED, Finding(value)).message
        assert resolved == f"Resolved after 61.5 s: {shown.replace('above', 'no longer above')}"


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (None, Unit.WATT, "?"),
        (0.05, Unit.RATIO, "5%"),
        (1.0, Unit.ERROR, "1 error"),
        (3.0, Unit.ERROR, "3 errors"),
        (2.0, Unit.CHILD, "2 children"),
        (1200.0, Unit.ERROR_PER_SECOND, "1200 errors/s"),
        (0.25, Unit.SECOND, "0.25 s"),
        (119.0, Unit.SECOND, "119 s"),
        (120.0, Unit.SECOND, "2 min"),
        (7199.0, Unit.SECOND, "120 min"),
        (7200.0, Unit.SECOND, "2 h"),
        (172800.0, Unit.SECOND, "2 days"),
        (999.0, Unit.BYTE, "999 B"),
        (80e9, Unit.BYTE, "80 GB"),
        (-1.5e6, Unit.BYTE, "-1.5 MB"),
        (3e18, Unit.BYTE, "3e+03 PB"),
        (2.5e9, Unit.BYTE_PER_SECOND, "2.5 GB/s"),
        (1.98e9, Unit.HERTZ, "1.98e+09 Hz"),
    ],
)
def test_values_are_shown_as_people_write_them(value: float | None, unit: Unit, shown: str) -> None:
    """In the unit that has one to three digits; things that are counted in their plural."""
    assert show(value, unit) == shown


def test_a_device_without_a_name_is_called_by_its_id() -> None:
    """The host is the host; and braces in a device's name are only braces."""
    of = rule(Level(gpu.UTILIZATION), message="{device}.")
    for subject, name in (
        (Subject("GPU-a"), "GPU-a."),
        (Subject("x", {gpu.HW_NAME: "{value}"}), "{value}."),
        (Subject("system.filesystem.mountpoint=/data", {"system.filesystem.mountpoint": "/data"}), "/data."),
        (HOST, "the host."),
    ):
        assert Transition(of, subject, State.PENDING, State.FIRING, Finding(1.0), 0, 1.0).message == name


THROTTLED = Extreme(gpu_activity.THROTTLE_SHARE, across=gpu_activity.THROTTLE_CAUSE, word="cause")


def test_evidence_has_its_place_in_the_message() -> None:
    """By its word; what was not found is a question mark."""
    of = rule(THROTTLED, 0.1, "{device} is held back {value} by {cause}.", advice="Mind {cause}.")
    known = Finding(0.3, {"cause": "hw_thermal"})
    assert step(of, State.FIRING, known).message == "GPU 0 is held back 30% by hw_thermal. Mind hw_thermal."
    assert step(of, State.FIRING, Finding(0.3)).message == "GPU 0 is held back 30% by ?. Mind ?."


@pytest.mark.parametrize(
    ("finding", "more", "message"),
    [
        (Finding(0.05), {"peak": 0.7}, "Resolved after 61.5 s, at worst 70%: GPU 0: 5% no longer above 10%."),
        (Finding(0.05), {"peak": 0.1}, "Resolved after 61.5 s: GPU 0: 5% no longer above 10%."),
        (Finding(None), {"peak": 0.7}, "Resolved after 61.5 s, at worst 70%: GPU 0: r is over."),
        (Finding(0.5), {"superseded_by": "lost"}, "Resolved after 61.5 s: superseded by lost."),
        (None, {"superseded_by": "lost"}, "Resolved after 61.5 s: superseded by lost."),
    ],
)
def test_what_is_over_says_how_bad_it_was(finding: Finding | None, more: dict[str, Any], message: str) -> None:
    """And what it is like now, as far as there is anything to say."""
    assert step(rule(Level(gpu.UTILIZATION), 0.1), State.RESOLVED, finding, **more).message == message


def test_what_is_over_does_not_repeat_evidence_that_is_gone() -> None:
    """No more throttling has no cause."""
    of = rule(THROTTLED, 0.1, "{device} is held back {value} by {cause}.")
    assert (
        step(of, State.RESOLVED, Finding(0.0, {"cause": "idle"})).message == "Resolved after 61.5 s: GPU 0: r is over."
    )


def test_what_is_over_does_not_state_a_fault_that_is_gone() -> None:
    """A flag, a code, a count of errors: nothing of it is the case any more, and a flag has no worst."""
    for message in ("{device} does not answer.", "{device} had {value}."):
        text = step(rule(Level(gpu.UTILIZATION), 0.0, message), State.RESOLVED, Finding(0.0), peak=1.0).message
        worst = ", at worst 100%" if "{value}" in message else ""
        assert text == f"Resolved after 61.5 s{worst}: GPU 0: r is over."


def test_an_adaptive_alert_says_beyond_what_it_is() -> None:
    """Its threshold where that is crossed, as any other; else what is usual in this run, and by how much."""
    of = rule(Level(gpu.TEMPERATURE), 80.0, "{device} is at {value} ({beyond}).", adaptive=Adaptive())
    usual = {"baseline": 61.0, "deviation": 7.25, "baseline_count": 900}
    assert step(of, State.FIRING, Finding(84.0, usual, 9.0)).message == "GPU 0 is at 84 °C (above 80 °C)."
    text = "GPU 0 is at 72 °C (above the usual 61 °C by 7.2 times its scatter)."
    assert step(of, State.FIRING, Finding(72.0, usual, 7.25)).message == text
    over = step(of, State.RESOLVED, Finding(62.0, usual, 0.5), peak=72.0).message
    text = "GPU 0 is at 62 °C (no longer above what is usual in this run)."
    assert over == f"Resolved after 61.5 s, at worst 72 °C: {text}"


def test_a_blind_alert_says_that_it_fires_on() -> None:
    """Nobody is to think that it was resolved, or that the value is fresh."""
    blind = step(rule(Level(gpu.UTILIZATION)), State.FIRING, None, before=State.FIRING, duration=10.0)
    assert blind.blind
    assert blind.message == "GPU 0: no reading for 10 s; r fires on."
    of_host = Transition(blind.rule, HOST, State.FIRING, State.FIRING, None, 0, 10.0)
    assert of_host.message == "No reading for 10 s; r fires on."


def test_a_value_that_is_clear_to_the_digit_resolves() -> None:
    """Though 0.3 - 0.1 is a little less than 0.2 to a computer."""
    of = Rule("r", Severity.INFO, Level(gpu.UTILIZATION), Side.ABOVE, 0.3, 0.1, 0, "")
    assert of.clears(Finding(0.2))
    assert not of.clears(Finding(0.201))
