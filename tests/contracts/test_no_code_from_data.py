# SPDX-License-Identifier: Apache-2.0
"""Nothing that is configured, read or received is run: the package has none of what makes code of data."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "otel_hwmetrics"
MODULES = sorted(PACKAGE.rglob("*.py"))

CALLS = {"eval", "exec", "compile", "__import__", "input", "breakpoint"}
"""Builtins that make code of text."""
MODULES_OF_CODE = {
    "pickle",
    "cPickle",
    "dill",
    "marshal",
    "shelve",
    "yaml",
    "code",
    "codeop",
    "runpy",
    "subprocess",
    "pty",
}
"""Modules that make code or programs of data."""
OF_OS = {"system", "popen", "startfile", "posix_spawn", "posix_spawnp"}
"""Functions of `os` that start programs; and those that begin as the two below."""
OF_OS_BEGIN = ("exec", "spawn")
LOADERS = {
    "CDLL",
    "PyDLL",
    "WinDLL",
    "OleDLL",
    "LoadLibrary",
    "import_module",
    "load_module",
    "exec_module",
    "entry_points",
}
"""What loads a library or a module by a name that may be data."""

ALLOWED = {
    # Nothing is read back: a snapshot of the GPU's memory is written in the format that PyTorch's own viewer reads.
    ("sinks/profile.py", "pickle"): {"dump"},
    # py-spy, where somebody has installed it, with words of ours and the number of a process.
    ("sinks/workers.py", "subprocess"): {"Popen", "PIPE", "DEVNULL", "TimeoutExpired"},
    # The command that the user typed, or wrote into a file of jobs, is what `otel-hwmetrics run` is there for.
    ("jobs/children.py", "posix_spawn"): {"called"},
    # A file of jobs, by the loader that makes plain values only; and its commands are the user's own, as above.
    ("jobs/file.py", "yaml"): {"compose", "SafeLoader", "MarkedYAMLError", "YAMLError"},
    # AMD's own library, below ROCM_HOME, before its binding is imported.
    ("sources/gpu/amd/library.py", "CDLL"): {"ctypes.CDLL"},
    ("sources/gpu/amd/library.py", "import_module"): {"importlib.import_module"},
    ("sources/gpu/nvidia/library.py", "import_module"): {"importlib.import_module"},
    # What the extra `notify` installs.
    ("sinks/notify/address.py", "import_module"): {"importlib.import_module"},
    # Our own modules, by the names in the tables beside it.
    ("__init__.py", "import_module"): {"import_module"},
    ("recording/__init__.py", "import_module"): {"import_module"},
    ("testing/__init__.py", "import_module"): {"import_module"},
    ("integrations/following.py", "import_module"): {"import_module"},
    # A training framework's module, by the name in the module of ours that knows it.
    ("integrations/telling.py", "import_module"): {"import_module"},
}
"""Where one of these is, and how it is used."""


def named(path: Path) -> str:
    """A module by its place in the package."""
    return path.relative_to(PACKAGE).as_posix()


def found(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """What a module has of these: the word, and how it is used."""
    modules: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            top = node.module.partition(".")[0]
            yield from ((top, f"from {alias.name}") for alias in node.names if top in MODULES_OF_CODE)
            yield from ((alias.name, "imported") for alias in node.names if top == "os" and _starts(alias.name))
        elif isinstance(node, ast.Call):
            yield from _of_call(node)
    for name in modules & MODULES_OF_CODE:
        uses = [
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == name
        ]
        yield from ((name, use) for use in uses or ["imported"])


def _of_call(call: ast.Call) -> Iterator[tuple[str, str]]:
    name = ast.unparse(call.func)
    last = name.rpartition(".")[2]
    if name in CALLS:
        yield name, "called"
    if name.startswith("os.") and _starts(last):
        yield last, "called"
    if last in LOADERS:
        yield last, name
    yield from (("shell", "True") for keyword in call.keywords if keyword.arg == "shell")


def _starts(name: str) -> bool:
    return name in OF_OS or name.startswith(OF_OS_BEGIN)


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_nothing_makes_code_of_data(path: Path) -> None:
    """Neither builtins nor serialisation nor programs nor libraries by a name; but what is listed, used as listed."""
    left = [
        (word, use)
        for word, use in found(ast.parse(path.read_text(encoding="utf-8")))
        if use not in ALLOWED.get((named(path), word), set())
    ]
    assert left == []


def test_what_is_allowed_is_there() -> None:
    """The list does not outlive its reasons."""
    there = {
        (named(path), word, use) for path in MODULES for word, use in found(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert {(place, word, use) for (place, word), uses in ALLOWED.items() for use in uses} <= there


@pytest.mark.parametrize(
    "code",
    [
        "eval(x)",
        "import pickle\npickle.loads(x)",
        "from pickle import loads",
        "import os\nos.system(x)",
        "import os\nos.execv(x, y)",
        "from os import popen",
        "run(x, shell=True)",
        "import subprocess",
        "import ctypes\nctypes.CDLL(x)",
        "ctypes.cdll.LoadLibrary(x)",
        "import yaml\nyaml.safe_load(x)",
    ],
)
def test_each_is_seen(code: str) -> None:
    """The test above has eyes."""
    assert list(found(ast.parse(code)))


def test_every_line_of_the_log_is_redacted() -> None:
    """A logger comes from `redaction`; but the door's, which must be light, and gets its filter where something starts."""
    own = {
        named(path)
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Assign | ast.AnnAssign) and "getLogger(" in ast.unparse(node)
    }
    assert own == {"redaction/lines.py", "instrumentor.py"}


ADDRESSES = (
    *("file://{0}/apprise.yml", "{0}/plugins/trap.py", "config://{0}/apprise.yml", "include://{0}/apprise.yml"),
    *("exec://{0}/trap.sh", "python://{0}/plugins/trap.py", "trap://localhost", "json://localhost/?plugin={0}/plugins"),
    *("apprise://localhost/?include={0}/apprise.yml", "json://localhost/?:x=__import__('os').system('touch {0}/ran')"),
    *("syslog://x/?include={0}/apprise.yml", "mailto://u:p@example.com?template={0}/plugins/trap.py"),
)
"""As somebody would write them who wants code of theirs to run, or their file to be read for more of them."""


def test_no_address_makes_code_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Apprise has plugins that are files; where we call it, none is looked for, neither in an address nor where it looks."""
    from apprise import Apprise, AppriseAsset

    from otel_hwmetrics.sinks.notify import check

    trap = f"open({str(tmp_path / 'ran')!r}, 'w')\nfrom apprise.decorators import notify\n@notify(on='trap')\ndef f(*a, **k): ...\n"
    for place in ("plugins", ".apprise/plugins", ".config/apprise/plugins"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "trap.py").write_text(trap)
    for name in ("apprise.yml", ".apprise.yml", ".config/apprise/apprise.yml"):
        (tmp_path / name).write_text("urls:\n  - json://localhost\ninclude: plugins\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("APPRISE_PLUGIN_PATH", str(tmp_path / "plugins"))
    monkeypatch.chdir(tmp_path)
    check([address.format(tmp_path) for address in ADDRESSES])
    assert not (tmp_path / "ran").exists()
    assert not AppriseAsset().plugin_paths
    assert Apprise.instantiate("trap://localhost") is None
