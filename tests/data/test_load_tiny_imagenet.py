"""tiny-imagenet in its published layout, made small."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.data import load_dataset
from bench.errors import BenchError

from .pictures import Picture


@pytest.fixture
def folder(tmp_path: Path, picture: Picture) -> Path:
    folder = tmp_path / "tiny-imagenet-200"
    for wnid, colour in [("n02", "red"), ("n01", "blue")]:
        images = folder / "train" / wnid / "images"
        images.mkdir(parents=True)
        (folder / "train" / wnid / f"{wnid}_boxes.txt").write_text("n01_0.JPEG\t0\t10\t63\t58\n")
        for i in range(2):
            (images / f"{wnid}_{i}.JPEG").write_bytes(picture(colour, size=64, format="JPEG"))
    (folder / "wnids.txt").write_text("n02\nn01\n")
    (folder / "val" / "images").mkdir(parents=True)
    grey = picture(128, size=64, mode="L", format="JPEG")
    for i in range(2):
        (folder / "val" / "images" / f"val_{i}.JPEG").write_bytes(grey)
    (folder / "val" / "val_annotations.txt").write_text(
        "val_0.JPEG\tn02\t0\t32\t44\t62\nval_1.JPEG\tn01\t52\t55\t57\t59\n"
    )
    return folder


def test_the_published_layout(tmp_path: Path, folder: Path) -> None:
    tiny = load_dataset("tiny-imagenet", tmp_path)
    assert (tiny.name, tiny.classes) == ("tiny-imagenet", ("n01", "n02"))
    assert (tiny.padding, tiny.flip) == (4, True)
    assert tiny.train.images.shape == (4, 3, 64, 64)
    assert tiny.train.labels.tolist() == [0, 0, 1, 1]
    assert tiny.train.images[0, 2].float().mean() > 250  # blue
    assert tiny.train.images[3, 0].float().mean() > 250  # red
    assert tiny.test.labels.tolist() == [1, 0]
    assert tiny.test.images.unique().tolist() == [128]


def test_where_to_put_it(tmp_path: Path) -> None:
    with pytest.raises(BenchError) as caught:
        load_dataset("tiny-imagenet", tmp_path)
    for part in ("tiny-imagenet-200.zip", str(tmp_path), "--home", "folder tiny-imagenet-200 "):
        assert part in str(caught.value)


@pytest.mark.parametrize("missing", ["wnids.txt", "val/val_annotations.txt", "val/images/val_1.JPEG"])
def test_a_missing_file_is_named(tmp_path: Path, folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(BenchError, match=rf"{missing} .*\nDelete the folder"):
        load_dataset("tiny-imagenet", tmp_path)


@pytest.mark.parametrize("empty", ["wnids.txt", "val/val_annotations.txt"])
def test_an_empty_list_is_named(tmp_path: Path, folder: Path, empty: str) -> None:
    (folder / empty).write_text("\n")
    with pytest.raises(BenchError, match=f"{empty} is empty"):
        load_dataset("tiny-imagenet", tmp_path)


@pytest.mark.parametrize("line", ["val_0.JPEG\tn09\t0", "val_0.JPEG", "val_0.JPEG n02"])
def test_an_annotation_that_makes_no_sense(tmp_path: Path, folder: Path, line: str) -> None:
    (folder / "val" / "val_annotations.txt").write_text(f"{line}\n")
    with pytest.raises(BenchError, match=r"val_annotations\.txt"):
        load_dataset("tiny-imagenet", tmp_path)


def test_a_class_that_was_unpacked_in_part(tmp_path: Path, folder: Path) -> None:
    (folder / "train" / "n02" / "images" / "n02_0.JPEG").unlink()
    with pytest.raises(BenchError, match="n02/images holds 1 images, others 2"):
        load_dataset("tiny-imagenet", tmp_path)


def test_a_damaged_image_is_named(tmp_path: Path, folder: Path) -> None:
    (folder / "val" / "images" / "val_1.JPEG").write_bytes(b"nothing")
    with pytest.raises(BenchError, match=r"Cannot decode the image .*val_1\.JPEG"):
        load_dataset("tiny-imagenet", tmp_path)
