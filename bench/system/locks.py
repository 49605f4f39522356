"""A lock on a piece of work: it names its owner, shows that the owner lives, and outlives no crash.

The system's lock on the file (flock) ends with the process that holds it. Some file systems have no such locks, and
some keep them to one machine; there the owner's signs of life decide: it touches the file every few seconds.
"""

from __future__ import annotations

import fcntl
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from bench.errors import BenchError
from bench.system.files import cannot_write
from bench.system.text import duration

Result = TypeVar("Result")

_BEAT = 10.0
"""Seconds between two signs of life."""
_SILENCE = 35.0
"""Seconds without one after which an owner on another machine counts as dead."""
_LONG_SILENCE = 600.0
"""As `_SILENCE`, by this machine's clock and so at once: clocks may differ by minutes."""
_SETTLE = 1.0
"""Without flock: seconds in which a rival that saw no owner either has written its name."""
_LOOK_AGAIN = 2.0
"""Seconds between two looks at what another process does."""
_PATIENCE = 1.0
"""Seconds for whoever looks at the lock (`bench status`) to let go of it."""


class Owner(BaseModel):
    """Who holds a lock.

    Attributes:
        since: UTC, ISO 8601, to the second.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    process: int
    host: str
    since: str

    def __str__(self) -> str:
        return f"process {self.process} on {self.host} since {self.since}{self._age()}"

    def _age(self) -> str:
        try:
            age = datetime.now(timezone.utc) - datetime.fromisoformat(self.since)
        except (ValueError, TypeError):
            return ""
        return f" ({duration(max(age.total_seconds(), 0))})"


class Busy(BenchError):
    """Another process holds the lock."""

    def __init__(self, what: str, path: Path, owner: Owner | None) -> None:
        super().__init__(what, path, owner)  # all, by which it is pickled: other processes of the run get it
        self.what, self.path, self.owner = what, path, owner

    def __str__(self) -> str:
        return (
            f"{self.what} by {self.owner or 'another process'}.\n"
            f"Wait until it is finished, or stop it. If it is dead, delete {self.path}; then run the command again."
        )


@contextmanager
def held(path: Path, what: str, pause: Callable[[float], None] = time.sleep) -> Iterator[Owner | None]:
    """Hold the lock until the block ends, or the process does, however it ends.

    Args:
        path: the lock's file; it and its folder are made if need be.
        what: is done while it is held ("RUN is being trained"), for messages.
        pause: waits some seconds; may raise.

    Yields:
        The dead owner that it was taken over from; None where there was none.

    Raises:
        Busy: a living process has it.
        BenchError: the file cannot be written.
    """
    stream, locked = _opened(path)
    with stream:
        before = _owner(path)
        if locked is False or (before is not None and _lives(path, before, locked is None, pause)):
            raise Busy(what, path, before)
        own = _write(stream, path)
        if locked is None:
            pause(_SETTLE)
            if _owner(path) != own:
                raise Busy(what, path, _owner(path))
        ended = threading.Event()
        alive = threading.Thread(target=_show_life, args=(stream.fileno(), ended), daemon=True)
        alive.start()
        try:
            yield before
        finally:
            ended.set()
            alive.join()
            if _owner(path) == own:
                path.unlink(missing_ok=True)


def patiently(work: Callable[[], Result], pause: Callable[[float], None], say: Callable[[str], None]) -> Result:
    """What some work comes to that holds a lock; where it is `Busy`, it waits for the other's end and starts again.

    `pause` waits some seconds and may raise; `say` tells the user why nothing happens.
    """
    while True:
        try:
            return work()
        except Busy as error:
            say(f"Waiting: {str(error).splitlines()[0]}")
            while is_held(error.path):
                pause(_LOOK_AGAIN)


def is_held(path: Path) -> bool:
    """Whether a living process holds a lock, as far as one look tells."""
    try:
        with _open(path, "r") as stream:
            locked = _flock(stream, fcntl.LOCK_SH, 0)
            owner, silent = _owner(path), time.time() - path.stat().st_mtime
    except (OSError, BenchError):
        return False
    if locked is False or owner is None:
        return locked is False
    if owner.host == socket.gethostname():
        return locked is None and _runs(owner.process)
    return silent < _SILENCE


def check_mine(path: Path) -> None:
    """A BenchError where another process has taken the lock over: two must not write the same files."""
    owner = _owner(path)
    if owner is not None and (owner.process, owner.host) != (os.getpid(), socket.gethostname()):
        raise BenchError(
            f"{path.parent.name} was taken over by {owner}, so this process stops and writes nothing more.\n"
            "What was saved before is kept; that process goes on from it."
        )


def _opened(path: Path) -> tuple[IO[str], bool | None]:
    """The lock's file, open, and what `_flock` said of it."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            stream = _open(path, "a+")
            locked = _flock(stream, fcntl.LOCK_EX, _PATIENCE)
            if locked is False or _is_at(stream, path):
                return stream, locked
            stream.close()
        except OSError as error:
            raise cannot_write(path, error) from error


def _open(path: Path, mode: str) -> IO[str]:
    """The lock's file; a BenchError for a symbolic link, whose target is not ours to write, and for what is no file."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise BenchError(f"{path} is no lock of ours, but a link or no file at all.\nRemove it, then run this again.")
    return open(path, mode, encoding="utf-8", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o666))


def _is_at(stream: IO[str], path: Path) -> bool:
    """Whether an open file is still the one at a path: whoever let go of a lock has removed its file."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _flock(stream: IO[str], kind: int, patience: float) -> bool | None:
    """Lock a file, now or within `patience` seconds; False: another process has it; None: there are no such locks."""
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(stream, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(0.05)
        except OSError:
            return None
        else:
            return True


def _owner(path: Path) -> Owner | None:
    """Who a lock's file names; None for an empty one, which nobody holds."""
    try:
        return Owner.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def _write(stream: IO[str], path: Path) -> Owner:
    """Put this process's name into the file."""
    since = datetime.now(timezone.utc).isoformat(timespec="seconds")
    own = Owner(process=os.getpid(), host=socket.gethostname(), since=since)
    try:
        stream.truncate(0)
        # Past Python's buffer, which on a full disk would try, and fail, once more when the file is closed.
        os.write(stream.fileno(), f"{own.model_dump_json()}\n".encode())
    except OSError as error:
        raise cannot_write(path, error) from error
    return own


def _lives(path: Path, owner: Owner, no_flock: bool, pause: Callable[[float], None]) -> bool:
    """Whether the owner that a lock's file names is alive, although the system would give us the lock."""
    if owner.host == socket.gethostname():
        # In containers the process that goes on often has the number of the one that died.
        return no_flock and owner.process != os.getpid() and _runs(owner.process)
    first = _changed(path)
    if time.time() - first > _LONG_SILENCE:
        return False
    until = time.monotonic() + _SILENCE
    while time.monotonic() < until:
        pause(min(1.0, _SILENCE / 5))
        if _changed(path) != first:
            return True
    return False


def _changed(path: Path) -> float:
    """When a file was changed last; opened first, because network file systems ask their server only then."""
    try:
        with path.open("rb") as stream:
            return os.fstat(stream.fileno()).st_mtime
    except OSError:
        return 0.0


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's, or no process number at all
        return True
    return True


def _show_life(descriptor: int, ended: threading.Event) -> None:
    while not ended.wait(_BEAT):
        with suppress(OSError):
            os.utime(descriptor)
