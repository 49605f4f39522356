"""SAAD, sample-wise adaptive adversarial distillation (Lee and Chung 2026)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.loop import Objective
from bench.attack import input_gradient
from bench.compute.parts import part
from bench.defense import Batch, Loss, Models
from methods.adversarial import AdversarialDefense
from methods.igdm import opposite
from methods.losses import batch_kl_between, sample_entropy, sample_kl, softened


@dataclass(kw_only=True)
class SAAD(AdversarialDefense):
    """mean_i( w_i * (D(x*_i) + igdm_weight * (e / E) * IGDM_i) + clean_weight * (1 - u_i) * D(x_i) ).

    D(z) = KL(p(r(z)) || p(s(z))); IGDM_i = KL(p(r(x*_i) - r(x_i - d_i)) || p(s(x*_i) - s(x_i - d_i))), d = x* - x, and
    x - d is not clamped; e the epoch, E the epochs. w_i = entropy_scale * (H_i - min H), H_i the entropy of p(r(x*_i));
    u_i is w_i scaled to [0, 1]. Minima and maxima are over the whole batch; no gradient flows through the weights.

    x*: PGD-10 on KL(p(c(x')) || p(s(x'))), gradient through both, gaussian start; c(x') is r(x) with
    inner_weight * <G, x' - x> added to its logit of y, G = grad_x r_y(x): the teacher is run once for the whole attack.

    Attributes:
        inner_weight: lambda, of the teacher's linear change in the attack.
        entropy_scale: of the weights w_i.
        igdm_weight: of IGDM_i; the paper's is 1 on CIFAR-10, 10 on CIFAR-100 and Tiny-ImageNet.
        clean_weight: of the clean term, which the released script leaves at 0.
    """

    inner_weight: float = 1.0
    entropy_scale: float = 5.0
    igdm_weight: float = 1.0
    clean_weight: float = 0.0

    label = "SAAD"
    source = "Lee and Chung 2026, TMLR, arXiv:2512.10275"
    roles = ("robust",)

    def inner(self, batch: Batch, models: Models) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x*, r(x*), r(x - d) and r(x)."""
        with part("attack"):
            clean_logits, gradient = self.linearised(batch, models)
        x_adv = self.craft(models.student, batch, self.objective(batch, clean_logits, gradient))
        with torch.no_grad():
            return x_adv, models.robust(x_adv), models.robust(opposite(batch.x, x_adv)), clean_logits

    def linearised(self, batch: Batch, models: Models) -> tuple[Tensor, Tensor]:
        """r(x), (B, classes), and G = grad_x r_y(x), shaped as x; both without graph."""
        with torch.enable_grad():
            x = batch.x.detach().clone().requires_grad_()
            logits = models.robust(x)
            gradient = input_gradient(logits.gather(1, batch.y[:, None]).sum(), x)
        return logits.detach().clone(), gradient

    def objective(self, batch: Batch, clean_logits: Tensor, gradient: Tensor) -> Objective:
        """KL(p(c(x')) || p(s(x'))), summed over the batch."""

        def divergence(logits: Tensor, x_adv: Tensor, step: int) -> Tensor:
            change = (gradient * (x_adv - batch.x)).flatten(1).sum(1, keepdim=True)
            of_label = torch.zeros_like(clean_logits).scatter(1, batch.y[:, None], change)
            return batch_kl_between(clean_logits + self.inner_weight * of_label, logits) * len(logits)

        return divergence

    def outer(self, batch: Batch, models: Models, inner: tuple[Tensor, Tensor, Tensor, Tensor]) -> Loss:
        x_adv, teacher_adv, teacher_minus, teacher_clean = inner
        adv_logits = models.student(x_adv)
        minus_logits = models.student(opposite(batch.x, x_adv))
        # Without a weight the clean forward adds no gradient, but batch-norm's running statistics see x through it.
        with torch.set_grad_enabled(self.clean_weight != 0):
            clean_logits = models.student(batch.x)
            kl_clean = sample_kl(softened(teacher_clean), clean_logits)
        target = softened(teacher_adv)
        weight, share = self.weights(target, batch)
        kl_adv = sample_kl(target, adv_logits)
        kl_igdm = sample_kl(softened(teacher_adv - teacher_minus), adv_logits - minus_logits)
        ramp = batch.epoch / self._epochs
        each = weight * (kl_adv + self.igdm_weight * ramp * kl_igdm) + self.clean_weight * (1 - share) * kl_clean
        terms = {"kl_adv": kl_adv, "kl_igdm": kl_igdm, "kl_clean": kl_clean, "weight": weight}
        return Loss(each.mean(), {name: value.mean() for name, value in terms.items()})

    def weights(self, target: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """w and u of each sample, both (B,); target: p(r(x*)), (B, classes)."""
        entropy = sample_entropy(target)
        least, most = batch.extremes(entropy)
        weight = self.entropy_scale * (entropy - least)
        largest = self.entropy_scale * (most - least)  # the least w is 0
        return weight, weight / (largest + 1e-8)
