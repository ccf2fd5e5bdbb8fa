# SPDX-License-Identifier: Apache-2.0
"""Where commands look for recordings, and what they say where there are none."""

from __future__ import annotations

import argparse
import os
from collections.abc import Collection, Iterator


def add_directory(parser: argparse._ActionsContainer) -> None:
    """Let a command be told where recordings are."""
    parser.add_argument(
        "--directory",
        metavar="DIR",
        help="where runs are looked for; if not given, where the options of this directory and environment have them written",
    )


def folder_of(directory: str | None) -> str | None:
    """Where recordings are looked for; None where nobody says and this user has no place of their own.

    Args:
        directory: What was typed; None for nothing.
    """
    if directory is not None:
        return os.path.abspath(os.path.expanduser(directory))
    from otel_hwmetrics.config import resolve
    from otel_hwmetrics.folders import folder

    config, _ = resolve()
    named = os.path.abspath(os.path.expanduser(config.directory)) if config.directory else ""
    if os.path.isdir(named):
        return named
    own = folder()
    return own.path if own is not None else named or None


def unreadable(folder: str, known: Collection[str] = (), part: str = "") -> Iterator[str]:
    """What is wrong with the recordings of a folder that are no part of any run: a sentence each.

    Args:
        folder: Where.
        known: Files that are.
        part: What their names must have in them, as a run's id.
    """
    from otel_hwmetrics.recording import SUFFIX, Recording, RecordingError

    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return
    for path in (os.path.join(folder, name) for name in names if name.endswith(SUFFIX)):
        if path in known or part not in path:
            continue
        try:
            Recording(path).close()
        except RecordingError as error:
            yield f"{error}"
