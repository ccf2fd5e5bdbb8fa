# SPDX-License-Identifier: Apache-2.0
"""The one broad except: loud in tests, quiet and counted in production."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest

from otel_hwmetrics import _guard
from otel_hwmetrics._guard import faults, guard


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in production, with faults counted from none."""
    monkeypatch.setattr(_guard, "LOUD", False)
    before = faults.copy()
    faults.clear()
    yield
    faults.clear()
    faults.update(before)


def fail(place: str, error: BaseException, times: int = 1) -> None:
    """Fail at a place."""
    for _ in range(times):
        with guard(place):
            raise error


def test_loud_hides_nothing() -> None:
    """Under the project's own tests the fault comes out as it is, uncounted."""
    assert _guard.LOUD
    error = RuntimeError("a fault")
    with pytest.raises(RuntimeError) as raised:
        fail("loud", error)
    assert raised.value is error
    assert "loud" not in faults


def test_loud_does_not_call_otherwise() -> None:
    """What is not passed over has no other way."""
    called: list[Exception] = []
    with pytest.raises(RuntimeError), guard("loud", otherwise=called.append):
        raise RuntimeError
    assert called == []


def test_quiet_passes_over_and_counts_by_place(quiet: None) -> None:
    """The code after the block runs; each fault is counted where it happened."""
    fail("here", RuntimeError("a fault"), times=3)
    fail("there", ZeroDivisionError())
    assert faults == {"here": 3, "there": 1}


def test_a_fault_is_logged_once_for_each_place(quiet: None, caplog: pytest.LogCaptureFixture) -> None:
    """With its traceback and the assurance that training is not affected; repeats are only counted."""
    with caplog.at_level(logging.DEBUG):
        fail("here", RuntimeError("the first"), times=2)
        fail("here", KeyError("another"))
        fail("there", RuntimeError("the second"))
    first, second = caplog.records
    assert (first.name, first.levelno) == ("otel_hwmetrics", logging.WARNING)
    assert first.getMessage().startswith("otel_hwmetrics failed at: here. Training is not affected")
    assert second.getMessage().startswith("otel_hwmetrics failed at: there.")
    assert first.exc_text is not None
    assert first.exc_text.endswith("RuntimeError: the first")
    assert f'File "{__file__}"' in first.exc_text


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
def test_what_is_no_fault_goes_through(quiet: None, error: BaseException) -> None:
    """Ctrl-C and exits are the application's, in production, too."""
    with pytest.raises(type(error)):
        fail("here", error)
    assert faults == {}


@pytest.mark.parametrize("error", [StopIteration(), MemoryError(), RecursionError(), AssertionError()])
def test_every_exception_is_a_fault(quiet: None, error: Exception) -> None:
    """Also those that generators and the interpreter itself raise."""
    fail("here", error)
    assert faults == {"here": 1}


def test_otherwise_is_told_of_the_fault(quiet: None) -> None:
    """Each time, with the very exception; and never without a fault."""
    told: list[Exception] = []
    error = RuntimeError("a fault")
    for _ in range(2):
        with guard("here", otherwise=told.append):
            raise error
    with guard("here", otherwise=told.append):
        pass
    assert told == [error, error]


def test_without_a_fault_nothing_is_counted_or_logged(quiet: None, caplog: pytest.LogCaptureFixture) -> None:
    """The usual case leaves no trace."""
    with caplog.at_level(logging.DEBUG), guard("here"):
        pass
    assert faults == {}
    assert caplog.records == []


@pytest.mark.parametrize(("value", "loud"), [(None, False), ("0", False), ("", False), ("true", False), ("1", True)])
def test_only_the_variable_makes_it_loud(value: str | None, loud: bool, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001 - a column of the table
    """Not pytest: people run their training under it, too."""
    monkeypatch.delenv("OTEL_PYTHON_HWMETRICS_LOUD")
    if value is not None:
        monkeypatch.setenv("OTEL_PYTHON_HWMETRICS_LOUD", value)
    code = "import pytest; from otel_hwmetrics import _guard; print(_guard.LOUD)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == str(loud)
