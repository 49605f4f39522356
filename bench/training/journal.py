"""metrics.jsonl, and the loggers that hear of its lines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.loggers import LoggedRun, Logger, flat
from bench.runs.folder import RunFolder
from bench.system.files import write_text_atomically
from bench.system.text import one_line

STATE = "loggers.json"


@dataclass
class Journal:
    """metrics.jsonl, and the loggers that hear of its lines.

    Attributes:
        steps: in an epoch.
        say: tells the user of a logger that failed.
        config: of the run, plain values.
    """

    folder: RunFolder
    loggers: dict[str, Logger]
    steps: int
    say: Callable[[str], None]
    config: Mapping[str, Any]
    _lines: int = 0
    _state: dict[str, dict[str, Any]] = field(default_factory=dict)

    def begin(self, epoch: int, step: int) -> None:
        """Go on at a place in the run: drop what is beyond it, and give every logger what it has not had yet."""
        missing = self.folder.forget_metrics_after(epoch, step)
        if missing:
            epochs = ", ".join(map(str, missing))
            self.say(f"Warning: {self.folder.path / 'metrics.jsonl'} has lost the lines of epochs {epochs}.")
        kept = self.folder.metrics() if self.loggers else []
        self._state = {name: {"lines": 0, "memory": {}} | self._read_state().get(name, {}) for name in self.loggers}
        for name, logger in self._each():
            memory = self._state[name]["memory"]
            self._call(name, logger.begin, LoggedRun(self.folder.id, self.folder.path, self.config, memory))
            self._call(name, self._save_state)
        for line in kept:
            self._pass_on(line)

    def write(self, line: Mapping[str, Any]) -> None:
        """Add a line."""
        self.folder.append_metrics(line)
        self._pass_on(line)

    def end(self, finished: bool) -> None:
        """The sitting is over."""
        for name, logger in self._each():
            self._call(name, logger.end, finished)
        self.loggers = {}

    def _pass_on(self, line: Mapping[str, Any]) -> None:
        """Give a line to every logger that has not had it."""
        self._lines += 1
        for name, logger in self._each():
            if self._state[name]["lines"] < self._lines:
                # First the note, then the line: a process that dies in between loses it, and never logs it twice.
                self._state[name]["lines"] = self._lines
                self._call(name, self._save_state)
                self._call(name, self._log, logger, line)

    def _log(self, logger: Logger, line: Mapping[str, Any]) -> None:
        logger.log(flat(line), (line["epoch"] - 1) * self.steps + line["step"])

    def _each(self) -> Iterator[tuple[str, Logger]]:
        """The loggers that have not failed; one may fail meanwhile."""
        yield from list(self.loggers.items())

    def _call(self, name: str, function: Callable[..., None], *arguments: Any) -> None:
        if name not in self.loggers:
            return
        try:
            function(*arguments)
        except Exception as error:  # a disk, a network, a stranger's code: nothing of it may end a run
            del self.loggers[name]
            reason = one_line(f"{type(error).__name__}: {error}")[:200]
            self.say(f"Warning: the logger {name} failed and is left out from here on ({reason}). The run goes on.")

    def _read_state(self) -> dict[str, dict[str, Any]]:
        try:
            found = json.loads((self.folder.path / STATE).read_text(encoding="utf-8"))
            return {name: {"lines": int(each["lines"]), "memory": dict(each["memory"])} for name, each in found.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
            self.say(f"Warning: {self.folder.path / STATE} is damaged ({type(error).__name__}); loggers begin anew.")
            return {}

    def _save_state(self) -> None:
        others = {name: each for name, each in self._read_state().items() if name not in self._state}
        write_text_atomically(self.folder.path / STATE, json.dumps(others | self._state, indent=1) + "\n")
