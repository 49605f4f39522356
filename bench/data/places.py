"""Where data lies: the folder behind `parquet:DIR`, and the words that tell where to put what is missing."""

from __future__ import annotations

import os
from pathlib import Path

from bench.errors import BenchError


def folder_argument(name: str) -> Path:
    """The folder in "parquet:DIR" or "imagefolder:DIR", as an absolute path; `~` is expanded.

    Raises:
        BenchError: no folder is named, or there is none at that place.
    """
    folder = _argument(name, "folder", "DIR", "data/mine")
    if not os.path.isdir(folder):
        kind = name.partition(":")[0]
        raise BenchError(f"{folder} is not a folder.\nGive {kind}: the folder that holds the dataset.")
    return folder


def file_argument(name: str) -> Path:
    """The file in "npz:FILE", as an absolute path; `~` is expanded.

    Raises:
        BenchError: no file is named, or there is none at that place.
    """
    file = _argument(name, "file", "FILE", "data/mine.npz")
    if not file.is_file():
        raise BenchError(f"{file} is not a file.\nGive {name.partition(':')[0]}: the file that holds the arrays.")
    return file


def _argument(name: str, what: str, placeholder: str, example: str) -> Path:
    kind, _, argument = name.partition(":")
    if not argument:
        raise BenchError(
            f"The dataset {name!r} names no {what}.\nWrite {kind}:{placeholder}, for example {kind}:{example}."
        )
    path = Path(os.path.expanduser(argument)).resolve()
    if name != name.encode(errors="replace").decode():
        raise BenchError(f"The name of {path} is not UTF-8, and could not be written into any result.\nRename it.")
    return path


def check_is_file(path: Path) -> None:
    """A BenchError where a path leads to a pipe or a device: whoever reads that may wait for ever."""
    if path.exists() and not path.is_file():
        raise BenchError(f"{path} is no file.\nReplace or remove it, or fetch the dataset again.")


def where_to_put(root: Path, what: str) -> str:
    """One sentence: that `what` belongs into the data folder `root`, and how that follows from --home."""
    place = root.expanduser().resolve()
    return f"Put {what} into {place} (with --home DIR: into DIR/{place.name}) and run the command again."
