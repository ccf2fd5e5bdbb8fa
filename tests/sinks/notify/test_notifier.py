# SPDX-License-Identifier: Apache-2.0
"""From the sampler's thread to real servers: up, slow, failing, down, and back."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from notified import PATIENCE, HttpReceiver, SmtpReceiver, alert, receiving, wait_for
from otel_hwmetrics import _guard
from otel_hwmetrics._guard import faults
from otel_hwmetrics.alerts.rule import Severity, State
from otel_hwmetrics.sinks.base import dropped
from otel_hwmetrics.sinks.notify import Notifier, Pace
from otel_hwmetrics.sinks.notify import courier as module
from otel_hwmetrics.sinks.notify.address import TIMEOUT
from otel_hwmetrics.testing import ManualClock

THREAD = "hwmetrics-notify"

HANGING = """
import sys, time
sys.path.insert(0, {tests!r})
from notified import HttpReceiver, alert
from otel_hwmetrics.sinks.notify import Notifier, Pace
receiver = HttpReceiver()
receiver.answers = ["hang"]
receiver.up()
notifier = Notifier([f"json://{{receiver.address}}/"], pace=Pace(group_wait=0.0))
notifier.on_alert(alert())
receiver.wait(1)
print(time.time())
{stop}
"""


def threads() -> list[threading.Thread]:
    """Ours."""
    return [thread for thread in threading.enumerate() if thread.name == THREAD]


@pytest.fixture(autouse=True)
def directly(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A proxy of this machine has no part in the tests, and no test leaves a thread of ours to another."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield
    wait_for(lambda: not threads())


@pytest.fixture
def http() -> Iterator[HttpReceiver]:
    """A server that takes what is posted to it."""
    receiver = HttpReceiver()
    with receiving(receiver):
        yield receiver


@pytest.fixture
def smtp() -> Iterator[SmtpReceiver]:
    """A server that takes mail."""
    receiver = SmtpReceiver()
    with receiving(receiver):
        yield receiver


def json_address(receiver: HttpReceiver, answer: int | str = 200) -> str:
    """With a short timeout where the server is to be slower than that."""
    return f"json://me:secret@{receiver.address}/services/T000/XXXX{'?cto=0.3&rto=0.3' if answer == 'hang' else ''}"


def mail_address(receiver: SmtpReceiver, answer: str = "250 OK") -> str:
    """Likewise."""
    options = f"from=gpus@example.org&to=oncall@example.org{'&cto=0.3' if answer == 'hang' else ''}"
    return f"mailto://me:secret@{receiver.address}?{options}"


def at_once(clock: Callable[[], float] = time.monotonic, per_hour: int = 20) -> Pace:
    """Without waiting for a group, or between two tries."""
    return Pace(group_wait=0.0, per_hour=per_hour, clock=clock, sleep=lambda _: None)


def unhurried(notifier: Notifier) -> Notifier:
    """Without Apprise's own wait between two mails."""
    for courier in notifier._couriers:
        courier._address._sender[0].request_rate_per_sec = 0.0
    return notifier


def test_an_alert_is_posted(http: HttpReceiver) -> None:
    """Title, lines and how bad it is, to the address's own path, under our name."""
    notifier = Notifier([json_address(http)], pace=at_once(), environ={"RANK": "3", "OTEL_SERVICE_NAME": "llama"})
    notifier.on_alert(alert(severity=Severity.CRITICAL))
    request = http.wait(1)
    notifier.stop(PATIENCE)
    assert request.path == "/services/T000/XXXX"
    assert request.title.startswith("critical: gpu_hot (GPU 0) on ")
    assert request.title.endswith(", rank 3, llama")
    assert request.body == (
        "firing: gpu_hot (GPU 0), critical, 00:00:00 UTC: GPU 0 is at 85 °C (above 80 °C). Check its cooling."
    )
    assert request.sent["type"] == "failure"
    assert request.headers["User-Agent"] == "otel-hwmetrics"
    assert dropped == {}


def test_an_alert_is_mailed(smtp: SmtpReceiver) -> None:
    """With the title as subject, and the lines as they are."""
    notifier = Notifier([mail_address(smtp)], pace=at_once(), environ={})
    notifier.on_alert(alert())
    mail = smtp.wait(1)
    notifier.stop(PATIENCE)
    assert smtp.mails[0][0] == ["oncall@example.org"]
    assert str(mail["subject"]).startswith("warning: gpu_hot (GPU 0) on ")
    assert mail.get_content().strip() == (
        "firing: gpu_hot (GPU 0), warning, 00:00:00 UTC: GPU 0 is at 85 °C (above 80 °C). Check its cooling."
    )
    assert dropped == {}


@pytest.mark.parametrize("answer", [500, 429, "hang", "hang up"])
def test_a_post_that_fails_once_arrives_with_the_next_try(
    answer: int | str, http: HttpReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    """Refused, slower than the timeout, or cut off; nobody needs to know."""
    http.answers = [answer, 200]
    notifier = Notifier([json_address(http, answer)], pace=at_once())
    notifier.on_alert(alert())
    assert http.wait(2).title == http.requests[0].title
    notifier.stop(PATIENCE)
    assert dropped == {}
    assert [record for record in caplog.records if record.name.startswith("otel_hwmetrics")] == []


@pytest.mark.parametrize("answer", ["451 Try again later", "554 No", "hang", "hang up"])
def test_a_mail_that_fails_once_arrives_with_the_next_try(answer: str, smtp: SmtpReceiver) -> None:
    """Likewise."""
    smtp.answer = answer
    notifier = unhurried(
        Notifier([mail_address(smtp, answer)], pace=Pace(0.0, sleep=lambda _: setattr(smtp, "answer", "250 OK")))
    )
    notifier.on_alert(alert())
    smtp.wait(2)
    notifier.stop(PATIENCE)
    assert dropped == {}


@pytest.mark.parametrize("make", [HttpReceiver, SmtpReceiver])
def test_what_a_service_that_is_down_did_not_get_it_gets_when_it_is_back(
    make: type[HttpReceiver | SmtpReceiver], caplog: pytest.LogCaptureFixture
) -> None:
    """Connections are refused; meanwhile alerts wait, and go out as one message with what came later."""
    receiver = make()
    clock = ManualClock()
    address = json_address(receiver) if isinstance(receiver, HttpReceiver) else mail_address(receiver)
    with receiving(receiver, up=False):
        notifier = unhurried(Notifier([address], pace=at_once(clock.monotonic)))
        (courier,) = notifier._couriers
        notifier.on_alert(alert())
        wait_for(lambda: courier._rests == 1 and not courier._under_way)
        receiver.up()
        clock.advance(module.REST)
        notifier.on_alert(alert(device="GPU 1"))
        receiver.wait(1)
        notifier.stop(PATIENCE)
    if isinstance(receiver, HttpReceiver):
        assert receiver.requests[0].title.startswith("warning: 2 alerts on ")
    else:
        assert str(receiver.mails[0][1]["subject"]).startswith("warning: 2 alerts on ")
    ours = [record.getMessage() for record in caplog.records if record.name == "otel_hwmetrics.notify"]
    assert [" do not arrive; " in message for message in ours] == [True, False]
    assert dropped == {}


def test_an_address_that_hangs_delays_no_other_and_nobody_who_tells(http: HttpReceiver) -> None:
    """Each has its own thread; thousands of alerts are taken at once, and what finds no room is counted."""
    slow = HttpReceiver()
    slow.answers = ["hang"]
    with receiving(slow):
        notifier = Notifier([f"json://{slow.address}/", f"json://{http.address}/"], pace=at_once())
        notifier.on_alert(alert())
        slow.wait(1)
        http.wait(1)
        began = time.monotonic()
        for number in range(3000):
            notifier.on_alert(alert("many", device=f"GPU {number}"))
        took = time.monotonic() - began
        wait_for(lambda: not notifier._couriers[1]._waiting)
        assert len(notifier._couriers[0]._waiting) == module.WAITING
        assert dropped["notify", "queue_full"] >= 2000
        slow.answers = [200]
        slow.released.set()
        notifier.stop(PATIENCE)
    assert took < PATIENCE / 4  # far below the timeout of one post


@pytest.mark.parametrize(
    ("least", "told"),
    [("info", ["info", "warning", "critical"]), ("warning", ["warning", "critical"]), ("critical", ["critical"])],
)
def test_what_is_less_severe_than_asked_for_is_not_notified_of(least: str, told: list[str], http: HttpReceiver) -> None:
    """Neither that it fires nor that it is over."""
    notifier = Notifier([json_address(http)], severity=least, pace=Pace(group_wait=3600.0))
    for severity in Severity:
        notifier.on_alert(alert(severity.value, severity=severity))
    for severity in Severity:
        notifier.on_alert(alert(severity.value, State.RESOLVED, severity))
    notifier.stop(PATIENCE)
    (request,) = http.requests
    assert sorted(line.split()[3] for line in request.body.splitlines()) == sorted(told)


def test_stopping_sends_what_waits_without_the_group_s_wait(http: HttpReceiver) -> None:
    """The job's last words: that it ran out of memory is known just before its end."""
    notifier = Notifier([json_address(http)], pace=Pace(group_wait=3600.0))
    notifier.on_alert(alert())
    notifier.on_alert(alert(device="GPU 1"))
    notifier.stop(PATIENCE)
    assert [request.title.split(" on ")[0] for request in http.requests] == ["warning: 2 alerts"]
    assert dropped == {}
    assert threads() == []


def test_what_cannot_be_sent_at_the_end_is_counted(http: HttpReceiver, caplog: pytest.LogCaptureFixture) -> None:
    """One try; an end is not a reason for more messages than an hour may have; nor is anything taken after it."""
    http.answers = [200, 500]
    limited = Notifier([json_address(http)], pace=at_once(per_hour=1))
    limited.on_alert(alert())
    wait_for(lambda: limited._couriers[0]._sent)
    limited.on_alert(alert(device="GPU 1"))
    limited.stop(PATIENCE)
    assert dropped == {("notify", "undelivered"): 1}
    assert len(http.requests) == 1
    refused = Notifier([json_address(http)], pace=Pace(group_wait=3600.0))
    refused.on_alert(alert())
    refused.stop(PATIENCE)
    assert len(http.requests) == 2
    assert dropped == {("notify", "undelivered"): 2}
    assert "Alerts that json:// (address 1 of 1) was not notified of: 1." in caplog.messages
    refused.on_alert(alert(device="GPU 2"))
    refused.stop(PATIENCE)
    assert dropped == {("notify", "undelivered"): 2, ("notify", "queue_full"): 1}


def test_stopping_does_not_wait_for_what_hangs(http: HttpReceiver) -> None:
    """What is under way and what waits count as dropped, once, whatever becomes of them."""
    http.answers = ["hang"]
    notifier = Notifier([f"json://{http.address}/"], pace=at_once())
    notifier.on_alert(alert())
    http.wait(1)
    notifier.on_alert(alert(device="GPU 1"))
    began = time.monotonic()
    notifier.stop(0.05)
    assert time.monotonic() - began < PATIENCE / 4
    assert dropped == {("notify", "undelivered"): 2}
    (thread,) = threads()
    assert thread.daemon
    http.released.set()
    thread.join(PATIENCE)
    notifier.stop(0.0)
    assert dropped == {("notify", "undelivered"): 2}
    assert len(http.requests) == 1


def test_stopping_ends_the_pause_between_two_tries(http: HttpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """After it there is one try, or none where the pause was about to begin."""
    http.answers = [500]
    notifier = Notifier([json_address(http)], pace=Pace(group_wait=0.0))
    monkeypatch.setattr(module, "BACKOFF", 1e9)
    notifier.on_alert(alert())
    http.wait(1)
    began = time.monotonic()
    notifier.stop(PATIENCE)
    assert time.monotonic() - began < PATIENCE / 2
    assert len(http.requests) in (1, 2)
    assert threads() == []
    assert dropped == {("notify", "undelivered"): 1}


@pytest.mark.parametrize("stop", ["", "notifier.stop(0.1)"])
def test_a_notification_that_hangs_does_not_hold_up_the_exit(stop: str) -> None:
    """With and without `stop`: the interpreter waits for no thread of ours, nor for one of Apprise's."""
    ran = subprocess.run(
        [sys.executable, "-c", HANGING.format(tests=str(Path(__file__).parents[2]), stop=stop)],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE * 3,
    )
    assert time.time() - float(ran.stdout) < TIMEOUT * 0.8


def test_without_alerts_there_is_no_thread(http: HttpReceiver) -> None:
    """Nor is there one for what is not severe enough; stopping then is nothing."""
    notifier = Notifier([json_address(http)])
    notifier.on_alert(alert(severity=Severity.INFO))
    assert threads() == []
    notifier.stop(0.0)
    assert dropped == {}


def test_a_thread_that_is_refused_is_asked_for_again(http: HttpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a cgroup limits threads; the alert is not lost, and the other addresses have theirs."""
    monkeypatch.setattr(_guard, "LOUD", False)
    other = HttpReceiver()
    with receiving(other):
        notifier = Notifier([json_address(other), json_address(http)], pace=at_once())
        start, asked = threading.Thread.start, []

        def refuse_the_first(thread: threading.Thread) -> None:
            if thread.name == THREAD:
                asked.append(thread)
                if len(asked) == 1:
                    raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", refuse_the_first)
        notifier.on_alert(alert())
        assert http.wait(1).title.startswith("warning: gpu_hot")
        notifier.on_alert(alert(device="GPU 1"))
        assert other.wait(1).title.startswith("warning: 2 alerts")
        notifier.stop(PATIENCE)
    assert faults == {"starting to notify": 1}


def test_closing_waits_for_nothing_and_what_waits_is_sent(http: HttpReceiver) -> None:
    """So that other sinks can be told to end before this one is waited for."""
    http.answers = ["hang"]
    notifier = Notifier([f"json://{http.address}/"], pace=at_once())
    notifier.on_alert(alert())
    http.wait(1)
    notifier.on_alert(alert(device="GPU 1"))
    notifier.close()
    assert len(threads()) == 1
    http.answers = [200]
    http.released.set()
    notifier.join(PATIENCE)
    assert threads() == []
    notifier.on_alert(alert(device="GPU 2"))
    assert dropped["notify", "queue_full"] == 1
