# SPDX-License-Identifier: Apache-2.0
"""``python -m alerts.simulation write``, with ``tests`` on the path, writes the figures of the page of detection."""

from __future__ import annotations

import sys

from alerts.simulation.measure import main

if __name__ == "__main__":
    main(sys.argv[1:])
