"""`imagefolder:DIR`: images in one folder a class, as torchvision's `ImageFolder` reads them."""

from __future__ import annotations

import os
from pathlib import Path

from torchvision.datasets import ImageFolder

from bench.data.dataset import Dataset
from bench.data.decode import decode_files
from bench.data.places import folder_argument
from bench.errors import BenchError


def load_imagefolder(name: str, root: Path) -> Dataset:
    """Read DIR/train/CLASS/* and DIR/test/CLASS/* (DIR/val/CLASS/* where there is no test folder).

    Images of all formats torchvision knows, all of one size; one channel if all are grey, else RGB. Labels
    follow the sorted class names. The decoded images are kept in `root/decoded`.

    Raises:
        BenchError: a folder is missing or has no images, the classes of train and test differ, or an image cannot be
            decoded or has another size than the first.
    """
    folder = folder_argument(name)
    train, test = _listing(folder, "train"), _listing(folder, "test", "val")
    if train.classes != test.classes:
        odd = sorted(set(train.classes) ^ set(test.classes))
        raise BenchError(
            f"The class folders in {train.root} and {test.root} differ: only one has {', '.join(odd)}.\n"
            "Give both the same class folders."
        )
    splits = decode_files(train.samples, test.samples, root)
    return Dataset(f"imagefolder:{folder.name}", *splits, tuple(train.classes))


def _listing(folder: Path, *candidates: str) -> ImageFolder:
    """The listing of the first of the candidate folders that is there."""
    root = next((folder / name for name in candidates if (folder / name).is_dir()), None)
    if root is None:
        raise BenchError(
            f"{folder} has no folder {' or '.join(candidates)}.\n"
            "Arrange the images as train/CLASS/*.png and test/CLASS/*.png (or .jpg) in it."
        )
    _check_tree(root)
    try:
        return ImageFolder(str(root))
    except FileNotFoundError as error:
        raise BenchError(f"{root}: {error}.\nPut one folder a class into it, each with its images.") from error


def _check_tree(root: Path) -> None:
    """Refuse folders that are reached twice: a symbolic link to its parent gives each image forty labels."""
    reached: dict[str, str] = {}
    for place, _, _ in os.walk(root, followlinks=True):
        real = os.path.realpath(place)
        if real in reached:
            raise BenchError(
                f"{place} is the same folder as {reached[real]}: its images would count twice.\n"
                "Remove the symbolic link."
            )
        reached[real] = place
    for name in os.listdir(root):
        if name != name.encode(errors="replace").decode():
            raise BenchError(f"{root} has a class folder whose name is not UTF-8: {name}.\nRename it.")
