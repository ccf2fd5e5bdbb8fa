# SPDX-License-Identifier: Apache-2.0
"""What files of ours are called."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping

from otel_hwmetrics.ranks import RANK, ranks

STAMP = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}-[0-9]{2}-[0-9]{2}Z"
"""How the name of a file begins (a regular expression): when that was which it tells of."""

_ODD = re.compile(r"[^A-Za-z0-9._]+")
_LONGEST_PART = 48


def file_name(reason: str, suffix: str, time_unix_nano: int, environ: Mapping[str, str] | None = None) -> str:
    """What a file of this process is called; sorted by name, files are in the order of their time.

    Args:
        reason: Why it is written, in a word: the name of an alert.
        suffix: Its kind: ``.flight.jsonl``.
        time_unix_nano: Of what it tells of; told to the second, in UTC.
        environ: Instead of the process's own; for its rank.
    """
    stamp = time.strftime("%Y-%m-%dT%H-%M-%SZ", time.gmtime(time_unix_nano // 1_000_000_000))
    rank = ranks(os.environ if environ is None else environ).get(RANK)
    parts = (stamp, host().partition(".")[0], "" if rank is None else f"rank{rank}", str(os.getpid()), reason)
    return "-".join(filter(None, map(_plain, parts))) + suffix


def _plain(part: str) -> str:
    """A part of a name as every file system and shell takes it; dashes stay, since stamps and hosts have them."""
    return "-".join(filter(None, (_ODD.sub("_", word) for word in part.split("-"))))[:_LONGEST_PART].strip("-")


def host() -> str:
    """What this machine calls itself."""
    return os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")
