"""The defenses with a network of their own beside the student once more, a script a method; see `reference.py`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy

import numpy as np

from .reference import SGD, Script, ce, kl, log_p
from .tape import Network, Tensor, gradients


class Beside(Script):
    """One backward pass of both losses, then a step of each network by an SGD of its own, at the student's rate."""

    name = ""

    def __init__(self, variant: str, student: Network, networks: Mapping[str, Network], classes: int) -> None:
        super().__init__(variant, student, {}, classes)
        self.other = networks[self.name]
        self.companions[self.name] = self.other
        self.sgds[self.name] = SGD(self.other, 0.9, 2e-4)

    def rate(self, epoch: int) -> float:
        return 0.1 * 0.1 ** sum(epoch > drop for drop in self.drops)

    def step(self, x: Tensor, y: np.ndarray, noise: Tensor, epoch: int) -> float:
        self.student.train()
        self.other.train()
        loss = self.loss(x, y, noise, epoch)
        sgds = (self.sgd, self.sgds[self.name])
        slopes = gradients(loss, [w for sgd in sgds for w in sgd.parameters])
        own = len(self.sgd.parameters)
        sgds[0].move(slopes[:own], self.rate(epoch))
        sgds[1].move(slopes[own:], self.rate(epoch))
        return loss.item()


class PeerAiD(Beside):
    name, drops = "peer", (214, 259, 284)

    def loss(self, x: Tensor, y: np.ndarray, noise: Tensor, epoch: int) -> Tensor:
        t, gamma = 5.0, 0.1 if self.classes == 10 else 1.0
        self.other.eval()
        target = log_p(self.ask(self.other, x))
        self.other.train()
        adv = self.pgd(lambda z, i: kl(target, log_p(self.student(z))).sum(), x, self.gaussian(x, noise))
        q_adv = self.other(adv)
        z_seen = self.student(adv)
        z_adv = self.student(adv) if self.official else z_seen
        z_nat = self.student(x)
        seen = z_seen if self.official else z_seen.detach()
        peer = ce(q_adv, y).mean() + gamma * kl(log_p(seen), log_p(q_adv)).mean() / self.classes
        of_peer = kl(log_p(q_adv.detach(), t), log_p(z_adv, t)).mean() / self.classes
        of_itself = kl(log_p(z_nat, t), log_p(z_adv, t)).mean() / self.classes
        return peer + t * t * of_peer + t * t * of_itself


class LBGAT(Beside):
    name, drops = "guide", (75, 90)
    eps, step_size = 0.031, 0.007

    def rate(self, epoch: int) -> float:
        return 0.02 if self.official and epoch == 1 else super().rate(epoch)

    def loss(self, x: Tensor, y: np.ndarray, noise: Tensor, epoch: int) -> Tensor:
        self.student.eval()
        target = log_p(self.ask(self.student, x))
        adv = self.pgd(lambda z, i: kl(target, log_p(self.student(z))).sum(), x, self.gaussian(x, noise))
        z_adv = self.student(adv)
        z_nat = self.student(x)
        g_nat = self.other(x)
        error = ((z_adv - g_nat) ** 2).sum() / (len(x) * self.classes)
        return error + ce(g_nat, y).mean() + 6.0 * kl(log_p(z_nat), log_p(z_adv)).mean()


class ADR(Script):
    drops, epochs, steps = (100, 150), 200, 3

    def __init__(self, variant: str, student: Network, networks: Mapping[str, Network], classes: int) -> None:
        super().__init__(variant, student, {}, classes)
        self.sgd = SGD(student, 0.9, 5e-4, nesterov=self.official)
        self.mean = deepcopy(student).eval()
        self.companions["mean-teacher"] = self.mean
        self.place = (0, 0)

    def rate(self, epoch: int) -> float:
        return 0.1 * 0.1 ** sum(epoch > drop for drop in self.drops)

    def annealed(self, first: float, last: float, epoch: int) -> float:
        done = (epoch - 1) * self.steps + self.place[1]
        return last + 0.5 * (first - last) * (1 + math.cos(math.pi * done / (self.epochs * self.steps)))

    def loss(self, x: Tensor, y: np.ndarray, noise: Tensor, epoch: int) -> Tensor:
        self.place = (epoch, self.place[1] + 1) if self.place[0] == epoch else (epoch, 0)
        tau = self.annealed(2.5, 2.0, epoch) if self.classes == 10 else self.annealed(1.5, 1.0, epoch)
        p = log_p(self.ask(self.mean, x), tau).exp().data
        rows = []
        for row, label in zip(p, y.tolist(), strict=True):
            share = self.annealed(0.7, 0.95, epoch) - (float(row.max()) - float(row[label]))
            share = min(max(share, 0.0), 1.0)
            rows.append(share * row + (1 - share) * np.eye(self.classes)[label])
        q = np.stack(rows)

        def soft_ce(logits: Tensor) -> Tensor:
            return -(q * log_p(logits)).sum(1)

        adv = self.pgd(lambda z, i: soft_ce(self.student(z)).sum(), x, self.uniform(x, noise), train=True)
        return soft_ce(self.student(adv)).mean()

    def after_step(self, y: np.ndarray, epoch: int) -> None:
        own = self.mean.state_dict()
        for name, value in self.student.state_dict().items():
            own[name][...] = 0.995 * own[name] + 0.005 * value if value.dtype.kind == "f" else value
