# SPDX-License-Identifier: Apache-2.0
"""Commands: which are Python, by which environment they are instrumented, what they are called."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from otel_hwmetrics.jobs.command import exports, name_of, prepared, prepared_text, shown

HERE = os.path.dirname(sys.executable)
INSTRUMENT = os.path.join(HERE, "opentelemetry-instrument")
PATH = {"PATH": f"{HERE}{os.pathsep}/usr/bin{os.pathsep}/bin"}


def program(folder: Path, name: str, *first: str) -> str:
    """A program that begins with these lines."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(first) + "\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.mark.parametrize(
    ("first", "instrumented"),
    [
        ([f"#!{sys.executable}"], True),
        ([f"#! {sys.executable} -u"], True),
        (["#!/usr/bin/env python"], True),
        (["#!/usr/bin/env -S python -u"], True),
        (["#!/bin/sh", f'\'\'\'exec\' "{sys.executable}" "$0" "$@"', "' '''"], True),
        (["#!/bin/sh", "python train.py"], False),
        (["#!/usr/bin/env no-such-python"], False),
        (["import sys"], False),
        (["#!"], False),
        (["#!/usr/bin/env"], False),
        (["\x7fELF"], False),
    ],
)
def test_a_program_is_python_s_by_its_first_line(tmp_path: Path, first: list[str], *, instrumented: bool) -> None:
    """As torchrun and other console scripts, and scripts that are run by themselves."""
    path = program(tmp_path, "tool", *first)
    made = prepared([path, "--n", "2"], PATH)
    assert made.argv == ((INSTRUMENT,) if instrumented else ()) + (path, "--n", "2")
    assert (made.instrumented, made.by_us, made.note) == (instrumented, instrumented, "")


@pytest.mark.parametrize(
    ("words", "instrumented", "note"),
    [
        (["python", "train.py"], True, ""),
        ([sys.executable, "-m", "pkg"], True, ""),
        (["python", "-W", "ignore", "-c", "pass"], True, ""),
        (["python", "train.py", "-I"], True, ""),
        (["python", "-m", "pkg", "-E"], True, ""),
        (["python", "-I", "train.py"], False, "-I"),
        (["python", "-u", "-sE", "train.py"], False, "-sE"),
        (["python", "-W", "ignore", "-S", "x.py"], False, "-S"),
        (["ls", "-l"], False, ""),
        (["bash", "train.sh"], False, ""),
        (["no-such-program"], False, ""),
    ],
)
def test_python_is_instrumented_where_it_can_be(words: list[str], note: str, *, instrumented: bool) -> None:
    """Not where its own options keep that out, which is told; nor anything else."""
    made = prepared(words, PATH)
    assert made.by_us == instrumented
    assert made.argv == ((INSTRUMENT, *words) if instrumented else tuple(words))
    assert (f"option {note} " in made.note) if note else not made.note


def test_what_is_instrumented_already_is_left() -> None:
    """By whoever typed it, or by who has injected it; its exporters are theirs, too."""
    for words, more in (
        (["opentelemetry-instrument", "python", "x.py"], {}),
        (["python", "x.py"], {"PYTHONPATH": "/auto/opentelemetry/instrumentation/auto_instrumentation:/auto"}),
    ):
        made = prepared(words, {**PATH, **more})
        assert (made.argv, made.instrumented, made.by_us) == (tuple(words), True, False)


def test_another_environment_is_asked_for_its_own(tmp_path: Path) -> None:
    """Of a Python that has not got us, it is told what is missed and how to have it; one that has is run by its own."""
    python = program(tmp_path, "env/bin/python3", "#!/bin/sh")
    bare = prepared([python, "x.py"], PATH)
    assert bare.argv == (python, "x.py")
    assert f"opentelemetry-instrument is not installed for {python}" in bare.note
    assert "pip install 'otel-hwmetrics[otlp]'" in bare.note
    site = tmp_path / "env" / "lib" / "python3.12" / "site-packages"
    site.mkdir(parents=True)
    assert "otel-hwmetrics is not installed" in prepared([python, "x.py"], PATH).note
    (site / "otel_hwmetrics-0.1.0.dist-info").mkdir()
    own = program(tmp_path, "env/bin/opentelemetry-instrument", f"#!{python}")
    made = prepared([python, "x.py"], PATH)
    assert (made.argv, made.note) == ((own, python, "x.py"), "")
    exporting = prepared([python, "x.py"], {**PATH, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"})
    assert "opentelemetry-sdk and opentelemetry-distro not installed" in exporting.note
    assert "nothing is exported" in exporting.note


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("python train.py", f"{INSTRUMENT} python train.py"),
        ("  python train.py --lr $LR > log 2>&1\n", f"{INSTRUMENT} python train.py --lr $LR > log 2>&1"),
        ("A=1 B=x python -c 'a; b()'", f"A=1 B=x {INSTRUMENT} python -c 'a; b()'"),
        ("python a.py --text 'x # y'", f"{INSTRUMENT} python a.py --text 'x # y'"),
        *[
            (text, None)
            for text in (
                *("python a.py | tee log", "python a.py && python b.py", "python a.py; ls", "python a.py &"),
                *(
                    "(python a.py)",
                    "python $(find x)",
                    "python 'open",
                    "python a.py # well",
                    "cd x\npython a.py",
                    "ls",
                    " ",
                ),
            )
        ],
    ],
)
def test_a_command_for_the_shell_is_instrumented_where_it_is_one(text: str, expected: str | None) -> None:
    """A single command of Python's, with its variables and where its output goes; any other goes to the shell as it is."""
    made = prepared_text(text, PATH)
    assert made.argv == ("/bin/sh", "-c", text if expected is None else expected)
    assert made.by_us == (expected is not None)


def test_a_path_in_front_of_a_command_is_where_it_is_looked_for(tmp_path: Path) -> None:
    """As the shell does: its Python is another environment's, and that one's are its auto-instrumentation and its libraries."""
    other = program(tmp_path, "bin/python", "#!/bin/sh")
    made = prepared_text(f"PATH={tmp_path}/bin python x.py", PATH)
    assert made.argv == ("/bin/sh", "-c", f"PATH={tmp_path}/bin python x.py")
    assert f"is not installed for {other}" in made.note


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("~/venv/bin/python x.py", "~/venv/bin/python"),
        ("$VENV/bin/python3 x.py", "$VENV/bin/python3"),
        ('"$VENV/bin/python" x.py', "$VENV/bin/python"),
        ("time python x.py", "python"),
        ("exec python x.py", "python"),
        ("nohup python x.py > log", "python"),
        ("timeout -k 5 1h python3.12 x.py", "python3.12"),
        ("PATH=~/venv/bin python x.py", "python"),
        ("PATH=/x:$PATH python x.py", "python"),
        ("time opentelemetry-instrument python x.py", ""),
        ("grep python x.py", ""),
        ("ls", ""),
    ],
)
def test_python_that_a_command_hides_is_told(text: str, hidden: str) -> None:
    """It is run as it is, and what is missed is said with what to write."""
    made = prepared_text(text, PATH)
    assert (made.argv, made.by_us) == (("/bin/sh", "-c", text), False)
    assert made.note.partition(" is run as it is: ")[0] == hidden
    assert ("write opentelemetry-instrument before it" in made.note) == bool(hidden)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["python", "a/train.py", "--x", "b.py"], "train"),
        (["torchrun", "--nproc-per-node", "2", "train.py"], "train"),
        (["python", "-m", "pkg.train"], "pkg.train"),
        (["python", "-m", "pkg.__main__"], "pkg"),
        (["opentelemetry-instrument", "python", "x.py"], "x"),
        (["/opt/bin/solve", "-n", "3"], "solve"),
        (["./"], "."),
        (["python"], "python"),
        (["opentelemetry-instrument"], "opentelemetry-instrument"),
    ],
)
def test_a_command_has_a_name(words: list[str], name: str) -> None:
    """As its script, its module, or its program."""
    assert name_of(words) == name


def test_only_what_says_where_telemetry_goes_counts() -> None:
    """Variables that are set to nothing say nothing."""
    assert not exports({"OTEL_SERVICE_NAME": "x", "OTEL_EXPORTER_OTLP_ENDPOINT": "", "PATH": "/bin"})
    for name in ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPERIMENTAL_CONFIG_FILE"):
        assert exports({name: "x"})
    assert shown(["a b", "c"]) == "'a b' c"
