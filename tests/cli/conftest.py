"""Commands that are stopped, and what is found in a home afterwards."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

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
        env=environment,
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
            step_seconds: float = 5.0,
            largest_file: int | None = None,
        ) -> tuple[int, float, str]:
            order = {"argv": [*map(str, argv), "--home", str(home)], "log": str(log), "save_seconds": save_seconds}
            order |= {"event": event, "count": count, "delay": delay, "signal": int(number)}
            order |= {"step_seconds": step_seconds, "largest_file": largest_file}
            print(json.dumps(order), file=server.stdin, flush=True)
            answer = json.loads(server.stdout.readline())
            return answer["code"], answer["seconds"], log.read_text()

        yield once
        server.stdin.close()


@pytest.fixture
def home(trained: Path, tmp_path: Path) -> Path:
    """A copy of `trained` to do with as a test likes."""
    return Path(shutil.copytree(trained, tmp_path / "home"))


@pytest.fixture
def taught(trained: Path, tmp_path: Path) -> Path:
    """A home with the teachers of `trained` alone: to train and judge them takes longer than all that a test asks."""
    here = tmp_path / "taught" / "results"
    for kind in ("runs", "records"):
        (here / kind).mkdir(parents=True)
        for path in (trained / "results" / kind).glob("*-teacher_*"):
            (shutil.copytree if path.is_dir() else shutil.copy)(path, here / kind / path.name)
    return here.parent


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
