"""Adversarial weight perturbation (Wu et al. 2020, NeurIPS): steps are made where nearby weights are worst.

With the adversarial images fixed, each weight tensor w of more than one dimension moves along the gradient g of the
outer loss by v = gamma * ||w|| * g / ||g||; the step is made there, and v is taken off again.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from bench.defense import Batch, Defense, Models
from bench.errors import BenchError
from bench.recipes.schedule import first_epoch
from bench.recipes.training import WeightPerturbation

_TINY = 1e-20


class Perturbation:
    """Moves the weights of a run's student.

    Attributes:
        begins: the epoch (from 1) of this run that is the first with it.
    """

    def __init__(
        self, setting: WeightPerturbation, defense: Defense, models: Models, epochs: int, horizon: int
    ) -> None:
        """A `BenchError` where the defense's loss has no two halves to move the weights between."""
        check_split(type(defense))
        self.gamma, self.begins = setting.gamma, first_epoch(setting.from_epoch, epochs, horizon)
        named = models.student.named_parameters()
        self.weights = [weight for name, weight in named if weight.ndim > 1 and "weight" in name]

    @contextmanager
    def applied(self, defense: Defense, batch: Batch, models: Models, inner: Any) -> Iterator[None]:
        """The weights where this batch's outer loss is worst, inside the block.

        The passes that find out where leave no trace: neither in statistics nor in the defense's state.
        """
        shifts = self._shifts(defense, batch, models, inner)
        self._move(shifts, 1)
        try:
            yield
        finally:
            self._move(shifts, -1)

    @torch.no_grad()
    def _move(self, shifts: list[Tensor], sign: int) -> None:
        for weight, shift in zip(self.weights, shifts, strict=True):
            weight.add_(shift, alpha=sign)

    def _shifts(self, defense: Defense, batch: Batch, models: Models, inner: Any) -> list[Tensor]:
        """v of each weight."""
        with _untouched_statistics(models):
            loss = _rehearsal(defense).outer(batch, models, inner)
            directions = batch.gradients(loss.total, self.weights)
        return [
            self.gamma * weight.detach().norm() * direction / (direction.norm() + _TINY)
            for weight, direction in zip(self.weights, directions, strict=True)
        ]


def check_split(method: type[Defense]) -> None:
    """A `BenchError` where weights cannot be moved between the two halves of a defense's loss."""
    if not method.is_split():
        raise BenchError(
            f"Adversarial weight perturbation (training.awp) needs the two halves of a loss, and {method.label} has it "
            "in one piece.\nTrain without it, or have its author define `inner` and `outer` in place of `loss`."
        )


@contextmanager
def _untouched_statistics(models: Models) -> Iterator[None]:
    """Inside the block all networks in train mode have copies of their buffers in place of these."""
    networks: list[nn.Module] = [models.student, *models.teachers.values(), *models.companions.values()]
    modules = [module for network in networks if network.training for module in network.modules()]
    own = [(module, dict(module._buffers)) for module in modules if module._buffers]
    for module, buffers in own:
        # In place of writing them back: they may be part of a graph that is yet to be used.
        module._buffers.update({name: None if each is None else each.clone() for name, each in buffers.items()})
    try:
        yield
    finally:
        for module, buffers in own:
            module._buffers.update(buffers)


def _rehearsal(defense: Defense) -> Defense:
    """The defense with a copy of its state; networks and their optimizers, which `outer` leaves alone, are its own."""
    rehearsing = copy.copy(defense)
    for name in defense.carried:
        value = getattr(defense, name)
        if not isinstance(value, (nn.Module, torch.optim.Optimizer)):
            setattr(rehearsing, name, copy.deepcopy(value))
    return rehearsing
