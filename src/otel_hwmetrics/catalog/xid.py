# SPDX-License-Identifier: Apache-2.0
"""XID errors: what NVIDIA's driver says by number when something went wrong with a GPU, and what to do about it.

In our own words after NVIDIA's catalogs: https://docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html for Ampere
and newer, https://docs.nvidia.com/deploy/xid-errors/archive/index.html for what only older boards say. Codes that
neither uses are not listed. Two rules hold for every row, and are tested:

- *critical* is what takes the GPU out of service: it has to be reset, or its node rebooted, before it can be trusted;
- what is usually the job's own fault is never critical, however often it comes: codes 13, 31, 43 and 45 come with every
  out-of-bounds access and every Ctrl-C.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final


class Severity(str, Enum):
    """How bad it is for who trains on the GPU."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class Recovery(str, Enum):
    """What it takes before the GPU works again as it did, at least."""

    NOTHING = "nothing"
    RESTART = "restart"
    """of the job"""
    RESET = "reset"
    """of the GPU, for which nothing may run on it"""
    REBOOT = "reboot"
    """of the node, or of the virtual machine"""


@dataclass(frozen=True)
class Xid:
    """One code.

    Attributes:
        code: NVIDIA's number.
        name: A few words.
        meaning: What happened, in one sentence.
        severity: How bad it is.
        advice: What to do, in one sentence.
        recovery: What it takes before the GPU works again.
        application: Whether it is usually the job's own fault.
        hardware: Whether the hardware (board, memory, link, power) is to be checked, and replaced if it comes again.
        gone: Whether the GPU cannot be reached any more.
    """

    code: int
    name: str
    meaning: str
    severity: Severity
    advice: str
    recovery: Recovery = Recovery.NOTHING
    application: bool = False
    hardware: bool = False
    gone: bool = False


UNKNOWN: Final = 999
"""What NVML tells instead of a code that it does not know (nvmlEventData_t in nvml.h)."""

_DEBUG: Final = "Run the job under compute-sanitizer, or with CUDA_LAUNCH_BLOCKING=1, to find the call that did it."
_NO_MATTER: Final = "Nothing has to be done."
_AGAIN: Final = "Run the job again, and report it to the vendor with nvidia-bug-report.sh if it comes back."
_RESET: Final = "Take the jobs off the GPU and reset it, and have it checked if it comes back."
_REPLACE: Final = "Take the jobs off the GPU and reset it, and have the board replaced if it comes back."
_DISPLAY: Final = "It matters for displays and not for compute, so update the driver if a display is in use."
_FABRIC: Final = "See the kernel log for the link, whether it was fatal, and whether XID 154 asks for a reset."
_OFTEN: Final = "Let the job go on, and report it to the vendor with nvidia-bug-report.sh if it comes often."
_BOARD: Final = "Let the job go on, and have the board checked by its vendor."
_KERNEL_LOG: Final = "See the kernel log (dmesg) for the line with NVRM: Xid, and NVIDIA's XID catalog for the code."
_LINK: Final = "Check the PCIe error counters and the seating of the board, and run the job again."
_STORAGE: Final = "Update the driver and the board's firmware, and have the board checked if it comes back."


def _job(code: int, name: str, meaning: str, advice: str = _DEBUG) -> Xid:
    """Usually the job's own fault, and its end."""
    return Xid(code, name, meaning, Severity.WARNING, advice, Recovery.RESTART, application=True)


def _fault(code: int, name: str, meaning: str, advice: str = _AGAIN, *, hardware: bool = False) -> Xid:
    """The end of a job; the GPU goes on."""
    return Xid(code, name, meaning, Severity.WARNING, advice, Recovery.RESTART, hardware=hardware)


def _engine(code: int, name: str) -> Xid:
    return _fault(code, f"{name} fault", f"The {name} failed at its work, and whoever used it was stopped.")


def _lost(code: int, name: str, meaning: str, advice: str = _RESET, *, hardware: bool = False) -> Xid:
    """The GPU is out of service until it is reset."""
    return Xid(code, name, meaning, Severity.CRITICAL, advice, Recovery.RESET, hardware=hardware)


def _sign(code: int, name: str, meaning: str, advice: str = _BOARD, *, hardware: bool = False) -> Xid:
    """Nothing stops, but something is not as it should be."""
    return Xid(code, name, meaning, Severity.WARNING, advice, hardware=hardware)


def _note(code: int, name: str, meaning: str, advice: str = _NO_MATTER) -> Xid:
    """Good to know."""
    return Xid(code, name, meaning, Severity.INFO, advice)


_COPY_ENGINES: Final = (39, 40, 41, 70, 71, 72, 75, 76, 77, 85, *range(126, 136))
_DECODERS: Final = (68, 83, 84, 88, 89, 96, 97, 98)
_JPEG_ENGINES: Final = (82, *range(99, 106))
_ENCODERS: Final = (47, 65, 73, 142)
_FLOW_ENGINES: Final = (86, 139)
_NVLINK_5: Final = (
    (144, "SAW"),
    (145, "RLW"),
    (146, "TLW"),
    (147, "TREX"),
    (148, "NVLPW"),
    (149, "NETIR"),
    (150, "MSE"),
)

_ROWS: Final = (
    # Work that the GPU could not do.
    _fault(1, "bad push buffer, method", "A command of the driver or the job reached the GPU corrupted."),
    _fault(2, "bad push buffer, software method", "A command for the driver's own code reached the GPU corrupted."),
    _fault(3, "bad push buffer, unknown method", "The GPU was given a command that it does not have."),
    _fault(4, "bad push buffer, busy channel", "A command for a busy channel, or a semaphore of it, timed out."),
    _fault(6, "bad push buffer, parse error", "The GPU could not make sense of its command stream."),
    _fault(7, "bad push buffer address", "The command stream was at an address that is not mapped."),
    _fault(8, "channel idle timeout", "A channel did not become idle in time, and its work was stopped."),
    _fault(9, "bad channel state", "The driver set the GPU up in a wrong way."),
    _job(11, "bad push buffer, missing unit", "A command was for a unit that the GPU does not have."),
    _fault(12, "unhandled exception", "The driver could not handle an exception of the GPU."),
    _job(13, "graphics engine exception", "A kernel accessed memory out of bounds or executed an illegal instruction."),
    _note(14, "injected error", "A tool has sent this error as a test."),
    _fault(
        18, "bus mastering off", "The GPU may not access the host's memory, since bus mastering is disabled on PCIe."
    ),
    _fault(24, "semaphore timeout", "Work waited in vain for a semaphore of another part of the GPU."),
    _job(25, "illegal push buffer", "The command stream asked for a notification that is not allowed."),
    _fault(26, "frame buffer timeout", "The memory interface did not answer a channel in time."),
    _fault(30, "semaphore access error", "A semaphore was at an address that is not mapped."),
    _job(31, "memory page fault", "A kernel or a copy accessed an address that is not mapped on the GPU."),
    _fault(
        32,
        "bad push buffer, DMA",
        "The DMA controller between driver and GPU found its command stream corrupted, mostly by a bad PCIe link.",
        _LINK,
        hardware=True,
    ),
    _fault(33, "security engine error", "An internal micro-controller of the GPU reported an error."),
    _note(37, "unknown firmware call", "The firmware that switches contexts was asked for what it does not have."),
    _sign(38, "firmware watchdog", "The firmware that switches contexts did not answer for a while.", _OFTEN),
    Xid(
        43,
        "channel reset",
        "A job was stopped after a fault of its own, and the GPU is well.",
        Severity.INFO,
        "Look at the job's own error message, which says more than this one.",
        Recovery.RESTART,
        application=True,
    ),
    _sign(44, "context switch fault", "The graphics engine failed while it switched between two contexts.", _OFTEN),
    Xid(
        45,
        "channel cleaned up",
        "The driver cleaned up after a process that was killed or failed, as it does after Ctrl-C.",
        Severity.INFO,
        "Look for another XID of the same moment, which is the cause; without one there is nothing to do.",
        Recovery.RESTART,
        application=True,
    ),
    _lost(46, "GPU timeout", "The GPU stopped working on what it was given, and did not come back by itself."),
    _job(69, "class error", "The graphics engine was given a command or an operand that its class does not allow."),
    _fault(
        80, "corrupted data sent", "A checksum shows commands corrupted on their way to the GPU.", _LINK, hardware=True
    ),
    _lost(109, "context switch timeout", "The GPU did not switch contexts in time, so nothing else can run on it."),
    _sign(141, "fast path error", "CUDA's fast path to the GPU failed at one submission.", _OFTEN),
    _fault(159, "coherent interconnect error", "An access between CPU and GPU over the coherent link had no answer."),
    _note(160, "channel retired", "The driver took a channel that failed out of use.", _OFTEN),
    _sign(161, "channel not retired", "The driver could not take a channel that failed out of use.", _OFTEN),
    # Engines beside the graphics engine.
    *(_engine(code, f"copy engine {number}") for number, code in enumerate(_COPY_ENGINES)),
    *(_engine(code, f"video decoder {number}") for number, code in enumerate(_DECODERS)),
    *(_engine(code, f"JPEG decoder {number}") for number, code in enumerate(_JPEG_ENGINES)),
    *(_engine(code, f"video encoder {number}") for number, code in enumerate(_ENCODERS)),
    *(_engine(code, f"optical flow engine {number}") for number, code in enumerate(_FLOW_ENGINES)),
    _engine(20, "MPEG engine"),
    _engine(21, "motion estimation engine"),
    _engine(22, "video processor, by its command stream"),
    _engine(27, "video processor"),
    _engine(28, "second video processor"),
    _engine(29, "bitstream processor"),
    _engine(34, "video bitstream unit"),
    _engine(35, "video decoding unit"),
    _engine(36, "video post-processor"),
    _engine(42, "video compositor"),
    _engine(60, "security processor"),
    _engine(138, "deep learning accelerator"),
    _sign(152, "accelerator address fault", "The deep learning accelerator used a bad address.", _OFTEN),
    _sign(153, "accelerator timeout", "The deep learning accelerator did not finish in time.", _OFTEN),
    # Displays.
    *(
        _note(code, f"display {what}", f"The display hardware reported: {what}.", _DISPLAY)
        for code, what in (
            *((16, "hang"), (19, "missed notification"), (56, "channel exception"), (81, "VGA subsystem error")),
            *((111, "bundle error"), (112, "supervisor error"), (113, "link training failure"), (114, "underflow")),
            *((115, "core channel error"), (116, "window channel error"), (117, "cursor channel error")),
            (118, "pixel pipeline error"),
        )
    ),
    # Memory.
    _lost(
        48,
        "uncorrectable memory error",
        "The GPU's memory had an error of two bits or more, which cannot be corrected.",
        "Reset the GPU, and have the board checked if it comes back or code 64 comes with it.",
        hardware=True,
    ),
    _fault(57, "memory link training failure", "The GPU could not set its memory interface up.", hardware=True),
    _fault(58, "unstable memory", "The memory interface found errors in what it transferred.", hardware=True),
    _note(
        63,
        "memory repaired",
        "A failing row of memory (before Ampere, a page) was marked to be taken out of use.",
        "Reset the GPU when the job has ended, which makes the repair take effect, and watch how often it comes.",
    ),
    _lost(64, "memory repair failed", "Failing memory could not be taken out of use.", _REPLACE, hardware=True),
    _sign(92, "many corrected memory errors", "Single-bit memory errors come at a high rate.", hardware=True),
    _fault(
        94,
        "contained memory error",
        "An uncorrectable memory error was kept to the one job that used the memory.",
        "Run the job again from its checkpoint, and reset the GPU when it suits.",
        hardware=True,
    ),
    _lost(95, "uncontained memory error", "An uncorrectable memory error hit more than one job.", hardware=True),
    _lost(
        140,
        "unrecovered memory error",
        "An uncorrectable memory error escaped both containment and repair, so results may be wrong.",
        _REPLACE,
        hardware=True,
    ),
    _lost(156, "resource retired", "A failing part of the GPU was taken out of use, for which it has to be reset."),
    _sign(157, "no spare resource", "A failing part of the GPU has no spare, and may fail again.", hardware=True),
    _sign(
        168,
        "less memory than built in",
        "Errors were found in the protected part of memory while ECC is off.",
        "Turn ECC on, so that failing rows can be repaired, and reboot.",
        hardware=True,
    ),
    _lost(171, "uncorrectable DRAM error", "It says of an error 48 that it was in the DRAM.", hardware=True),
    _lost(172, "uncorrectable SRAM error", "It says of an error 48 that it was in the SRAM.", _REPLACE, hardware=True),
    # The board, its firmware and its place in the machine.
    Xid(
        54,
        "auxiliary power missing",
        "The board's auxiliary power cable is not connected.",
        Severity.CRITICAL,
        "Switch the machine off and connect the cable.",
        Recovery.REBOOT,
        hardware=True,
    ),
    _fault(59, "power controller error", "The micro-controller for power and clocks reported an error.", hardware=True),
    _fault(61, "power controller warning", "The micro-controller for power and clocks stopped at a breakpoint."),
    _lost(62, "power controller halt", "The micro-controller for power and clocks has halted.", hardware=True),
    _sign(66, "illegal register access", "Code of the driver accessed a register that it may not.", _OFTEN),
    _sign(67, "illegal access, verified", "Context switching firmware stopped an access of the driver.", _OFTEN),
    _sign(
        78,
        "vGPU start error",
        "A virtual GPU could not be started.",
        "Bring the drivers of host and guest to versions that go together.",
    ),
    Xid(
        79,
        "fallen off the bus",
        "The driver cannot reach the GPU over PCIe any more.",
        Severity.CRITICAL,
        "Reboot the node, and have power, cooling, seating and PCIe link checked before the GPU is used again.",
        Recovery.REBOOT,
        hardware=True,
        gone=True,
    ),
    _note(93, "InfoROM wear limit", "The board's own storage was not written, since its wear limit is reached."),
    _note(106, "management test", "The management controller has sent a test message."),
    _note(107, "silent management test", "The management controller has sent a silent test message."),
    _lost(
        110,
        "security fault",
        "The GPU's security hardware found a fault, which is rare without failing hardware.",
        "Undo recent changes to the machine's hardware and power it off and on, and have it checked if it comes back.",
        hardware=True,
    ),
    _lost(119, "GSP timeout", "The GPU's system processor (GSP) did not answer the driver in time."),
    _lost(120, "GSP error", "The firmware of the GPU's system processor (GSP) has crashed."),
    _sign(122, "flash read failure", "The board's flash memory could not be read.", _STORAGE, hardware=True),
    _sign(123, "flash write failure", "The board's flash memory could not be written.", _STORAGE, hardware=True),
    _sign(124, "flash erase failure", "The board's flash memory could not be erased.", _STORAGE, hardware=True),
    _sign(125, "InfoROM failure", "The file system of the board's own storage is damaged.", _STORAGE, hardware=True),
    _lost(143, "initialization error", "The GPU could not be initialized.", _REPLACE, hardware=True),
    Xid(
        151,
        "key rotation error",
        "The keys of confidential computing could not be renewed.",
        Severity.CRITICAL,
        "Restart the virtual machine.",
        Recovery.REBOOT,
    ),
    _sign(
        154,
        "recovery action changed",
        "The driver changed its mind about what has to be done before the GPU can be used again.",
        "Do what the driver asks for, which the recovery action of the GPU says, and look for the XID that caused it.",
    ),
    _lost(158, "fatal timeout", "A unit of the GPU did not answer for so long that the GPU cannot go on."),
    _note(162, "power smoothing on", "The circuit that smooths the board's power is at work again."),
    _sign(
        163,
        "power smoothing off",
        "The circuit that smooths the board's power was switched off, because of heat or a timeout.",
        "If power smoothing is wanted see to the cooling, or reset the GPU after a timeout.",
    ),
    _sign(164, "power smoothing wears out", "The circuit that smooths the board's power is near the end of its life."),
    _sign(
        165, "power smoothing worn out", "The circuit that smooths the board's power has reached the end of its life."
    ),
    _lost(167, "PCIe timeout", "A transfer over PCIe did not end, and the GPU cannot go on.", hardware=True),
    _lost(169, "security processor halt", "The micro-controller for security has halted.", hardware=True),
    # Links to other GPUs and to the CPU.
    _lost(
        74,
        "NVLink error",
        "An NVLink of this GPU failed, or the device at its other end.",
        "Look for an XID of the peer in the same moment, reset both GPUs, and have the link checked if it comes back.",
        hardware=True,
    ),
    _job(108, "NVLink translation error", "A peer accessed an address over NVLink that is not mapped there."),
    _note(
        121,
        "corrected CPU link errors",
        "Errors on the link between CPU and GPU (C2C) were corrected, without any loss.",
        "Reset the GPU when it suits, which trains the link again.",
    ),
    _lost(136, "NVLink training failure", "An NVLink could not be brought up.", hardware=True),
    _job(137, "NVLink access fault", "A peer-to-peer access over NVLink was to an address that is not allowed."),
    *(
        _fault(code, f"NVLink {unit} error", f"The {unit} unit of NVLink 5 reported an error.", _FABRIC, hardware=True)
        for code, unit in _NVLINK_5
    ),
    _lost(
        155,
        "NVLink switched off",
        "Software has taken an NVLink down, on purpose.",
        "Find out who did, the fabric manager or an administrator, and reset the GPU.",
    ),
    _fault(166, "NVLink encryption error", "Traffic came over an NVLink before its encryption was set up.", _FABRIC),
    _fault(170, "NVLink security event", "An NVLink in confidential computing mode reported a fault.", _FABRIC),
    _sign(UNKNOWN, "unknown to NVML", "The driver reported an error whose code NVML does not know.", _KERNEL_LOG),
)

XIDS: Final = {row.code: row for row in sorted(_ROWS, key=lambda row: row.code)}
"""By code."""


def describe(code: int) -> Xid:
    """What a code means; of one that is not in the table, that it is not."""
    return XIDS.get(code) or Xid(
        code, "unlisted", "The driver reported an error that this table does not have.", Severity.WARNING, _KERNEL_LOG
    )
