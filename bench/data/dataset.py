"""What a dataset is to the harness: uint8 images with labels, and the threat model that goes with them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

LINF_EPS = 8 / 255
"""The field's usual L-infinity bound for images in [0, 1]; a dataset may state another one."""


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
        digest.update(self.images.contiguous().cpu().numpy().tobytes())
        digest.update(self.labels.contiguous().cpu().numpy().tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Dataset:
    """A training and a test split, the classes, the threat model and the augmentation that suits the images.

    Attributes:
        name: canonical name, as tables and records show it: "cifar10", "parquet:cifar10-jpeg".
        train: the training split.
        test: the test split.
        classes: class names, in label order.
        eps: L-infinity bound of the attacker, for images in [0, 1].
        padding: pixels of zero padding for the random crop; 0 for no crop.
        flip: whether a horizontal mirror image keeps its class.
        licence: under which the images may be used, in words, for those who pass on what was trained on them.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    eps: float = LINF_EPS
    padding: int = 4
    flip: bool = True
    licence: str = "not known to the harness"

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def in_channels(self) -> int:
        return int(self.train.images.shape[1])

    def limit_train(self, n: int | None) -> Dataset:
        """The same dataset with only its first n training images."""
        return replace(self, train=self.train.first(n))


def to_float(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """uint8 images, 0 to 255, as floating-point images in [0, 1]; shape unchanged."""
    return images.to(dtype) / 255
