"""`torchvision:NAME`: a classification dataset of torchvision, in the layout in which torchvision stores it."""

from __future__ import annotations

import inspect
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch
from torchvision import datasets

from bench.data.arrays import numbered
from bench.data.dataset import Dataset, Split
from bench.data.decode import Encoded, decode_images
from bench.data.places import where_to_put
from bench.errors import BenchError, unknown_name
from bench.system.text import one_line

ANSWER_SECONDS = 10.0
"""How long a server may take to answer, and then to go on sending."""

_SETS = (
    *("CIFAR10", "CIFAR100", "CLEVRClassification", "Country211", "DTD", "FER2013", "FGVCAircraft", "FashionMNIST"),
    *("Flowers102", "Food101", "GTSRB", "ImageNet", "Imagenette", "KMNIST", "MNIST", "OxfordIIITPet", "PCAM"),
    *("QMNIST", "RenderedSST2", "STL10", "SVHN", "StanfordCars", "USPS"),
)
"""Datasets that have one label an image, and a training and a test split."""
_SPLITS = (("train", "trainval"), ("test", "val", "valid"))
"""What they call the training and the test split; the first that a dataset has is taken."""
_NO_MIRROR = ("GTSRB", "KMNIST", "MNIST", "QMNIST", "RenderedSST2", "SVHN", "USPS")
"""Digits, letters and signs, whose mirror images are others or none."""


def load_torchvision(name: str, root: Path) -> Dataset:
    """Read a classification dataset of torchvision from the data folder; downloaded there if it is missing.

    Its splits train and test (SVHN's extra images are not taken); val where there is no test split. Images of one
    size, grey or RGB. Digits, letters and signs are not mirrored.

    Raises:
        BenchError: torchvision has no such dataset; it is missing and cannot be downloaded, or is damaged; its images
            are of several sizes.
    """
    kind = name.partition(":")[2]
    if kind not in _SETS:
        raise unknown_name("classification dataset of torchvision", kind, _SETS)
    source = getattr(datasets, kind)
    train, test = (_opened(source, root.expanduser(), names) for names in _SPLITS)
    splits = _split(source, train), _split(source, test)
    names = getattr(train, "classes", ())
    labels = (f"The training split of torchvision's {kind}", f"The test split of torchvision's {kind}")
    classes = tuple(map(str, names)) if len(names) > 1 else numbered(*splits, labels)
    return Dataset(name, *splits, classes, flip=kind not in _NO_MIRROR)


def _opened(source: Any, root: Path, names: tuple[str, ...]) -> Any:
    """One split of a dataset: what is on the disk, or else what is downloaded."""
    takes = inspect.signature(source).parameters
    try:
        return _made(source, root, names, {})
    except (RuntimeError, OSError) as error:  # torchvision's words for what is missing or damaged
        if not {"download", "kwargs"} & takes.keys():
            raise _missing(source, root, error) from error
    try:
        with _in_bounded_time():
            return _made(source, root, names, {"download": True})
    except (RuntimeError, OSError, HTTPException) as error:
        raise _missing(source, root, error) from error


def _made(source: Any, root: Path, names: tuple[str, ...], options: dict[str, Any]) -> Any:
    if "train" in inspect.signature(source).parameters:
        return source(root, train="train" in names, **options)
    *others, last = names
    for name in others:
        try:
            return source(root, split=name, **options)
        except ValueError:  # there is no split of that name
            continue
    return source(root, split=last, **options)


def _missing(source: Any, root: Path, error: Exception) -> BenchError:
    return BenchError(
        f"torchvision's {source.__name__} is not in {root}, and cannot be fetched: {one_line(str(error))[:200]}.\n"
        + where_to_put(root, f"its files, as torchvision stores them ({source.__module__}.{source.__name__}),")
    )


@contextmanager
def _in_bounded_time() -> Iterator[None]:
    """Within the block a server that does not answer is given up."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(ANSWER_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _split(source: Any, data: Any) -> Split:
    """Images and labels of a split."""
    pictures = _Pictures(data, source.__name__)
    images = decode_images(pictures)
    return Split(torch.from_numpy(images), torch.tensor(pictures.labels, dtype=torch.int64))


class _Pictures(Sequence[Encoded]):
    """The images of a dataset, each decoded when it is asked for; `labels` are those of all that were."""

    def __init__(self, data: Any, name: str) -> None:
        self.data, self.name = data, name
        self.labels = [-1] * len(data)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: Any) -> Any:
        image, label = self.data[index]
        if label is None:
            raise BenchError(f"Image {index} of torchvision's {self.name} has no label.\nFetch its labelled files.")
        self.labels[index] = int(label)
        return Encoded(f"{index} of torchvision's {self.name}", image)
