"""Every defense once more, a script a method: an independent reading of the definitions to hold the first against.

Nothing here uses `methods/`, `attacks/` or PyTorch: all is NumPy in float64. Networks and gradients are `tape.py`'s,
the divergences, the inner attack, SGD, the rates and all that moves from step to step are written out. Images and
logits are tensors of the tape; labels, masks and what is carried are arrays. `official` is the released code's variant
(`released` for DARD). The methods with two teachers are in `reference_two_teachers.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .tape import Conv2d, Layer, Linear, Network, Tensor, gradients

EPS, STEP_SIZE, STEPS = 8 / 255, 2 / 255, 10


def log_p(logits: Tensor, temperature: float | np.ndarray = 1.0) -> Tensor:
    """log softmax(logits / T), shape (B, C); T is a number or of shape (B, 1)."""
    scaled = logits / temperature
    return scaled - scaled.logsumexp(1)


def kl(log_target: Tensor, log_q: Tensor, offset: float = 0.0) -> Tensor:
    """KL(target || q) of each sample, shape (B,); offset: what released code adds to the target in its logarithm."""
    return (log_target.exp() * (shifted(log_target, offset) - log_q)).sum(1)


def shifted(log_target: Tensor, offset: float) -> Tensor:
    return (log_target.exp() + offset).log() if offset else log_target


def ce(logits: Tensor, y: np.ndarray) -> Tensor:
    """-log p_y of each sample, shape (B,)."""
    return -log_p(logits)[np.arange(len(y)), y]


def entropy(log_target: Tensor, offset: float = 0.0) -> float:
    """Mean entropy of a batch of distributions; offset as in `kl`."""
    return -(log_target.exp() * shifted(log_target, offset)).sum(1).mean().item()


def dice(p: Tensor, one_hot: np.ndarray) -> Tensor:
    """DPGD's loss of one of the two groups, shapes (group, C)."""
    if len(p) == 0:
        return Tensor(0.0)
    return 1 - (2 * (p * one_hot).sum() + 1e-5) / ((p**2).sum() + (one_hot**2).sum() + 1e-5)


class SGD:
    """v <- momentum * v + g + weight_decay * w; w <- w - lr * v (Nesterov: g + weight_decay * w + momentum * v)."""

    def __init__(
        self,
        net: Network,
        momentum: float,
        weight_decay: float,
        nesterov: bool = False,
        only: tuple[type[Layer], ...] = (Layer,),
    ) -> None:
        """only: the weights (not the biases) of these layers decay; by default all there is."""
        self.parameters = net.parameters()
        self.momentum, self.nesterov = momentum, nesterov
        decaying = {id(layer.parameters.get("weight")) for layer in net.layers if isinstance(layer, only)}
        everything = only == (Layer,)
        self.decays = [weight_decay * (everything or id(weight) in decaying) for weight in self.parameters]
        self.velocities: list[np.ndarray] = []

    def step(self, loss: Tensor, lr: float) -> None:
        self.move(gradients(loss, self.parameters), lr)

    def move(self, slopes: Sequence[np.ndarray], lr: float) -> None:
        moves = [g + d * w.data for g, d, w in zip(slopes, self.decays, self.parameters, strict=True)]
        if self.velocities:
            self.velocities = [self.momentum * v + d for v, d in zip(self.velocities, moves, strict=True)]
        else:
            self.velocities = moves
        if self.nesterov:
            moves = [d + self.momentum * v for d, v in zip(moves, self.velocities, strict=True)]
        else:
            moves = self.velocities
        for w, d in zip(self.parameters, moves, strict=True):
            w.data = w.data - lr * d


class Script:
    """What the scripts share: the student, its SGD and rate, the attack. A script fills in `loss`.

    Attributes:
        carried: what moves from step to step besides the networks.
        companions: networks of its own, by name; `sgds` of those that learn.
    """

    lr, weight_decay = 0.1, 2e-4
    paper_weight_decay = 2e-4
    drops: tuple[int, ...] = (215, 260, 285)
    official_nesterov = False
    official_decays: tuple[type[Layer], ...] = (Layer,)
    official_offset = 0.0
    eps, step_size = EPS, STEP_SIZE

    def __init__(self, variant: str, student: Network, teachers: Mapping[str, Network], classes: int) -> None:
        self.variant, self.official, self.classes = variant, variant != "paper", classes
        self.student, self.robust, self.clean = student, teachers.get("robust"), teachers.get("clean")
        for teacher in teachers.values():
            teacher.eval()
        decay = self.weight_decay if self.official else self.paper_weight_decay
        decaying = self.official_decays if self.official else (Layer,)
        self.sgd = SGD(student, 0.9, decay, self.official and self.official_nesterov, decaying)
        self.offset = self.official_offset if self.official else 0.0
        self.carried: dict[str, Any] = {}
        self.companions: dict[str, Network] = {}
        self.sgds: dict[str, SGD] = {}

    def rate(self, epoch: int) -> float:
        """Official: drops after epochs; paper: cosine from 0.1 to 1e-5 over 300 epochs."""
        if self.official:
            return self.lr * 0.1 ** sum(epoch > drop for drop in self.drops)
        return 1e-5 + (0.1 - 1e-5) * (1 + math.cos(math.pi * (epoch - 1) / 300)) / 2

    def step(self, x: Tensor, y: np.ndarray, noise: Tensor, epoch: int) -> float:
        self.student.train()
        loss = self.loss(x, y, noise, epoch)
        self.sgd.step(loss, self.rate(epoch))
        self.after_step(y, epoch)
        return loss.item()

    def loss(self, x: Tensor, y: np.ndarray, noise: Tensor, epoch: int) -> Tensor:
        raise NotImplementedError

    def after_step(self, y: np.ndarray, epoch: int) -> None: ...

    def end_epoch(self, epoch: int) -> None: ...

    def uniform(self, x: Tensor, noise: Tensor) -> Tensor:
        return (x + self.eps * noise).clamp(0, 1)

    def gaussian(self, x: Tensor, noise: Tensor) -> Tensor:
        return x + 0.001 * noise

    def pgd(self, f: Callable[[Tensor, int], Tensor], x: Tensor, start: Tensor, train: bool = False) -> Tensor:
        """Ascend f(x', i) by signs; the student in eval mode meanwhile unless `train`."""
        self.student.train(train)
        adv = start.detach()
        for i in range(STEPS):
            (g,) = gradients(f(adv, i), [adv])
            moved = adv.data + self.step_size * np.sign(g)
            moved = np.minimum(np.maximum(moved, x.data - self.eps), x.data + self.eps)
            adv = Tensor(np.clip(moved, 0.0, 1.0))
        self.student.train()
        return adv

    def ask(self, teacher: Network | None, x: Tensor) -> Tensor:
        """A frozen teacher's logits."""
        assert teacher is not None
        return teacher(x).detach()


class Natural(Script):
    drops = (150, 225)

    def loss(self, x: Tensor, y: np.ndarray, noise: Tensor, epoch: int) -> Tensor:
        return ce(self.student(x), y).mean()


class SAT(Script):
    drops, official_decays = (102, 154), (Conv2d, Linear)

    def loss(self, x: Tensor, y: np.ndarray, noise: Tensor, epoch: int) -> Tensor:
        adv = self.pgd(lambda z, i: ce(self.student(z), y).sum(), x, self.uniform(x, noise), train=self.official)
        return ce(self.student(adv), y).mean()


class TRADES(Script):
    drops = (74, 89)  # its script lowers the rate in epochs 75 and 90

    def loss(self, x: Tensor, y: np.ndarray, noise: Tensor, epoch: int) -> Tensor:
        if self.official:
            self.eps, self.step_size = 0.031, 0.007
        self.student.eval()
        target = log_p(self.student(x)).detach()
        adv = self.pgd(lambda z, i: kl(target, log_p(self.student(z))).sum(), x, self.gaussian(x, noise))
        z_nat = self.student(x)
        z_adv = self.student(adv)
        z_again = self.student(x) if self.official else z_nat
        return ce(z_nat, y).mean() + 6.0 * kl(log_p(z_again), log_p(z_adv)).mean()


class SCORE(Script):
    lr, weight_decay, drops = 0.05, 5e-4, (100, 105)

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.cut: list[int] = []
        self.steps = dict.fromkeys(range(1, 111), 0)

    def rate(self, epoch: int) -> float:
        """The script asks by the share of all epochs that this step, one of three in an epoch, completes."""
        self.steps[epoch] += 1
        completed = epoch - 1 + self.steps[epoch] / 3
        if not self.official:
            return super().rate(epoch)
        return self.lr if completed < 100 else self.lr / 10 if completed < 105 else self.lr / 100

    def loss(self, x: Tensor, y: np.ndarray, noise: Tensor, epoch: int) -> Tensor:
        self.student.eval()
        p_eval = log_p(self.student(x)).exp().detach()

        def distance(z: Tensor, i: int) -> Tensor:
            return ((log_p(self.student(z)).exp() - p_eval) ** 2).sum()

        start = self.gaussian(x, noise)
        adv = self.pgd(distance, x, start.clamp(0, 1) if self.official else start)
        p_adv = log_p(self.student(adv)).exp()
        p_nat = log_p(self.student(x)).exp()
        one_hot = np.eye(self.classes)[y]
        g = 0.3
        u = np.full(self.classes, g / (self.classes - 1))
        u[0] = 1 - g
        e_1 = np.eye(self.classes)[0]
        c = ((u - e_1) ** 2).sum()
        each = ((p_nat - one_hot) ** 2).sum(1) + 6.0 * ((p_adv - p_nat) ** 2).sum(1) - c
        self.cut.append(int((each.data < 0).sum()))
        return each.clamp(0).mean()


class ARD(Script):
    drops = (100,)  # at the second milestone its script begins again at the first rate

    def weights(self, y: np.ndarray) -> np.ndarray:
        return np.ones(len(y))

    def seen(self, logits: Tensor, y: np.ndarray) -> None:
        """One attack iteration's logits."""

    def loss(self, x: Tensor, y: np.ndarray, noise: Tensor, epoch: int) -> Tensor:
        alpha, t = 1.0, 30.0
        w = self.weights(y)

        def objective(z: Tensor, i: int) -> Tensor:
            logits = self.student(z)
            self.seen(logits, y)
            return ce(logits, y).sum()

        start = x + self.eps * noise if self.official else self.uniform(x, noise)
        adv = self.pgd(objective, x, start, train=self.official)
        z_adv = self.student(adv)
        z_nat = self.student(x)
        target = log_p(self.ask(self.robust, x), t)
        a = (w * kl(target, log_p(z_adv, t))).mean() / self.classes
        return alpha * t**2 * a + (1 - alpha) * (w * ce(z_nat, y)).mean()


class FairARD(ARD):
    official_nesterov = True

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.carried["class_weights"] = np.ones(self.classes)
        self.right: dict[int, list[int]] = {}

    def weights(self, y: np.ndarray) -> np.ndarray:
        self.kappa = np.zeros(len(y), dtype=np.int64)
        return self.carried["class_weights"][y]

    def seen(self, logits: Tensor, y: np.ndarray) -> None:
        self.kappa += logits.argmax(1) == y

    def after_step(self, y: np.ndarray, epoch: int) -> None:
        for label, kappa in zip(y.tolist(), self.kappa.tolist(), strict=True):
            self.right.setdefault(label, []).append(kappa)

    def end_epoch(self, epoch: int) -> None:
        raw = {c: (1 / (sum(values) / len(values) + 1e-5)) ** 2 for c, values in self.right.items()}
        # Of a class without samples the definition says nothing: it keeps 1, the others sum to their number.
        weights = {c: min(max(value / sum(raw.values()) * len(raw), 5 / 6), 5 / 2) for c, value in raw.items()}
        each = [weights.get(c, 1.0) for c in range(self.classes)]
        self.carried["class_weights"] = np.array(each)
        self.right = {}


class RSLAD(Script):
    official_offset = 1e-5

    def loss(self, x: Tensor, y: np.ndarray, noise: Tensor, epoch: int) -> Tensor:
        logits = self.ask(self.robust, x)
        t_adv, t_nat = self.temperatures(y)
        target_adv, target_nat = log_p(logits, t_adv), log_p(logits, t_nat)
        adv = self.pgd(lambda z, i: kl(target_adv, log_p(self.student(z))).sum(), x, self.gaussian(x, noise))
        z_adv = self.student(adv)
        z_nat = self.student(x)
        self.seen(z_adv, z_nat, y)
        a = kl(target_adv, log_p(z_adv), self.offset).mean() / self.classes
        n = kl(target_nat, log_p(z_nat), self.offset).mean() / self.classes
        return self.classes / 10 * (5 / 6 * a + 1 / 6 * n)

    def temperatures(self, y: np.ndarray) -> tuple[float | np.ndarray, float | np.ndarray]:
        return 1.0, 1.0

    def seen(self, z_adv: Tensor, z_nat: Tensor, y: np.ndarray) -> None: ...


class ABSLD(RSLAD):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        for name in ("t_adv", "t_nat"):
            self.carried[name] = np.ones(self.classes)
        self.sums = [[0.0] * self.classes, [0.0] * self.classes]

    def temperatures(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        t_adv, t_nat = self.carried["t_adv"][y][:, None], self.carried["t_nat"][y][:, None]
        return (t_adv * t_nat, t_adv * t_nat) if self.official else (t_adv, t_nat)

    def seen(self, z_adv: Tensor, z_nat: Tensor, y: np.ndarray) -> None:
        for sums, logits in zip(self.sums, (z_adv, z_nat), strict=True):
            for label, value in zip(y.tolist(), ce(logits, y).data.tolist(), strict=True):
                sums[label] += value

    def end_epoch(self, epoch: int) -> None:
        # "Times 0.1 at epochs 215, ..." is read as: before the temperatures move at the end of those epochs.
        rate = 0.1 * 0.1 ** sum(epoch >= drop for drop in (215, 260, 285))
        for name, sums in zip(("t_adv", "t_nat"), self.sums, strict=True):
            total = np.array(sums)
            gap = total - total.mean()
            self.carried[name] = np.clip(self.carried[name] - rate * gap / np.abs(gap).max(), 0.5, 5.0)
        self.sums = [[0.0] * self.classes, [0.0] * self.classes]


class DARD(Script):
    """Variants `paper` and `released`; `paper-pgd` is the paper's ablation."""

    weight_decay, drops = 5e-4, (30, 40)

    def __init__(self, variant: str, *args: Any) -> None:
        super().__init__(variant.removesuffix("-pgd"), *args)
        self.with_pgd = variant.endswith("-pgd")

    def attack(self, net: Network | None, x: Tensor, y: np.ndarray) -> Tensor:
        assert net is not None
        one_hot = np.eye(self.classes)[y]

        def dpgd(z: Tensor, i: int) -> Tensor:
            logits = net(z)
            p, right = log_p(logits).exp(), logits.argmax(1) == y
            lam = i / (2 * STEPS)
            return (1 - lam) * dice(p[right], one_hot[right]) + lam * dice(p[~right], one_hot[~right])

        def pgd(z: Tensor, i: int) -> Tensor:
            return ce(net(z), y).sum()

        return self.pgd(pgd if self.with_pgd else dpgd, x, x, train=self.official and net is self.student)

    def branch(self, logits: Tensor, target: Tensor, y: np.ndarray) -> Tensor:
        a, t = 0.7, (3.0 if self.classes == 10 else 1.0)
        return (1 - a) * ce(logits, y).mean() + a * t**2 * kl(target, log_p(logits, t)).mean()

    def loss(self, x: Tensor, y: np.ndarray, noise: Tensor, epoch: int) -> Tensor:
        t = 3.0 if self.classes == 10 else 1.0
        adv = self.attack(self.student, x, y)
        if not self.official:
            q = 0.5 * log_p(self.ask(self.robust, x)).exp() + 0.5 * log_p(self.ask(self.robust, adv)).exp()
            return self.branch(self.student(adv), q.log(), y)
        adv_of_teacher = self.attack(self.robust, x, y)
        soft_nat = log_p(log_p(self.ask(self.robust, x)).exp(), t)
        soft_adv = log_p(log_p(self.ask(self.robust, adv_of_teacher)).exp(), t)
        z_nat = self.student(x)
        z_adv = self.student(adv)
        return (self.branch(z_nat, soft_nat, y) + self.branch(z_adv, soft_adv, y)) / 2


class PGDARD(DARD):
    def __init__(self, variant: str, *args: Any) -> None:
        super().__init__(f"{variant}-pgd", *args)
