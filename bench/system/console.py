"""What the user sees while work goes on: lines of text; on terminals progress bars and a live view too."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from bench.errors import printable

LOG_SECONDS = 60
"""Shortest time between two lines of the log of a process among several."""


class Reporter:
    """Prints to one console; progress bars appear on terminals alone, so that logs stay readable."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self._progress: Progress | None = None
        self._said_once: set[str] = set()

    @classmethod
    def silent(cls) -> Reporter:
        """One that prints nothing, for a process that others speak for."""
        return cls(Console(stderr=True, quiet=True))

    def say(self, text: str) -> None:
        """A line of text, printed above any progress bar; names in it are never read as markup."""
        self.console.print(printable(text), markup=False, soft_wrap=True)

    def say_once(self, text: str) -> None:
        """A line that every task of a sweep would say again: the first time alone."""
        if text not in self._said_once:
            self._said_once.add(text)
            self.say(text)

    def log(self, line: str) -> None:
        """A line on how work goes on, where there is no terminal that shows it otherwise."""
        if not self.console.is_terminal:
            self.say(line)

    @contextmanager
    def task(self, description: str, total: int, done: int = 0) -> Iterator[Callable[[int], None]]:
        """A progress bar; yields a function that advances it by a number of units."""
        with self._bars() as progress:
            task = progress.add_task(description, total=total, completed=done)
            try:
                yield lambda units: progress.advance(task, units)
            finally:
                progress.remove_task(task)

    @contextmanager
    def live(self, view: RenderableType) -> Iterator[None]:
        """Show something that changes, as long as the block lasts; nothing where output is no terminal."""
        if not self.console.is_terminal:
            yield
            return
        with Live(view, console=self.console, transient=True):
            yield

    @contextmanager
    def _bars(self) -> Iterator[Progress]:
        """One live display for all tasks that are under way at the same time."""
        if self._progress is not None:
            yield self._progress
            return
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as progress:
            self._progress = progress
            try:
                yield progress
            finally:
                self._progress = None


class Lines(Reporter):
    """Keeps what is said, for the process that started this one; what is logged is written at once, now and then.

    Args:
        name: stands before each line of the log: several processes write one.
    """

    def __init__(self, name: str = "") -> None:
        super().__init__(Console(file=io.StringIO()))
        self.name, self.lines = name, list[str]()
        self._logged = time.monotonic()

    def say(self, text: str) -> None:
        self.lines.append(text)

    def log(self, line: str) -> None:
        if time.monotonic() - self._logged >= LOG_SECONDS:
            Reporter().say(f"{self.name} {line}")
            self._logged = time.monotonic()
