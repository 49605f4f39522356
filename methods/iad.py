"""IAD, introspective adversarial distillation (Zhu et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F

from bench.attack import Start
from bench.defense import Batch, Loss, Models, Variants
from methods.adversarial import AdversarialDefense
from methods.losses import sample_kl, sample_kl_between, softened


@dataclass(kw_only=True)
class IAD(AdversarialDefense):
    """alpha * mean(a * T^2 * KL(p(r(x); T) || p(s(x*); T)) + (1 - a) * KL(p(s(x)) || p(s(x*)))) + (1 - alpha) * CE.

    a = p_y(r(x*))^trust_power of each sample: where the teacher does not know x*, the student learns from itself, and
    p(s(x)) is not detached. Before `introspection_begins` a = 1: the teacher alone. CE is of s(x). x*: PGD-10 on CE,
    uniform start.

    Attributes:
        alpha: weight of both divergences; CE has 1 - alpha.
        temperature: T.
        trust_power: the exponent of the teacher's probability of the label.
        introspection_begins: epoch, of 200, after which the student learns from itself too.
        weight_teacher: whether the teacher's term is weighted by a (the paper's is, the released code's is not).
        further_forwards: whether the student runs x* a second time, and x a second time once it learns from itself,
            as in the released code; nothing but batch-norm's running statistics feels it.
    """

    start: Start = "uniform"
    alpha: float = 1.0
    temperature: float = 1.0
    trust_power: float = 0.1
    introspection_begins: int = 60
    weight_teacher: bool = True
    further_forwards: bool = False

    label = "IAD"
    source = "Zhu et al. 2022, ICLR"
    roles = ("robust",)
    horizon = 200
    variants: ClassVar[Variants] = {
        "paper": {},
        "official": {
            "start": "uniform-unclamped",
            "attack_in_train_mode": True,
            "weight_teacher": False,
            "further_forwards": True,
        },
    }

    def introspects(self, epoch: int) -> bool:
        """Whether the student learns from itself too in this epoch (from 1)."""
        return epoch > self.epoch_of(self.introspection_begins)

    def phases(self) -> dict[str, int]:
        return {"teacher": 1, "introspection": self.epoch_of(self.introspection_begins) + 1}

    def inner(self, batch: Batch, models: Models) -> Any:
        """x*, the teacher's target, and a, shape (B,); None before introspection begins."""
        x_adv = self.craft(models.student, batch)
        with torch.no_grad():
            target = softened(models.robust(batch.x), self.temperature)
            if not self.introspects(batch.epoch):
                return x_adv, target, None
            known = softened(models.robust(x_adv)).gather(1, batch.y[:, None]).squeeze(1)
        return x_adv, target, known**self.trust_power

    def outer(self, batch: Batch, models: Models, inner: Any) -> Loss:
        x_adv, target, trust = inner
        student = models.student
        adv_logits = student(x_adv)
        if self.further_forwards:
            with torch.no_grad():
                student(x_adv)
        taught = self.temperature**2 * sample_kl(target, adv_logits, self.temperature)
        if self.weight_teacher and trust is not None:
            taught = trust * taught
        kl, terms = taught.mean(), {"kl_teacher": taught.mean()}
        clean_logits = None
        if trust is not None:
            clean_logits = student(batch.x)
            own = ((1 - trust) * sample_kl_between(clean_logits, adv_logits)).mean()
            kl, terms = kl + own, terms | {"kl_own": own, "trust": trust.mean()}
        total = self.alpha * kl
        if clean_logits is None or self.further_forwards:
            # With alpha = 1 it adds no gradient, but batch-norm's running statistics see x through it.
            with torch.set_grad_enabled(self.alpha < 1):
                clean_logits = student(batch.x)
        if self.alpha < 1:
            ce = F.cross_entropy(clean_logits, batch.y)
            total, terms = total + (1 - self.alpha) * ce, terms | {"ce_clean": ce}
        return Loss(total, terms)
