"""Commands as users give them, in this process or in one of their own, and what they came to."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
from contextlib import AbstractContextManager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from unittest.mock import patch

from bench.cli.main import main

DIGITS = ("--dataset", "digits", "--recipe", "demo", "--epochs", "1", "--limit-train", "100")
"""Options of a run of about a second."""


class Result(NamedTuple):
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def mistake(self) -> str:
        """The message of a user's mistake: one or two lines, exit code 2, no traceback."""
        assert self.code == 2, self
        assert "Traceback" not in self.err, self.err
        _, message = re.split(r"^Error: ", self.err, flags=re.MULTILINE)
        assert len(message.splitlines()) <= 2, message
        return str(message)


class Bench(Protocol):
    """bench("status", home=...): the command in this process; `home` is appended as --home."""

    def __call__(self, *arguments: object, home: Path | None = None) -> Result: ...


class Start(Protocol):
    """start("run", ..., home=...): the command in a process of its own; further options are Popen's."""

    def __call__(self, *arguments: object, home: Path | None = None, **options: Any) -> subprocess.Popen[str]: ...


class Process(Protocol):
    """process("status", home=...): as `Start`, waited for."""

    def __call__(self, *arguments: object, home: Path | None = None, **options: Any) -> Result: ...


class Sit(Protocol):
    """sit(*argv, home=..., event="step", count=3, delay=0.01): (exit code, seconds after the signal, what it said)."""

    def __call__(
        self,
        *argv: object,
        home: Path,
        event: str = "",
        count: int = 1,
        delay: float = 0.0,
        number: int = signal.SIGKILL,
        again: str = "",
        save_seconds: float = 300.0,
        step_seconds: float = 5.0,
        largest_file: int | None = None,
    ) -> tuple[int, float, str]: ...


class Mount(Protocol):
    """`with mounted("-t", "tmpfs", "-o", "size=1m", "tmpfs") as place`: a file system."""

    def __call__(self, *arguments: object) -> AbstractContextManager[Path]: ...


def run_here(*arguments: object, home: Path | None = None) -> Result:
    """A command in this process, through the same `main` that the installed `bench` calls."""
    argv = ["bench", *map(str, arguments), *([] if home is None else ["--home", str(home)])]
    out, err, code = io.StringIO(), io.StringIO(), 0
    with patch.object(sys, "argv", argv), redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
    return Result(code, out.getvalue(), err.getvalue())


def users_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "BENCH_"))}
