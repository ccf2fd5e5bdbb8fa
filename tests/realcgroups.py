# SPDX-License-Identifier: Apache-2.0
"""Cgroups that a test makes on the machine that it runs on, and processes in them. Always taken away again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from otel_hwmetrics.sources.linux import cgroup


@contextmanager
def made(controller: str, **contents: str) -> Iterator[Path]:
    """A new cgroup of the hierarchy that has a controller, with these contents in its files; skips where it may not be.

    Args:
        controller: As version 1 calls it; empty for version 2, whatever its controllers.
        contents: Written into files; ``__`` in a name stands for the dot.
    """
    try:
        membership = cgroup.find()
    except OSError as error:
        pytest.skip(f"no cgroups here: {error}")
    own = membership.legacy.get(controller) if controller else None
    own = own or membership.unified
    if own is None:
        pytest.skip(f"no cgroup hierarchy of {controller or 'version 2'} can be seen")
    # Version 2 lets no cgroup have both processes and children with controllers, but for its root.
    above = Path(own.directory if own.version == 1 else own.mount)
    directory = above / f"hwmetrics-test-{os.getpid()}-{controller or 'unified'}-{time.monotonic_ns()}"
    try:
        directory.mkdir()
    except OSError as error:
        pytest.skip(f"may not make a cgroup: {error}")
    try:
        for name, content in contents.items():
            try:
                (directory / name.replace("__", ".")).write_text(content)
            except OSError as error:
                pytest.skip(f"{controller} is not to be had here: {error}")
        yield directory
    finally:
        removed(directory)


def removed(directory: Path) -> None:
    """Take a cgroup away; its last process may still be on its way out."""
    for _ in range(200):
        with suppress(ProcessLookupError):
            for pid in (directory / "cgroup.procs").read_text().split():
                (directory.parent / "cgroup.procs").write_text(pid)
        try:
            directory.rmdir()
        except OSError:
            time.sleep(0.02)
        else:
            return
    pytest.fail(f"{directory} cannot be taken away")


PRELUDE = """
import json, os, resource, subprocess, sys, time
from otel_hwmetrics.sources.container import ContainerSource
from otel_hwmetrics.sources.linux import cgroup
from otel_hwmetrics.sources.pressure import PressureSource

def join(directory):
    with open(directory + "/cgroup.procs", "w") as procs:
        procs.write(str(os.getpid()))

def values(batch):
    assert not batch.lost, batch.lost
    return {" ".join([r.metric.name, *map(str, r.attributes.values())]): r.value for r in batch.readings}

def tell(**facts):
    print(json.dumps(facts))

directories = sys.argv[1:]
for directory in directories:
    join(directory)
"""


def run(script: str, *directories: Path) -> dict[str, Any]:
    """Run a script in these cgroups; gives what it tells."""
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + script, *map(str, directories)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told
