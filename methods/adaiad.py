"""AdaIAD, introspective adversarial distillation on AdaAD's adversarial images (Huang et al. 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.defense import Batch, Loss, Models, Variants
from methods.adversarial import AdversarialDefense, kl_from_network
from methods.losses import sample_kl, sample_kl_between, softened


@dataclass(kw_only=True)
class AdaIAD(AdversarialDefense):
    """alpha * mean_i(K_i + (1 - a_i) * KL(p(s(x_i)) || p(s(x*_i)))) + (1 - alpha) * CE(s(x), y).

    K_i = T^2 * KL(p(r(x*_i); T) || p(s(x*_i); T)); a_i = p_y(r(x*_i))^trust_power is how far the teacher is trusted.
    The second term, the student's own clean prediction as the target, begins after epoch `introspection_begins`; its
    gradient flows through both predictions. x* as AdaAD's.

    Attributes:
        alpha: weight of both divergences; cross-entropy has 1 - alpha.
        temperature: T.
        trust_power: the exponent of the teacher's probability of the label.
        introspection_begins: epoch, of 200, after which the student's own predictions are a target too.
        weight_teacher: whether from then on K_i is multiplied by a_i, as the paper on IAD has it.
        repeat_clean_forward: whether s(x) is run once more for each term that reads it, after s(x*), as the released
            code does; the values are the same, batch-norm's running statistics see x again.
    """

    alpha: float = 1.0
    temperature: float = 30.0
    trust_power: float = 0.1
    introspection_begins: int = 60
    weight_teacher: bool = True
    repeat_clean_forward: bool = False

    label = "AdaIAD"
    source = "Huang et al. 2023, CVPR"
    roles = ("robust",)
    variants: ClassVar[Variants] = {
        "paper": {},
        "official": {"weight_teacher": False, "repeat_clean_forward": True},
        "wide": {
            "weight_teacher": False,
            "repeat_clean_forward": True,
            "eps": 16 / 255,
            "step_size": 4 / 255,
        },
    }
    horizon = 200

    def introspects(self, epoch: int) -> bool:
        """Whether the student's own clean predictions are a target in this epoch (from 1)."""
        return epoch > self.epoch_of(self.introspection_begins)

    def phases(self) -> dict[str, int]:
        return {"teacher": 1, "introspection": self.epoch_of(self.introspection_begins) + 1}

    def inner(self, batch: Batch, models: Models) -> tuple[Tensor, Tensor]:
        """x* and r(x*)."""
        x_adv = self.craft(models.student, batch, kl_from_network(models.robust))
        with torch.no_grad():
            return x_adv, models.robust(x_adv)

    def outer(self, batch: Batch, models: Models, inner: tuple[Tensor, Tensor]) -> Loss:
        x_adv, teacher_logits = inner
        introspects = self.introspects(batch.epoch)
        # Where no term reads it the clean forward adds no gradient, but batch-norm's running statistics see x.
        with torch.set_grad_enabled(introspects or self.alpha != 1):
            clean_logits = models.student(batch.x)
            ce = F.cross_entropy(clean_logits, batch.y)
        adv_logits = models.student(x_adv)
        if self.repeat_clean_forward:
            with torch.no_grad():
                for _ in range(2 if introspects else 1):
                    models.student(batch.x)
        target = softened(teacher_logits, self.temperature)
        kl = self.temperature**2 * sample_kl(target, adv_logits, self.temperature)
        terms = {"kl_adv": kl.mean(), "ce_clean": ce}
        if introspects:
            trust = softened(teacher_logits).gather(1, batch.y[:, None]).squeeze(1) ** self.trust_power
            own = (1 - trust) * sample_kl_between(clean_logits, adv_logits)
            terms |= {"kl_own": own.mean(), "trust": trust.mean()}
            kl = (trust * kl if self.weight_teacher else kl) + own
        return Loss(self.alpha * kl.mean() + (1 - self.alpha) * ce, terms)
