"""Archives that a contributor sends: their records, unpacked where they can do no harm."""

from __future__ import annotations

import gzip
import io
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from bench.errors import BenchError
from bench.system.text import is_visible, one_line

_MOST_FILES = 10_000
_MOST_BYTES = 500_000_000
_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
_ZIP_KINDS = (0, 0o4, 0o10)
"""What the upper bits of a zip entry's mode say of no kind, a folder and a plain file; all others are special files."""
_DAMAGE = (OSError, EOFError, ValueError, RuntimeError, zlib.error, zipfile.BadZipFile, tarfile.TarError)
"""What the libraries raise for an archive that is damaged, encrypted or packed in an unknown way."""


@dataclass(frozen=True)
class _Member:
    """What an archive holds under a name.

    Attributes:
        size: of the content in bytes, as the archive declares it; no more is ever read.
        plain: whether it is a file or a folder, no link and no device.
        open: the content, until the next member is asked for.
    """

    name: str
    size: int
    plain: bool
    open: Callable[[], IO[bytes] | None]


class _TooLarge(Exception):
    """An archive holds more than any set of records does."""


@contextmanager
def unpacked(paths: Iterable[Path]) -> Iterator[list[Path]]:
    """The paths, with a temporary folder of its `*.json` files in place of each archive.

    Raises:
        BenchError: an archive that is damaged or too large, or that holds an unsafe name, a link, a device, or two
            records of one name. Nothing is ever written outside the temporary folder.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        places = []
        for number, path in enumerate(paths):
            if path.is_file() and path.name.lower().endswith(_SUFFIXES):
                # Under the archive's name, by which messages then call it.
                folder = Path(scratch) / str(number) / path.name
                folder.mkdir(parents=True)
                _unpack(path, folder)
                places.append(folder)
            else:
                places.append(path)
        yield places


def _unpack(archive: Path, folder: Path) -> None:
    try:
        for member in _checked(archive):
            own = PurePosixPath(member.name).name
            stream = member.open() if own.endswith(".json") and not own.startswith(".") else None
            if stream is None:
                continue
            if (folder / own).exists():
                raise _refusal(archive, f"it holds two files called {own!r}")
            with stream:
                (folder / own).write_bytes(stream.read(member.size))
    except _TooLarge as error:
        limits = f"{_MOST_BYTES // 10**6} MB or {_MOST_FILES:,} files"
        raise _refusal(archive, f"it is larger than {limits}") from error
    except _DAMAGE as error:
        raise _refusal(archive, f"it is damaged or encrypted ({type(error).__name__})") from error


def _checked(archive: Path) -> Iterator[_Member]:
    """An archive's members, as long as all of them are what an honest archive of records holds."""
    if archive.stat().st_size > _MOST_BYTES:
        raise _TooLarge
    declared = 0
    members = _zip_members(archive) if archive.name.lower().endswith(".zip") else _tar_members(archive)
    for count, member in enumerate(members, start=1):
        declared += member.size
        if count > _MOST_FILES or declared > _MOST_BYTES:
            raise _TooLarge
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts or "\\" in member.name or not all(map(is_visible, member.name)):
            raise _refusal(archive, f"it holds a file with the unsafe name {member.name[:60]!r}")
        if not member.plain:
            raise _refusal(archive, f"it holds a link or a device, {member.name[:60]!r}")
        yield member


def _zip_members(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as opened:
        for entry in opened.infolist():
            plain = entry.external_attr >> 28 in _ZIP_KINDS
            yield _Member(entry.filename, entry.file_size, plain, partial(opened.open, entry))


def _tar_members(archive: Path) -> Iterator[_Member]:
    opener = open if archive.name.lower().endswith(".tar") else gzip.open
    with opener(archive, "rb") as stream, tarfile.open(fileobj=_Limited(stream), mode="r|") as tar:
        for entry in tar:
            plain = entry.isreg() or entry.isdir()
            yield _Member(entry.name, entry.size, plain, partial(tar.extractfile, entry))


class _Limited(io.BufferedIOBase):
    """A stream of which no more than `_MOST_BYTES` are read: a tar's headers, too, may be packed a thousandfold."""

    def __init__(self, stream: io.BufferedIOBase) -> None:
        self.stream, self.left = stream, _MOST_BYTES

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes; `_TooLarge` beyond the limit."""
        content = self.stream.read(size)
        self.left -= len(content)
        if self.left < 0:
            raise _TooLarge
        return content


def _refusal(archive: Path, reason: str) -> BenchError:
    return BenchError(f"{one_line(f'{archive} cannot be taken in: {reason}')}.\nAsk for the plain *.json files.")
