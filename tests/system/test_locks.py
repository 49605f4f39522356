"""A lock has one living owner, whom it names; a dead one's is taken over, on every kind of file system."""

from __future__ import annotations

import errno
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.system import locks
from bench.system.locks import Busy, check_mine, held, is_held

HOLD = """
import sys, time
from pathlib import Path
from bench.system.locks import held
with held(Path(sys.argv[1]), "it is done"):
    print("held", flush=True)
    time.sleep(60)
"""
DEAD = 2**22 + 1
"""More than any process number."""


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "run" / "lock"


@pytest.fixture
def no_flock(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    monkeypatch.setattr(locks, "_SETTLE", 0.05)


@contextmanager
def holder(lock: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def left_by(lock: Path, process: int, host: str, seconds_ago: float = 0) -> None:
    """A lock's file as a process left it that gave its last sign of life some time ago."""
    lock.parent.mkdir(exist_ok=True)
    lock.write_text(json.dumps({"process": process, "host": host, "since": "2026-01-01T00:00:00+00:00"}))
    os.utime(lock, (time.time() - seconds_ago,) * 2)


def test_one_process_has_it_and_is_named_with_its_age(lock: Path) -> None:
    with holder(lock) as process:
        assert is_held(lock)
        with pytest.raises(Busy) as caught, held(lock, "it is done"):
            pass
    message = str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == message
    assert re.search(rf"it is done by process {process.pid} on \S+ since 20\S+ \(\d+ s\)\.", message), message
    assert f"delete {lock}" in message
    assert len(message.splitlines()) == 2


def test_a_killed_owner_s_is_taken_over(lock: Path) -> None:
    with holder(lock) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert lock.exists()
        assert not is_held(lock)
        with held(lock, "it is done") as before:
            assert before is not None
            assert before.process == process.pid
            assert json.loads(lock.read_text())["process"] == os.getpid()
    assert not lock.exists()


def test_nothing_is_left_after_the_block_and_nobody_is_taken_over_from(lock: Path) -> None:
    for _ in range(2):
        with held(lock, "it is done") as before:
            assert before is None
            assert is_held(lock)
        assert not lock.exists()
        assert not is_held(lock)


@pytest.mark.parametrize("content", [b"", b"x", b"{}", b"\xff", b'{"process": 1e99, "host": 1, "since": []}'])
def test_a_file_that_names_nobody_is_free(lock: Path, content: bytes) -> None:
    lock.parent.mkdir()
    lock.write_bytes(content)
    with held(lock, "it is done") as before:
        assert before is None


@pytest.mark.usefixtures("no_flock")
class TestWithoutFlock:
    def test_a_living_process_has_it(self, lock: Path) -> None:
        left_by(lock, os.getppid(), locks.socket.gethostname(), seconds_ago=3600)
        assert is_held(lock)
        with pytest.raises(Busy, match=f"process {os.getppid()} on"), held(lock, "it is done"):
            pass

    @pytest.mark.parametrize("process", [DEAD, os.getpid()], ids=["no-such", "own"])
    def test_a_dead_process_has_not(self, lock: Path, process: int) -> None:
        """Nor has one of this process's own number: in a container the one that died had the same."""
        left_by(lock, process, locks.socket.gethostname())
        with held(lock, "it is done") as before:
            assert before is not None
            assert before.process == process

    def test_of_two_at_the_same_moment_one_has_it(self, lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        real = locks._write

        def overtaken(*arguments: object) -> locks.Owner:
            own = real(*arguments)  # type: ignore[arg-type]
            left_by(lock, os.getppid(), "elsewhere")
            return own

        monkeypatch.setattr(locks, "_write", overtaken)
        with pytest.raises(Busy, match="on elsewhere"), held(lock, "it is done"):
            pass
        assert "elsewhere" in lock.read_text()


class TestOnAnotherMachine:
    """Whose process cannot be looked at, and whose flock may not be seen here."""

    def test_one_that_gives_signs_of_life_has_it(self, lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(locks, "_SILENCE", 2.0)
        left_by(lock, 1, "elsewhere", seconds_ago=1)
        threading.Timer(0.2, os.utime, [lock]).start()
        with pytest.raises(Busy, match="process 1 on elsewhere"), held(lock, "it is done"):
            pass
        assert is_held(lock)

    def test_one_that_is_silent_has_not(self, lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(locks, "_SILENCE", 0.3)
        left_by(lock, 1, "elsewhere", seconds_ago=1)
        with held(lock, "it is done") as before:
            assert before is not None
            assert before.host == "elsewhere"

    def test_a_long_silence_needs_no_waiting(self, lock: Path) -> None:
        left_by(lock, 1, "elsewhere", seconds_ago=3600)
        assert not is_held(lock)

        def pause(seconds: float) -> None:
            raise AssertionError(f"it waits {seconds} s")

        with held(lock, "it is done", pause) as before:
            assert before is not None

    def test_the_owner_gives_signs_of_life(self, lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(locks, "_BEAT", 0.05)
        with held(lock, "it is done"):
            os.utime(lock, (0, 0))
            time.sleep(0.5)
            assert time.time() - lock.stat().st_mtime < 60


def test_an_owner_notices_that_it_was_taken_for_dead(lock: Path) -> None:
    with held(lock, "it is done"):
        check_mine(lock)
        lock.unlink()  # as the message advises
        check_mine(lock)
        left_by(lock, 1, "elsewhere")
        with pytest.raises(BenchError, match="taken over by process 1 on elsewhere"):
            check_mine(lock)
    assert lock.exists()


def test_whoever_waited_for_a_file_that_is_gone_does_not_have_it(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between opening the file and locking it the owner may have let go, and a third process have made it anew."""
    real, calls = locks._flock, []

    def slow(*arguments: object) -> bool | None:
        if not calls:
            lock.unlink()
        calls.append(1)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(locks, "_flock", slow)
    with held(lock, "it is done"):
        assert len(calls) == 2
        with pytest.raises(Busy), held(lock, "it is done"):
            pass


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BenchError, match="Cannot write"), held(tmp_path / "file" / "lock", "it is done"):
        pass


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_what_is_no_lock_of_ours_is_left_alone(tmp_path: Path, kind: str) -> None:
    path, target = tmp_path / "lock", tmp_path / "thesis.tex"
    target.write_text("years of work")
    path.symlink_to(target) if kind == "link" else os.mkfifo(path)
    assert not locks.is_held(path)
    with pytest.raises(BenchError, match="lock is no lock of ours"), locks.held(path, "It is done"):
        pytest.fail("it was taken")
    assert target.read_text() == "years of work"
