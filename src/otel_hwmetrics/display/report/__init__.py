# SPDX-License-Identifier: Apache-2.0
"""What a run did, as a report: results, training spans, alerts, totals; and what was used against what was asked for."""

from otel_hwmetrics.display.report.short import short_summary

__all__ = ["short_summary"]
