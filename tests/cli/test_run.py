# SPDX-License-Identifier: Apache-2.0
"""`otel-hwmetrics run` with real commands: it passes through what is the command's, and records it."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

import launched
from launched import PYTHON, recorded, run, script
from otel_hwmetrics.cli import run as command
from otel_hwmetrics.recording.nouns import DONE, FAILED, PARENT, PROCESS, SKIPPED
from recorded import run as written_run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it needs /proc")

ENVIRONMENT = "import json, os, sys; json.dump(dict(os.environ), open(sys.argv[1], 'w'))\n"
TRAINS = """
import time
import otel_hwmetrics
with otel_hwmetrics.training_span("fit"):
    with otel_hwmetrics.training_span("epoch"):
        time.sleep(0.2)
"""


def test_what_is_the_command_s_passes_through(tmp_path: Path) -> None:
    """Input, output, errors and the exit code; and of ours there is a summary on the errors alone, unless it is to be quiet."""
    text = 'read line; echo "got $line"; echo problem >&2; exit 3'
    done = run("--quiet", "--", "sh", "-c", text, folder=tmp_path, given="words\n")
    assert (done.returncode, done.stdout, done.stderr) == (3, "got words\n", "problem\n")
    loud = run("--memory", "1k", "--tag", "team=a", "--", "sh", "-c", "sleep 0.5", folder=tmp_path)
    assert (loud.returncode, loud.stdout) == (0, "")
    assert loud.stderr.startswith("sh: ")
    assert "Memory" in loud.stderr
    with recorded(tmp_path) as written:
        job = written.jobs()[0]
        assert f"otel-hwmetrics report {written.recordings[0].path}" in loud.stderr
        assert (job.name, job.command, job.state, job.exit_code) == ("sh", "sh -c 'sleep 0.5'", DONE, 0)
        assert (job.request.memory, job.request.by["memory"], dict(job.tags)) == (1024, "argument", {"team": "a"})
        assert written.abouts[0].role == PARENT
        assert written.ended_ns is not None
        path = written.recordings[0].path
    connection = sqlite3.connect(path)  # the seed's own queries
    query = (
        "SELECT job_id, timestamp, cpu_percent, memory_bytes, num_processes FROM job_resource_samples WHERE job_id = 1"
    )
    assert connection.execute(f"{query} ORDER BY timestamp").fetchall()
    assert connection.execute("SELECT job_id, job_name FROM job_metadata").fetchall() == [(1, "sh")]
    connection.close()


@pytest.mark.parametrize(
    ("text", "code", "watched"),
    [("no-such-program", 127, True), ("./text", 126, False), ("./old", 4, True), ("./folder", 126, False)],
)
def test_what_cannot_be_run_is_told_as_a_shell_does(tmp_path: Path, text: str, code: int, *, watched: bool) -> None:
    """127 for what is not there, 126 for what is no program; a script that does not say whose is a shell's."""
    (tmp_path / "text").write_text("words")
    (tmp_path / "folder").mkdir()
    (tmp_path / "old").write_text("exit 4\n")
    (tmp_path / "old").chmod(0o755)
    done = run(*([] if watched else ["--no-resource-monitoring"]), "--", text, folder=tmp_path)
    assert done.returncode == code
    assert ("cannot be run" in done.stderr) == (code > 100)
    if watched:
        with recorded(tmp_path) as written:
            assert [(job.state, job.exit_code) for job in written.jobs()] == [(FAILED, code)]


def test_python_is_instrumented_and_records_itself(tmp_path: Path) -> None:
    """Under opentelemetry-instrument, with the run's id; nothing is exported where nobody says to where; spans are recorded."""
    assert run("--name", "mine", "--", PYTHON, script(tmp_path, TRAINS), folder=tmp_path).returncode == 0
    with recorded(tmp_path) as written:
        assert {about.role for about in written.abouts} == {PARENT, PROCESS}
        assert {about.run for about in written.abouts} == {written.id}
        assert {about.name for about in written.abouts} == {"mine"}
        assert [span.name for span in written.spans()] == ["fit", "epoch"]
        assert [(job.name, job.state) for job in written.jobs()] == [("mine", DONE)]


def test_the_environment_tells_of_the_run_and_leaves_the_user_s_words_alone(tmp_path: Path) -> None:
    """Exporters are off only where nothing is said of them; a word of a job's own counts."""
    target = tmp_path / "environ.json"
    command = ("--", PYTHON, script(tmp_path, ENVIRONMENT), str(target))
    assert run("--interval", "2", "--granularity", "summary", *command, folder=tmp_path).returncode == 0
    told = json.loads(target.read_text())
    with recorded(tmp_path) as written:
        assert told["OTEL_PYTHON_HWMETRICS_RECORD_RUN"] == written.id
    assert told["OTEL_PYTHON_HWMETRICS_RECORD"] == "true"
    assert told["OTEL_PYTHON_HWMETRICS_RECORD_GRANULARITY"] == "summary"
    assert told["OTEL_PYTHON_HWMETRICS_SAMPLE_INTERVAL"] == "2"
    assert told["OTEL_PYTHON_HWMETRICS_DIRECTORY"] == str(tmp_path / "runs")
    assert {told[f"OTEL_{each}_EXPORTER"] for each in ("TRACES", "METRICS", "LOGS")} == {"none"}
    said = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_LOGS_EXPORTER": "none"}
    said |= {"OTEL_METRICS_EXPORTER": "none", "OTEL_TRACES_EXPORTER": "none", "OTEL_PYTHON_HWMETRICS_RECORD": "false"}
    assert run(*command, folder=tmp_path, **said).returncode == 0
    told = json.loads(target.read_text())
    assert {name: told[name] for name in said} == said


def test_unwatched_it_is_as_typed_by_itself(tmp_path: Path) -> None:
    """Neither instrumented nor recorded, and the environment is as it was, before Python saw to its locale."""
    code = "import sys; sys.exit(7 if 'opentelemetry' in sys.modules else 5)"
    done = run("--no-resource-monitoring", "--", PYTHON, "-c", code, folder=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (5, "", "")
    off = {"OTEL_PYTHON_HWMETRICS_ENABLED": "false"}
    told = run("--", "/usr/bin/env", "-0", folder=tmp_path, **off)
    assert dict(each.split("=", 1) for each in told.stdout.split("\0") if each) == launched.environ(tmp_path, **off)
    assert told.stderr == ""
    assert not (tmp_path / "runs").exists()


def test_nobody_has_to_take_what_is_ours(tmp_path: Path) -> None:
    """With input, output or errors closed, or nobody reading them, the exit code is the command's, and its output its own."""
    command = launched.words("--", "sh", "-c", "sleep 0.3; echo mine; exit 8", folder=tmp_path)
    before = 0
    for text, output in (
        ('exec "$@" 0<&-', "mine\n"),
        ('exec "$@" 1>&-', ""),
        ('exec "$@" 2>&-', "mine\n"),
        ('exec "$@" 0<&- 1>&- 2>&-', ""),
        ('{ "$@"; echo $? >code; } 2>&1 >out | true; test "$(cat code)" = 8 && cat out; exit 8', "mine\n"),
    ):
        ran = subprocess.run(
            ["/bin/sh", "-c", text, "sh", *command],
            cwd=tmp_path,
            env=launched.environ(tmp_path),
            stdout=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
        assert (text, ran.returncode, ran.stdout) == (text, 8, output)
        assert len(list((tmp_path / "runs").iterdir())) > before, text
        before = len(list((tmp_path / "runs").iterdir()))


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ([], "there is no command"),
        (["--"], "there is no command"),
        (["--file", "a.yaml", "--", "ls"], "not both"),
        (["--memory", "8q", "--", "ls"], "as 8g, 512MiB or 8GB, not '8q'"),
        (["--memory", "0", "--", "ls"], "above 0"),
        (["--runtime", "soon", "--", "ls"], "as 2h, 90m, PT2H"),
        (["--cpus", "many", "--", "ls"], "a number of CPUs"),
        (["--interval", "0", "--", "ls"], "0.2"),
        (["--interval", "0.01", "--", "ls"], "0.2"),
        (["--tag", "alone", "--", "ls"], "KEY=VALUE"),
        (["--name", " ", "--", "ls"], "a text of one line"),
        (["--granularity", "all", "--", "ls"], "summary"),
        (["--max-parallel", "0", "--file", "a"], "a whole number above 0"),
        (["--file", "a.yaml"], "a.yaml cannot be read"),
        (["--file", "a.yaml", "--cpus", "3"], "--cpus: with --file, each job says that by itself"),
    ],
)
def test_wrong_usage_is_told(
    tmp_path: Path, arguments: list[str], part: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With exit code 2, and what is allowed; nothing is run."""
    from otel_hwmetrics.cli import main

    monkeypatch.chdir(tmp_path)
    try:
        code = main(["run", *arguments])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    assert code == 2
    assert part in capsys.readouterr().err


def test_without_sqlite_it_runs_all_the_same(tmp_path: Path) -> None:
    """As with Pythons that were built without it: nothing is recorded, which is said, and the exit code is the command's."""
    code = (
        "import sys; sys.modules['_sqlite3'] = None; from otel_hwmetrics.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    for more in ((), ("--no-resource-monitoring",)):
        ran = subprocess.run(
            [PYTHON, "-c", code, "run", *more, "--", "sh", "-c", "echo mine; exit 5"],
            cwd=tmp_path,
            env=launched.environ(tmp_path, OTEL_PYTHON_HWMETRICS_LOUD="0"),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert (ran.returncode, ran.stdout) == (5, "mine\n"), ran.stderr
        assert ("the run was not recorded" in ran.stderr) == (not more)
        assert ("sqlite3" in ran.stderr) == (not more)


def test_what_cannot_be_recorded_runs_all_the_same(tmp_path: Path) -> None:
    """With a word about it, and the command's own exit code."""
    (tmp_path / "runs").write_text("a file where the folder should be")
    done = run("--", "sh", "-c", "exit 6", folder=tmp_path, OTEL_PYTHON_HWMETRICS_LOUD="0", HOME="/nonexistent")
    assert done.returncode == 6
    wrong = run("--", "sh", "-c", "exit 6", folder=tmp_path, OTEL_PYTHON_HWMETRICS_GPUS="some")
    assert wrong.returncode == 6
    assert "passed over: " in wrong.stderr
    assert "'some'" in wrong.stderr


JOBS = """
name: nightly
tags: {team: a}
resource_monitor: {granularity: time_series, sample_interval_seconds: 1, generate_plots: false}
resource_requirements:
  - {name: small, num_cpus: 1, memory: 1g, runtime: PT10M, num_gpus: 0}
jobs:
  - {name: first, command: "echo one; date +%s%N > first", resource_requirements: small}
  - name: second
    command: |
      test -e first && echo "$WORD $OTEL_PYTHON_HWMETRICS_SAMPLE_INTERVAL" && date +%s%N > second
    blocked_by: first
    env: {WORD: two, OTEL_PYTHON_HWMETRICS_SAMPLE_INTERVAL: "5"}
    tags: {kind: late}
  - {name: bad, command: "echo why >&2; exit 9"}
  - {name: never, command: touch never, blocked_by: [bad, second]}
"""


def test_jobs_of_a_file_run_in_their_order(tmp_path: Path) -> None:
    """Each after those that it waits for, its output in a file; what waits for one that fails is skipped; exit code 1."""
    (tmp_path / "jobs.yaml").write_text(JOBS)
    done = run("--file", "jobs.yaml", "--max-parallel", "1", "--tag", "more=b", folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert int((tmp_path / "first").read_text()) < int((tmp_path / "second").read_text())
    assert not (tmp_path / "never").exists()
    with recorded(tmp_path) as written:
        jobs = {job.name: job for job in written.jobs()}
        logs = {name: tmp_path / "runs" / f"{written.id}-{name}.log" for name in ("first", "second", "bad")}
        assert written.name == "nightly"
    assert {name: path.read_text() for name, path in logs.items()} == {
        "first": "one\n",
        "second": "two 5\n",
        "bad": "why\n",
    }
    assert {oct(path.stat().st_mode & 0o777) for path in logs.values()} == {"0o600"}
    states = {"first": (DONE, 0), "second": (DONE, 0), "bad": (FAILED, 9), "never": (SKIPPED, None)}
    assert {name: (job.state, job.exit_code) for name, job in jobs.items()} == states
    assert jobs["second"].blocked_by == ("first",)
    assert dict(jobs["second"].tags) == {"team": "a", "more": "b", "kind": "late"}
    assert (jobs["first"].request.cpus, jobs["first"].request.memory, jobs["first"].request.runtime) == (1, 2**30, 600)
    assert jobs["first"].request.gpus == 0
    assert launched.lines(done.stderr, "bad: failed with exit code 9")
    assert jobs["first"].started_ns is not None
    assert jobs["never"].started_ns is None


def test_a_signal_ends_a_file_of_one_job_as_any_other(tmp_path: Path) -> None:
    """The launcher ends by it, too."""
    (tmp_path / "jobs.yaml").write_text("jobs: [{name: a, command: touch begun; exec sleep 60}]")
    begun = launched.begin("--file", "jobs.yaml", folder=tmp_path)
    launched.until((tmp_path / "begun").exists, "the job begins")
    begun.terminate()
    begun.communicate(timeout=launched.DEADLINE)
    assert begun.returncode == -signal.SIGTERM


def test_plots_lie_beside_the_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the file asks for them; what is said of them is no part of the jobs' output."""
    path = str(written_run(tmp_path))
    command._draw(path, quiet=False)
    told = capsys.readouterr()
    assert told.out == ""
    pages = list(tmp_path.glob(os.path.basename(path).partition(".")[0] + "*.html"))
    assert len(pages) >= 4
    assert all(str(page) in told.err for page in pages)


def test_alerts_are_told_where_nobody_else_does(tmp_path: Path) -> None:
    """Of a command that does not measure itself, as lines of the log and in the recording; of the sources that are named."""
    rules = json.dumps({"always": {"metric": "system.memory.usage", "above": 1, "message": "Memory is there."}})
    said = {"OTEL_PYTHON_HWMETRICS_RULES": rules, "OTEL_PYTHON_HWMETRICS_SOURCES": "system,tree"}
    done = run("--interval", "0.5", "--", "sleep", "2", folder=tmp_path, **said)
    assert launched.lines(done.stderr, "Memory is there.")
    with recorded(tmp_path) as written:
        assert "always" in {alert.rule for alert in written.alerts()}
        series = written.recordings[0].series()
    assert {each.attributes["hwmetrics.source"] for each in series if "hwmetrics.source" in each.attributes} == {
        "system"
    }


def test_several_tasks_of_a_step_write_one_run(tmp_path: Path) -> None:
    """Each launcher its own file, all with the step's id; one of them sums it up; each asked for its part."""
    step = {"SLURM_JOB_ID": "77", "SLURM_STEP_ID": "1", "SLURM_NTASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "2"}
    step |= {"SLURM_CPUS_ON_NODE": "8", "SLURM_NODEID": "0"}
    said = []
    for rank in ("0", "1"):
        more = {**step, "SLURM_PROCID": rank, "SLURM_LOCALID": rank}
        said.append(run("--memory", "2g", "--", "sleep", "0.3", folder=tmp_path, **more).stderr)
    assert [bool(text) for text in said] == [True, False]
    with recorded(tmp_path) as written:
        assert written.id == "slurm-77.1"
        assert [(about.role, about.rank) for about in written.abouts] == [(PARENT, 0), (PARENT, 1)]
        assert [(job.rank, job.request.cpus, job.request.by["cpus"]) for job in written.jobs()] == [
            (0, 4.0, "slurm"),
            (1, 4.0, "slurm"),
        ]


OF_THE_C_LIBRARY = 0x180000000
"""Signals 32 and 33, which glibc keeps for its threads; its posix_spawn(3) has them ignored."""


def test_signals_and_files_are_as_without_us(tmp_path: Path) -> None:
    """What the command inherits: which signals are blocked or ignored, and what is open."""
    text = "ls /proc/self/fd | tr '\\n' ' '; yes | head -n 1; grep -E 'Sig(Blk|Ign)' /proc/self/status"
    alone = subprocess.run(
        ["/bin/sh", "-c", text], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
    )
    with_us = run("--quiet", "--", "/bin/sh", "-c", text, folder=tmp_path)
    assert with_us.stdout.splitlines()[0] == alone.stdout.splitlines()[0]
    masks = [
        [int(line.split()[1], 16) & ~OF_THE_C_LIBRARY for line in each.stdout.splitlines()[1:]]
        for each in (with_us, alone)
    ]
    assert masks[0] == masks[1]
    assert len(masks[0]) == 2
