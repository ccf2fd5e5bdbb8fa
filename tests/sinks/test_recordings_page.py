# SPDX-License-Identifier: Apache-2.0
"""The page on recordings says what is so: its queries work, every table, column and option is named, its code runs."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest

import recorded
from otel_hwmetrics.config import OPTIONS
from otel_hwmetrics.recording import open_run

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "how-to" / "recordings.md").read_text(encoding="utf-8")
FIGURES = re.compile(r".*_(peak|mean|p95)")


def blocks(language: str) -> list[str]:
    """The page's code in a language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A recording of three minutes."""
    return str(recorded.run(tmp_path_factory.mktemp("runs"), 180))


@pytest.mark.parametrize("query", blocks("sql"))
def test_every_query_works_and_finds_something(path: str, query: str) -> None:
    """On a recording by the real writer."""
    connection = sqlite3.connect(path)
    rows = connection.execute(query).fetchall()
    connection.close()
    assert rows or "hw.temperature" in query


def test_every_table_and_column_is_named(path: str) -> None:
    """A column that is added is documented."""
    connection = sqlite3.connect(path)
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")]
    for table in names:
        assert f"`{table}`" in PAGE, table
    rows = {line.split("`")[1]: line for line in PAGE.splitlines() if line.startswith("| `") and line.count("|") == 4}
    for table in set(names) & rows.keys():
        for _, column, *_ in connection.execute(f"PRAGMA table_info({table})"):
            if not FIGURES.fullmatch(column) and (table, column) not in {
                ("writer", "id"),
                ("alerts", "id"),
                ("files", "id"),
            }:
                documented = f"`{column}`" in rows[table] or (
                    table in {"blocks", "layouts", "job_summary"} and column.endswith("id")
                )
                assert documented, (table, column)
    connection.close()


def test_every_option_is_named_with_its_default() -> None:
    """In the table of options."""
    for name in OPTIONS:
        if name.startswith("record"):
            assert f"| `{name}` |" in PAGE, name


def test_its_code_runs(path: str) -> None:
    """As a reader would paste it."""
    code = blocks("python")[-1]
    found: dict[str, object] = {}
    exec(code.replace('"latest"', repr(path)), found)  # noqa: S102 - our own page's
    with open_run(path) as run:
        assert found["values"] == run.recordings[0].values(run.recordings[0].series()[-1].id)[1]
