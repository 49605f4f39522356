"""Arrays as people have them, NumPy's or PyTorch's, as the splits of a dataset; what is ambiguous is refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from bench.data.dataset import Split
from bench.errors import BenchError

Layout = Literal["NHWC", "NCHW"]

_CHANNELS = (1, 3)
_CHUNK = 4096
"""Images that are converted at once."""
_ROUNDING = 1e-6
"""By how much a conversion's arithmetic may leave [0, 1]."""


def splits_of(arrays: Sequence[tuple[str, Any]], layout: Layout | None = None) -> tuple[Split, Split]:
    """The training and the test split of four arrays.

    Args:
        arrays: x_train, y_train, x_test, y_test, each with what a message calls it; x as for `split_of`.
        layout: of the images; None: told by their shape.

    Raises:
        BenchError: as `split_of`; training and test images of different shapes.
    """
    (x_train, train), (y_train, train_labels), (x_test, test), (y_test, test_labels) = arrays
    layout = layout or layout_of(x_train, train)
    first = split_of((x_train, train), (y_train, train_labels), layout)
    second = split_of((x_test, test), (y_test, test_labels), layout)
    shapes = [tuple(split.images.shape[1:]) for split in (first, second)]
    if shapes[0] != shapes[1]:
        raise BenchError(
            f"{x_train} are {shapes[0]}, {x_test} {shapes[1]} (channels, height, width).\nGive both one shape."
        )
    return first, second


def split_of(x: tuple[str, Any], y: tuple[str, Any], layout: Layout | None = None) -> Split:
    """The split of images and labels, each given with what a message calls it.

    Args:
        x: uint8, or floating point in [0, 1], which is rounded to bytes; of shape (N, H, W, C), (N, C, H, W) or
            (N, H, W). A memory-mapped array of bytes stays where it is.
        y: integers, shape (N,) or (N, 1).

    Raises:
        BenchError: arrays of another kind, shape or range, or of different lengths.
    """
    (x_name, images), (y_name, labels) = x, y
    if 0 in _array(x_name, images).shape:
        raise BenchError(f"{x_name} has the shape {tuple(images.shape)}: there are no images.\nGive one or more.")
    made = Split(_bytes(x_name, _channels_first(x_name, images, layout)), _labels(y_name, labels))
    if len(made.images) != len(made.labels):
        raise BenchError(
            f"{x_name} has {len(made.images)} images, {y_name} {len(made.labels)} labels.\nGive each image one label."
        )
    return made


def numbered(train: Split, test: Split, names: tuple[str, str]) -> tuple[str, ...]:
    """Classes without names: "0", "1", to the highest label, each of which has training images.

    Args:
        names: what a message calls the labels of each split.
    """
    low, high = (int(value) for value in train.labels.aminmax())
    if low < 0 or high > len(train):  # nor is a list made of all classes up to a label that is none
        raise BenchError(f"{names[0]} has labels from {low} to {high}.\nNumber the classes from 0 on.")
    without = (torch.bincount(train.labels, minlength=high + 1) == 0).nonzero()
    if len(without):
        raise BenchError(
            f"{names[0]} has labels from {low} to {high}, but none is {int(without[0])}.\n"
            "Number the classes from 0 on, or name all of them (classes)."
        )
    odd = test.labels[(test.labels < 0) | (test.labels > high)]
    if len(odd):
        raise BenchError(
            f"{names[1]} has the label {int(odd[0])}, {names[0]} has 0 to {high}.\n"
            "Give both the same classes, or name all of them (classes)."
        )
    return tuple(map(str, range(high + 1)))


def layout_of(name: str, x: Any) -> Layout:
    """Whether channels come last or first, by an array's shape.

    Raises:
        BenchError: it may be either, or is neither.
    """
    shape = tuple(_array(name, x).shape)
    if len(shape) == 3:
        return "NCHW"
    if len(shape) != 4:
        raise BenchError(
            f"{name} has the shape {shape}.\nGive images as (N, H, W, C), (N, C, H, W), or grey ones as (N, H, W)."
        )
    last, first = shape[3] in _CHANNELS, shape[1] in _CHANNELS
    if last == first:
        problem = "either axis could be the channels" if last else "no axis is 1 or 3 channels"
        raise BenchError(f"{name} has the shape {shape}: {problem}.\nSay which: layout='NHWC' or layout='NCHW'.")
    return "NHWC" if last else "NCHW"


def _array(name: str, values: Any) -> np.ndarray | Tensor:
    if isinstance(values, Tensor):
        return values.detach().cpu()
    if not isinstance(values, np.ndarray):
        raise BenchError(
            f"{name} is a {type(values).__name__}, not an array.\nGive NumPy's or PyTorch's: np.asarray({name})."
        )
    return values


def _kind(values: np.ndarray | Tensor) -> str:
    return str(values.dtype).removeprefix("torch.") if isinstance(values, Tensor) else values.dtype.name


def _channels_first(name: str, x: Any, layout: Layout | None) -> np.ndarray | Tensor:
    """The images as (N, C, H, W), a view."""
    layout = layout or layout_of(name, x)
    array = _array(name, x)
    if array.ndim == 3:
        return array[:, None]
    if array.ndim != 4:
        layout_of(name, x)
    if layout == "NCHW":
        return array
    return array.permute(0, 3, 1, 2) if isinstance(array, Tensor) else array.transpose(0, 3, 1, 2)


def _bytes(name: str, x: np.ndarray | Tensor) -> Tensor:
    """The images as uint8, in memory of their own unless they are memory-mapped."""
    kind = _kind(x)
    if kind == "uint8":
        if isinstance(x, Tensor):
            return x.clone(memory_format=torch.contiguous_format)
        return torch.from_numpy(x if _is_mapped(x) else x.copy(order="C"))
    if not kind.startswith(("float", "bfloat")):
        raise BenchError(f"{name} holds {kind}.\nGive bytes, 0 to 255 as uint8, or floating point in [0, 1].")
    made = torch.empty(tuple(x.shape), dtype=torch.uint8)
    for start, chunk in _chunks(x):
        low, high = (float(value) for value in chunk.aminmax())
        if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):  # NaN is neither
            raise BenchError(
                f"{name} holds {kind} from {low:.4g} to {high:.4g}, not in [0, 1].\nGive 0 to 255 as uint8; of "
                "normalised images undo the normalisation first: x * std + mean."
            )
        made[start : start + _CHUNK] = (chunk * 255).round().clamp(0, 255).to(torch.uint8)
    return made


def _is_mapped(x: Any) -> bool:
    """Whether a view's memory is a file's, which a copy would bring in as a whole."""
    while isinstance(x, np.ndarray) and not isinstance(x, np.memmap):
        x = x.base
    return isinstance(x, np.memmap)


def _chunks(x: np.ndarray | Tensor) -> Iterator[tuple[int, Tensor]]:
    """Floating-point images in parts, as float32."""
    for start in range(0, len(x), _CHUNK):
        part = x[start : start + _CHUNK]
        yield start, torch.as_tensor(part if isinstance(part, Tensor) else part.astype(np.float32)).float()


def _labels(name: str, y: Any) -> Tensor:
    array = _array(name, y)
    shape, kind = tuple(array.shape), _kind(array)
    if len(shape) == 2 and shape[1] == 1:  # as Keras stores them
        array = array[:, 0]
    elif len(shape) != 1:
        hint = "Of one-hot rows they are y.argmax(1)." if len(shape) == 2 else "Reshape them."
        raise BenchError(f"{name} has the shape {shape}, not (N,).\n{hint}")
    if not kind.startswith(("int", "uint")):
        raise BenchError(f"{name} holds {kind}.\nGive whole numbers, the index of each image's class.")
    return torch.as_tensor(array if isinstance(array, Tensor) else array.astype(np.int64)).to(torch.int64).clone()
