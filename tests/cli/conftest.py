"""Commands that are stopped, and what is found in a home afterwards."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.recipes import recipe

from ..helpers.commands import Sit, Start
from ..warm import bench_for_shells


def await_pause(process: int) -> None:
    """Return once a process that stays is asleep: a signal that came before its pause would leave it there for ever."""
    while Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "SZ":
        time.sleep(0.001)


@pytest.fixture(scope="session")
def sit(warm: Start, tmp_path_factory: pytest.TempPathFactory) -> Sit:
    """sit(*argv, home=..., event="step", count=3, delay=0.01): (exit code, seconds after the signal, what it said).

    The command in a process of its own, which gets a signal (`number`) so long after a moment (sittings.py has them;
    "": it is left alone), and once more when it has said `again`.
    """
    log = tmp_path_factory.mktemp("sittings") / "log"
    script = Path(__file__).with_name("sittings.py")

    def once(
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
    ) -> tuple[int, float, str]:
        order = {"argv": [*map(str, argv), "--home", str(home)], "event": event, "count": count}
        order |= {"save_seconds": save_seconds, "step_seconds": step_seconds, "largest_file": largest_file}
        heard, bell = os.pipe()
        with log.open("w") as said, open(heard, "rb", buffering=0) as ears:
            process = warm(script, json.dumps(order), stdin=bell, stdout=said, stderr=said)
            os.close(bell)
            if rung := ears.read(1):  # else it has ended
                time.sleep(delay)
                if rung == b"z":
                    await_pause(process.pid)
                process.send_signal(number)
            if again:
                while again not in log.read_text():
                    assert process.poll() is None, log.read_text()
                    time.sleep(0.01)
                process.send_signal(number)
            sent = time.monotonic()
            code = process.wait()
        return code, time.monotonic() - sent, log.read_text()

    return once


@pytest.fixture
def shell(server: Callable[[], str], tmp_path: Path) -> dict[str, str]:
    """The environment of a shell whose `bench` starts warm."""
    folder = tmp_path / "warm"
    folder.mkdir()
    bench_for_shells(folder, server())
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("BENCH_", "SLURM_"))}
    return environment | {"PATH": f"{folder}:{environment['PATH']}"}


def copy_teachers(trained: Path, home: Path, *kinds: str) -> Path:
    for kind in kinds:
        here = home / "results" / kind
        here.mkdir(parents=True)
        for path in (trained / "results" / kind).glob("*-teacher_*"):
            (shutil.copytree if path.is_dir() else shutil.copy)(path, here / path.name)
    return home


@pytest.fixture
def taught(trained: Path, tmp_path: Path) -> Path:
    """A home with the teachers of `trained` alone: to train and judge them takes longer than all that a test asks."""
    return copy_teachers(trained, tmp_path / "taught", "runs", "records")


@pytest.fixture
def judged_by_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes that have a teacher judged by eight images."""
    real = recipe.load
    monkeypatch.setattr(recipe, "load", lambda name: real(name).model_copy(update={"teacher_limit": 8}))


@pytest.fixture(scope="session")
def judged(trained: Path) -> Callable[[Path], Path]:
    """judged(home): a home with the records of `trained`'s teachers, to be found for teachers that it trains as those.

    To judge a teacher takes longer than to train it.
    """
    return lambda home: copy_teachers(trained, home, "records")
