# SPDX-License-Identifier: Apache-2.0
"""Trees of /proc and /sys as container runtimes, Kubernetes, Slurm and systemd leave them; each is one text file.

`tests/data/cgroup/*.txtar` are in the format of https://pkg.go.dev/golang.org/x/tools/txtar: a line ``-- path --``, then
the file's text. Layouts and formats are the kernel's and the runtimes'; figures are chosen to be told apart.
"""

from __future__ import annotations

import re
from pathlib import Path

_DATA = Path(__file__).parent / "data" / "cgroup"

NAMES = sorted(path.stem for path in _DATA.glob("*.txtar"))
"""Every tree."""

DISKS = {"259:0": "nvme0n1", "8:0": "sda", "7:1": "loop1"}
"""What /sys/dev/block has in every tree: links, which a text file does not hold."""


def files(name: str) -> dict[str, str]:
    """A tree's files by their path below its root."""
    _, *parts = re.split(r"^-- (.+) --\n", (_DATA / f"{name}.txtar").read_text(), flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def unpack(name: str, root: Path) -> str:
    """Lay a tree out below ``root``; gives the root as sources take it."""
    for path, text in files(name).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    blocks = root / "sys/dev/block"
    blocks.mkdir(parents=True)
    for number, disk in DISKS.items():
        (blocks / number).symlink_to(f"../../devices/virtual/block/{disk}")
    return str(root)
