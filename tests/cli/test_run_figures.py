# SPDX-License-Identifier: Apache-2.0
"""What `otel-hwmetrics run` records of real jobs, against getrusage(2) and time(1), and the check of what they asked for."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launched import COMMAND, PYTHON, environ, recorded, run, run_by_a_small_process, script
from otel_hwmetrics.recording.nouns import DONE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it needs /proc")

MIB = 2**20
TIME = "/usr/bin/time"
MEMORY = """
import time
held = bytearray(200 * 2**20)
held[::4096] = b"x" * len(held[::4096])
time.sleep(1.5)
"""
CPU = """
import os, resource, time
children = []
for _ in range(4):
    pid = os.fork()
    if pid == 0:
        while time.process_time() < 0.5:
            pass
        time.sleep(1.5)  # so that somebody sees all of them, however slow the machine is
        os._exit(0)
    children.append(pid)
for pid in children:
    os.waitpid(pid, 0)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime)
"""
JOBS = """
resource_monitor: {{sample_interval_seconds: 0.5}}
jobs:
  - name: memory
    command: {time} memory.time {python} memory.py
    resource_requirements: {{num_cpus: 64, memory: 100m, runtime: PT10M}}
  - name: cpu
    command: {time} cpu.time {python} cpu.py
    resource_requirements: {{num_cpus: 0.1, memory: 8g, runtime: PT10M}}
  - name: sleeper
    command: {time} sleeper.time sleep 1.6
    resource_requirements: {{num_cpus: 64, memory: 8g, runtime: 1}}
"""


def _timed(folder: Path, name: str) -> tuple[float, int] | None:
    """CPU seconds and the largest process's bytes, by time(1); None without it."""
    if not os.path.exists(TIME):
        return None
    told = (folder / f"{name}.time").read_text()
    user, system = (float(found) for found in re.findall(r"(?:User|System) time \(seconds\): ([0-9.]+)", told))
    largest = re.search(r"Maximum resident set size \(kbytes\): (\d+)", told)
    assert largest is not None
    return user + system, int(largest[1]) * 1024


def test_three_real_jobs(tmp_path: Path) -> None:
    """One holds 200 MiB, one has four children that work, one sleeps: what they used is what the kernel says they used.

    The check finds the one thing that each has too much of, and no other; its exit code is 1.
    """
    for name, text in (("memory", MEMORY), ("cpu", CPU)):
        script(tmp_path, text, f"{name}.py")
    timed = f"exec {TIME} -v -o" if os.path.exists(TIME) else "exec env X="
    (tmp_path / "jobs.yaml").write_text(JOBS.format(time=timed, python=PYTHON))
    began = time.monotonic()
    done = run_by_a_small_process("--file", "jobs.yaml", "--max-parallel", "3", folder=tmp_path)
    lasted = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    with recorded(tmp_path) as written:
        jobs = {job.name: job for job in written.jobs()}
        samples = {name: written.job_samples(job.id) for name, job in jobs.items()}
        printed = float((tmp_path / "runs" / f"{written.id}-cpu.log").read_text())
    assert {job.state for job in jobs.values()} == {DONE}
    memory, cpu, sleeper = (jobs[name].summary for name in ("memory", "cpu", "sleeper"))

    assert 200 * MIB <= memory.figures["memory"].peak < 240 * MIB
    assert memory.max_rss is not None
    assert 200 * MIB <= memory.max_rss < 240 * MIB
    assert cpu.cpu_seconds is not None
    assert printed <= cpu.cpu_seconds < printed + 0.5  # and the interpreter's own start
    assert max(sample.processes or 0 for sample in samples["cpu"]) >= 5
    assert cpu.figures["cpu"].peak > 0.5
    runtime = jobs["cpu"].runtime
    assert runtime is not None
    assert sum(1 for sample in samples["cpu"] if sample.memory is not None) >= runtime / 0.5 / 2 - 1  # half would do
    assert sleeper.cpu_seconds is not None
    assert sleeper.cpu_seconds < 0.2
    assert jobs["sleeper"].runtime is not None
    assert 1.59 <= jobs["sleeper"].runtime < lasted
    for name, job in jobs.items():
        if (told := _timed(tmp_path, name)) is not None:
            seconds, largest = told
            assert job.summary.cpu_seconds == pytest.approx(seconds, abs=0.05)  # time(1) has its own two hundredths
            assert job.summary.max_rss in (largest, None)

    command = [COMMAND, "report", str(tmp_path / "runs"), "--check", "--json"]
    check = subprocess.run(command, env=environ(tmp_path), capture_output=True, text=True, check=False, timeout=60)
    assert check.returncode == 1, check.stderr
    text = json.dumps(json.loads(check.stdout))
    assert all(name in text for name in jobs)
    shown = subprocess.run(command[:-1], env=environ(tmp_path), capture_output=True, text=True, check=False, timeout=60)
    rows = {
        (words[1], words[2]) for line in shown.stdout.splitlines() if len(words := line.split()) > 3 and "%" in line
    }
    assert rows == {("memory", "Memory"), ("cpu", "CPU"), ("sleeper", "Runtime")}, shown.stdout
    for name, resource in (("memory", "Memory"), ("cpu", "CPU"), ("sleeper", "Runtime")):
        part = done.stderr.partition(f"\n{name}: exit code 0")[2].partition("\n")[2]
        assert f"more than was asked for: {resource} " in "\n".join(part.splitlines()[:3]), done.stderr


def test_a_job_shorter_than_a_look_has_figures(tmp_path: Path) -> None:
    """Its time, its CPU time, how many CPUs that were, and its memory, where it lived for a tenth of a second."""
    text = "import time\nwhile time.process_time() < 0.2: pass\nheld = bytearray(90 * 2**20)\ntime.sleep(0.9)"
    done = run("--interval", "30", "--", PYTHON, "-I", script(tmp_path, text), folder=tmp_path)
    assert done.returncode == 0
    assert "Python's option -I keeps auto-instrumentation out" in done.stderr
    with recorded(tmp_path) as written:
        job = written.jobs()[0]
        last = written.job_samples(1)[-1]
    assert job.ended_ns is not None
    assert last.at_ns > job.ended_ns - 250_000_000  # it was looked at once more as it had ended
    assert job.summary.cpu_seconds is not None
    assert job.summary.cpu_seconds >= 0.2
    assert job.runtime is not None
    assert job.runtime >= 0.5
    assert set(job.summary.figures) >= {"cpu", "memory", "processes"}
    assert job.summary.figures["cpu"].peak > 0
    assert job.summary.max_rss is None or job.summary.max_rss > 2**20
