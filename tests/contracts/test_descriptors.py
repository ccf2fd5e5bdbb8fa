# SPDX-License-Identifier: Apache-2.0
"""Every file that stays open is opened by `descriptors.opened`: none takes the place of an output that is closed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "otel_hwmetrics"
MODULES = sorted(PACKAGE.rglob("*.py"))

OF_OS = {"open", "dup", "dup2", "pipe", "pipe2", "openpty", "posix_openpt", "memfd_create", "eventfd", "pidfd_open"}
OF_OTHERS = {
    "socket": {"socket", "socketpair", "create_connection", "create_server", "fromfd"},
    "select": {"epoll", "kqueue", "devpoll"},
    "tempfile": {"mkstemp", "TemporaryFile", "NamedTemporaryFile", "SpooledTemporaryFile"},
    "io": {"open", "FileIO"},
    "mmap": {"mmap"},
}
MAKERS = {("os", name) for name in OF_OS} | {(module, name) for module, names in OF_OTHERS.items() for name in names}
"""What makes a descriptor, by its module and name."""

ALLOWED = {
    ("descriptors.py", "os.open"),
    ("descriptors.py", "os.dup"),
    # It puts nothing in the place of the command's output once nobody takes that any more.
    ("cli/__init__.py", "os.open"),
    ("cli/__init__.py", "os.dup2"),
    # Each goes through `apart`.
    ("sinks/wakeup.py", "socket.socketpair"),
    ("sinks/wakeup.py", "socket.socket"),
}


def named(path: Path) -> str:
    """A module by its place in the package."""
    return path.relative_to(PACKAGE).as_posix()


def found(tree: ast.Module) -> Iterator[str]:
    """What a module opens by itself; but `open` for as long as a `with` reads, where nothing could be written to."""
    of_a_with = {
        id(item.context_expr)
        for node in ast.walk(tree)
        if isinstance(node, ast.With | ast.AsyncWith)
        for item in node.items
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{each.name}" for each in node.names if (node.module, each.name) in MAKERS)
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            module, _, last = name.rpartition(".")
            harmless = name != "open" or _has_opener(node) or (id(node) in of_a_with and _reads(node))
            if (module, last) in MAKERS or not harmless:
                yield name


def _has_opener(call: ast.Call) -> bool:
    return any(keyword.arg == "opener" for keyword in call.keywords)


def _reads(call: ast.Call) -> bool:
    modes = [*call.args[1:2], *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
    return all(isinstance(mode, ast.Constant) and mode.value in ("r", "rb") for mode in modes)


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_nothing_is_opened_beside_the_one_place(path: Path) -> None:
    """But what is listed."""
    opens = {(named(path), name) for name in found(ast.parse(path.read_text(encoding="utf-8")))}
    assert opens <= ALLOWED


def test_what_is_allowed_is_there() -> None:
    """The list does not outlive its reasons."""
    there = {(named(path), name) for path in MODULES for name in found(ast.parse(path.read_text(encoding="utf-8")))}
    assert there >= ALLOWED


@pytest.mark.parametrize(
    "code",
    [
        "os.open(path, os.O_RDONLY)",
        "from os import open",
        "file = open(path, 'rb')",
        "with open(path, 'wb') as file: ...",
        "with open(path, mode) as file: ...",
        "with open(path, mode='a') as file: ...",
        "pair = socket.socketpair()",
        "tempfile.mkstemp()",
    ],
)
def test_each_is_seen(code: str) -> None:
    """The tests above have eyes."""
    assert list(found(ast.parse(code)))


@pytest.mark.parametrize(
    "code", ["with open(path) as file: ...", "with open(path, 'rb') as file: ...", "open(path, 'xb', opener=opened)"]
)
def test_what_is_harmless_is_left(code: str) -> None:
    """A file that is read and closed at once, and one that is opened by our opener."""
    assert not list(found(ast.parse(code)))
