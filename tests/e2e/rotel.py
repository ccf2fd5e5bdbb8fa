# SPDX-License-Identifier: Apache-2.0
"""rotel, an OTLP receiver written in Rust, as an independent judge of what the exporters send.

The binary is started directly: the package's own Python wrapper is not used.
"""

from __future__ import annotations

import importlib.util
import os
import re
import socket
import subprocess
import sysconfig
import tempfile
import threading
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "127.0.0.1"
START_TIMEOUT = 15.0
STOP_TIMEOUT = 5.0
COLOR = re.compile(r"\x1b\[[0-9;]*m")


class RotelUnavailable(Exception):
    """rotel is not installed or does not start here; the message says why."""


class Rotel:
    """A running rotel and what it has printed so far."""

    def __init__(self, process: subprocess.Popen[str], grpc_port: int, http_port: int) -> None:
        """Read the output of the process in a thread until it ends."""
        self.grpc_endpoint = f"http://{HOST}:{grpc_port}"
        self.http_endpoint = f"http://{HOST}:{http_port}"
        self._process = process
        self._lines: list[str] = []
        self._ended = False
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, args=(process.stdout,), name="rotel-output")
        self._reader.start()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            with self._changed:
                self._lines.append(COLOR.sub("", line))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def text(self) -> str:
        """Return what rotel has printed so far, without colors."""
        with self._changed:
            return "".join(self._lines)

    def wait_for_text(self, needle: str, timeout: float) -> bool:
        """Wait until the output has the needle, and return whether it has; give up early if rotel ends."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or needle in self.text(), timeout)
            return needle in self.text()

    def wait_for_ports(self, timeout: float) -> None:
        """Return when both ports accept connections.

        Raises:
            RotelUnavailable: If rotel ended or the time is up.
        """
        deadline = time.monotonic() + timeout
        for endpoint in (self.grpc_endpoint, self.http_endpoint):
            while not _accepts(int(endpoint.rpartition(":")[2])):
                if self._process.poll() is not None:
                    self._reader.join(STOP_TIMEOUT)
                    msg = f"rotel ended with {self._process.returncode}: {self.text().strip()[-500:]}"
                    raise RotelUnavailable(msg)
                if time.monotonic() > deadline:
                    msg = f"rotel does not accept at {endpoint} after {timeout} s: {self.text().strip()[-500:]}"
                    raise RotelUnavailable(msg)
                time.sleep(0.02)

    def stop(self) -> None:
        """End the process, gently first, and its reader."""
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(STOP_TIMEOUT)
        self._reader.join(STOP_TIMEOUT)
        if self._process.stdout is not None:
            self._process.stdout.close()


@contextmanager
def running_rotel() -> Iterator[Rotel]:
    """Run rotel on free loopback ports.

    Yields:
        The running rotel, with both ports open.

    Raises:
        RotelUnavailable: If it is not installed or does not start.
    """
    binary = _binary()
    with tempfile.TemporaryDirectory(prefix="rotel-") as folder:
        grpc_port, http_port = _free_ports()
        command = [str(binary), "start", *_options(grpc_port, http_port, Path(folder))]
        try:
            process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                encoding="utf-8",
                errors="replace",
                env=_environment(),
                cwd=folder,
            )
        except OSError as error:
            msg = f"{binary} cannot be run: {error}"
            raise RotelUnavailable(msg) from error
        rotel = Rotel(process, grpc_port, http_port)
        try:
            rotel.wait_for_ports(START_TIMEOUT)
            yield rotel
        finally:
            rotel.stop()


def _binary() -> Path:
    spec = importlib.util.find_spec("rotel")
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    for place in places:
        if (binary := Path(place) / "rotel-agent").is_file():
            return binary
    msg = "the rotel package has no rotel-agent" if places else "the rotel package is not installed"
    raise RotelUnavailable(msg)


def _options(grpc_port: int, http_port: int, folder: Path) -> list[str]:
    where = ["--otlp-grpc-endpoint", f"{HOST}:{grpc_port}", "--otlp-http-endpoint", f"{HOST}:{http_port}"]
    shown = [word for signal_name in ("traces", "metrics", "logs") for word in ("--debug-log", signal_name)]
    files = ["--pid-file", str(folder / "pid"), "--log-file", str(folder / "log")]
    return [*where, *files, "--exporter", "blackhole", *shown, "--debug-log-verbosity", "detailed"]


def _environment() -> dict[str, str]:
    """Return the environment without settings for rotel, and with the libpython that the binary links to."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ROTEL_")}
    folders = [sysconfig.get_config_var("LIBDIR"), os.environ.get("LD_LIBRARY_PATH")]
    return {**clean, "LD_LIBRARY_PATH": os.pathsep.join(folder for folder in folders if folder)}


def _free_ports() -> tuple[int, int]:
    """Return two ports that were free a moment ago; both are held at once, so they differ."""
    with closing(socket.create_server((HOST, 0))) as one, closing(socket.create_server((HOST, 0))) as two:
        return one.getsockname()[1], two.getsockname()[1]


def _accepts(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True
