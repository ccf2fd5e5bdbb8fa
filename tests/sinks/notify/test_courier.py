# SPDX-License-Identifier: Apache-2.0
"""One address's pace, retries and rest: a real server, and a clock that is moved by hand."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

from notified import HttpReceiver, SmtpReceiver, alert, receiving
from otel_hwmetrics.alerts.rule import Severity, State
from otel_hwmetrics.sinks.base import dropped
from otel_hwmetrics.sinks.notify import courier as module
from otel_hwmetrics.sinks.notify.address import load
from otel_hwmetrics.sinks.notify.courier import ATTEMPTS, BACKOFF, KEPT, LOG_EVERY, REST, REST_MOST, Courier, Pace
from otel_hwmetrics.testing import ManualClock

SEED = 7


def seeded() -> random.Random:
    """The same numbers each time."""
    return random.Random(SEED)  # noqa: S311 - pauses and arrivals are no secrets


class Timed:
    """A courier to a server, with a clock of its own that its pauses move.

    Attributes:
        slept: The pauses between two tries of a message, in seconds.
    """

    def __init__(self, address: str, pace: Pace | None = None) -> None:
        self.clock = ManualClock()
        self.slept: list[float] = []
        pace = replace(pace or Pace(), clock=self.clock.monotonic, sleep=self._sleep, random=seeded())
        ((found,), problems) = load([address])
        assert problems == []
        found._sender[0].request_rate_per_sec = 0.0  # else Apprise waits between two mails, by the real clock
        self.courier = Courier(found, "node-7", pace)

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.clock.advance(seconds)

    def pass_on(self) -> float:
        """Let time pass until something is due, and deliver it; gives how long that was."""
        pause = self.courier.due()
        assert pause is not None
        self.clock.advance(pause)
        assert self.courier.due() == pytest.approx(0.0, abs=1e-6)  # the clock has whole nanoseconds
        self.courier.deliver()
        return pause


@pytest.fixture(autouse=True)
def directly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of this machine has no part in the tests."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    """A server that is up."""
    made = HttpReceiver()
    with receiving(made):
        yield made


@pytest.fixture
def timed(receiver: HttpReceiver) -> Timed:
    """A courier to it, at the default pace."""
    return Timed(f"json://{receiver.address}/")


def test_what_comes_within_the_group_s_wait_is_one_message(timed: Timed, receiver: HttpReceiver) -> None:
    """Counted from the first alert on; the next group has a wait of its own."""
    assert timed.courier.due() is None
    timed.courier.take(alert())
    assert timed.courier.due() == 10.0
    timed.clock.advance(6.0)
    timed.courier.take(alert(device="GPU 1"))
    assert timed.courier.due() == 4.0
    timed.pass_on()
    assert [request.title for request in receiver.requests] == ["warning: 2 alerts on node-7"]
    assert timed.courier.due() is None
    timed.courier.take(alert(device="GPU 2"))
    assert timed.pass_on() == 10.0
    assert len(receiver.requests) == 2


def test_a_critical_alert_leaves_within_a_second_and_takes_along_what_waits(
    timed: Timed, receiver: HttpReceiver
) -> None:
    """The job may be dead before the group's wait is over; its end has time."""
    timed.courier.take(alert())
    timed.clock.advance(0.4)
    timed.courier.take(alert("gpu_lost", severity=Severity.CRITICAL))
    assert timed.pass_on() == pytest.approx(0.6)
    assert [request.title for request in receiver.requests] == ["critical: 2 alerts on node-7"]
    timed.courier.take(alert("gpu_lost", State.RESOLVED, Severity.CRITICAL))
    assert timed.courier.due() == 10.0


def test_an_end_is_told_only_where_the_beginning_was(timed: Timed, receiver: HttpReceiver) -> None:
    """Else people would hear of the end of what they never heard of."""
    resolved = alert(state=State.RESOLVED)
    timed.courier.take(resolved)
    timed.pass_on()
    assert receiver.requests == []
    timed.courier.take(alert())
    timed.pass_on()
    timed.courier.take(resolved)
    timed.pass_on()
    timed.courier.take(resolved)
    timed.pass_on()
    assert [request.body.split(":")[0] for request in receiver.requests] == ["firing", "resolved"]


def test_the_all_clear_is_given_when_nothing_fires_any_more(timed: Timed, receiver: HttpReceiver) -> None:
    """Not when some of what people were told of has ended."""
    for device in ("GPU 0", "GPU 1"):
        timed.courier.take(alert(device=device))
    timed.pass_on()
    for device in ("GPU 0", "GPU 1"):
        timed.courier.take(alert(device=device, state=State.RESOLVED))
        timed.pass_on()
    assert [(request.title, request.sent["type"]) for request in receiver.requests] == [
        ("warning: 2 alerts on node-7", "warning"),
        ("resolved: gpu_hot (GPU 0), 1 still firing on node-7", "info"),
        ("resolved: gpu_hot (GPU 1) on node-7", "success"),
    ]


def test_what_is_remembered_as_told_is_bounded(
    timed: Timed, receiver: HttpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest is forgotten, and nobody is told of its end."""
    monkeypatch.setattr(module, "TOLD", 2)
    for number in range(3):
        timed.courier.take(alert(device=f"GPU {number}"))
        timed.pass_on()
    for number in range(3):
        timed.courier.take(alert(device=f"GPU {number}", state=State.RESOLVED))
    timed.pass_on()
    assert receiver.requests[-1].title == "resolved: 2 alerts on node-7"
    assert timed.courier._told == {}


def test_no_hour_has_more_messages_than_it_may(receiver: HttpReceiver) -> None:
    """Whatever comes when; what is over waits, grouped, and all of it arrives."""
    chance = seeded()
    timed = Timed(f"json://{receiver.address}/", Pace(group_wait=5.0, per_hour=4))
    arrived: list[float] = []
    for number in range(400):
        pause = timed.courier.due()
        gap = chance.expovariate(1 / 60)
        while pause is not None and pause <= gap:
            gap -= timed.pass_on()
            arrived.append(timed.clock.monotonic())
            pause = timed.courier.due()
        timed.clock.advance(max(0.0, gap))
        timed.courier.take(alert(device=f"GPU {number}", severity=chance.choice([*Severity])))
    timed.pass_on()
    arrived.append(timed.clock.monotonic())
    assert len(receiver.requests) == len(arrived)
    assert all(later - earlier > 3600.0 - 1e-6 for earlier, later in zip(arrived, arrived[4:], strict=False))
    told = [int(request.title.split()[1]) if "alerts" in request.title else 1 for request in receiver.requests]
    assert sum(told) == 400
    assert dropped == {}


@pytest.mark.parametrize(("per_hour", "others"), [(20, 15), (7, 6), (3, 2), (2, 1)])
def test_warnings_leave_a_quarter_of_the_hour_to_critical_alerts(
    receiver: HttpReceiver, per_hour: int, others: int
) -> None:
    """At least one message; what is over waits for the hour's end, and a critical alert takes it along at once."""
    timed = Timed(f"json://{receiver.address}/", Pace(per_hour=per_hour))
    for number in range(others):
        timed.courier.take(alert(f"warning {number}"))
        assert timed.pass_on() == 10.0
    last = timed.clock.monotonic()
    for number in range(per_hour - others):
        timed.courier.take(alert(f"held back {number}"))
        assert (timed.courier.due() or 0.0) > 3000.0
        timed.courier.take(alert(f"gpu_lost {number}", severity=Severity.CRITICAL))
        assert timed.pass_on() == 1.0
        assert receiver.requests[-1].title == "critical: 2 alerts on node-7"
    timed.courier.take(alert("one too many", severity=Severity.CRITICAL))
    assert timed.courier.due() == pytest.approx(3600.0 + last - 10.0 * (others - 1) - timed.clock.monotonic())
    assert len(receiver.requests) == per_hour


def test_critical_alerts_may_use_all_of_the_hour(receiver: HttpReceiver) -> None:
    """Then a warning waits, too, though no other was sent; with one message an hour nothing is kept for anybody."""
    for per_hour in (4, 1):
        timed = Timed(f"json://{receiver.address}/", Pace(per_hour=per_hour))
        for number in range(per_hour):
            timed.courier.take(alert(f"gpu_lost {number}", severity=Severity.CRITICAL))
            assert timed.pass_on() == 1.0
        timed.courier.take(alert())
        assert timed.courier.due() == 3600.0 - (per_hour - 1)
    timed = Timed(f"json://{receiver.address}/", Pace(per_hour=1))
    timed.courier.take(alert())
    assert timed.pass_on() == 10.0


def test_a_critical_alert_that_failed_has_its_room_when_it_is_tried_again(receiver: HttpReceiver) -> None:
    """What did not arrive has used up nothing; how urgent it is, it stays."""
    timed = Timed(f"json://{receiver.address}/", Pace(per_hour=2))
    timed.courier.take(alert())
    timed.pass_on()
    receiver.answers = [500]
    timed.courier.take(alert("gpu_lost", severity=Severity.CRITICAL))
    timed.pass_on()
    receiver.answers = [200]
    assert timed.pass_on() <= REST
    assert receiver.requests[-1].title == "critical: gpu_lost (GPU 0) on node-7"


def test_a_message_that_fails_is_tried_again_after_growing_random_pauses(
    timed: Timed, receiver: HttpReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    """The same message; up to 2, 4 and 8 seconds; it arrives once, and nothing is said or counted."""
    receiver.answers = [500, 503, 429, 200]
    timed.courier.take(alert())
    timed.pass_on()
    assert len({request.body for request in receiver.requests}) == 1
    assert len(receiver.requests) == 4
    assert len(timed.slept) == 3
    assert all(0 <= pause <= BACKOFF * 2**number for number, pause in enumerate(timed.slept))
    assert timed.courier.due() is None
    assert dropped == {}
    assert caplog.records == []


def test_pauses_are_spread_over_all_of_their_range(receiver: HttpReceiver) -> None:
    """Full jitter: a thousand ranks whose service is back do not all come at once."""
    timed = Timed(f"json://{receiver.address}/")
    receiver.answers = [500]
    for _ in range(20):
        timed.courier.take(alert())
        timed.courier._breaker.close()
        timed.pass_on()
    first = timed.slept[::3]
    assert 0.0 <= min(first) < BACKOFF / 4
    assert BACKOFF * 3 / 4 < max(first) <= BACKOFF


def test_the_training_s_random_numbers_are_left_alone(timed: Timed, receiver: HttpReceiver) -> None:
    """A seeded run draws the same numbers, whether somebody was notified meanwhile or not."""
    receiver.answers = [500, 500, 200]
    random.seed(SEED)
    before = random.getstate()
    timed.courier.take(alert())
    timed.pass_on()
    assert random.getstate() == before


def test_a_message_is_not_tried_for_longer_than_its_time(receiver: HttpReceiver) -> None:
    """A server that is slow in refusing does not get all tries."""
    timed = Timed(f"json://{receiver.address}/", Pace(group_wait=0.0))
    receiver.answers = [500]
    timed.slept = []
    timed.courier._pace = replace(timed.courier._pace, sleep=lambda _: timed.clock.advance(45.0))
    timed.courier.take(alert())
    timed.pass_on()
    assert len(receiver.requests) == 3


def test_an_address_that_fails_rests_longer_each_time_and_loses_nothing(
    timed: Timed, receiver: HttpReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    """Four tries, then one after each rest; its alerts wait, grouped, and go out when it is back; one line each way."""
    receiver.answers = [500]
    timed.courier.take(alert())
    timed.pass_on()
    assert len(receiver.requests) == ATTEMPTS
    longest = REST
    for tries in range(1, 7):
        timed.courier.take(alert(device=f"GPU {tries}"))
        rest = timed.pass_on()
        assert longest / 2 <= rest <= longest
        assert len(receiver.requests) == ATTEMPTS + tries
        longest = min(2 * longest, REST_MOST)
    (failing,) = caplog.records
    assert failing.name == "otel_hwmetrics.notify"
    assert failing.getMessage().startswith("Notifications to json:// (address 1 of 1) do not arrive")
    receiver.answers = [200]
    timed.courier.take(alert(state=State.RESOLVED))
    timed.pass_on()
    assert receiver.requests[-1].title == "warning: 6 alerts, 1 resolved on node-7"
    assert "fired and resolved: gpu_hot (GPU 0)" in receiver.requests[-1].body
    assert [record.getMessage() for record in caplog.records[1:]] == [
        "Notifications to json:// (address 1 of 1) arrive again."
    ]
    assert dropped == {}
    receiver.answers = [500]
    timed.courier.take(alert("again"))
    timed.pass_on()
    timed.courier.take(alert("and again"))
    assert REST / 2 <= timed.pass_on() <= REST


def test_what_cannot_be_told_for_two_hours_is_dropped_and_counted(
    timed: Timed, receiver: HttpReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    """Each by its own age; nobody hears of the end of what was dropped."""
    receiver.answers = [500]
    timed.courier.take(alert())
    while timed.clock.monotonic() < KEPT:
        timed.pass_on()
        if timed.clock.monotonic() > KEPT / 2:
            timed.courier.take(alert("late"))
    timed.pass_on()
    assert dropped == {("notify", "undelivered"): 1}
    assert caplog.messages[-1] == "Alerts that json:// (address 1 of 1) was not notified of: 1."
    receiver.answers = [200]
    timed.courier.take(alert(state=State.RESOLVED))
    timed.pass_on()
    assert receiver.requests[-1].title == "warning: late (GPU 0) on node-7"


def test_memory_is_bounded_and_what_finds_no_room_is_counted_and_said_now_and_then(
    timed: Timed, receiver: HttpReceiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The first lines of alerts stay, those over are dropped; one line at once, and one in ten minutes."""
    monkeypatch.setattr(module, "WAITING", 3)
    receiver.answers = [500, 500, 500, 500, 200]
    timed.courier.take(alert())
    timed.pass_on()
    for number in range(1, 10):
        timed.courier.take(alert(device=f"GPU {number}"))
    assert dropped == {("notify", "queue_full"): 7}
    assert caplog.messages[1:] == ["Alerts that json:// (address 1 of 1) was not notified of: 1."]
    timed.clock.advance(LOG_EVERY)
    timed.courier.take(alert(device="GPU 10"))
    assert caplog.messages[2:] == ["Alerts that json:// (address 1 of 1) was not notified of: 7."]
    timed.pass_on()
    assert receiver.requests[-1].title == "warning: 3 alerts on node-7"


def test_what_comes_while_a_message_fails_may_find_no_room(
    timed: Timed, receiver: HttpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What failed is older, and stays."""
    monkeypatch.setattr(module, "WAITING", 2)
    receiver.answers = [500]
    meanwhile = [alert(device=f"GPU {number}") for number in (2, 3)]
    timed.courier._pace = replace(
        timed.courier._pace, sleep=lambda _: timed.courier.take(meanwhile.pop()) if meanwhile else None
    )
    for number in (0, 1):
        timed.courier.take(alert(device=f"GPU {number}"))
    timed.pass_on()
    assert dropped == {("notify", "queue_full"): 2}
    assert [entry.alert.device for entry in timed.courier._waiting.entries.values()] == ["GPU 0", "GPU 1"]


def test_who_of_several_got_a_message_does_not_get_it_again(caplog: pytest.LogCaptureFixture) -> None:
    """One recipient who is not known costs the other neither copies nor delay; it is said once, and when it is over."""
    receiver = SmtpReceiver()
    receiver.refused = {"gone@example.org"}
    with receiving(receiver):
        timed = Timed(f"mailto://me:secret@{receiver.address}?from=a@example.org&to=here@example.org,gone@example.org")
        for number in range(3):
            timed.courier.take(alert(device=f"GPU {number}"))
            assert timed.pass_on() == 10.0
        assert [recipients for recipients, _ in receiver.mails] == [["here@example.org"]] * 3
        assert len(timed.slept) == 3 * (ATTEMPTS - 1)
        receiver.refused = set()
        timed.courier.take(alert("again"))
        timed.pass_on()
    ours = [record.getMessage() for record in caplog.records if record.name == "otel_hwmetrics.notify"]
    assert [message.split(" arrive ")[1] for message in ours] == [
        "at some of those that it names, not at all of them. To see why: apprise -vvv --body=test ADDRESS",
        "again.",
    ]
    assert dropped == {}


def test_a_level_that_hides_warnings_hides_these(
    timed: Timed, receiver: HttpReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    """They go through Python's logging, as the user set it up."""
    caplog.set_level(logging.ERROR, "otel_hwmetrics")
    receiver.answers = [500]
    timed.courier.take(alert())
    timed.pass_on()
    assert caplog.records == []
