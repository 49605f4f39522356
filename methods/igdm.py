"""IGDM, indirect gradient distillation (Lee et al. 2025): an addition to other defenses.

A central difference along d = x* - x stands for the input gradient: the student learns to differ between x + d and
x - d as the robust teacher does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from bench.defense import Batch, Defense, Loss, Models, Variants
from methods.adaad import AdaAD
from methods.ard import ARD
from methods.losses import batch_kl, softened
from methods.rslad import RSLAD
from methods.sat import SAT
from methods.trades import TRADES

Pass = Literal["base", "plus", "minus"]


@dataclass(kw_only=True)
class IGDM(Defense):
    """base + igdm_weight * (e / E) * batchKL(p(r(x + d) - r(x - d)) || p(s(x + d) - s(x - d))), d = x* - x.

    p of a difference of logits, e the epoch, E the epochs; x + d is x*, x - d is not clamped. In a class's list of
    bases it goes before the defense that it adds to.

    Attributes:
        igdm_weight: alpha in the paper.
        ramp_epochs: E; 0: the epochs of the run. The released code has 200 whatever the run's length.
    """

    igdm_weight: float = 1.0
    ramp_epochs: int = 0

    label = "IGDM"
    source = "Lee et al. 2025, ICLR, arXiv:2312.03286"
    roles = ("robust",)
    variants: ClassVar[Variants] = {"paper": {}, "official": {"ramp_epochs": 200}}
    passes: ClassVar[tuple[Pass, ...]] = ("base", "base", "minus")
    """The student's passes in train mode in their order: the base's own, and those on x + d and x - d."""

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[misc]  # the base defense's
        if self.ramp_epochs < 0:
            raise ValueError("ramp_epochs must be 0, for the epochs of the run, or above")

    def inner(self, batch: Batch, models: Models) -> Any:
        """What the base makes, and p(r(x + d) - r(x - d))."""
        base = super().inner(batch, models)
        with torch.no_grad():
            plus = self.teacher_on(x_adv_of(base), models, base)
            minus = models.robust(opposite(batch.x, x_adv_of(base)))
        return base, softened(plus - minus)

    def teacher_on(self, x_adv: Tensor, models: Models, base: Any) -> Tensor:
        """r(x*); a base that has it among what its `inner` makes replaces this."""
        logits: Tensor = models.robust(x_adv)
        return logits

    def outer(self, batch: Batch, models: Models, inner: Any) -> Loss:
        base, target = inner
        student = Interleaved(models.student, batch.x, x_adv_of(base), self.passes)
        total, terms = super().outer(batch, Models(student, models.teachers), base)
        kl = batch_kl(target, student.difference())
        ramp = batch.epoch / (self.ramp_epochs or self._epochs)
        return Loss(total + self.igdm_weight * ramp * kl, {**terms, "kl_igdm": kl})


class Interleaved(nn.Module):
    """The student as the base defense sees it: before, between and after the base's passes it makes the addition's."""

    def __init__(self, student: nn.Module, x: Tensor, x_adv: Tensor, passes: Sequence[Pass]) -> None:
        super().__init__()
        self.student, self.x, self.x_adv = student, x, x_adv
        self.passes = list(passes)
        self.adv_logits: Tensor | None = None
        self.minus_logits: Tensor | None = None

    def forward(self, images: Tensor) -> Tensor:
        self._make_own()
        if self.passes:
            self.passes.pop(0)
        logits: Tensor = self.student(images)
        if images is self.x_adv:
            self.adv_logits = logits
        return logits

    def difference(self) -> Tensor:
        """s(x + d) - s(x - d), (B, classes), once the base has made its passes."""
        self._make_own()
        assert self.adv_logits is not None
        assert self.minus_logits is not None
        return self.adv_logits - self.minus_logits

    def _make_own(self) -> None:
        """The addition's passes that come before the base's next one."""
        while self.passes and self.passes[0] != "base":
            if self.passes.pop(0) == "minus":
                self.minus_logits = self.student(opposite(self.x, self.x_adv))
                continue
            with torch.no_grad():  # x + d is x*, which the base runs with a gradient: batch-norm alone feels this pass
                self.student(self.x_adv)


def x_adv_of(base: Any) -> Tensor:
    """x* among what a defense's `inner` makes: all of it, or the first."""
    x_adv: Tensor = base if isinstance(base, Tensor) else base[0]
    return x_adv


def opposite(x: Tensor, x_adv: Tensor) -> Tensor:
    """x - d, d = x* - x; it may lie outside [0, 1]."""
    return x - (x_adv - x)


@dataclass(kw_only=True)
class SATWithIGDM(IGDM, SAT):
    """CE(s(x*), y) + igdm_weight * (e / E) * IGDM; x* as SAT's.

    IGDM = batchKL(p(r(x*) - r(x - d)) || p(s(x*) - s(x - d))), d = x* - x.
    """

    igdm_weight: float = 60.0

    label = "SAT+IGDM"
    passes = ("base", "minus")


@dataclass(kw_only=True)
class TRADESWithIGDM(IGDM, TRADES):
    """CE(s(x), y) + beta * batchKL(p(s(x)) || p(s(x*))) + igdm_weight * (e / E) * IGDM; x* as TRADES'.

    IGDM = batchKL(p(r(x*) - r(x - d)) || p(s(x*) - s(x - d))), d = x* - x.
    """

    igdm_weight: float = 20.0

    label = "TRADES+IGDM"


@dataclass(kw_only=True)
class ARDWithIGDM(IGDM, ARD):
    """alpha * T^2 * batchKL(p(r(x); T) || p(s(x*); T)) + (1 - alpha) * CE(s(x), y) + igdm_weight * (e / E) * IGDM.

    IGDM = batchKL(p(r(x*) - r(x - d)) || p(s(x*) - s(x - d))), d = x* - x. x*: PGD-10 on CE, uniform start, the student
    in eval mode. T = 1, and the base is averaged over the batch, not over classes too as ARD's own code has it.
    """

    igdm_weight: float = 5.0
    temperature: float = 1.0

    label = "ARD+IGDM"
    variants: ClassVar[Variants] = {"paper": {}, "official": {"ramp_epochs": 200, "step_size": 2 / 225}}

    def divergence(self, target: Tensor, adv_logits: Tensor) -> Tensor:
        return self.temperature**2 * batch_kl(target, adv_logits, self.temperature)


@dataclass(kw_only=True)
class RSLADWithIGDM(IGDM, RSLAD):
    """RSLAD's two terms + igdm_weight * (e / E) * IGDM; x* as RSLAD's.

    IGDM = batchKL(p(r(x*) - r(x - d)) || p(s(x*) - s(x - d))), d = x* - x.
    """

    igdm_weight: float = 0.9

    label = "RSLAD+IGDM"
    variants: ClassVar[Variants] = {"paper": {}, "official": {"ramp_epochs": 200, "log_offset": 1e-5}}
    passes = ("base", "plus", "base", "minus")


@dataclass(kw_only=True)
class AdaADWithIGDM(IGDM, AdaAD):
    """AdaAD's two terms, averaged over the batch, + igdm_weight * (e / E) * IGDM; x* as AdaAD's.

    IGDM = batchKL(p(r(x*) - r(x - d)) || p(s(x*) - s(x - d))), d = x* - x.
    """

    igdm_weight: float = 5.0

    label = "AdaAD+IGDM"
    passes = ("plus", "base", "minus", "base")

    def teacher_on(self, x_adv: Tensor, models: Models, base: Any) -> Tensor:
        logits: Tensor = base[1]
        return logits
