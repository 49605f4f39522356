"""What a dataset has to be, whoever made it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

import bench
from bench import registry
from bench.data import load_dataset
from bench.data.dataset import Dataset, Split, no_dataset, to_float
from bench.errors import BenchError
from bench.vocabulary import usual_eps

N = 16
IMAGES = torch.arange(N * 16, dtype=torch.uint8).view(N, 1, 4, 4)
LABELS = torch.arange(N) % 2


def dataset(**changed: Any) -> Dataset:
    split = Split(IMAGES, LABELS)
    return Dataset(**{"name": "mine", "train": split, "test": split, "classes": ("a", "b"), **changed})


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda x, y: (x / 255, y), r"images are float32, not uint8\.\nGive values 0 to 255"),
        (lambda x, y: (x.to(torch.int64), y), "images are int64, not uint8"),
        (
            lambda x, y: (x.numpy(), y),
            r"images are an ndarray.*\n.*torch\.as_tensor\(images, dtype=torch\.uint8\)",
        ),
        (lambda x, y: (x, y.tolist()), r"labels are a list.*\n.*torch\.as_tensor\(labels, dtype=torch\.int64\)"),
        (
            lambda x, y: (x.view(-1, 1, 16, 1).expand(-1, 32, -1, 3), y),
            r"images have shape .*: channels last\.\n.*permute\(0, 3, 1, 2\)",
        ),
        (lambda x, y: (x[:, 0], y), r"images have shape \(16, 4, 4\), not \(N, C, H, W\)"),
        (lambda x, y: (x, y.int()), "labels are int32, not int64"),
        (lambda x, y: (x, y.double()), "labels are float64, not int64"),
        (lambda x, y: (x, y[:, None]), r"labels have shape \(16, 1\), not \(N,\)"),
        (lambda x, y: (x, y[1:]), "16 images have 15 labels"),
        (lambda x, y: (x[:0], y[:0]), "there are no images"),
        (lambda x, y: (x[..., :0], y), "there are no images"),
        (lambda x, y: (x, y + 1), "labels are from 1 to 2, not from 0 to 1"),
        (lambda x, y: (x, y - 1), "labels are from -1 to 0, not from 0 to 1"),
    ],
)
@pytest.mark.parametrize("name", ["training", "test"])
def test_images_and_labels_are_what_they_should_be(
    change: Callable[[Tensor, Tensor], tuple[Any, Any]], problem: str, name: str
) -> None:
    with pytest.raises(BenchError, match=f"^The dataset mine: in its {name} split {problem}"):
        dataset(**{"train" if name == "training" else "test": Split(*change(IMAGES, LABELS))})


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"classes": ("a",)}, "it has 1 class.\nA classifier needs two or more"),
        ({"classes": ()}, "it has 0 classes"),
        ({"test": Split(IMAGES.expand(-1, 3, -1, -1), LABELS)}, r"training images are \(1, 4, 4\), test images \(3, 4"),
        ({"test": Split(IMAGES[..., 1:], LABELS)}, r"training images are \(1, 4, 4\), test images \(1, 4, 3\)"),
        *(({"eps": eps}, "eps is ") for eps in (0, -0.1, 1.1, 8, float("nan"), float("inf"), "8/255")),
        ({"eps": 8}, r"eps is 8\.\n.* 8 levels of 255 are 8 / 255\."),
        *(({"padding": padding}, "padding is ") for padding in (-1, 0.5)),
        ({"flip": "no"}, "flip is 'no'"),
        ({"name": None}, r"its name is None\.\n"),
        ({"classes": 2}, r"its classes are 2, not names\.\nGive a tuple of names"),
        ({"classes": "ab"}, "its classes are 'ab', not names"),
        ({"train": (IMAGES, LABELS)}, r"its training split is a tuple\.\nGive a bench\.Dataset\(.*bench\.Split"),
        ({"train": TensorDataset(IMAGES, LABELS)}, r"its training split is a dataset of PyTorch's\.\nCollect it: "),
        ({"test": DataLoader(TensorDataset(IMAGES, LABELS))}, r"its test split is a DataLoader\.\nCollect it: "),
        ({"test": None}, r"its test split is None\.\n"),
    ],
)
def test_the_rest_of_a_dataset_is_what_it_should_be(changed: dict[str, Any], problem: str) -> None:
    with pytest.raises(BenchError, match=f"^The dataset {changed.get('name', 'mine')}: {problem}"):
        dataset(**changed)
    with pytest.raises(BenchError, match=problem):
        replace(dataset(), **changed)


def test_what_a_refusal_has_one_write_makes_a_split() -> None:
    source = TensorDataset(IMAGES / 255, LABELS)
    for value in (DataLoader(source, batch_size=5), source):
        (code,) = re.findall(r"Collect it: (.*?, y\)), for x", no_dataset(value))
        names: dict[str, Any] = {"torch": torch, "bench": bench, "loader": value, "data": value}
        exec(code, names)
        assert torch.equal(names["split"].images, IMAGES)
        assert torch.equal(names["split"].labels, LABELS)


def test_what_is_right_is_taken_as_it_is() -> None:
    for eps in (1, 1.0, 1e-6):
        assert dataset(eps=eps, padding=0).eps == eps
    given = dataset()
    assert given.limit_train(3).train.labels.tolist() == [0, 1, 0]
    assert given.train.images is IMAGES
    assert torch.equal((255 * to_float(IMAGES)).round().to(torch.uint8), IMAGES)


def test_the_labels_are_read_once_and_the_pixels_never(monkeypatch: pytest.MonkeyPatch) -> None:
    given = dataset()
    monkeypatch.setattr(Tensor, "aminmax", lambda *_: pytest.fail("read again"))
    assert replace(given, eps=0.1).test is given.test
    given.test.first(3), given.test.take(torch.tensor([1, 2])), given.test.to("cpu")


def test_images_that_are_no_bytes_are_never_divided() -> None:
    with pytest.raises(BenchError, match="float32, not uint8"):
        to_float(IMAGES / 255)


def test_a_plug_in_s_dataset_is_checked_when_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, root: Path) -> Dataset:
        return dataset(train=Split(IMAGES / 255, LABELS))

    monkeypatch.setattr(registry, "load", lambda group, name: load)
    with pytest.raises(BenchError, match="The dataset mine: in its training split images are float32"):
        load_dataset("digits", Path("data"))


def test_the_digits_have_their_usual_radius() -> None:
    assert load_dataset("digits", Path("data")).eps == usual_eps("digits") == 2 / 16
    assert usual_eps("cifar10") == usual_eps("parquet:mine") == 8 / 255
