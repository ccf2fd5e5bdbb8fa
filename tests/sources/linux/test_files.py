# SPDX-License-Identifier: Apache-2.0
"""A kept-open kernel file: whole, fresh, and one system call a look."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

from otel_hwmetrics.sources.linux.files import KernelFile


@pytest.mark.parametrize("records", [False, True])
@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 50_000])
def test_the_whole_content_is_read_whatever_its_size(tmp_path: Path, size: int, records: bool) -> None:  # noqa: FBT001
    """Also when it grows and shrinks between two looks."""
    path = tmp_path / "file"
    file = KernelFile(str(path), records=records)
    for content in (b"x" * size, b"y" * (size * 2 + 1), b"z" * (size // 2)):
        path.write_bytes(content)
        assert file.read() == content
    file.close()


def test_a_look_at_a_small_file_is_one_system_call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is opened once in its life and read with one pread a look."""
    path = tmp_path / "file"
    path.write_bytes(b"content")
    file = KernelFile(str(path))
    file.read()
    pread = Mock(wraps=os.pread)
    monkeypatch.setattr(os, "open", lambda *_: pytest.fail("opened again"))
    monkeypatch.setattr(os, "pread", pread)
    assert file.read() == b"content"
    assert pread.call_count == 1
    file.close()


def test_what_is_absent_is_asked_for_again(tmp_path: Path) -> None:
    """A file that comes later is found then."""
    path = tmp_path / "file"
    file = KernelFile(str(path))
    with pytest.raises(FileNotFoundError):
        file.read()
    path.write_bytes(b"1")
    assert file.read() == b"1"
    file.close()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_file_of_a_process_that_has_ended_says_so() -> None:
    """And is never read as another process's."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        file = KernelFile(f"/proc/{child.pid}/stat")
        assert file.read().startswith(str(child.pid).encode())
        child.communicate(b"\n")
        with pytest.raises(OSError, match=r"No such process|No such file"):
            file.read()
    file.close()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_files_of_the_kernel_come_whole() -> None:
    """As `cat` shows them, for one that comes record by record and one that comes at once."""
    for path, records in (("/proc/self/mountinfo", True), ("/proc/cpuinfo", True), ("/proc/version", False)):
        file = KernelFile(path, records=records)
        assert len(file.read().splitlines()) == len(Path(path).read_bytes().splitlines())
        file.close()
