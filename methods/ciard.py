"""CIARD, cyclic iterative adversarial robustness distillation (Lu et al. 2025)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attacks.loop import Objective
from bench.compute.ranks import ranks
from bench.defense import Batch, Loss, Models
from methods.adversarial import AdversarialDefense
from methods.balance import LossWeights, TemperatureBalance, decayed
from methods.losses import batch_kl_between, mean_entropy, mean_kl, softened

_OFFICIAL = {
    "attack_on": "student",
    "reduction": "mean",
    "push_form": "released",
    "push_temperature": 5.0,
    "balance_robust_temperature": True,
    "temperature_decay": "step",
    "alpha": 1.0,
    "beta": 1.0,
    "teacher_lr": 1e-4,
    "teacher_lr_decay": True,
    "teacher_momentum": 0.1,
    "teacher_always_in_train_mode": True,
}


@dataclass(kw_only=True)
class CIARD(AdversarialDefense):
    """alpha * N + beta * A - lambda * P (Eq. 7), and a robust teacher that goes on learning (Eq. 8).

    N = KL(p(t(x); T_nat) || p(s(x))), A = KL(p(r(x*); T_adv) || p(s(x*))). P, the contrastive push loss, is the
    divergence between the student's and the clean teacher's predictions of those x* which the clean teacher gets
    wrong (`_push`, Algorithm 1). After `freeze_epochs` the robust teacher minimises CE(r(x*), y) (iterative teacher
    training). Defaults are the paper's variant; what it leaves open is inferred (docs: fidelity). The released code
    also runs r on x at every step and uses nothing of it; that pass is left out.

    Attributes:
        attack_on: what x* maximises: `both` KL(p(s(x')) || p(t(x'))), gradient through both models (Eq. 6);
            `student` CE(s(x'), y).
        reduction: whether A and N are averaged over the `batch`, or over classes too (`mean`).
        push: whether there is a push loss; Table 7's ablation.
        push_form: `algorithm1` batchKL over J of p(s(x*); T) from p(t(x*); T); `released` the mean over J's elements
            of q * (log q - log p(s(x*); T)), q = p(t(x*); 1), which has no bound.
        push_temperature: T of the push loss.
        push_weight: lambda; negative: the rule of the released code, which scales the push term to the other terms'
            order of magnitude, in steps of ten.
        alpha: weight of N.
        beta: weight of A.
        weighting: whether those are `fixed`, or MTARD's adaptive weights take their place (`mtard`), as in an earlier
            commit of the released code.
        weight_rate: learning rate of MTARD's weights; it drops as the temperatures' does.
        log_offset: see `mean_kl`; the released code's is 1e-5.
        temperature_rate: how far a teacher's temperature moves in a step (B-MTARD's rule).
        temperature_milestones: epochs at which that rate drops to a tenth: after the `epoch`, or at every `step` of it
            (`temperature_decay`; in effect the temperatures are then frozen from the first milestone on).
        balance_robust_temperature: whether T_adv moves too, or stays 1.
        clean_temperatures: T_nat of the first and of the last epoch, linear in between, in place of B-MTARD's rule (the
            paper: "gradually sharpening", without numbers); empty: that rule.
        itt: iterative teacher training, whether the robust teacher learns at all; Table 7's ablation.
        freeze_epochs: how long it is frozen, of `horizon` epochs.
        teacher_lr: its learning rate; with `teacher_lr_decay` times (0.5 + 0.5 cos(pi u)) exp(-0.01 u^2), u the share
            of the epochs after the freeze that have passed.
        teacher_momentum: of its SGD.
        teacher_weight_decay: of its SGD.
        teacher_always_in_train_mode: whether it is in train mode while frozen too, so that its batch-norm statistics
            drift; once it learns it always is.
    """

    attack_on: Literal["both", "student"] = "both"
    reduction: Literal["batch", "mean"] = "batch"
    push: bool = True
    push_form: Literal["algorithm1", "released"] = "algorithm1"
    push_temperature: float = 4.0
    push_weight: float = -1.0
    alpha: float = 0.5
    beta: float = 0.5
    weighting: Literal["fixed", "mtard"] = "fixed"
    weight_rate: float = 0.025
    log_offset: float = 0.0
    temperature_rate: float = 0.001
    temperature_milestones: tuple[int, ...] = (215, 260, 285)
    temperature_decay: Literal["epoch", "step"] = "epoch"
    balance_robust_temperature: bool = False
    clean_temperatures: tuple[float, ...] = ()
    itt: bool = True
    freeze_epochs: int = 50
    teacher_lr: float = 1e-5
    teacher_lr_decay: bool = False
    teacher_momentum: float = 0.9
    teacher_weight_decay: float = 2e-4
    teacher_always_in_train_mode: bool = False

    label: ClassVar[str] = "CIARD"
    source: ClassVar[str] = "Lu et al. 2025, arXiv:2509.12633"
    roles: ClassVar[tuple[str, ...]] = ("robust", "clean")
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {}, "official": _OFFICIAL}

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.clean_temperatures) not in (0, 2) or min(self.clean_temperatures, default=1.0) <= 0:
            raise ValueError("clean_temperatures must be two numbers above 0, the first and the last, or none")

    def begin(self, models: Models, epochs: int) -> None:
        super().begin(models, epochs)
        self.temperatures = TemperatureBalance()
        self.weights = LossWeights()
        self._drop = 1.0  # what the rates have been multiplied by, where they drop at every step
        self._robust = models.robust
        self._robust.requires_grad_(self.itt)
        self._teacher_loss: Tensor | None = None
        self.teacher_optimizer = torch.optim.SGD(
            self._robust.parameters(),
            lr=self.teacher_lr,
            momentum=self.teacher_momentum,
            weight_decay=self.teacher_weight_decay,
        )

    def phases(self) -> dict[str, int]:
        return {"frozen": 1, "learning": self.epoch_of(self.freeze_epochs) + 1} if self.itt else super().phases()

    def teacher_learns(self, epoch: int) -> bool:
        """Whether the robust teacher is trained in this epoch (from 1)."""
        return self.itt and epoch > self.epoch_of(self.freeze_epochs)

    def loss(self, batch: Batch, models: Models) -> Loss:
        student, clean = models.student, models.clean
        clean_logits = student(batch.x)
        x_adv = self.craft(student, batch, self._objective(clean))
        adv_logits = student(x_adv)
        with torch.no_grad():
            teacher_clean_logits, teacher_adv_logits = clean(batch.x), clean(x_adv)
        robust_logits = self._robust_logits(x_adv, batch)

        self.temperatures.to(adv_logits.device)
        if self.clean_temperatures:
            self.temperatures.nat = torch.full_like(self.temperatures.nat, self._scheduled_temperature(batch.epoch))
        target_nat = softened(teacher_clean_logits, self.temperatures.nat)
        target_adv = softened(robust_logits, self.temperatures.adv)
        nat = self._divergence(target_nat, clean_logits)
        adv = self._divergence(target_adv, adv_logits)
        alpha, beta = self._weights(adv, nat, batch.epoch)
        total = alpha * nat + beta * adv
        terms = {"kl_nat": nat, "kl_adv": adv, "t_nat": self.temperatures.nat, "t_adv": self.temperatures.adv}
        if self.push:
            wrong = teacher_adv_logits.argmax(1) != batch.y
            push = self._push(adv_logits, teacher_adv_logits, wrong)
            weight = self._lambda(adv, nat, push)
            total = total - weight * push
            terms |= {"push": push, "lambda": weight, "pushed_share": wrong.to(push.dtype).mean()}
        if self._teacher_loss is not None:
            terms["ce_teacher"] = self._teacher_loss
        self._balance(target_adv, target_nat, batch.epoch)
        return Loss(total, terms)

    def after_step(self, batch: Batch, models: Models) -> None:
        """Eq. 8: one step of the robust teacher on CE(r(x*), y)."""
        if self._robust.training:
            ranks().agree_on_statistics(self._robust)
        if self._teacher_loss is None:
            return
        for group in self.teacher_optimizer.param_groups:
            group["lr"] = self._teacher_lr(batch.epoch)
        self.teacher_optimizer.zero_grad()
        ranks().backward(self._teacher_loss, self._robust.parameters())
        self.teacher_optimizer.step()
        self._teacher_loss = None

    def state_dict(self) -> dict[str, Any]:
        return {
            "temperatures": self.temperatures.state_dict(),
            "weights": self.weights.state_dict(),
            "drop": self._drop,
            "robust_teacher": self._robust.state_dict(),
            "teacher_optimizer": self.teacher_optimizer.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.temperatures.load_state_dict(state["temperatures"])
        self.weights.load_state_dict(state["weights"])
        self._drop = state["drop"]
        self._robust.load_state_dict(state["robust_teacher"])
        self.teacher_optimizer.load_state_dict(state["teacher_optimizer"])

    def _objective(self, clean: nn.Module) -> Objective | None:
        """What x* maximises: Eq. 6, or None for the cross-entropy of the student."""
        if self.attack_on == "student":
            return None

        def disagreement(logits: Tensor, x_adv: Tensor, step: int) -> Tensor:
            return batch_kl_between(logits, clean(x_adv)) * len(logits)

        return disagreement

    def _robust_logits(self, x_adv: Tensor, batch: Batch) -> Tensor:
        """r(x*) for the student's target; once r learns, the same forward pass gives its own loss."""
        learns = self.teacher_learns(batch.epoch)
        self._robust.train(learns or self.teacher_always_in_train_mode)
        with torch.set_grad_enabled(learns):
            logits = self._robust(x_adv)
            self._teacher_loss = F.cross_entropy(logits, batch.y) if learns else None
        return logits.detach()

    def _push(self, adv_logits: Tensor, teacher_logits: Tensor, wrong: Tensor) -> Tensor:
        """P over J = {i: argmax t(x*_i) != y_i}; 0 where J is empty.

        Args:
            adv_logits: s(x*), shape (B, classes).
            teacher_logits: t(x*), shape (B, classes).
            wrong: membership of J, shape (B,), bool.
        """
        log_student = F.log_softmax(adv_logits / self.push_temperature, dim=1)
        if self.push_form == "algorithm1":
            log_teacher = F.log_softmax(teacher_logits / self.push_temperature, dim=1)
            elements, per_member = log_student.exp() * (log_student - log_teacher), 1
        else:
            target = softened(teacher_logits)
            log_target = (target + self.log_offset).log() if self.log_offset else F.log_softmax(teacher_logits, dim=1)
            elements, per_member = target * (log_target - log_student), target.shape[1]
        members = wrong.to(elements.dtype)
        # A mask and not an index: selecting J's rows would make the host wait for the device to learn |J|. A ratio of
        # means, the lower one over the whole batch, whichever part of it is here.
        share = ranks().across(members.mean())
        share = torch.where(share == 0, torch.ones_like(share), share)
        return (elements.sum(1) * members).mean() / (share * per_member)

    def _lambda(self, adv: Tensor, nat: Tensor, push: Tensor) -> Tensor:
        """lambda: `push_weight`, or 10^(min(mag A, mag N) - mag P); a scalar without graph."""
        if self.push_weight >= 0:
            return torch.full_like(push.detach(), self.push_weight)
        adv, nat, push = (ranks().across(term) for term in (adv, nat, push))
        exponent = torch.minimum(magnitude(adv), magnitude(nat)) - magnitude(push)
        # P = 0 has no direction to push in; the product with any weight counts as 0.
        return torch.where(push.detach() == 0, torch.zeros_like(exponent), 10.0**exponent)

    def _divergence(self, target: Tensor, logits: Tensor) -> Tensor:
        kl = mean_kl(target, logits, log_offset=self.log_offset)
        return kl * logits.shape[1] if self.reduction == "batch" else kl

    def _weights(self, adv: Tensor, nat: Tensor, epoch: int) -> tuple[float | Tensor, float | Tensor]:
        """What N and A are multiplied by."""
        if self.weighting == "fixed":
            return self.alpha, self.beta
        w_adv, w_nat = self.weights.update(adv, nat, self._rate(self.weight_rate, epoch))
        return w_nat, w_adv

    def _balance(self, target_adv: Tensor, target_nat: Tensor, epoch: int) -> None:
        """Move the temperatures for the next step; at a milestone, drop the rates after it."""
        self.temperatures.update(
            mean_entropy(target_adv, self.log_offset),
            mean_entropy(target_nat, self.log_offset),
            self._rate(self.temperature_rate, epoch),
            move_adv=self.balance_robust_temperature,
        )
        if self.temperature_decay == "step" and epoch in self._milestones():
            self._drop *= 0.1

    def _scheduled_temperature(self, epoch: int) -> float:
        """T_nat of an epoch (from 1) where a schedule is set."""
        first, last = self.clean_temperatures
        return first + (last - first) * (epoch - 1) / max(self._epochs - 1, 1)

    def _rate(self, rate: float, epoch: int) -> float:
        if self.temperature_decay == "step":
            return rate * self._drop
        return decayed(rate, epoch, self._milestones())

    def _milestones(self) -> list[int]:
        return [self.epoch_of(milestone) for milestone in self.temperature_milestones]

    def _teacher_lr(self, epoch: int) -> float:
        if not self.teacher_lr_decay:
            return self.teacher_lr
        freeze = self.epoch_of(self.freeze_epochs)
        share = (epoch - freeze) / max(self._epochs - freeze, 1)
        return self.teacher_lr * (0.5 + 0.5 * math.cos(math.pi * share)) * math.exp(-0.01 * share**2)


def magnitude(value: Tensor) -> Tensor:
    """floor(log10 |v|), the decimal order of magnitude; 0 counts as 1e-7. A scalar without graph."""
    absolute = value.detach().abs()
    return torch.where(absolute == 0, torch.full_like(absolute, -7.0), torch.floor(torch.log10(absolute)))
