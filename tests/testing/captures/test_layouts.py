# SPDX-License-Identifier: Apache-2.0
"""Every struct of the binding can be written down and written back, without a table of structs."""

from __future__ import annotations

import ctypes
import json
from typing import Any

import pynvml
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_hwmetrics.testing.captures.layouts import COUNTED, INPUT_FIELDS, Reader, TooSmallError, Writer, members, put

# Members of a union of structs lie in each other's padding, where only one of them is meant: these hold such a union.
OVERLAPPING = {"c_nvmlPerfMetricControllerSample_t", "c_nvmlPerfMetricsSample_t", "c_nvmlPerfMetricsSamples_v1_t"}
STRUCTS = {
    name: kind
    for name, kind in vars(pynvml).items()
    if isinstance(kind, type)
    and issubclass(kind, ctypes.Structure)
    and hasattr(kind, "_fields_")
    and name not in OVERLAPPING
}
PLAIN_READER = Reader(
    handle=lambda kind, _address: kind,
    text=lambda _field, text: text,
    number=lambda _field, number: number,
    struct=lambda plain: plain,
)
PLAIN_WRITER = Writer(handle=lambda _name: 16, number=int)


def filled(kind: Any, data: bytes) -> Any:
    """Return a struct with such bytes in it, and no pointers; past its constructor, which some want arguments for."""
    size = ctypes.sizeof(kind)
    struct = kind.from_buffer_copy((data * (size // len(data) + 1))[:size])
    clear_pointers(struct)
    return struct


def clear_pointers(value: Any) -> None:
    """Make every pointer in a struct NULL."""
    member: Any
    for name, member in members(value):
        if issubclass(member, ctypes._Pointer) or member in (ctypes.c_char_p, ctypes.c_void_p):
            put(value, name, None)
        elif issubclass(member, (ctypes.Structure, ctypes.Union)):
            clear_pointers(getattr(type(value), name).__get__(value))
        elif issubclass(member, ctypes.Array) and issubclass(member._type_, (ctypes.Structure, ctypes.Union)):
            for element in getattr(type(value), name).__get__(value):
                clear_pointers(element)


@settings(max_examples=5, deadline=None)
@given(data=st.binary(min_size=1, max_size=64).map(lambda data: bytes(byte % 0x7F for byte in data)))
@pytest.mark.parametrize("name", STRUCTS)
def test_every_struct_comes_back_as_it_was(name: str, data: bytes) -> None:
    """Read, put through JSON, written to a fresh struct and read again, each field is the same."""
    struct = filled(STRUCTS[name], data)
    plain = PLAIN_READER.read(struct)
    fresh = filled(STRUCTS[name], b"\0")
    PLAIN_WRITER.write(fresh, json.loads(json.dumps(plain, allow_nan=False)))
    assert PLAIN_READER.read(fresh) == plain


def test_the_tables_are_of_this_binding() -> None:
    """What ctypes cannot know is told by names of fields: each is one of the binding's."""
    names = {field for kind in STRUCTS.values() for field, _ in members(kind)}
    assert names >= INPUT_FIELDS
    assert "procArray" in names
    # The oldest binding that we allow has not all of the arrays, but none of them without its counter.
    assert [count in names for count in COUNTED.values()] == [array in names for array in COUNTED]


def test_an_array_behind_a_pointer_is_written_where_there_is_room() -> None:
    """The counter says how much room there is, and how much would do."""
    request = pynvml.c_nvmlProcessDetailList_v1_t()
    answer: Any = {"numProcArrayEntries": 2, "procArray": [{"pid": 1}, {"pid": 2}]}
    with pytest.raises(TooSmallError):
        PLAIN_WRITER.write(request, answer)
    assert request.numProcArrayEntries == 2
    room = (pynvml.c_nvmlProcessDetail_v1_t * 2)()
    request.procArray = ctypes.cast(room, type(request.procArray))
    PLAIN_WRITER.write(request, answer)
    assert [each.pid for each in room] == [1, 2]
    assert PLAIN_READER.read(request)["procArray"][1]["pid"] == 2  # type: ignore[call-overload,index]


@pytest.mark.parametrize("text", ["nan", "inf", "-inf"])
def test_numbers_that_json_has_not(text: str) -> None:
    """NaN and infinities are written as texts, and are what they were."""
    value = ctypes.c_double(float(text))
    plain = PLAIN_READER.read(value)
    assert plain == text
    again = ctypes.c_double()
    PLAIN_WRITER.write(again, plain)
    assert str(again.value) == text
