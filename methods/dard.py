"""DARD, Dice adversarial robustness distillation (Zou et al. 2025)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from attacks.dpgd import DPGD
from attacks.loop import GradientAttack, Objective
from attacks.pgd import PGD
from bench.attack import Start
from bench.defense import Batch, Loss, Models, Variants, mode
from methods.adversarial import AdversarialDefense
from methods.losses import batch_kl, softened


@dataclass(kw_only=True)
class DARD(AdversarialDefense):
    """Distillation on DPGD's adversarial images from a mixture of what the teacher says of x and of x*.

    `mixed` (the paper): (1 - alpha) * CE(s(x*), y) + alpha * T^2 * batchKL(q || p(s(x*); T)) with
    q = mix * p(r(x)) + (1 - mix) * p(r(x*)).

    `branches` (public code of the method's name): the mean of that loss over two branches, (x, r(x)) and
    (x*, r(x*_r)), x*_r being DPGD against the teacher; the teacher's *probabilities* are softened:
    q = softmax(p(r) / T).

    Attributes:
        attack: what makes x*; `pgd` is on cross-entropy (`PGDARD`).
        form: which of the two.
        mix: weight of the clean image in the teacher's mixture (`mixed` alone).
        alpha: weight of the distillation term (from public code).
        temperature: T: 3 on CIFAR-10, 1 on CIFAR-100 (from public code).
    """

    start: Start = "none"
    attack: Literal["dpgd", "pgd"] = "dpgd"
    form: Literal["mixed", "branches"] = "mixed"
    mix: float = 0.5
    alpha: float = 0.7
    temperature: float = 3.0

    label = "DARD"
    source = "Zou et al. 2025, arXiv:2509.11525"
    roles = ("robust",)
    variants: ClassVar[Variants] = {"paper": {}, "released": {"form": "branches", "attack_in_train_mode": True}}

    def inner_attack(self) -> GradientAttack:
        kind = DPGD if self.attack == "dpgd" else PGD
        return kind(norm=self.norm, eps=self.eps, step_size=self.step_size, steps=self.steps, start=self.start)

    def objective(self, batch: Batch) -> Objective | None:
        """What x* maximises: DPGD's dice losses, ratios of sums over the whole batch; None for PGD's cross-entropy."""
        attack = self.inner_attack()
        if not isinstance(attack, DPGD):
            return None
        return lambda logits, x_adv, step: attack.objective(logits, batch.y, step, batch.total)

    def distil(self, logits: Tensor, target: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(1 - alpha) * CE + alpha * T^2 * batchKL(target || p(logits; T)), with its two parts."""
        ce = F.cross_entropy(logits, y)
        kl = self.temperature**2 * batch_kl(target, logits, self.temperature)
        return (1 - self.alpha) * ce + self.alpha * kl, ce, kl

    def inner(self, batch: Batch, models: Models) -> tuple[Tensor, ...]:
        """x* and the target, of the form `mixed`; of `branches` x* and the targets of both branches."""
        x_adv = self.craft(models.student, batch, self.objective(batch))
        if self.form == "branches":
            return (x_adv, *self._targets_of_branches(batch, models))
        with torch.no_grad():
            clean, adv = softened(models.robust(batch.x)), softened(models.robust(x_adv))
            return x_adv, self.mix * clean + (1 - self.mix) * adv

    def outer(self, batch: Batch, models: Models, inner: tuple[Tensor, ...]) -> Loss:
        x_adv, *targets = inner
        if self.form == "branches":
            return self._branches(batch, models, x_adv, *targets)
        (target,) = targets
        total, ce, kl = self.distil(models.student(x_adv), target, batch.y)
        return Loss(total, {"ce_adv": ce, "kl_adv": kl})

    def _targets_of_branches(self, batch: Batch, models: Models) -> tuple[Tensor, Tensor]:
        with mode(models.robust, training=False):
            attack = self.inner_attack()
            noise, objective = self.start_noise(attack, batch), self.objective(batch)
            x_adv_teacher = attack(models.robust, batch.x, batch.y, noise=noise, objective=objective)
        with torch.no_grad():
            target_clean = softened(softened(models.robust(batch.x)), self.temperature)
            target_adv = softened(softened(models.robust(x_adv_teacher)), self.temperature)
        return target_clean, target_adv

    def _branches(self, batch: Batch, models: Models, x_adv: Tensor, target_clean: Tensor, target_adv: Tensor) -> Loss:
        clean, ce_clean, kl_clean = self.distil(models.student(batch.x), target_clean, batch.y)
        adv, ce_adv, kl_adv = self.distil(models.student(x_adv), target_adv, batch.y)
        terms = {"ce_clean": ce_clean, "kl_clean": kl_clean, "ce_adv": ce_adv, "kl_adv": kl_adv}
        return Loss((clean + adv) / 2, terms)


@dataclass(kw_only=True)
class PGDARD(DARD):
    """DARD with PGD on cross-entropy in place of DPGD; the paper's ablation."""

    attack: Literal["dpgd", "pgd"] = "pgd"

    label = "PGDARD"
