"""`parquet:DIR`: image datasets in the layout in which the Hugging Face hub stores them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from bench.data.dataset import Dataset
from bench.data.decode import Encoded, decode_splits
from bench.data.places import check_is_file, folder_argument
from bench.errors import BenchError
from bench.system.text import one_line

IMAGE_COLUMNS = ("img", "image")
LABEL_COLUMNS = ("label", "fine_label")


@dataclass(frozen=True)
class _Part:
    """A split on disk: its files in order, its image column, its labels, its class names if it has any."""

    files: list[Path]
    image_column: str
    labels: Tensor
    names: tuple[str, ...] | None


def load_parquet(name: str, root: Path) -> Dataset:
    """Read DIR/train-*.parquet and DIR/test-*.parquet, or the same in DIR/data.

    Where there are no test-* files, validation-* is the test split. The images are in a column `img` or
    `image`, a struct with `bytes`, all of one size; the labels in `label` or `fine_label`. Class names come
    from the schema's metadata; without them they are "0", "1", to the highest label. One channel if all
    images are grey, else RGB. The decoded images are kept in `root/decoded`. The dataset is called "parquet:" and DIR's
    last part.

    Raises:
        BenchError: files or columns are missing, a file is truncated, a label is not one of the classes, or an image
            cannot be decoded or has another size than the first.
    """
    folder = folder_argument(name)
    train = _read_part(_shards(folder, ("train",)))
    test = _read_part(_shards(folder, ("test", "validation")))
    classes = _classes(train, test)
    for part in (train, test):
        _check_labels(part, classes)
    splits = decode_splits(
        [*train.files, *test.files],
        lambda: [*_encoded(train), *_encoded(test)],
        train.labels,
        test.labels,
        root,
    )
    return Dataset(f"parquet:{folder.name}", *splits, classes)


def _shards(folder: Path, splits: tuple[str, ...]) -> list[Path]:
    """All files of the first of these splits that is there, in order."""
    for split in splits:
        files = sorted(folder.glob(f"{split}-*.parquet")) or sorted((folder / "data").glob(f"{split}-*.parquet"))
        if files:
            break
    else:
        patterns = " or ".join(f"{split}-*.parquet" for split in splits)
        raise BenchError(
            f"There is no {patterns} in {folder} or its folder data.\n"
            "Give the folder that holds the dataset's train-*.parquet and test-*.parquet."
        )
    for file in files:
        check_is_file(file)
    numbered = re.search(r"-of-(\d+)", files[0].name)
    if numbered and len(files) != int(numbered[1]):
        raise BenchError(
            f"{files[0].parent} holds {len(files)} of {int(numbered[1])} files {split}-*.parquet.\nFetch the others."
        )
    return files


@contextmanager
def _opened(file: Path) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(file) as opened:
            yield opened
    except BenchError:
        raise
    except Exception as error:  # the reader lets through nearly anything that a damaged file makes it stumble over
        raise BenchError(
            f"{file} cannot be read: {one_line(str(error))}.\n"
            "It is truncated or no parquet file: delete it and fetch it again."
        ) from error


def _read_part(files: list[Path]) -> _Part:
    """Everything about a split but its images."""
    with _opened(files[0]) as opened:
        schema = opened.schema_arrow
    image_column, label_column = (_choose(schema, names, files[0]) for names in (IMAGE_COLUMNS, LABEL_COLUMNS))
    kind = schema.field(image_column).type
    if not _holds_bytes(kind):
        raise BenchError(
            f"The column {image_column} of {files[0]} is {one_line(str(kind))}, not a struct with the images' bytes.\n"
            "Store the dataset with embedded images, as the Hugging Face hub does."
        )
    labels = torch.from_numpy(np.concatenate([_read_labels(file, label_column, schema) for file in files]))
    if not len(labels):
        raise BenchError(f"{files[0]} holds no rows.\nFetch the dataset again.")
    return _Part(files, image_column, labels, _names(schema, label_column))


def _holds_bytes(kind: pa.DataType) -> bool:
    """Whether a column's type is a struct with `bytes`; text there could be the path of any file of this machine."""
    at = kind.get_field_index("bytes") if pa.types.is_struct(kind) else -1
    return at >= 0 and (pa.types.is_binary(kind.field(at).type) or pa.types.is_large_binary(kind.field(at).type))


def _choose(schema: pa.Schema, candidates: Sequence[str], file: Path) -> str:
    for candidate in candidates:
        if candidate in schema.names:
            return candidate
    raise BenchError(
        f"{file} has no column {' or '.join(candidates)}; it has {one_line(', '.join(schema.names)) or 'none'}.\n"
        "Rename the column, or give another dataset."
    )


def _read_labels(file: Path, column: str, schema: pa.Schema) -> np.ndarray:
    with _opened(file) as opened:
        if not opened.schema_arrow.equals(schema):
            raise BenchError(f"{file} has other columns than the first file of its split.\nFetch both again.")
        labels = opened.read(columns=[column]).column(0)
    if not pa.types.is_integer(labels.type) or labels.null_count:
        raise BenchError(
            f"The column {column} of {file} is of type {one_line(str(labels.type))}, "
            f"with {labels.null_count} empty rows.\n"
            "Give every row a whole number, the index of its class."
        )
    return np.asarray(labels.to_numpy(), dtype=np.int64)


def _names(schema: pa.Schema, label_column: str) -> tuple[str, ...] | None:
    """The class names in the metadata that Hugging Face's `datasets` writes, or None."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return tuple(str(name) for name in features[label_column]["names"])
    except (KeyError, TypeError, ValueError, RecursionError):
        return None


def _classes(train: _Part, test: _Part) -> tuple[str, ...]:
    if train.names and test.names and train.names != test.names:
        raise BenchError(f"{train.files[0]} and {test.files[0]} name different classes.\nGive files of one dataset.")
    if names := train.names or test.names:
        return names
    highest = max(int(part.labels.max()) for part in (train, test))
    images = len(train.labels) + len(test.labels)
    if highest > images:  # names are made for all classes, and every network gets an output for each
        raise BenchError(
            f"The highest label of {train.files[0].parent} is {highest}, more than its {images} images have classes.\n"
            "Number the classes from 0 on, or give the files class names (Hugging Face's ClassLabel)."
        )
    return tuple(str(label) for label in range(highest + 1))


def _check_labels(part: _Part, classes: tuple[str, ...]) -> None:
    wrong = part.labels[(part.labels < 0) | (part.labels >= len(classes))]
    if len(wrong):
        raise BenchError(
            f"{len(wrong)} labels are not from 0 to {len(classes) - 1}, the first of them {int(wrong[0])}: "
            f"{part.files[0]} and its further parts.\nGive a labelled split (-1 stands for no label)."
        )


def _encoded(part: _Part) -> Iterator[Encoded]:
    for file in part.files:
        with _opened(file) as opened:
            column = opened.read(columns=[f"{part.image_column}.bytes"]).column(0)
        contents = (content for chunk in column.chunks for content in chunk.field("bytes").to_pylist())
        for row, content in enumerate(contents):
            if content is None:
                raise BenchError(f"Row {row} of {file} has no image bytes.\nStore the dataset with embedded images.")
            yield Encoded(f"in row {row} of {file}", content)
