"""Random crops and mirror images of whole batches, on the device, on uint8.

The same distribution as torchvision's `RandomCrop(size, padding)` followed by `RandomHorizontalFlip(0.5)`,
drawn for a whole epoch at once: what happens to a sample depends on the seed, the epoch and its index, and on
nothing else, so a run gives the same images with any batch size, and half an epoch can be continued.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.data.dataset import Split


@dataclass(frozen=True, eq=False)
class EpochPlan:
    """The chance of one epoch over N samples; all on the CPU.

    Attributes:
        order: int64, shape (N,): the indices of the samples, in the order of the epoch.
        top, left: int64, shape (N,), by sample index: where the crop begins in the padded image, 0 to 2 * padding.
        flip: bool, shape (N,), by sample index: whether the crop is mirrored.
    """

    order: Tensor
    top: Tensor
    left: Tensor
    flip: Tensor


def plan_epoch(n: int, seed: int, epoch: int, padding: int, flip: bool) -> EpochPlan:
    """Draw the order, the crops (with `padding` pixels on each side) and the flips of an epoch over n samples.

    Each of the four has a random stream of its own: turning flips off, say, changes no crop.
    """
    order, top, left, mirror = (_generator(stream) for stream in np.random.SeedSequence((seed, epoch)).spawn(4))
    return EpochPlan(
        order=torch.randperm(n, generator=order),
        top=torch.randint(2 * padding + 1, (n,), generator=top),
        left=torch.randint(2 * padding + 1, (n,), generator=left),
        flip=torch.randint(2, (n,), generator=mirror).bool() if flip else torch.zeros(n, dtype=torch.bool),
    )


def _generator(stream: np.random.SeedSequence) -> torch.Generator:
    return torch.Generator().manual_seed(int(stream.generate_state(1, np.uint64)[0]))


def augment(images: Tensor, top: Tensor, left: Tensor, flip: Tensor, padding: int) -> Tensor:
    """Crop and mirror each image of a batch in its own way.

    Args:
        images: uint8, shape (B, C, H, W).
        top, left: int64, shape (B,), 0 to 2 * padding.
        flip: bool, shape (B,).
        padding: pixels of black padding on each side.

    Returns:
        uint8, shape (B, C, H, W), a new tensor on the same device.
    """
    b, c, h, w = images.shape
    x = torch.arange(w, device=images.device)
    rows = top[:, None] + torch.arange(h, device=images.device)
    columns = left[:, None] + torch.where(flip[:, None], w - 1 - x, x)
    # One index into the flattened padded image serves all channels; gather is the fastest way on a CPU.
    source = (rows[:, :, None] * (w + 2 * padding) + columns[:, None, :]).reshape(b, 1, h * w)
    padded = F.pad(images, (padding, padding, padding, padding)).reshape(b, c, -1)
    return padded.gather(2, source.expand(b, c, h * w)).reshape(b, c, h, w)


def batches(
    split: Split,
    plan: EpochPlan,
    batch_size: int,
    padding: int,
    start: int = 0,
    part: Callable[[int], slice] | None = None,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """The augmented batches of an epoch, on the device of the split.

    Args:
        plan: from `plan_epoch`, with the same padding, for as many samples as the split has.
        batch_size: samples a batch; the last batch holds what is left.
        start: number of the first batch to give, to continue an epoch.
        part: which samples of a batch of that size to give; None: all.

    Yields:
        images: uint8, shape (B, C, H, W).
        labels: int64, shape (B,).
        indices: int64, shape (B,), of the samples in the split.

    Raises:
        ValueError: the plan is for another number of samples.
    """
    if len(plan.order) != len(split):
        raise ValueError(f"the plan is for {len(plan.order)} samples, the split has {len(split)}")
    device = split.images.device
    order, top, left, flip = (drawn.to(device) for drawn in (plan.order, plan.top, plan.left, plan.flip))
    for first in range(start * batch_size, len(split), batch_size):
        indices = order[first : first + batch_size]
        if part is not None:
            indices = indices[part(len(indices))]
        images = augment(split.images[indices], top[indices], left[indices], flip[indices], padding)
        yield images, split.labels[indices], indices
