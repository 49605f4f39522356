"""What a dataset is to the harness: uint8 images with labels, and the threat model that goes with them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Real
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from bench.errors import BenchError
from bench.system.text import kind_of
from bench.threat import NORMS, Threat, Wanted
from bench.vocabulary import LINF_EPS, Norm

if TYPE_CHECKING:
    from bench.data.arrays import Layout

WANTED = (
    "Give a bench.Dataset(name, train, test, classes), each split a bench.Split(images, labels) of uint8 images, "
    "(N, C, H, W), and int64 labels."
)
_COLLECT = (
    "Collect it: x, y = {}; split = bench.Split((255 * x).round().to(torch.uint8), y), for x in [0, 1]; "
    "bench.Dataset(name, train, test, classes) takes the splits."
)
_CHANNELS = 4
"""More are taken for a height where the last axis could be the channels."""
_TO_UINT8 = "Give values 0 to 255; of images in [0, 1] those are (255 * images).round().to(torch.uint8)."
_CHUNK = 16384


@dataclass(frozen=True)
class Split:
    """Images with their labels.

    Attributes:
        images: uint8, shape (N, C, H, W), values 0 to 255.
        labels: int64, shape (N,), values 0 to classes - 1.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, n: int | None) -> Split:
        """The first n samples; all of them for None or an n beyond the end."""
        return self if n is None or n >= len(self) else Split(self.images[:n], self.labels[:n])

    def take(self, indices: Tensor) -> Split:
        """The samples at these positions."""
        return Split(self.images[indices], self.labels[indices])

    def to(self, device: torch.device | str) -> Split:
        """The same samples on a device; they stay uint8 there, a quarter of the memory of float32."""
        return Split(self.images.to(device), self.labels.to(device))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of pixels, labels and shape: two splits with the same one hold the same samples in the same order."""
        digest = hashlib.sha256(str(tuple(self.images.shape)).encode())
        for values in (self.images, self.labels):
            for part in values.split(_CHUNK):  # of a file that is memory-mapped only so much is in memory at once
                digest.update(part.contiguous().cpu().numpy().data)
        return digest.hexdigest()

    def mistakes(self, classes: int) -> Iterator[str]:
        """What is wrong with the split of a dataset of so many classes, in words; the pixels are not read."""
        shape = tuple(getattr(self.images, "shape", ()))
        if len(shape) == 4 and shape[3] in (1, 3) and min(shape[1:3]) > _CHANNELS:
            yield f"images have shape {shape}: channels last.\nPut them first: images.permute(0, 3, 1, 2)."
        yield from _mistakes(self.images, torch.uint8, "images", 4, _TO_UINT8)
        yield from _mistakes(self.labels, torch.int64, "labels", 1, "Convert them: labels.long().")
        if len(self.images) != len(self.labels):
            yield f"{len(self.images)} images have {len(self.labels)} labels.\nGive each image one label."
        if not self.images.numel():
            yield f"there are no images: their shape is {tuple(self.images.shape)}.\nGive one image or more."
        low, high = self._label_range
        if low < 0 or high >= classes:
            yield f"labels are from {low} to {high}, not from 0 to {classes - 1}.\nName all classes, numbered from 0."

    @cached_property
    def _label_range(self) -> tuple[int, int]:
        low, high = self.labels.aminmax()
        return int(low), int(high)


@dataclass(frozen=True)
class Dataset:
    """A training and a test split, the classes, the threat model and the augmentation that suits the images.

    What is not as it says here is refused when the dataset is made. Images of another kind, in [0, 1] say, are not
    converted here; `from_arrays` converts what is unambiguous.

    Attributes:
        name: canonical name, as tables and records show it: "cifar10", "parquet:cifar10-jpeg".
        classes: class names, in label order.
        eps: how far the attacker may move an image in [0, 1], in the norm.
        padding: pixels of zero padding for the random crop; 0 for no crop.
        flip: whether a horizontal mirror image keeps its class.
        norm: of the attacker's perturbations.
        licence: under which the images may be used, in words, for those who pass on what was trained on them.

    Raises:
        BenchError: images, labels, classes, eps or padding are not what they should be.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    eps: float = LINF_EPS
    padding: int = 4
    flip: bool = True
    licence: str = "not known to the harness"
    norm: Norm = "linf"

    def __post_init__(self) -> None:
        mistake = next(self._mistakes(), None)
        if mistake is not None:
            raise BenchError(f"The dataset {self.name}: {mistake}")

    def _mistakes(self) -> Iterator[str]:
        if not isinstance(self.name, str) or not self.name.strip():
            yield f"its name is {self.name!r}.\nGive a text: records and tables show it."
        names = self.classes
        if not isinstance(names, (tuple, list)) or any(not isinstance(each, str) for each in names):
            cure = 'a tuple of names: ("cat", "dog"), or tuple(map(str, range(10)))'
            yield f"its classes are {_shown(names)}, not names.\nGive {cure}."
        classes = len(names)
        if classes < 2:
            yield f"it has {classes} {'class' if classes == 1 else 'classes'}.\nA classifier needs two or more."
        for name, split in (("training", self.train), ("test", self.test)):
            if not isinstance(split, Split):
                yield f"its {name} split is {no_dataset(split)}"
            for mistake in split.mistakes(classes):
                yield f"in its {name} split {mistake}"
        train, test = (tuple(split.images.shape[1:]) for split in (self.train, self.test))
        if train != test:
            yield f"training images are {train}, test images {test} (channels, height, width).\nGive both one shape."
        if self.norm not in NORMS:
            yield f"norm is {self.norm!r}.\nThere are {', '.join(NORMS)}."
        most = 1 if self.norm == "linf" else float("inf")
        if not isinstance(self.eps, Real) or not 0 < self.eps <= most or self.eps == float("inf"):  # NaN is neither
            levels = " 8 levels of 255 are 8 / 255." if isinstance(self.eps, Real) and self.eps > 1 == most else ""
            bound = "above 0 and at most 1" if most == 1 else "above 0"
            yield f"eps is {self.eps}.\nGive the attacker's bound for images in [0, 1]: {bound}.{levels}"
        if not isinstance(self.padding, int) or self.padding < 0:
            yield f"padding is {self.padding}.\nGive a number of pixels, 0 or more."
        if not isinstance(self.flip, bool):
            yield f"flip is {self.flip!r}.\nGive True or False: whether a mirror image keeps its class."

    @classmethod
    def from_arrays(
        cls,
        x_train: Any,
        y_train: Any,
        x_test: Any,
        y_test: Any,
        *,
        name: str = "arrays",
        classes: Sequence[str] | None = None,
        layout: Layout | None = None,
        **more: Any,
    ) -> Dataset:
        """A dataset of arrays that one has, NumPy's or PyTorch's; they are copied, unless they are memory-mapped.

        Args:
            x_train, x_test: images, uint8 or floating point in [0, 1] (rounded to bytes), of shape (N, H, W, C),
                (N, C, H, W) or (N, H, W).
            y_train, y_test: whole numbers, shape (N,) or (N, 1), from 0 to classes - 1.
            classes: their names in the order of the labels; None: "0", "1", to the highest label, each of which has
                training images.
            layout: "NHWC" or "NCHW", where the shape could be either.
            more: the other attributes: eps, padding, flip, licence, norm.

        Raises:
            BenchError: an array that is none of this, or does not go with the others; it is named.
        """
        from bench.data.arrays import numbered, splits_of

        if layout not in (None, "NHWC", "NCHW"):
            raise BenchError(f"layout={layout!r}.\nThere are 'NHWC' and 'NCHW'; None: told by the shape.")
        names = ("x_train", "y_train", "x_test", "y_test")
        given = zip(names, (x_train, y_train, x_test, y_test), strict=True)
        train, test = splits_of([(f"{each} of {name}", values) for each, values in given], layout)
        labels = (f"y_train of {name}", f"y_test of {name}")
        known = numbered(train, test, labels) if classes is None else tuple(map(str, classes))
        return cls(name, train, test, known, **more)

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def in_channels(self) -> int:
        return int(self.train.images.shape[1])

    @property
    def threat(self) -> Threat:
        """What its networks are trained against and attacked under."""
        return Threat(self.norm, self.eps)

    def under(self, threat: Wanted | str | None) -> Dataset:
        """The same images under another threat.

        Args:
            threat: a `Threat`, its text, or a radius in the dataset's own norm; None: its own.

        Raises:
            BenchError: it is no threat, or one that moves no image.
        """
        wanted = Threat.wanted(threat)
        chosen = self.threat if wanted is None else wanted if isinstance(wanted, Threat) else self.threat.at(wanted)
        return self if chosen == self.threat else replace(self, norm=chosen.norm, eps=chosen.eps)

    def limit_train(self, n: int | None) -> Dataset:
        """The same dataset with only its first n training images."""
        return replace(self, train=self.train.first(n))


def to_float(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """uint8 images, 0 to 255, as floating-point images in [0, 1]; shape unchanged."""
    if images.dtype != torch.uint8:
        raise BenchError(f"These images are {_name(images.dtype)}, not uint8.\n{_TO_UINT8}")
    return images.to(dtype) / 255


def no_dataset(value: object) -> str:
    """What a value is that is no dataset and no split of one, and how to make one of it; two lines."""
    if isinstance(value, DataLoader):
        return "a DataLoader.\n" + _COLLECT.format("map(torch.cat, zip(*loader))")
    if isinstance(value, TorchDataset):
        return "a dataset of PyTorch's.\n" + _COLLECT.format("zip(*data); x, y = torch.stack(x), torch.tensor(y)")
    return f"{_shown(value)}.\n{WANTED}"


def _shown(value: object) -> str:
    """A value by what it is: short ones as they are, others by their kind."""
    return repr(value) if isinstance(value, (int, float, str, type(None))) else kind_of(value)


def _mistakes(values: Tensor, dtype: torch.dtype, what: str, axes: int, advice: str) -> Iterator[str]:
    """What is wrong with the kind of images or labels."""
    if not isinstance(values, Tensor):
        yield f"{what} are {_shown(values)}, not a tensor.\nMake one: torch.as_tensor({what}, dtype={dtype})."
    if values.dtype != dtype:
        yield f"{what} are {_name(values.dtype)}, not {_name(dtype)}.\n{advice}"
    if values.ndim != axes:
        shape = "(N, C, H, W)" if axes == 4 else "(N,)"
        yield f"{what} have shape {tuple(values.shape)}, not {shape}.\nReshape them."


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
