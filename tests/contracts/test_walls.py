# SPDX-License-Identifier: Apache-2.0
"""Walls that import-linter cannot see, and the size and the docstrings of every room."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "otel_hwmetrics"
MODULES = sorted(PACKAGE.rglob("*.py"))
FILES = sorted(path for folder in ("src", "tests", "examples", "benchmarks") for path in (ROOT / folder).rglob("*.py"))

LINES_A_FILE = 400
LINES_A_FUNCTION = 60

ON_CONVENTIONS_ALONE = ("model", "catalog", "config", "alerts", "windows", "ranks")
"""Rooms that know nothing of OpenTelemetry but the names in its conventions."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def named(path: Path) -> str:
    """A file by its place in the project."""
    return path.relative_to(ROOT).as_posix()


def tree(path: Path) -> ast.Module:
    """A file's syntax."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imported(path: Path) -> set[str]:
    """The dotted names that a file imports, anywhere in it, types included."""
    names: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def within(name: str, package: str) -> bool:
    """Whether a dotted name is a package's or below it."""
    return name == package or name.startswith(f"{package}.")


def functions(path: Path) -> Iterator[Function]:
    """Every function and method of a file, also those within others."""
    return (node for node in ast.walk(tree(path)) if isinstance(node, Function))


def public(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, ast.ClassDef | Function]]:
    """Every public class, function and method, by its name; what is within a function is nobody's business."""
    for node in body:
        if isinstance(node, ast.ClassDef | Function) and not node.name.startswith("_"):
            yield f"{prefix}{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, f"{prefix}{node.name}.")


def test_there_is_something_to_look_at() -> None:
    """The tests below look at every room, not at an empty list."""
    assert {"__init__.py", "model.py", "catalog/gpu.py", "sinks/spans.py"} <= {
        path.relative_to(PACKAGE).as_posix() for path in MODULES
    }
    assert {path.relative_to(ROOT).parts[0] for path in FILES} >= {"src", "tests", "examples"}
    assert Path(__file__) in FILES
    assert all((PACKAGE / room).exists() or (PACKAGE / f"{room}.py").exists() for room in ON_CONVENTIONS_ALONE)


@pytest.mark.parametrize("path", FILES, ids=named)
def test_every_file_begins_with_its_licence(path: Path) -> None:
    """The SPDX line is the first; a script may have its interpreter before it."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines()[:2] if not line.startswith("#!")]
    assert lines[:1] == ["# SPDX-License-Identifier: Apache-2.0"]


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_every_module_says_what_it_is(path: Path) -> None:
    """In a docstring."""
    assert ast.get_docstring(tree(path))


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_everything_public_says_what_it_does(path: Path) -> None:
    """Every public class, function and method has a docstring, a property and a protocol's, too."""
    assert [name for name, node in public(tree(path).body, "") if not ast.get_docstring(node)] == []


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_rooms_are_small(path: Path) -> None:
    """What grows past this is split by subject."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LINES_A_FILE


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_functions_are_small(path: Path) -> None:
    """So that each fits on a screen."""
    sizes = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in functions(path)}
    assert {name: size for name, size in sizes.items() if size > LINES_A_FUNCTION} == {}


@pytest.mark.parametrize("room", ON_CONVENTIONS_ALONE)
def test_rows_rules_and_options_know_the_conventions_alone(room: str) -> None:
    """Neither OpenTelemetry's API nor its SDK: they are tested, and read, without either."""
    paths = [path for path in MODULES if path.relative_to(PACKAGE).with_suffix("").parts[0] == room]
    assert paths
    for path in paths:
        known = {name for name in imported(path) if within(name, "opentelemetry")}
        assert {name for name in known if not within(name, "opentelemetry.semconv")} == set(), named(path)


def test_the_sdk_is_known_where_it_is_needed() -> None:
    """The package needs only the API. The SDK itself loads the one module; the others replay what was recorded, in no job."""
    knowing = {named(path) for path in MODULES for name in imported(path) if within(name, "opentelemetry.sdk")}
    replaying = {f"src/otel_hwmetrics/display/export/{name}.py" for name in ("otlp", "otlp_json", "otlp_receivers")}
    assert knowing == {"src/otel_hwmetrics/resource.py", *replaying}
