"""Sums by class over an epoch: what Fair-ARD's weights and ABSLD's temperatures are made of."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from attacks.labels import one_hot
from bench.compute.ranks import ranks


class ClassSums:
    """Sum and number of a per-sample quantity by class, float64, on the device of what is added."""

    def __init__(self) -> None:
        self.sums: Tensor | None = None
        self.counts: Tensor | None = None

    def add(self, values: Tensor, y: Tensor, classes: int) -> None:
        """Add a batch.

        Args:
            values: shape (B,).
            y: labels, shape (B,), int64.
            classes: how many there are.
        """
        # A product with one-hot labels and not an indexed sum, whose order, hence rounding, is not fixed on a GPU.
        members = one_hot(y, classes, torch.float64)
        sums, counts = ranks().total(values.detach().double() @ members), ranks().total(members.sum(0))
        if self.sums is not None and self.counts is not None:
            sums, counts = self.sums.to(sums.device) + sums, self.counts.to(counts.device) + counts
        self.sums, self.counts = sums, counts

    def clear(self) -> None:
        """Begin a new epoch."""
        self.sums = self.counts = None

    def state_dict(self) -> dict[str, Any]:
        return {"sums": self.sums, "counts": self.counts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sums, self.counts = state["sums"], state["counts"]


def by_label(values: Tensor | None, y: Tensor, dtype: torch.dtype) -> Tensor:
    """A class's value for each sample, shape (B,); 1 where there are no values yet."""
    return torch.ones(len(y), device=y.device, dtype=dtype) if values is None else values.to(y.device, dtype)[y]
