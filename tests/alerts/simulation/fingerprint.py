# SPDX-License-Identifier: Apache-2.0
"""What the figures of a soak are of: they are old as soon as a rule or the simulation is another."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from otel_hwmetrics.alerts.builtin import RULES
from otel_hwmetrics.cli.tables import as_data


def fingerprint() -> str:
    """Of all rules, by what `otel-hwmetrics tables rules` says of them, and of the sources of the simulation."""
    told = hashlib.sha256(json.dumps([as_data(rule) for rule in RULES], sort_keys=True).encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        told.update(path.read_bytes())
    return told.hexdigest()[:16]
