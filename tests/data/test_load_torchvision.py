"""`torchvision:NAME`: from files in torchvision's own layouts, written here; nothing is fetched."""

from __future__ import annotations

import struct
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torchvision import datasets

from bench.data import load_dataset
from bench.errors import BenchError

from .pictures import Picture


def idx(values: np.ndarray) -> bytes:
    """The format of the MNIST files."""
    return struct.pack(f">I{values.ndim}I", 0x800 + values.ndim, *values.shape) + values.tobytes()


@pytest.fixture
def mnist(tmp_path: Path) -> np.ndarray:
    images = np.random.default_rng(0).integers(0, 256, (12, 28, 28), dtype=np.uint8)
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for part, n in (("train", 12), ("t10k", 10)):
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(images[:n]))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.arange(n, dtype=np.uint8) % 10))
    return images


def test_a_dataset_with_a_switch_for_training(mnist: np.ndarray, tmp_path: Path) -> None:
    made = load_dataset("torchvision:MNIST", tmp_path)
    assert torch.equal(made.train.images, torch.from_numpy(mnist)[:, None])
    assert torch.equal(made.test.images, made.train.images[:10])
    assert made.train.labels.tolist() == [*range(10), 0, 1]
    assert made.classes[3] == "3 - three"
    assert not made.flip
    assert made.name == "torchvision:MNIST"


def folders(root: Path, picture: Picture, parts: tuple[str, ...], classes: tuple[str, ...], size: int = 8) -> None:
    for part in parts:
        for label, each in enumerate(classes):
            (root / part / each).mkdir(parents=True)
            colour = (200, 0, 0) if part == "train" else (0, 0, 100 * label)
            (root / part / each / "1.JPEG").write_bytes(picture(colour, size=size, format="PNG"))
            (root / part / each / "1.jpg").write_bytes(picture(colour, size=size, format="PNG"))


def test_the_test_split_comes_before_others(picture: Picture, tmp_path: Path) -> None:
    folders(tmp_path / "country211", picture, ("train", "valid", "test"), ("AD", "AE"))
    made = load_dataset("torchvision:Country211", tmp_path)
    assert made.classes == ("AD", "AE")
    assert made.flip
    assert made.train.images[0, :, 0, 0].tolist() == [200, 0, 0]
    assert made.test.images[-1, :, 0, 0].tolist() == [0, 0, 100]


def test_without_a_test_split_the_validation_images_are_it(picture: Picture, tmp_path: Path) -> None:
    wnids = tuple(datasets.Imagenette._WNID_TO_CLASS)
    folders(tmp_path / "imagenette2", picture, ("train", "val"), wnids)
    made = load_dataset("torchvision:Imagenette", tmp_path)
    assert (len(made.train), len(made.test), made.num_classes) == (10, 10, 10)


def test_images_of_several_sizes_are_refused(picture: Picture, tmp_path: Path) -> None:
    folders(tmp_path / "country211", picture, ("train", "test"), ("AD", "AE"))
    (tmp_path / "country211" / "train" / "AE" / "1.jpg").write_bytes(picture((9, 9, 9), size=9))
    with pytest.raises(BenchError, match=r"of torchvision's Country211\) is|of torchvision's Country211 is 9x9"):
        load_dataset("torchvision:Country211", tmp_path)


@pytest.mark.parametrize("name", ["SVHN", "STL10", "MNIST", "QMNIST", "USPS", "FER2013", "Country211", "DTD"])
def test_what_is_missing_and_cannot_be_fetched_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    with pytest.raises(BenchError, match=rf"^torchvision's {name} is not in .*\nPut its files, as torchvision stores"):
        load_dataset(f"torchvision:{name}", tmp_path)


def test_other_names_are_refused(tmp_path: Path) -> None:
    for name in ("svhn", "ImageFolder", "CocoDetection", ""):
        with pytest.raises(BenchError, match="Unknown classification dataset of torchvision"):
            load_dataset(f"torchvision:{name}", tmp_path)
