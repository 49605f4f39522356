"""The batches of an epoch, augmented as a whole, on the device, on uint8.

Crops and mirror images have the same distribution as torchvision's `RandomCrop(size, padding)` followed by
`RandomHorizontalFlip(0.5)`. All chance is drawn for a whole epoch at once: what happens to a sample depends on the
seed, the epoch and its index, and on nothing else, so a run gives the same images with any batch size, and half an
epoch can be continued. Additional images are drawn for each step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.data.dataset import Dataset, Split
from bench.recipes.training import Augmentation

OPERATIONS = (
    *("Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast"),
    *("Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize"),
)
"""Of TrivialAugmentWide."""
LEVELS = 31
"""Strengths of an operation."""


@dataclass(frozen=True)
class Policy:
    """What may happen to an image.

    Attributes:
        padding: pixels of black padding on each side for the random crop; 0: no crop.
        flip: whether half of the images are mirrored.
        trivial: whether TrivialAugmentWide follows. hole: then, of the black square of cutout, the side; 0: none.
    """

    padding: int
    flip: bool
    trivial: bool = False
    hole: int = 0

    @classmethod
    def of(cls, augmentation: Augmentation, dataset: Dataset) -> Policy:
        """What a recipe asks for, on images of a dataset."""
        if augmentation.kind == "none":
            return cls(0, False)
        flip = dataset.flip if augmentation.flip is None else augmentation.flip
        half = max(1, min(dataset.train.images.shape[2:]) // 2)
        hole = (augmentation.size or half) if augmentation.kind == "cutout" else 0
        return cls(dataset.padding, flip, augmentation.kind == "trivial-augment", hole)


@dataclass(frozen=True, eq=False)
class Chance:
    """What happens to each of N samples; of policies that are not asked for, None.

    Attributes:
        top, left: int64, shape (N,): where the crop begins in the padded image, 0 to 2 * padding.
        flip: bool, shape (N,): whether the crop is mirrored.
        operation, level, negative: shape (N,), always on the CPU: see `trivial_augment`.
        row, column: float32, shape (N,), 0 to 1: where in the image cutout's square has its centre.
    """

    top: Tensor
    left: Tensor
    flip: Tensor
    operation: Tensor | None = None
    level: Tensor | None = None
    negative: Tensor | None = None
    row: Tensor | None = None
    column: Tensor | None = None

    def to(self, device: torch.device | str) -> Chance:
        """The same on a device, where images are."""
        return self._each(lambda values: values.to(device), lambda values: values)

    def take(self, indices: Tensor, on_cpu: Tensor) -> Chance:
        """Of these samples; `on_cpu`: their indices on the CPU."""
        return self._each(lambda values: values[indices], lambda values: values[on_cpu])

    def and_then(self, others: Chance) -> Chance:
        """Of these samples and of others."""
        pairs = zip(vars(self).values(), vars(others).values(), strict=True)
        return Chance(*(None if mine is None else torch.cat([mine, theirs]) for mine, theirs in pairs))  # type: ignore[arg-type]

    def _each(self, function: Callable[[Tensor], Tensor], on_cpu: Callable[[Tensor], Tensor]) -> Chance:
        of = {name: on_cpu if name in ("operation", "level", "negative") else function for name in vars(self)}
        return Chance(*(None if values is None else of[name](values) for name, values in vars(self).items()))  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class EpochPlan:
    """The chance of one epoch over N samples; all on the CPU.

    Attributes:
        order: int64, shape (N,): the indices of the samples, in the order of the epoch.
        chance: by sample index.
    """

    seed: int
    epoch: int
    policy: Policy
    order: Tensor
    chance: Chance


@dataclass(frozen=True, eq=False)
class Extra:
    """Additional training images, of which every batch has a share.

    Attributes:
        split: may be large and memory-mapped; only what a batch takes of it is read.
        share: of a batch, above 0 and at most 1.
    """

    split: Split
    share: float

    def of(self, n: int) -> int:
        """How many of the n images of a batch are additional ones."""
        return math.floor(self.share * n + 0.5)


def plan_epoch(n: int, seed: int, epoch: int, policy: Policy) -> EpochPlan:
    """Draw the order of an epoch over n samples, and what happens to each of them.

    Everything has a random stream of its own: turning flips off, say, changes no crop.
    """
    streams = _streams(seed, epoch)
    order = torch.randperm(n, generator=next(streams))
    return EpochPlan(seed, epoch, policy, order, _draw(n, policy, streams))


def _streams(*place: int) -> Iterator[torch.Generator]:
    """Independent random streams for one place of use, without end."""
    source = np.random.SeedSequence(place)
    while True:
        (stream,) = source.spawn(1)
        yield torch.Generator().manual_seed(int(stream.generate_state(1, np.uint64)[0]))


def _draw(n: int, policy: Policy, streams: Iterator[torch.Generator]) -> Chance:
    top, left, mirror, operation, level, sign, row, column = (next(streams) for _ in range(8))
    trivial, hole = policy.trivial, policy.hole > 0
    return Chance(
        top=torch.randint(2 * policy.padding + 1, (n,), generator=top),
        left=torch.randint(2 * policy.padding + 1, (n,), generator=left),
        flip=torch.randint(2, (n,), generator=mirror).bool() if policy.flip else torch.zeros(n, dtype=torch.bool),
        operation=torch.randint(len(OPERATIONS), (n,), generator=operation) if trivial else None,
        level=torch.randint(LEVELS, (n,), generator=level) if trivial else None,
        negative=torch.randint(2, (n,), generator=sign).bool() if trivial else None,
        row=torch.rand(n, generator=row) if hole else None,
        column=torch.rand(n, generator=column) if hole else None,
    )


def augment(images: Tensor, chance: Chance, policy: Policy) -> Tensor:
    """Augment each image of a batch in its own way: crop, mirror, TrivialAugmentWide, cutout, in this order.

    Args:
        images: uint8, shape (B, C, H, W).
        chance: of each of them, drawn for this policy; on the same device.

    Returns:
        uint8, shape (B, C, H, W), a new tensor on the same device.
    """
    images = _cropped(images, chance.top, chance.left, chance.flip, policy.padding)
    if chance.operation is not None:
        from bench.data.trivial_augment import trivial_augment  # imports torchvision's transforms

        assert chance.level is not None
        assert chance.negative is not None
        images = trivial_augment(images, chance.operation, chance.level, chance.negative)
    if chance.row is not None and chance.column is not None:
        images = images.masked_fill(_square(images, chance.row, chance.column, policy.hole), 0)
    return images


def _cropped(images: Tensor, top: Tensor, left: Tensor, flip: Tensor, padding: int) -> Tensor:
    b, c, h, w = images.shape
    x = torch.arange(w, device=images.device)
    rows = top[:, None] + torch.arange(h, device=images.device)
    columns = left[:, None] + torch.where(flip[:, None], w - 1 - x, x)
    # One index into the flattened padded image serves all channels; gather is the fastest way on a CPU.
    source = (rows[:, :, None] * (w + 2 * padding) + columns[:, None, :]).reshape(b, 1, h * w)
    padded = F.pad(images, (padding, padding, padding, padding)).reshape(b, c, -1)
    return padded.gather(2, source.expand(b, c, h * w)).reshape(b, c, h, w)


def _square(images: Tensor, row: Tensor, column: Tensor, side: int) -> Tensor:
    """bool, (B, 1, H, W): the pixels of a square around a pixel, as far as they are in the image.

    As in the authors' code (DeVries and Taylor 2017, arXiv 1708.04552), of an even side the centre is the first pixel
    of the second half.
    """
    inside = []
    for share, n in ((row, images.shape[2]), (column, images.shape[3])):
        first = (share * n).long() - side // 2
        place = torch.arange(n, device=images.device)
        inside.append((place >= first[:, None]) & (place < first[:, None] + side))
    return (inside[0][:, :, None] & inside[1][:, None, :])[:, None]


def batches(
    split: Split,
    plan: EpochPlan,
    batch_size: int,
    start: int = 0,
    part: Callable[[int], slice] | None = None,
    extra: Extra | None = None,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """The augmented batches of an epoch, on the device of the split.

    With additional images an epoch has as many steps as without; each then takes fewer images of the split, from the
    beginning of the epoch's order.

    Args:
        plan: from `plan_epoch`, for as many samples as the split has.
        batch_size: samples a batch; the last batch holds what is left.
        start: number of the first batch to give, to continue an epoch.
        part: which samples of a batch of that size to give; None: all.
        extra: additional images.

    Yields:
        images: uint8, shape (B, C, H, W).
        labels: int64, shape (B,).
        indices: int64, shape (B,), of the samples in the split; -1 of additional ones.

    Raises:
        ValueError: the plan is for another number of samples.
    """
    if len(plan.order) != len(split):
        raise ValueError(f"the plan is for {len(plan.order)} samples, the split has {len(split)}")
    device = split.images.device
    order, chance = plan.order.to(device), plan.chance.to(device)
    for step in range(start, math.ceil(len(split) / batch_size)):
        first = step * batch_size
        whole = min(batch_size, len(split) - first)
        own = slice(first, first + whole)
        if extra is not None:
            first = step * (batch_size - extra.of(batch_size))
            own = slice(first, first + whole - extra.of(whole))
        elif part is not None:
            mine = part(whole)
            own = slice(first + mine.start, first + mine.stop)
        indices = order[own]
        taken = _Taken(split.images[indices], split.labels[indices], indices, chance.take(indices, plan.order[own]))
        if extra is not None:
            taken = _mixed(taken, extra, plan, step, whole, part)
        yield augment(taken.images, taken.chance, plan.policy), taken.labels, taken.indices


class _Taken(NamedTuple):
    """Images of a batch, not augmented yet."""

    images: Tensor
    labels: Tensor
    indices: Tensor
    chance: Chance


def _mixed(
    own: _Taken, extra: Extra, plan: EpochPlan, step: int, whole: int, part: Callable[[int], slice] | None
) -> _Taken:
    """A batch of `whole` images in random order: those of the split, and additional ones, drawn with replacement."""
    device, added = own.images.device, whole - len(own.labels)
    streams = _streams(plan.seed, plan.epoch, step)
    more = torch.randint(len(extra.split), (added,), generator=next(streams))
    order = torch.randperm(whole, generator=next(streams))
    if part is not None:
        order = order[part(whole)]
    there = order.to(device)
    others = extra.split.take(more).to(device)
    chance = own.chance.and_then(_draw(added, plan.policy, streams).to(device))
    return _Taken(
        torch.cat([own.images, others.images])[there],
        torch.cat([own.labels, others.labels])[there],
        torch.cat([own.indices, own.indices.new_full((added,), -1)])[there],
        chance.take(there, order),
    )
