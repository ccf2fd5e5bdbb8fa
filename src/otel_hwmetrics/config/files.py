# SPDX-License-Identifier: Apache-2.0
"""Configuration files: which are read, whom they are taken from, and what one may not say that was only found.

A file is data, in TOML; nothing in one is run. One that was named, by an argument or in the environment, is taken as it
is. One that was found in the working directory is taken from who owns that directory, root, or this user, and not if
everybody may write to it: else whoever may put a file into a shared directory could send somebody else's alerts to an
address of his own. https://git-scm.com/docs/git-config#Documentation/git-config.txt-safedirectory has the same question.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from otel_hwmetrics import redaction
from otel_hwmetrics.config.kinds import ConfigError, show

_logger = redaction.logger()

NAMES: Final = ("hwmetrics.toml", "pyproject.toml")
"""What is looked for in the working directory, in this order."""

LARGEST: Final = 2**20
"""Bytes of a file at most; whoever writes more, does not write options."""
MOST_DOTS: Final = 1000
"""In one line: the standard library's parser takes a minute for a key of a hundred thousand parts."""

_NAMES_A_FILE: Final = re.compile(r"[?&](?:template|keyfile|subfile)=", re.IGNORECASE)
"""Parameters of Apprise's addresses by which a file of this machine is read, and with some of them sent."""


def read_file(named: Path | None, directory: Path, errors: list[ConfigError]) -> tuple[str, dict[str, Any]]:
    """The options in the configuration file, and the name to call it by.

    Args:
        named: The file that was named; None to look into the directory.
        directory: The working directory.
        errors: Gets what is wrong.
    """
    if named is not None:
        return str(named), _table_in(named, errors)
    for name in NAMES:
        path = directory / name
        if not os.path.isfile(path):  # Path.is_file raises where the directory may not be entered
            continue
        if why := _not_taken(path):
            _logger.warning("%s is not read: %s. To have it read all the same, name it in %s.", path, why, _NAMED_IN)
            continue
        table = _harmless(_table_in(path, errors), path, errors)
        if table or name != "pyproject.toml":
            return str(path), table
    return "", {}


_NAMED_IN: Final = "OTEL_PYTHON_HWMETRICS_CONFIG_FILE"


def _not_taken(path: Path) -> str:
    """Why a file that was found is not taken; empty if it is, or says nothing of us, or there are no owners here."""
    if not hasattr(os, "geteuid"):
        return ""
    try:
        link, file, directory = os.lstat(path), os.stat(path), os.stat(path.parent)
        if path.name == "pyproject.toml" and not _speaks_of_us(_bytes(path)):
            return ""
    except OSError:
        return ""  # as will be told when it is read
    trusted = {os.geteuid(), 0, directory.st_uid}
    if not {link.st_uid, file.st_uid} <= trusted:
        return "it belongs to another user"
    return "everybody may write to it" if file.st_mode & stat.S_IWOTH else ""


def _harmless(table: dict[str, Any], path: Path, errors: list[ConfigError]) -> dict[str, Any]:
    """The options without addresses by which files of this machine would be read: that is for whoever runs the job."""
    addresses = table.get("notify")
    each = addresses if isinstance(addresses, list) else [addresses]
    if not any(isinstance(address, str) and _NAMES_A_FILE.search(address) for address in each):
        return table
    errors.append(
        ConfigError(
            f"option 'notify' has addresses that name files (template=, keyfile=, subfile=), which {path} may not; it takes "
            f"them from an argument, from the environment and from a file that is named in {_NAMED_IN}"
        )
    )
    return {name: value for name, value in table.items() if name != "notify"}


def _speaks_of_us(raw: bytes) -> bool:
    return b"hwmetrics" in raw


def _bytes(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(LARGEST + 1)


def _parsed(raw: bytes) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    if len(raw) > LARGEST:
        raise ValueError(f"it is larger than {LARGEST} bytes")
    if any(line.count(b".") > MOST_DOTS for line in raw.splitlines()):
        raise ValueError(f"a line of it has more than {MOST_DOTS} dots")
    content: dict[str, Any] = tomllib.loads(raw.decode("utf-8"))
    return content


def _table_in(path: Path, errors: list[ConfigError]) -> dict[str, Any]:
    try:
        raw = _bytes(path)
        if path.name == "pyproject.toml" and not _speaks_of_us(raw):
            return {}  # be it broken: it is not ours to complain of
        content: Mapping[str, Any] = _parsed(raw)
    except (OSError, ValueError, RecursionError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        errors.append(ConfigError(f"configuration file {path} cannot be read: {error}"))
        return {}
    if path.name == "pyproject.toml":
        tool = content.get("tool", {})
        tool = tool if isinstance(tool, dict) else {}
        errors.extend(
            ConfigError(f"[tool.{slip}] in {path} is not read; did you mean [tool.otel_hwmetrics]?")
            for slip in ("otel-hwmetrics", "otelhwmetrics", "hwmetrics")
            if slip in tool and "otel_hwmetrics" not in tool
        )
        content = tool.get("otel_hwmetrics", {})
    elif isinstance(content.get("tool"), dict):
        errors.append(ConfigError(f"{path} has no [tool.…]: its options and [rules.…] stand at the top"))
        content = {name: value for name, value in content.items() if name != "tool"}
    if not isinstance(content, dict):
        errors.append(ConfigError(f"[tool.otel_hwmetrics] in {path} is {show(content)}; it takes a table of options"))
        return {}
    return content
