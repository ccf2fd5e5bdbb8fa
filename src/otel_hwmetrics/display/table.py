# SPDX-License-Identifier: Apache-2.0
"""Tables as plain text: aligned also with wide characters, and no wider than a terminal.

What a job is called, its command and the messages of alerts come from elsewhere: nothing of them moves the cursor, colours
the screen or turns the direction of what stands around it.
"""

from __future__ import annotations

import os
import shutil
import textwrap
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, TextIO

from otel_hwmetrics.display.words import ABSENT, ELLIPSIS

_TURNS: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""What turns the direction of the text around it (https://www.unicode.org/reports/tr9/)."""

GAP: Final = "  "
EASY: Final = 16
"""Columns of the terminal that a name or a sentence keeps, while others can be left out."""
LEAST: Final = 8
"""Columns of the terminal that it keeps in any case."""


class Give(Enum):
    """How a column becomes narrower where a table is too wide."""

    NO = "no"
    """Not at all: numbers."""
    CUT = "cut"
    """The end is left out: names."""
    WRAP = "wrap"
    """It goes on in the next line: sentences."""
    LEAVE = "leave"
    """The whole column is left out, once names and sentences would become hard to read; the last such first."""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        head: What stands above it.
        right: Whether its cells end at the same place, as numbers do.
        give: How it becomes narrower.
        optional: Whether it is left out where no row has anything in it.
    """

    head: str
    right: bool = False
    give: Give = Give.NO
    optional: bool = False


def text_columns(text: str) -> int:
    """How many columns of a terminal a text takes: two for a wide character, none for one that goes onto another."""
    if text.isascii():
        return len(text)
    return sum(_columns_of(each) for each in text)


def _columns_of(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def plain(text: str) -> str:
    """A text in one line, without what moves the cursor, colours the screen or turns the direction of the text around it."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(" " if each.isspace() else "?" if _is_unfit(each) else each for each in text)


def _is_unfit(character: str) -> bool:
    """Whether it is no part of a text but a command, or cannot be printed: a half of a pair."""
    return character in _TURNS or unicodedata.category(character) in ("Cc", "Cs")


def cut(text: str, columns: int) -> str:
    """A text that takes so many columns at most, with an ellipsis where its end is left out."""
    if text_columns(text) <= columns:
        return text
    kept, room = "", columns - 1
    for each in text:
        room -= _columns_of(each)
        if room < 0:
            break
        kept += each
    return f"{kept}{ELLIPSIS}" if columns > 0 else ""


def wrapped(text: str, columns: int) -> list[str]:
    """A text in lines of so many columns at most; a word that is longer is broken."""
    if text_columns(text) <= columns:
        return [text]
    if text.isascii():
        return textwrap.wrap(text, max(1, columns), break_on_hyphens=False) or [""]
    lines = [""]
    for word in text.split():
        rest = word
        if lines[-1] and text_columns(lines[-1]) + 1 + text_columns(word) <= columns:
            lines[-1] += f" {word}"
            continue
        lines += [""] if lines[-1] else []
        while text_columns(rest) > columns:
            part = _beginning(rest, columns)
            lines[-1] = part
            lines.append("")
            rest = rest[len(part) :]
        lines[-1] = rest
    return lines


def _beginning(text: str, columns: int) -> str:
    """As much of a text as fits; one character at least."""
    taken = 0
    for place, each in enumerate(text):
        taken += _columns_of(each)
        if taken > columns and place:
            return text[:place]
    return text


def terminal_width(output: TextIO) -> int | None:
    """The columns of a terminal, or of COLUMNS; None where the output goes to a file or another program."""
    if os.environ.get("COLUMNS", "").isdecimal() or output.isatty():
        return max(20, shutil.get_terminal_size().columns)
    return None


def table(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str | None]],
    width: int | None = None,
    *,
    indent: str = "",
    paint: Callable[[int, int, str], str] | None = None,
) -> list[str]:
    """Lines of a table: heads, a line, rows.

    Args:
        columns: Of it.
        rows: Cells, one a column; None for what is not known.
        width: Columns that it may take; None for any number. Where it cannot be that narrow, each row becomes some lines, a
            cell each.
        indent: Before each line.
        paint: Called with the row, the column (as they were given) and a cell's text with what fills it up, gives what is
            printed in its place: the same, with colours.

    Returns:
        Lines without an end of line; of no rows the heads alone.
    """
    kept = [
        place
        for place, column in enumerate(columns)
        if not column.optional or any(row[place] not in (None, "", ABSENT) for row in rows)
    ]
    told = [[ABSENT if cell is None else plain(str(cell)) for cell in row] for row in rows]
    kept, widths = _fitted(columns, told, kept, None if width is None else width - text_columns(indent))
    cells = [[row[place] for place in kept] for row in told]
    chosen = [columns[place] for place in kept]
    heads = [column.head for column in chosen]
    if widths is None:
        return _as_records(heads, cells, width or 0, indent)
    lines = [_line(chosen, widths, heads, indent), _line(chosen, widths, ["-" * each for each in widths], indent)]
    for at, row in enumerate(cells):
        parts = [
            wrapped(cell, room) if column.give is Give.WRAP else [cut(cell, room)]
            for column, cell, room in zip(chosen, row, widths, strict=True)
        ]
        for number in range(max(map(len, parts), default=0)):
            texts = [part[number] if number < len(part) else "" for part in parts]
            padded = [_padded(*each) for each in zip(chosen, widths, texts, strict=True)]
            if paint is not None:
                padded = [paint(at, place, text) for place, text in zip(kept, padded, strict=True)]
            lines.append(f"{indent}{GAP.join(padded)}".rstrip())
    return lines


def _fitted(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], kept: list[int], width: int | None
) -> tuple[list[int], list[int] | None]:
    """The columns that are shown, and the width of each; None where they do not fit however narrow they become."""
    natural = {
        place: max(text_columns(columns[place].head), *(text_columns(row[place]) for row in rows), 0) for place in kept
    }
    spare = [place for place in kept if columns[place].give is Give.LEAVE]
    for least, left_out in [
        *((EASY, spare[len(spare) - number :]) for number in range(len(spare) + 1)),
        (LEAST, spare),
    ]:
        shown = [place for place in kept if place not in left_out]
        widths = _narrowed([columns[place] for place in shown], [natural[place] for place in shown], width, least)
        if widths is not None:
            return shown, widths
    return kept, None


def _narrowed(columns: Sequence[Column], natural: Sequence[int], width: int | None, least: int) -> list[int] | None:
    """The width of each column; the widest that can gives first, none below ``least`` or its head."""
    widths = list(natural)
    if width is None:
        return widths
    over = sum(widths) + len(GAP) * (len(widths) - 1) - width
    bounds = [
        min(taken, max(least, text_columns(column.head))) if column.give in (Give.CUT, Give.WRAP) else taken
        for column, taken in zip(columns, natural, strict=True)
    ]
    while over > 0:
        place = max(range(len(widths)), key=lambda each: (widths[each] > bounds[each], widths[each]), default=None)
        if place is None or widths[place] <= bounds[place]:
            return None
        widths[place] -= 1
        over -= 1
    return widths


def _line(columns: Sequence[Column], widths: Sequence[int], texts: Sequence[str], indent: str) -> str:
    padded = (_padded(*each) for each in zip(columns, widths, texts, strict=True))
    return f"{indent}{GAP.join(padded)}".rstrip()


def _padded(column: Column, width: int, text: str) -> str:
    room = " " * (width - text_columns(text))
    return f"{room}{text}" if column.right else f"{text}{room}"


def _as_records(heads: Sequence[str], rows: Sequence[Sequence[str]], width: int, indent: str) -> list[str]:
    """Each row as lines, for where a table would be too wide; where not even a head and a cell fit, below each other."""
    lines: list[str] = []
    label = max(map(text_columns, heads), default=0)
    for row in rows:
        lines += [""] if lines else []
        for head, cell in zip(heads, map(str.strip, row), strict=True):
            if not cell:
                continue
            before = f"{indent}{head}{' ' * (label - text_columns(head))}{GAP}"
            room = width - text_columns(before)
            if room >= min(LEAST, text_columns(cell)):
                for number, part in enumerate(wrapped(cell, max(1, room))):
                    lines.append(f"{' ' * text_columns(before) if number else before}{part}".rstrip())
            else:
                lines.append(f"{indent}{head}".rstrip())
                lines += [f"{indent}{part}" for part in wrapped(cell, max(1, width - text_columns(indent)))]
    return lines
