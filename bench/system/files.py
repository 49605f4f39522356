"""Writing files so that a reader sees the old content or the new, never a part, and notices what was changed since."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError

if TYPE_CHECKING:
    from torch import Tensor

DIGEST = "digest"
"""The key under which JSON that is sealed, and the metadata of weights, hold their SHA-256."""
_NO_ROOM = 1 << 16
"""Free bytes below which whatever went wrong with a write is the full disk's fault."""


def cannot_write(path: Path, error: OSError) -> BenchError:
    """The error for a file that the system refused to write."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        advice = "Free some space, or choose a folder on another disk with --home DIR or --out DIR."
    else:
        advice = "Choose a folder you may write to with --home DIR or --out DIR."
    return BenchError(f"Cannot write {path}: {error.strerror or error}.\n{advice}")


def check_writable(folder: Path) -> None:
    """A BenchError where no file can be made in a folder, which is made if need be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise cannot_write(folder, error) from error


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
        flush(temporary)
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
    """What the system said, where it stopped a write: torch.save has errors of its own for it."""
    if isinstance(error, OSError):
        return error
    if path.parent.is_dir() and shutil.disk_usage(path.parent).free < _NO_ROOM:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return None


def write_text_atomically(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def flush_to_disk(path: Path) -> None:
    """Have a file's content, and its name in its folder, survive a power cut; a file that is not there is ignored."""
    if not path.exists():
        return
    try:
        flush(path)
        flush(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error


def flush(path: Path) -> None:
    """Have a file's content, or the names in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sealed(content: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """Plain values with a digest of them and of their run, so that neither a flipped bit nor a copy passes."""
    return {**content, DIGEST: _digest(content, owner)}


def unsealed(content: Any, owner: str) -> Any:
    """Plain values without their digest; those of versions that wrote none are taken as they are.

    Raises:
        ValueError: the digest is not theirs.
    """
    if not isinstance(content, dict) or DIGEST not in content:
        return content
    values = {key: value for key, value in content.items() if key != DIGEST}
    if content[DIGEST] != _digest(values, owner):
        raise ValueError(f"it was changed, or is not of {owner}: its digest does not match")
    return values


def unsealed_line(text: str, owner: str) -> Any:
    """As `unsealed`, of a line of JSON; quick where the line is as it was written."""
    body, mark, rest = text.rpartition(f', "{DIGEST}": "')
    if mark and rest == _digest_of(body + "}", owner) + '"}':
        return json.loads(body + "}")
    return unsealed(json.loads(text), owner)


def _digest(content: Mapping[str, Any], owner: str) -> str:
    return _digest_of(json.dumps(content), owner)


def _digest_of(text: str, owner: str) -> str:
    return hashlib.sha256(f"{owner}\n{text}".encode("utf-8", "surrogatepass")).hexdigest()


def tensors_file(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """The content of a safetensors file, equal for equal tensors and metadata.

    The library writes the metadata in an order that differs from call to call. Sorted, the header is as long as before.

    Args:
        tensors: on the CPU, contiguous, none sharing memory with another.
    """
    from safetensors.torch import save

    content = save(dict(tensors), dict(metadata))
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    return b"".join([content[:8], text.ljust(end - 8), memoryview(content)[end:]])
