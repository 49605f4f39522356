"""Datasets of arrays: what is unambiguous is taken, everything else is refused by the array's name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from bench.data.dataset import Dataset
from bench.errors import BenchError

N = 12
Y = np.arange(N) % 3


@pytest.fixture
def x(noise: np.ndarray) -> np.ndarray:
    """uint8, (N, H, W, C)."""
    return np.ascontiguousarray(noise.transpose(0, 2, 3, 1))


TAKEN: dict[str, Callable[[np.ndarray], Any]] = {
    "as it is": lambda x: x,
    "channels first": lambda x: x.transpose(0, 3, 1, 2),
    "reversed twice": lambda x: x[::-1][::-1],
    "PyTorch": torch.from_numpy,
    "PyTorch, channels first": lambda x: torch.from_numpy(x).permute(0, 3, 1, 2),
    "float64": lambda x: x / 255,
    "float32": lambda x: (x / 255).astype(np.float32),
    "PyTorch float16": lambda x: (torch.from_numpy(x) / 255).half(),
    "PyTorch with a gradient": lambda x: (torch.from_numpy(x) / 255).requires_grad_(),
}


@pytest.mark.parametrize("kind", TAKEN)
def test_all_kinds_of_images_come_to_the_same(x: np.ndarray, kind: str) -> None:
    given = TAKEN[kind](x)
    made = Dataset.from_arrays(given, Y, given, Y)
    for split in (made.train, made.test):
        assert torch.equal(split.images, torch.from_numpy(x.transpose(0, 3, 1, 2)))
        assert split.labels.tolist() == Y.tolist()
    assert made.classes == ("0", "1", "2")
    assert made.train.fingerprint == Dataset.from_arrays(x, Y, x, Y).train.fingerprint


def test_grey_images_column_labels_and_the_other_attributes(x: np.ndarray) -> None:
    grey = x[..., 0]
    given = Y.astype(np.uint8)[:, None]
    made = Dataset.from_arrays(grey, given, grey, torch.tensor(Y), name="mine", classes=["a", "b", "c", "d"], eps=0.1)
    assert made.train.images.shape == (N, 1, 8, 8)
    assert (made.name, made.classes, made.eps) == ("mine", ("a", "b", "c", "d"), 0.1)


def test_what_is_done_to_the_arrays_later_is_nothing_to_the_dataset(x: np.ndarray) -> None:
    for given, y in ((x.transpose(0, 3, 1, 2).copy(), Y.copy()), (torch.from_numpy(x.copy()), torch.tensor(Y))):
        made = Dataset.from_arrays(given, y, given, y)
        before = made.train.images.clone(), made.train.labels.clone()
        given[:], y[:] = 0, 0
        assert torch.equal(made.train.images, before[0])
        assert torch.equal(made.train.labels, before[1])


def test_a_layout_that_could_be_either_has_to_be_said(x: np.ndarray) -> None:
    either = x[:, :3]
    with pytest.raises(BenchError, match=r"x_train of arrays has the shape \(12, 3, 8, 3\): either axis could be"):
        Dataset.from_arrays(either, Y, either, Y)
    assert Dataset.from_arrays(either, Y, either, Y, layout="NHWC").train.images.shape == (N, 3, 3, 8)
    assert Dataset.from_arrays(either, Y, either, Y, layout="NCHW").train.images.shape == (N, 3, 8, 3)
    with pytest.raises(BenchError, match="no axis is 1 or 3 channels"):
        Dataset.from_arrays(x[..., :2], Y, x[..., :2], Y)
    with pytest.raises(BenchError, match=r"layout='HWC'\.\nThere are 'NHWC' and 'NCHW'"):
        Dataset.from_arrays(x, Y, x, Y, layout="HWC")  # type: ignore[arg-type]


REFUSED: dict[str, tuple[Callable[[np.ndarray, np.ndarray], tuple[Any, Any]], str]] = {
    "a list": (lambda x, y: (x.tolist(), y), r"x_\w+ of arrays is a list, not an array"),
    "flat": (lambda x, y: (x.reshape(N, -1), y), r"x_\w+ of arrays has the shape \(12, 192\)"),
    "none": (lambda x, y: (x[:0], y[:0]), "there are no images"),
    "int64": (lambda x, y: (x.astype(np.int64), y), r"x_\w+ of arrays holds int64\.\nGive bytes"),
    "bool": (lambda x, y: (x > 3, y), "holds bool"),
    "0 to 255": (lambda x, y: (x.astype(np.float32), y), r"holds float32 from \S+ to 2\S+, not in \[0, 1\]"),
    "normalised": (lambda x, y: (x / 255 - 0.5, y), "undo the normalisation first"),
    "NaN": (lambda x, y: (np.where(x > 200, np.nan, x / 255), y), "from nan to nan"),
    "fewer labels": (lambda x, y: (x, y[1:]), r"x_\w+ of arrays has 12 images, y_\w+ of arrays 11 labels"),
    "one-hot": (lambda x, y: (x, np.eye(3)[y]), r"has the shape \(12, 3\), not \(N,\)\.\nOf one-hot rows"),
    "no whole numbers": (lambda x, y: (x, y / 2), r"y_\w+ of arrays holds float64"),
    "text": (lambda x, y: (x, y.astype(str)), r"y_\w+ of arrays holds str"),
    "negative": (lambda x, y: (x, y - 1), r"y_train of arrays has labels from -1|y_test of arrays has the label -1"),
}


@pytest.mark.parametrize("where", ["train", "test"])
@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_image_or_label_is_named(x: np.ndarray, kind: str, where: str) -> None:
    change, problem = REFUSED[kind]
    right, wrong = (x, Y), change(x, Y)
    train, test = (wrong, right) if where == "train" else (right, wrong)
    with pytest.raises(BenchError, match=problem) as caught:
        Dataset.from_arrays(*train, *test)
    assert where in str(caught.value)


def test_training_and_test_images_go_together(x: np.ndarray) -> None:
    with pytest.raises(BenchError, match=r"x_train of arrays are \(3, 8, 8\), x_test of arrays \(3, 7, 8\)"):
        Dataset.from_arrays(x, Y, x[:, 1:], Y)
    with pytest.raises(BenchError, match=r"y_test of arrays has the label 5, y_train of arrays has 0 to 2"):
        Dataset.from_arrays(x, Y, x, np.where(Y == 2, 5, Y))
    with pytest.raises(BenchError, match=r"labels from 1 to 3, but none is 0\.\nNumber the classes from 0 on"):
        Dataset.from_arrays(x, Y + 1, x, Y + 1)
    with pytest.raises(BenchError, match=r"labels are from 0 to 2, not from 0 to 1"):
        Dataset.from_arrays(x, Y, x, Y, classes=["a", "b"])


def test_it_is_at_hand_as_bench_dataset() -> None:
    import bench

    assert bench.Dataset is Dataset
