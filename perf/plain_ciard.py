"""CIARD as a plain script trains it: float32, and the passes of the authors' released script in their order.

What the script does and the harness does not: the robust teacher looks at the clean batch as well, and nothing is made
of it; it keeps a graph of its pass on x* while it is frozen; the host waits for each loss to compute weights from it.
The objective is the released one, so both can be compared step by step. Written for this comparison from the script's
order of passes; the harness does not use it.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS, STEP_SIZE, STEPS = 8 / 255, 2 / 255, 10


class PlainCIARD:
    """One training step after the other, all state in Python's numbers.

    Attributes:
        student, robust, clean: in float32, on the CPU.
    """

    def __init__(self, student: nn.Module, robust: nn.Module, clean: nn.Module) -> None:
        self.student, self.robust, self.clean = student, robust.train(), clean.eval()
        self.optimizer = torch.optim.SGD(student.parameters(), lr=0.1, momentum=0.9, weight_decay=2e-4)
        self.teacher_optimizer = torch.optim.SGD(robust.parameters(), lr=1e-4, momentum=0.1, weight_decay=2e-4)
        self.t_adv = self.t_nat = 1.0

    def __call__(self, x: Tensor, y: Tensor, noise: Tensor, learns: bool = False) -> float:
        """Train on a batch; the loss before the step.

        Args:
            x: images in [0, 1], shape (B, 3, H, W). y: labels, shape (B,). noise: N(0, 1), shaped as x.
            learns: whether the robust teacher is trained too.
        """
        self.student.train()
        self.optimizer.zero_grad()
        self.teacher_optimizer.zero_grad()
        student_nat = self.student(x)
        with torch.no_grad():
            clean_nat = self.clean(x)
            self.robust(x)
        x_adv = self.attack(x, y, noise)
        self.student.train()
        student_adv, robust_adv, clean_adv = self.student(x_adv), self.robust(x_adv), self.clean(x_adv)

        loss = self.loss(student_nat, student_adv, clean_nat, clean_adv.detach(), robust_adv.detach(), y)
        loss.backward()
        self.optimizer.step()
        if learns:
            F.cross_entropy(robust_adv, y).backward()
            self.teacher_optimizer.step()
        return loss.item()

    def attack(self, x: Tensor, y: Tensor, noise: Tensor) -> Tensor:
        """PGD-10 on the student's cross-entropy, in eval mode."""
        self.student.eval()
        x_adv = x + 0.001 * noise
        for _ in range(STEPS):
            x_adv.requires_grad_()
            value = F.cross_entropy(self.student(x_adv), y)
            gradient = torch.autograd.grad(value, [x_adv])[0]
            x_adv = x_adv.detach() + STEP_SIZE * gradient.sign()
            x_adv = torch.min(torch.max(x_adv, x - EPS), x + EPS).clamp(0, 1)
        return x_adv

    def loss(
        self,
        student_nat: Tensor,
        student_adv: Tensor,
        clean_nat: Tensor,
        clean_adv: Tensor,
        robust_adv: Tensor,
        y: Tensor,
    ) -> Tensor:
        """Both distillation terms minus the push term at their order of magnitude; moves the temperatures."""
        target_adv = F.softmax(robust_adv / self.t_adv, dim=1)
        target_nat = F.softmax(clean_nat / self.t_nat, dim=1)
        adv, nat = mean_kl(target_adv, student_adv), mean_kl(target_nat, student_nat)
        surer = math.copysign(1, mean_entropy(target_adv) - mean_entropy(target_nat))
        self.t_adv = min(max(self.t_adv - 0.001 * surer, 1.0), 10.0)
        self.t_nat = min(max(self.t_nat + 0.001 * surer, 1.0), 10.0)
        total = adv + nat
        wrong = (clean_adv.argmax(1) != y).nonzero(as_tuple=True)[0]
        if len(wrong):
            push = mean_kl(F.softmax(clean_adv[wrong], dim=1), student_adv[wrong] / 5)
            exponent = min(magnitude(adv.item()), magnitude(nat.item())) - magnitude(push.item())
            total = total - 10.0**exponent * push
        return total


def mean_kl(target: Tensor, logits: Tensor) -> Tensor:
    """The divergence averaged over all elements."""
    return (target * (target.clamp_min(1e-30).log() - F.log_softmax(logits, dim=1))).mean()


def mean_entropy(target: Tensor) -> float:
    """Nats, averaged over all elements; two of them are compared."""
    return -(target * target.clamp_min(1e-30).log()).mean().item()


def magnitude(value: float) -> int:
    """The decimal order of magnitude."""
    return math.floor(math.log10(abs(value) or 1e-7))
