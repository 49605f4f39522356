"""Writing files so that a reader sees the old content or the new, never a part."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.errors import BenchError


def cannot_write(path: Path, error: OSError) -> BenchError:
    """The error for a file that the system refused to write."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        advice = "Free some space, or choose a folder on another disk with --home DIR or --out DIR."
    else:
        advice = "Choose a folder you may write to with --home DIR or --out DIR."
    return BenchError(f"Cannot write {path}: {error.strerror or error}.\n{advice}")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a path beside `path` to write to, which takes its place when the block ends well.

    Raises:
        BenchError: the folder cannot be written, or the disk is full; what was there before is still there.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        temporary.unlink(missing_ok=True) if temporary.parent.is_dir() else None


def write_text_atomically(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
