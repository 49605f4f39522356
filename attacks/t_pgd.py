"""T-PGD, PGD on the divergence that TRADES trains against (Zhang et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from attacks.loop import GradientAttack, Objective
from bench.attack import Model, Start


@dataclass(frozen=True, kw_only=True)
class TPGD(GradientAttack):
    """20 steps of 2/255 on KL(p(s(x)) || p(s(x'))), gaussian start; it does not look at the labels.

    DARD names the attack and gives no numbers: those of PGD-20 (inferred).
    """

    steps: int = 20
    start: Start = "gaussian"

    label = "T-PGD"
    source = "Zhang et al. 2019, arXiv:1901.08573"
    same_every_step = True

    def objective_for(self, model: Model, x: Tensor, y: Tensor) -> Objective:
        with torch.no_grad():
            clean = F.log_softmax(model(x), dim=1)

        def divergence(logits: Tensor, x_adv: Tensor, step: int) -> Tensor:
            return F.kl_div(F.log_softmax(logits, dim=1), clean, reduction="sum", log_target=True)

        return divergence
