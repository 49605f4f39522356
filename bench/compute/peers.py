"""What the processes of one run show each other besides their work: that they live, and whether they wait.

Each writes a line about itself into the store at which they met, every second, and reads the others'. A collective
operation of PyTorch's cannot tell who is missing, and waits for as long as it was told to.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bench.system.signals import StopRequest

STEP_TIMEOUT = 600.0
"""Seconds without a step after which a run of several processes ends, unless the user says otherwise."""
GO_ON = "Start all of them again by the same command; they go on from the last state that was saved."

_BEAT = 1.0
_SILENCE = 5.0
"""Seconds without a sign of life after which a process is gone, or stopped."""
_SAID_EVERY = 60.0
"""Seconds without a step after which a message says so, and again after as many."""
_STOP_SECONDS = 20.0
"""Seconds that a process which was asked to stop waits for the others' step, in which all of them would stop."""
_ENDED = "ended"


class Peers:
    """The processes of a run, watched by a thread of one of them."""

    def __init__(self, store: Any, rank: int, size: int, step_timeout: float, stop: StopRequest) -> None:
        """store: of `torch.distributed`, the same for all."""
        self.store, self.rank, self.size, self.step_timeout, self.stop = store, rank, size, step_timeout, stop
        self.steps = 0
        self.stepped_at: float | None = None  # None outside training, where one may work for hours and the others wait
        self.seen: dict[int, tuple[str, float]] = {}  # by rank: its last line, and when that was new
        self.said_at = 0.0
        self.followed = False  # whether this one ends because another did

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Show and look, in a thread, until the block ends."""
        over = threading.Event()
        self._show("0 0")
        thread = threading.Thread(target=self._watch, args=(over,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            if not self.followed:
                self._show(_ENDED)

    @contextmanager
    def in_step(self) -> Iterator[None]:
        """Within the block there has to be a step (`stepped`) every `step_timeout` seconds."""
        self.stepped()
        self.stepped_at = time.monotonic()
        try:
            yield
        finally:
            self.stepped_at = None

    def stepped(self) -> None:
        """All processes have made a step together."""
        self.steps += 1
        if self.stepped_at is not None:
            self.stepped_at = time.monotonic()

    def gone(self) -> str:
        """Who has ended, in words; waits until those that were killed have been silent for long enough."""
        self.followed = True
        time.sleep(_SILENCE + _BEAT)
        return _named(self.missing(), self.size)

    def missing(self) -> list[int]:
        """The ranks that have ended, or give no sign of life."""
        now = time.monotonic()
        return [
            rank
            for rank, (line, new) in sorted(self.seen.copy().items())
            if rank != self.rank and (line == _ENDED or now - new > _SILENCE)
        ]

    def _show(self, line: str) -> None:
        try:
            self.store.set(f"bench/{self.rank}", line)
        except RuntimeError:  # the store ended with the process that had it
            return

    def _watch(self, over: threading.Event) -> None:
        beat = 0
        while not over.wait(_BEAT):
            beat += 1
            self._show(f"{beat} {self.steps}")
            self._look()
            self._judge()

    def _look(self) -> None:
        for rank in range(self.size):
            try:
                key = f"bench/{rank}"
                line = self.store.get(key).decode() if self.store.check([key]) else ""
            except RuntimeError:
                continue
            if rank not in self.seen or self.seen[rank][0] != line:
                self.seen[rank] = line, time.monotonic()

    def _judge(self) -> None:
        """Say that no step is made, and end the process when that lasts too long: it may wait inside PyTorch."""
        stepped_at = self.stepped_at  # read once: it is set by the thread that trains
        if stepped_at is None:
            if self.rank > 0 and self.stop.age > _STOP_SECONDS:  # it waits for the first one, which is told itself
                self._end("Stopped", 128 + (self.stop.signal_number or 0))
            return
        waited = time.monotonic() - stepped_at
        missing = self.missing()
        whom = f"; {_named(missing, self.size)} gives no sign of life" if missing else ""
        if min(waited, self.stop.age) > _STOP_SECONDS:
            self._end(f"Stopped without a step for {waited:.0f} s{whom}", 128 + (self.stop.signal_number or 0))
        if waited > self.step_timeout:
            self._end(f"No step for {waited:.0f} s{whom}", 2)
        first = min(set(range(self.size)) - set(missing))
        if self.rank == first and waited > _SAID_EVERY and time.monotonic() - self.said_at > _SAID_EVERY:
            self.said_at = time.monotonic()
            self._say(f"No step for {waited:.0f} s{whom}; the run ends after {self.step_timeout:.0f} (--step-timeout).")

    def _end(self, why: str, code: int) -> None:
        self._say(f"{why}; this process ({self.rank}) ends.\n{GO_ON}")
        os._exit(code)

    def _say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


def _named(ranks: list[int], size: int) -> str:
    numbers = ", ".join(map(str, ranks))
    return f"Of the {size} processes of this run, {f'number {numbers}' if ranks else 'another one'} (counted from 0)"
