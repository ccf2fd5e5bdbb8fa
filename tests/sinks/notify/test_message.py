# SPDX-License-Identifier: Apache-2.0
"""Alerts that go out together, and the words in which they are told."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import INVALID_SPAN, format_trace_id

from notified import alert
from otel_hwmetrics.alerts.rule import Severity, State
from otel_hwmetrics.sinks.base import Alert
from otel_hwmetrics.sinks.notify.message import LINE, LINES, Group, Message, compose, place_of

FIRING, RESOLVED = State.FIRING, State.RESOLVED
COOL = "Resolved after 12 s, at worst 92 °C: GPU 0 is at 70 °C (no longer above 80 °C)."
HOT = "GPU 0 is at 85 °C (above 80 °C). Check its cooling."


def grouped(alerts: Iterable[Alert], room: int = 1000) -> Group:
    """Alerts as they come, a second apart."""
    group = Group(room)
    for at, each in enumerate(alerts):
        group.add(each, float(at))
    return group


def told(*alerts: Alert, place: str = "node-7") -> Message:
    """The message of these alerts."""
    return compose(grouped(alerts).entries.values(), place)


@pytest.mark.parametrize(
    ("alerts", "title", "severity"),
    [
        ([alert()], "warning: gpu_hot (GPU 0) on node-7", Severity.WARNING),
        ([alert(device="", severity=Severity.CRITICAL)], "critical: gpu_hot on node-7", Severity.CRITICAL),
        ([alert(), alert(device="GPU 1")], "warning: 2 alerts on node-7", Severity.WARNING),
        ([alert(), alert("lost", severity=Severity.CRITICAL)], "critical: 2 alerts on node-7", Severity.CRITICAL),
        (
            [alert(), alert("lost", RESOLVED, Severity.CRITICAL)],
            "warning: 1 alert, 1 resolved on node-7",
            Severity.WARNING,
        ),
        ([alert(state=RESOLVED)], "resolved: gpu_hot (GPU 0) on node-7", None),
        ([alert(), alert(state=RESOLVED)], "resolved: gpu_hot (GPU 0) on node-7", None),
        ([alert(state=RESOLVED), alert("lost", RESOLVED)], "resolved: 2 alerts on node-7", None),
    ],
)
def test_the_title_says_how_bad_how_many_and_where(alerts: list[Alert], title: str, severity: Severity | None) -> None:
    """One alert is named; of several the worst that fires and their number; what is all over is no alarm."""
    message = told(*alerts)
    assert message.title == title
    assert message.severity is severity


def test_an_end_is_no_all_clear_while_others_fire() -> None:
    """A pager that closes its incident on the all-clear would close it too early."""
    over = grouped([alert(state=RESOLVED)]).entries.values()
    message = compose(over, "node-7", others=2)
    assert message.title == "resolved: gpu_hot (GPU 0), 2 still firing on node-7"
    assert message.severity is Severity.INFO
    assert compose(grouped([alert()]).entries.values(), "node-7", others=2) == told(alert())


@pytest.mark.parametrize(
    ("steps", "line"),
    [
        ([FIRING], f"firing: gpu_hot (GPU 0), warning, 00:00:00 UTC: {HOT}"),
        ([RESOLVED], f"resolved: gpu_hot (GPU 0), warning, 00:00:00 UTC: {COOL}"),
        ([FIRING, RESOLVED], f"fired and resolved: gpu_hot (GPU 0), warning, 00:00:01 UTC: {COOL}"),
        ([RESOLVED, FIRING], f"firing: gpu_hot (GPU 0), warning, 00:00:01 UTC: {HOT}"),
        ([FIRING, RESOLVED, FIRING], f"fired 2 times, firing: gpu_hot (GPU 0), warning, 00:00:02 UTC: {HOT}"),
        (
            [FIRING, RESOLVED, FIRING, RESOLVED],
            f"fired 2 times, resolved: gpu_hot (GPU 0), warning, 00:00:03 UTC: {COOL}",
        ),
    ],
)
def test_one_alert_is_one_line_whatever_happened_to_it(steps: list[State], line: str) -> None:
    """How often it fired, how it stands, its name, device, severity, time, and its own last words."""
    assert told(*(alert(state=step, at=at) for at, step in enumerate(steps))).body == line


def test_an_alert_that_cannot_be_read_any_more_still_fires() -> None:
    """It did not begin to fire again."""
    assert told(alert(blind=True)).body.startswith("still firing: gpu_hot (GPU 0), warning")
    assert "gpu_hot fires on" in told(alert(blind=True)).body


def test_the_trace_is_there_where_there_was_a_span() -> None:
    """So that the notification leads to the trace."""
    span = TracerProvider().get_tracer("t").start_span("epoch")
    trace_id = format_trace_id(span.get_span_context().trace_id)
    assert told(alert(span=span)).body.endswith(f" [trace {trace_id}]")
    assert "trace" not in told(alert(span=INVALID_SPAN)).body


def test_the_worst_comes_first_and_what_is_over_last() -> None:
    """Within these by time; a service that cuts a message short leaves what matters."""
    message = told(
        alert("over", RESOLVED, Severity.CRITICAL, at=1),
        alert("late", at=5),
        alert("early", at=2),
        alert("worst", severity=Severity.CRITICAL, at=9),
        alert("least", severity=Severity.INFO, at=0),
    )
    assert [line.split()[1] for line in message.body.splitlines()] == ["worst", "early", "late", "least", "over"]


def test_a_message_has_twenty_lines_and_counts_the_rest() -> None:
    """By severity, so that one knows what is missing."""
    alerts = [alert(device=f"GPU {n}", severity=Severity.CRITICAL) for n in range(18)]
    alerts += [alert(device=f"GPU {n}") for n in range(18, 25)]
    alerts += [alert(device=f"GPU {n}", state=RESOLVED) for n in range(25, 28)]
    message = told(*alerts)
    lines = message.body.splitlines()
    assert len(lines) == LINES + 1
    assert lines[-1] == "and 8 more: 5 warning, 3 resolved"
    assert message.title == "critical: 25 alerts, 3 resolved on node-7"


@settings(deadline=None)  # the machine may have others to serve
@given(
    st.text(max_size=2000),
    st.text(min_size=1, max_size=2000),
    st.text(max_size=2000),
)
def test_whatever_the_words_each_alert_is_one_line_of_bounded_length(name: str, device: str, place: str) -> None:
    """Mail headers are not forged by a newline in a name, and a chat's limit is not run into by a long path."""
    message = told(alert(name, device=device, message="hot"), alert("other"), place=place)
    assert len(message.body.split("\n")) == 2
    for line in (message.title, *message.body.split("\n")):
        assert len(line) <= LINE
        assert line.isprintable()


def test_a_group_holds_so_many_alerts_and_any_number_of_steps_of_each() -> None:
    """Its memory is bounded by its room; an alert that it holds can always go on."""
    group = grouped((alert(device=f"GPU {n}") for n in range(3)), room=3)
    assert not group.add(alert(device="GPU 3"), 9.0)
    for _ in range(100):
        assert group.add(alert(device="GPU 0", state=RESOLVED), 9.0)
        assert group.add(alert(device="GPU 0"), 9.0)
    assert len(group) == 3
    assert group.since == 0.0


def test_what_is_given_back_comes_before_what_came_meanwhile() -> None:
    """A firing that could not be told and its end are one line, since the firing; what finds no room is counted."""
    failed = grouped([alert(), alert(device="GPU 1")]).entries
    group = grouped([alert(state=RESOLVED), alert(device="GPU 2"), alert(device="GPU 3")], room=3)
    assert group.give_back(failed) == 1
    states = {entry.alert.device: (entry.fired, entry.resolved) for entry in group.entries.values()}
    assert states == {"GPU 0": (1, True), "GPU 1": (1, False), "GPU 2": (1, False)}
    assert group.since == 0.0


@settings(deadline=None)  # the machine may have others to serve
@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=30), st.integers(0, 30))
def test_a_message_that_fails_changes_nothing_in_what_is_told(steps: list[tuple[str, bool]], at: int) -> None:
    """The same entries as if all had waited for one message."""
    alerts = [alert(name, FIRING if fires else RESOLVED) for name, fires in steps]
    halves = grouped(alerts[:at]), grouped(alerts[at:])
    halves[1].give_back(halves[0].entries)
    whole = grouped(alerts)
    assert {key: (entry.alert, entry.fired) for key, entry in halves[1].entries.items()} == {
        key: (entry.alert, entry.fired) for key, entry in whole.entries.items()
    }


@pytest.mark.parametrize(
    ("environ", "place"),
    [
        ({}, "node-7"),
        ({"RANK": "3", "WORLD_SIZE": "8"}, "node-7, rank 3"),
        ({"OTEL_SERVICE_NAME": "llama", "RANK": "0"}, "node-7, rank 0, llama"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "team=a, service.name=llama%203"}, "node-7, llama 3"),
        ({"OTEL_SERVICE_NAME": "llama", "OTEL_RESOURCE_ATTRIBUTES": "service.name=other"}, "node-7, llama"),
        ({"SLURM_JOB_NAME": "train", "SLURM_PROCID": "5"}, "node-7, rank 5, train"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "garbage,,=,service.name="}, "node-7"),
    ],
)
def test_the_place_is_host_rank_and_job_as_far_as_they_are_known(environ: dict[str, str], place: str) -> None:
    """From the environment, by the launcher's, OpenTelemetry's and SLURM's variables."""
    assert place_of(environ, "node-7") == place
