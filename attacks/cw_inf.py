"""CW-inf, the Carlini-Wagner margin in the L-infinity ball, or another (Carlini and Wagner 2017)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from attacks.labels import one_hot
from attacks.loop import GradientAttack
from attacks.norms import GEOMETRY
from bench.attack import Start


@dataclass(frozen=True, kw_only=True)
class CWInf(GradientAttack):
    """30 steps of 2/255 that maximise -sum(max(z_y - max_{j != y} z_j + confidence, 0)), from x itself.

    Attributes:
        confidence: the margin k at which a misclassified sample is left alone.
        clamp_each_step: whether every iterate is clamped to [0, 1] (paper), or only the last (official).
    """

    steps: int = 30
    start: Start = "none"
    confidence: float = 50.0
    clamp_each_step: bool = False

    label = "CW-inf"
    source = "Carlini and Wagner 2017, arXiv:1608.04644"
    same_every_step = True
    protocols: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "official": {"confidence": 50.0, "clamp_each_step": False},
        # The papers give no confidence; 0 is the margin loss itself (inferred).
        "paper": {"confidence": 0.0, "clamp_each_step": True},
    }

    def objective(self, logits: Tensor, y: Tensor, step: int) -> Tensor:
        is_label = one_hot(y, logits.shape[1], torch.bool)
        own = logits.gather(1, y[:, None]).squeeze(1)
        best_other = logits.masked_fill(is_label, -torch.inf).amax(1)
        return -torch.clamp(own - best_other + self.confidence, min=0).sum()

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        if self.clamp_each_step:
            return super().project(x_adv, x)
        return GEOMETRY[self.norm].project(x_adv, x, self.eps, False)

    def may_leave_range(self, step: int) -> bool:
        return super().may_leave_range(step) or (step > 0 and not self.clamp_each_step)

    def finish(self, x_adv: Tensor) -> Tensor:
        return x_adv.clamp(0, 1)
