# SPDX-License-Identifier: Apache-2.0
"""Options: one table, read from four places.

Each field of `Config` is one option: its default, what it takes, and what it means. A value comes from, in this
order: an argument of `instrument()` (or the declarative configuration file, which the SDK hands over as arguments),
the environment (``OTEL_PYTHON_HWMETRICS_<OPTION>``), a file (``hwmetrics.toml``, else ``[tool.otel_hwmetrics]`` in
``pyproject.toml``, in the working directory, or the file that ``config_file`` names), the default. A file that is found
in the working directory is taken from who owns that directory, from root and from this user, and not if everybody may
write to it. An empty value counts as unset. What is said of alert rules is not overwritten but joined: each place adds to
the one before it.
"""

from otel_hwmetrics.config.kinds import ConfigError, Option, duration, show
from otel_hwmetrics.config.of_rules import FAMILIES, RuleSettings, flat_options
from otel_hwmetrics.config.resolve import ENVIRONMENT_PREFIX, Resolved, resolve, unknown_option
from otel_hwmetrics.config.table import INTEGRATIONS, OPTIONS, SOURCES, Config

__all__ = [
    "ENVIRONMENT_PREFIX",
    "FAMILIES",
    "INTEGRATIONS",
    "OPTIONS",
    "SOURCES",
    "Config",
    "ConfigError",
    "Option",
    "Resolved",
    "RuleSettings",
    "duration",
    "flat_options",
    "resolve",
    "show",
    "unknown_option",
]
