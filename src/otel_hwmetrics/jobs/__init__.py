# SPDX-License-Identifier: Apache-2.0
"""Commands that are run and watched from outside: ``otel-hwmetrics run``.

The launcher starts them, passes signals and exit codes through, and watches all their processes by one thread, which is the
sampler's of a pipeline of its own. Whatever fails of the watching, the commands run on as if nobody watched.
"""
