"""Means of the loss terms, of an epoch and since they were last logged; no step waits for the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from bench.compute.ranks import Ranks


class LossMeans:
    """Sums of the terms over the steps of this epoch, of which `read` makes numbers.

    Each process adds the terms of its part of the batch, which has a share in them; read are those of all processes.
    """

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self.forget()

    def forget(self) -> None:
        """A new epoch begins."""
        self._sums: dict[str, Tensor] = {}
        self._count = 0
        self._logged: dict[str, float] = {}  # the sums at the last logging step
        self._logged_count = 0

    def add(self, terms: Mapping[str, Tensor]) -> None:
        """The terms of one step, each a scalar."""
        for name, value in terms.items():
            value = value.double() * self._ranks.share
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._count += 1

    def read(self) -> dict[str, float]:
        """The sums over this epoch, by term; waits for the device."""
        totals = self._ranks.total(torch.stack(list(self._sums.values()))).tolist() if self._sums else []
        return dict(zip(self._sums, totals, strict=True))

    def of_epoch(self, read: Mapping[str, float]) -> dict[str, float]:
        """The means over the epoch, of what was read."""
        return {name: value / self._count for name, value in read.items()}

    def since_logged(self, read: dict[str, float]) -> dict[str, float]:
        """The means since the last call in this epoch, of what was read."""
        steps = self._count - self._logged_count
        means = {name: (value - self._logged.get(name, 0)) / steps for name, value in read.items()}
        self._logged, self._logged_count = read, self._count
        return means

    def state_dict(self) -> dict[str, Any]:
        """What a continued run needs of it; the sums are those of all processes."""
        return {
            "sums": {name: self._ranks.total(value) for name, value in self._sums.items()},
            "count": self._count,
            "logged": self._logged,
            "logged_count": self._logged_count,
        }

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """What all processes had summed up goes on in the first one's sums."""
        self._sums = {name: value.to(device) * self._ranks.first for name, value in state["sums"].items()}
        self._count, self._logged = state["count"], state["logged"]
        self._logged_count = state["logged_count"]
