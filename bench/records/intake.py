"""Taking files into the folder of records: all of them or none, whatever stops it.

What is new is copied into a folder of its own beside the records; then a list of it is written there, and from then on
it is decided. What was stopped before that is undone, and what was stopped after it is finished, by the next command
that reads the records.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from bench.errors import BenchError
from bench.records.index import INCOMING
from bench.system.files import cannot_write, flush, write_text_atomically
from bench.system.left_out import name_left_out
from bench.system.locks import Busy, held
from bench.system.text import one_line

_DECIDED, _LOCK = "decided", ".incoming.lock"
_BUSY = "Records are being taken in"


def take_in(files: Sequence[Path], folder: Path) -> None:
    """Copy files into a folder, which is made if need be.

    Raises:
        Busy: another process is taking some in.
        BenchError: one is there already, or the folder cannot be written; nothing was taken in.
    """
    stage = folder / INCOMING
    try:
        with held(folder / _LOCK, _BUSY):
            _settle(folder)
            for file in files:
                if (folder / file.name).exists():
                    raise BenchError(
                        f"Nothing was taken in: {folder / file.name} was written by someone else meanwhile.\n"
                        "Merge again: what is the same is then passed over."
                    )
            try:
                stage.mkdir()
                for file in files:
                    flush(Path(shutil.copyfile(file, stage / file.name)))
                flush(stage)
                write_text_atomically(stage / _DECIDED, json.dumps([file.name for file in files]))
                flush(stage)
                _finish(folder)
            except BaseException:
                _undo(folder)
                raise
    except OSError as error:
        raise cannot_write(folder, error) from error


def settle(folder: Path) -> None:
    """Finish or undo what was stopped; nothing to do where another process is at it, or the folder is read-only."""
    if not (folder / INCOMING).is_dir():
        return
    try:
        with suppress(Busy, OSError), held(folder / _LOCK, _BUSY):
            _settle(folder)
    except BenchError as error:
        name_left_out("merge", [error])


def _settle(folder: Path) -> None:
    if (folder / INCOMING / _DECIDED).exists():
        _finish(folder)
    else:
        shutil.rmtree(folder / INCOMING, ignore_errors=True)


def _finish(folder: Path) -> None:
    for name in _decided(folder):
        # One that was written here meanwhile stays: records are never changed.
        if (folder / INCOMING / name).exists() and not (folder / name).exists():
            os.replace(folder / INCOMING / name, folder / name)
    flush(folder)
    shutil.rmtree(folder / INCOMING)


def _undo(folder: Path) -> None:
    """Take back what was placed; the list goes last, so that a kill in the midst of it leaves all to be finished."""
    stage = folder / INCOMING
    for name in _decided(folder):
        if not (stage / name).exists() and (folder / name).exists():
            os.replace(folder / name, stage / name)
    (stage / _DECIDED).unlink(missing_ok=True)
    shutil.rmtree(stage, ignore_errors=True)


def _decided(folder: Path) -> Iterable[str]:
    """The names to take in; none where it was not decided.

    Raises:
        BenchError: the list of them is damaged.
    """
    path = folder / INCOMING / _DECIDED
    try:
        return [Path(name).name for name in json.loads(path.read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return ()
    except (ValueError, TypeError, RecursionError) as error:
        raise BenchError(
            f"{path}, a list of records to take in, is damaged ({one_line(str(error))}).\n"
            f"Move the records beside it into {folder} if you want them, and delete the folder {INCOMING}."
        ) from error
