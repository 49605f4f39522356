"""MART, misclassification aware adversarial training (Wang et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from attacks.labels import one_hot
from bench.defense import Batch, Loss, Models, Variants
from methods.adversarial import AdversarialDefense
from methods.losses import softened


@dataclass(kw_only=True)
class MART(AdversarialDefense):
    """mean(CE(s(x*), y) - log(1 - p_j(s(x*))) + beta * (1 - p_y(s(x))) * KL(p(s(x)) || p(s(x*)))).

    j is the likeliest class of s(x*) other than y. The gradient flows through everything, the weight 1 - p_y too. x*:
    PGD-10 on CE, gaussian start.

    Attributes:
        beta: weight of the KL.
        margin_offset: added to 1 - p_j; the released code's is 1e-4.
        doubt_offset: added to 1 - p_y; the released code's is 1e-7.
        log_offset: added to x*'s probabilities, and to 1 - p_j, inside their logarithms; the released code's is 1e-12.
    """

    beta: float = 5.0
    margin_offset: float = 0.0
    doubt_offset: float = 0.0
    log_offset: float = 0.0

    label = "MART"
    source = "Wang et al. 2020, ICLR"
    variants: ClassVar[Variants] = {
        "paper": {},
        "official": {
            "step_size": 0.007,
            "eps": 0.031,
            "margin_offset": 1e-4,
            "doubt_offset": 1e-7,
            "log_offset": 1e-12,
        },
    }

    def inner(self, batch: Batch, models: Models) -> Tensor:
        return self.craft(models.student, batch)

    def outer(self, batch: Batch, models: Models, x_adv: Tensor) -> Loss:
        student = models.student
        clean_logits = student(batch.x)
        adv_logits = student(x_adv)
        label = one_hot(batch.y, adv_logits.shape[1], adv_logits.dtype)
        ce = F.cross_entropy(adv_logits, batch.y)
        margin = -self.log_of_others(adv_logits, label).mean()
        log_clean, log_adv = F.log_softmax(clean_logits, dim=1), self.log_probabilities(adv_logits)
        kl = (log_clean.exp() * (log_clean - log_adv)).sum(1)
        doubt = 1 + self.doubt_offset - (log_clean.exp() * label).sum(1)
        doubted = (doubt * kl).mean()
        return Loss(ce + margin + self.beta * doubted, {"ce_adv": ce, "margin_adv": margin, "kl_doubted": doubted})

    def log_probabilities(self, logits: Tensor) -> Tensor:
        """log(p(z) + log_offset), shape (B, classes)."""
        return (softened(logits) + self.log_offset).log() if self.log_offset else F.log_softmax(logits, dim=1)

    def log_of_others(self, logits: Tensor, label: Tensor) -> Tensor:
        """log(1 - p_j + the offsets), shape (B,); label: one-hot y, as the logits (B, classes)."""
        rival = logits.masked_fill(label > 0, -torch.inf).argmax(1)
        chosen = one_hot(rival, logits.shape[1], logits.dtype)
        if self.margin_offset or self.log_offset:
            p_rival = (softened(logits) * chosen).sum(1)
            return (1 + self.margin_offset - p_rival + self.log_offset).log()
        # 1 - p_j would be 0 where it is only small.
        return F.log_softmax(logits, dim=1).masked_fill(chosen > 0, -torch.inf).logsumexp(1)
