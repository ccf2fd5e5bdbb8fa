# SPDX-License-Identifier: Apache-2.0
"""Commands that are started: what the kernel says of them, and where their output goes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from launched import BY_A_SMALL_PROCESS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it needs /proc")

STARTS = """
import json, os, sys
from otel_hwmetrics.jobs.children import reap, spawn

mine, grown = os.posix_spawn, []

def posix_spawn(*given, **more):
    grown.append(b"x" * (64 * 2**20))  # as another thread of ours may, at the last moment
    return mine(*given, **more)

os.posix_spawn = posix_spawn
small = reap(spawn(["/bin/true"], {}, mask=set())).max_rss
large = reap(spawn([sys.executable, "-c", "held = b'x' * (400 * 2**20)"], {}, mask=set())).max_rss
print(json.dumps([small, large]))
"""


def test_what_we_had_ourselves_is_no_command_s_peak() -> None:
    """Neither what we had before, nor what we came to have until it was itself; the peak of one that has more is told."""
    ran = subprocess.run(
        [*BY_A_SMALL_PROCESS, sys.executable, "-c", STARTS], capture_output=True, text=True, check=True, timeout=60
    )
    small, large = json.loads(ran.stdout)
    assert small is None
    assert large > 400 * 2**20


OUTPUT = """
import os, sys
from otel_hwmetrics.jobs.children import reap, spawn

for number in range(int(sys.argv[2])):
    os.close(number)
output = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
code = "import sys; sys.stdin.read(); print('out', flush=True); print('error', file=sys.stderr)"
os._exit(reap(spawn([sys.executable, "-c", code], {}, mask=set(), output=output)).code)
"""


@pytest.mark.parametrize("closed", [0, 1, 2, 3])
def test_output_goes_to_its_file_whatever_of_ours_is_closed(tmp_path: object, closed: int) -> None:
    """Also where the file has the number of our own input, output or errors."""
    path = f"{tmp_path}/log"
    ran = subprocess.run([sys.executable, "-c", OUTPUT, path, str(closed)], check=False, timeout=60)
    assert ran.returncode == 0
    with open(path, encoding="utf-8") as file:
        assert file.read() == "out\nerror\n"
