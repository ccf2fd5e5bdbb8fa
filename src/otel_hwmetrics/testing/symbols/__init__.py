# SPDX-License-Identifier: Apache-2.0
"""The C functions of the scripted NVML, a module per subject; importing this fills the table.

How a function is added is described in `core`. This package imports `pynvml`, so the light modules of
`otel_hwmetrics.testing` import it inside functions only.
"""

from __future__ import annotations

from otel_hwmetrics.testing.symbols import activity as activity
from otel_hwmetrics.testing.symbols import clocks as clocks
from otel_hwmetrics.testing.symbols import device as device
from otel_hwmetrics.testing.symbols import events as events
from otel_hwmetrics.testing.symbols import fields as fields
from otel_hwmetrics.testing.symbols import gpm as gpm
from otel_hwmetrics.testing.symbols import health as health
from otel_hwmetrics.testing.symbols import library as library
from otel_hwmetrics.testing.symbols import links as links
from otel_hwmetrics.testing.symbols import memory as memory
from otel_hwmetrics.testing.symbols import mig as mig
from otel_hwmetrics.testing.symbols import power as power
from otel_hwmetrics.testing.symbols import processes as processes
from otel_hwmetrics.testing.symbols.core import SYMBOLS, Device, Machine, Refused, Symbol, return_code

__all__ = ["SYMBOLS", "Device", "Machine", "Refused", "Symbol", "return_code"]
