# SPDX-License-Identifier: Apache-2.0
"""Opens a file of a run for reading: while it is written, after its writer was killed, and where nothing may be written."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import urllib.parse
from contextlib import ExitStack
from typing import Final

_PATIENCE: Final = 5.0
_JOURNALS: Final = ("-wal", "-journal")


class RecordingError(ValueError):
    """There is no such recording, or it cannot be read; the message says which, why, and what to do."""


def opened(path: str, ways_out: ExitStack) -> sqlite3.Connection:
    """A connection that writes nothing into the file.

    Of a writer that was killed the journal beside the file is a part of it. Where that cannot be read without writing there,
    in an archive or another user's folder, a copy is.

    Args:
        path: Of the file.
        ways_out: Closes what was opened.

    Raises:
        RecordingError: It is not there, no database, or locked.
    """
    if not os.path.isfile(path):
        raise RecordingError(f"There is no file {path}.")
    try:
        return _connected(path, "mode=ro", ways_out)
    except sqlite3.Error as error:
        if "open database" not in str(error) and "readonly" not in str(error):
            raise RecordingError(why_not(path, error)) from error
    try:
        if not any(_is_full(path + journal) for journal in _JOURNALS):
            return _connected(path, "mode=ro&immutable=1", ways_out)
        folder = ways_out.enter_context(tempfile.TemporaryDirectory(prefix="otel_hwmetrics-"))
        copy = os.path.join(folder, os.path.basename(path))
        for part in ("", *_JOURNALS):
            if os.path.exists(path + part):
                shutil.copyfile(path + part, copy + part)
        return _connected(copy, "mode=rw", ways_out)
    except (sqlite3.Error, OSError) as error:
        raise RecordingError(why_not(path, error)) from error


def _connected(path: str, how: str, ways_out: ExitStack) -> sqlite3.Connection:
    where = f"file:{urllib.parse.quote(os.path.abspath(path))}?{how}"
    connection = sqlite3.connect(where, uri=True, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
    try:
        connection.row_factory = sqlite3.Row
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except BaseException:
        connection.close()
        raise
    ways_out.callback(connection.close)
    return connection


def _is_full(path: str) -> bool:
    try:
        return os.path.getsize(path) > 0
    except OSError:
        return False


def why_not(path: str, error: Exception | None) -> str:
    """Why a file cannot be read, in a sentence for people."""
    text = str(error)
    if "not a database" in text or "no recording" in text:
        return f"{path} is no recording: {text}."
    if "locked" in text:
        return f"{path} is locked by another process: {text}. Try again."
    return f"{path} cannot be read: {text}. If it is damaged, `sqlite3 {path} .recover` gets out what can be had."
