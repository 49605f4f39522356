"""SCORE, self-consistent robust error (Pang et al. 2022), in TRADES' form with the squared error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from attacks.labels import one_hot
from bench.defense import Batch, Loss, Models, Variants, mode
from methods.adversarial import AdversarialDefense
from methods.losses import softened, squared_distance


@dataclass(kw_only=True)
class SCORE(AdversarialDefense):
    """mean(relu(d(p(s(x)), y) + beta * d(p(s(x*)), p(s(x))) - c)), d(a, b) = sum (a_c - b_c)^2.

    x*: PGD-10 on d(p(s(x')), p(s(x))), gaussian start. c = d(u, e_1) with u = (1 - g, g / (C - 1), ...): what a sample
    loses whose prediction gives away no more than g is no longer reduced.

    Attributes:
        beta: weight of the robust term.
        clip: g, the share of probability that may be missing at the label.
    """

    beta: float = 6.0
    clip: float = 0.3

    label = "SCORE"
    source = "Pang et al. 2022, arXiv:2202.10103"
    variants: ClassVar[Variants] = {"paper": {}, "official": {"start": "gaussian-clamped"}}

    def inner(self, batch: Batch, models: Models) -> Tensor:
        student = models.student
        with mode(student, training=False), torch.no_grad():
            target = softened(student(batch.x))

        def distance(logits: Tensor, x_adv: Tensor, step: int) -> Tensor:
            return squared_distance(softened(logits), target).sum()

        return self.craft(student, batch, distance)

    def outer(self, batch: Batch, models: Models, x_adv: Tensor) -> Loss:
        student = models.student
        adv = softened(student(x_adv))
        clean = softened(student(batch.x))
        classes = clean.shape[1]
        error = squared_distance(clean, one_hot(batch.y, classes, clean.dtype))
        change = squared_distance(adv, clean)
        total = F.relu(error + self.beta * change - self.bound(classes)).mean()
        return Loss(total, {"error_clean": error.mean(), "change_adv": change.mean()})

    def bound(self, classes: int) -> float:
        """c = g^2 + (C - 1) * (g / (C - 1))^2."""
        return self.clip**2 * classes / (classes - 1)
