# SPDX-License-Identifier: Apache-2.0
"""These tests are of real frameworks: `make test-frameworks` installs them, and runs these alone."""

from __future__ import annotations

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("torch") is not None else ["*"]
# Without PyTorch nothing here is collected, so that nothing is skipped: the suite that has it is another one.
