"""The state a run goes on from: the last that was saved and the one before it, each with a checksum.

A file is a line that tells version and SHA-256, then what `torch.save` wrote. Nothing of it is unpickled before the
checksum is right, and then with `weights_only=True`.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.system.files import atomic_path

LAST = "resume.pt"
BEFORE = "resume-before.pt"
VERSION = 1

_HEAD = re.compile(rb"ard-bench state (\d{1,9}) ([0-9a-f]{64})\n")


class _Damaged(Exception):
    """A file that cannot be gone on from; its text says why."""


def save(folder: Path, state: Mapping[str, Any]) -> None:
    """Save a state; the one saved before is kept beside it.

    Raises:
        BenchError: the file cannot be written; both states that were there still are.
    """
    import torch

    content = io.BytesIO()
    torch.save(dict(state), content)
    last, before = folder / LAST, folder / BEFORE
    with atomic_path(last) as temporary:
        with temporary.open("wb") as stream:
            stream.write(b"ard-bench state %d %s\n" % (VERSION, _digest(content).encode()))
            stream.write(content.getbuffer())
            stream.flush()
            os.fsync(stream.fileno())
        if last.exists():  # only now that the new one is whole and on the disk
            os.replace(last, before)


def load(folder: Path, say: Callable[[str], None]) -> dict[str, Any] | None:
    """The last state that is whole; None where none was saved.

    Args:
        say: tells the user of a damaged state that is passed over.

    Raises:
        BenchError: no state is whole, or one was written by a newer version.
    """
    problems = []
    for path in (folder / LAST, folder / BEFORE):
        if not path.exists():
            continue
        try:
            state = _read(path)
        except _Damaged as error:
            problems.append(f"{path} is damaged ({error})")
            continue
        for problem in problems:
            say(f"{problem}; the state saved before it is taken instead.")
        return state
    if problems:
        raise BenchError(f"{problems[0]}; the run cannot go on from it.\nStart it again with --restart.")
    return None


def exists(folder: Path) -> bool:
    """Whether there is a state to go on from, whole or not."""
    return (folder / LAST).exists() or (folder / BEFORE).exists()


def forget(folder: Path) -> None:
    """Remove all states."""
    for name in (LAST, BEFORE):
        (folder / name).unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            head = _HEAD.fullmatch(stream.readline(128))
            content = io.BytesIO(stream.read())
    except OSError as error:
        raise _Damaged(error.strerror or str(error)) from error
    if head is None:
        raise _Damaged("it does not begin as a saved state does")
    if int(head[1]) > VERSION:
        raise BenchError(
            f"{path} was written by a newer version of ard-bench (format {int(head[1])}, this one reads {VERSION}).\n"
            "Update ard-bench, or start the run again with --restart."
        )
    if int(head[1]) < VERSION or _digest(content) != head[2].decode():
        raise _Damaged("its checksum is wrong")
    import torch

    try:
        state = torch.load(content, map_location="cpu", weights_only=True)
    except Exception as error:  # sealed, but not by us: torch raises a dozen types for what it refuses
        raise _Damaged(f"it holds more than weights and plain values, {type(error).__name__}") from error
    if not isinstance(state, dict):
        raise _Damaged(f"it holds a {type(state).__name__}")
    return state


def _digest(content: io.BytesIO) -> str:
    return hashlib.sha256(content.getbuffer()).hexdigest()
