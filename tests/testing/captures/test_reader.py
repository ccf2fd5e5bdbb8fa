# SPDX-License-Identifier: Apache-2.0
"""A file is read as it was written, or refused in words that say what is wrong with it and where."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_hwmetrics.testing.captures import CaptureError, capture, load_capture, read_capture

SHIPPED = sorted((Path(__file__).parents[2] / "data" / "captures").glob("*.json"))
SMALL: dict[str, Any] = {
    "format": 1,
    "origin": "scripted",
    "seconds": 2,
    "answers": [{"call": "nvmlDeviceGetCount_v2", "told": [[0, [1]], [1, [2]]]}],
}
LIST = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
# A function's scratch file is written anew for each example.
FILES = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


def entry(**keys: Any) -> dict[str, Any]:
    """Return the small capture with other keys in its only entry."""
    return {**SMALL, "answers": [{**SMALL["answers"][0], **keys}]}


BROKEN: dict[str, tuple[Any, str]] = {
    "no table": ([], "the file = []: allowed is a table"),
    "no format": ({"answers": []}, "format = None: allowed is any value it can have: this key is required"),
    "format as text": ({**SMALL, "format": "1"}, "format = '1': allowed is the number 1"),
    "too new": ({**SMALL, "format": 2}, "format = 2: allowed is at most 1: this file needs a newer otel-hwmetrics"),
    "too new with other keys": ({"format": 7, "machine": {}}, "format = 7: allowed is at most 1"),
    "unknown key": ({**SMALL, "colour": "red"}, "colour = 'red': allowed is one of the keys absent, anonymous"),
    "no answers": ({key: SMALL[key] for key in ("format", "origin", "seconds")}, "answers = None"),
    "answers no list": ({**SMALL, "answers": {}}, "answers = {}: allowed is a list"),
    "origin": ({**SMALL, "origin": "guessed"}, "origin = 'guessed': allowed is real or scripted"),
    "seconds": ({**SMALL, "seconds": -1}, "seconds = -1: allowed is a number of seconds >= 0"),
    "note": ({**SMALL, "note": 5}, "note = 5: allowed is a text"),
    "absent": ({**SMALL, "absent": [1]}, "absent = [1]: allowed is a list of C functions"),
    "entry no table": ({**SMALL, "answers": [3]}, "answers[0] = 3: allowed is a table"),
    "entry without call": ({**SMALL, "answers": [{"told": [[0, []]]}]}, "answers[0].call = None"),
    "entry with other key": (entry(tolled=[]), "answers[0].tolled = []: allowed is one of the keys asked, call, of"),
    "call no text": (entry(call=7), "answers[0].call = 7: allowed is a C function"),
    "of no text": (entry(of=0), "answers[0].of = 0: allowed is a device such as gpu0"),
    "asked flat": (entry(asked=[0]), "answers[0].asked = [0]: allowed is a list of lists"),
    "nothing told": (entry(told=[]), "answers[0].told = []: allowed is at least one answer"),
    "told no point": (entry(told=[[0]]), "answers[0].told[0] = [0]: allowed is [seconds, [what was written, ...]"),
    "told before the start": (entry(told=[[-1, [1]]]), "answers[0].told[0] = [-1, [1]]"),
    "told no list": (entry(told=[[0, 1]]), "answers[0].told[0] = [0, 1]"),
    "code as text": (entry(told=[[0, None, "lost"]]), "answers[0].told[0] = [0, None, 'lost']"),
    "out of order": (entry(told=[[2, [1]], [1, [1]]]), "answers[0].told[1].0 = 1: allowed is a time from 2 on"),
    "ring without rows": (entry(ring={"clock": "boot", "fields": []}), "answers[0].ring.rows = None"),
    "ring of no clock": (entry(ring={"clock": "gps", "fields": [], "rows": []}), "answers[0].ring.clock = 'gps'"),
    "ring row too short": (
        entry(ring={"clock": "boot", "fields": ["pid"], "rows": [[1]]}),
        "answers[0].ring.rows[0] = [1]: allowed is [seconds, pid]",
    ),
    "latency": (
        {**SMALL, "latencies": [{"call": "nvmlInit", "seconds": [[0, -1]]}]},
        "latencies[0].seconds[0] = [0, -1]: allowed is a pair of numbers of seconds >= 0",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_refused_by_name_and_key(case: str, tmp_path: Path) -> None:
    """The message names the file, the key, the value and what is allowed."""
    document, message = BROKEN[case]
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(CaptureError) as caught:
        read_capture(path)
    assert str(caught.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize("text", ["", "{", "[[[[", "[" * 100_000, '{"format": NaN}', "hello", "\ud800"])
def test_what_is_no_json_is_refused_as_such(text: str, tmp_path: Path) -> None:
    """Not JSON, or too deep, or not even text: one error, with the file's name."""
    path = tmp_path / "garbage.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(CaptureError, match=r"garbage\.json: not a JSON file, or cut short"):
        load_capture(path)


@FILES
@given(cut=st.floats(0, 1, exclude_max=True))
def test_a_file_that_is_cut_short_is_refused(cut: float, tmp_path: Path) -> None:
    """Wherever an upload broke off, it is noticed."""
    whole = SHIPPED[0].read_bytes().rstrip()
    path = tmp_path / "cut.json"
    path.write_bytes(whole[: int(len(whole) * cut)])
    with pytest.raises(CaptureError, match=r"cut\.json"):
        read_capture(path)


@FILES
@given(answers=LIST, latencies=LIST, told=LIST, ring=LIST)
def test_no_file_raises_anything_else(answers: Any, latencies: Any, told: Any, ring: Any, tmp_path: Path) -> None:
    """Whatever JSON is in it, a file is a capture or a `CaptureError`."""
    path = tmp_path / "any.json"
    for document in (
        {**SMALL, "answers": answers},
        {**SMALL, "latencies": latencies},
        entry(told=told, ring=ring),
        told,
    ):
        path.write_text(json.dumps(document), encoding="utf-8")
        with contextlib.suppress(CaptureError):
            read_capture(path)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_what_is_written_is_what_was_read(path: Path, tmp_path: Path) -> None:
    """Reading a file and writing it gives the same file, byte for byte."""
    again = tmp_path / "again.json"
    read_capture(path).save(again)
    assert again.read_bytes() == path.read_bytes()


def test_an_answer_is_the_last_that_was_told_of_each_field(tmp_path: Path) -> None:
    """Fields that an answer leaves out are those of the answer before; null is the whole output before."""
    told = [[0, [{"used": 1, "free": 9}, 5]], [1, None, 15], [2, [{"used": 2}, None]], [3, [None, 6]]]
    path = tmp_path / "changes.json"
    path.write_text(json.dumps(entry(told=told)), encoding="utf-8")
    (series,) = read_capture(path).series
    assert [(at, answer.code, answer.outputs) for at, answer in series.told] == [
        (0, 0, [{"used": 1, "free": 9}, 5]),
        (1, 15, None),
        (2, 0, [{"used": 2, "free": 9}, 5]),
        (3, 0, [{"used": 2, "free": 9}, 6]),
    ]


def test_the_documented_example_is_a_capture(tmp_path: Path) -> None:
    """What the format's description shows can be loaded, whole."""
    (example,) = re.findall(r"```json\n(.*?)```", capture.__doc__ or "", re.DOTALL)
    path = tmp_path / "example.json"
    path.write_text(example, encoding="utf-8")
    read = read_capture(path)
    assert (read.origin, read.seconds, read.absent) == ("real", 60.0, {"nvmlDeviceGetTemperatureV"})
    assert len(read.series) == 6
    assert len(read.latencies) == 1


def test_importing_is_cheap() -> None:
    """The module is there without `pynvml`, which is loaded when something is recorded or replayed."""
    code = "import sys, otel_hwmetrics.testing.captures; sys.exit('pynvml' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    """A capture replaces a file whole or not at all."""
    path = tmp_path / "old.json"
    path.write_text("old", encoding="utf-8")
    (tmp_path / "old.json.part").mkdir()
    with pytest.raises(OSError, match=r"old\.json\.part"):
        read_capture(SHIPPED[0]).save(path)
    assert path.read_text(encoding="utf-8") == "old"
