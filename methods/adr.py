"""ADR, annealing self-distillation rectification (Wu et al. 2024)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.attack import Start
from bench.defense import Batch, Companion, Loss, Models, move_towards
from methods.adversarial import AdversarialDefense
from methods.losses import softened

_TEACHER = "mean-teacher"


@dataclass(kw_only=True)
class ADR(AdversarialDefense):
    """CE(s(x*), q), the labels q rectified by m, the student's own moving average: m <- d m + (1 - d) s in each step.

    q = a p(m(x); tau) + (1 - a) onehot(y), a = clamp(lam - (max_c p_c(m(x); tau) - p_y(m(x); tau)), 0, 1). tau and lam
    go from their first to their last value by half a cosine, step by step. x*: PGD-10 on CE(s(x'), q), uniform start,
    the student in train mode.

    Attributes:
        decay: d, of the average, statistics included.
        temperatures: tau of the first and of the last step.
        interpolations: lam, likewise.
    """

    start: Start = "uniform"
    attack_in_train_mode: bool = True
    decay: float = 0.995
    temperatures: tuple[float, ...] = (2.5, 2.0)
    interpolations: tuple[float, ...] = (0.7, 0.95)

    label = "ADR"
    source = "Wu et al. 2024, ICLR, arXiv:2305.12118"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.decay <= 1:
            raise ValueError("decay must lie in [0, 1]")
        if len(self.temperatures) != 2 or min(self.temperatures) <= 0 or len(self.interpolations) != 2:
            raise ValueError("temperatures and interpolations must be two numbers, the temperatures above 0")

    def companions(self) -> dict[str, Companion]:
        return {_TEACHER: Companion(learns=False)}

    def inner(self, batch: Batch, models: Models) -> tuple[Tensor, Tensor]:
        """x* and q."""
        with torch.no_grad():
            logits = models.companions[_TEACHER](batch.x)
        target = self.rectified(logits, batch)

        def objective(logits: Tensor, x_adv: Tensor, step: int) -> Tensor:
            return F.cross_entropy(logits, target, reduction="sum")

        return self.craft(models.student, batch, objective), target

    def outer(self, batch: Batch, models: Models, inner: tuple[Tensor, Tensor]) -> Loss:
        x_adv, target = inner
        ce = F.cross_entropy(models.student(x_adv), target)
        return Loss(ce, {"ce_adv": ce, "label_share": target.gather(1, batch.y[:, None]).mean()})

    def rectified(self, logits: Tensor, batch: Batch) -> Tensor:
        """q of a batch, (B, classes), from the teacher's logits of x."""
        p = softened(logits, self.annealed(self.temperatures, batch))
        labels = batch.y[:, None]
        doubt = p.amax(1, keepdim=True) - p.gather(1, labels)
        a = (self.annealed(self.interpolations, batch) - doubt).clamp(0, 1)
        return (a * p).scatter_add(1, labels, 1 - a)

    def annealed(self, ends: tuple[float, ...], batch: Batch) -> float:
        """Of two numbers what is between them at this step of the run."""
        first, last = ends
        return last + 0.5 * (first - last) * (1 + math.cos(math.pi * self.passed(batch)))

    def after_step(self, batch: Batch, models: Models) -> None:
        move_towards(models.companions[_TEACHER], models.student, 1 - self.decay)
