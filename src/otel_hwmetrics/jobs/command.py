# SPDX-License-Identifier: Apache-2.0
"""Commands: what people call them, whether they are Python, and how they are run under auto-instrumentation.

Python is run by ``opentelemetry-instrument`` of its own environment, which becomes the command itself (exec(3)): the process
that is waited for is the one that was asked for.
"""

from __future__ import annotations

import glob
import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Final, NamedTuple

INSTRUMENT: Final = "opentelemetry-instrument"
US: Final = "otel-hwmetrics"
SDK: Final = ("opentelemetry-sdk", "opentelemetry-distro")

_PYTHON: Final = re.compile(r"(python|pypy)[0-9.]*[a-z]?")
_INJECTED: Final = "opentelemetry/instrumentation/auto_instrumentation"
# On PYTHONPATH where somebody has instrumented what is below already, as the operator for Kubernetes does:
# https://github.com/open-telemetry/opentelemetry-operator.
_DEAF: Final = re.compile(r"-[a-zA-Z]*[EIS]")
_WITH_WORD: Final = ("-W", "-X")
_ENDS_OPTIONS: Final = ("-c", "-m", "-")
_CONTROL: Final = ";&|()`"
_JOINED: Final = re.compile(r"[0-9]*[<>]&[0-9-]+|&>>?")  # where output goes: no command of its own
_WORDS: Final = re.compile(r"\s*((?:[A-Za-z_]\w*=[^\s'\"$]*\s+)*)(\S.*)", re.DOTALL)
_EXPANDED: Final = frozenset("~$`\\*?[")
_RUNNERS: Final = frozenset(
    ("env", "exec", "ionice", "nice", "nohup", "numactl", "setsid", "stdbuf", "taskset", "time", "timeout")
)
# Commands that run another one, which is the job.
_ASSIGNED: Final = re.compile(r"[A-Za-z_]\w*=")
_NEAR: Final = 8
_SHELL: Final = "/bin/sh"
_FIRST_BYTES: Final = 512
_AGAIN: Final = "'''exec'"
# The second line that pip writes, after /bin/sh, where the path of Python is too long for the kernel or has a space.


class Prepared(NamedTuple):
    """A command as it is run.

    Attributes:
        argv: Its words.
        instrumented: Whether it measures itself: it is run under auto-instrumentation, by us or by whoever typed it.
        by_us: Whether that is by us.
        note: What is missed, in a sentence; empty for nothing.
    """

    argv: tuple[str, ...]
    instrumented: bool = False
    by_us: bool = False
    note: str = ""


def shown(argv: Sequence[str]) -> str:
    """A command as it would be typed."""
    return shlex.join(argv)


def name_of(argv: Sequence[str]) -> str:
    """What people would call it: as the script, as the module after ``-m``, else as the program."""
    words = [word for word in argv if os.path.basename(word) != INSTRUMENT] or list(argv)
    for place, word in enumerate(words):
        if word == "-m" and place + 1 < len(words) and _PYTHON.fullmatch(os.path.basename(words[0])):
            return words[place + 1].removesuffix(".__main__")
        if word.endswith(".py"):
            return os.path.basename(word).removesuffix(".py") or word
    return os.path.basename(words[0].rstrip("/")) or words[0]


def prepared(argv: Sequence[str], environ: Mapping[str, str]) -> Prepared:
    """A command as it is to be run: Python under auto-instrumentation, as far as it is there, anything else as it is."""
    words = tuple(argv)
    if os.path.basename(words[0]) == INSTRUMENT:
        return Prepared(words, instrumented=True)
    interpreter = _interpreter(words[0], environ)
    if interpreter is None:
        return Prepared(words, note=_hidden_python(words))
    if _INJECTED in environ.get("PYTHONPATH", "").replace(os.sep, "/"):
        return Prepared(words, instrumented=True)
    if _is_python(words[0]) and (deaf := _deaf_option(words[1:])):
        return Prepared(words, note=f"Python's option {deaf} keeps auto-instrumentation out: {_MISSED}.")
    program = _instrument(interpreter, environ)
    missing = _missing(interpreter, (US,))
    if program is None or missing:
        what = INSTRUMENT if program is None and not missing else US
        return Prepared(
            words,
            note=f"{what} is not installed for {interpreter}: {_MISSED}; there, `pip install '{US}[otlp]'`.",
        )
    note = ""
    if exports(environ) and (missing := _missing(interpreter, SDK)):
        note = (
            f"{' and '.join(missing)} not installed for {interpreter}: nothing is exported; `pip install '{US}[otlp]'`."
        )
    return Prepared((program, *words), instrumented=True, by_us=True, note=note)


def _hidden_python(words: Sequence[str], *, unknown: bool = False) -> str:
    """What is missed where Python is run by another command, or is known to the shell alone; empty for nothing."""
    runner = os.path.basename(words[0]) in _RUNNERS or _ASSIGNED.match(words[0])
    for word in words[: _NEAR if runner else 1]:
        if os.path.basename(word) == INSTRUMENT:
            return ""
        if _is_python(word) and (runner or unknown):
            return f"{word} is run as it is: {_MISSED}; for these write {INSTRUMENT} before it."
    return ""


_MISSED: Final = "its training spans and steps are not recorded, only what it uses"


def prepared_text(text: str, environ: Mapping[str, str]) -> Prepared:
    """A command as a shell reads it: given to ``/bin/sh -c``, with auto-instrumentation where it is one of Python's alone.

    That is where there is but one command, without ``;``, ``&&``, pipes and the like; variables of its own may precede it.
    """
    plain = Prepared((_SHELL, "-c", text))
    found = _WORDS.fullmatch(text.strip())
    words = None if found is None else _words(found[2])
    if found is None or not words:
        return plain
    assigned = dict(each.split("=", 1) for each in found[1].split())
    if any(set(value) & _EXPANDED for value in assigned.values()) or (set(words[0]) & _EXPANDED):
        return plain._replace(note=_hidden_python(words, unknown=True))  # what it is, the shell alone knows
    inner = prepared(words, {**environ, **assigned})
    if not inner.by_us:
        return plain._replace(instrumented=inner.instrumented, note=inner.note)
    return inner._replace(argv=(_SHELL, "-c", f"{found[1]}{shlex.quote(inner.argv[0])} {found[2]}"))


def _words(text: str) -> list[str]:
    """The words of a single command; none where there are several, or what is none."""
    if "\n" in text:
        return []
    reader = shlex.shlex(_JOINED.sub(" ", text), posix=True, punctuation_chars=_CONTROL)
    reader.whitespace_split, reader.commenters = True, ""
    try:
        words = list(reader)
        whole = shlex.split(text)
    except ValueError:  # the shell will say what is wrong
        return []
    controls = any(word.startswith("#") or (word and not word.strip(_CONTROL)) for word in words)
    return [] if controls else whole


def exports(environ: Mapping[str, str]) -> bool:
    """Whether the environment says anything about where telemetry goes."""
    words = ("OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER", "OTEL_PYTHON_CONFIGURATOR")
    files = ("OTEL_CONFIG_FILE", "OTEL_EXPERIMENTAL_CONFIG_FILE", "OTEL_SDK_DISABLED", "OTEL_PYTHON_DISTRO")
    return any(environ.get(name) for name in (*words, *files)) or any(
        value and name.startswith("OTEL_EXPORTER_") for name, value in environ.items()
    )


def _is_python(program: str) -> bool:
    return _PYTHON.fullmatch(os.path.basename(program)) is not None


def _interpreter(program: str, environ: Mapping[str, str]) -> str | None:
    """The Python that runs a program; None where it is none of Python's, or is not there."""
    path = shutil.which(program, path=environ.get("PATH"))
    if path is None or _is_python(path):
        return path
    words = _first_line(path)
    if words and os.path.basename(words[0]) == "env":
        words = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
    if not words or not _is_python(words[0]):
        return None
    return shutil.which(words[0], path=environ.get("PATH"))


def _first_line(path: str) -> list[str]:
    """The words after ``#!`` in a script; none where there are none."""
    try:
        with open(path, "rb") as file:
            lines = file.read(_FIRST_BYTES).decode("utf-8", "replace").split("\n")
    except OSError:
        return []
    if not lines[0].startswith("#!"):
        return []
    if len(lines) > 1 and lines[1].startswith(_AGAIN):
        try:
            return shlex.split(lines[1].removeprefix(_AGAIN))
        except ValueError:
            return []
    return lines[0][2:].split()


def _deaf_option(words: Sequence[str]) -> str:
    """An option by which Python does not look where auto-instrumentation is; empty for none."""
    rest = iter(words)
    for word in rest:
        if word in _ENDS_OPTIONS or not word.startswith("-"):
            return ""
        if _DEAF.fullmatch(word):
            return word
        if word in _WITH_WORD:
            next(rest, "")
    return ""


def _instrument(interpreter: str, environ: Mapping[str, str]) -> str | None:
    """The ``opentelemetry-instrument`` of an interpreter's environment; None for none."""
    beside = os.path.join(os.path.dirname(interpreter), INSTRUMENT)
    if os.access(beside, os.X_OK):
        return beside
    elsewhere = shutil.which(INSTRUMENT, path=environ.get("PATH"))  # as of `pip install --user`
    if elsewhere is None:
        return None
    other = _interpreter(elsewhere, environ)
    same = other is not None and os.path.realpath(other) == os.path.realpath(interpreter)
    return elsewhere if same and not os.path.exists(os.path.join(_prefix(interpreter), "pyvenv.cfg")) else None


def _prefix(interpreter: str) -> str:
    return os.path.dirname(os.path.dirname(os.path.abspath(interpreter)))


def _missing(interpreter: str, names: Sequence[str]) -> list[str]:
    """Which of some packages its environment has not; none where that cannot be seen, as behind pyenv's shims."""
    if _prefix(interpreter) == _prefix(sys.executable):
        return [name for name in names if not _is_here(name)]
    prefix = glob.escape(_prefix(interpreter))
    places = glob.glob(f"{prefix}/lib*/python3*/*-packages")
    places += glob.glob(os.path.expanduser("~/.local/lib/python3*/site-packages")) if places else []
    if not places:
        return []
    return [
        name
        for name in names
        if not any(glob.glob(f"{glob.escape(place)}/{name.replace('-', '_')}-*.dist-info") for place in places)
    ]


def _is_here(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
