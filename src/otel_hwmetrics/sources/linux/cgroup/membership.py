# SPDX-License-Identifier: Apache-2.0
"""Where the cgroups of a process are in the file system, as far as it can see them.

``/proc/<pid>/cgroup`` has the path within each hierarchy, ``/proc/self/mountinfo`` which part of a hierarchy is mounted
where (cgroups(7), proc_pid_mountinfo(5)). A container sees its own cgroup at the mount point, because the runtime
bind-mounts it there (version 1) or gave it a cgroup namespace (version 2), so the mount's root is cut off the path.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from otel_hwmetrics.sources.linux.files import KernelFile

UNIFIED = ""
"""The key of version 2's only hierarchy, which ``/proc/<pid>/cgroup`` lists with no controllers."""


@dataclass(frozen=True)
class Cgroup:
    """One cgroup of a process.

    Attributes:
        version: 1 or 2.
        mount: The directory where its hierarchy, or a part of it, is mounted.
        path: What leads from there to it; empty for the mount's own directory.
        is_root: Whether it is the root of the machine's hierarchy, which holds the machine and limits nothing.
    """

    version: int
    mount: str
    path: str
    is_root: bool = False

    @property
    def directory(self) -> str:
        """Where its files are."""
        return self.mount + self.path

    @property
    def lineage(self) -> tuple[Cgroup, ...]:
        """It and the cgroups above it, as far as they are mounted; each holds all that those before it hold."""
        above = [self]
        while above[-1].path:
            above.append(Cgroup(self.version, self.mount, above[-1].path.rpartition("/")[0]))
        return tuple(above)


@dataclass(frozen=True)
class Membership:
    """The cgroups of a process.

    Attributes:
        unified: In version 2's hierarchy, if that is mounted and can be seen.
        legacy: In version 1's, by controller; None where that cannot be seen.
    """

    unified: Cgroup | None = None
    legacy: Mapping[str, Cgroup | None] = field(default_factory=dict)

    def of(self, controller: str) -> Cgroup | None:
        """The cgroup whose files tell of a controller; None when there is none but the machine's root.

        A hybrid system has each controller in one of the two versions. Version 2 tells CPU time even without the
        controller, but of a cgroup that need not hold the same processes, so it does not stand in for version 1.
        """
        cgroup = self.legacy.get(controller, self.unified)
        return cgroup if cgroup is not None and not cgroup.is_root else None

    def hides(self, controller: str) -> bool:
        """Whether there may be a cgroup that tells of a controller, and that cannot be seen."""
        return self.legacy.get(controller, self.unified) is None

    @property
    def _visible(self) -> list[Cgroup]:
        return [cgroup for cgroup in (self.unified, *self.legacy.values()) if cgroup is not None]

    @property
    def is_visible(self) -> bool:
        """Whether any cgroup can be seen at all."""
        return bool(self._visible)

    @property
    def is_root(self) -> bool:
        """Whether there is none but the machine's root."""
        return all(cgroup.is_root for cgroup in self._visible)


class Mount(NamedTuple):
    """One mount of a cgroup hierarchy."""

    version: int
    controllers: frozenset[str]
    root: str
    point: str


def content(path: str) -> bytes:
    """A file that is read too rarely to keep it open.

    Raises:
        OSError: It cannot be read.
    """
    file = KernelFile(path, records=True)
    try:
        return file.read()
    finally:
        file.close()


def parse_membership(text: bytes) -> dict[str, str]:
    """The path within each hierarchy, by controller, from ``/proc/<pid>/cgroup``; what is no line of it is passed over."""
    paths: dict[str, str] = {}
    for line in text.split(b"\n")[:-1]:
        number, *rest = line.split(b":", 2)
        if len(rest) == 2 and number.isdigit() and rest[1].startswith(b"/"):  # noqa: PLR2004 - controllers, path
            for controller in rest[0].decode("ascii", "replace").split(","):
                paths[controller] = os.fsdecode(rest[1])
    return paths


def parse_mounts(text: bytes) -> list[Mount]:
    """The mounts of cgroup hierarchies, from ``/proc/self/mountinfo``; what is no line of it is passed over."""
    mounts = []
    for line in text.split(b"\n")[:-1]:
        # Optional fields end with a lone hyphen; the type of the file system and its own options come behind it.
        before, _, after = line.partition(b" - ")
        place, kind = before.split(b" "), after.split(b" ")
        if len(place) > 4 and len(kind) > 2 and kind[0] in (b"cgroup", b"cgroup2"):  # noqa: PLR2004
            mounts.append(
                Mount(
                    2 if kind[0] == b"cgroup2" else 1,
                    frozenset(kind[2].decode("ascii", "replace").split(",")),
                    _unescaped(place[3]),
                    _unescaped(place[4]),
                )
            )
    return mounts


def _unescaped(text: bytes) -> str:
    """Spaces, tabs, line ends and backslashes of a path are octal in mountinfo."""
    return os.fsdecode(re.sub(rb"\\([0-3][0-7]{2})", lambda found: bytes([int(found[1], 8)]), text))


def find(root: str = "", pid: int | None = None) -> Membership:
    """The cgroups of a process.

    Args:
        root: Put before every absolute path; a captured tree's directory.
        pid: Which process; this one by default.

    Raises:
        OSError: /proc does not tell; there is no such process.
    """
    paths = parse_membership(content(f"{root}/proc/{'self' if pid is None else pid}/cgroup"))
    mounts = parse_mounts(content(f"{root}/proc/self/mountinfo"))
    legacy: dict[str, Cgroup | None] = {}
    unified = None
    for controller, path in paths.items():
        if controller == UNIFIED:
            unified = _placed(root, path, (mount for mount in mounts if mount.version == 2))  # noqa: PLR2004
        else:
            legacy[controller] = _placed(
                root, path, (mount for mount in mounts if mount.version == 1 and controller in mount.controllers)
            )
    return Membership(unified, legacy)


def _placed(root: str, path: str, mounts: Iterable[Mount]) -> Cgroup | None:
    """Where a cgroup can be seen; of several places that from which most of those above it can be seen, too."""
    best: Cgroup | None = None
    for mount in mounts:
        below = _below(path, mount.root)
        if below is None or (best is not None and len(below) < len(best.path)):
            continue
        found = Cgroup(mount.version, root + mount.point.rstrip("/"), below)
        if os.path.exists(f"{found.directory}/cgroup.procs"):  # else another mount lies over it
            best = Cgroup(found.version, found.mount, below, is_root=not below and _is_machines_root(found))
    return best


def _below(path: str, mounted: str) -> str | None:
    """What leads from a mount's root to a path; None when it is not below it.

    With ``..`` in it, either is outside this process's cgroup namespace, and the names on the way are not told.
    """
    if ".." in path.split("/") or ".." in mounted.split("/"):
        return None
    path, mounted = path.rstrip("/"), mounted.rstrip("/")
    if path != mounted and not path.startswith(mounted + "/"):
        return None
    return path[len(mounted) :]


def _is_machines_root(cgroup: Cgroup) -> bool:
    """Whether a mount's own directory is the machine's root, or the root of a container's namespace.

    Both are called ``/``. Version 2's root lacks ``cgroup.type`` and ``cgroup.events``; version 1's alone has
    ``release_agent`` and ``cgroup.sane_behavior``.
    """
    names = ("cgroup.type", "cgroup.events") if cgroup.version != 1 else ("release_agent", "cgroup.sane_behavior")
    has_any = any(os.path.exists(f"{cgroup.directory}/{name}") for name in names)
    return has_any == (cgroup.version == 1)
