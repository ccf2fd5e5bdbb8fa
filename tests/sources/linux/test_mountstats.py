# SPDX-License-Identifier: Apache-2.0
"""mountstats: what each NFS mount has asked of its server, found without reading the others."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from otel_hwmetrics.sources.linux import mountstats
from otel_hwmetrics.sources.linux.mountstats import Operation, Traffic, Transport

SERVER = (Path(__file__).parents[2] / "data" / "mountstats" / "server").read_bytes()

SHARE, OLD, FAST = "/mnt/nfs share", "/mnt/old", "/mnt/rdma"

TRAFFIC = {
    SHARE: Traffic(read=3_008_000_000, written=21_000_000, received=1_572_864_000, sent=20_971_520),
    OLD: Traffic(read=4_194_304, written=0, received=4_194_304, sent=0),
    FAST: Traffic(0, 0, 0, 0),
}
TRANSPORT = {
    SHARE: Transport(sends=3000, backlog=60),  # two connections
    OLD: Transport(sends=82, backlog=5),  # over UDP, which has fewer columns
    FAST: Transport(sends=44, backlog=6),
}
READS = {
    SHARE: Operation(done=1000, transmissions=1003, round_trip_ms=8000, total_ms=9000),
    OLD: Operation(done=64, transmissions=64, round_trip_ms=128, total_ms=130),  # without the column of errors
    FAST: Operation(0, 0, 0, 0),
}


def part_of(point: str) -> bytes:
    """The block of one mount."""
    part = mountstats.block(SERVER, point)
    assert part is not None
    return part


@pytest.mark.parametrize("point", TRAFFIC)
def test_each_mount_s_own_numbers(point: str) -> None:
    """Whatever the version of the protocol and the transport; direct and buffered calls together."""
    part = part_of(point)
    assert mountstats.traffic(part) == TRAFFIC[point]
    assert mountstats.transport(part) == TRANSPORT[point]
    assert mountstats.operations(part)[b"READ"] == READS[point]


def test_every_operation_is_told() -> None:
    """As many as the block has lines of them, the last one, too."""
    part = part_of(SHARE)
    operations = mountstats.operations(part)
    assert len(operations) == part.partition(b"per-op statistics")[2].count(b": ")
    assert operations[b"READ_PLUS"] == Operation(500, 500, 4000, 4500)
    assert operations[b"GETATTR"] == Operation(900, 901, 900, 950)


@pytest.mark.parametrize("point", ["/", "/scratch", "/proc", "/mnt", "/mnt/nfs", "/mnt/old/er", "/nowhere"])
def test_what_is_no_mount_of_nfs_has_no_block(point: str) -> None:
    """Local filesystems, directories between, places that only begin like one."""
    assert mountstats.block(SERVER, point) is None


def test_of_two_mounts_at_one_place_the_later_is_seen() -> None:
    """The one below cannot be reached by its path."""
    twice = SERVER + SERVER[SERVER.index(b"device filer.example:/export/old") :].replace(b"4194304", b"5")
    part = mountstats.block(twice, OLD)
    assert part is not None
    assert mountstats.traffic(part).read == 5


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=12))
def test_any_name_of_a_mount_point_is_found(name: str) -> None:
    """As the kernel writes it: blanks and backslashes as octal digits."""
    mangled = re.sub(r"[ \t\n\\]", lambda match: f"\\{ord(match[0]):03o}", f"/{name}")
    content = SERVER.replace(b"/mnt/old ", os.fsencode(mangled) + b" ")
    part = mountstats.block(content, f"/{name}")
    assert part is not None
    assert mountstats.traffic(part) == TRAFFIC[OLD]


@given(st.integers(0, len(SERVER)))
@example(976)  # at the end of a line, between two connections of one mount
def test_a_file_that_is_cut_off_is_refused_or_read_right(length: int) -> None:
    """Nowhere does a part of a number pass for the number."""
    for point in TRAFFIC:
        try:
            part = mountstats.block(SERVER[:length], point)
        except ValueError:
            continue
        if part is None:
            continue
        for parse in (mountstats.traffic, mountstats.operations, mountstats.transport):
            try:
                found = parse(part)
            except ValueError:
                continue
            whole = parse(part_of(point))
            assert found == whole or (isinstance(found, dict) and found.items() <= whole.items())  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "fault",
    [
        lambda part: part.replace(b"\tbytes:", b"\tsize:"),
        lambda part: re.sub(rb"bytes:\t\d+", b"bytes:\t" + b"9" * 25, part),
        lambda part: re.sub(rb"bytes:\t\d+", b"bytes:\t-1", part),
        lambda _: b"",
    ],
)
def test_bytes_that_are_told_otherwise_are_refused(fault: object) -> None:
    """A value error, and no other number in their place."""
    assert callable(fault)
    with pytest.raises(ValueError, match="mountstats"):
        mountstats.traffic(fault(part_of(SHARE)))


@pytest.mark.parametrize("line", [b"smoke 1 2 3 4 5 6 7 8 9 10 11 12", b"tcp 1 2 3 4 5 6 7", b"udp 1"])
def test_a_connection_of_an_unknown_kind_is_refused(line: bytes) -> None:
    """Its columns may mean anything."""
    part = re.sub(rb"\txprt:\t.*", b"\txprt:\t" + line, part_of(OLD))
    with pytest.raises(ValueError, match="unknown kind"):
        mountstats.transport(part)


@given(st.binary(max_size=200))
def test_garbage_is_a_value_error(content: bytes) -> None:
    """And no other."""
    for parse in (mountstats.traffic, mountstats.operations, mountstats.transport):
        with pytest.raises(ValueError, match="mountstats"):
            parse(content)
    assert mountstats.block(content, "/mnt") is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_this_machine_s_file_has_a_block_for_nfs_alone() -> None:
    """Its root is on no file server, or told as one."""
    content = Path("/proc/self/mountstats").read_bytes()
    if b" mounted on / with fstype nfs" not in content:
        assert mountstats.block(content, "/") is None
    else:
        assert mountstats.block(content, "/")
