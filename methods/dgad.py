"""DGAD, dynamic guidance adversarial distillation (Park and Min 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from attacks.labels import one_hot
from bench.defense import Batch, Loss, Models, Variants
from methods.adversarial import AdversarialDefense, kl_from_network
from methods.losses import mean_of_rows, sample_kl, softened


@dataclass(kw_only=True)
class DGAD(AdversarialDefense):
    """n/B * C + (B-n)/B * D + beta * MSE(p(s(x*)), p(s(x))); n of a batch's B samples are M.

    M is what the teacher gets wrong without an attack. C is the mean of KL(p(r~(x)) || p(s(x))) over M, D that of
    KL(p(r~(x*)) || p(s(x*))) over the others: of M the student learns from clean images, of the others from x*. r~ is r
    with the logit of y and the largest one swapped, for x and for x* each. The squared error is averaged over samples
    and classes. x*: PGD-10 on KL(p(r(x')) || p(s(x'))), gradient through both networks, gaussian start.

    Attributes:
        beta: weight of the squared error.
        nominal_batch: what B is where n is divided by it, also of a batch with fewer samples: the released code divides
            by its batch size, 128; 0: the batch's own number.
        product: whether there is (n/B * C + (B-n)/B) / 2 * D in place of both terms, as by a misplaced parenthesis in
            the released code where the student is a MobileNet-V2.
    """

    beta: float = 1.0
    nominal_batch: int = 0
    product: bool = False

    label = "DGAD"
    source = "Park and Min 2024, ECCV"
    roles = ("robust",)
    variants: ClassVar[Variants] = {"paper": {}, "official": {"nominal_batch": 128}}

    def inner(self, batch: Batch, models: Models) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x*, the targets of x and of x*, (B, classes), and membership of M, (B,), bool."""
        robust = models.robust
        x_adv = self.craft(models.student, batch, kl_from_network(robust))
        with torch.no_grad():
            clean, adv = robust(batch.x), robust(x_adv)
        return x_adv, softened(corrected(clean, batch.y)), softened(corrected(adv, batch.y)), clean.argmax(1) != batch.y

    def outer(self, batch: Batch, models: Models, inner: tuple[Tensor, Tensor, Tensor, Tensor]) -> Loss:
        x_adv, target_clean, target_adv, wrong = inner
        clean_logits = models.student(batch.x)
        adv_logits = models.student(x_adv)
        kl_clean = mean_of_rows(sample_kl(target_clean, clean_logits)[:, None], wrong, batch)
        kl_adv = mean_of_rows(sample_kl(target_adv, adv_logits)[:, None], ~wrong, batch)
        pairing = F.mse_loss(softened(adv_logits), softened(clean_logits))
        share = batch.mean(wrong.to(kl_adv.dtype))
        size = batch.whole or len(batch.x)
        share = share * size / max(self.nominal_batch, size)
        if self.product:
            guided = 0.5 * _product(share * kl_clean + (1 - share), kl_adv, batch)
        else:
            guided = share * kl_clean + (1 - share) * kl_adv
        terms = {"kl_clean": kl_clean, "kl_adv": kl_adv, "mse_pair": pairing, "share_clean": share}
        return Loss(guided + self.beta * pairing, terms)


def corrected(logits: Tensor, y: Tensor) -> Tensor:
    """Logits (B, classes) with the one of the label and the largest one in each other's place."""
    classes = logits.shape[1]
    largest, best = logits.max(dim=1, keepdim=True)
    of_label = logits.gather(1, y[:, None])
    swapped = torch.where(one_hot(best.squeeze(1), classes, logits.dtype) > 0, of_label, logits)
    return torch.where(one_hot(y, classes, logits.dtype) > 0, largest, swapped)


def _product(first: Tensor, second: Tensor, batch: Batch) -> Tensor:
    """The product of two means over the whole batch, from those of the samples here: its value, and its gradient."""
    return batch.mean(first) * second + batch.mean(second) * (first - batch.mean(first))
