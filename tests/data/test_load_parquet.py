"""parquet:DIR: the hub's layouts, real data where it is at hand, and all that can be wrong with a folder."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.data import Dataset, load_dataset
from bench.errors import BenchError

from .pictures import Picture

Load = Callable[[Path], Dataset]

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def write(
    file: Path,
    images: Sequence[Any],
    labels: Sequence[Any],
    names: Sequence[str] | None = ("cat", "dog"),
    columns: tuple[str, str] = ("img", "label"),
) -> None:
    """A parquet file as the hub stores it; images as bytes, or as whatever a column may hold."""
    file.parent.mkdir(parents=True, exist_ok=True)
    structs = [{"bytes": image, "path": None} if isinstance(image, bytes) else image for image in images]
    table = pa.table({columns[0]: structs, columns[1]: labels})
    if names is not None:
        features = {columns[0]: {"_type": "Image"}, columns[1]: {"_type": "ClassLabel", "names": list(names)}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, file)


@pytest.fixture
def folder(tmp_path: Path, picture: Picture) -> Path:
    """A good dataset: three training images, two test images."""
    folder = tmp_path / "pets"
    write(folder / "train-00000-of-00001.parquet", [picture((i, 2, 3)) for i in range(3)], [0, 1, 1])
    write(folder / "test-00000-of-00001.parquet", [picture((i, 5, 6)) for i in range(2)], [1, 0])
    return folder


@pytest.fixture
def load(tmp_path: Path) -> Load:
    return lambda folder: load_dataset(f"parquet:{folder}", tmp_path / "root")


def test_the_hub_s_name_for_such_a_folder_needs_no_package(
    folder: Path, load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    pets = load_dataset(f"hf:{folder}", tmp_path / "root")
    assert pets.name == "hf:pets"
    assert pets.train.fingerprint == load(folder).train.fingerprint


def test_a_dataset_of_the_hub(folder: Path, load: Load) -> None:
    pets = load(folder)
    assert (pets.name, pets.classes) == ("parquet:pets", ("cat", "dog"))
    assert pets.train.images.shape == (3, 3, 8, 8)
    assert pets.train.images[:, :, 0, 0].tolist() == [[0, 2, 3], [1, 2, 3], [2, 2, 3]]
    assert pets.test.images[:, :, 7, 7].tolist() == [[0, 5, 6], [1, 5, 6]]
    assert (pets.train.labels.tolist(), pets.test.labels.tolist()) == ([0, 1, 1], [1, 0])
    again = load(folder)
    assert (again.train.fingerprint, again.test.fingerprint) == (
        pets.train.fingerprint,
        pets.test.fingerprint,
    )


def test_data_folder_shards_validation_and_other_column_names(tmp_path: Path, picture: Picture, load: Load) -> None:
    folder, columns = tmp_path / "mnist", ("image", "fine_label")
    for shard in range(2):
        file = folder / "data" / f"train-0000{shard}-of-00002.parquet"
        write(file, [picture(shard, mode="L")], [shard * 3], names=None, columns=columns)
    write(folder / "data/validation-0.parquet", [picture(9, mode="L")], [2], names=None, columns=columns)
    mnist = load(folder)
    assert mnist.train.images[:, :, 0, 0].tolist() == [[0], [1]]
    assert mnist.train.labels.tolist() == [0, 3]
    assert mnist.test.labels.tolist() == [2]
    assert mnist.classes == ("0", "1", "2", "3")


def test_a_test_split_goes_before_validation(folder: Path, picture: Picture, load: Load) -> None:
    write(folder / "validation-00000-of-00001.parquet", [picture("red")], [0])
    assert len(load(folder).test) == 2


def test_no_files(tmp_path: Path, folder: Path, load: Load) -> None:
    (folder / "test-00000-of-00001.parquet").unlink()
    with pytest.raises(BenchError, match=r"no test-\*\.parquet or validation-\*\.parquet in .*pets"):
        load(folder)
    with pytest.raises(BenchError, match=r"no train-\*\.parquet in"):
        load(tmp_path)


def test_a_missing_shard(folder: Path, load: Load) -> None:
    (folder / "train-00000-of-00001.parquet").rename(folder / "train-00000-of-00003.parquet")
    with pytest.raises(BenchError, match=r"holds 1 of 3 files train-\*\.parquet"):
        load(folder)


@pytest.mark.parametrize("keep", [0, 3, 200, -20])
def test_a_truncated_file(folder: Path, load: Load, keep: int) -> None:
    file = folder / "test-00000-of-00001.parquet"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(BenchError, match=r"test-00000-of-00001\.parquet cannot be read: .*\nIt is truncated"):
        load(folder)


def test_damage_in_the_middle_never_goes_unnoticed(folder: Path, load: Load) -> None:
    file = folder / "test-00000-of-00001.parquet"
    content = file.read_bytes()
    file.write_bytes(content[:4] + b"\xff" * 60 + content[64:])
    with pytest.raises(BenchError, match=r"cannot be read|Cannot decode"):
        load(folder)


@pytest.mark.parametrize("column", [("picture", "label"), ("img", "class")])
def test_a_missing_column(folder: Path, picture: Picture, load: Load, column: tuple[str, str]) -> None:
    write(folder / "test-00000-of-00001.parquet", [picture("red")], [0], columns=column)
    missing = "img or image" if column[0] == "picture" else "label or fine_label"
    with pytest.raises(BenchError, match=f"has no column {missing}; it has {', '.join(column)}"):
        load(folder)


@pytest.mark.parametrize("columns", [("image", "label"), ("img", "class")])
def test_columns_that_differ_between_shards(
    folder: Path, picture: Picture, load: Load, columns: tuple[str, str]
) -> None:
    (folder / "train-00000-of-00001.parquet").rename(folder / "train-00000-of-00002.parquet")
    write(folder / "train-00001-of-00002.parquet", [picture("red")], [0], columns=columns)
    with pytest.raises(BenchError, match=r"train-00001\S* has other columns than the first file"):
        load(folder)


@pytest.mark.parametrize("images", [["a.png"], [{"path": "a.png"}], [{"bytes": "a.png"}]])
def test_images_that_are_not_embedded(folder: Path, load: Load, images: list[Any]) -> None:
    write(folder / "test-00000-of-00001.parquet", images, [0])
    with pytest.raises(BenchError, match=r"The column img of .* not a struct with the images' bytes"):
        load(folder)


def test_a_row_without_an_image(folder: Path, picture: Picture, load: Load) -> None:
    rows = [picture("red"), {"bytes": None, "path": "a.png"}, None]
    write(folder / "test-00000-of-00001.parquet", rows, [0, 0, 0])
    with pytest.raises(BenchError, match=r"Row 1 of .* has no image bytes"):
        load(folder)


@pytest.mark.parametrize("labels", [["cat"], [0.5], [None]])
def test_labels_that_are_no_whole_numbers(folder: Path, picture: Picture, load: Load, labels: list[Any]) -> None:
    write(folder / "test-00000-of-00001.parquet", [picture("red")], labels)
    with pytest.raises(BenchError, match=r"The column label of .* is of type"):
        load(folder)


@pytest.mark.parametrize("label", [-1, 2])
def test_labels_out_of_range(folder: Path, picture: Picture, load: Load, label: int) -> None:
    write(folder / "test-00000-of-00001.parquet", [picture("red")] * 2, [0, label])
    with pytest.raises(BenchError, match=f"1 labels are not from 0 to 1, the first of them {label}: .*test-"):
        load(folder)


def test_class_names_that_differ(folder: Path, picture: Picture, load: Load) -> None:
    write(folder / "test-00000-of-00001.parquet", [picture("red")], [0], names=("dog", "cat"))
    with pytest.raises(BenchError, match="name different classes"):
        load(folder)


def test_no_rows(folder: Path, load: Load) -> None:
    file = folder / "test-00000-of-00001.parquet"
    pq.write_table(pq.read_table(file).slice(0, 0), file)
    with pytest.raises(BenchError, match="holds no rows"):
        load(folder)


def test_images_that_cannot_be_used_are_named_by_row(folder: Path, picture: Picture, load: Load) -> None:
    file = folder / "test-00000-of-00001.parquet"
    write(file, [picture("red"), b"nothing"], [0, 1])
    with pytest.raises(BenchError, match=r"Cannot decode the image in row 1 of .*test-00000"):
        load(folder)
    write(file, [picture("red"), picture("red", size=5)], [0, 1])
    with pytest.raises(BenchError, match=r"image in row 1 of .*test-00000.* is 5x5 pixels, the first .* 8x8"):
        load(folder)


def test_real_cifar10(shared: Callable[[str], Path], load: Load) -> None:
    cifar = load(shared("cifar10-subset"))
    assert cifar.name == "parquet:cifar10-subset"
    assert (cifar.train.images.shape, cifar.test.images.shape) == ((5170, 3, 32, 32), (1017, 3, 32, 32))
    assert cifar.classes == CIFAR10_CLASSES
    assert cifar.train.labels[:5].tolist() == [6, 9, 9, 4, 1]  # as published: frog, truck, truck, deer, car
    assert cifar.test.labels[:5].tolist() == [3, 8, 8, 0, 6]
    assert cifar.train.images[0, :, 0, 0].tolist() == [59, 62, 63]  # the well-known first pixel of CIFAR-10


def test_real_cifar100(shared: Callable[[str], Path], load: Load) -> None:
    cifar = load(shared("cifar100-subset"))
    assert (len(cifar.train), len(cifar.test), cifar.num_classes) == (486, 916, 100)
    assert cifar.classes[19] == "cattle"
    assert cifar.train.labels[:5].tolist() == [19, 29, 0, 11, 1]


def test_a_label_beyond_all_images_is_refused_before_anything_is_made_for_it(
    folder: Path, picture: Picture, load: Load
) -> None:
    for split, labels in (("train", [0, 1, 10**9]), ("test", [1, 0])):
        images = [picture((i, 2, 3)) for i in range(len(labels))]
        write(folder / f"{split}-00000-of-00001.parquet", images, labels, names=None)
    with pytest.raises(BenchError, match=r"The highest label of .* is 1000000000, more than its 5 images have classes"):
        load(folder)


def test_a_pipe_and_metadata_nested_without_end_are_survived(folder: Path, picture: Picture, load: Load) -> None:
    file = folder / "train-00000-of-00001.parquet"
    table = pq.read_table(file).replace_schema_metadata({"huggingface": "[" * 100_000})
    pq.write_table(table, file)
    assert load(folder).classes == ("cat", "dog")  # as the test split says
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(BenchError, match=r"parquet is no file"):
        load(folder)
