# SPDX-License-Identifier: Apache-2.0
"""Training frameworks: their spans, steps and phases, without a change to the script.

Each is known in one module here, which stands on the public face (`otel_hwmetrics`) and on the step clock, and is loaded
when the job itself has loaded the framework (`otel_hwmetrics.integrations.following`); none is ever imported for it.
"""
