# SPDX-License-Identifier: Apache-2.0
"""Recordings for other programs: CSV, JSON lines, Parquet, and OTLP for any backend of OpenTelemetry.

Everything goes through a minute or so at a time, so a recording of a day takes no more memory than one of an hour.
`otel_hwmetrics.display.export.looks` is what all formats are made of.
"""
