# SPDX-License-Identifier: Apache-2.0
"""How a scripted thing declares its settings, each with what it may be."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, fields
from typing import Any, Final, TypeAlias

from otel_hwmetrics.testing.values import InvalidValueError, Signal, Value, is_number, signal

RATIO: Final = 1.0
# Wide enough for any card, and far from where NVML's unsigned bytes, milliwatts, millijoules and megahertz would wrap.
BYTES: Final = 2**60
BYTES_PER_SECOND: Final = 1e12
JOULES: Final = 1e15
WATTS: Final = 1e6
CELSIUS: Final = 1e3
HERTZ: Final = 1e12
COUNT: Final = 2**32 - 1

_CHECK: Final = "check"
_LIMITS: Final = "limits"
_OPTIONAL: Final = "optional"

# A bound that is a number, or follows from the other settings.
Bound: TypeAlias = "float | Callable[[Any], float]"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Something scripted, whose fields are declared by the functions of this module.

    Raises:
        ValueError: A value is not allowed; the message names the field, the value and what is.
    """

    def __post_init__(self) -> None:
        """Check every field but the names of what NVML has, which only `FakeNvml` knows."""
        for each in fields(self):
            check = each.metadata.get(_CHECK)
            if check is not None:
                check(self, each.name, getattr(self, each.name))
        self.signals()

    def signals(self) -> dict[str, Signal]:
        """Return the checked quantities by field name, each with its integral at 0; what is None is left out.

        Raises:
            ValueError: A value is not allowed.
        """
        found = {}
        for each in fields(self):
            limits = each.metadata.get(_LIMITS)
            value = getattr(self, each.name)
            if limits is not None and not (value is None and each.metadata[_OPTIONAL]):
                lowest, highest = (bound(self) if callable(bound) else bound for bound in limits)
                found[each.name] = signal(each.name, value, lowest, highest)
        return found


def quantity(default: Value | None, highest: Bound, *, lowest: Bound = 0.0, optional: bool = False) -> Any:
    """Declare a `Value`; one whose default is None may be None, and any other that is optional."""
    metadata = {_LIMITS: (lowest, highest), _OPTIONAL: optional or default is None}
    return field(default=default, metadata=metadata)


def text(default: str) -> Any:
    """Declare a string."""

    def check(_: object, key: str, value: object) -> None:
        if not isinstance(value, str):
            raise InvalidValueError(value, key, "a string")

    return _declare(default, check)


def switch(*, default: bool) -> Any:
    """Declare a truth."""

    def check(_: object, key: str, value: object) -> None:
        if not isinstance(value, bool):
            raise InvalidValueError(value, key, "true or false")

    return _declare(default, check)


def choice(default: str, among: Collection[str]) -> Any:
    """Declare one word of several."""

    def check(_: object, key: str, value: object) -> None:
        if not isinstance(value, str) or value not in among:
            raise InvalidValueError(value, key, f"one of {', '.join(among)}")

    return _declare(default, check)


def whole(default: int | None, lowest: int, highest: Bound, unit: str = "") -> Any:
    """Declare a whole number that does not change; only one whose default is None may be None."""

    def check(owner: object, key: str, value: object) -> None:
        most = highest(owner) if callable(highest) else highest
        if not (value is None and default is None) and (type(value) is not int or not lowest <= value <= most):
            raise InvalidValueError(value, key, f"a whole number {unit and f'of {unit} '}from {lowest} to {most}")

    return _declare(default, check)


def number(default: float | None, lowest: float, highest: float, unit: str = "", *, optional: bool = False) -> Any:
    """Declare a number that does not change, or None where that is allowed."""

    def check(_: object, key: str, value: object) -> None:
        if value is None and optional:
            return
        if not is_number(value) or not lowest <= value <= highest:  # type: ignore[operator]
            raise InvalidValueError(
                value, key, f"a number {unit and f'of {unit} '}from {lowest:.15g} to {highest:.15g}"
            )

    return _declare(default, check)


def wholes(default: tuple[int, ...], length: int | None, highest: int) -> Any:
    """Declare whole numbers from 0 on, so many of them if a length is given."""
    allowed = f"{'' if length is None else f'{length} '}whole numbers from 0 to {highest}"

    def check(_: object, key: str, value: object) -> None:
        if isinstance(value, (str, bytes)) or not isinstance(value, Collection) or length not in (None, len(value)):
            raise InvalidValueError(value, key, allowed)
        if not all(type(each) is int and 0 <= each <= highest for each in value):
            raise InvalidValueError(value, key, allowed)

    return _declare(default, check)


def names(of: str) -> Any:
    """Declare names of what NVML has; whether it has them is for `FakeNvml` to say."""

    def check(_: object, key: str, value: object) -> None:
        if isinstance(value, str) or not isinstance(value, Collection):
            raise InvalidValueError(value, key, f"a list of names of {of}")

    return _declare((), check)


def parts(of: type) -> Any:
    """Declare scripted things within this one."""

    def check(_: object, key: str, value: object) -> None:
        if (
            isinstance(value, str)
            or not isinstance(value, Collection)
            or not all(isinstance(each, of) for each in value)
        ):
            raise InvalidValueError(value, key, f"a list, each a {of.__name__}")

    return _declare((), check)


def _declare(default: object, check: Callable[[object, str, object], None]) -> Any:
    return field(default=default, metadata={_CHECK: check})
