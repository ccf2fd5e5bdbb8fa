# SPDX-License-Identifier: Apache-2.0
"""The sink: sorts out what is worth a notification, and hands it to each address's courier."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping, Sequence

from otel_hwmetrics._guard import guard
from otel_hwmetrics.alerts.rule import Severity
from otel_hwmetrics.sinks.base import Alert
from otel_hwmetrics.sinks.notify.address import load
from otel_hwmetrics.sinks.notify.courier import Courier, Pace
from otel_hwmetrics.sinks.notify.message import place_of


class Notifier:
    """Notifies people of alerts: a few that come together in one message, and no more messages than they can bear.

    Addresses that cannot be used are passed over; `check` says which, and why.

    Args:
        addresses: Apprise's, one for each service.
        severity: Least severity of what is notified of.
        pace: How fast.
        environ: Where rank and name of the job are read; the process's own by default.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        severity: str = Severity.WARNING.value,
        pace: Pace | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._least = Severity(severity).rank
        usable = load(addresses)[0] if addresses else []
        place = place_of(os.environ if environ is None else environ, socket.gethostname())
        pace = pace or Pace()
        self._couriers = tuple(Courier(address, place, pace) for address in usable)

    def on_alert(self, alert: Alert) -> None:
        """Take one alert; never waits. Called on the sampler's thread."""
        if alert.severity.rank < self._least:
            return
        for courier in self._couriers:
            courier.take(alert)
        for courier in self._couriers:
            with guard("starting to notify"):  # a thread may be refused: what waits for it is no other address's matter
                courier.start()

    def close(self) -> None:
        """Have what waits and may go out sent, and take no more. Never waits."""
        for courier in self._couriers:
            courier.finish()

    def join(self, timeout: float) -> None:
        """Wait for that after `close`, ``timeout`` seconds at most in all; what is left then is dropped and counted.

        A message that is under way then may still arrive, as long as the process lives; nothing waits for it.
        """
        deadline = time.monotonic() + timeout
        for courier in self._couriers:
            courier.join(max(0.0, deadline - time.monotonic()))

    def stop(self, timeout: float) -> None:
        """`close` and `join`."""
        self.close()
        self.join(timeout)
