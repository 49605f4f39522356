"""The defenses with two teachers once more, a script a method; see `reference.py`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .reference import SGD, Script, ce, entropy, kl, log_p
from .tape import Tensor


def magnitude(value: float) -> int:
    """The order of magnitude; 0 counts as 1e-7."""
    return math.floor(math.log10(abs(value) or 1e-7))


class MTARD(Script):
    official_offset = 1e-5

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.carried["w_nat"] = 0.5
        self.first: tuple[float, float] | None = None

    def loss(self, x: Tensor, y: np.ndarray, noise: Tensor, epoch: int) -> Tensor:
        adv = self.pgd(lambda z, i: ce(self.student(z), y).sum(), x, self.gaussian(x, noise))
        z_adv = self.student(adv)
        z_nat = self.student(x)
        target_adv = log_p(self.ask(self.robust, adv), self.carried.get("t_adv", 1.0))
        target_nat = log_p(self.ask(self.clean, x), self.carried.get("t_nat", 1.0))
        a = kl(target_adv, log_p(z_adv), self.offset).mean() / self.classes
        n = kl(target_nat, log_p(z_nat), self.offset).mean() / self.classes
        self.balance_temperatures(target_adv, target_nat, epoch)
        w_nat = self.balance_weights(a.item(), n.item(), epoch)
        return self.classes / 10 * ((1 - w_nat) * a + w_nat * n)

    def balance_weights(self, a: float, n: float, epoch: int) -> float:
        if self.first is None:
            self.first = (a, n)
        a, n = a / self.first[0], n / self.first[1]
        rate = 0.025 * 0.1 ** sum(epoch > drop for drop in (215, 260, 285))
        self.carried["w_nat"] -= rate * (self.carried["w_nat"] - n / (a + n))
        return self.carried["w_nat"]

    def balance_temperatures(self, target_adv: Tensor, target_nat: Tensor, epoch: int) -> None: ...


def balanced(t: float, rate: float, own: float, other: float) -> float:
    """B-MTARD's rule for the temperature of a teacher whose targets have the mean entropy `own`."""
    ratio = own / other - 1
    return min(max(t - rate * ((ratio > 0) - (ratio < 0)), 1.0), 10.0)


class BMTARD(MTARD):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.carried |= {"t_adv": 1.0, "t_nat": 1.0}

    def balance_temperatures(self, target_adv: Tensor, target_nat: Tensor, epoch: int) -> None:
        rate = 0.001 * 0.1 ** sum(epoch > drop for drop in (215, 260, 285))
        h_adv, h_nat = entropy(target_adv, self.offset), entropy(target_nat, self.offset)
        self.carried["t_adv"] = balanced(self.carried["t_adv"], rate, h_adv, h_nat)
        self.carried["t_nat"] = balanced(self.carried["t_nat"], rate, h_nat, h_adv)


class CIARD(Script):
    official_offset = 1e-5

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.carried |= {"t_adv": 1.0, "t_nat": 1.0}
        self.temperature_rate = 0.001
        assert self.robust is not None
        self.teacher_sgd = SGD(self.robust, 0.1 if self.official else 0.9, 2e-4)
        self.joined: list[int] = []

    def rate(self, epoch: int) -> float:
        if not self.official:
            return super().rate(epoch)
        if epoch <= 150:
            return 0.1
        u = (epoch - 150) / 150
        return 0.1 * (0.5 + 0.5 * math.cos(math.pi * u)) * math.exp(-0.01 * u**2)

    def teacher_rate(self, epoch: int) -> float:
        if not self.official:
            return 1e-5
        u = (epoch - 50) / 250
        return 1e-4 * (0.5 + 0.5 * math.cos(math.pi * u)) * math.exp(-0.01 * u**2)

    def loss(self, x: Tensor, y: np.ndarray, noise: Tensor, epoch: int) -> Tensor:
        z_nat = self.student(x)
        adv = self.pgd(lambda z, i: self.attacked(z, y), x, self.gaussian(x, noise))
        z_adv = self.student(adv)
        t_nat, t_adv = self.ask(self.clean, x), self.ask(self.clean, adv)
        # "Train mode for its own update" (inferred) is read as: from then on, and one forward pass serves both uses.
        assert self.robust is not None
        self.robust.train(self.official or epoch > 50)
        r_adv = self.robust(adv)
        target_nat = log_p(t_nat, self.carried["t_nat"])
        target_adv = log_p(r_adv.detach(), self.carried["t_adv"])
        n = kl(target_nat, log_p(z_nat), self.offset).mean()
        a = kl(target_adv, log_p(z_adv), self.offset).mean()
        if self.official:  # the mean over classes, times a tenth of their number
            n, a = n / 10, a / 10
        self.balance_temperatures(target_adv, target_nat, epoch)
        if epoch > 50:  # after the student's step in the scripts; nothing below reads the teacher any more
            self.teacher_sgd.step(ce(r_adv, y).mean(), self.teacher_rate(epoch))
        share = 1.0 if self.official else 0.5
        return share * n + share * a - self.push(z_adv, t_adv, y, a.item(), n.item())

    def attacked(self, z: Tensor, y: np.ndarray) -> Tensor:
        if self.official:
            return ce(self.student(z), y).sum()
        assert self.clean is not None
        return kl(log_p(self.student(z)), log_p(self.clean(z))).sum()

    def push(self, z_adv: Tensor, t_adv: Tensor, y: np.ndarray, a: float, n: float) -> Tensor | float:
        """lambda * P."""
        j = t_adv.argmax(1) != y
        self.joined.append(int(j.sum()))
        if not j.any():
            return 0.0
        if self.official:
            target = log_p(t_adv[j])
            p = kl(target, log_p(z_adv[j], 5.0), self.offset).mean() / 10
        else:
            p = kl(log_p(z_adv[j], 4.0), log_p(t_adv[j], 4.0)).mean()
        return 10.0 ** (min(magnitude(a), magnitude(n)) - magnitude(p.item())) * p

    def balance_temperatures(self, target_adv: Tensor, target_nat: Tensor, epoch: int) -> None:
        """Official: the rate falls at every step of the three epochs, after its use; paper: after the epochs."""
        h_adv, h_nat = entropy(target_adv, self.offset), entropy(target_nat, self.offset)
        rate = self.temperature_rate
        if not self.official:
            rate *= 0.1 ** sum(epoch > drop for drop in (215, 260, 285))
        elif epoch in (215, 260, 285):
            self.temperature_rate *= 0.1
        self.carried["t_nat"] = balanced(self.carried["t_nat"], rate, h_nat, h_adv)
        if self.official:
            self.carried["t_adv"] = balanced(self.carried["t_adv"], rate, h_adv, h_nat)
