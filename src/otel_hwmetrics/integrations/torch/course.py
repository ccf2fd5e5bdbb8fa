# SPDX-License-Identifier: Apache-2.0
"""How the training of one thread goes, by what can be seen of it: requests for batches, and steps of its optimizer.

What is what:

- The step of an optimizer ends a step of training; of several optimizers see `optimizers`. Batches whose gradients are
  accumulated are one step. Where `GradScaler` leaves a step out because gradients are not finite, there is none: its time
  is part of the next one's.
- A pass of a loader with a step in it is an epoch. A step is of a pass that was asked for a batch since the step before: of
  several, and so of nested ones, that of the loader whose passes were epochs before, else the newest. It stays that pass's
  until a newer one is asked instead. A loader that never ends is one epoch.
- A loader that is asked for batches while gradients are disabled is an evaluation's, for as long as it is asked in a row: a
  step, or a request with gradients, ends that. With gradients nothing is, as a step may be to come of any batch.
- Where nobody asks for more (the pass has ended, or its iterator is gone), no step is expected until somebody does.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import Span
from opentelemetry.util.types import AttributeValue

from otel_hwmetrics.integrations import run
from otel_hwmetrics.integrations.gpu_time import GpuTime
from otel_hwmetrics.integrations.torch import spans
from otel_hwmetrics.integrations.torch.optimizers import Optimizers
from otel_hwmetrics.integrations.torch.passes import Known, Pass, of_a_step
from otel_hwmetrics.stepclock import CLOCK, EVALUATION
from otel_hwmetrics.stepclock.hand import NEVER

_now = time.monotonic


class Course:
    """The training of the thread that makes it; everything is called on that thread, but `finish` at the job's end.

    Args:
        is_grad_enabled: Whether PyTorch records gradients on this thread.
        step_spans: One of how many steps gets a span; 0 for none.
        identity: Attributes of the root span that tell the process, asked when it is opened.
        gpu: Times steps on the GPU, where that was asked for.
    """

    def __init__(
        self,
        is_grad_enabled: Callable[[], bool],
        step_spans: int,
        identity: Callable[[], Mapping[str, AttributeValue]],
        gpu: GpuTime | None = None,
    ) -> None:
        self.thread = threading.current_thread()
        self._is_grad_enabled = is_grad_enabled
        self._step_spans = step_spans
        self._identity = identity
        self._gpu = gpu
        self._gpu_times = False  # a step
        self._main = self.thread is threading.main_thread()
        self._hand = CLOCK.hand()
        self._hand.settle()  # what another one has left
        self._trains = False  # it has stepped
        self._asking = self._waits = False
        self._special = True  # there is more to do at a step than to count it
        self._by_iterator: dict[int, Pass] = {}
        self._passes: list[Pass] = []  # that were asked for a batch, and are not over
        self._gone: deque[Pass] = deque()  # whose iterators are
        self._evaluates: Pass | None = None  # the one for which steps stand still
        self._idle, self._training, self._of_epochs = Known(), Known(), Known()  # loaders
        self._optimizers = Optimizers()
        self._steps = self._epochs = 0
        self._stepped_at = 0
        self._root: Span | None = None
        self._epoch: Pass | None = None
        self._step: Span | None = None

    def asks_for_an_iterator(self, loader: object) -> bool:
        """A loader is asked for its iterator, which may start workers; whether training waits for that."""
        if self._gone:
            self._see_off()
        return (
            loader in self._training
            and not self._asking
            and self._evaluates is None
            and self._is_grad_enabled()
            and CLOCK.begin_wait()
        )

    def begins(self, loader: object | None, iterator: object, began: int) -> Pass:
        """An iterator was given; no pass has begun before it is asked for a batch."""
        if (
            before := self._by_iterator.get(id(iterator))
        ) is not None:  # workers that persist are asked by the same one again
            ago = round(1e9 * (_now() - self._hand.since))  # the last step, which is what is known of its end
            self._over(before, before.ended or max(before.began, began - ago))
        of = self._by_iterator[id(iterator)] = Pass(loader, iterator, began, self._is_gone)
        of.made = self._steps
        return of

    # These three are the hottest path of the job: what is usual within an epoch, and nothing in them that could fail. They
    # move the clock's hand as a loop of `steps` does, where no step is under way that is told by somebody else.

    def goes_on_asking(self, iterator: object) -> Pass | None:
        """A batch of the epoch is asked for, and all is as it was at the one before; None for any other, see `asks`."""
        of = self._epoch
        if of is None or of.key != id(iterator) or self._special or self._asking or self._gone or self._evaluates:
            return None
        self._asking = True
        of.round = self._steps
        self._waits = self._hand.ask(_now())
        return of

    def goes_on(self, optimizer: object) -> bool:
        """A step of the epoch has ended, and all is as it was at the one before; False for any other, see `step`."""
        of = self._epoch
        if of is None or self._special or self._gone or self._evaluates or optimizer is not self._optimizers.present():
            return False
        self._asking = False  # a Ctrl-C may have come in between
        hand = self._hand
        if CLOCK.is_called_back or hand.began == NEVER:
            CLOCK.step_seen()
        elif not hand.told and not hand.loop:
            at = _now()
            if at < hand.paused:
                hand.seen = True
                hand.lap(at)
        of.steps += 1
        self._steps += 1
        return True

    def comes(self, of: Pass) -> None:
        """What was asked for is there, or failed to come."""
        self._asking = False
        if self._waits:
            self._hand.come(_now())
        if self._special:
            self._comes(of)

    def asks(self, iterator: object) -> Pass | None:
        """A batch is asked for. Gives what is to be told when it has come; None for one that is part of another."""
        if self._asking:
            return None
        if self._gone:
            self._see_off()
        of = self._by_iterator.get(id(iterator)) or self.begins(None, iterator, time.time_ns())
        if not of.batches:
            self._enters(of)
        of.batches += 1
        waits = False
        if of is not self._epoch and not self._is_grad_enabled():
            if self._main or self._trains:
                self._evaluate(of)
        else:
            if self._evaluates is not None:
                self._resume()
            of.evaluates, of.round = False, self._steps
            if self._epoch is not None and of.given > self._epoch.given:
                self._special = True  # whose the step is will be seen
            if self._trains:
                self._hand.over = NEVER  # what has ended without a step may be part of the one to come
                # Nor does one begin with a loader whose last pass had none, as of a validation with gradients.
                waits = (self._hand.began < NEVER or of.loader not in self._idle) and CLOCK.begin_wait()
                if self._step_spans and self._step is None and self._steps % self._step_spans == 0:
                    self._open_step(time.time_ns())
            else:
                of.asked = _now()
        self._asking, self._waits = True, waits
        return of

    def exhausts(self, of: Pass) -> None:
        """There was nothing more to come."""
        of.ended = time.time_ns()
        self.comes(of)
        if of is self._epoch and of.looks_ahead:
            self._special = True
            return  # its last step is still to come
        self._over(of, None)

    def step(self, optimizer: object) -> None:
        """An optimizer has stepped."""
        self._asking = False
        if not self._optimizers.ends_a_step(optimizer, self._steps):
            return
        if self._gone:
            self._see_off()
        if self._evaluates is not None:
            self._resume_by_a_step()
        goes_on = not self._trains or self._hand.began < NEVER
        if not self._trains:
            self._first_step()
        CLOCK.step_seen()
        at = time.time_ns()
        of = self._pass_of_the_step(at)
        if of is not None:
            of.steps += 1
            self._special = of.steps <= 1 or of.ended is not None or bool(self._step_spans) or self._gpu is not None
        elif not goes_on:  # of what was left at the end of an epoch; a second one in a row would tell of more
            self._hand.over = self._hand.since
        self._mark_the_step(at)
        self._steps += 1
        self._stepped_at = at
        if of is not None and of.ended is not None:
            self._over(of, None)

    def finish(self, error: BaseException | None = None) -> None:
        """The job ends, or nobody is to be told of it any more.

        Args:
            error: What ends it, if that is an exception.
        """
        for of in tuple(self._gone):
            if error is None or not of.was_left_by(error):
                self._over(of, of.ended)
        self._gone.clear()
        if self._evaluates is not None:
            if threading.current_thread() is self.thread:
                self._resume()
            else:
                self._hand.resumes = _now()  # its thread will close it
        self._evaluates = self._epoch = None
        if self._step is not None:
            spans.end(self._step, error=error)
        for of in reversed(self._passes):
            of.end_span(of.ended, error)
        self._passes.clear()
        self._by_iterator.clear()
        self._step = None
        if (root := self._root) is not None:
            self._root = None
            spans.end(root, error=error, attributes={run.STEPS: self._steps})

    def _comes(self, of: Pass) -> None:
        if of.asked:
            of.waited += _now() - of.asked
            of.asked = 0.0
        elif self._gpu is None or not self._trains or self._gpu_times:
            return
        elif of is not self._evaluates and of.ended is None:
            self._gpu_times = True
            self._gpu.begin()

    def _enters(self, of: Pass) -> None:
        """The first batch of a pass is asked for."""
        for each in [each for each in self._passes if each.ended is not None]:
            self._over(each, each.ended)  # no step has come after its last batch
        of.enters()
        of.evaluates = not self._is_grad_enabled()
        if not of.evaluates and not self._is_asked():
            self._optimizers.afresh = True
        self._passes.append(of)

    def _evaluate(self, of: Pass) -> None:
        """No step is expected while this goes on."""
        if self._evaluates is None:
            CLOCK.enter(EVALUATION)
        self._evaluates = of
        of.in_a_row += 1
        # With its second request, since one batch between two steps makes no evaluation; and once a pass.
        if of.in_a_row > 1 and of.span is None and of.steps == 0 and not of.interrupted:
            job = of.job
            if job is None or not job.is_recording() or not spans.tells_an_evaluation(job):
                of.span = spans.start(spans.EVALUATING, self._parent(of), of.began)

    def _resume(self) -> None:
        """Training goes on."""
        of, self._evaluates = self._evaluates, None
        if of is None or not of.is_gone:  # else it was noted on the hand
            CLOCK.leave(EVALUATION)
        for of in self._passes:
            if of.in_a_row:
                of.in_a_row, of.interrupted = 0, True
                if of.evaluates:
                    of.end_span()

    def _resume_by_a_step(self) -> None:
        """As `_resume`, but a pass is no evaluation's that a step may be of, for want of another one."""
        if (of := self._evaluates) is not None and not self._is_asked() and not of.interrupted:
            of.evaluates, of.in_a_row, of.round = False, 0, self._steps
            of.end_span()
        self._resume()

    def _over(self, of: Pass, at: int | None) -> None:
        """A pass is over, at that moment; now where it is None."""
        if self._by_iterator.get(of.key) is of:
            self._by_iterator.pop(of.key, None)
        if of not in self._passes:
            return
        self._passes.remove(of)
        ago = 0.0 if at is None else max(0.0, (time.time_ns() - at) / 1e9)
        if of is self._evaluates:
            self._resume()
        if of is self._epoch:
            self._leave_epoch(at)
            if not self._is_asked():
                CLOCK.rest(_now() - ago)
        elif not of.evaluates and self._trains:
            if not of.steps and of.loader is not None:
                self._idle.add(of.loader)
            if self._epoch is None and not self._is_asked() and not self._hand.told:
                self._hand.over = _now() - ago  # until a step has come all the same, or there is more to ask for
        of.end_span(at)

    def _leave_epoch(self, at: int | None) -> None:
        self._epoch = None
        self._gpu_times = False
        step, self._step = self._step, None
        if step is not None:
            spans.end(step, at=at)

    def _is_asked(self) -> bool:
        """Whether any pass was asked for training's batches since the last step, and is not over."""
        return any(of.round == self._steps and not (of.evaluates or of.is_gone) for of in self._passes)

    def _is_gone(self, of: Pass) -> None:
        """An iterator is gone. Called in the middle of anything, and so does next to nothing."""
        if self._by_iterator.get(of.key) is of:
            self._by_iterator.pop(of.key, None)
        hand = self._hand
        training = of in self._passes and self._epoch in (None, of) and not of.evaluates
        if of is self._evaluates:
            hand.resumes = _now()
        elif training and not (hand.told or hand.loop or self._is_asked()):
            hand.over = _now()
        self._gone.append(of)  # last: who finds it there settles the rest

    def _see_off(self) -> None:
        while self._gone:
            self._over(of := self._gone.popleft(), of.ended)

    def _first_step(self) -> None:
        """This thread trains: what it was seen to wait for until now was training's."""
        self._trains = True
        of = of_a_step(self._passes, self._steps, self._of_epochs)
        if of is not None:
            ago = (time.time_ns() - of.began) / 1e9
            CLOCK.has_begun(ago, of.waited)

    def _pass_of_the_step(self, at: int) -> Pass | None:
        """The pass that the step which ended now is part of, if there is one; it is an epoch."""
        epoch, of = self._epoch, of_a_step(self._passes, self._steps, self._of_epochs)
        if epoch is not None:
            if of is None or not of.takes_over(epoch, self._steps):
                return epoch
            self._over(epoch, of.began)
        if of is not None:
            return self._open_epoch(of)
        if self._root is None and spans.of_the_job() is None:
            self._root = spans.start(spans.ROOT, None, at, self._identity())
        return None

    def _open_epoch(self, of: Pass) -> Pass:
        self._epoch = of
        if of.loader is not None:
            self._training.add(of.loader)
            self._of_epochs.add(of.loader)
            self._idle.discard(of.loader)
        if of.job is None or not of.job.is_recording() or not spans.tells_epochs(of.job):
            of.span = spans.start(spans.EPOCH, self._parent(of, opens=True), of.began, {run.EPOCH: self._epochs})
        self._epochs += 1
        return of

    def _parent(self, of: Pass, *, opens: bool = False) -> Context:
        """Whose children the spans of a pass are: the job's own training span, else our epoch, else our root."""
        if of.job is not None and of.job.is_recording():
            return trace.set_span_in_context(of.job, of.context)
        if self._epoch is not None and self._epoch is not of and self._epoch.span is not None:
            return trace.set_span_in_context(self._epoch.span, of.context)
        if self._root is None and opens:
            self._root = spans.start(spans.ROOT, of.context, of.began, self._identity())
        return of.context if self._root is None else trace.set_span_in_context(self._root, of.context)

    def _open_step(self, began: int) -> None:
        of = self._epoch
        over = self._root if of is None else of.span or of.job
        if over is None:  # the first one of an epoch: of that nothing is known before it ends
            return
        within = trace.set_span_in_context(over, context.Context())
        self._step = spans.start(spans.STEP, within, began, {run.STEP: self._steps})

    def _mark_the_step(self, at: int) -> None:
        """A step ends, where more is told of steps than that."""
        if self._gpu is not None:
            self._gpu.end()
            self._gpu_times = self._epoch is None
            if self._gpu_times:  # no batch will tell when the next one begins
                self._gpu.begin()
        if not self._step_spans:
            return
        if self._step is None and self._steps % self._step_spans == 0:
            of = self._epoch
            began = of.began if of is not None and of.steps <= 1 else self._stepped_at
            self._open_step(began or at)
        if self._step is not None:
            spans.end(self._step)
            self._step = None
