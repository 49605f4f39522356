"""Decoding: what becomes of modes, sizes and damaged files, and the cache of the result."""

from __future__ import annotations

import io
import logging
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.data import decode
from bench.data.decode import Encoded, decode_files, decode_images, keeping_nothing
from bench.data.places import folder_argument, where_to_put
from bench.errors import BenchError

from .pictures import Picture


def encoded(*contents: bytes) -> list[Encoded]:
    return [Encoded(f"number {i}", content) for i, content in enumerate(contents)]


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def test_pixels_rows_columns_and_channels_keep_their_places(noise: np.ndarray) -> None:
    files = encoded(*(png(image.transpose(1, 2, 0)) for image in noise))
    assert np.array_equal(decode_images(files), noise)


def test_many_chunks_keep_the_order(monkeypatch: pytest.MonkeyPatch, noise: np.ndarray) -> None:
    monkeypatch.setattr(decode, "_CHUNK", 5)
    assert np.array_equal(decode_images(encoded(*(png(image.transpose(1, 2, 0)) for image in noise))), noise)


def test_grey_images_alone_have_one_channel_among_colours_three(picture: Picture) -> None:
    grey, alpha = picture(7, mode="L"), picture((9, 255), mode="LA")
    assert decode_images(encoded(grey, alpha)).tolist() == np.repeat([7, 9], 64).reshape(2, 1, 8, 8).tolist()
    mixed = decode_images(encoded(grey, picture((1, 2, 3))))
    assert mixed.shape == (2, 3, 8, 8)
    assert mixed[:, :, 0, 0].tolist() == [[7, 7, 7], [1, 2, 3]]


def test_palettes_and_transparency_become_rgb(picture: Picture) -> None:
    transparent = picture((1, 2, 3, 99), mode="RGBA")
    palette = png(np.asarray([[0]], dtype=np.uint8).repeat(8, 0).repeat(8, 1))
    with Image.open(io.BytesIO(palette)) as image:
        coloured = image.convert("P")
    coloured.putpalette([4, 5, 6] * 256)
    stream = io.BytesIO()
    coloured.save(stream, "PNG")
    found = decode_images(encoded(transparent, stream.getvalue()))
    assert found[:, :, 0, 0].tolist() == [[1, 2, 3], [4, 5, 6]]


def test_sixteen_bits_are_refused_not_clipped(picture: Picture) -> None:
    with pytest.raises(BenchError, match=r"number 1 .*'I;16'.*\n.*8 bits"):
        decode_images(encoded(picture(1, mode="L"), picture(40_000, mode="I;16")))


def test_the_first_odd_size_is_named(monkeypatch: pytest.MonkeyPatch, picture: Picture) -> None:
    monkeypatch.setattr(decode, "_CHUNK", 1)
    files = encoded(picture("red"), picture("red"), picture("red", size=9), picture("red", size=4))
    with pytest.raises(BenchError, match=r"number 2 is 9x9 pixels, the first \(number 0\) is 8x8"):
        decode_images(files)


@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b"no image", lambda b: b[: len(b) // 2]])
@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_a_damaged_image_is_named(picture: Picture, damage: Callable[[bytes], bytes], format: str) -> None:
    good = picture((200, 30, 40), size=32, format=format)
    with pytest.raises(BenchError, match="Cannot decode the image number 1: "):
        decode_images(encoded(good, damage(good)))


@pytest.fixture
def two_files(tmp_path: Path, picture: Picture) -> list[tuple[Path, int]]:
    files = [(tmp_path / f"{label}.png", label) for label in (0, 1)]
    for path, label in files:
        path.write_bytes(picture((label, 2, 3)))
    return files


def never(encoded: object) -> np.ndarray:
    raise AssertionError("the images were decoded again")


def test_the_second_time_the_cache_is_read(
    tmp_path: Path, two_files: list[tuple[Path, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = decode_files(two_files[:1], two_files[1:], tmp_path / "root")
    monkeypatch.setattr(decode, "decode_images", never)
    again = decode_files(two_files[:1], two_files[1:], tmp_path / "root")
    for before, after in zip(first, again, strict=True):
        assert before.fingerprint == after.fingerprint
    assert [part.labels.tolist() for part in again] == [[0], [1]]
    assert [file.suffix for file in (tmp_path / "root" / "decoded").iterdir()] == [".npy"]


def test_who_only_looks_keeps_nothing(tmp_path: Path, two_files: list[tuple[Path, int]]) -> None:
    with keeping_nothing():
        train, _ = decode_files(two_files, two_files[:1], tmp_path / "root")
    assert not (tmp_path / "root").exists()
    again, _ = decode_files(two_files, two_files[:1], tmp_path / "root")
    assert len(list((tmp_path / "root" / "decoded").iterdir())) == 1
    assert again.images.equal(train.images)


def test_a_changed_file_is_decoded_again(tmp_path: Path, two_files: list[tuple[Path, int]], picture: Picture) -> None:
    decode_files(two_files[:1], two_files[1:], tmp_path / "root")
    two_files[1][0].write_bytes(picture((77, 78, 79)))
    _, test = decode_files(two_files[:1], two_files[1:], tmp_path / "root")
    assert test.images[0, :, 0, 0].tolist() == [77, 78, 79]


def saved(images: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, images)
    return stream.getvalue()


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda whole: b"", "cannot be read"),
        (lambda whole: b"not an array", "cannot be read"),
        (lambda whole: whole[:-100], "cannot be read"),
        (lambda whole: saved(np.zeros((1, 3, 8, 8), np.uint8)), "not 2 images"),
        (lambda whole: whole.replace(b"'fortran_order'", b"'fortran_order(", 1), "cannot be read"),
        (lambda whole: whole.replace(b"(2, 3, 8, 8)", b"(2, 3,(8, 8)", 1), "cannot be read"),
        (lambda whole: whole.replace(b"(2, 3, 8, 8)", b"(99999999,8)", 1), "cannot be read"),
        (lambda whole: whole.replace(b"(2, 3, 8, 8)", b"(2, 8, 3, 8)", 1), "are damaged"),
        (lambda whole: whole[:-10], "are damaged"),
        (lambda whole: whole + b"\n", "are damaged"),
        (lambda whole: flipped(whole, 128), "are damaged"),  # the first pixel
        (lambda whole: flipped(whole, len(whole) - 65), "are damaged"),  # the last one
        (lambda whole: flipped(whole, len(whole) - 1), "are damaged"),
        (lambda whole: whole[:128] + bytes(384) + whole[512:], "are damaged"),  # all black
        (lambda whole: whole[:-64], "as an earlier version wrote them"),
    ],
)
def test_a_damaged_cache_is_named_and_replaced(
    tmp_path: Path,
    two_files: list[tuple[Path, int]],
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[bytes], bytes],
    reason: str,
) -> None:
    first = decode_files(two_files[:1], two_files[1:], tmp_path / "root")
    (cache,) = (tmp_path / "root" / "decoded").iterdir()
    whole = cache.read_bytes()
    assert damage(whole) != whole
    cache.write_bytes(damage(whole))
    assert caplog.text == ""
    again = decode_files(two_files[:1], two_files[1:], tmp_path / "root")
    assert [part.fingerprint for part in again] == [part.fingerprint for part in first]
    assert cache.read_bytes() == whole
    assert f"The decoded images in {cache}" in caplog.text
    assert reason in caplog.text


def test_without_a_place_for_the_cache_it_goes_on_with_a_warning(
    tmp_path: Path, two_files: list[tuple[Path, int]], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "root").write_text("a file where a folder should be")
    with caplog.at_level(logging.WARNING):
        train, _ = decode_files(two_files[:1], two_files[1:], tmp_path / "root")
    assert len(train) == 1
    assert "decoded again next time" in caplog.text


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"Cannot read .*gone\.png"):
        decode_files([(tmp_path / "gone.png", 0)], [], tmp_path / "root")


def test_folder_argument(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for written in ("mine", "./mine", "~/mine", str(tmp_path / "mine")):
        assert folder_argument(f"parquet:{written}") == (tmp_path / "mine").resolve()
    with pytest.raises(BenchError, match=r"names no folder\.\nWrite parquet:DIR"):
        folder_argument("parquet:")
    with pytest.raises(BenchError, match="yours is not a folder"):
        folder_argument("parquet:yours")


def test_where_to_put_names_the_place_and_its_relation_to_home(tmp_path: Path) -> None:
    said = where_to_put(tmp_path / "data", "a.zip")
    assert said == f"Put a.zip into {tmp_path / 'data'} (with --home DIR: into DIR/data) and run the command again."


def test_sixteen_bits_a_channel_are_refused_not_halved() -> None:
    """Pillow opens a colour PNG of 16 bits as one of 8."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    pixels = zlib.compress(2 * (b"\0" + bytes(12)))
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    with pytest.raises(BenchError, match=r"number 1 has pixels of mode 'RGB;16'\.\n.*8 bits"):
        decode_images([Encoded("number 1", png)])


def test_a_pipe_among_the_images_is_not_waited_for(tmp_path: Path, two_files: list[tuple[Path, int]]) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(BenchError, match=r"pipe\.png is no file"):
        decode_files(two_files[:1], [(tmp_path / "pipe.png", 0)], tmp_path / "root")


def test_names_that_are_not_utf_8(tmp_path: Path, two_files: list[tuple[Path, int]]) -> None:
    odd = tmp_path / os.fsdecode(b"caf\xe9.png")
    two_files[0][0].rename(odd)
    train, _ = decode_files([(odd, 0)], two_files[1:], tmp_path / "root")
    assert len(train) == 1
    (tmp_path / os.fsdecode(b"caf\xe9")).mkdir()
    with pytest.raises(BenchError, match="is not UTF-8"):
        folder_argument(f"parquet:{tmp_path / os.fsdecode(b'caf' + bytes([0xE9]))}")
