# SPDX-License-Identifier: Apache-2.0
"""Nothing of ours has the number of the job's output, and nothing of the job's is closed for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from otel_hwmetrics.descriptors import identity


def _run(code: str) -> int:
    return subprocess.run([sys.executable, "-c", code], check=False).returncode


def test_nothing_of_ours_is_where_the_output_was() -> None:
    """A number that was given because the output is closed is given back, and goes to no program that is started."""
    code = """if True:
        import os
        from otel_hwmetrics.descriptors import apart, opened
        os.close(1), os.close(2)
        first, second = map(apart, os.pipe())
        third = opened(os.devnull, os.O_RDONLY)
        os.write(second, b"x")
        good = os.read(first, 1) == b"x" and min(first, second, third) > 2
        free = os.dup(0)
        raise SystemExit(0 if good and not os.get_inheritable(first) | os.get_inheritable(third) and free == 1 else 1)
    """
    assert _run(code) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_files_leave_a_closed_output_to_the_job(tmp_path: Path) -> None:
    """A file that is kept open, a folder and a recording that is being written; nor does a worker lose what it has there."""
    code = """if True:
        import os, sys
        from otel_hwmetrics.folders import Folder
        from otel_hwmetrics.sources.linux.files import KernelFile
        os.close(1), os.close(2)
        file = KernelFile(os.devnull)
        file.read()
        with Folder(sys.argv[1]).new("name") as recording:
            log = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT)
            good = log == 1 and recording.fileno() > 2
            file.close()
            pid = os.fork()
            if not pid:
                os._exit(0 if os.write(1, b"worker") else 1)
            good = good and not os.waitpid(pid, 0)[1]
        raise SystemExit(0 if good and os.write(1, b"job") else 1)
    """
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path), str(tmp_path / "log")], check=False)
    assert done.returncode == 0
    assert (tmp_path / "log").read_bytes() == b"workerjob"


def test_a_file_is_known_by_what_it_is(tmp_path: Path) -> None:
    """Not by its number; none is open under one that was closed."""
    descriptors = [os.open(path, os.O_RDWR | os.O_CREAT) for path in (tmp_path / "one", tmp_path / "other")]
    one, other = map(identity, descriptors)
    assert one is not None
    assert one != other
    os.dup2(descriptors[1], descriptors[0])
    assert identity(descriptors[0]) == other
    for each in descriptors:
        os.close(each)
    assert identity(descriptors[1]) is None
