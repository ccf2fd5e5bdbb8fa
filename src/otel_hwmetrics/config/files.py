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
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from otel_hwmetrics import redaction
from otel_hwmetrics.config.kinds import ConfigError, show
from otel_hwmetrics.descriptors import opened

_logger = redaction.logger()

NAMES: Final = ("hwmetrics.toml", "pyproject.toml")
"""What is looked for in the working directory, in this order."""

LARGEST: Final = 2**20
"""Bytes of a file at most; whoever writes more, does not write options."""
MOST_DOTS: Final = 1000
"""In one line: the standard library's parser takes a minute for a key of a hundred thousand parts."""

_OF_FILES: Final = frozenset({"template", "keyfile", "subfile", "pgppub", "pgpprv", "pgpkey"})
"""Parameters of Apprise's addresses by which a file of this machine is read, and with some of them sent."""


def read_file(named: Path | None, directory: Path, errors: list[ConfigError]) -> tuple[str, dict[str, Any]]:
    """The options in the configuration file, and the name to call it by.

    Args:
        named: The file that was named; None to look into the directory.
        directory: The working directory.
        errors: Gets what is wrong.
    """
    if named is not None:
        try:
            return str(named), _table_in(named, _named(named), errors)
        except OSError as error:
            errors.append(_unreadable(named, error))
            return str(named), {}
    for name in NAMES:
        path = directory / name
        if not os.path.isfile(path):  # Path.is_file raises where the directory may not be entered
            continue
        try:
            raw = _found(path)
        except OSError as error:
            # No error of the configuration: whoever may put a file here would keep the job from its beginning.
            why = error.strerror or str(error)
            _logger.warning("%s is not read: %s. To have it read all the same, name it in %s.", path, why, _NAMED_IN)
            continue
        table = _harmless(_table_in(path, raw, errors), path, errors)
        if table or name != "pyproject.toml":
            return str(path), table
    return "", {}


_NAMED_IN: Final = "OTEL_PYTHON_HWMETRICS_CONFIG_FILE"
_NOBODY: Final = 65534
"""As whom every user of the outside appears in a rootless container, root, whose /tmp is, and others (user_namespaces(7))."""


def _found(path: Path) -> bytes:
    """What is in a file that was found; nothing, be it whose it may, in a project's that says nothing of us.

    It is opened once and read once: what is judged is what is read, though others may rename files in the directory and
    write to theirs. Nor is a pipe waited at that somebody has put in its place.

    Raises:
        OSError: It cannot be read, or is not taken; it says why.
    """
    with open(path, "rb", opener=_at_once) as file:
        link, found, directory = os.lstat(path), os.fstat(file.fileno()), os.stat(path.parent)
        if not stat.S_ISREG(found.st_mode):
            raise OSError("it is no file")
        raw = file.read(LARGEST + 1)
    if hasattr(os, "geteuid") and (_speaks_of_us(raw) or path.name != "pyproject.toml"):
        nobodys = directory.st_uid == _NOBODY and directory.st_mode & stat.S_IWOTH
        trusted = {os.geteuid(), 0, *(() if nobodys else (directory.st_uid,))}
        if not {link.st_uid, found.st_uid} <= trusted:
            raise PermissionError("it belongs to another user")
        if found.st_mode & stat.S_IWOTH:
            raise PermissionError("everybody may write to it")
        if not (stat.S_ISLNK(link.st_mode) or os.path.samestat(link, found)):
            raise PermissionError("somebody has just put another in its place")
    return raw


def _at_once(path: str, flags: int) -> int:
    return opened(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))


def _harmless(table: dict[str, Any], path: Path, errors: list[ConfigError]) -> dict[str, Any]:
    """The options without addresses by which files of this machine would be read: that is for whoever runs the job."""
    addresses = table.get("notify")
    each = addresses if isinstance(addresses, list) else [addresses]
    if not any(isinstance(address, str) and not _OF_FILES.isdisjoint(_parameters(address)) for address in each):
        return table
    errors.append(
        ConfigError(
            f"option 'notify' has addresses that name files (template=, keyfile=, pgpprv= …), which {path} may not; it "
            f"takes them from an argument, from the environment and from a file that is named in {_NAMED_IN}"
        )
    )
    return {name: value for name, value in table.items() if name != "notify"}


def _parameters(address: str) -> Iterator[str]:
    """The names of an address's parameters as Apprise reads them: parted by ``&`` or ``;``, decoded, in small letters."""
    import urllib.parse

    for part in re.split("[?&;]", address)[1:]:
        yield urllib.parse.unquote(part.partition("=")[0].replace("+", " ")).strip().lower()


def _speaks_of_us(raw: bytes) -> bool:
    return b"hwmetrics" in raw


def _named(path: Path) -> bytes:
    """What is in a file that was named, which may be a pipe."""
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


def _unreadable(path: Path, error: Exception) -> ConfigError:
    return ConfigError(f"configuration file {path} cannot be read: {error}")


def _table_in(path: Path, raw: bytes, errors: list[ConfigError]) -> dict[str, Any]:
    if path.name == "pyproject.toml" and not _speaks_of_us(raw):
        return {}  # be it broken: it is not ours to complain of
    try:
        content: Mapping[str, Any] = _parsed(raw)
    except (ValueError, RecursionError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        errors.append(_unreadable(path, error))
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
