# SPDX-License-Identifier: Apache-2.0
"""What tests of notifications need: alerts to tell of, and real servers on loopback that take what is sent, or do not.

A server has its port from the start, and refuses connections until it is up: nobody else can take the port meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from opentelemetry.trace import Span

from otel_hwmetrics.alerts.conditions import Finding, Level
from otel_hwmetrics.alerts.rule import Rule, Severity, Side, State
from otel_hwmetrics.alerts.subjects import HOST, Subject
from otel_hwmetrics.alerts.transition import Transition
from otel_hwmetrics.catalog import gpu
from otel_hwmetrics.sinks.base import Alert

HOST_NAME = "node-7"
NEW_YEAR = 1_767_225_600
"""2026-01-01 00:00:00 UTC, in seconds since the epoch."""
PATIENCE = 20.0
"""Seconds that a test waits for what happens on another thread, at most."""


def alert(
    name: str = "gpu_hot",
    state: State = State.FIRING,
    severity: Severity = Severity.WARNING,
    *,
    device: str = "GPU 0",
    at: float = 0.0,
    blind: bool = False,
    span: Span | None = None,
    message: str = "{device} is at {value} ({beyond}).",
) -> Alert:
    """A device, or the host where it has no name, became hot or cool, some seconds into the year."""
    rule = Rule(name, severity, Level(gpu.TEMPERATURE), Side.ABOVE, 80.0, 2.0, 5.0, message, "Check its cooling.")
    subject = Subject(f"id of {device}", {gpu.HW_ID: f"id of {device}", gpu.HW_NAME: device}) if device else HOST
    before = state if blind else State.PENDING if state is State.FIRING else State.FIRING
    value = 70.0 if state is State.RESOLVED else 85.0
    time_unix_nano = int((NEW_YEAR + at) * 1_000_000_000)
    return Alert(Transition(rule, subject, before, state, Finding(value), time_unix_nano, 12.0, 92.0), span)


@dataclass
class Request:
    """What an HTTP server was sent."""

    path: str
    headers: dict[str, str]
    sent: dict[str, Any]

    @property
    def title(self) -> str:
        """Of the notification, by Apprise's ``json://``."""
        return str(self.sent["title"])

    @property
    def body(self) -> str:
        """Of the notification."""
        return str(self.sent["message"])


@dataclass
class Received:
    """What a server was sent, in order; its methods may be called on any thread."""

    items: list[Any] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def add(self, item: Any) -> None:
        """Take one."""
        with self._changed:
            self.items.append(item)
            self._changed.notify_all()

    def wait(self, number: int) -> None:
        """Wait until there are so many."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.items) >= number, PATIENCE), f"got {len(self.items)}"


class HttpReceiver:
    """An HTTP server that is down until `up`, and answers as `answers` says.

    Attributes:
        answers: What each request gets: a status, ``"hang"`` for nothing until `released` is set, ``"hang up"`` for the end of
            the connection. The last one holds for all that follow.
    """

    def __init__(self) -> None:
        self.answers: list[int | str] = [200]
        self.released = threading.Event()
        self._received = Received()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler(), bind_and_activate=False)
        self._server.daemon_threads = True
        self._server.server_bind()
        self._thread: threading.Thread | None = None

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self._server.server_port}"

    @property
    def requests(self) -> list[Request]:
        """Those that came in, also those that were not answered."""
        return cast("list[Request]", self._received.items)

    def wait(self, number: int) -> Request:
        """Wait for so many requests; gives the last of them."""
        self._received.wait(number)
        return self.requests[number - 1]

    def up(self) -> None:
        """Listen."""
        self._server.server_activate()
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Be down for good."""
        self.released.set()
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join(PATIENCE)
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                answer = receiver.answers.pop(0) if len(receiver.answers) > 1 else receiver.answers[0]
                receiver._received.add(Request(self.path, dict(self.headers), sent))
                if answer == "hang":
                    receiver.released.wait(PATIENCE)
                elif isinstance(answer, int):
                    self.send_response(answer)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                """Say nothing: the secrets are in the path."""

        return Handler


class SmtpReceiver:
    """An SMTP server that is down until `up`, and asks for a user's name and password.

    Attributes:
        answer: What each message gets; ``"hang"`` for nothing until the client has gone, ``"hang up"`` for the end of
            the connection.
        refused: Recipients who are not known.
        logins: The names and passwords that came in.
    """

    def __init__(self) -> None:
        self.answer = "250 OK"
        self.refused: set[str] = set()
        self.logins: list[tuple[str, str]] = []
        self._received = Received()
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self._controller: Controller | None = None

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self._socket.getsockname()[1]}"

    @property
    def mails(self) -> list[tuple[list[str], EmailMessage]]:
        """Those that came in, with their recipients, also those that were not taken."""
        return cast("list[tuple[list[str], EmailMessage]]", self._received.items)

    def wait(self, number: int) -> EmailMessage:
        """Wait for so many mails; gives the last of them."""
        self._received.wait(number)
        return self.mails[number - 1][1]

    def up(self) -> None:
        """Listen."""
        listener = self._socket

        class OnThatSocket(Controller):
            def _create_server(self) -> Any:
                return self.loop.create_server(self._factory_invoker, sock=listener)

        self._controller = OnThatSocket(
            self,
            hostname="127.0.0.1",
            port=listener.getsockname()[1],
            ready_timeout=PATIENCE,
            authenticator=self._login,
            auth_require_tls=False,
        )
        self._controller.start()

    def close(self) -> None:
        """Be down for good."""
        if self._controller is not None:
            loop = self._controller.loop
            wait_for(lambda: not asyncio.all_tasks(loop))  # whoever was connected has gone, and this is seen
            self._controller.stop()
        self._socket.close()

    def _login(self, _server: SMTP, _session: Session, _envelope: Envelope, _kind: str, told: object) -> AuthResult:
        assert isinstance(told, LoginPassword)
        self.logins.append((told.login.decode(), told.password.decode()))
        return AuthResult(success=True)

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        """Know a recipient, or not."""
        if address in self.refused:
            return "550 Nobody of that name"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Take a mail, or not."""
        assert isinstance(envelope.content, bytes)
        mail = message_from_bytes(envelope.content, policy=policy.default)
        self._received.add((list(envelope.rcpt_tos), mail))
        if server.transport is not None and self.answer in ("hang", "hang up"):
            try:
                if self.answer == "hang":  # until the client gives up, which cancels this
                    await asyncio.wait_for(asyncio.Event().wait(), PATIENCE)
            finally:
                server.transport.close()
        return self.answer


@contextmanager
def receiving(*receivers: HttpReceiver | SmtpReceiver, up: bool = True) -> Iterator[None]:
    """Let servers be up, or down at first, within the block."""
    try:
        if up:
            for receiver in receivers:
                receiver.up()
        yield
    finally:
        for receiver in receivers:
            receiver.close()


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until something on another thread is so."""
    tick = threading.Event()
    for _ in range(int(PATIENCE / 0.01)):
        if condition():
            return
        tick.wait(0.01)
    raise AssertionError("it did not come")
