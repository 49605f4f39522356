"""What all defenses share that train on adversarial images: the inner maximisation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from attacks.loop import GradientAttack, Objective
from attacks.pgd import PGD
from bench.attack import Start
from bench.defense import Batch, Defense, attacked, mode
from bench.threat import NORM_TEXT, NORMS
from bench.vocabulary import Norm
from methods.losses import batch_kl, batch_kl_between, softened


@dataclass(kw_only=True)
class AdversarialDefense(Defense):
    """A defense with an inner PGD.

    Attributes:
        eps: radius of the ball, for images in [0, 1].
        step_size: length of an attack step.
        steps: attack iterations.
        start: where the attack starts; `gaussian` is x + 0.001 * N(0, 1).
        attack_in_train_mode: whether the attacked model keeps batch statistics (which then move) during the attack.
        norm: of the ball; the run's threat sets it.
    """

    eps: float = 8 / 255
    step_size: float = 2 / 255
    steps: int = 10
    start: Start = "gaussian"
    attack_in_train_mode: bool = False
    norm: Norm = "linf"

    lengths: ClassVar[tuple[str, ...]] = ("eps", "step_size")
    norms: ClassVar[tuple[Norm, ...]] = NORMS
    # L2 by Rice et al. 2020 (arXiv:2002.11569). For L1 nobody states ten steps: 12 is Maini et al. 2020's radius
    # (arXiv:1909.04068), and 2.5 eps / steps the rule of Madry et al. 2018, by which 10 steps can cross the ball.
    under: ClassVar[Mapping[Norm, Mapping[str, float]]] = {
        "l2": {"eps": 0.5, "step_size": 15 / 255},
        "l1": {"eps": 12.0, "step_size": 3.0},
    }

    def __post_init__(self) -> None:
        most = 1 if self.norm == "linf" else math.inf
        if not (0 < self.eps <= most and self.step_size > 0 and self.steps >= 1):
            raise ValueError("eps must lie in (0, 1], step_size above 0, and steps be 1 or more")
        attack = self.inner_attack()
        if attack.norm != self.norm or self.norm not in attack.norms:
            known = " and ".join(NORM_TEXT[norm] for norm in attack.norms)
            raise ValueError(f"its inner attack, {attack.label}, knows {known} alone, and not {NORM_TEXT[self.norm]}")

    def inner_attack(self) -> GradientAttack:
        """The attack that makes x*, in the norm of this; a defense with another one than PGD replaces this."""
        return PGD(norm=self.norm, eps=self.eps, step_size=self.step_size, steps=self.steps, start=self.start)

    def craft(self, model: nn.Module, batch: Batch, objective: Objective | None = None) -> Tensor:
        """x* for a batch: PGD against `model`, on cross-entropy unless an objective is given.

        Returns:
            Images in [0, 1], shape (B, C, H, W), without graph. The model is back in its own mode.
        """
        attack = self.inner_attack()
        with mode(model, training=self.attack_in_train_mode):
            return attack(attacked(model), batch.x, batch.y, noise=self.start_noise(attack, batch), objective=objective)

    def craft_from_clean(self, model: nn.Module, batch: Batch) -> Tensor:
        """x* that maximises KL(p(model(x)) || p(model(x'))), as TRADES has it; the target is that of eval mode."""
        with mode(model, training=False), torch.no_grad():
            target = softened(model(batch.x))
        return self.craft(model, batch, kl_from(target))

    def start_noise(self, attack: GradientAttack, batch: Batch) -> Tensor | None:
        """The attack's start noise for this part of the batch: the same for a sample however the batch is divided."""
        if batch.noise is not None:
            return batch.noise
        shape = (batch.whole or len(batch.x), *batch.x.shape[1:])
        noise = attack.start_noise(shape, batch.x, batch.generator)
        return None if noise is None else noise[batch.first : batch.first + len(batch.x)]


def kl_from(target: Tensor) -> Objective:
    """KL(target || p(s(x'))), summed over the batch, for an attack to maximise; target: (B, classes)."""
    return lambda logits, x_adv, step: batch_kl(target, logits) * len(logits)


def kl_from_network(teacher: nn.Module) -> Objective:
    """KL(p(teacher(x')) || p(s(x'))), summed over the batch, for an attack to maximise; gradient through both."""
    return lambda logits, x_adv, step: batch_kl_between(teacher(x_adv), logits) * len(logits)
