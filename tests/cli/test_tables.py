# SPDX-License-Identifier: Apache-2.0
"""`otel-hwmetrics tables`, as a user calls it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from otel_hwmetrics import __version__
from otel_hwmetrics.alerts.builtin import RULES

NAMES = [rule.name for rule in RULES]


def run(*arguments: str, folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    command = [os.path.join(os.path.dirname(sys.executable), "otel-hwmetrics"), *arguments]
    return subprocess.run(
        command, cwd=folder, env=clean | {"COLUMNS": "90"} | environ, capture_output=True, text=True, check=False
    )


def names(output: str) -> list[str]:
    """The rules that a text tells of: the lines that are not indented."""
    return [line.split()[0] for line in output.splitlines() if line and not line.startswith(" ")]


def widest(lines: Iterable[str]) -> int:
    """The length of the longest line that could have been broken."""
    return max(len(line) for line in lines if " " in line.strip())


def test_all_rules_are_printed(tmp_path: Path) -> None:
    """Each with what it looks at, when it fires and is resolved, and what to do; no wider than the terminal."""
    done = run("tables", "rules", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert names(done.stdout) == NAMES
    for label in ("looks at", "fires", "resolved", "advice"):
        assert done.stdout.count(f"\n  {label:<9} ") == len(NAMES)
    assert widest(done.stdout.splitlines()) <= 90
    assert "\n\ngpu_hot  warning\n  looks at  " in done.stdout
    assert "fires     above 80 °C for 5 s\n  resolved  78 °C or less\n" in done.stdout


def test_programs_get_the_same_as_json(tmp_path: Path) -> None:
    """Thresholds in the unit that is told, lengths of time in seconds."""
    done = run("tables", "rules", "--json", folder=tmp_path)
    told = {rule["name"]: rule for rule in json.loads(done.stdout)}
    assert list(told) == NAMES
    hot = told["gpu_hot"]
    assert (hot["severity"], hot["side"], hot["threshold"], hot["clear"], hot["for"], hot["unit"]) == (
        *("warning", "above", 80.0, 78.0, 5.0, "Cel"),
    )


def test_they_are_the_rules_that_the_options_make(tmp_path: Path) -> None:
    """Of the file in the directory and of the environment; one's own are among them."""
    (tmp_path / "hwmetrics.toml").write_text(
        """
[rules."gpu_xid_*"]
enabled = false

[rules.data_disk]
metric = "hwmetrics.system.disk.utilization"
where = { "system.device" = "nvme1n1" }
aggregate = "mean"
over = "5m"
above = 0.95
for = 60
severity = "info"
advice = "Move the data."
"""
    )
    done = run("tables", "rules", folder=tmp_path, OTEL_PYTHON_HWMETRICS_ALERT_GPU_HOT_THRESHOLD="85")
    assert (done.returncode, done.stderr) == (0, "")
    assert names(done.stdout) == [*(name for name in NAMES if not name.startswith("gpu_xid")), "data_disk", "off:"]
    assert done.stdout.endswith("\n\noff: gpu_xid_critical, gpu_xid_warning, gpu_xid_info\n")
    assert "gpu_hot  warning  changed\n" in done.stdout
    assert "fires     above 85 °C for 5 s" in done.stdout
    own = done.stdout[done.stdout.index("data_disk") : done.stdout.index("off:")]
    assert " ".join(own.split()) == (
        "data_disk info yours looks at the mean of hwmetrics.system.disk.utilization with system.device=nvme1n1 over 5 min "
        "fires above 0.95 for 60 s resolved 0.95 or less advice Move the data."
    )


def test_a_mistake_is_told_and_fails(tmp_path: Path) -> None:
    """With its place and what would be right; the other rules are printed all the same."""
    (tmp_path / "hwmetrics.toml").write_text("[rules.gpu_hott]\nthreshold = 85\n[rules.gpu_idle]\nfor = 'soon'\n")
    done = run("tables", "rules", folder=tmp_path)
    assert done.returncode == 1
    assert names(done.stdout) == NAMES
    first, second = done.stderr.splitlines()
    assert "no rule 'gpu_hott'" in first
    assert "did you mean 'gpu_hot'?" in first
    assert str(tmp_path / "hwmetrics.toml") in first
    assert "rule 'gpu_idle': 'for' is 'soon'" in second


@pytest.mark.parametrize("arguments", [(), ("tables",), ("tables", "rulez"), ("tabels", "rules")])
def test_a_wrong_command_says_what_there_is(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Exit code 2, as of any command line."""
    done = run(*arguments, folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: otel-hwmetrics")


@pytest.mark.parametrize("arguments", [("--help",), ("tables", "--help")])
def test_every_command_has_help(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """On the output, and that is no error."""
    done = run(*arguments, folder=tmp_path)
    assert done.returncode == 0
    assert "tables" in done.stdout


def test_it_tells_its_version(tmp_path: Path) -> None:
    """That of the package."""
    assert run("--version", folder=tmp_path).stdout == f"otel-hwmetrics {__version__}\n"


def test_who_has_seen_enough_may_go(tmp_path: Path) -> None:
    """`otel-hwmetrics tables rules | head` is no error."""
    program = os.path.join(os.path.dirname(sys.executable), "otel-hwmetrics")
    done = subprocess.run(
        ["/bin/sh", "-c", f"'{program}' tables rules --json | head -c 1 > /dev/null"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr


def test_some_rules_alone_are_printed(tmp_path: Path) -> None:
    """By name or pattern."""
    done = run("tables", "rules", "gpu_hot", "host_*", folder=tmp_path)
    assert names(done.stdout) == ["gpu_hot", *(name for name in NAMES if name.startswith("host_"))]
    told = json.loads(run("tables", "rules", "gpu_hot", "--json", folder=tmp_path).stdout)
    assert [rule["name"] for rule in told] == ["gpu_hot"]
    wrong = run("tables", "rules", "gpu_hott", folder=tmp_path)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr == "error: there is no rule 'gpu_hott'; did you mean 'gpu_hot'?\n"


def test_that_alerts_are_off_is_said(tmp_path: Path) -> None:
    """And not an empty table."""
    done = run("tables", "rules", "gpu_hot", folder=tmp_path, OTEL_PYTHON_HWMETRICS_ALERTS="false")
    assert (done.returncode, done.stdout) == (0, "off: gpu_hot\n")


def test_an_address_that_cannot_be_used_is_a_mistake_too(tmp_path: Path) -> None:
    """As it is for `instrument()`; it is not shown."""
    done = run("tables", "rules", "gpu_hot", folder=tmp_path, OTEL_PYTHON_HWMETRICS_NOTIFY="slack://secret")
    assert done.returncode == 1
    assert done.stderr.startswith("error: option 'notify': address 1 of 1")
    assert "secret" not in done.stderr


def test_a_terminal_without_a_degree_sign_gets_something_else(tmp_path: Path) -> None:
    """No traceback."""
    done = run("tables", "rules", folder=tmp_path, PYTHONIOENCODING="ascii", LC_ALL="C", PYTHONUTF8="0")
    assert (done.returncode, done.stderr) == (0, "")
    assert "above 80 ?C" in done.stdout


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no device that is always full")
def test_what_cannot_be_written_is_told_in_a_line(tmp_path: Path) -> None:
    """A full disk."""
    command = [os.path.join(os.path.dirname(sys.executable), "otel-hwmetrics"), "tables", "rules"]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot write: [Errno 28]")
    assert len(done.stderr.splitlines()) == 1
