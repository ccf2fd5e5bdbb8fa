# SPDX-License-Identifier: Apache-2.0
"""C arguments as plain values, and back: what `recorder` notes of a call and `replay` answers.

It goes by what ctypes knows of an argument (its type, and its fields by name), not by a table of NVML's functions, so
that functions and struct fields of later drivers are recorded as well. What ctypes cannot know is in the constants
below: which fields of a struct a caller fills in, and which field counts the elements behind a pointer.

A struct is a dict by field name, an array a list without the zeros at its end, a handle its name, a union the members
that hold something, and a number that JSON has not (`nan`, `inf`) a string.
"""

from __future__ import annotations

import ctypes
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeAlias

Plain: TypeAlias = "int | float | str | list[Plain] | dict[str, Plain] | None"

# Fields of NVML's versioned structs by which a caller says what it asks for; the driver leaves them as they are.
INPUT_FIELDS: Final = frozenset(
    {"version", "sensorType", "type", "pstate", "fan", "index", "mode", "powerScope", "profileId", "paramId"}
)
# Arrays that a struct points to: the field that says how many elements there are.
COUNTED: Final = {
    "procArray": "numProcArrayEntries",
    "procUtilArray": "processSamplesCount",
    "entries": "entryCount",
    "counters": "numCounters",
}
# Fields of nvmlValueType_t, which say what member of the union nvmlValue_t is meant, and the members.
_VALUE_TYPES: Final = frozenset({"valueType", "outputType"})
VALUE_MEMBERS: Final = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")

# What ctypes' numbers have in common, and its pointers; they have no public names.
_Simple: Final[Any] = ctypes._SimpleCData
_Pointer: Final[Any] = ctypes._Pointer
_LEFTOVER: Final = 0xA5
_CHARS: Final = (ctypes.c_char, ctypes.c_ubyte, ctypes.c_byte)


class TooSmallError(Exception):
    """The caller's array has no room for the answer; the caller's counter says how much would do."""


def is_handle(kind: Any) -> bool:
    """Say whether a type is one of NVML's opaque handles: a pointer to a struct that has no fields."""
    return (
        issubclass(kind, _Pointer)
        and issubclass(kind._type_, ctypes.Structure)
        and not hasattr(kind._type_, "_fields_")
    )


def kind_of(handle: type[Any]) -> str:
    """Return what a handle stands for: `Device`, `EventSet`, `GpmSample` and so on."""
    name: str = handle._type_.__name__
    return name.removeprefix("struct_").removeprefix("c_nvml").removesuffix("_t")


def address_of(handle: Any) -> int:
    """Return where a pointer points to, 0 if nowhere."""
    return ctypes.cast(handle, ctypes.c_void_p).value or 0


def pointed(argument: object) -> Any:
    """Return the object that a C function may write to through this argument, None if it is passed by value."""
    if isinstance(argument, ctypes.Array):
        return argument
    if isinstance(argument, _Pointer):
        pointer: Any = argument
        return None if is_handle(type(pointer)) or not pointer else pointer.contents
    return getattr(argument, "_obj", None)  # what byref() made


def is_counter_of(objects: Sequence[Any], array: int) -> int | None:
    """Return which of a call's arguments counts the elements of an array among them, by position.

    NVML puts an array's length right before it, else right after it.
    """
    for position in itertools.chain(range(array - 1, -1, -1), range(array + 1, len(objects))):
        if isinstance(objects[position], (ctypes.c_uint, ctypes.c_int)):
            return position
    return None


def is_text(array: object) -> bool:
    """Say whether this is an array of characters or bytes."""
    return isinstance(array, ctypes.Array) and array._type_ in _CHARS


def members(layout: Any) -> Iterator[tuple[str, type[Any]]]:
    """Yield the fields of a struct or union, those of its base first, each with its type."""
    kind = layout if isinstance(layout, type) else type(layout)
    for base in reversed(kind.__mro__):
        for name, member, *_ in vars(base).get("_fields_", ()):
            yield name, member


def get(struct: Any, field: str) -> Any:
    """Read a field as ctypes has it: the binding's structs decode text as it comes, and fail on bytes."""
    return getattr(type(struct), field).__get__(struct)


def put(struct: Any, field: str, value: object) -> None:
    """Write a field, past what the binding's structs do to it."""
    getattr(type(struct), field).__set__(struct, value)


class Reader:
    """Turns what a call left behind into plain values.

    Args:
        handle: Names a handle, given its kind and address.
        text: What to write for a text, given its field or None, and the text.
        number: What to write for a whole number, given its field or None, and the number.
        struct: Has the last word on a struct's values.
    """

    def __init__(
        self,
        handle: Callable[[str, int], str],
        text: Callable[[str | None, str], str],
        number: Callable[[str | None, int], int | str],
        struct: Callable[[dict[str, Plain]], dict[str, Plain]],
    ) -> None:
        self._handle = handle
        self._text = text
        self._number = number
        self._struct = struct

    def read(self, value: Any, field: str | None = None, *, value_type: int | None = None) -> Plain:
        """Return a ctypes object, or what ctypes made of one, as a plain value.

        Args:
            value: The object.
            field: What the struct around it calls it.
            value_type: Which member of a union is meant, as `nvmlValueType_t`; None if that is not known.
        """
        if isinstance(value, _Pointer):
            address = address_of(value)
            return self._handle(kind_of(type(value)), address) if address and is_handle(type(value)) else None
        if isinstance(value, ctypes.Structure):
            return self._read_struct(value, value_type)
        if isinstance(value, ctypes.Union):
            return self._read_union(value, value_type)
        if is_text(value):
            # A char array is a text; bytes are none, and are written as pairs of hexadecimal digits.
            raw = bytes(value)
            return self._text(field, _decoded(raw) if value._type_ is ctypes.c_char else raw.rstrip(b"\0").hex())
        if isinstance(value, ctypes.Array):
            return trimmed([self.read(element, field, value_type=value_type) for element in value])
        if isinstance(value, _Simple):
            value = value.value
        return self._read_number(value, field)

    def _read_number(self, value: Any, field: str | None) -> Plain:
        if isinstance(value, bytes):
            return self._text(field, _decoded(value))
        if isinstance(value, str):
            return self._text(field, value)
        if isinstance(value, float):
            return value if math.isfinite(value) else str(value)
        return None if value is None else self._number(field, int(value))

    def _read_struct(self, struct: Any, value_type: int | None) -> dict[str, Plain]:
        plain: dict[str, Plain] = {}
        names = dict(members(struct))
        for name in names.keys() & _VALUE_TYPES:
            value_type = get(struct, name)
        for name, kind in names.items():
            if name in COUNTED and issubclass(kind, _Pointer):
                pointer = get(struct, name)
                count = get(struct, COUNTED[name])
                plain[name] = [self.read(pointer[index]) for index in range(count)] if pointer else None
            elif kind is ctypes.c_char:
                plain[name] = self._number(name, get(struct, name)[0])
            elif kind is not ctypes.c_void_p and (is_handle(kind) or not issubclass(kind, _Pointer)):
                plain[name] = self.read(get(struct, name), name, value_type=value_type)
        return self._struct(plain)

    def _read_union(self, union: Any, value_type: int | None) -> dict[str, Plain]:
        names = [name for name, _ in members(union)]
        if value_type is not None and value_type < len(VALUE_MEMBERS) and VALUE_MEMBERS[value_type] in names:
            names = [VALUE_MEMBERS[value_type]]
        return {name: self.read(get(union, name), name) for name in names}


class Writer:
    """Writes plain values to where a caller wants them, by the names of fields.

    What the caller's layout has and the values have not stays as it is, and what it has not is left out: a struct
    that has grown since can be written all the same.

    Args:
        handle: Gives the address of a handle, by its name.
        number: Gives the whole number that a text stands for.
    """

    def __init__(self, handle: Callable[[str], int], number: Callable[[str], int]) -> None:
        self._handle = handle
        self._number = number

    def write(self, target: Any, value: Plain) -> None:
        """Write a plain value into a ctypes object.

        Raises:
            TooSmallError: It does not fit into the caller's array.
            TypeError: It is not of the object's type.
        """
        if value is None:
            return
        if is_handle(type(target)):
            ctypes.c_void_p.from_buffer(target).value = self._handle(str(value))
        elif isinstance(target, (ctypes.Structure, ctypes.Union)):
            self._write_struct(target, value)
        elif is_text(target):
            raw = _encoded(value, target._type_)
            if len(raw) > ctypes.sizeof(target):
                raise TooSmallError
            ctypes.memmove(target, raw, len(raw))
        elif isinstance(target, ctypes.Array):
            self._write_array(target, value)
        else:
            target.value = self._scalar(value, type(target))

    def _scalar(self, value: Plain, kind: type[Any]) -> object:
        if issubclass(kind, (ctypes.c_double, ctypes.c_float)):
            return float(value)  # type: ignore[arg-type]
        if kind is ctypes.c_char:
            return bytes([int(value)])  # type: ignore[arg-type]
        if isinstance(value, str):
            return value.encode() if kind is ctypes.c_char_p else self._number(value)
        return value

    def _write_array(self, array: Any, value: Plain) -> None:
        if not isinstance(value, list):
            raise TypeError(f"{value!r} is no list")
        if len(value) > len(array):
            raise TooSmallError
        ctypes.memset(array, 0, ctypes.sizeof(array))
        for index, element in enumerate(value):
            self._write_member(array, index, array._type_, element)

    def _write_member(self, array: Any, index: int, kind: type[Any], value: Plain) -> None:
        if issubclass(kind, _Simple):
            array[index] = self._scalar(value, kind)
        else:
            self.write(array[index], value)

    def _write_struct(self, struct: Any, value: Plain) -> None:
        if not isinstance(value, dict):
            raise TypeError(f"{value!r} is no struct")
        if isinstance(struct, ctypes.Union):
            # The driver writes one member. Who reads a wider one gets what was there, which should show.
            ctypes.memset(ctypes.byref(struct), _LEFTOVER, ctypes.sizeof(struct))
        names = dict(members(struct))
        # The pointed-to arrays first: how much room there is stands in the counters, which are overwritten next.
        for name in sorted(names.keys() & value.keys(), key=lambda name: name not in COUNTED):
            self._write_field(struct, name, names[name], value[name])

    def _write_field(self, struct: Any, name: str, kind: Any, value: Plain) -> None:
        if value is None:
            return
        if is_handle(kind):
            put(struct, name, ctypes.cast(self._handle(str(value)), kind))
        elif issubclass(kind, _Pointer):
            if name in COUNTED and isinstance(value, list):
                self._write_pointed(struct, name, value)
        elif issubclass(kind, _Simple):
            put(struct, name, self._scalar(value, kind))
        elif issubclass(kind, ctypes.Array) and kind._type_ is ctypes.c_char:
            put(struct, name, str(value).encode()[: kind._length_])
        elif issubclass(kind, ctypes.Array) and kind._type_ in _CHARS:
            raw = _encoded(value, kind._type_)[: kind._length_].ljust(kind._length_, b"\0")
            ctypes.memmove(get(struct, name), raw, len(raw))
        else:
            self.write(get(struct, name), value)

    def _write_pointed(self, struct: Any, name: str, value: list[Plain]) -> None:
        pointer, room = get(struct, name), get(struct, COUNTED[name])
        put(struct, COUNTED[name], len(value))
        if not pointer or room < len(value):
            raise TooSmallError
        for index, element in enumerate(value):
            self.write(pointer[index], element)


def trimmed(values: list[Plain]) -> list[Plain]:
    """Return a list without the zeros at its end."""
    end = len(values)
    while end and _is_zero(values[end - 1]):
        end -= 1
    return values[:end]


def _is_zero(value: Plain) -> bool:
    if isinstance(value, dict):
        return all(_is_zero(member) for member in value.values())
    if isinstance(value, list):
        return all(_is_zero(element) for element in value)
    return not value


def _decoded(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("utf-8", "replace")


def _encoded(value: Plain, kind: type[Any]) -> bytes:
    return str(value).encode() + b"\0" if kind is ctypes.c_char else bytes.fromhex(str(value))
