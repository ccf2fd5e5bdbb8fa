# SPDX-License-Identifier: Apache-2.0
"""Tables as text: aligned whatever is in them, and as narrow as the terminal."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_hwmetrics.display.table import GAP, Column, Give, cut, plain, table, terminal_width, text_columns, wrapped

COLUMNS = (
    Column("ID", right=True),
    Column("Name", give=Give.CUT),
    Column("Note", give=Give.WRAP),
    Column("More", give=Give.LEAVE),
)
TEXT = st.text(st.characters(exclude_categories=("Cs", "Mn", "Me", "Cf")), max_size=60)
CELLS = st.one_of(
    st.none(), TEXT, st.sampled_from(["訓練モデル", "a\x1b[31mb", "é", "x" * 200, "one two three four five"])
)


def test_numbers_end_and_words_begin_at_one_place() -> None:
    """With heads above a line, and two blanks between."""
    rows = [("1", "a", "x", "p"), ("10", "bcd", None, "q")]
    assert table(COLUMNS, rows) == [
        "ID  Name  Note  More",
        "--  ----  ----  ----",
        " 1  a     x     p",
        "10  bcd   -     q",
    ]


def test_wide_characters_take_two_columns() -> None:
    """What is behind them stands where it does in other rows."""
    lines = table((Column("Name"), Column("N")), [("訓練", "1"), ("abcde", "2"), ("e\u0301", "3")])
    assert lines[2:] == ["訓練   1", "abcde  2", "e\u0301      3"]
    assert [text_columns(each) for each in ("訓練", "e\u0301", "👩\u200d", "ab", "\uff46")] == [4, 1, 2, 2, 2]


def test_a_table_becomes_as_narrow_as_it_must() -> None:
    """What can be spared is left out before names are cut and sentences broken beyond reading; numbers stay whole."""
    rows = [("1234567", "a rather long name", "one two three four", "spare")]
    assert table(COLUMNS, rows, 50)[2:] == [
        "1234567  a rather long n…  one two three     spare",
        "                           four",
    ]
    assert table(COLUMNS, rows, 42)[2:] == ["1234567  a rather long …  one two three", "                          four"]
    assert table(COLUMNS, rows, 28)[2:] == [
        *("1234567  a rathe…  one two", "                   three", "                   four"),
    ]
    for width in range(27, 60):
        lines = table(COLUMNS, rows, width)
        assert max(map(text_columns, lines)) <= width
        assert ("More" in lines[0]) == (width >= 50)


def test_what_fits_in_no_table_is_told_line_by_line() -> None:
    """Each cell behind its head, those that can be spared, too; what is empty is left out."""
    rows = [("1", "a rather long name", "", "spare"), ("2", "b", "some words that go on", None)]
    assert table(COLUMNS, rows, 20) == [
        "ID    1",
        "Name  a rather long",
        "      name",
        "More  spare",
        "",
        "ID    2",
        "Name  b",
        "Note  some words",
        "      that go on",
        "More  -",
    ]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS, CELLS, CELLS), max_size=5), st.integers(20, 120), st.sampled_from(["", "  "]))
def test_no_line_is_wider_than_the_terminal(
    rows: list[tuple[str | None, str | None, str | None, str | None]], width: int, indent: str
) -> None:
    """Whatever is in the cells; none of it moves the cursor, and where it is a table its columns are aligned."""
    lines = table(COLUMNS, rows, width, indent=indent)
    assert all(text_columns(line) <= width for line in lines)
    assert all(not (ord(each) < 32 or ord(each) == 127) for line in lines for each in line)
    if len(lines) > 1 and set(lines[1].strip()) == {"-", " "}:
        gaps = [place for place in range(len(indent), len(lines[1])) if lines[1][place : place + 2] == GAP]
        for line in lines[2:]:
            spread = "".join(each + "\0" * (text_columns(each) - 1) for each in line if text_columns(each))
            assert all(not spread[place : place + 2].strip() for place in gaps)


@given(TEXT, st.integers(2, 40))
def test_a_text_is_wrapped_and_nothing_of_it_lost(text: str, columns: int) -> None:
    """Each line fits, and all words are there in their order."""
    lines = wrapped(plain(text), columns)
    assert all(text_columns(line) <= columns for line in lines)
    assert "".join("".join(lines).split()) == "".join(plain(text).split())


def test_nothing_turns_the_text_around_it() -> None:
    """Neither marks of direction nor half characters get to the screen; what joins letters and emoji does."""
    turning = [chr(code) for code in (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))]
    assert plain("".join(turning)) == "?" * len(turning)
    assert plain("a\ud800b") == "a?b"
    assert (
        plain("\u0645\u06cc\u200c\u062e\U0001f469\u200d\U0001f4bb")
        == "\u0645\u06cc\u200c\u062e\U0001f469\u200d\U0001f4bb"
    )


@given(TEXT, st.integers(1, 40))
def test_a_text_that_is_cut_says_so(text: str, columns: int) -> None:
    """By an ellipsis; what fits is left as it is."""
    shown = cut(text, columns)
    assert text_columns(shown) <= columns
    assert shown == text or (shown.endswith("…") and text.startswith(shown[:-1]))


def test_what_nobody_knows_anything_of_has_no_column() -> None:
    """If it is an optional one."""
    columns = (Column("A"), Column("B", optional=True), Column("C"))
    assert table(columns, [("1", None, None), ("2", "", None)])[0] == "A  C"
    assert table(columns, [("1", None, None), ("2", "x", None)])[0] == "A  B  C"
    assert table(columns, []) == ["A  C", "-  -"]


def test_colours_take_no_room() -> None:
    """They are put around what is aligned already, by the row and the column as they were given."""
    columns = (Column("A", optional=True), Column("B"), Column("C"))
    told = []

    def paint(row: int, column: int, text: str) -> str:
        told.append((row, column, text))
        return f"<{text}>"

    lines = table(columns, [(None, "1", "x"), (None, "22", "y")], paint=paint)
    assert lines[2:] == ["<1 >  <x>", "<22>  <y>"]
    assert told == [(0, 1, "1 "), (0, 2, "x"), (1, 1, "22"), (1, 2, "y")]


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_only_a_terminal_has_a_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or COLUMNS says one; a file gets lines as long as they are."""
    monkeypatch.delenv("COLUMNS", raising=False)
    assert terminal_width(io.StringIO()) is None
    assert terminal_width(_Terminal()) is not None
    monkeypatch.setenv("COLUMNS", "70")
    assert terminal_width(io.StringIO()) == terminal_width(_Terminal()) == 70
    monkeypatch.setenv("COLUMNS", "wide")
    assert terminal_width(io.StringIO()) is None
