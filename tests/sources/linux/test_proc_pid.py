# SPDX-License-Identifier: Apache-2.0
"""The parsers of /proc/<pid>: what the kernel writes is understood whatever a process calls itself, else refused."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_hwmetrics.sources.linux import proc_pid

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

NAMES = st.binary(min_size=0, max_size=63).filter(lambda name: b"\0" not in name)
COUNTS = st.integers(min_value=0, max_value=2**64 - 1)

STAT = (
    b"4242 (%s) S 17 4242 4242 0 -1 4194560 2851 6550 1 2 30 12 5 6 20 0 9 0 115949 16961536 3326 "
    b"18446744073709551615 4194304 1 1 0 0 0 0 16781312 2 0 0 0 17 1 0 0 0 0 0 1 1 1 1 1 1 1 35584\n"
)
IO = (
    b"rchar: 1687559\nwchar: 1695\nsyscr: 670\nsyscw: 29\nread_bytes: 12288\nwrite_bytes: 8192\n"
    b"cancelled_write_bytes: 4096\n"
)
STATUS = (
    b"Name:\tpython3\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t4242\nNgid:\t0\nPid:\t4243\nPPid:\t17\nThreads:\t9\n"
    b"Cpus_allowed_list:\t0-1\nvoluntary_ctxt_switches:\t15\nnonvoluntary_ctxt_switches:\t4\n"
)
ROLLUP = (
    b"55bd50000000-7ffc5aea9000 ---p 00000000 00:00 0                          [rollup]\nRss:               13468 kB\n"
    b"Pss:               12026 kB\nPss_Dirty:          6864 kB\nShared_Clean:       1604 kB\nPrivate_Clean:      5000 kB\n"
    b"Private_Dirty:      6864 kB\nPrivate_Hugetlb:    2048 kB\nSwap:                  0 kB\n"
)
FILES: dict[str, tuple[Callable[[bytes], object], bytes, object]] = {
    "stat": (
        proc_pid.parse_stat,
        STAT % b"python3",
        proc_pid.Stat("S", 17, 2851, 6550, 1, 2, 30, 12, 5, 6, 9, 115949),
    ),
    "start code": (proc_pid.parse_start_code, STAT % b"python3", 4194304),
    "exit code": (proc_pid.parse_exit_code, STAT % b"python3", 139 << 8),
    "statm": (proc_pid.parse_statm, b"28308 3326 1651 1 0 1986 0\n", proc_pid.Statm(28308, 3326, 1651)),
    "io": (proc_pid.parse_io, IO, proc_pid.Io(1687559, 1695, 670, 29, 12288, 8192)),
    "identity": (proc_pid.parse_identity, STATUS, proc_pid.Identity(4242, 17)),
    "switches": (proc_pid.parse_context_switches, STATUS, (15, 4)),
    "rollup": (
        proc_pid.parse_smaps_rollup,
        ROLLUP,
        proc_pid.Rollup(12026 * 1024, (5000 + 6864 + 2048) * 1024),
    ),
    "loadavg": (proc_pid.parse_newest, b"0.00 0.02 0.00 1/95 8069\n", 8069),
}


@pytest.mark.parametrize("name", FILES)
def test_what_the_kernel_writes_is_understood(name: str) -> None:
    """Each figure is the one that proc(5) says is there."""
    parse, content, expected = FILES[name]
    assert parse(content) == expected


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_short_is_refused_or_was_not_needed_further(name: str) -> None:
    """Half a file gives either nothing or the whole truth, never a number cut in half."""
    parse, content, expected = FILES[name]
    for length in range(len(content)):
        try:
            found = parse(content[:length])
        except ValueError:
            continue
        assert found == expected


@pytest.mark.parametrize("name", FILES)
@given(data=st.data())
def test_garbage_is_refused_by_name(name: str, data: st.DataObject) -> None:
    """Whatever the bytes, and whatever part of a true file they replace, the only error is `ValueError`."""
    parse, content, _ = FILES[name]
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, len(content)))
    with contextlib.suppress(ValueError):
        parse(content[:start] + data.draw(st.binary(max_size=40)) + content[end:])


@pytest.mark.parametrize("name", [name for name in FILES if name != "identity"])
@pytest.mark.parametrize("number", [b"-1", b"1_0", b"0x10", b"1e3", b"\xd9\xa3", b"9" * 21, b"nan"])
def test_what_is_no_number_of_the_kernels_is_refused(name: str, number: bytes) -> None:
    """Python would take some of these for numbers; one with too many digits would not fit anything later."""
    parse, content, _ = FILES[name]
    last = {
        "stat": b"115949",
        "start code": b"4194304",
        "exit code": b"35584",
        "statm": b"3326",
        "io": b"12288",
        "switches": b"15",
        "rollup": b"12026",
        "loadavg": b"8069",
    }
    assert last[name] in content
    with pytest.raises(ValueError, match=r"no numbers|no stat"):
        parse(content.replace(last[name], number))


@given(name=NAMES)
def test_a_process_may_call_itself_anything(name: bytes) -> None:
    """Parentheses, spaces, newlines, and bytes that are no text."""
    for parse, _, expected in (FILES["stat"], FILES["start code"], FILES["exit code"]):
        assert parse(STAT % name) == expected


@given(figures=st.lists(COUNTS, min_size=11, max_size=11), state=st.sampled_from("RSDZTtXI"))
def test_every_figure_of_stat_comes_through(figures: list[int], state: str) -> None:
    """Also the largest of 64 bits."""
    parent, minor, minor_waited, major, major_waited, user, system, user_waited, system_waited, threads, start = figures
    line = (
        f"1 (a) {state} {parent} 1 1 0 -1 0 {minor} {minor_waited} {major} {major_waited} {user} {system} {user_waited} "
        f"{system_waited} 20 0 {threads} 0 {start} 1 1 1 1\n"
    )
    assert proc_pid.parse_stat(line.encode()) == (state, *figures)


@given(children=st.lists(st.integers(min_value=1, max_value=2**22)))
def test_children_are_listed_with_spaces_between(children: list[int]) -> None:
    """And none is an empty file."""
    assert proc_pid.parse_children("".join(f"{child} " for child in children).encode()) == children


@linux
def test_this_very_kernel_is_understood() -> None:
    """Every file of this process, also under a name that looks like the rest of the line."""
    script = "import ctypes, sys; ctypes.CDLL(None).prctl(15, b') R 1 (\\n\\xff', 0, 0, 0); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        there = Path(f"/proc/{child.pid}")
        stat = proc_pid.parse_stat((there / "stat").read_bytes())
        assert b") R 1 (" in (there / "stat").read_bytes()
        assert (stat.parent, stat.threads) == (os.getpid(), 1)
        assert proc_pid.parse_start_code((there / "stat").read_bytes()) > proc_pid.HIDDEN
        assert stat.state in "SR"
        memory = proc_pid.parse_statm((there / "statm").read_bytes())
        rollup = proc_pid.parse_smaps_rollup((there / "smaps_rollup").read_bytes())
        assert 0 < rollup.unique <= rollup.proportional <= memory.resident * os.sysconf("SC_PAGE_SIZE")
        assert proc_pid.parse_io((there / "io").read_bytes()).reads > 0
        status = (there / "status").read_bytes()
        assert proc_pid.parse_identity(status) == (child.pid, os.getpid())
        assert sum(proc_pid.parse_context_switches(status)) > 0
        assert proc_pid.parse_newest(Path("/proc/loadavg").read_bytes()) > 0
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert proc_pid.parse_exit_code((there / "stat").read_bytes()) == 9
