"""Averages of a student over its training: exponential (after every step) or stochastic weight averaging (epochs)."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bench.compute.ranks import ranks
from bench.compute.speedups import bare
from bench.defense import Carried, move_towards
from bench.recipes.training import Average


class Averaged(Carried):
    """An average of a network, as a network.

    `ema` (mean teachers, Tarvainen and Valpola 2017): w_avg <- d * w_avg + (1 - d) * w after every step, buffers too.
    `swa` (Izmailov et al. 2018): w_avg <- w_avg + (w - w_avg) / (n + 1) at the end of an epoch, n being how many it has
    of them already; its batch statistics are those of no network and are estimated by `estimate`.

    Attributes:
        network: the average, frozen and in eval mode.
        count: of the networks in it.
    """

    carried = ("network", "count")

    def __init__(self, student: nn.Module, setting: Average, first: int = 1) -> None:
        """first: the epoch (from 1) of this run whose end is the first that `swa` takes in."""
        self.student, self.setting, self.first = student, setting, first
        self.network = copy.deepcopy(student).eval().requires_grad_(False)
        self.count = 0

    @property
    def bare(self) -> nn.Module:
        """The average as an architecture has it, to be kept."""
        return bare(self.network)

    @property
    def begun(self) -> bool:
        """Whether there is an average already."""
        return self.setting.kind == "ema" or self.count > 0

    def after_step(self) -> None:
        """A step is done."""
        if self.setting.decay is not None:
            move_towards(self.network, self.student, 1 - self.setting.decay)

    def after_epoch(self, epoch: int) -> None:
        """An epoch (from 1) is over."""
        if self.setting.kind == "swa" and epoch >= self.first:
            self.count += 1
            move_towards(self.network, self.student, 1 / self.count, buffers=False)

    @property
    def needs_statistics(self) -> bool:
        """Whether its batch statistics have to be estimated before it is used."""
        return self.setting.kind == "swa" and any(True for _ in self._norms())

    def _norms(self) -> Iterable[_BatchNorm]:
        return (each for each in self.network.modules() if isinstance(each, _BatchNorm) and each.track_running_stats)

    @torch.no_grad()
    def estimate(self, batches: Iterable[Tensor]) -> None:
        """Batch statistics anew: the mean of those of all batches, in train mode.

        Args:
            batches: the training images in [0, 1] once, augmented, each (B, C, H, W); of several processes each has its
                part of every batch.
        """
        momenta = [(norm, norm.momentum) for norm in self._norms()]
        for norm, _ in momenta:
            norm.reset_running_stats()
            norm.momentum = None  # a cumulative mean
        self.network.train()
        try:
            for x in batches:
                self.network(x)
        finally:
            self.network.eval()
            for norm, momentum in momenta:
                norm.momentum = momentum
        ranks().agree_on_statistics(self.network)
