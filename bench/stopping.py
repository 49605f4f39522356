"""Stopping without loss: a signal is noted, the step in hand is finished, the state is saved."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from bench.errors import BenchError


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

    def __bool__(self) -> bool:
        return self.signal_number is not None

    def interrupt(self, message: str) -> Interrupted:
        """The error to raise once the state is saved."""
        return Interrupted(message, self.signal_number or signal.SIGINT)


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Within the block SIGINT and SIGTERM are noted instead of ending the process; a second one ends it at once."""
    request = StopRequest()

    def note(number: int, frame: FrameType | None) -> None:
        request.signal_number = number
        for each, handler in before.items():
            signal.signal(each, handler)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
