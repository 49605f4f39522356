"""`npz:FILE`: arrays as `numpy.savez` stores them; memory-mapped: a large file is never in memory as a whole."""

from __future__ import annotations

import logging
import math
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.data.arrays import numbered, split_of, splits_of
from bench.data.dataset import Dataset, Split
from bench.data.decode import cache_key
from bench.data.places import file_argument
from bench.errors import BenchError
from bench.system.files import atomic_path
from bench.system.text import one_line

logger = logging.getLogger(__name__)

NAMES = ("x_train", "y_train", "x_test", "y_test")
ADDITIONAL = (("image", "label"), ("x_train", "y_train"), ("x", "y"))
"""How a file of additional images calls images and labels; the published files of generated images do the first."""

_SMALL = 1 << 26
"""Bytes up to which what is compressed is unpacked into memory, else into a file."""


def load_npz(name: str, root: Path) -> Dataset:
    """Read x_train, y_train, x_test and y_test of FILE, and names of the classes from `classes` if it is there.

    Images are bytes or in [0, 1], channels last or first; labels whole numbers from 0 on. The dataset is called "npz:"
    and the file's name.

    Raises:
        BenchError: an array is missing, is of another kind, or does not go with the others; the file is damaged.
    """
    file = Arrays(file_argument(name), root)
    file.check_has(NAMES)
    train, test = splits_of([(f"{each} in {file.path}", file.read(each)) for each in NAMES])
    labels = (f"y_train in {file.path}", f"y_test in {file.path}")
    classes = tuple(map(str, file.read("classes"))) if "classes" in file.names else numbered(train, test, labels)
    return Dataset(f"npz:{file.path.stem}", train, test, classes)


def additional_file(name: str) -> Path:
    """The file of additional images that "npz:FILE" names; a BenchError where it names none."""
    if not name.startswith("npz:"):
        raise BenchError(f"Additional images {name!r}: write npz:FILE.\nIts arrays are image and label, or x and y.")
    return file_argument(name)


def load_additional(name: str, root: Path) -> Split:
    """Read the additional training images of "npz:FILE": `image` and `label`, or x_train and y_train, or x and y.

    Raises:
        BenchError: as `load_npz`; the name is none of an .npz file.
    """
    file = Arrays(additional_file(name), root)
    there = file.names
    pair = next((pair for pair in ADDITIONAL if set(pair) <= set(there)), ADDITIONAL[0])
    file.check_has(pair)
    x, y = ((f"{each} in {file.path}", file.read(each)) for each in pair)
    return split_of(x, y)


@dataclass(frozen=True)
class Arrays:
    """The arrays of an .npz file.

    Attributes:
        root: data folder, in whose `decoded` what is compressed and large is unpacked.
    """

    path: Path
    root: Path

    @property
    def names(self) -> Sequence[str]:
        """The arrays that are there."""
        with self._opened() as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]

    def check_has(self, names: Sequence[str]) -> None:
        """A BenchError where an array is missing."""
        there = self.names
        missing = [name for name in names if name not in there]
        if missing:
            raise BenchError(
                f"{self.path} has no {' and no '.join(missing)}; it has {one_line(', '.join(there)) or 'nothing'}.\n"
                f"Store them under these names: numpy.savez(FILE, {', '.join(f'{name}=...' for name in names)})."
            )

    def read(self, name: str) -> np.ndarray:
        """An array; memory-mapped where it is stored as it is, or large."""
        with self._opened() as archive:
            entry = archive.getinfo(f"{name}.npy")
            if entry.compress_type == zipfile.ZIP_STORED:
                return self._mapped(self.path, _beginning(self.path, entry), entry)
            if entry.file_size > _SMALL:
                try:
                    return self._mapped(self._unpacked(archive, entry), 0, entry)
                except BenchError as error:
                    logger.warning("%s is unpacked into memory. %s", self.path, error)
            with archive.open(entry) as stream:
                shape, order, kind = self._header(stream, entry)
                return np.frombuffer(stream.read(), kind).reshape(shape, order=order)

    @contextmanager
    def _opened(self) -> Iterator[zipfile.ZipFile]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                yield archive
        except BenchError:
            raise
        except Exception as error:  # zipfile, zlib and NumPy raise a dozen types for what is damaged
            raise BenchError(
                f"{self.path} cannot be read: {one_line(str(error))}.\n"
                "It is damaged or no .npz file: store it again with numpy.savez."
            ) from error

    def _mapped(self, path: Path, beginning: int, entry: zipfile.ZipInfo) -> np.ndarray:
        """The array of an entry whose content lies in a file as it is, from some byte on."""
        with path.open("rb") as stream:
            stream.seek(beginning)
            shape, order, kind = self._header(stream, entry)
            at = stream.tell()
        if at - beginning + math.prod(shape) * kind.itemsize != entry.file_size:
            raise ValueError(f"{entry.filename} is not as long as it says")
        # Written to are only copies of pages: PyTorch takes no array that cannot be.
        return np.memmap(path, kind, "c", at, shape, order) if math.prod(shape) else np.empty(shape, kind)

    def _header(self, stream: Any, entry: zipfile.ZipInfo) -> tuple[tuple[int, ...], Any, np.dtype]:
        """Shape, order and kind of the array that begins here."""
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, kind = read(stream)
        if kind.hasobject:
            raise BenchError(
                f"{entry.filename} in {self.path} holds Python's objects.\nStore it as an array of numbers."
            )
        return shape, "F" if fortran else "C", kind

    def _unpacked(self, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Path:
        """The file that holds a compressed array as it is; made if there is none."""
        place = self.root.expanduser() / "decoded" / f"{cache_key([self.path])}-{Path(entry.filename).name}"
        if not (place.is_file() and place.stat().st_size == entry.file_size):
            with atomic_path(place) as temporary, archive.open(entry) as packed, temporary.open("wb") as stream:
                shutil.copyfileobj(packed, stream, 1 << 20)
        return place


def _beginning(path: Path, entry: zipfile.ZipInfo) -> int:
    """Where the content of an entry that is stored as it is begins: after a header of its own."""
    with path.open("rb") as stream:
        stream.seek(entry.header_offset + 26)
        name, extra = np.frombuffer(stream.read(4), "<u2")
    return entry.header_offset + 30 + int(name) + int(extra)
