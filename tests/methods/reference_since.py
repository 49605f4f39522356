"""The defenses since 2020 that need no network of their own, a script a method; see `reference.py`.

Their two variants share a schedule but for what is noted: the drops of the rate in `drops`, those of the paper in
`paper_drops` where they differ.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np

from .reference import SGD, Script, ce, entropy, kl, log_p
from .tape import Tensor, gradients


class Since(Script):
    """A script with a schedule of its own in both variants."""

    paper_drops: tuple[int, ...] = ()
    nesterov = False

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.sgd = SGD(self.student, 0.9, self.weight_decay, nesterov=self.nesterov)
        self.done: list[int] = []

    def rate(self, epoch: int) -> float:
        drops = self.drops if self.official else self.paper_drops or self.drops
        return self.lr * 0.1 ** sum(epoch > drop for drop in drops)

    def cosine_cycle(self, epoch: int, epochs: int) -> float:
        """The learning rate as PyTorch's OneCycleLR has it, a quarter of it upward; the momentum follows it."""
        n, total = 3 * (epoch - 1) + self.done.count(epoch), 3 * epochs
        self.done.append(epoch)
        turn = total / 4 - 1
        up = n <= turn
        share = n / turn if up else (n - turn) / (total - 1 - turn)
        wave = 0.5 * (1 + math.cos(math.pi * share))
        self.sgd.momentum = 0.85 + 0.1 * (wave if up else 1 - wave)
        low = self.lr / 25 if up else self.lr / 25e4
        return low + (self.lr - low) * (1 - wave if up else wave)

    def one_cycle(self, epoch: int, epochs: int) -> float:
        """Linear, up over the first quarter and down to 0; an epoch has three steps."""
        share = (epoch - 1 + self.done.count(epoch) / 3) / epochs
        self.done.append(epoch)
        return self.lr * (share / 0.25 if share < 0.25 else (1 - share) / 0.75)

    def on_ce(self, x: Tensor, y: np.ndarray, start: Tensor, train: bool = False) -> Tensor:
        return self.pgd(lambda z, i: ce(self.student(z), y).sum(), x, start, train)

    def on_own_kl(self, x: Tensor, noise: Tensor) -> Tensor:
        """TRADES' attack."""
        self.student.eval()
        target = log_p(self.student(x)).detach()
        return self.pgd(lambda z, i: kl(target, log_p(self.student(z))).sum(), x, self.gaussian(x, noise))

    def on_both(self, x: Tensor, noise: Tensor) -> Tensor:
        """AdaAD's attack, through the teacher too."""
        robust = self.robust
        assert robust is not None
        return self.pgd(lambda z, i: kl(log_p(robust(z)), log_p(self.student(z))).sum(), x, self.gaussian(x, noise))


class MART(Since):
    lr, weight_decay, drops = 0.01, 3.5e-3, (74, 89, 99)
    paper_drops = (75, 90)

    def loss(self, x: Tensor, y: np.ndarray, noise: Tensor, epoch: int) -> Tensor:
        if self.official:
            self.eps, self.step_size = 0.031, 0.007
        adv = self.on_ce(x, y, self.gaussian(x, noise))
        z_nat = self.student(x)
        z_adv = self.student(adv)
        p_adv, p_nat = log_p(z_adv).exp(), log_p(z_nat).exp()
        rows = np.arange(len(y))
        order = (-p_adv.data).argsort(1)
        j = np.where(order[:, 0] == y, order[:, 1], order[:, 0])
        if self.official:
            rest = (1.0001 - p_adv[rows, j] + 1e-12).log()
            log_adv, doubt = (p_adv + 1e-12).log(), 1.0000001 - p_nat[rows, y]
        else:
            rest = (1 - p_adv[rows, j]).log()
            log_adv, doubt = log_p(z_adv), 1 - p_nat[rows, y]
        each = (p_nat * (log_p(z_nat) - log_adv)).sum(1)
        return ce(z_adv, y).mean() - rest.mean() + 5.0 * (each * doubt).mean()


class HAT(Since):
    lr, weight_decay, nesterov = 0.21, 5e-4, True

    def rate(self, epoch: int) -> float:
        return self.cosine_cycle(epoch, 50)

    def loss(self, x: Tensor, y: np.ndarray, noise: Tensor, epoch: int) -> Tensor:
        adv = self.on_own_kl(x, noise)
        label = self.ask(self.clean, adv).argmax(1)
        z_nat = self.student(x)
        z_adv = self.student(adv)
        z_help = self.student(x + 2 * (adv - x))
        return ce(z_nat, y).mean() + 2.5 * kl(log_p(z_nat), log_p(z_adv)).mean() + 0.5 * ce(z_help, label).mean()


class IAD(Since):
    drops = (100,)
    paper_drops = (100, 150)

    def loss(self, x: Tensor, y: np.ndarray, noise: Tensor, epoch: int) -> Tensor:
        start = x + self.eps * noise
        adv = self.on_ce(x, y, start if self.official else start.clamp(0, 1), train=self.official)
        z_adv = self.student(adv)
        if self.official:
            self.student(adv)
        taught = kl(log_p(self.ask(self.robust, x)), log_p(z_adv))
        z_nat = self.student(x)
        if epoch <= 60:
            return taught.mean()
        if self.official:
            self.student(x)
        a = log_p(self.ask(self.robust, adv)).exp()[np.arange(len(y)), y] ** 0.1
        own = (1 - a) * kl(log_p(z_nat), log_p(z_adv))
        return ((taught if self.official else a * taught) + own).mean()


class AKD(Since):
    drops: tuple[int, ...] = (100,)
    paper_drops: tuple[int, ...] = (100, 150)
    robust_weight, clean_weight, temperature = 0.5, 0.25, 1.0

    def start(self, x: Tensor, noise: Tensor) -> Tensor:
        start = x + self.eps * noise
        return start if self.official else start.clamp(0, 1)

    def taught(self, target: Tensor, logits: Tensor) -> Tensor:
        return kl(target, log_p(logits, self.temperature)).mean()

    def loss(self, x: Tensor, y: np.ndarray, noise: Tensor, epoch: int) -> Tensor:
        a, b, t = self.robust_weight, self.clean_weight, self.temperature
        adv = self.on_ce(x, y, self.start(x, noise), train=self.official)
        z_adv = self.student(adv)
        r, c = (log_p(self.ask(teacher, adv), t) for teacher in (self.robust, self.clean))
        soft = a * t**2 * self.taught(r, z_adv) + b * t**2 * self.taught(c, z_adv)
        return (1 - a - b) * ce(z_adv, y).mean() + soft


class KDSWA(AKD):
    weight_decay, drops = 5e-4, (50, 150)
    paper_drops = (50, 150)
    robust_weight, clean_weight, temperature = 0.6, 0.1, 2.0

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.average = copy.deepcopy(self.student)
        self.count = 0

    def start(self, x: Tensor, noise: Tensor) -> Tensor:
        return (x + self.eps * noise).clamp(0, 1)

    def taught(self, target: Tensor, logits: Tensor) -> Tensor:
        value = super().taught(target, logits)
        return value + entropy(target) if self.official else value

    def end_epoch(self, epoch: int) -> None:
        """The mean of the weights at the ends of the epochs from 56 on; its statistics are estimated elsewhere."""
        if epoch < 56:
            return
        self.count += 1
        for mine, theirs in zip(self.average.parameters(), self.student.parameters(), strict=True):
            mine.data = mine.data + (theirs.data - mine.data) / self.count


class DGAD(Since):
    weight_decay, drops = 5e-4, (100, 150)
    product = False

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.wrong: list[int] = []

    def swapped(self, logits: Tensor, y: np.ndarray) -> Tensor:
        given, found = logits.data, logits.data.copy()
        for row, label in enumerate(y.tolist()):
            best = int(given[row].argmax())
            found[row, label], found[row, best] = given[row, best], given[row, label]
        return Tensor(found)

    def loss(self, x: Tensor, y: np.ndarray, noise: Tensor, epoch: int) -> Tensor:
        adv = self.on_both(x, noise)
        z_nat = self.student(x)
        z_adv = self.student(adv)
        r_nat, r_adv = self.ask(self.robust, x), self.ask(self.robust, adv)
        m = r_nat.argmax(1) != y
        n, b = int(m.sum()), len(y)
        self.wrong.append(n)
        size = 128 if self.official else b
        of_clean = kl(log_p(self.swapped(r_nat, y)), log_p(z_nat))[m].sum() / max(n, 1)
        of_adv = kl(log_p(self.swapped(r_adv, y)), log_p(z_adv))[~m].sum() / max(b - n, 1)
        mse = ((log_p(z_adv).exp() - log_p(z_nat).exp()) ** 2).mean()
        if self.product:
            return 0.5 * (n / size * of_clean + (size - n) / size) * of_adv + mse
        return n / size * of_clean + (size - n) / size * of_adv + mse


class DGADOfMobileNet(DGAD):
    product = True


def norm(array: np.ndarray) -> np.ndarray:
    return np.sqrt((array**2).sum())


class WithAWP(Since):
    """A defense whose loss is split, with weights that are perturbed along their own gradient."""

    weight_decay, drops = 5e-4, (100, 150)
    gamma, begins = 0.0, 1

    def craft(self, x: Tensor, y: np.ndarray, noise: Tensor) -> Tensor:
        raise NotImplementedError

    def outer(self, x: Tensor, y: np.ndarray, adv: Tensor) -> Tensor:
        raise NotImplementedError

    def step(self, x: Tensor, y: np.ndarray, noise: Tensor, epoch: int) -> float:
        self.student.train()
        adv = self.craft(x, y, noise)
        moves = []
        if epoch >= self.begins:
            proxy = copy.deepcopy(self)
            slopes = gradients(proxy.outer(x, y, adv), proxy.student.parameters())
            pairs = zip(self.student.named_parameters().items(), slopes, strict=True)
            moves = [
                (w, self.gamma * norm(w.data) * g / (norm(g) + 1e-20))
                for (name, w), g in pairs
                if name.endswith("weight") and w.data.ndim > 1
            ]
        for w, move in moves:
            w.data = w.data + move
        loss = self.outer(x, y, adv)
        self.sgd.step(loss, self.rate(epoch))
        for w, move in moves:
            w.data = w.data - move
        return loss.item()


class SATAWP(WithAWP):
    gamma = 0.01

    def rate(self, epoch: int) -> float:
        """In `official` an epoch's last step, of three, has the rate of the next already."""
        self.done.append(epoch)
        return super().rate(epoch + (self.official and self.done.count(epoch) == 3))

    def craft(self, x: Tensor, y: np.ndarray, noise: Tensor) -> Tensor:
        adv = self.on_ce(x, y, self.uniform(x, noise), train=self.official)
        if self.official:
            self.student.train()(adv)
        return adv

    def outer(self, x: Tensor, y: np.ndarray, adv: Tensor) -> Tensor:
        return ce(self.student(adv), y).mean()

    def step(self, x: Tensor, y: np.ndarray, noise: Tensor, epoch: int) -> float:
        loss = super().step(x, y, noise, epoch)
        if self.official:
            self.student(x)
        return loss


class TRADESAWP(WithAWP):
    gamma, begins, drops = 0.005, 10, (99, 149)
    paper_drops = (100, 150)

    def craft(self, x: Tensor, y: np.ndarray, noise: Tensor) -> Tensor:
        return self.on_own_kl(x, noise)

    def outer(self, x: Tensor, y: np.ndarray, adv: Tensor) -> Tensor:
        if self.official:
            z_adv = self.student(adv)
            z_nat = self.student(x)
            self.student(x)
        else:
            z_nat = self.student(x)
            z_adv = self.student(adv)
        return ce(z_nat, y).mean() + 6.0 * kl(log_p(z_nat), log_p(z_adv)).mean()


class SATWA(Since):
    weight_decay = 5e-4

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.average = copy.deepcopy(self.student)

    def rate(self, epoch: int) -> float:
        return self.one_cycle(epoch, 100)

    def loss(self, x: Tensor, y: np.ndarray, noise: Tensor, epoch: int) -> Tensor:
        return ce(self.student(self.on_ce(x, y, self.uniform(x, noise))), y).mean()

    def after_step(self, y: np.ndarray, epoch: int) -> None:
        mine, theirs = self.average.state_dict(), self.student.state_dict()
        for name, value in theirs.items():
            mine[name][...] = 0.9995 * mine[name] + 0.0005 * value if value.dtype.kind == "f" else value
