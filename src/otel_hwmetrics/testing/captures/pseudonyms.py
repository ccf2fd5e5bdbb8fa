# SPDX-License-Identifier: Apache-2.0
"""What identifies a machine or a person, replaced by what only tells one from another.

Captures go into bug reports. So texts are kept only where they are known to name a product or a version; any other
becomes a pseudonym, and so do process ids and PCI addresses. A pseudonym is a number in order of appearance: nothing
can be computed back from it, and what was the same stays the same.
"""

from __future__ import annotations

import os
import re
from typing import Final

from otel_hwmetrics.testing.captures.layouts import Plain

SELF: Final = "self"
"""Stands for the id of the recording process; at replay, for that of the replaying one."""

# Functions that answer a text which every machine of the kind answers alike.
_PUBLIC_FUNCTIONS: Final = frozenset(
    {
        "nvmlDeviceGetBoardPartNumber",
        "nvmlDeviceGetCurrentClockFreqs",
        "nvmlDeviceGetGpuInstanceProfileInfoV",
        "nvmlDeviceGetGspFirmwareVersion",
        "nvmlDeviceGetInforomImageVersion",
        "nvmlDeviceGetInforomVersion",
        "nvmlDeviceGetName",
        "nvmlDeviceGetPerformanceModes",
        "nvmlDeviceGetVbiosVersion",
        "nvmlGpuInstanceGetComputeInstanceProfileInfoV",
        "nvmlSystemGetDriverBranch",
        "nvmlSystemGetDriverVersion",
        "nvmlSystemGetNVMLVersion",
    }
)
# Fields of structs of which the same is true. `bwModes` and its like are bytes and no text.
_PUBLIC_FIELDS: Final = frozenset(
    {"firmwareVersion", "shortName", "longName", "unit", "bwModes", "branch", "productName"}
)
_PID_FIELDS: Final = frozenset({"pid"})
# Functions that take the process id as a number: at which place among the inputs that follow the device.
_PID_INPUTS: Final = {"nvmlSystemGetProcessName": 0, "nvmlDeviceGetAccountingStats": 0}
# Where in its rack a machine stands.
_PLACES: Final = frozenset(
    {"chassisPhysicalSlotNumber", "computeSlotIndex", "hostId", "nodeIndex", "slotNumber", "trayIndex"}
)
# Functions that answer a bare number which follows from the serial number or the PCI address.
_PRIVATE_NUMBERS: Final = frozenset({"nvmlDeviceGetBoardId", "nvmlDeviceGetPdi"})
# Functions that answer a bare array of process ids.
PID_LISTS: Final = frozenset({"nvmlDeviceGetAccountingPids", "nvmlVgpuInstanceGetAccountingPids"})

_UUID: Final = re.compile(
    r"(?P<kind>GPU-|MIG-|MIG-GPU-|)[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}(?P<rest>(/\d+)*)"
)
_PCI: Final = re.compile(
    r"(?P<domain>[0-9a-fA-F]{4,8}):(?P<bus>[0-9a-fA-F]{2}):(?P<device>[0-9a-fA-F]{2})(?P<rest>\.\d)?"
)
_PCI_NUMBERS: Final = ("domain", "bus", "device")

_FIRST_PID: Final = 1001


class Pseudonyms:
    """Gives each name one pseudonym. Not for use from several threads at once.

    Args:
        keep: Keep everything as it is.
    """

    def __init__(self, *, keep: bool = False) -> None:
        self.keep = keep
        self._seen: dict[str, dict[object, int]] = {}

    def text(self, function: str, field: str | None, text: str) -> str:
        """Return what to write for a text.

        Args:
            function: The C function that took or gave it.
            field: The field of the struct it is in, None if it is not in one.
            text: The text.
        """
        if self.keep or not text or function in _PUBLIC_FUNCTIONS or field in _PUBLIC_FIELDS:
            return text
        if uuid := _UUID.fullmatch(text):
            # Upper and lower case name the same GPU.
            number = self._number("uuid", uuid.group(0).lower().removeprefix("mig-").removeprefix("gpu-"))
            return f"{uuid['kind']}00000000-0000-4000-8000-{number:012x}{uuid['rest']}"
        if pci := _PCI.fullmatch(text):
            bus = self._bus(*(int(pci[name], 16) for name in _PCI_NUMBERS))
            return f"{0:0{len(pci['domain'])}x}:{bus:02X}:00{pci['rest'] or ''}"
        number = self._number("text", text)
        # Bytes are written as hexadecimal digits, and stay bytes.
        if re.fullmatch(r"([0-9a-f]{2})+", text) and field is not None:
            return f"{number:0{len(text)}x}"[-len(text) :]
        return f"anonymous-{number}"

    def number(self, function: str, field: str | None, number: int) -> int | str:
        """Return what to write for a whole number that the driver gave."""
        if field in _PID_FIELDS:
            return self.pid(number)
        if self.keep:
            return number
        if function in _PRIVATE_NUMBERS and field in (None, "value"):
            return self._number(function, number)
        return 0 if field in _PLACES else number

    def pid(self, pid: int) -> int | str:
        """Return what to write for a process id; the recording process is `self` in any case."""
        if pid == os.getpid():
            return SELF
        # 0 and all ones are no processes.
        return pid if self.keep or pid in (0, 2**32 - 1) else _FIRST_PID - 1 + self._number("pid", pid)

    def struct(self, plain: dict[str, Plain]) -> dict[str, Plain]:
        """Replace a PCI address that is written as numbers, in the way of the one that is written as text."""
        address = [plain.get(name) for name in _PCI_NUMBERS]
        if not self.keep and all(isinstance(number, int) for number in address):
            plain.update({"domain": 0, "bus": self._bus(*address), "device": 0})
        return plain

    def inputs(self, function: str, asked: list[Plain]) -> list[Plain]:
        """Replace the process id that a function takes, where it takes one."""
        place = _PID_INPUTS.get(function)
        if place is not None and place < len(asked) and isinstance(asked[place], int):
            asked[place] = self.pid(asked[place])  # type: ignore[arg-type]
        return asked

    def _bus(self, *address: object) -> int:
        return self._number("pci", address)

    def _number(self, kind: str, name: object) -> int:
        seen = self._seen.setdefault(kind, {})
        return seen.setdefault(name, len(seen) + 1)
