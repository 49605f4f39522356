"""PeerAiD, adversarial distillation from a specialised peer tutor (Jung et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.defense import STUDENT, Batch, Companion, Loss, Models, Variants, mode
from methods.adversarial import AdversarialDefense, kl_from
from methods.losses import mean_kl_between, softened


@dataclass(kw_only=True)
class PeerAiD(AdversarialDefense):
    """A peer q from random weights learns to resist what is crafted against the student, and teaches it.

    Peer: gamma1 * CE(q(x*), y) + gamma2 * T_q^2 * meanKL(p(s(x*); T_q) || p(q(x*); T_q)). Student: lambda1 *
    CE(s(x*), y) + lambda2 * T^2 * meanKL(p(q(x*); T) || p(s(x*); T)) + lambda3 * T^2 * meanKL(p(s(x); T) ||
    p(s(x*); T)), without gradient to q, with gradient to s(x). x*: PGD-10 on KL(p(q(x)) || p(s(x'))), gaussian start,
    q in eval mode.

    Attributes:
        peer: the peer's architecture; `student`: the student's.
        temperature: T, of the student's loss.
        peer_temperature: T_q, of the peer's.
        gamma1: weight of the peer's cross-entropy.
        gamma2: weight of what the peer learns of the student.
        lambda1: weight of the student's cross-entropy.
        lambda2: weight of what the student learns of the peer.
        lambda3: weight of the student's own prediction of x.
        detach_student: whether the peer's loss gives no gradient to the student; in the released code it does.
        repeat_adv_forward: whether s(x*) is run a second time for the student's loss, as the released code does; the
            values are the same, batch-norm's running statistics see x* twice.
    """

    peer: str = STUDENT
    temperature: float = 5.0
    peer_temperature: float = 1.0
    gamma1: float = 1.0
    gamma2: float = 0.1
    lambda1: float = 0.0
    lambda2: float = 1.0
    lambda3: float = 1.0
    detach_student: bool = True
    repeat_adv_forward: bool = False

    label = "PeerAiD"
    source = "Jung et al. 2024, CVPR, arXiv:2403.06668"
    variants: ClassVar[Variants] = {
        "paper": {},
        "official": {"detach_student": False, "repeat_adv_forward": True},
    }

    def companions(self) -> dict[str, Companion]:
        return {"peer": Companion(self.peer)}

    def inner(self, batch: Batch, models: Models) -> Tensor:
        peer = models.companions["peer"]
        with mode(peer, training=False), torch.no_grad():
            target = softened(peer(batch.x))
        return self.craft(models.student, batch, kl_from(target))

    def outer(self, batch: Batch, models: Models, x_adv: Tensor) -> Loss:
        student = models.student
        peer_logits = models.companions["peer"](x_adv)
        seen_logits = student(x_adv)  # what the peer learns from
        adv_logits = student(x_adv) if self.repeat_adv_forward else seen_logits
        clean_logits = student(batch.x)
        if self.detach_student:
            seen_logits = seen_logits.detach()
        t, t_peer = self.temperature, self.peer_temperature
        ce_peer = F.cross_entropy(peer_logits, batch.y)
        kl_peer = t_peer**2 * mean_kl_between(seen_logits, peer_logits, t_peer)
        ce = F.cross_entropy(adv_logits, batch.y)
        kl_adv = t**2 * mean_kl_between(peer_logits.detach(), adv_logits, t)
        kl_own = t**2 * mean_kl_between(clean_logits, adv_logits, t)
        of_peer = self.gamma1 * ce_peer + self.gamma2 * kl_peer
        of_student = self.lambda1 * ce + self.lambda2 * kl_adv + self.lambda3 * kl_own
        terms = {"ce_peer": ce_peer, "kl_peer": kl_peer, "ce_adv": ce, "kl_adv": kl_adv, "kl_own": kl_own}
        return Loss(of_peer + of_student, terms)
