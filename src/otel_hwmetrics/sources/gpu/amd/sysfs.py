# SPDX-License-Identifier: Apache-2.0
"""The files that Linux's amdgpu driver shows of a GPU: where they are, and what is written in them.

Files are listed once, and those that are there are read; those that are read at every look are kept open.
``pcie_bw`` is never read: the driver sleeps for a second over it.
https://docs.kernel.org/gpu/amdgpu/thermal.html, https://docs.kernel.org/gpu/amdgpu/driver-misc.html
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from otel_hwmetrics.descriptors import opened
from otel_hwmetrics.sources.base import Unsupported
from otel_hwmetrics.sources.linux.files import KernelFile

VENDOR: Final = b"0x1002"
"""AMD's (ATI's) PCI vendor id; that of AMD's CPUs and bridges is another."""

_GONE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENODEV})
_FOREVER: Final = frozenset({errno.EOPNOTSUPP, errno.ENOSYS})
# What the driver answers for a sensor that this model has not got; all else (reset, asleep, no permission) may pass.
_PAGE_SIZE: Final = 4096
_CHUNK: Final = 65536
_ASLEEP: Final = "power/runtime_status"
_EVERY_LOOK: Final = re.compile(
    r"gpu_busy_percent|mem_busy_percent|mem_info_vram_used|gpu_metrics|(?:temp|power)[0-9]+_(?:input|average)|"
    + _ASLEEP
)
# Files that are kept open; the others are read too rarely to hold a descriptor each.
_OF_THE_DRIVER: Final = frozenset({"hwmon", "mem_info_vram_total", "gpu_metrics"})
# Files that are there while the driver is; the others PCI has without it.

_INTEGER: Final = re.compile(rb"-?[0-9]{1,20}")
_HEX: Final = re.compile(rb"(?:0x)?([0-9a-fA-F]{1,16})")
_SPEED: Final = re.compile(rb"([0-9]{1,3}(?:\.[0-9])?) GT/s\b")
_LEVEL: Final = re.compile(rb"\s*[0-9]{1,3}:\s*([0-9]{1,6})Mhz\b", re.IGNORECASE)
_ERRORS: Final = re.compile(rb"(ue|ce|de):\s*([0-9]{1,20})")
_PAGE: Final = re.compile(rb"0x[0-9a-fA-F]+ : 0x[0-9a-fA-F]+ : ([RPF])")
_GENERATIONS: Final = {2.5: 1, 5.0: 2, 8.0: 3, 16.0: 4, 32.0: 5, 64.0: 6}


class Address(NamedTuple):
    """Where a GPU is on PCI."""

    domain: int
    bus: int
    device: int
    function: int

    @classmethod
    def parse(cls, text: str) -> Address | None:
        """From ``0000:c1:00.0``; None for anything else."""
        match = re.fullmatch(r"([0-9a-f]{4,8}):([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])", text.strip().lower())
        return cls(*(int(part, 16) for part in match.groups())) if match else None

    def __str__(self) -> str:
        return f"{self.domain:04x}:{self.bus:02x}:{self.device:02x}.{self.function:x}"


@contextmanager
def _forever() -> Iterator[None]:
    """Makes an error that will not go away `Unsupported`."""
    try:
        yield
    except OSError as error:
        if error.errno in _FOREVER:
            raise Unsupported from error
        raise


def read(path: str, most: int = 1 << 20) -> bytes:
    """A file's content, or the first bytes of it.

    Raises:
        Unsupported: The driver says that this model has no such thing.
        OSError: It cannot be read now.
    """
    with _forever():
        descriptor = opened(path, os.O_RDONLY)
        try:
            content = part = os.read(descriptor, min(most, _CHUNK))
            # Text of a sensor comes whole; lists longer than a page come in pieces.
            while len(part) >= _PAGE_SIZE and len(content) < most:
                part = os.read(descriptor, _CHUNK)
                content += part
        finally:
            os.close(descriptor)
    return content


def _names(path: str) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except OSError:
        return []


def _content(path: str) -> bytes:
    """Likewise, empty where there is none."""
    try:
        return read(path).strip()
    except (OSError, Unsupported):
        return b""


class Card:
    """The files of one GPU.

    Attributes:
        path: Its PCI device, as the kernel's own path, which outlives a reload of the driver.
        address: Where it is on PCI; None if its path does not tell.
        stale: Whether a file was missed that had been there: the driver was reloaded, and its sensors have new numbers.
    """

    def __init__(self, device: str) -> None:
        self.path = os.path.realpath(device)
        self.address = Address.parse(os.path.basename(self.path))
        self.stale = False
        self._open: dict[str, KernelFile] = {}
        self._files: set[str] = set()
        self._hwmon = ""
        self._sensors: set[str] = set()
        self._labels: dict[str, str] = {}
        self.look()

    def close(self) -> None:
        """Let go of the files that are kept open; a later read opens them again."""
        for file in self._open.values():
            file.close()
        self._open.clear()

    def look(self) -> None:
        """List what there is, when the GPU is met and whenever its driver comes back; until then nothing changes."""
        files = set(_names(self.path))
        hwmon = os.path.join(self.path, "hwmon")
        found = [name for name in _names(hwmon) if name.startswith("hwmon")]
        if not self._files & _OF_THE_DRIVER <= files or (self._hwmon and not found):
            return
        self.close()
        self.stale = False
        self._files = files
        self._hwmon = os.path.join(hwmon, found[0]) if found else ""
        self._sensors = set(_names(self._hwmon)) if found else set()
        self._labels = {
            _content(os.path.join(self._hwmon, name)).decode("ascii", "replace"): name.removesuffix("_label")
            for name in sorted(self._sensors)
            if name.endswith("_label")
        }

    def has(self, name: str) -> bool:
        """Whether the GPU has this file."""
        return name in self._files

    def inside(self, folder: str, ending: str) -> tuple[str, ...]:
        """Its files of one folder whose names end so, by the names that `file` takes."""
        names = _names(os.path.join(self.path, folder)) if self.has(folder) else []
        return tuple(f"{folder}/{name}" for name in names if name.endswith(ending))

    def file(self, name: str) -> bytes:
        """The content of one of its files, by its name.

        Raises:
            Unsupported: This GPU has no such file.
            OSError: It cannot be read now.
        """
        if not self.has(name.split("/", maxsplit=1)[0]):
            raise Unsupported
        return self._read(self.path, name)

    def sensor(self, name: str) -> bytes:
        """The content of one of its sensors' files, by the name that it has under hwmon.

        Raises:
            Unsupported: This GPU has no such sensor.
            OSError: It cannot be read now.
        """
        if name not in self._sensors:
            raise Unsupported
        return self._read(self._hwmon, name)

    def labelled(self, label: str, suffix: str) -> bytes:
        """Likewise by the label that the driver gives the sensor: ``junction`` and ``_input``.

        Raises:
            Unsupported: This GPU has no such sensor.
            OSError: It cannot be read now.
        """
        if label not in self._labels:
            raise Unsupported
        return self.sensor(self._labels[label] + suffix)

    def _read(self, folder: str, name: str) -> bytes:
        path = os.path.join(folder, name)
        try:
            if not _EVERY_LOOK.fullmatch(name):
                return read(path)
            if path not in self._open:
                self._open[path] = KernelFile(path)
            with _forever():
                return self._open[path].read()
        except OSError as error:
            self.stale = self.stale or error.errno in _GONE
            raise

    @property
    def asleep(self) -> bool:
        """Whether the driver has switched an idle GPU off; to read it would wake it."""
        try:
            return self.file(_ASLEEP).strip() in {b"suspended", b"suspending"}
        except (OSError, Unsupported):
            return False

    @property
    def link(self) -> str:
        """The device at the slot's end of the link.

        A GPU may sit behind a switch of its own, whose inner link is always at its best.
        """
        top, above = self.path, os.path.dirname(self.path)
        while _content(os.path.join(above, "vendor")) == VENDOR:
            top, above = above, os.path.dirname(above)
        return top

    @property
    def unique_id(self) -> str:
        """What ROCm calls it, ``GPU-`` and 16 hexadecimal digits; empty for models without, and those all zero."""
        match = _HEX.fullmatch(_content(os.path.join(self.path, "unique_id")))
        serial = int(match[1], 16) if match else 0
        return f"GPU-{serial:016x}" if serial else ""

    def model(self, names: str) -> str:
        """What the board says that it is, else what libdrm's list of models says, else the id of its kind.

        Args:
            names: That list, with lines such as ``73BF, C1, AMD Radeon RX 6800 XT``.
        """
        told = _content(os.path.join(self.path, "product_name")).decode("utf-8", "replace")
        if told:
            return told
        texts = (_content(os.path.join(self.path, name)).decode("ascii", "replace") for name in ("device", "revision"))
        device, revision = (text.removeprefix("0x").upper() for text in texts)
        for line in _content(names).decode("utf-8", "replace").splitlines():
            parts = [part.strip() for part in line.split(",", maxsplit=2)]
            if parts[:2] == [device, revision] and parts[2:]:
                return parts[2]
        return f"AMD GPU {device}".rstrip()


def cards(root: str) -> Iterator[Card]:
    """AMD's GPUs in the order of their PCI addresses, which is the order of AMD's own tools.

    Merely to look costs a listing of /sys/class/drm and a read for each card in it.
    """
    found = set()
    drm = os.path.join(root, "class", "drm")
    for name in _names(drm):
        device = os.path.join(drm, name, "device")
        if re.fullmatch(r"card[0-9]+", name) and _content(os.path.join(device, "vendor")) == VENDOR:
            # Parts of a divided GPU have cards of their own on the same device.
            found.add(os.path.realpath(device))
    yield from sorted(map(Card, found), key=lambda card: (card.address is None, card.address or (), card.path))


def integer(content: bytes, what: str) -> int:
    """A file that is one number.

    Raises:
        ValueError: It is not.
    """
    text = content.strip()
    if not _INTEGER.fullmatch(text):
        raise ValueError(f"{text[:32]!r} is no number for {what}")
    return int(text)


def generation(content: bytes) -> int:
    """The PCIe generation of a link's speed (``16.0 GT/s PCIe``).

    Raises:
        Unsupported: The kernel does not know the speed, as of a virtual function.
        ValueError: It is no speed.
    """
    if content.strip().lower().startswith(b"unknown"):
        raise Unsupported
    match = _SPEED.match(content.strip())
    if not match or float(match[1]) not in _GENERATIONS:
        raise ValueError(f"{content[:32]!r} is no speed of a PCIe link")
    return _GENERATIONS[float(match[1])]


def highest_megahertz(content: bytes) -> int:
    """The highest clock of a table of levels (``2: 2482Mhz *``).

    Raises:
        ValueError: There is no level.
    """
    levels = [int(match[1]) for match in map(_LEVEL.match, content.splitlines()) if match]
    if not levels:
        raise ValueError(f"{content[:32]!r} has no clock")
    return max(levels)


def errors(content: bytes) -> dict[str, int]:
    """The counts of one block's file below ``ras``: ``ue`` uncorrectable, ``ce`` correctable, ``de`` deferred.

    Raises:
        ValueError: There is no count, as while the GPU is being reset.
    """
    counts = {match[1].decode(): int(match[2]) for match in map(_ERRORS.fullmatch, content.splitlines()) if match}
    if not counts:
        raise ValueError(f"{content[:32]!r} has no count of errors")
    return counts


def bad_pages(content: bytes) -> dict[str, int]:
    """How many pages of memory are out of use (``R``), will be (``P``), or could not be taken out (``F``).

    Raises:
        ValueError: A line is none of these.
    """
    counts = {"R": 0, "P": 0, "F": 0}
    for line in content.splitlines():
        match = _PAGE.fullmatch(line.strip(b" \t\r\0"))
        if match is None:
            raise ValueError(f"{line[:40]!r} is no bad page")
        counts[match[1].decode()] += 1
    return counts
