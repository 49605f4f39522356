"""CIARD, cyclic iterative adversarial robustness distillation (Lu et al. 2025), as the paper states it.

What the authors' released code computes otherwise is `methods.ciard_released`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attacks.loop import Objective
from bench.defense import Batch, Loss, Models, Variants
from methods.adversarial import AdversarialDefense
from methods.balance import TemperatureBalance, decayed
from methods.losses import batch_kl, batch_kl_between, mean_entropy, mean_of_rows, softened


@dataclass(kw_only=True)
class CIARD(AdversarialDefense):
    """alpha * N + beta * A - lambda * P (Eq. 7), and a robust teacher that goes on learning (Eq. 8).

    N = KL(p(t(x); T_nat) || p(s(x))), A = KL(p(r(x*); T_adv) || p(s(x*))). P, the contrastive push loss, is the
    divergence between the student's and the clean teacher's predictions of those x* which the clean teacher gets
    wrong (Algorithm 1). x* maximises KL(p(s(x')) || p(t(x'))), gradient through both models (Eq. 6). After
    `freeze_epochs` the robust teacher minimises CE(r(x*), y) (iterative teacher training). What the paper leaves open
    is inferred (docs: fidelity).

    Attributes:
        push: whether there is a push loss; Table 7's ablation.
        push_temperature: T of the push loss.
        push_weight: lambda; negative: the rule of the released code, which scales the push term to the other terms'
            order of magnitude, in steps of ten.
        alpha: weight of N.
        beta: weight of A.
        temperature_rate: how far a teacher's temperature moves in a step (B-MTARD's rule).
        temperature_milestones: epochs after which that rate drops to a tenth.
        clean_temperatures: T_nat of the first and of the last epoch, linear in between, in place of B-MTARD's rule (the
            paper: "gradually sharpening", without numbers); empty: that rule.
        itt: iterative teacher training, whether the robust teacher learns at all; Table 7's ablation.
        freeze_epochs: how long it is frozen, of `horizon` epochs.
        teacher_lr: its learning rate.
        teacher_momentum: of its SGD.
        teacher_weight_decay: of its SGD.
    """

    push: bool = True
    push_temperature: float = 4.0
    push_weight: float = -1.0
    alpha: float = 0.5
    beta: float = 0.5
    temperature_rate: float = 0.001
    temperature_milestones: tuple[int, ...] = (215, 260, 285)
    clean_temperatures: tuple[float, ...] = ()
    itt: bool = True
    freeze_epochs: int = 50
    teacher_lr: float = 1e-5
    teacher_momentum: float = 0.9
    teacher_weight_decay: float = 2e-4

    label = "CIARD"
    source = "Lu et al. 2025, arXiv:2509.12633"
    roles = ("robust", "clean")
    variants: ClassVar[Variants] = {"paper": {}}
    carried: ClassVar[tuple[str, ...]] = ("temperatures", "robust_teacher", "teacher_optimizer")

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.clean_temperatures) not in (0, 2) or min(self.clean_temperatures, default=1.0) <= 0:
            raise ValueError("clean_temperatures must be two numbers above 0, the first and the last, or none")

    def begin(self, models: Models, epochs: int) -> None:
        super().begin(models, epochs)
        self.temperatures = TemperatureBalance(models.device)
        self.robust_teacher = models.robust.requires_grad_(self.itt)
        self.teacher_loss: Tensor | None = None
        self.teacher_optimizer = torch.optim.SGD(
            self.robust_teacher.parameters(),
            lr=self.teacher_lr,
            momentum=self.teacher_momentum,
            weight_decay=self.teacher_weight_decay,
        )

    def loss(self, batch: Batch, models: Models) -> Loss:
        clean_logits = models.student(batch.x)  # before the attack, which so sees the statistics that x has moved
        return self.outer(batch, models, self.inner(batch, models), clean_logits)

    def inner(self, batch: Batch, models: Models) -> tuple[Tensor, ...]:
        """x*, t(x), t(x*) and r(x*)."""
        clean = models.clean
        x_adv = self.craft(models.student, batch, self.objective(clean))
        with torch.no_grad():
            teacher_clean_logits, teacher_adv_logits = clean(batch.x), clean(x_adv)
        return x_adv, teacher_clean_logits, teacher_adv_logits, self.robust_logits(x_adv, batch)

    def outer(
        self, batch: Batch, models: Models, inner: tuple[Tensor, ...], clean_logits: Tensor | None = None
    ) -> Loss:
        """Eq. 7: alpha * N + beta * A - lambda * P; clean_logits: s(x), where they are known."""
        x_adv, teacher_clean_logits, teacher_adv_logits, robust_logits = inner
        if clean_logits is None:
            clean_logits = models.student(batch.x)
        adv_logits = models.student(x_adv)

        t_nat, t_adv = self.temperatures_of(batch)
        target_nat, target_adv = softened(teacher_clean_logits, t_nat), softened(robust_logits, t_adv)
        nat = self.divergence(target_nat, clean_logits)
        adv = self.divergence(target_adv, adv_logits)
        alpha, beta = self.alpha_and_beta(nat, adv, batch)
        total = alpha * nat + beta * adv
        terms = {"kl_nat": nat, "kl_adv": adv, "t_nat": t_nat, "t_adv": t_adv}
        if self.push:
            wrong = teacher_adv_logits.argmax(1) != batch.y
            push = self.push_loss(adv_logits, teacher_adv_logits, wrong, batch)
            weight = self.push_weight_for(nat, adv, push, batch)
            total = total - weight * push
            terms |= {"push": push, "lambda": weight, "pushed_share": wrong.to(push.dtype).mean()}
        if self.teacher_loss is not None:
            terms["ce_teacher"] = self.teacher_loss
        self.balance(target_nat, target_adv, batch)
        return Loss(total, terms)

    def objective(self, clean: nn.Module) -> Objective | None:
        """Eq. 6, what x* maximises: KL(p(s(x')) || p(t(x'))), gradient through both models."""

        def disagreement(logits: Tensor, x_adv: Tensor, step: int) -> Tensor:
            return batch_kl_between(logits, clean(x_adv)) * len(logits)

        return disagreement

    def divergence(self, target: Tensor, logits: Tensor) -> Tensor:
        """N and A: how far the student is from a teacher's target; (B, classes) both."""
        return batch_kl(target, logits)

    def alpha_and_beta(self, nat: Tensor, adv: Tensor, batch: Batch) -> tuple[float | Tensor, float | Tensor]:
        """What N and A are multiplied by."""
        return self.alpha, self.beta

    def push_loss(self, adv_logits: Tensor, teacher_logits: Tensor, wrong: Tensor, batch: Batch) -> Tensor:
        """P (Algorithm 1): KL(p(s(x*); T) || p(t(x*); T)), averaged over J = {i: argmax t(x*_i) != y_i}.

        Args:
            adv_logits: s(x*), shape (B, classes).
            teacher_logits: t(x*), shape (B, classes).
            wrong: membership of J, shape (B,), bool.
        """
        log_student = F.log_softmax(adv_logits / self.push_temperature, dim=1)
        log_teacher = F.log_softmax(teacher_logits / self.push_temperature, dim=1)
        kl = (log_student.exp() * (log_student - log_teacher)).sum(1, keepdim=True)
        return mean_of_rows(kl, wrong, batch)

    def push_weight_for(self, nat: Tensor, adv: Tensor, push: Tensor, batch: Batch) -> Tensor:
        """lambda: `push_weight`, or 10^(min(mag A, mag N) - mag P); a scalar without graph."""
        if self.push_weight >= 0:
            return torch.full_like(push.detach(), self.push_weight)
        nat, adv, push = batch.mean(nat), batch.mean(adv), batch.mean(push)
        exponent = torch.minimum(magnitude(adv), magnitude(nat)) - magnitude(push)
        # P = 0 has no direction to push in; the product with any weight counts as 0.
        return torch.where(push == 0, torch.zeros_like(exponent), 10.0**exponent)

    def temperatures_of(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """T_nat and T_adv of this step; where a schedule is set, T_nat is that of the epoch."""
        if self.clean_temperatures:
            first, last = self.clean_temperatures
            scheduled = first + (last - first) * (batch.epoch - 1) / max(self._epochs - 1, 1)
            self.temperatures.nat = torch.full_like(self.temperatures.nat, scheduled)
        return self.temperatures.nat, self.temperatures.adv

    def balance(self, target_nat: Tensor, target_adv: Tensor, batch: Batch) -> None:
        """T_nat for the next step, by B-MTARD's rule; T_adv is fixed."""
        h_adv, h_nat = batch.mean(mean_entropy(target_adv)), batch.mean(mean_entropy(target_nat))
        self.temperatures.update(h_adv, h_nat, self.rate(self.temperature_rate, batch.epoch), move_adv=False)

    def rate(self, rate: float, epoch: int) -> float:
        """A rate in an epoch (from 1) of this run: it drops after each of the milestones."""
        return decayed(rate, epoch, map(self.epoch_of, self.temperature_milestones))

    def teacher_learns(self, epoch: int) -> bool:
        """Whether the robust teacher is trained in this epoch (from 1)."""
        return self.itt and epoch > self.epoch_of(self.freeze_epochs)

    def teacher_in_train_mode(self, epoch: int) -> bool:
        """Whether the robust teacher's batch normalisation is by the batch in this epoch."""
        return self.teacher_learns(epoch)

    def phases(self) -> dict[str, int]:
        return {"frozen": 1, "learning": self.epoch_of(self.freeze_epochs) + 1} if self.itt else super().phases()

    def robust_logits(self, x_adv: Tensor, batch: Batch) -> Tensor:
        """r(x*) for the student's target; once r learns, the same forward pass gives its own loss, CE(r(x*), y)."""
        learns = self.teacher_learns(batch.epoch)
        self.robust_teacher.train(self.teacher_in_train_mode(batch.epoch))
        with torch.set_grad_enabled(learns):
            logits: Tensor = self.robust_teacher(x_adv)
            self.teacher_loss = F.cross_entropy(logits, batch.y) if learns else None
        return logits.detach()

    def after_step(self, batch: Batch, models: Models) -> None:
        """Eq. 8: after the student's step, one of the robust teacher on CE(r(x*), y)."""
        if self.robust_teacher.training:
            batch.agree_on_statistics(self.robust_teacher)
        if self.teacher_loss is not None:
            batch.minimise(self.teacher_loss, self.robust_teacher, self.teacher_optimizer)
            self.teacher_loss = None


def magnitude(value: Tensor) -> Tensor:
    """floor(log10 |v|), the decimal order of magnitude; 0 counts as 1e-7. A scalar without graph."""
    absolute = value.detach().abs()
    return torch.where(absolute == 0, torch.full_like(absolute, -7.0), torch.floor(torch.log10(absolute)))
