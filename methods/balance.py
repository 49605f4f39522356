"""State that moves with training: MTARD's loss weights and B-MTARD's teacher temperatures.

Both are float64 scalars on the student's device from the start, so that a step never waits for it.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from bench.defense import Carried


def decayed(rate: float, epoch: int, milestones: Iterable[int]) -> float:
    """A rate that is multiplied by 0.1 after each milestone epoch (epochs count from 1)."""
    return rate * 0.1 ** sum(epoch > milestone for milestone in milestones)


class LossWeights(Carried):
    """MTARD's adaptive weights (Zhao et al. 2022, section 3.3): the loss that has fallen less weighs more."""

    carried = ("first_adv", "first_nat", "nat")

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.first_adv: Tensor | None = None
        self.first_nat: Tensor | None = None
        self.nat = torch.tensor(0.5, dtype=torch.float64, device=device)

    def update(self, adv: Tensor, nat: Tensor, rate: float) -> tuple[Tensor, Tensor]:
        """Move the weights by one step's losses, means over the whole batch, and return (w_adv, w_nat), which sum to 1.

        a = A / A_first, n = N / N_first; w_nat <- w_nat - rate * (w_nat - n / (a + n)).
        """
        adv, nat = adv.detach().double(), nat.detach().double()
        if self.first_adv is None or self.first_nat is None:
            self.first_adv, self.first_nat = adv, nat
        relative_adv, relative_nat = adv / self.first_adv, nat / self.first_nat
        self.nat = self.nat - rate * (self.nat - relative_nat / (relative_adv + relative_nat))
        return 1 - self.nat, self.nat


class TemperatureBalance(Carried):
    """B-MTARD's teacher temperatures (Zhao et al. 2024): they move until both teachers are equally sure."""

    LOW, HIGH = 1.0, 10.0
    carried = ("adv", "nat")

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.adv, self.nat = (torch.tensor(1.0, dtype=torch.float64, device=device) for _ in range(2))

    def update(self, entropy_adv: Tensor, entropy_nat: Tensor, rate: float, *, move_adv: bool = True) -> None:
        """T_adv <- T_adv - rate * sign(H_adv / H_nat - 1), T_nat likewise with the ratio turned over; in [1, 10].

        Where both entropies are 0 neither moves.

        Args:
            entropy_adv: mean entropy of the robust teacher's target in this step's whole batch, nats.
            entropy_nat: of the clean teacher's.
            rate: length of the step.
            move_adv: whether the robust teacher's temperature moves too.
        """
        if move_adv:
            self.adv = (self.adv - rate * _direction(entropy_adv, entropy_nat)).clamp(self.LOW, self.HIGH)
        self.nat = (self.nat - rate * _direction(entropy_nat, entropy_adv)).clamp(self.LOW, self.HIGH)


def _direction(entropy: Tensor, other: Tensor) -> Tensor:
    """sign(H / H_other - 1), and 0 for 0 / 0."""
    return torch.sign(torch.nan_to_num(entropy / other, nan=1.0) - 1)
