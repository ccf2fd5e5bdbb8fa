# SPDX-License-Identifier: Apache-2.0
"""Addresses: what Apprise makes of them, and how they are called without their secrets.

Apprise's own privacy form of an address is not shown: of 32 addresses that were tried, 9 showed a secret in it (tokens in
the path of ``json://``, in headers, topics of ``ntfy://``). Nor is the host, where ``tgram://`` and ``slack://`` have
a token. What is left is the scheme, and which of the addresses it is.
"""

from __future__ import annotations

import difflib
import importlib
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from otel_hwmetrics.alerts.rule import Severity
from otel_hwmetrics.sinks.notify.message import Message
from otel_hwmetrics.sinks.notify.quiet import quietly

if TYPE_CHECKING:
    from apprise import Apprise, AppriseAsset
    from apprise.plugins import NotifyBase

NEEDED = ("apprise", "pybreaker", "tenacity")
"""What the extra ``notify`` installs."""

TIMEOUT = 10.0
"""Seconds that an address may take to connect and, each time, to answer, unless it says otherwise (``?cto=&rto=``). Each
has a thread of its own, so it can have more than Apprise's 4."""


class UndeliveredError(Exception):
    """A message did not arrive; it says no more, since what the library said may hold the address."""


class PartlyDeliveredError(UndeliveredError):
    """A message did not arrive at all who are named in the address, but at some."""


class Address:
    """One address that Apprise can send to. Used by one thread at a time.

    Attributes:
        label: What it is called; without its secrets.
    """

    def __init__(self, sender: Apprise, label: str) -> None:
        self._sender = sender
        self.label = label

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.label}>"

    def send(self, message: Message, reached: set[object]) -> None:
        """Send a message, and wait until it is taken or refused.

        Args:
            message: What is sent.
            reached: Who has got this message already, of several that the address names: they do not get it again.
                The others are added.

        Raises:
            UndeliveredError: It did not arrive.
        """
        from apprise import NotifyFormat, NotifyType

        kinds = {
            None: NotifyType.SUCCESS,
            Severity.INFO: NotifyType.INFO,
            Severity.WARNING: NotifyType.WARNING,
            Severity.CRITICAL: NotifyType.FAILURE,
        }
        arrived = False
        with quietly(), _remembering(reached), _Sealed() as sealed:
            arrived = bool(
                self._sender.notify(
                    message.body,
                    title=message.title,
                    notify_type=kinds[message.severity],
                    body_format=NotifyFormat.TEXT,
                )
            )
        if not arrived:
            raise (PartlyDeliveredError if reached else UndeliveredError)(sealed.kind or "refused, or out of reach")


class _Sealed:
    """Passes over any exception, and keeps only its kind: `_guard.guard` would log its words, which may hold a secret.

    Attributes:
        kind: The name of the exception's class; empty without one.
    """

    kind = ""

    def __enter__(self) -> _Sealed:  # noqa: PYI034 - as `_guard.guard`
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        if not isinstance(error, Exception):
            return False
        self.kind = type(error).__name__
        return True


@contextmanager
def _remembering(reached: set[object]) -> Iterator[None]:
    """Let Apprise leave out whom it reached, as it does for its own retries, which know neither backoff nor jitter."""
    from apprise.plugins import base

    tracker = getattr(base, "_delivery_tracker", None)  # not promised; without it, a retry goes to all of them
    if tracker is None:
        yield
        return
    token = tracker.set(reached)
    try:
        yield
    finally:
        tracker.reset(token)


def check(addresses: Sequence[str]) -> list[str]:
    """What is wrong with addresses, in words and without their secrets; empty if all can be used.

    Loads Apprise, which takes a third of a second. Sends nothing.
    """
    return load(addresses)[1] if addresses else []


def load(addresses: Sequence[str]) -> tuple[list[Address], list[str]]:
    """The addresses that can be used, and what is wrong with the others."""
    with warnings.catch_warnings():
        # Of modules that are deprecated, at import (imghdr, before Python 3.13): an error where the job makes them one.
        warnings.simplefilter("ignore", DeprecationWarning)
        missing = ", ".join(name for name in NEEDED if not _installed(name))
        if missing:
            return [], [
                f"option 'notify' needs what cannot be imported here ({missing}): pip install 'otel-hwmetrics[notify]'"
            ]
        with quietly():
            return _sort_out(addresses, _schemes())


def _sort_out(addresses: Sequence[str], known: frozenset[str]) -> tuple[list[Address], list[str]]:
    usable: list[Address] = []
    problems: list[str] = []
    asset = _asset()
    for number, text in enumerate(addresses, 1):
        which = f"address {number} of {len(addresses)}"
        service = _service(text, asset)
        if service is None:
            problems.append(f"option 'notify': {which} cannot be used: {_why(text, known)}")
        else:
            usable.append(_address(service, asset, f"{service.schema}:// ({which})"))
    return usable, problems


def _installed(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


def _asset() -> AppriseAsset:
    from apprise import AppriseAsset

    # On our own thread and on no other: with a timeout for the whole, or several at once, Apprise takes threads from a
    # pool that the interpreter waits for at its exit. Nothing is kept on disk.
    return AppriseAsset(async_mode=False, service_timeout=0, storage_mode="memory", app_id="otel-hwmetrics")


def _service(text: str, asset: AppriseAsset) -> NotifyBase | None:
    from apprise import Apprise, OverflowMode, URLBase

    service: NotifyBase | None = None
    with _Sealed():
        service = Apprise.instantiate(text, asset=asset)
    if service is None:
        return None
    said = set(re.findall(r"[?&](cto|rto|overflow)=", text.lower()))
    for word, name in (("cto", "socket_connect_timeout"), ("rto", "socket_read_timeout")):
        # A plugin that has a longer one of its own knows why: e-mail waits for 15 s, some mail servers make one wait.
        if word not in said and getattr(service, name) == getattr(URLBase, name):
            setattr(service, name, TIMEOUT)
    if "overflow" not in said:
        # Else a service that takes 2000 characters refuses more, each time. The worst comes first.
        service.overflow_mode = OverflowMode.TRUNCATE
    return service


def _address(service: NotifyBase, asset: AppriseAsset, label: str) -> Address:
    from apprise import Apprise

    sender = Apprise(asset=asset)
    sender.add(service)
    return Address(sender, label)


def _why(text: str, known: frozenset[str]) -> str:
    scheme = text.partition("://")[0].strip().lower()
    listed = "https://appriseit.com/services/ has the form of each"
    if scheme in known:
        return f"something is missing or wrong after {scheme}://, or what the service needs is not installed; {listed}"
    if scheme in ("http", "https"):
        return "it is a web address, of no service that Apprise knows; json:// and jsons:// post to any"
    near = difflib.get_close_matches(scheme, known, n=1)
    hint = f"did you mean {near[0]}://?" if near else listed
    return f"its scheme is none that Apprise knows; {hint}"


def _schemes() -> frozenset[str]:
    from apprise import NotificationManager

    manager: Any = NotificationManager  # its methods have no types
    return frozenset(manager().schemas())
