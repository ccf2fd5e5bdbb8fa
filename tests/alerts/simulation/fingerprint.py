# SPDX-License-Identifier: Apache-2.0
"""What the figures of a soak are of: they are old as soon as a rule, what judges it or the simulation is another."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from otel_hwmetrics import alerts
from otel_hwmetrics.alerts.builtin import RULES
from otel_hwmetrics.cli.tables import as_data

SOURCES = (Path(__file__).parent, *map(Path, alerts.__path__))
"""Folders of which every line counts that is no comment."""


def fingerprint() -> str:
    """Of all rules, by what `otel-hwmetrics tables rules` says of them, and of what judges and what simulates."""
    told = hashlib.sha256(json.dumps([as_data(rule) for rule in RULES], sort_keys=True).encode())
    for path in (path for folder in SOURCES for path in sorted(folder.rglob("*.py"))):
        lines = path.read_text(encoding="utf-8").splitlines()
        told.update("\n".join(line for line in lines if not line.lstrip().startswith("#")).encode())
    return told.hexdigest()[:16]
