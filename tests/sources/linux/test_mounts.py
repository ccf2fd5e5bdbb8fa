# SPDX-License-Identifier: Apache-2.0
"""mountinfo: what is mounted where, however it is spelled."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_hwmetrics.sources.linux import mounts
from otel_hwmetrics.sources.linux.mounts import Mount

SERVER = (Path(__file__).parents[2] / "data" / "proc" / "server" / "self" / "mountinfo").read_bytes()

paths = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=12).map(
    "/".__add__
)


def mangled(text: str) -> str:
    """As the kernel writes blanks and backslashes."""
    return re.sub(r"[ \t\n\\#]", lambda match: f"\\{ord(match[0]):03o}", text)


@given(st.lists(st.tuples(paths, paths, st.booleans(), st.just("") | paths, st.lists(st.just("shared:1"), max_size=3))))
def test_what_is_written_is_read(entries: list[tuple[str, str, bool, str, list[str]]]) -> None:
    """Any path at all, with any number of optional fields."""
    text = "".join(
        f"{30 + number} 20 0:{number} {mangled(root)} {mangled(point)} {'rw' if writable else 'ro'},relatime "
        f"{' '.join([*tags, '-'])} xfs {mangled(source)} rw,noquota\n"
        for number, (root, point, writable, source, tags) in enumerate(entries)
    )
    assert mounts.parse(os.fsencode(text)) == [
        Mount(f"0:{number}", root, point, writable, "xfs", source)
        for number, (root, point, writable, source, _) in enumerate(entries)
    ]


def test_a_server_s_file() -> None:
    """Blanks in names, read-only by either list of options, parts of filesystems."""
    by_point = {mount.point: mount for mount in mounts.parse(SERVER)}
    assert by_point["/mnt/nfs share"] == Mount("0:50", "/", "/mnt/nfs share", True, "nfs4", "server:/export")
    assert by_point["/srv/one"].root == "/sets/one"
    assert not by_point["/ro"].writable
    assert not by_point["/snap/core/1"].writable


@given(st.integers(0, len(SERVER)))
def test_a_file_that_is_cut_off_is_refused_or_read_right(length: int) -> None:
    """Nowhere does a part of a path pass for the path."""
    try:
        found = mounts.parse(SERVER[:length])
    except ValueError:
        return
    assert found == mounts.parse(SERVER)[: len(found)]


@given(st.binary(max_size=200))
def test_garbage_is_a_value_error(content: bytes) -> None:
    """And no other."""
    try:
        found = mounts.parse(content)
    except ValueError:
        return
    assert found == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_this_machine_s_mounts_are_all_there() -> None:
    """Each line of the file is a mount, and the root is among them."""
    content = Path("/proc/self/mountinfo").read_bytes()
    found = mounts.parse(content)
    assert len(found) == content.count(b"\n")
    assert "/" in {mount.point for mount in found}
