"""Commands as users give them, and one home that all tests start from.

Most commands run in this process, through the same `main` that the installed `bench` calls: to import PyTorch anew for
each would take minutes. What is about processes (signals, locks, plug-ins, the import path) runs in processes.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from subprocess import PIPE
from typing import NamedTuple
from unittest.mock import patch

import pytest

from bench.cli.main import main

DIGITS = ("--dataset", "digits", "--recipe", "demo", "--epochs", "1", "--limit-train", "100")


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


Bench = Callable[..., Result]


@pytest.fixture(scope="session", autouse=True)
def _no_home_of_the_user_s() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.delenv("BENCH_HOME", raising=False)
        yield


@pytest.fixture(scope="session")
def bench() -> Bench:
    """bench("status", home=...): the command in this process; `home` is appended as --home."""

    def call(*arguments: object, home: Path | None = None) -> Result:
        argv = ["bench", *map(str, arguments), *([] if home is None else ["--home", str(home)])]
        out, err, code = io.StringIO(), io.StringIO(), 0
        with patch.object(sys, "argv", argv), redirect_stdout(out), redirect_stderr(err):
            try:
                main()
            except SystemExit as stop:
                code = stop.code if isinstance(stop.code, int) else 1
        return Result(code, out.getvalue(), err.getvalue())

    return call


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="session")
def start() -> Start:
    """start("run", ..., home=...): the command in a process of its own, as it is installed.

    `module=True` starts `python -m bench`; `cwd` and `path` (PYTHONPATH) are the process's.
    """
    script = Path(sys.executable).with_name("bench")

    def popen(
        *arguments: object,
        home: Path | None = None,
        cwd: Path | None = None,
        path: Path | str | None = None,
        module: bool = False,
        **options: object,
    ) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "bench"] if module or not script.exists() else [str(script)]
        command += [*map(str, arguments), *([] if home is None else ["--home", str(home)])]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "BENCH_"))}
        environment |= {"OMP_NUM_THREADS": "1"} | ({} if path is None else {"PYTHONPATH": str(path)})
        return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
            command, cwd=cwd, env=environment, text=True, **{"stdout": PIPE, "stderr": PIPE, **options}
        )

    return popen


@pytest.fixture(scope="session")
def process(start: Start) -> Bench:
    """process("status", home=...): as `start`, waited for."""

    def run(*arguments: object, **options: object) -> Result:
        with start(*arguments, **options) as running:
            out, err = running.communicate(timeout=120)
        return Result(running.returncode, out, err)

    return run


Sit = Callable[..., tuple[int, float, str]]


@pytest.fixture(scope="session")
def sit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sit]:
    """sit(*argv, home=..., event="step", count=3, delay=0.01): (exit code, seconds after the signal, what it said).

    The command in a process forked for it, which gets a signal (`number`) at a moment; see sittings.py.
    """
    log = tmp_path_factory.mktemp("sittings") / "log"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BENCH_")}
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("sittings.py"))],
        env=environment | {"OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"

        def once(
            *argv: object,
            home: Path,
            event: str = "",
            count: int = 1,
            delay: float = 0.0,
            number: int = signal.SIGKILL,
            save_seconds: float = 300.0,
        ) -> tuple[int, float, str]:
            order = {"argv": [*map(str, argv), "--home", str(home)], "log": str(log), "save_seconds": save_seconds}
            order |= {"event": event, "count": count, "delay": delay, "signal": int(number)}
            print(json.dumps(order), file=server.stdin, flush=True)
            answer = json.loads(server.stdout.readline())
            return answer["code"], answer["seconds"], log.read_text()

        yield once
        server.stdin.close()


@pytest.fixture(scope="session")
def trained(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with SAT and CIARD on a hundred digits, CIARD's two teachers, and both students under `whitebox`."""
    home = tmp_path_factory.mktemp("trained")
    for method in ("sat", "ciard"):
        result = bench("run", "--method", method, "--student", "digits-cnn", *DIGITS, home=home)
        assert result.code == 0, result
    result = bench("eval", "--suite", "whitebox", "--limit", 16, home=home)
    assert result.code == 0, result
    return home


@pytest.fixture
def home(trained: Path, tmp_path: Path) -> Path:
    """A copy of `trained` to do with as a test likes."""
    return Path(shutil.copytree(trained, tmp_path / "home"))


@pytest.fixture(scope="session")
def digits() -> tuple[str, ...]:
    """Options of a run of about a second."""
    return DIGITS


@pytest.fixture(scope="session")
def runs() -> Callable[..., list[Path]]:
    """runs(home, "sat"): the run folders of a home with that in their names."""

    def find(home: Path, kind: str = "") -> list[Path]:
        return sorted(path for path in (home / "results" / "runs").iterdir() if kind in path.name)

    return find


@pytest.fixture(scope="session")
def records() -> Callable[..., list[Path]]:
    """records(home, "sat"): the records of a home with that in their names."""

    def find(home: Path, kind: str = "") -> list[Path]:
        return sorted(path for path in (home / "results" / "records").glob("*.json") if kind in path.name)

    return find


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], dict[str, tuple[int, bytes]]]:
    """contents(folder): every file below it, when it was changed and its bytes."""

    def read(folder: Path) -> dict[str, tuple[int, bytes]]:
        files = (path for path in folder.rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}

    return read
