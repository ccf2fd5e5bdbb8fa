# SPDX-License-Identifier: Apache-2.0
"""The CPUs of a process are those of any of its threads."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from unittest.mock import Mock

import pytest

from otel_hwmetrics.sources.linux import cgroup
from otel_hwmetrics.sources.linux.affinity import granted_cpus

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs threads in /proc")


@pytest.fixture
def masks(monkeypatch: pytest.MonkeyPatch) -> dict[int | None, set[int]]:
    """A machine of 8 CPUs, and the masks of threads by number; by 0 that of all others."""
    told: dict[int | None, set[int]] = {0: {0}}
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda number: told.get(number, told[0]), raising=False)
    return told


@pytest.fixture
def threads() -> Iterator[list[threading.Thread]]:
    """A thread of ours, and one of the job's."""
    stop = threading.Event()
    started = [threading.Thread(target=stop.wait, name=name, daemon=True) for name in ("hwmetrics-test", "worker")]
    for thread in started:
        thread.start()
    yield started
    stop.set()
    for thread in started:
        thread.join()


@linux
def test_a_first_thread_that_is_pinned_leaves_the_others_cpus(
    masks: dict[int | None, set[int]], threads: list[threading.Thread]
) -> None:
    """As OpenMP does it: the union counts, and our own threads, which nobody pins, have no say."""
    ours, worker = threads
    masks[os.getpid()] = {0}
    masks[ours.native_id] = set(range(8))
    assert granted_cpus() == 1
    masks[worker.native_id] = {1, 2, 3}
    assert granted_cpus() == 4


@linux
def test_threads_are_not_asked_where_the_first_may_run_anywhere(
    masks: dict[int | None, set[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One call, which is the rule."""
    masks[os.getpid()] = set(range(8))
    monkeypatch.setattr(os, "listdir", Mock(side_effect=AssertionError))
    assert granted_cpus() == 8


@pytest.mark.parametrize("listed", [[], ["1", "2"], ["x"], OSError()], ids=repr)
def test_without_a_proc_that_counts_as_we_do_the_first_thread_counts(
    masks: dict[int | None, set[int]], monkeypatch: pytest.MonkeyPatch, listed: object
) -> None:
    """Numbers of another namespace are other processes' threads."""
    masks[0] = {5, 6, 7}
    masks[2**23] = {0, 1}
    monkeypatch.setattr(os, "getpid", lambda: 2**23)
    monkeypatch.setattr(os, "listdir", Mock(side_effect=[listed] if isinstance(listed, list) else listed))
    assert granted_cpus() == 2


@linux
def test_a_thread_that_ended_meanwhile_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where not even the first can be asked, nothing tells."""
    monkeypatch.setattr(os, "sched_getaffinity", Mock(side_effect=ProcessLookupError))
    assert granted_cpus() is None


@linux
def test_the_process_s_limit_is_that_of_all_threads_too(
    masks: dict[int | None, set[int]], threads: list[threading.Thread], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the cgroup grants more."""
    monkeypatch.setattr(
        "otel_hwmetrics.sources.linux.cgroup.limits.shared",
        Mock(return_value=Mock(now=Mock(side_effect=FileNotFoundError))),
    )
    masks[threads[1].native_id] = {0, 1, 2}
    assert cgroup.effective_cpus() == 3


@linux
@pytest.mark.skipif(sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
def test_a_process_that_pins_its_first_thread_keeps_its_cpus() -> None:
    """By the kernel, with a thread that was there before."""
    script = """if True:
        import os, threading
        from otel_hwmetrics.sources.linux.affinity import granted_cpus
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        before = granted_cpus()
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        print(len(os.sched_getaffinity(0)), granted_cpus() == before)
    """
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["1", "True"]
