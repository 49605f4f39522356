"""CIARD with what the authors' released code computes otherwise than the paper; this is the registered `ciard`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from attacks.loop import Objective
from bench.defense import Batch, Models, Variants
from methods.balance import LossWeights
from methods.ciard import CIARD
from methods.losses import RELEASED_LOG_OFFSET, class_scale, mean_entropy, mean_kl, mean_of_rows, softened


@dataclass(kw_only=True)
class ReleasedCIARD(CIARD):
    """The released code computes some parts otherwise. Each has a switch of its own here; the defaults are the paper's.

    It also runs r on x at every step and uses nothing of it; that pass is left out.

    Attributes:
        attack_on: what x* maximises: `both` KL(p(s(x')) || p(t(x'))), gradient through both models (Eq. 6);
            `student` CE(s(x'), y).
        reduction: whether A and N are averaged over the `batch`, or over classes too (`mean`, times classes / 10).
        push_form: `algorithm1` batchKL over J of p(s(x*); T) from p(t(x*); T); `released` the mean over J's elements
            of q * (log q - log p(s(x*); T)), q = p(t(x*); 1), times classes / 10, which has no bound.
        weighting: whether alpha and beta are `fixed`, or MTARD's adaptive weights take their place (`mtard`), as in an
            earlier commit of the released code.
        weight_rate: learning rate of MTARD's weights; it drops as the temperatures' does.
        log_offset: see `mean_kl`; also in the push loss and in the entropies.
        temperature_decay: whether the rates drop after a milestone's `epoch`, or at every `step` of it (in effect the
            temperatures are then frozen from the first milestone on).
        balance_robust_temperature: whether T_adv moves too, or stays 1.
        teacher_lr_decay: whether the teacher's learning rate is multiplied by (0.5 + 0.5 cos(pi u)) exp(-0.01 u^2), u
            the share of the epochs after the freeze that have passed.
        teacher_always_in_train_mode: whether it is in train mode while frozen too, so that its batch-norm statistics
            drift; once it learns it always is.
    """

    attack_on: Literal["both", "student"] = "both"
    reduction: Literal["batch", "mean"] = "batch"
    push_form: Literal["algorithm1", "released"] = "algorithm1"
    weighting: Literal["fixed", "mtard"] = "fixed"
    weight_rate: float = 0.025
    log_offset: float = 0.0
    temperature_decay: Literal["epoch", "step"] = "epoch"
    balance_robust_temperature: bool = False
    teacher_lr_decay: bool = False
    teacher_always_in_train_mode: bool = False

    variants: ClassVar[Variants] = {
        "paper": {},
        "official": {
            "attack_on": "student",
            "reduction": "mean",
            "push_form": "released",
            "push_temperature": 5.0,
            "balance_robust_temperature": True,
            "temperature_decay": "step",
            "log_offset": RELEASED_LOG_OFFSET,
            "alpha": 1.0,
            "beta": 1.0,
            "teacher_lr": 1e-4,
            "teacher_lr_decay": True,
            "teacher_momentum": 0.1,
            "teacher_always_in_train_mode": True,
        },
    }
    carried = (*CIARD.carried, "weights", "drop")

    def begin(self, models: Models, epochs: int) -> None:
        super().begin(models, epochs)
        self.weights = LossWeights(models.device)
        self.drop = 1.0  # what the rates have been multiplied by, where they drop at every step

    def objective(self, clean: nn.Module) -> Objective | None:
        return super().objective(clean) if self.attack_on == "both" else None

    def divergence(self, target: Tensor, logits: Tensor) -> Tensor:
        kl = mean_kl(target, logits, log_offset=self.log_offset)
        return kl * (logits.shape[1] if self.reduction == "batch" else class_scale(logits))

    def alpha_and_beta(self, nat: Tensor, adv: Tensor, batch: Batch) -> tuple[float | Tensor, float | Tensor]:
        if self.weighting == "fixed":
            return super().alpha_and_beta(nat, adv, batch)
        rate = self.rate(self.weight_rate, batch.epoch)
        w_adv, w_nat = self.weights.update(batch.mean(adv.double()), batch.mean(nat.double()), rate)
        return w_nat, w_adv

    def push_loss(self, adv_logits: Tensor, teacher_logits: Tensor, wrong: Tensor, batch: Batch) -> Tensor:
        if self.push_form == "algorithm1":
            return super().push_loss(adv_logits, teacher_logits, wrong, batch)
        q = softened(teacher_logits)
        log_q = (q + self.log_offset).log() if self.log_offset else F.log_softmax(teacher_logits, dim=1)
        divergence = q * (log_q - F.log_softmax(adv_logits / self.push_temperature, dim=1))
        return class_scale(q) * mean_of_rows(divergence, wrong, batch)

    def balance(self, target_nat: Tensor, target_adv: Tensor, batch: Batch) -> None:
        h_adv, h_nat = (batch.mean(mean_entropy(target, self.log_offset)) for target in (target_adv, target_nat))
        rate = self.rate(self.temperature_rate, batch.epoch)
        self.temperatures.update(h_adv, h_nat, rate, move_adv=self.balance_robust_temperature)
        if self.temperature_decay == "step" and batch.epoch in map(self.epoch_of, self.temperature_milestones):
            self.drop *= 0.1

    def rate(self, rate: float, epoch: int) -> float:
        return super().rate(rate, epoch) if self.temperature_decay == "epoch" else rate * self.drop

    def teacher_in_train_mode(self, epoch: int) -> bool:
        return self.teacher_always_in_train_mode or super().teacher_in_train_mode(epoch)

    def after_step(self, batch: Batch, models: Models) -> None:
        if self.teacher_lr_decay and self.teacher_learns(batch.epoch):
            freeze = self.epoch_of(self.freeze_epochs)
            u = (batch.epoch - freeze) / max(self._epochs - freeze, 1)
            for group in self.teacher_optimizer.param_groups:
                group["lr"] = self.teacher_lr * (0.5 + 0.5 * math.cos(math.pi * u)) * math.exp(-0.01 * u**2)
        super().after_step(batch, models)
