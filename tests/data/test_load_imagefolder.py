"""imagefolder:DIR: one folder a class, and what can be wrong with them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.data import Dataset, load_dataset
from bench.errors import BenchError

from .pictures import Picture

Load = Callable[[], Dataset]


@pytest.fixture
def folder(tmp_path: Path, picture: Picture) -> Path:
    folder = tmp_path / "pets"
    for part, label, name, number in [("train", 0, "cat", 2), ("train", 1, "dog", 1), ("test", 0, "cat", 1)]:
        (folder / part / name).mkdir(parents=True)
        for i in range(number):
            (folder / part / name / f"{i}.png").write_bytes(picture((label, i, 9)))
    (folder / "test" / "dog").mkdir()
    (folder / "test" / "dog" / "a.JPG").write_bytes(picture((250, 250, 250), format="JPEG"))
    return folder


@pytest.fixture
def load(tmp_path: Path, folder: Path) -> Load:
    return lambda: load_dataset(f"imagefolder:{folder}", tmp_path / "root")


def test_one_folder_a_class(load: Load) -> None:
    pets = load()
    assert (pets.name, pets.classes) == ("imagefolder:pets", ("cat", "dog"))
    assert pets.train.images[:, :, 0, 0].tolist() == [[0, 0, 9], [0, 1, 9], [1, 0, 9]]
    assert pets.train.labels.tolist() == [0, 0, 1]
    assert pets.test.labels.tolist() == [0, 1]
    assert pets.test.images[1].unique().tolist() == [250]


def test_val_where_there_is_no_test(folder: Path, load: Load) -> None:
    (folder / "test").rename(folder / "val")
    assert len(load().test) == 2


def test_a_single_class_is_nothing_to_learn(folder: Path, load: Load) -> None:
    for part in ("train", "test"):
        shutil.rmtree(folder / part / "dog")
    with pytest.raises(BenchError, match="imagefolder:pets: it has 1 class"):
        load()


def test_missing_folders(folder: Path, load: Load) -> None:
    shutil.rmtree(folder / "test")
    with pytest.raises(BenchError, match="pets has no folder test or val"):
        load()
    shutil.rmtree(folder / "train")
    with pytest.raises(BenchError, match="pets has no folder train"):
        load()


def test_no_class_folders_or_an_empty_one(folder: Path, load: Load) -> None:
    (folder / "test" / "dog" / "a.JPG").rename(folder / "test" / "dog" / "a.txt")
    with pytest.raises(BenchError, match="Found no valid file for the classes dog"):
        load()
    shutil.rmtree(folder / "test")
    (folder / "test").mkdir()
    with pytest.raises(BenchError, match="Couldn't find any class folder"):
        load()


def test_class_folders_that_differ(folder: Path, load: Load) -> None:
    (folder / "test" / "dog").rename(folder / "test" / "fox")
    with pytest.raises(BenchError, match="differ: only one has dog, fox"):
        load()


def test_an_odd_size_or_a_damaged_image_is_named(folder: Path, picture: Picture, load: Load) -> None:
    odd = folder / "train" / "dog" / "0.png"
    odd.write_bytes(picture("red", size=9))
    with pytest.raises(BenchError, match=r"dog/0\.png is 9x9 pixels, the first \(.*cat/0\.png\) is 8x8"):
        load()
    odd.write_bytes(b"nothing")
    with pytest.raises(BenchError, match=r"Cannot decode the image .*dog/0\.png"):
        load()


@pytest.mark.parametrize("place", ["train/cat/more", "train/loop"])
def test_a_link_to_its_parent_does_not_count_images_again(folder: Path, load: Load, place: str) -> None:
    (folder / place).symlink_to("..", target_is_directory=True)
    with pytest.raises(BenchError, match=r"is the same folder as .*: its images would count twice\.\nRemove"):
        load()


def test_a_class_folder_may_be_a_link_to_another_place(folder: Path, load: Load) -> None:
    (folder / "train" / "cat").rename(folder / "elsewhere")
    (folder / "train" / "cat").symlink_to(folder / "elsewhere")
    assert len(load().train) == 3
