# SPDX-License-Identifier: Apache-2.0
"""Where PyTorch is listened to: a hook for all optimizers, two methods of its loader, and the end of the job.

The hook is public (``register_optimizer_step_post_hook``). Of the loader there is none: ``DataLoader.__iter__`` and
``_BaseDataLoaderIter.__next__`` are replaced in their classes, and put back. What they raise passes through, with one
frame of ours in its traceback.
"""

from __future__ import annotations

import atexit
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from types import TracebackType
from typing import Any, Final

from opentelemetry.util.types import AttributeValue

from otel_hwmetrics import forks
from otel_hwmetrics._guard import guard
from otel_hwmetrics.config import Config
from otel_hwmetrics.integrations.gpu_time import GpuTime
from otel_hwmetrics.integrations.run import told_by_a_framework
from otel_hwmetrics.integrations.torch import spans
from otel_hwmetrics.integrations.torch.course import Course
from otel_hwmetrics.stepclock import CLOCK

# Made once: they are on the hottest path of the job, and have no state.
_AT_A_STEP: Final = guard("noting a step of an optimizer")
_AT_A_BATCH: Final = guard("noting a batch of a loader")

_watches: list[Watch] = []


class Watch:
    """Listens to PyTorch in this process, from `begin` to `end`; in forked children it hears nothing.

    Args:
        torch: The module, loaded by the job.
        config: The options.
        identity: Attributes of a root span.
    """

    def __init__(self, torch: Any, config: Config, identity: Callable[[], Mapping[str, AttributeValue]]) -> None:
        self._torch = torch
        self._config = config
        self._identity = identity
        self._on = False
        self._local = threading.local()
        self._courses: list[Course] = []
        self._undo: list[Callable[[], object]] = []
        self._awaits_the_end = False
        self._hook: Callable[..., Any] = sys.excepthook

    def begin(self) -> None:
        """Listen."""
        self._on = True
        _watches.append(self)
        optimizer, dataloader = (sys.modules[f"torch.{name}"] for name in ("optim.optimizer", "utils.data.dataloader"))
        self._undo.append(optimizer.register_optimizer_step_post_hook(self._step_hook()).remove)
        self._replace(dataloader.DataLoader, "__iter__", self._iter_in_place_of)
        self._replace(dataloader._BaseDataLoaderIter, "__next__", self._next_in_place_of)  # noqa: SLF001 - see above

    def end(self) -> None:
        """Put everything back and end all spans. What somebody has built upon stays, and passes everything on."""
        self._on = False
        _watches[:] = [each for each in _watches if each is not self]
        while self._undo:
            with guard("putting PyTorch's own back"):
                self._undo.pop()()
        self._awaits_the_end = False
        self._finish()

    def forget(self) -> None:
        """In a forked child: what was seen is its parent's."""
        self._on = False
        self._courses.clear()
        self._local = threading.local()

    def _course(self) -> Course | None:
        """That of this thread; None where nothing is to be told, or somebody else tells it."""
        if not self._on or told_by_a_framework() or CLOCK.loops_here():
            return None
        course: Course | None = getattr(self._local, "course", None)
        return self._new_course() if course is None else course

    def _new_course(self) -> Course:
        for course in [course for course in self._courses if not course.thread.is_alive()]:
            course.finish()
            self._courses.remove(course)
        if not self._awaits_the_end:
            self._await_the_end()
        gpu = GpuTime(self._torch) if self._config.step_gpu_time else None
        course = Course(self._torch.is_grad_enabled, self._config.step_spans, self._identity, gpu)
        self._local.course = course
        self._courses.append(course)
        return course

    def _step_hook(self) -> Callable[[object, object, object], None]:
        def hwmetrics_step(optimizer: object, args: object, kwargs: object) -> None:  # noqa: ARG001 - PyTorch's signature
            course: Course | None = getattr(self._local, "course", None)
            if course is None or not course.goes_on(optimizer):
                with _AT_A_STEP:
                    course = self._course()
                    if course is not None:
                        course.step(optimizer)

        # As torch.compiler.disable does, which would load the compiler. A step that is compiled has breaks of PyTorch's own
        # around the optimizer; so there is not one more, and the step is counted.
        hwmetrics_step._torchdynamo_disable = True  # type: ignore[attr-defined] # noqa: SLF001 - of a function of ours
        return hwmetrics_step

    def _iter_in_place_of(self, original: Callable[[Any], Iterator[Any]]) -> Callable[[Any], Iterator[Any]]:
        def __iter__(self_: Any) -> Iterator[Any]:  # noqa: N807 - it is one
            course, waits, began = None, False, time.time_ns()
            with _AT_A_BATCH:
                course = self._course()
                waits = course is not None and course.asks_for_an_iterator(self_)
            try:
                iterator = original(self_)
            finally:
                if waits:
                    CLOCK.end_wait()
            if course is not None:
                with _AT_A_BATCH:
                    course.begins(self_, iterator, began)
            return iterator

        return __iter__

    def _next_in_place_of(self, original: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def __next__(self_: Any) -> Any:  # noqa: N807 - it is one
            course: Course | None = getattr(self._local, "course", None)
            of = None if course is None else course.goes_on_asking(self_)
            if of is None:
                with _AT_A_BATCH:
                    course = self._course()
                    of = None if course is None else course.asks(self_)
            if of is None or course is None:
                return original(self_)
            try:
                batch = original(self_)
            except StopIteration:
                with _AT_A_BATCH:
                    course.exhausts(of)
                raise
            except BaseException:
                with _AT_A_BATCH:
                    course.comes(of)
                raise
            course.comes(of)
            return batch

        return __next__

    def _replace(self, owner: Any, name: str, with_: Callable[[Any], Callable[..., Any]]) -> None:
        before = vars(owner)[name]
        ours = wraps(before)(with_(before))

        def put_back() -> None:
            if vars(owner).get(name) is ours:
                setattr(owner, name, before)

        setattr(owner, name, ours)
        self._undo.append(put_back)

    def _await_the_end(self) -> None:
        """Be called when the job ends. Only now: what is registered later is called sooner, and the provider is there."""
        self._awaits_the_end = True
        atexit.register(self._finish)
        self._undo.append(lambda: atexit.unregister(self._finish))
        self._hook = sys.excepthook
        ours = sys.excepthook = self._on_exception

        def put_back() -> None:
            if sys.excepthook == ours:
                sys.excepthook = self._hook

        self._undo.append(put_back)

    def _on_exception(self, kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        try:
            # Ctrl-C, too; an exit is none that comes here. Where somebody types, no exception ends anything.
            if self._on and not hasattr(sys, "ps1") and not sys.flags.interactive:
                self._finish_this(error)
        finally:
            self._hook(kind, error, traceback)

    def _finish_this(self, error: BaseException) -> None:
        """End the spans of this thread with the exception that ends it; others may train on."""
        course: Course | None = vars(self._local).pop("course", None)
        if course is not None:
            self._courses[:] = [each for each in self._courses if each is not course]
            with guard("ending spans of torch"):
                course.finish(error)

    def _finish(self) -> None:
        """End all spans."""
        courses, self._courses = self._courses, []
        self._local = threading.local()
        for course in courses:
            with guard("ending spans of torch"):
                course.finish()


@forks.in_child
def _forget_in_child() -> None:
    for watch in _watches:
        watch.forget()
    spans.forget()
