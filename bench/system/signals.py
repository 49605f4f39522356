"""Stopping without loss: a signal is noted, the step in hand is finished, the state is saved."""

from __future__ import annotations

import math
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from bench.errors import BenchError

if TYPE_CHECKING:
    from torch import Tensor, nn

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Ctrl-C, what batch systems send at the end, and what Slurm sends as a warning before it."""
KEPT = "Stopped; what is finished is kept.\nRun the same command again to continue."
_REMIND = 1.0
"""Seconds after which the main thread is told again of a signal that it should have followed."""
_REMINDERS = 3
"""How often it is told, before the process ends where it is: all files are whole at any moment."""


class Interrupted(BenchError):
    """Work stopped because a signal asked for it; everything done so far is saved."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message, signal_number)  # both, by which it is pickled: worker processes send it home
        self.message, self.exit_code = message, 128 + signal_number

    def __str__(self) -> str:
        return self.message


class StopRequest:
    """Whether a signal has asked the process to stop, and which one came first.

    Attributes:
        tell: says to the user at once that the signal was heard, where work first finishes its step; None: no one does.
    """

    signal_number: int | None = None
    tell: Callable[[str], None] | None = None
    _came = math.inf
    _followed = False
    _patience: float | None = None
    _message = KEPT

    def __bool__(self) -> bool:
        return self.signal_number is not None

    def interrupt(self, message: str) -> Interrupted:
        """The error to raise once the state is saved."""
        self._followed = True
        return Interrupted(message, self.signal_number or signal.SIGINT)

    def check(self) -> None:
        """Raise `Interrupted` where a signal has asked to stop; what is done is saved, or need not be."""
        if self:
            raise self.interrupt(self._message)

    def pause(self, seconds: float) -> None:
        """Wait, but no longer than until a signal asks to stop (`Interrupted`)."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.check()
            time.sleep(min(left, 0.2))
        self.check()

    @contextmanager
    def at_once(self, message: str = KEPT) -> Iterator[None]:
        """Within the block there is nothing to save, and a signal stops the work where it is (`Interrupted`)."""
        with self.within(0, message):
            self.check()
            yield
            self.check()

    @contextmanager
    def within(self, seconds: float, message: str = KEPT) -> Iterator[None]:
        """Within the block a signal gives the work so long to end; then it is broken off where it is (`Interrupted`).

        Whatever the work was changing in memory is then of no use: go on from what is saved.
        """
        before = self._patience, self._message
        try:
            self._patience, self._message = seconds, message
            yield
        except Exception as error:
            if self.overdue and not isinstance(error, Interrupted):  # an import that is broken off says many things
                raise self.interrupt(self._message) from error
            raise
        finally:
            self._patience, self._message = before

    @property
    def age(self) -> float:
        """Seconds since the signal; below 0 where there was none."""
        return time.monotonic() - self._came

    @property
    def is_awaited(self) -> bool:
        """Whether a signal came that work goes on after, for a step or so."""
        return bool(self) and not (self.overdue or self._followed)

    @property
    def overdue(self) -> bool:
        """Whether the work in hand has had its time since the signal."""
        return bool(self) and self._patience is not None and self.age >= self._patience

    def hear(self, number: int) -> None:
        """A signal came, and is for whoever asks."""
        if not self:
            self.signal_number, self._came = number, time.monotonic()

    def note(self, number: int) -> None:
        """A signal came, in the main thread."""
        self.hear(number)
        if self.overdue:
            self.check()


_requests: list[StopRequest] = []
"""Of the blocks that are open, the innermost last."""


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Within the block the signals of `SIGNALS` are noted instead of ending the process; a second Ctrl-C ends it.

    Further SIGTERMs and SIGUSR1s change nothing: batch systems send them to a job several times. Only the main thread
    may answer signals; in another one they go where they went before.
    """
    if threading.current_thread() is not threading.main_thread():
        yield StopRequest()
        return
    request = StopRequest()
    before = {number: signal.getsignal(number) for number in SIGNALS}
    _requests.append(request)
    try:
        with _watched(request):
            for number in SIGNALS:
                signal.signal(number, lambda number, _: request.note(number))
            yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if _requests.pop() and _requests:  # what nobody answered in here, the work around it is to hear of
            _requests[-1].hear(request.signal_number or signal.SIGTERM)


@contextmanager
def _watched(request: StopRequest) -> Iterator[None]:
    """A thread hears every signal too: the main one is deaf while a library's call lasts, or swallows what it hears.

    The system's own handler writes each signal's number into a pipe, whatever Python is at.
    """
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=_watch, args=(request, ours), daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        theirs.shutdown(socket.SHUT_WR)  # closing it is not enough where a forked process has it too
        thread.join()
        theirs.close()
        ours.close()


def _watch(request: StopRequest, pipe: socket.socket) -> None:
    """Hear signals until the pipe is closed; remind the main thread of one that it should have followed by now."""
    interrupts, reminded, reminders = 0, 0.0, 0
    answer: threading.Thread | None = None
    while True:
        if select.select([pipe], [], [], _REMIND / 4 if request else None)[0]:
            received = pipe.recv(64)
            if not received:
                if answer is not None:
                    answer.join(_REMIND)  # so that it does not come after the last words
                return
            numbers = [number for number in received if number in SIGNALS]  # a library may listen to others
            for number in numbers:
                request.hear(number)
            if numbers and answer is None:
                # In a thread of its own: it may have to wait for what the main one is printing, and this one may not.
                answer = threading.Thread(target=_answer, args=(request, numbers[0]), daemon=True)
                answer.start()
            interrupts += numbers.count(signal.SIGINT)
            if interrupts > 1:
                _end_now(signal.SIGINT)
        if not request.overdue:
            reminders = 0
        elif time.monotonic() - reminded > _REMIND:
            reminded, reminders = time.monotonic(), reminders + 1
            if reminders > _REMINDERS:  # it waits in a library for what may never come
                _end_now(request.signal_number or signal.SIGTERM)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)


def _answer(request: StopRequest, number: int) -> None:
    """Say at once that a signal was heard: a step may take long, and who gets no answer kills what would be saved."""
    if request.tell is None or not request.is_awaited:
        return
    said = "Stopping after this step; Ctrl-C again: at once."
    request.tell(said if number == signal.SIGINT else f"{signal.Signals(number).name}: stopping after this step.")


def _end_now(number: int) -> None:
    """End the process where it is, as a kill would, but with the terminal's cursor visible."""
    show_cursor = b"\x1b[?25h" if os.isatty(2) else b""
    with suppress(OSError):
        os.write(2, show_cursor + b"\nStopped at once; what was saved is kept.\n")
    os._exit(128 + number)


def _leave_parent_s_pipe() -> None:
    """A process forked from this one hears its own signals alone."""
    with suppress(ValueError):
        signal.set_wakeup_fd(-1)


os.register_at_fork(after_in_child=_leave_parent_s_pipe)


def checked(model: Callable[[Tensor], Tensor], check: Callable[[], None]) -> Callable[[Tensor], Tensor]:
    """The model with a check before every pass; what it raises ends the work."""

    def passing(x: Tensor) -> Tensor:
        check()
        return model(x)

    return passing


@contextmanager
def interruptible(network: nn.Module, check: Callable[[], None]) -> Iterator[None]:
    """Within the block `check` is called before every pass through the network, and what it raises ends the work.

    An attack of minutes, a library's too, so ends within one pass.
    """
    handle = network.register_forward_pre_hook(lambda *_: check())
    try:
        yield
    finally:
        handle.remove()
