# SPDX-License-Identifier: Apache-2.0
"""Judging snapshots: rules as data, and the machine that walks them through their states.

Nothing here knows a clock, a driver or OpenTelemetry's SDK: time and data are arguments, so that a rule is tested by
a story, series in and transitions out.
"""
