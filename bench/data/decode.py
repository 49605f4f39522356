"""Decodes image files into one array, by threads, and keeps the result for the next time."""

from __future__ import annotations

import hashlib
import io
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL
import torch
from PIL import Image
from torch import Tensor

from bench.data.dataset import Split
from bench.data.places import check_is_file
from bench.errors import BenchError
from bench.system.files import atomic_path
from bench.system.text import one_line

logger = logging.getLogger(__name__)

_CACHE_FORMAT = f"1, Pillow {PIL.__version__}"  # JPEG decoders differ in the last bit from version to version
_keeping: ContextVar[bool] = ContextVar("keeping", default=True)
_CHUNK = 256
_GREY = ("1", "L", "LA")
_COLOUR = ("RGB", "RGBA", "P", "PA", "CMYK", "YCbCr")


@dataclass(frozen=True)
class Encoded:
    """One image as it is stored.

    Attributes:
        where: what to call it in a message: its path, or "in row 7 of FILE".
        content: the bytes of a PNG or JPEG file, the path of one, or what one was decoded to.
    """

    where: str
    content: bytes | Path | Image.Image


def decode_files(
    train: Sequence[tuple[str | Path, int]], test: Sequence[tuple[str | Path, int]], root: Path
) -> tuple[Split, Split]:
    """As `decode_splits`, for images that are files, given as pairs of path and label."""
    paths = [Path(path) for path, _ in (*train, *test)]
    labels = [torch.tensor([label for _, label in pairs], dtype=torch.int64) for pairs in (train, test)]
    return decode_splits(paths, lambda: [Encoded(str(path), path) for path in paths], labels[0], labels[1], root)


def decode_splits(
    files: Sequence[Path],
    encoded: Callable[[], Sequence[Encoded]],
    train_labels: Tensor,
    test_labels: Tensor,
    root: Path,
) -> tuple[Split, Split]:
    """The training and the test split of encoded images; decoded once, then read from a cache.

    The cache is one file in `root/decoded`, named after paths, sizes and times of `files`, with a digest of the
    images and labels; it may be deleted at any time. Where it is damaged, a warning is logged and the images are
    decoded again; where it cannot be written, they are decoded each time.

    Args:
        files: every file the images come from.
        encoded: reads the images, the training ones first; called only where the cache has none.
        train_labels, test_labels: int64, shape (N,) and (M,).

    Raises:
        BenchError: as `decode_images`.
    """
    n = len(train_labels)
    cache = root.expanduser() / "decoded" / f"{cache_key(files)}.npy"

    def splits(images: np.ndarray) -> tuple[Split, Split]:
        pixels = torch.from_numpy(images)
        return Split(pixels[:n], train_labels), Split(pixels[n:], test_labels)

    kept = _read_cache(cache, n + len(test_labels))
    if kept is not None:
        images, digest = kept
        found = splits(images)
        if digest == _digest(found):
            return found
        what = "are damaged" if digest else "have no digest, as an earlier version wrote them"
        logger.warning("The decoded images in %s %s; decoding them again.", cache, what)
    images = decode_images(encoded())
    found = splits(images)
    if _keeping.get():
        _write_cache(cache, images, _digest(found))
    return found


@contextmanager
def keeping_nothing() -> Iterator[None]:
    """Within the block nothing that is decoded is written."""
    token = _keeping.set(False)
    try:
        yield
    finally:
        _keeping.reset(token)


def decode_images(encoded: Sequence[Encoded]) -> np.ndarray:
    """Decode images of one common size.

    Returns:
        uint8, shape (N, C, H, W): one channel if all images are grey, else three (RGB; grey ones repeated).

    Raises:
        BenchError: an image cannot be decoded, has pixels of more than 8 bits, or has another size than the first.
    """
    first, _ = _decode(encoded[0])
    images = np.empty((len(encoded), 3, *first.shape[1:]), dtype=np.uint8)

    def decode_chunk(start: int) -> bool:
        """Whether all images of the chunk are grey."""
        grey = True
        for position in range(start, min(start + _CHUNK, len(encoded))):
            pixels, is_grey = _decode(encoded[position])
            if pixels.shape != first.shape:
                size, expected = (f"{shape[2]}x{shape[1]}" for shape in (pixels.shape, first.shape))
                raise BenchError(
                    f"The image {encoded[position].where} is {size} pixels, the first ({encoded[0].where}) is "
                    f"{expected}.\nResize the images to one common size."
                )
            images[position] = pixels
            grey = grey and is_grey
        return grey

    # Pillow releases Python's lock while it decodes, so threads use all cores without copying images around.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        all_grey = all(list(pool.map(decode_chunk, range(0, len(encoded), _CHUNK))))
    return np.ascontiguousarray(images[:, :1]) if all_grey else images


def _opened(content: bytes | Path | Image.Image) -> Image.Image:
    if isinstance(content, Image.Image):
        return content
    return Image.open(io.BytesIO(content) if isinstance(content, bytes) else content)


def _decode(encoded: Encoded) -> tuple[np.ndarray, bool]:
    """Pixels as uint8 of shape (3, H, W), and whether the image is grey."""
    content = encoded.content
    try:
        with _opened(content) as image:
            mode = image.mode
            if (
                ";16" in str(getattr(image, "tile", "")) and ";16" not in mode
            ):  # 16 bits a channel, which Pillow would halve
                mode = f"{mode};16"
            # Other modes have more than 8 bits a pixel: Pillow would clip them without a word.
            pixels = np.asarray(image.convert("RGB")) if mode in _GREY + _COLOUR else None
    except Exception as error:  # Pillow's decoders raise nearly anything when a file is damaged
        raise BenchError(
            f"Cannot decode the image {encoded.where}: {error}.\nReplace or remove it, or fetch the dataset again."
        ) from error
    if pixels is None:
        raise BenchError(f"The image {encoded.where} has pixels of mode {mode!r}.\nConvert it to 8 bits a channel.")
    return pixels.transpose(2, 0, 1), mode in _GREY


def cache_key(files: Sequence[Path]) -> str:
    """Names what was made of files: by their paths, sizes and times."""
    digest = hashlib.sha256(_CACHE_FORMAT.encode())
    for file in files:
        check_is_file(file)
        try:
            status = file.stat()
        except OSError as error:
            raise BenchError(
                f"Cannot read {file}: {error.strerror}.\nReplace it, or fetch the dataset again."
            ) from error
        digest.update(os.fsencode(f"{file.absolute()}\0{status.st_size}\0{status.st_mtime_ns}\n"))
    return digest.hexdigest()


def _digest(splits: tuple[Split, Split]) -> bytes:
    """A digest of both splits, made of their fingerprints: a run needs those as well, and each is computed once."""
    return hashlib.sha256("".join(split.fingerprint for split in splits).encode()).hexdigest().encode()


def _read_cache(cache: Path, count: int) -> tuple[np.ndarray, bytes] | None:
    """A cache's images and the digest after them, right or not; None where there are no images that could be."""
    if not cache.is_file():
        return None
    try:
        with cache.open("rb") as stream:
            images: np.ndarray = np.load(stream)
            digest = stream.read()
        if images.dtype != np.uint8 or images.ndim != 4 or len(images) != count:
            raise ValueError(f"{images.dtype} of shape {images.shape}, not {count} images")
    except Exception as error:  # numpy raises nearly anything for a header that is damaged
        logger.warning(
            "The decoded images in %s cannot be read (%s); decoding them again.", cache, one_line(str(error))
        )
        return None
    return images, digest


def _write_cache(cache: Path, images: np.ndarray, digest: bytes) -> None:
    try:
        with atomic_path(cache) as temporary, temporary.open("wb") as stream:
            np.save(stream, images)
            stream.write(digest)
    except BenchError as error:
        logger.warning("The images will be decoded again next time. %s", error)
