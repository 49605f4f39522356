"""Writing files so that a reader sees the old content or the new, never a part."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.errors import BenchError

_NO_ROOM = 1 << 16
"""Free bytes below which whatever went wrong with a write is the full disk's fault."""


def cannot_write(path: Path, error: OSError) -> BenchError:
    """The error for a file that the system refused to write."""
    return BenchError(
        f"Cannot write {path}: {error.strerror or error}.\n"
        "Free some space, or choose a folder you may write to with --home DIR or --out DIR."
    )


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
    except BenchError:
        raise
    except Exception as error:
        refused = _refused_by_system(error, path)
        if refused is None:
            raise
        raise cannot_write(path, refused) from error
    finally:
        temporary.unlink(missing_ok=True) if temporary.parent.is_dir() else None


def _refused_by_system(error: Exception, path: Path) -> OSError | None:
    """What the system said, where it stopped a write: safetensors (Rust) and torch have errors of their own for it."""
    if isinstance(error, OSError):
        return error
    number = re.search(r"\(os error (\d+)\)", str(error))
    if number is not None:
        return OSError(int(number[1]), os.strerror(int(number[1])))
    if path.parent.is_dir() and shutil.disk_usage(path.parent).free < _NO_ROOM:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return None


def write_text_atomically(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
