"""AdaAD, AdaIAD, IGDM and SAAD once more, a script each; see `reference.py`.

Where the authors' scripts make a pass twice, so do these, with a gradient each time.
"""

from __future__ import annotations

import numpy as np

from .reference import Script, ce, kl, log_p
from .tape import Tensor, gradients


class Adaptive(Script):
    """Weight decay and rate of these papers; x* against the divergence from the teacher on x' itself."""

    weight_decay = paper_weight_decay = 5e-4
    drops: tuple[int, ...] = (100, 150)

    def rate(self, epoch: int) -> float:
        return 0.1 * 0.1 ** sum(epoch > drop for drop in self.drops)

    def against_both(self, x: Tensor, noise: Tensor) -> Tensor:
        assert self.robust is not None
        robust = self.robust
        return self.pgd(lambda z, i: kl(log_p(robust(z)), log_p(self.student(z))).sum(), x, self.gaussian(x, noise))


class AdaAD(Adaptive):
    def loss(self, x: Tensor, y: np.ndarray, noise: Tensor, epoch: int) -> Tensor:
        if self.variant == "wide":
            self.eps, self.step_size = 16 / 255, 4 / 255
        adv = self.against_both(x, noise)
        z_nat = self.student(x)
        z_adv = self.student(adv)
        a = kl(log_p(self.ask(self.robust, adv)), log_p(z_adv)).mean()
        n = kl(log_p(self.ask(self.robust, x)), log_p(z_nat)).mean()
        by_classes = self.classes if self.official and self.classes == 10 else 1
        return (1.0 * a + (1 - 1.0) * n) / by_classes


class AdaIAD(Adaptive):
    def loss(self, x: Tensor, y: np.ndarray, noise: Tensor, epoch: int) -> Tensor:
        if self.variant == "wide":
            self.eps, self.step_size = 16 / 255, 4 / 255
        t, alpha = 30.0, 1.0
        adv = self.against_both(x, noise)
        z_nat = self.student(x)
        z_adv = self.student(adv)
        guide = self.ask(self.robust, adv)
        trust = log_p(guide).exp()[np.arange(len(y)), y] ** 0.1
        k = t**2 * kl(log_p(guide, t), log_p(z_adv, t))
        if epoch <= 60:
            cross = ce(self.student(x) if self.official else z_nat, y).mean()
            return alpha * k.mean() + (1 - alpha) * cross
        own = kl(log_p(self.student(x) if self.official else z_nat), log_p(z_adv))
        cross = ce(self.student(x) if self.official else z_nat, y).mean()
        if not self.official:
            k = trust * k
        return alpha * k.mean() + alpha * ((1 - trust) * own).mean() + (1 - alpha) * cross


class IGDM(Adaptive):
    """What the bases share; `alphas` are of CIFAR-10 and CIFAR-100."""

    weight_decay = 2e-4
    length = 200
    alphas = (0.0, 0.0)

    def addition(self, x: Tensor, adv: Tensor, plus: Tensor, minus: Tensor, epoch: int) -> Tensor:
        """alpha e / E times the divergence of the differences; plus and minus are the student's logits."""
        d = adv - x
        target = log_p(self.ask(self.robust, x + d) - self.ask(self.robust, x - d))
        alpha = self.alphas[0] if self.classes == 10 else self.alphas[1]
        return alpha * (epoch / (200 if self.official else self.length)) * kl(target, log_p(plus - minus)).mean()


class IGDMSAT(IGDM):
    alphas = (60.0, 100.0)

    def loss(self, x: Tensor, y: np.ndarray, noise: Tensor, epoch: int) -> Tensor:
        adv = self.pgd(lambda z, i: ce(self.student(z), y).sum(), x, self.uniform(x, noise))
        plus = self.student(adv)
        minus = self.student(x - (adv - x))
        return ce(plus, y).mean() + self.addition(x, adv, plus, minus, epoch)


class IGDMTRADES(IGDM):
    alphas = (20.0, 5.0)

    def loss(self, x: Tensor, y: np.ndarray, noise: Tensor, epoch: int) -> Tensor:
        self.student.eval()
        target = log_p(self.student(x)).detach()
        adv = self.pgd(lambda z, i: kl(target, log_p(self.student(z))).sum(), x, self.gaussian(x, noise))
        z_nat = self.student(x)
        plus = self.student(adv)
        minus = self.student(x - (adv - x))
        base = ce(z_nat, y).mean() + 6.0 * kl(log_p(z_nat), log_p(plus)).mean()
        return base + self.addition(x, adv, plus, minus, epoch)


class IGDMARD(IGDM):
    alphas = (5.0, 50.0)

    def loss(self, x: Tensor, y: np.ndarray, noise: Tensor, epoch: int) -> Tensor:
        if self.official:
            self.step_size = 2 / 225
        adv = self.pgd(lambda z, i: ce(self.student(z), y).sum(), x, self.uniform(x, noise))
        d = adv - x
        plus = self.student(x + d)
        self.student(x)
        minus = self.student(x - d)
        base = kl(log_p(self.ask(self.robust, x)), log_p(plus)).mean()
        return base + self.addition(x, adv, plus, minus, epoch)


class IGDMRSLAD(IGDM):
    alphas, length = (0.9, 3.0), 300

    def rate(self, epoch: int) -> float:
        drops = (210, 258, 285) if self.official else (215, 260, 285)
        return 0.1 * 0.1 ** sum(epoch > drop for drop in drops)

    def loss(self, x: Tensor, y: np.ndarray, noise: Tensor, epoch: int) -> Tensor:
        target = log_p(self.ask(self.robust, x))
        adv = self.pgd(lambda z, i: kl(target, log_p(self.student(z))).sum(), x, self.gaussian(x, noise))
        z_adv = self.student(adv)
        d = adv - x
        plus = self.student(x + d)
        z_nat = self.student(x)
        minus = self.student(x - d)
        p = target.exp()
        log_target = (p + 1e-5).log() if self.official else target
        a = (p * (log_target - log_p(z_adv))).mean()
        n = (p * (log_target - log_p(z_nat))).mean()
        return self.classes / 10 * (5 / 6 * a + 1 / 6 * n) + self.addition(x, adv, plus, minus, epoch)


class IGDMAdaAD(IGDM):
    alphas = (5.0, 15.0)

    def loss(self, x: Tensor, y: np.ndarray, noise: Tensor, epoch: int) -> Tensor:
        adv = self.against_both(x, noise)
        d = adv - x
        plus = self.student(x + d)
        self.student(x)
        minus = self.student(x - d)
        z_adv = self.student(adv)
        base = kl(log_p(self.ask(self.robust, adv)), log_p(z_adv)).mean()
        return base + self.addition(x, adv, plus, minus, epoch)


class SAAD(Adaptive):
    weight_decay = 2e-4
    b = 0.0

    def loss(self, x: Tensor, y: np.ndarray, noise: Tensor, epoch: int) -> Tensor:
        assert self.robust is not None
        r_nat = self.robust(x)
        (g,) = gradients(r_nat[np.arange(len(y)), y].sum(), [x])
        r_nat, at_y = r_nat.detach(), np.eye(self.classes)[y]

        def objective(z: Tensor, i: int) -> Tensor:
            c = r_nat + at_y * (1.0 * (g * (z - x)).sum((1, 2, 3)))[:, None]
            return kl(log_p(c), log_p(self.student(z))).sum()

        adv = self.pgd(objective, x, self.gaussian(x, noise))
        d = adv - x
        r_adv, r_minus = self.ask(self.robust, adv), self.ask(self.robust, x - d)
        z_adv = self.student(adv)
        z_minus = self.student(x - d)
        z_nat = self.student(x)
        p = log_p(r_adv).exp().data
        h = -(p * np.log(p + 1e-12)).sum(1)
        w = 5 * (h - h.min())
        u = (w - w.min()) / (w.max() - w.min() + 1e-8)
        a = 1.0 if self.classes == 10 else 10.0
        matching = a * (epoch / 200) * kl(log_p(r_adv - r_minus), log_p(z_adv - z_minus))
        weighted = w * (kl(log_p(r_adv), log_p(z_adv)) + matching)
        return (weighted + self.b * (1 - u) * kl(log_p(r_nat), log_p(z_nat))).mean()


class SAADWithClean(SAAD):
    """With a weight for the clean term, which the authors' script leaves at 0."""

    b = 0.7
