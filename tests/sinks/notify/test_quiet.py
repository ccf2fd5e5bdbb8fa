# SPDX-License-Identifier: Apache-2.0
"""No secret of an address is heard of, whatever becomes of what is sent to it; and what others log stays."""

from __future__ import annotations

import ast
import base64
import logging
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import apprise
import pytest
import requests
from opentelemetry.instrumentation.utils import is_instrumentation_enabled

from notified import PATIENCE, HttpReceiver, SmtpReceiver, alert, receiving, wait_for
from otel_hwmetrics import _guard
from otel_hwmetrics.sinks.notify import Notifier, Pace, check
from otel_hwmetrics.sinks.notify.address import UndeliveredError, load
from otel_hwmetrics.sinks.notify.message import Message
from otel_hwmetrics.sinks.notify.quiet import LIBRARIES, quietly

PASSWORD, PATH, HEADER, QUERY = "pAssw0rdOfTheUser", "XXXXtokenInThePath", "YYYYtokenInAHeader", "ZZZZtokenInAQuery"
ENCODED = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
SECRETS = (PASSWORD, PATH, HEADER, QUERY, ENCODED)
MESSAGE = Message("title", "body", None)


class Everything(logging.Handler):
    """Keeps the words of all that is logged, whoever logs it, with any exception's."""

    def __init__(self) -> None:
        super().__init__(1)
        self.setFormatter(logging.Formatter("%(name)s %(threadName)s %(message)s"))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        self.lines.append(self.format(record))

    def of(self, name: str) -> list[str]:
        """Those of a logger, and below it."""
        return [line for line in self.lines if line.split()[0].partition(".")[0] == name]


@pytest.fixture
def everything(monkeypatch: pytest.MonkeyPatch) -> Iterator[Everything]:
    """All loggers tell all."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    handler = Everything()
    level = logging.root.level
    logging.root.addHandler(handler)
    logging.root.setLevel(1)
    yield handler
    logging.root.setLevel(level)
    logging.root.removeHandler(handler)


def http_address(receiver: HttpReceiver, answer: int | str) -> str:
    """With a secret wherever there can be one, and a short timeout where the server is to be slower than that."""
    options = f"+X-Token={HEADER}&-token={QUERY}{'&cto=0.2&rto=0.2' if answer == 'hang' else ''}"
    return f"json://me:{PASSWORD}@{receiver.address}/services/{PATH}?{options}"


def smtp_address(receiver: SmtpReceiver, answer: str) -> str:
    """Likewise."""
    options = f"from=a@example.org&to=b@example.org&+X-Token={HEADER}{'&cto=0.3' if answer == 'hang' else ''}"
    return f"mailto://me:{PASSWORD}@{receiver.address}?{options}"


def assert_silent(everything: Everything, capfd: pytest.CaptureFixture[str]) -> None:
    """Neither logs, nor output, nor names of threads, nor what we count have a secret."""
    printed = capfd.readouterr()
    heard = [*everything.lines, printed.out, printed.err, *_guard.faults]
    heard += [thread.name for thread in threading.enumerate()]
    assert [line for line in heard if any(secret in line for secret in SECRETS)] == []


@pytest.mark.parametrize("answer", [200, 500, 403, "hang", "hang up", "down"])
def test_nothing_is_heard_of_an_http_address(
    answer: int | str, everything: Everything, capfd: pytest.CaptureFixture[str]
) -> None:
    """Taken, refused, timed out, cut off, out of reach: the secrets arrive at the server, and nowhere else."""
    receiver = HttpReceiver()
    receiver.answers = [answer]
    with receiving(receiver, up=answer != "down"):
        notifier = Notifier([http_address(receiver, answer)], pace=Pace(group_wait=0.0, sleep=lambda _: None))
        notifier.on_alert(alert())
        (courier,) = notifier._couriers
        wait_for(lambda: courier._sent or courier._rests)
        assert bool(courier._sent) == (answer == 200)
        notifier.stop(PATIENCE)
        if answer != "down":
            request = receiver.requests[0]
            assert request.path == f"/services/{PATH}?token={QUERY}"
            assert request.headers["X-Token"] == HEADER
            assert request.headers["Authorization"] == f"Basic {ENCODED}"
    assert_silent(everything, capfd)
    assert not any(everything.of(name) for name in ("apprise", "urllib3", "requests"))
    assert not any(secret in repr(vars(courier)) for secret in SECRETS)


@pytest.mark.parametrize("answer", ["250 OK", "451 Try again", "hang", "hang up", "down"])
def test_nothing_is_heard_of_a_mail_address(
    answer: str, everything: Everything, capfd: pytest.CaptureFixture[str]
) -> None:
    """Likewise. The server runs in this process, and logs nothing of it either."""
    receiver = SmtpReceiver()
    receiver.answer = answer
    logging.getLogger("mail.log").disabled = True  # the server's own
    with receiving(receiver, up=answer != "down"):
        ((address,), _) = load([smtp_address(receiver, answer)])
        if answer == "250 OK":
            address.send(MESSAGE, set())
            assert receiver.logins == [("me", PASSWORD)]
        else:
            with pytest.raises(UndeliveredError) as raised:
                address.send(MESSAGE, set())
            assert not any(secret in str(raised.value) for secret in SECRETS)
    logging.getLogger("mail.log").disabled = False
    assert_silent(everything, capfd)
    assert everything.of("apprise") == []


def test_nothing_is_heard_of_an_address_that_cannot_be_used(
    everything: Everything, capfd: pytest.CaptureFixture[str]
) -> None:
    """Apprise says at some length what it could not read."""
    wrong = [f"slack://{PATH}", f"nothing://me:{PASSWORD}@host/{PATH}", f"json://me:{PASSWORD}@host:port/{PATH}"]
    assert len(check(wrong)) >= 2
    assert_silent(everything, capfd)


def test_what_an_exception_says_is_not_told(
    everything: Everything, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its kind alone: the guard that would pass over it would log its words."""

    def fail(*_: object, **__: object) -> None:
        raise KeyError(f"https://host/{PATH}")

    ((address,), _) = load(["json://localhost"])
    monkeypatch.setattr(apprise.Apprise, "notify", fail)
    with pytest.raises(UndeliveredError, match=r"^KeyError$") as raised:
        address.send(MESSAGE, set())
    assert raised.value.__context__ is None
    assert_silent(everything, capfd)


def test_what_others_send_is_logged_as_before(everything: Everything) -> None:
    """On other threads while we send, and on the same one before and after; a filter of the user's stays."""
    logger = logging.getLogger("urllib3.connectionpool")
    with quietly():
        requests_made = threading.Thread(target=logger.debug, args=("theirs, meanwhile",))
        requests_made.start()
        requests_made.join(PATIENCE)
        logger.debug("ours")
        logger.critical("ours, too")
        logging.getLogger("theirs").debug("of a logger that is none of these libraries'")
    logger.debug("theirs, later")
    assert everything.of("urllib3") == [
        f"urllib3.connectionpool {requests_made.name} theirs, meanwhile",
        "urllib3.connectionpool MainThread theirs, later",
    ]
    assert len(everything.of("theirs")) == 1
    for _ in range(3):
        with quietly():
            pass
    assert len(logger.filters) == 1


def test_threads_that_apprise_starts_are_not_heard_either(everything: Everything) -> None:
    """Its plugin for XMPP logs in on a thread of its own."""
    with quietly():
        pass
    thread = threading.Thread(target=logging.getLogger("asyncio").debug, args=(PASSWORD,), name="apprise-xmpp")
    logging.getLogger("asyncio").debug("theirs")
    thread.start()
    thread.join(PATIENCE)
    assert everything.of("asyncio") == ["asyncio MainThread theirs"]


def test_no_span_is_made_of_what_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instrumentations of HTTP clients would put the address onto one, where the whole company reads it."""
    enabled: list[bool] = []
    send = requests.Session.send

    def watched(*given: object, **options: object) -> object:
        enabled.append(is_instrumentation_enabled())
        return send(*given, **options)  # type: ignore[arg-type] # as it was called

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(requests.Session, "send", watched)
    receiver = HttpReceiver()
    with receiving(receiver):
        ((address,), _) = load([f"json://{receiver.address}/"])
        address.send(MESSAGE, set())
    assert enabled == [False]
    assert is_instrumentation_enabled()


def test_every_library_that_apprise_imports_is_known() -> None:
    """A new plugin with a new library would be heard at DEBUG."""
    imported: set[str] = set()
    for path in Path(apprise.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                imported.add(node.module or "")
    others = (
        {name.partition(".")[0] for name in imported} - set(sys.stdlib_module_names) - {"imghdr"}
    )  # till Python 3.12
    assert others <= LIBRARIES


def test_environment_s_proxy_is_left_to_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster's nodes reach the world through one."""
    proxy = HttpReceiver()
    monkeypatch.setenv("http_proxy", f"http://{proxy.address}")
    monkeypatch.setenv("no_proxy", "")
    assert urllib.request.getproxies()["http"].endswith(proxy.address)
    with receiving(proxy):
        ((address,), _) = load(["json://host.example/hook"])
        address.send(MESSAGE, set())
        assert proxy.requests[0].path == "http://host.example/hook"
