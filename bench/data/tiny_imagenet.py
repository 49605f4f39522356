"""Tiny-ImageNet: 200 classes, 100,000 training images of 64x64; its validation images are the test split."""

from __future__ import annotations

from pathlib import Path

from bench.data.dataset import Dataset
from bench.data.decode import decode_files
from bench.data.places import check_is_file, where_to_put
from bench.errors import BenchError

FOLDER = "tiny-imagenet-200"
ARCHIVE = "tiny-imagenet-200.zip"
URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"

PADDING = 4
"""As for CIFAR. Published recipes use 4 or 8 pixels at this size; 4 keeps more of the image in view."""


def load_tiny_imagenet(name: str, root: Path) -> Dataset:
    """Read root/tiny-imagenet-200 in its published layout; nothing is downloaded.

    Labels follow the sorted WordNet ids, as in torchvision's `ImageFolder`. Grey images become RGB. The
    decoded images are kept in `root/decoded`: 1.35 GB.

    Raises:
        BenchError: the folder, or a file or class in it, is missing, or an image cannot be decoded.
    """
    folder = root.expanduser() / FOLDER
    if not folder.is_dir():
        raise BenchError(
            f"Tiny-ImageNet is not at {folder}; it is not downloaded by itself.\n"
            + where_to_put(root, f"the folder {FOLDER} from {ARCHIVE} ({URL})")
        )
    wnids = tuple(sorted(_lines(folder / "wnids.txt")))
    label_of = {wnid: label for label, wnid in enumerate(wnids)}
    splits = decode_files(_train(folder, label_of), _validation(folder, label_of), root)
    licence = "ImageNet's terms of access: non-commercial research and education"
    return Dataset(name, *splits, wnids, padding=PADDING, licence=licence)


def _train(folder: Path, label_of: dict[str, int]) -> list[tuple[Path, int]]:
    """Path and label of train/WNID/images/*.JPEG."""
    found = {wnid: sorted((folder / "train" / wnid / "images").glob("*.JPEG")) for wnid in label_of}
    most = max(map(len, found.values()))
    for wnid, paths in found.items():
        if len(paths) < max(most, 1):  # as published, all classes have 500
            raise _incomplete(f"{folder / 'train' / wnid / 'images'} holds {len(paths)} images, others {most}")
    return [(path, label_of[wnid]) for wnid, paths in found.items() for path in paths]


def _validation(folder: Path, label_of: dict[str, int]) -> list[tuple[Path, int]]:
    """Path and label of each line of val_annotations.txt: file name, WordNet id, box."""
    annotations = folder / "val" / "val_annotations.txt"
    pairs = []
    for line in _lines(annotations):
        file, _, rest = line.partition("\t")
        wnid = rest.partition("\t")[0]
        path = folder / "val" / "images" / file
        if wnid not in label_of:
            raise _incomplete(f"{annotations} gives {file} the class {wnid!r}, which wnids.txt lacks")
        if not path.is_file():
            raise _incomplete(f"{path} is missing")
        pairs.append((path, label_of[wnid]))
    return pairs


def _lines(file: Path) -> list[str]:
    check_is_file(file)
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise _incomplete(f"{file} cannot be read") from error
    found = [line for line in lines if line.strip()]
    if not found:
        raise _incomplete(f"{file} is empty")
    return found


def _incomplete(what: str) -> BenchError:
    return BenchError(f"{what}.\nDelete the folder {FOLDER} and unpack {ARCHIVE} again (from {URL}).")
