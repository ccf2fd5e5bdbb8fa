# SPDX-License-Identifier: Apache-2.0
"""What an option can be: switches, numbers, lengths of time, words, lists; each from text or from its own type."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import field
from typing import Any, NamedTuple, cast

from otel_hwmetrics import redaction


class ConfigError(ValueError):
    """An option that cannot be taken; the message names it, its value, where that came from and what is allowed.

    A parser may raise it with what exactly is wrong in a value.
    """


class Secret(str):
    """A text that may hold a password; it is itself wherever it is used, but not where it is shown by chance.

    In the ``repr`` of what it is in: a configuration as a dictionary, the variables of a frame.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(redaction.REDACTED)


class Option(NamedTuple):
    """What one option takes.

    Attributes:
        parse: Makes the value from a string or a native one; raises ValueError, TypeError or KeyError.
        allowed: What it takes, in words, for messages and documentation.
        help: What it means, one sentence.
        secret: Whether its value may hold a password, and is never shown.
    """

    parse: Callable[[Any], Any]
    allowed: str
    help: str
    secret: bool = False


def parse_switch(value: Any) -> bool:
    """True or false, in the words that people use."""
    if isinstance(value, bool):
        return value
    words = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    return words[str(value).strip().lower()]


def parse_number(least: float, most: float = math.inf) -> Callable[[Any], float]:
    """A finite number within bounds, which are allowed, too."""

    def parse(value: Any) -> float:
        if isinstance(value, bool):
            raise TypeError(value)
        number = float(value)
        if not least <= number <= most or math.isinf(number):
            raise ValueError(value)
        return number

    return parse


def parse_count(least: int, most: int) -> Callable[[Any], int]:
    """A whole number within bounds, which are allowed, too."""

    def parse(value: Any) -> int:
        number = parse_number(least, most)(value)
        if not number.is_integer():
            raise ValueError(value)
        return int(number)

    return parse


_SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "days": 86400.0, "d": 86400.0}
_PART = re.compile(rf"(\d+(?:\.\d+)?) ?({'|'.join(_SECONDS)})")
_DURATION = re.compile(rf"{_PART.pattern}(?: ?{_PART.pattern})*")


def duration(value: Any) -> float:
    """Seconds from a number, or from text as Prometheus writes it, ``90s``, ``5m``, ``1h30m``, or as we do: ``5 min``.

    Raises:
        ValueError: It is neither, or less than 0.
        TypeError: It is of a type that is neither.
    """
    if isinstance(value, str) and _DURATION.fullmatch(value.strip()):
        value = sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(value))
    return parse_number(0)(value)


def parse_seconds(least: float) -> Callable[[Any], float]:
    """A length of time, at least so long."""
    return lambda value: parse_number(least)(duration(value))


_BYTES = {"": 1, "b": 1} | {
    f"{letter}{rest}": base**power
    for power, letter in enumerate("kmgt", 1)
    for rest, base in (("", 1024), ("b", 1000), ("ib", 1024))
}
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([a-z]*)")


def size(value: Any) -> int:
    """Bytes from a number, or from text: ``2GiB``, ``500 MB``, ``8g``, where one letter alone counts in 1024s.

    Raises:
        ValueError: It is neither, or less than 0.
        TypeError: It is of a type that is neither.
        KeyError: It is in a unit that nobody knows.
    """
    found = _SIZE.fullmatch(value.strip().lower()) if isinstance(value, str) else None
    return round(parse_number(0)(value if found is None else float(found[1]) * _BYTES[found[2]]))


def parse_size(least: int) -> Callable[[Any], int]:
    """A number of bytes, at least so many."""
    return lambda value: int(parse_number(least)(size(value)))


def parse_one_of(*choices: str) -> Callable[[Any], str]:
    """One of several words."""

    def parse(value: Any) -> str:
        word = str(value).strip().lower()
        if word not in choices:
            raise ValueError(value)
        return word

    return parse


def parse_texts(value: Any, separator: str | None = ",") -> tuple[str, ...]:
    """Several texts: a list, or one text with separators; None separates at white space. None of them is empty."""
    if isinstance(value, Mapping):  # its keys would pass for a list
        raise TypeError(value)
    texts = tuple(_text(part).strip() for part in (value.split(separator) if isinstance(value, str) else value))
    if not all(texts):
        raise ValueError(value)
    return texts


def _text(part: Any) -> str:
    if not isinstance(part, str):
        raise TypeError(part)
    return part


def parse_paths(value: Any) -> tuple[str, ...]:
    """Several paths, or one."""
    if isinstance(value, str | os.PathLike):
        return parse_texts(os.fspath(value))
    if isinstance(value, Collection) and not isinstance(value, Mapping):
        return parse_texts([os.fspath(part) for part in value])
    raise TypeError(value)


def parse_path(value: Any) -> str:
    """One path."""
    path = os.fspath(value)
    if not isinstance(path, str) or "\0" in path:
        raise ValueError(value)
    return path


def option(default: Any, parse: Callable[[Any], Any], allowed: str, meaning: str, *, secret: bool = False) -> Any:
    """A row of the table: a dataclass field that says what it takes."""
    return field(default=default, repr=not secret, metadata={"option": Option(parse, allowed, meaning, secret)})


def switch(default: bool, meaning: str) -> bool:  # noqa: FBT001 - a row of the table reads like its value
    """An option that is on or off."""
    return cast("bool", option(default, parse_switch, "true or false", meaning))


def seconds(default: float, meaning: str, least: float = 0.0) -> float:
    """An option that is a length of time in seconds."""
    return cast("float", option(default, parse_seconds(least), f"seconds, a number >= {least:g}, or as 5m", meaning))


def ratio(default: float, meaning: str) -> float:
    """An option that is a part of a whole."""
    return cast("float", option(default, parse_number(0.0, 1.0), "a number from 0 to 1", meaning))


def count(default: int, meaning: str, least: int, most: int) -> int:
    """An option that is a whole number."""
    return cast("int", option(default, parse_count(least, most), f"a whole number from {least} to {most}", meaning))


def sized(default: int, meaning: str, least: int, allowed: str) -> int:
    """An option that is a number of bytes."""
    return cast("int", option(default, parse_size(least), allowed, meaning))


_LONGEST = 200


def show(value: Any) -> str:
    """A value for a message, however strange it is, without secrets; of a long one the beginning."""
    try:
        text = redaction.text(repr(value))  # before it is cut: half a secret may not look like one
    except (ValueError, RecursionError):  # an integer of thousands of digits, lists in lists in lists
        return f"one {type(value).__name__} too long to show"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
