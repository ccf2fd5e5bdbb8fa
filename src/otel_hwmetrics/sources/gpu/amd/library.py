# SPDX-License-Identifier: Apache-2.0
"""amdsmi, AMD's own library: how it is loaded without noise, and how it is asked; the only file that knows its name.

The package on the registry is a binding for a ROCm of the same version that must be on the machine. Where the library
behind it is missing, importing it prints to the job's output and raises `KeyError`, so it is looked for first
(https://github.com/ROCm/amdsmi, ``py-interface/amdsmi_wrapper.py``). Answers changed from release to release; what is
known of 5.7 to 7.0 is read here.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from otel_hwmetrics import forks, redaction
from otel_hwmetrics.sources.base import SourceUnavailable, Unsupported
from otel_hwmetrics.sources.gpu.amd.device import Gpu
from otel_hwmetrics.sources.gpu.amd.sysfs import Address

_logger = redaction.logger(__name__)

_NAME: Final = "amdsmi"
_SHARED_OBJECT: Final = "libamd_smi.so"

_FOREVER: Final = frozenset({2, 3, 5})
# AMDSMI_STATUS_NOT_SUPPORTED, _NOT_YET_IMPLEMENTED, _FAIL_LOAD_SYMBOL of amdsmi.h; the same in all releases.


def load(environ: Mapping[str, str]) -> Any:
    """The module, ready to be asked.

    Raises:
        SourceUnavailable: It is not installed, ROCm is not, or the two do not fit, or the driver does not answer.
    """
    smi = _module(environ)
    try:
        smi.amdsmi_init()
    except (smi.AmdSmiException, OSError) as error:
        raise SourceUnavailable("amd", f"amdsmi does not start: {_line(error)}", "does amd-smi work here?") from error
    # It is never shut down: it does not count its users, and PyTorch for ROCm is another one in the same process.
    return smi


def _module(environ: Mapping[str, str]) -> Any:
    if _NAME not in sys.modules:
        if importlib.util.find_spec(_NAME) is None:
            raise SourceUnavailable("amd", "amdsmi is not installed", "install the amdsmi of the version of ROCm")
        if not _is_here(environ):
            remedy = "install ROCm's amd-smi-lib, or set ROCM_PATH"
            raise SourceUnavailable("amd", f"{_SHARED_OBJECT} is not found", remedy)
    try:
        with forks.importing:
            smi = importlib.import_module(_NAME)
    except (ImportError, OSError, KeyError, AttributeError) as error:
        # A symbol that the binding wants and the library lacks is an AttributeError.
        raise SourceUnavailable(
            "amd", f"amdsmi cannot be imported: {_line(error)}", "install the amdsmi of the version of ROCm"
        ) from error
    if not all(hasattr(smi, name) for name in ("amdsmi_init", "AmdSmiException", "AmdSmiLibraryException")):
        raise SourceUnavailable(
            "amd",
            f"the module amdsmi at {getattr(smi, '__file__', '?')} is not ROCm's",
            "pip uninstall amdsmi; install the amdsmi of the version of ROCm",
        )
    return smi


def _is_here(environ: Mapping[str, str]) -> bool:
    """Whether the library can be loaded from where the binding looks for it."""
    spec = importlib.util.find_spec(_NAME)
    rocm = environ.get("ROCM_HOME") or environ.get("ROCM_PATH") or "/opt/rocm"
    beside = os.path.dirname(spec.origin) if spec is not None and spec.origin else ""
    for path in (os.path.join(rocm, "lib", _SHARED_OBJECT), _SHARED_OBJECT, os.path.join(beside, _SHARED_OBJECT)):
        try:
            ctypes.CDLL(path)
        except OSError:
            continue
        return True
    # ROCm from wheels has its libraries elsewhere and tells its binding where.
    return importlib.util.find_spec("rocm_sdk") is not None


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


class Handle(NamedTuple):
    """A GPU as the library knows it; what it does not tell is empty or None."""

    handle: Any
    address: Address | None
    uuid: str
    model: str
    driver_version: str | None


def handles(smi: Any) -> Iterator[Handle]:
    """The library's GPUs, in its order.

    Raises:
        SourceUnavailable: It does not list them.
    """
    try:
        found = list(smi.amdsmi_get_processor_handles())
    except (smi.AmdSmiException, OSError) as error:
        raise SourceUnavailable("amd", f"amdsmi lists no GPUs: {_line(error)}", "does amd-smi work here?") from error
    for handle in found:
        yield Handle(
            handle,
            Address.parse(_text(smi, "amdsmi_get_gpu_device_bdf", handle)),
            _text(smi, "amdsmi_get_gpu_device_uuid", handle),
            _text(smi, "amdsmi_get_gpu_asic_info", handle, "market_name"),
            _text(smi, "amdsmi_get_gpu_driver_info", handle, "driver_version") or None,
        )


def _text(smi: Any, function: str, handle: Any, key: str = "") -> str:
    """One of the texts that tell which GPU it is; empty where there is none."""
    try:
        answer = getattr(smi, function)(handle)
    except (smi.AmdSmiException, OSError, ValueError, AttributeError) as error:
        # Asked for here, not by whatever thread a log handler formats on.
        _logger.debug("%s: %s", function, _line(error))
        return ""
    if key:
        answer = answer.get(key) if isinstance(answer, Mapping) else None
    return answer.strip() if isinstance(answer, str) and answer.strip() != "N/A" else ""


def ask(gpu: Gpu, function: str, *arguments: Any) -> Any:
    """What one of the library's functions says of a GPU.

    Raises:
        Unsupported: There is no library, or this release or this GPU has no such thing.
        AmdSmiException: It fails for another reason.
    """
    call = getattr(gpu.smi, function, None)
    if call is None:
        raise Unsupported
    try:
        return call(gpu.handle, *arguments)
    except gpu.smi.AmdSmiLibraryException as error:
        if getattr(error, "err_code", None) in _FOREVER:
            raise Unsupported from error
        raise


def answers(gpu: Gpu, function: str, *arguments: Any) -> Mapping[str, Any]:
    """Likewise of a function that answers several things, asked once a look.

    Raises:
        Unsupported: As above.
        AmdSmiException: As above.
        ValueError: It answers something else.
    """
    answer = gpu.once((function, *arguments), lambda: ask(gpu, function, *arguments))
    if not isinstance(answer, Mapping):
        raise ValueError(f"{function} answers {type(answer).__name__}")  # noqa: TRY004 - the library's fault
    return answer


def constant(gpu: Gpu, enumeration: str, name: str) -> Any:
    """A member of one of the library's enumerations.

    Raises:
        Unsupported: There is no library, or this release has no such member.
    """
    member = getattr(getattr(gpu.smi, enumeration, None), name, None)
    if member is None:
        raise Unsupported
    return member
