"""`hf:NAME` and `hf:DIR`: image datasets as Hugging Face's package `datasets` finds them, on its hub or on the disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bench.data.arrays import numbered
from bench.data.dataset import Dataset
from bench.data.decode import Encoded, decode_splits
from bench.data.parquet import IMAGE_COLUMNS, LABEL_COLUMNS, load_parquet
from bench.errors import BenchError
from bench.system.text import one_line

_SPLITS = (("train",), ("test", "validation", "valid", "val"))
"""What datasets call the training and the test split; the first that is there is taken."""


def load_hub(name: str, root: Path) -> Dataset:
    """Read ORG/NAME[:CONFIG][@REVISION] of Hugging Face's hub, or a folder: one of Parquet files, or of `save_to_disk`.

    The split train, and test or else validation. Images in a column `img` or `image`, all of one size; labels in
    `label` or `fine_label`. The decoded images are kept in `root/decoded`. Folders of Parquet files need no package.

    Raises:
        BenchError: the package `datasets` is not installed; the dataset is not there, or has no such splits or columns.
    """
    argument = os.path.expanduser(name.partition(":")[2])
    folder = Path(argument).resolve()
    if not argument:
        raise BenchError(
            "The dataset 'hf:' names nothing.\nWrite hf:ORG/NAME, for example hf:uoft-cs/cifar10, or hf:DIR."
        )
    if folder.is_dir() and any((*folder.glob("train-*.parquet"), *folder.glob("data/train-*.parquet"))):
        return replace(load_parquet(f"parquet:{folder}", root), name=f"hf:{folder.name}")
    parts = _parts(name, argument, folder if folder.is_dir() else None)
    train, test = (_Part(name, parts, names) for names in _SPLITS)
    splits = decode_splits(
        [*train.files, *test.files], lambda: [*train.encoded(), *test.encoded()], train.labels, test.labels, root
    )
    classes = train.classes or numbered(*splits, (f"The training split of {name}", f"The test split of {name}"))
    return Dataset(f"hf:{folder.name}" if folder.is_dir() else name, *splits, classes)


def _parts(name: str, argument: str, folder: Path | None) -> Any:
    """All splits of a dataset, by name."""
    try:
        import datasets
    except ImportError as error:
        raise BenchError(
            f"The dataset {name} needs the package `datasets`, which is not installed ({one_line(str(error))}).\n"
            "Install it: pip install 'ard-bench[hf]'. A folder of Parquet files is read without it: parquet:DIR."
        ) from error
    place, _, revision = argument.partition("@")
    place, _, config = place.partition(":")
    try:
        if folder is None:
            found = datasets.load_dataset(place, config or None, revision=revision or None)
        elif (folder / "dataset_dict.json").exists():
            found = datasets.load_from_disk(str(folder))
        else:
            found = datasets.load_dataset(str(folder))
    except Exception as error:  # of the network, of the hub, of files: the package has dozens
        raise BenchError(
            f"The dataset {name} cannot be loaded: {type(error).__name__}: {one_line(str(error))[:300]}.\n"
            "Check its name and the network; or fetch it elsewhere and give its folder, hf:DIR."
        ) from error
    return found


class _Part:
    """One split: its files, labels and images."""

    def __init__(self, name: str, parts: Any, names: tuple[str, ...]) -> None:
        from datasets import Image

        split = next((each for each in names if each in parts), None)
        if split is None:
            there = one_line(", ".join(map(str, parts)))
            raise BenchError(
                f"The dataset {name} has no split {' or '.join(names)}; it has {there}.\nGive another one."
            )
        self.where = f"the split {split} of {name}"
        data = parts[split]
        self.image, label = (self._column(data, columns) for columns in (IMAGE_COLUMNS, LABEL_COLUMNS))
        if not isinstance(data.features[self.image], Image):
            raise BenchError(
                f"The column {self.image} in {self.where} holds no images.\nCast it: datasets.Image(); or write the "
                "arrays to a file, npz:FILE."
            )
        self.data = data.cast_column(self.image, Image(decode=False))
        self.files = [Path(file["filename"]) for file in data.cache_files]
        self.classes = tuple(getattr(data.features[label], "names", None) or ())
        values = data.with_format("numpy")[label][:]
        if getattr(values, "dtype", None) is None or values.dtype.kind not in "iu":
            raise BenchError(f"The column {label} in {self.where} holds no whole numbers.\nEncode it as ClassLabel.")
        self.labels = torch.from_numpy(values.astype("int64"))

    def _column(self, data: Any, candidates: tuple[str, ...]) -> str:
        for name in candidates:
            if name in data.column_names:
                return name
        raise BenchError(
            f"There is no column {' or '.join(candidates)} in {self.where}; it has "
            f"{one_line(', '.join(data.column_names))}.\nRename the column, or give another dataset."
        )

    def encoded(self) -> Iterator[Encoded]:
        for row, image in enumerate(self.data[self.image]):
            content = image["bytes"] if image["bytes"] is not None else Path(image["path"])
            yield Encoded(f"in row {row} of {self.where}", content)
