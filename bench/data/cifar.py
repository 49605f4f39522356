"""CIFAR-10 and CIFAR-100 as torchvision stores them, verified by its checksums; fetched when missing."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from http.client import HTTPException
from pathlib import Path
from threading import Thread
from typing import Any, BinaryIO
from urllib.request import Request, urlopen

import numpy as np
import torch
from rich.console import Console
from rich.progress import wrap_file
from torchvision.datasets import CIFAR10, CIFAR100
from torchvision.datasets.utils import check_integrity, extract_archive

from bench.data.dataset import Dataset, Split
from bench.data.places import where_to_put
from bench.errors import BenchError
from bench.system.files import atomic_path

ANSWER_SECONDS = 6.0
"""How long the server may take to answer, and then to go on sending."""

_SOURCES = {"cifar10": CIFAR10, "cifar100": CIFAR100}


def load_cifar(name: str, root: Path) -> Dataset:
    """CIFAR-10 or CIFAR-100 (fine labels): 50,000 training and 10,000 test images of shape (3, 32, 32).

    Read from `root/cifar-10-batches-py` or `root/cifar-100-python`. Where that folder is missing it is
    unpacked from the published archive in `root`, which is downloaded if it is missing too.

    Raises:
        BenchError: the files are missing and cannot be downloaded, or one of them is damaged.
    """
    source, root = _SOURCES[name], root.expanduser()
    if not (root / source.base_folder).exists():
        _unpack(_archive(source, root), source, root)
    try:
        train, test = source(root, train=True), source(root, train=False)
    except RuntimeError as error:  # torchvision's word for a wrong checksum
        raise _damaged(source, root) from error
    except OSError as error:
        raise BenchError(f"Cannot read {error.filename}: {error.strerror}.\nMake it readable.") from error
    licence = "none stated by its authors; they ask to cite Krizhevsky 2009"
    return Dataset(name, _split(train), _split(test), tuple(train.classes), licence=licence)


def is_at_hand(name: str, root: Path) -> bool:
    """Whether the dataset can be loaded from `root` without fetching it."""
    source, root = _SOURCES[name], root.expanduser()
    return (root / source.base_folder).exists() or (root / source.filename).exists()


def _split(data: Any) -> Split:
    images = np.ascontiguousarray(data.data.transpose(0, 3, 1, 2))
    return Split(torch.from_numpy(images), torch.tensor(data.targets, dtype=torch.int64))


def _damaged(source: Any, root: Path) -> BenchError:
    """The error that names the first file with a wrong checksum."""
    folder = root / source.base_folder
    checksums = [*source.train_list, *source.test_list, (source.meta["filename"], source.meta["md5"])]
    file = next((folder / file for file, md5 in checksums if not check_integrity(folder / file, md5)), folder)
    state = "is damaged or truncated" if file.exists() else "is missing"
    return BenchError(
        f"{file} {state}.\nDelete the folder {folder} and run the command again: it is then unpacked from "
        f"{source.filename}, or fetched again where that is missing."
    )


def _archive(source: Any, root: Path) -> Path:
    """The verified archive in `root`; downloaded if there is none."""
    archive = root / source.filename
    if not archive.exists():
        _download(source, archive)
    elif not check_integrity(archive, source.tgz_md5):
        raise BenchError(
            f"{archive} is damaged or truncated: its MD5 is not {source.tgz_md5}.\n"
            f"Delete it and run the command again, or fetch it from {source.url}."
        )
    return archive


def _unpack(archive: Path, source: Any, root: Path) -> None:
    """Unpack beside the folder's place and then move it there, so that it is never there in part."""
    folder = root / source.base_folder
    try:
        with tempfile.TemporaryDirectory(prefix=f".{source.base_folder}.", dir=root) as temporary:
            extract_archive(str(archive), temporary)
            os.rename(Path(temporary) / source.base_folder, folder)
    except OSError as error:
        if folder.is_dir():  # another run was faster
            return
        raise BenchError(
            f"Cannot unpack {archive}: {error.strerror or error}.\nFree some space in {root}, or make it writable."
        ) from error


def _download(source: Any, archive: Path) -> None:
    """Download and verify the archive; it appears in its place only when it is complete."""
    try:
        with atomic_path(archive) as temporary:
            with _open_url(source.url) as answer, temporary.open("wb") as stream:
                for part in _parts(answer, f"Downloading {archive.name}"):
                    stream.write(part)
            if not check_integrity(temporary, source.tgz_md5):
                raise _NetworkError(f"what it sends is not the published file, whose MD5 is {source.tgz_md5}")
    except _NetworkError as error:
        raise BenchError(
            f"{archive.parent} has no {source.base_folder}, and fetching {source.url} failed: {error}.\n"
            + where_to_put(archive.parent, f"{archive.name} or its unpacked folder {source.base_folder}")
        ) from error


class _NetworkError(Exception):
    """The server cannot be reached or fails to send the file; kept apart from errors of the local disk."""


def _open_url(url: str) -> BinaryIO:
    """Begin a download, or raise `_NetworkError` in bounded time.

    A name server that does not answer ignores every timeout of a socket; so the attempt has a thread of its
    own, which is left behind when it takes too long.
    """
    answer: Future[BinaryIO] = Future()

    def attempt() -> None:
        try:
            request = Request(url, headers={"User-Agent": "ard-bench"})
            answer.set_result(urlopen(request, timeout=ANSWER_SECONDS))
        except (OSError, HTTPException) as error:
            answer.set_exception(error)

    Thread(target=attempt, daemon=True).start()
    try:
        return answer.result(timeout=ANSWER_SECONDS)
    except FutureTimeoutError as error:
        raise _NetworkError(f"no answer within {ANSWER_SECONDS:g} s") from error
    except (OSError, HTTPException) as error:
        raise _NetworkError(getattr(error, "reason", None) or error) from error


def _parts(answer: Any, description: str) -> Iterator[bytes]:
    """What the server sends, part by part, with a progress bar on stderr if that is a terminal."""
    total = int(answer.headers.get("Content-Length") or 0)
    console = Console(stderr=True)
    with wrap_file(answer, total, description=description, console=console, disable=not sys.stderr.isatty()) as reader:
        while True:
            try:
                part = reader.read(1 << 16)
            except (OSError, HTTPException) as error:
                raise _NetworkError(f"the connection broke off ({error})") from error
            if not part:
                return
            yield part
