# SPDX-License-Identifier: Apache-2.0
"""Trees of /sys as kernels and drivers lay them out: one file a machine, and in it a line for each file and link.

Figures are chosen to be told apart.
"""

from __future__ import annotations

from pathlib import Path

_DATA = Path(__file__).parent / "data" / "sys"


def unpack(machine: str, root: Path) -> str:
    """Lay the tree out below a directory, and give its path.

    Lines are ``path = content``, ``path -> target of a link``, and ``path/`` for an empty directory.
    """
    for line in (_DATA / f"{machine}.txt").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        name, link, target = line.partition(" -> ")
        if not link:
            name, _, content = line.partition(" = ")
        path = root / name
        if line.endswith("/"):
            path.mkdir(parents=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if link:
            path.symlink_to(target)
        else:
            path.write_text(f"{content}\n")
    return str(root)
