# SPDX-License-Identifier: Apache-2.0
"""Alerts as notifications: Slack, e-mail, PagerDuty and whatever else the library Apprise has an address for.

Apprise delivers, tenacity paces the retries, pybreaker leaves out an address that fails. All three are loaded when an
address is configured, and not before; they come with ``otel-hwmetrics[notify]``.
"""

from otel_hwmetrics.sinks.notify.address import check
from otel_hwmetrics.sinks.notify.courier import Pace
from otel_hwmetrics.sinks.notify.notifier import Notifier

__all__ = ["Notifier", "Pace", "check"]
