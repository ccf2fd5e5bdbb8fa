# SPDX-License-Identifier: Apache-2.0
"""NVML itself: the right module, its errors in the user's words, and its functions without the binding's detours."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

from otel_hwmetrics import forks
from otel_hwmetrics.sources.base import SourceUnavailable

NOT_AVAILABLE: Final = 2**64 - 1
"""NVML_VALUE_NOT_AVAILABLE as an unsigned 64-bit number: all ones (nvml.h)."""

Function = Callable[..., None]
"""A C function of NVML that raises `NVMLError` where the library returns an error."""


def _awaited() -> Iterator[forks.Awaited]:
    """The binding holds a lock while it loads the driver's library or looks a function up; a child asks it, too."""
    yield forks.Awaited(getattr(sys.modules.get("pynvml"), "libLoadLock", None))


forks.wait_for(_awaited)


def load() -> Any:
    """The module ``pynvml``, if it is NVIDIA's own.

    Raises:
        SourceUnavailable: It is not installed, or another package has taken its name.
    """
    try:
        with forks.importing:
            nvml = importlib.import_module("pynvml")
    except ImportError as error:
        raise SourceUnavailable("nvidia", "nvidia-ml-py is not installed", "pip install nvidia-ml-py") from error
    if not hasattr(nvml, "nvmlDeviceGetFieldValues"):
        raise SourceUnavailable(
            "nvidia",
            f"the module pynvml at {getattr(nvml, '__file__', '?')} is not NVIDIA's",
            "pip uninstall pynvml; pip install --force-reinstall nvidia-ml-py",
        )
    return nvml


def function(nvml: Any, name: str) -> Function:
    """The C function of that name, to be called with arguments that are made once and used again.

    The binding's own functions make new arrays for every call and ask for an array's size first: 12 µs and 2 calls where
    0.8 µs and 1 do. Its way to the library is private, and has been the same since its first release.

    Raises:
        NVMLError_FunctionNotFound: The driver's library has no such function.
    """
    call = nvml._nvmlGetFunctionPointer(name)  # noqa: SLF001 - see above

    def checked(*arguments: Any) -> None:
        code = call(*arguments)
        if code:
            raise nvml.NVMLError(code)

    return checked


def permanent(nvml: Any) -> tuple[type[Exception], ...]:
    """The errors that will not go away while the driver stays: the board or the library has no such thing."""
    return (nvml.NVMLError_NotSupported, nvml.NVMLError_FunctionNotFound)


def why_not(nvml: Any, error: Exception) -> tuple[str, str]:
    """Cause and mend, in the user's words."""
    code = getattr(error, "value", None)
    known = {
        nvml.NVML_ERROR_LIBRARY_NOT_FOUND: (
            "no NVIDIA driver here (its library libnvidia-ml.so.1 is not found)",
            "in a container, start it with the NVIDIA runtime and NVIDIA_DRIVER_CAPABILITIES=utility",
        ),
        nvml.NVML_ERROR_DRIVER_NOT_LOADED: (
            "the NVIDIA kernel driver is not loaded",
            "see dmesg; modprobe nvidia",
        ),
        nvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: (
            "NVML and the kernel driver are of different versions",
            "reboot or reload the driver after its upgrade",
        ),
        nvml.NVML_ERROR_NO_PERMISSION: (
            "no permission to talk to the NVIDIA driver",
            "check the access rights of /dev/nvidia*",
        ),
    }
    return known.get(code, (f"NVML does not start: {error}", "does nvidia-smi work here?"))


def text(value: str | bytes) -> str:
    """What the binding gives as bytes or as a string, by its version."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
