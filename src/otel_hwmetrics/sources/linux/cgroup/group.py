# SPDX-License-Identifier: Apache-2.0
"""The files of one cgroup, each read at most once a sample, however many metrics follow from it."""

from __future__ import annotations

import errno

from otel_hwmetrics.sources.linux.files import KernelFile


class Group:
    """The files of one directory, kept open. Used by one thread at a time.

    Attributes:
        directory: Where they are.
        gone: Whether the cgroup was removed while its files were open. Another may have its name by now.
    """

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.gone = False
        self._files: dict[str, KernelFile] = {}
        self._contents: dict[str, bytes | OSError] = {}

    def begin(self) -> None:
        """Begin another sample: what was read for the last one is no longer the present."""
        self._contents.clear()

    def text(self, name: str) -> bytes:
        """What a file holds at this sample.

        Raises:
            OSError: It cannot be read; asked again within the sample, it says the same.
        """
        known = self._contents.get(name)
        if known is None:
            known = self._contents[name] = self._read(name)
        if isinstance(known, OSError):
            raise known.with_traceback(None)  # or each raise would add to the trace
        return known

    def _read(self, name: str) -> bytes | OSError:
        file = self._files.get(name)
        if file is None:
            file = self._files[name] = KernelFile(f"{self.directory}/{name}")
        try:
            return file.read()
        except OSError as error:
            # What the kernel says of the open file of a cgroup that was removed.
            self.gone = self.gone or error.errno == errno.ENODEV
            return error

    def close(self) -> None:
        """Close every file; one that is read later is opened again."""
        for file in self._files.values():
            file.close()
