"""CIARD's first step in NumPy, in both variants and with every setting."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np

from methods.ciard_released import ReleasedCIARD


def make(name: str, **settings: Any) -> ReleasedCIARD:
    return ReleasedCIARD(**{**ReleasedCIARD.variants[name], **settings})


def exponent(value: float) -> int:
    return -7 if value == 0 else math.floor(math.log10(abs(value)))


class Expected:
    """The first step in NumPy, term by term; it makes the student's forward passes x, attack, x*.

    The settings are the defense's, for those that are not as in the variant.
    """

    def __init__(
        self,
        case: Any,
        ref: SimpleNamespace,
        name: str,
        learns: bool = False,
        t_adv: float = 1.0,
        t_nat: float = 1.0,
        **settings: Any,
    ) -> None:
        self.case, self.ref, self.defense = case, ref, make(name, **settings)
        s, r, t = case.np_student, case.np_robust, case.np_clean
        clean = s(case.np_x, train=True)  # before the attack, which runs on the moved statistics
        on_student = self.defense.attack_on == "student"
        objective = ref.ce_gradient(s, case.np_y) if on_student else ref.disagreement_gradient(s, t)
        self.x_adv = ref.climb(case.np_x, case.np_x + 0.001 * case.np_noise, objective)
        self.target_nat = ref.softmax(t(case.np_x), t_nat)
        self.t_logits = t(self.x_adv)
        self.target_adv = ref.softmax(r(self.x_adv, train=self.defense.teacher_always_in_train_mode or learns), t_adv)
        self.J = self.t_logits.argmax(1) != case.np_y
        self.adv, self.nat, self.push = self.terms(clean, s(self.x_adv, train=True))
        self.weight = 0.0
        if self.push != 0:
            self.weight = 10.0 ** (min(exponent(self.adv), exponent(self.nat)) - exponent(self.push))

    def terms(self, clean: np.ndarray, adv: np.ndarray) -> tuple[float, float, float]:
        offset = self.defense.log_offset

        def kl(target: np.ndarray, logits: np.ndarray) -> float:
            """Over classes too: times a tenth of their number."""
            each = target * (np.log(target + offset) - self.ref.log_softmax(logits))
            return float(each.mean() * target.shape[1] / 10 if self.defense.reduction == "mean" else each.sum(1).mean())

        t = self.defense.push_temperature
        if not self.J.any():
            push = 0.0
        elif self.defense.push_form == "released":
            q = self.ref.softmax(self.t_logits[self.J])
            push = float((q * (np.log(q + offset) - self.ref.log_softmax(adv[self.J], t))).mean() * q.shape[1] / 10)
        else:
            log_s, log_t = self.ref.log_softmax(adv[self.J], t), self.ref.log_softmax(self.t_logits[self.J], t)
            push = float((np.exp(log_s) * (log_s - log_t)).sum(1).mean())
        return kl(self.target_adv, adv), kl(self.target_nat, clean), push

    def outer(self, s: Any) -> float:
        """The loss as a function of the student's weights; lambda is a constant to the gradient."""
        return self.total(*self.terms(s(self.case.np_x, train=True), s(self.x_adv, train=True)))

    def total(self, adv: float, nat: float, push: float) -> float:
        return self.defense.alpha * nat + self.defense.beta * adv - self.weight * push
