# SPDX-License-Identifier: Apache-2.0
"""Calls that may hang: nobody waits for one twice, and it is made again when it has come back."""

from __future__ import annotations

import threading
import time

import pytest

from otel_hwmetrics.sources.patient import PATIENCE, Patient


def test_an_answer_is_given() -> None:
    """Made anew at each call, since what it tells may change."""
    answers = iter([1, 2])
    ask = Patient(lambda: next(answers))
    assert (ask(), ask()) == (1, 2)


@pytest.mark.parametrize("error", [FileNotFoundError(2, "gone"), ValueError("no path")], ids=repr)
def test_an_error_is_the_caller_s(error: Exception) -> None:
    """On the caller's thread, where it is expected."""

    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        Patient(fail)()
    assert caught.value is error


def test_where_no_thread_can_be_started_the_call_fails_and_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit of threads is an expected error of that moment, not a fault of ours."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    ask = Patient(lambda: 7)
    with monkeypatch.context() as limited:
        limited.setattr(threading.Thread, "start", refuse)
        for _ in range(2):
            with pytest.raises(OSError, match="no thread"):
                ask()
    assert ask() == 7


def test_a_call_that_hangs_is_waited_for_once() -> None:
    """Then everybody is told at once, no second call is made, and the first one's answer is not taken for a later's."""
    release = threading.Event()
    made = []

    def hang() -> int:
        made.append(threading.current_thread())
        release.wait(30)
        return len(made)

    ask = Patient(hang)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        ask()
    assert time.monotonic() - began >= PATIENCE * 0.9
    began = time.monotonic()
    for _ in range(20):
        with pytest.raises(TimeoutError):
            ask()
    assert time.monotonic() - began < PATIENCE
    assert len(made) == 1
    assert made[0].daemon  # the interpreter does not wait for it at its end
    release.set()
    made[0].join(10)
    assert ask() == 2
