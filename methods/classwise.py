"""Sums by class over an epoch: what Fair-ARD's weights and ABSLD's temperatures are made of."""

from __future__ import annotations

import torch
from torch import Tensor

from attacks.labels import one_hot
from bench.defense import Batch, Carried


class ClassSums(Carried):
    """Sum and number of a per-sample quantity by class, float64, on the device of what is added."""

    carried = ("sums", "counts")

    def __init__(self) -> None:
        self.sums: Tensor | None = None
        self.counts: Tensor | None = None

    def add(self, values: Tensor, batch: Batch, classes: int) -> None:
        """Add a batch's values, shape (B,), of so many classes."""
        # A product with one-hot labels and not an indexed sum, whose order, hence rounding, is not fixed on a GPU.
        members = one_hot(batch.y, classes, torch.float64)
        sums, counts = batch.total(values.detach().double() @ members), batch.total(members.sum(0))
        if self.sums is not None and self.counts is not None:
            sums, counts = self.sums + sums, self.counts + counts
        self.sums, self.counts = sums, counts

    def clear(self) -> None:
        """Begin a new epoch."""
        self.sums = self.counts = None


def by_label(values: Tensor | None, y: Tensor, dtype: torch.dtype) -> Tensor:
    """A class's value for each sample, shape (B,); 1 where there are no values yet."""
    return torch.ones(len(y), device=y.device, dtype=dtype) if values is None else values.to(dtype)[y]
