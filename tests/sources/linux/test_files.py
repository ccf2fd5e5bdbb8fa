# SPDX-License-Identifier: Apache-2.0
"""A kept-open kernel file: whole, fresh, and one system call a look."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

from otel_hwmetrics.sources.linux.files import KernelFile, own_reads


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
    monkeypatch.setattr(os, "open", lambda *_, **__: pytest.fail("opened again"))
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


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_is_read_is_counted_as_the_kernel_counts_it() -> None:
    """In bytes and calls, for files of one read and of many; also a read that fails."""
    script = """if True:
        import os, subprocess, sys
        from otel_hwmetrics.sources.linux.files import KernelFile, own_reads
        child = subprocess.Popen(["sleep", "60"])
        files = [KernelFile(f"/proc/{name}", records=records) for name, records in (
            ("self/mountinfo", True), ("cpuinfo", True), ("version", False), ("self/smaps", False))]
        gone = KernelFile(f"/proc/{child.pid}/stat")
        gone.read()
        child.kill()
        child.wait()
        def kernel():
            io = os.pread(descriptor, 4096, 0)
            fields = io.split()
            return int(fields[1]), int(fields[5]), len(io)
        descriptor = os.open("/proc/self/io", os.O_RDONLY)
        def counted():
            own = own_reads()
            read, calls, size = kernel()
            return read - own.bytes, calls - own.calls, size
        before = counted()
        for _ in range(20):
            for file in files:
                file.read()
        try:
            gone.read()
        except OSError:
            pass
        after = counted()
        print(after[0] - before[0] - before[2], after[1] - before[1] - 1)
    """
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["0", "0"]


def test_a_read_under_way_counts_at_its_most(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """So that it is never in the kernel's figure and not in ours; when it is over, or has failed, it is what it was."""
    path = tmp_path / "file"
    path.write_bytes(b"content")
    file = KernelFile(str(path))
    file.read()
    before = own_reads()
    during = []
    pread = os.pread

    def noted(*arguments: int) -> bytes:
        during.append(own_reads())
        if len(during) > 1:
            raise OSError
        return pread(*arguments)

    monkeypatch.setattr(os, "pread", noted)
    file.read()
    assert (during[0].bytes - before.bytes, during[0].calls - before.calls) == (4096, 1)
    assert own_reads() == (before.calls + 1, before.bytes + len(b"content"))
    with pytest.raises(OSError):  # noqa: PT011 - a bare one
        file.read()
    assert own_reads() == (before.calls + 2, before.bytes + len(b"content"))


def test_a_file_that_is_let_go_of_is_closed(tmp_path: Path) -> None:
    """Whoever reads no more may just drop it."""
    path = tmp_path / "file"
    path.write_bytes(b"content")
    file = KernelFile(str(path))
    file.read()
    descriptor = file._descriptor
    del file
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_holds_no_file_and_has_read_nothing() -> None:
    """Its parent's files are closed in it, and open again when it reads them."""
    script = """if True:
        import os
        from otel_hwmetrics.sources.linux.files import KernelFile, own_reads
        file = KernelFile("/dev/null")
        file.read()
        pid = os.fork()
        if not pid:
            good = own_reads() == (0, 0) and file._descriptor < 0 and file.read() == b""
            os._exit(0 if good else 1)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), file._descriptor >= 0)
    """
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["0", "True"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_no_fork_comes_while_a_file_is_being_opened() -> None:
    """Its child would have a descriptor of which nobody knows, and which nobody closes."""
    script = """if True:
        import os, threading, time
        from otel_hwmetrics.sources.linux import files
        begun, really = threading.Event(), files.opened
        def slowly(*it):
            descriptor = really(*it)
            begun.set()
            time.sleep(0.02)
            return descriptor
        files.opened = slowly
        file = files.KernelFile("/dev/null")
        def read():
            files._opening.section.patience = 20.0
            file.read()
        threading.Thread(target=read).start()
        begun.wait()
        pid = os.fork()
        if not pid:
            os._exit(0 if file in files._files and file._descriptor < 0 else 1)
        raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    """
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_what_the_job_has_put_in_its_place_is_left_open(tmp_path: Path) -> None:
    """Where a read fails, when the file is closed, and in a forked child; and the file is read again."""
    script = """if True:
        import os, sys
        from otel_hwmetrics.sources.linux.files import KernelFile
        log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
        file = KernelFile(os.devnull)
        def replaced():
            file.read()
            number = file._descriptor
            os.dup2(log, number)
            return number
        number = replaced()
        try:
            file.read()
        except OSError:
            os.write(number, b"read ")
        number = replaced()
        file.close()
        os.write(number, b"closed ")
        number = replaced()
        pid = os.fork()
        if not pid:
            os._exit(0 if os.write(number, b"forked") and file.read() == b"" else 1)
        raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    """
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "log")], check=True)
    assert (tmp_path / "log").read_bytes() == b"read closed forked"
