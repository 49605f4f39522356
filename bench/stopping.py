"""Stopping without loss: a signal is noted, the step in hand is finished, the state is saved."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from bench.errors import BenchError

if TYPE_CHECKING:
    from torch import Tensor, nn

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Ctrl-C, what batch systems send at the end, and what Slurm sends as a warning before it."""


class Interrupted(BenchError):
    """Work stopped because a signal asked for it; everything done so far is saved."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number
        self.exit_code = 128 + signal_number

    def __reduce__(self) -> tuple[type[Interrupted], tuple[str, int]]:
        # An exception is pickled by its message alone unless told otherwise; worker processes send this one home.
        return type(self), (str(self), self.signal_number)


class StopRequest:
    """Whether a signal has asked the process to stop, and which one."""

    signal_number: int | None = None
    _nothing_to_save = False

    def __bool__(self) -> bool:
        return self.signal_number is not None

    def interrupt(self, message: str) -> Interrupted:
        """The error to raise once the state is saved."""
        return Interrupted(message, self.signal_number or signal.SIGINT)

    def check(self) -> None:
        """Raise `Interrupted` where a signal has asked to stop; what is done is saved, or need not be."""
        if self:
            raise self.interrupt("Stopped; what is finished is kept.\nRun the same command again to continue.")

    def pause(self, seconds: float) -> None:
        """Wait, but no longer than until a signal asks to stop (`Interrupted`)."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.check()
            time.sleep(min(left, 0.2))
        self.check()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Within the block there is nothing to save, and a signal stops the work where it is (`Interrupted`)."""
        self.check()
        self._nothing_to_save = True
        try:
            yield
        finally:
            self._nothing_to_save = False
        self.check()

    def note(self, number: int) -> None:
        """A signal came."""
        self.signal_number = number
        if self._nothing_to_save:
            self.check()


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Within the block the signals of `SIGNALS` are noted instead of ending the process; a second Ctrl-C ends it.

    Further SIGTERMs and SIGUSR1s change nothing: batch systems send them to a job several times.
    """
    request = StopRequest()

    def note(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, before[signal.SIGINT])
        request.note(number)

    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        signal.signal(number, note)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
