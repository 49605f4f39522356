"""SAT, standard adversarial training (Madry et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.attack import Start
from bench.defense import Batch, Loss, Models, Variants, mode
from methods.adversarial import AdversarialDefense


@dataclass(kw_only=True)
class SAT(AdversarialDefense):
    """CE(s(x*), y); x*: PGD-10 on CE(s(x'), y) from a uniform start.

    Attributes:
        further_forwards: whether the student also runs x* at the attack's end and x after the step, as AWP's released
            code does; nothing but batch-norm's running statistics feels it.
    """

    start: Start = "uniform"
    further_forwards: bool = False

    label = "SAT"
    later = frozenset({"further_forwards"})
    source = "Madry et al. 2018, arXiv:1706.06083"
    variants: ClassVar[Variants] = {"paper": {}, "official": {"attack_in_train_mode": True}}

    def inner(self, batch: Batch, models: Models) -> Tensor:
        x_adv = self.craft(models.student, batch)
        if self.further_forwards:
            with mode(models.student, training=self.attack_in_train_mode), torch.no_grad():
                models.student(x_adv)
        return x_adv

    def outer(self, batch: Batch, models: Models, x_adv: Tensor) -> Loss:
        ce = F.cross_entropy(models.student(x_adv), batch.y)
        return Loss(ce, {"ce_adv": ce})

    def after_step(self, batch: Batch, models: Models) -> None:
        if self.further_forwards:
            with torch.no_grad():
                models.student(batch.x)
            batch.agree_on_statistics(models.student)
