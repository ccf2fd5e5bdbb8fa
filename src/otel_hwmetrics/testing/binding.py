# SPDX-License-Identifier: Apache-2.0
"""Putting a library under the real binding, or none, and putting back what was there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator


class Library:
    """What `pynvml.nvmlLib` is while a fake is installed: an attribute per C function."""

    def __init__(self, resolve: Callable[[str], Callable[..., int | bytes]]) -> None:
        self._resolve = resolve

    def __getattr__(self, name: str) -> Callable[..., int | bytes]:
        return self._resolve(name)


@contextlib.contextmanager
def under_pynvml(library: object, load: Callable[[], None]) -> Iterator[None]:
    """Put `library` under the binding, with `load` in place of its loader, and put back what was there."""
    import pynvml

    replacements = [
        (pynvml, "nvmlLib", library),
        (pynvml, "_LoadNvmlLibrary", load),
        (pynvml, "_nvmlGetFunctionPointer_cache", {}),
        (pynvml, "_nvmlLib_refcount", 0),
        # The binding keeps the text of each error it prints; ours must not outlive us.
        (pynvml.NVMLError, "_errcode_to_string", dict(pynvml.NVMLError._errcode_to_string)),
    ]
    with pynvml.libLoadLock:
        before = [(owner, name, getattr(owner, name)) for owner, name, _ in replacements]
        for owner, name, value in replacements:
            setattr(owner, name, value)
    try:
        yield
    finally:
        with pynvml.libLoadLock:
            for owner, name, value in before:
                setattr(owner, name, value)


@contextlib.contextmanager
def without_nvml() -> Iterator[None]:
    """Make `pynvml.nvmlInit` raise `NVMLErrorLibraryNotFound`, on a machine with a driver too."""
    import pynvml

    def load() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    with under_pynvml(None, load):
        yield
