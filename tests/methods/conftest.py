"""One small network, written twice: in PyTorch for the defenses, in NumPy for the tests' own computations.

The NumPy side has its own forward pass, batch-norm statistics, input gradient (by hand), losses and attack loop. It
uses nothing of the project and no automatic differentiation.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.defense import Batch, Defense, Loss, Models

PIXELS, HIDDEN, BATCH = 12, 8, 13
BN_EPS, BN_MOMENTUM = 1e-5, 0.1


class Network(nn.Module):
    """Batch-norm, a hidden layer of tanh, logits; float64, with weights that make the predictions varied."""

    def __init__(self, classes: int, seed: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(PIXELS)
        self.first = nn.Linear(PIXELS, HIDDEN)
        self.last = nn.Linear(HIDDEN, classes)
        self.double()
        source = torch.Generator().manual_seed(seed)

        def normal(like: Tensor) -> Tensor:
            return torch.randn(like.shape, generator=source, dtype=like.dtype)

        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(0.5 * normal(parameter))
            self.norm.weight.add_(1)
            self.last.weight.mul_(3)
            assert self.norm.running_mean is not None
            assert self.norm.running_var is not None
            self.norm.running_mean.copy_(0.5 + 0.05 * normal(self.norm.running_mean))
            self.norm.running_var.copy_(0.1 * (1 + 0.2 * normal(self.norm.running_var)).abs())

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.first(self.norm(x.flatten(1)))))


class NumpyNetwork:
    """The same network; a forward pass in train mode moves its statistics."""

    def __init__(self, network: nn.Module) -> None:
        state = {name: value.detach().numpy().copy() for name, value in network.state_dict().items()}
        self.mean, self.var = state.pop("norm.running_mean"), state.pop("norm.running_var")
        self.count = int(state.pop("norm.num_batches_tracked"))
        self.weights = state

    def __call__(self, x: np.ndarray, train: bool = False) -> np.ndarray:
        flat, w = x.reshape(len(x), -1), self.weights
        mean, var = (flat.mean(0), flat.var(0)) if train else (self.mean, self.var)
        if train:
            n = len(flat)
            self.mean = (1 - BN_MOMENTUM) * self.mean + BN_MOMENTUM * mean
            self.var = (1 - BN_MOMENTUM) * self.var + BN_MOMENTUM * var * n / (n - 1)
            self.count += 1
        self._train, self._shape, self._deviation = train, x.shape, np.sqrt(var + BN_EPS)
        self._normal = (flat - mean) / self._deviation
        self._hidden = np.tanh(
            (self._normal * w["norm.weight"] + w["norm.bias"]) @ w["first.weight"].T + w["first.bias"]
        )
        return self._hidden @ w["last.weight"].T + w["last.bias"]

    def input_gradient(self, logits_gradient: np.ndarray) -> np.ndarray:
        """From a gradient with respect to the logits of the last forward pass, that with respect to its images."""
        w = self.weights
        back = (logits_gradient @ w["last.weight"]) * (1 - self._hidden**2)
        back = back @ w["first.weight"] * w["norm.weight"]
        if self._train:
            back = back - back.mean(0) - self._normal * (back * self._normal).mean(0)
        return (back / self._deviation).reshape(self._shape)

    def moved(self, direction: dict[str, np.ndarray], length: float) -> NumpyNetwork:
        """A copy with its weights moved along a direction."""
        other = copy.deepcopy(self)
        other.weights = {name: value + length * direction[name] for name, value in self.weights.items()}
        return other


def log_softmax(z: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    z = z / temperature
    z = z - z.max(1, keepdims=True)
    return z - np.log(np.exp(z).sum(1, keepdims=True))


def softmax(z: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    return np.exp(log_softmax(z, temperature))


def cross_entropy(z: np.ndarray, y: np.ndarray) -> float:
    return float(-log_softmax(z)[np.arange(len(y)), y].mean())


def batch_kl(target: np.ndarray, z: np.ndarray, temperature: float = 1.0) -> float:
    return float((target * (np.log(target) - log_softmax(z, temperature))).sum() / len(z))


def mean_kl(target: np.ndarray, z: np.ndarray, temperature: float = 1.0) -> float:
    return float((target * (np.log(target) - log_softmax(z, temperature))).mean())


def entropy(p: np.ndarray) -> float:
    return float(-(p * np.log(p)).sum() / len(p))


def one_hot(y: np.ndarray, classes: int) -> np.ndarray:
    return np.eye(classes)[y]


def climb(
    x: np.ndarray,
    start: np.ndarray,
    gradient: Callable[[np.ndarray, int], np.ndarray],
    steps: int = 10,
    step_size: float = 2 / 255,
    eps: float = 8 / 255,
) -> np.ndarray:
    """Sign steps along gradient(x', iteration), in the eps-ball of x and in [0, 1]."""
    for iteration in range(steps):
        start = start + step_size * np.sign(gradient(start, iteration))
        start = np.clip(np.clip(start, x - eps, x + eps), 0, 1)
    return start


def ce_gradient(network: NumpyNetwork, y: np.ndarray, train: bool = False) -> Callable[[np.ndarray, int], np.ndarray]:
    def gradient(x: np.ndarray, iteration: int) -> np.ndarray:
        z = network(x, train)
        return network.input_gradient(softmax(z) - one_hot(y, z.shape[1]))

    return gradient


def kl_gradient(network: NumpyNetwork, target: np.ndarray) -> Callable[[np.ndarray, int], np.ndarray]:
    """Of KL(target || p(network(x')))."""
    return lambda x, iteration: network.input_gradient(softmax(network(x)) - target)


def disagreement_gradient(first: NumpyNetwork, second: NumpyNetwork) -> Callable[[np.ndarray, int], np.ndarray]:
    """Of KL(p(first(x')) || p(second(x'))), through both networks."""

    def gradient(x: np.ndarray, iteration: int) -> np.ndarray:
        log_p, log_q = log_softmax(first(x)), log_softmax(second(x))
        p, q = np.exp(log_p), np.exp(log_q)
        kl = (p * (log_p - log_q)).sum(1, keepdims=True)
        return first.input_gradient(p * (log_p - log_q - kl)) + second.input_gradient(q - p)

    return gradient


def dice_gradient(
    network: NumpyNetwork, y: np.ndarray, steps: int = 10, train: bool = False
) -> Callable[[np.ndarray, int], np.ndarray]:
    """Of (1 - w) * dice(right) + w * dice(wrong), w = i / 2K.

    dice = 1 - (2 sum PY + 1e-5) / (sum P^2 + sum Y^2 + 1e-5), sums over all elements of the group.
    """

    def gradient(x: np.ndarray, iteration: int) -> np.ndarray:
        z = network(x, train)
        p, hot = softmax(z), one_hot(y, z.shape[1])
        right = z.argmax(1) == y
        by_p = np.zeros_like(p)
        for members, weight in ((right, 1 - iteration / (2 * steps)), (~right, iteration / (2 * steps))):
            top = 2 * (p[members] * hot[members]).sum() + 1e-5
            bottom = (p[members] ** 2).sum() + (hot[members] ** 2).sum() + 1e-5
            by_p[members] = -weight * (2 * hot[members] * bottom - top * 2 * p[members]) / bottom**2
        return network.input_gradient(p * (by_p - (p * by_p).sum(1, keepdims=True)))

    return gradient


class Case:
    """A student, both teachers, networks of a defense's own, a batch and start noise; `np_*` is the NumPy side."""

    def __init__(self, classes: int = 10, seed: int = 0, noise: str = "gaussian") -> None:
        self.classes = classes
        rng = np.random.default_rng(seed)
        self.student, self.robust, self.clean, self.peer, self.mean = (
            Network(classes, 10 * seed + k) for k in (1, 2, 3, 4, 5)
        )
        for teacher in (self.robust, self.clean, self.mean):
            teacher.eval().requires_grad_(False)
        # Some pixels at 0 and 1, where the clamp to [0, 1] bites.
        self.np_x = np.clip(1.4 * rng.random((BATCH, 3, 2, 2)) - 0.2, 0, 1)
        self.np_y = rng.integers(0, classes, BATCH)
        # Each network, the student in either mode, is right on some images and wrong on others.
        self.np_y[0:3] = NumpyNetwork(self.student)(self.np_x).argmax(1)[0:3]
        self.np_y[3:6] = NumpyNetwork(self.student)(self.np_x, train=True).argmax(1)[3:6]
        self.np_y[6:9] = NumpyNetwork(self.clean)(self.np_x).argmax(1)[6:9]
        self.np_y[9:12] = NumpyNetwork(self.robust)(self.np_x).argmax(1)[9:12]
        shape = self.np_x.shape
        self.np_noise = rng.standard_normal(shape) if noise == "gaussian" else rng.uniform(-1, 1, shape)
        self.np_student, self.np_robust, self.np_clean = map(NumpyNetwork, (self.student, self.robust, self.clean))
        self.np_peer, self.np_mean = map(NumpyNetwork, (self.peer, self.mean))

    @property
    def models(self) -> Models:
        companions = {"peer": self.peer, "guide": self.peer, "mean-teacher": self.mean}
        return Models(self.student, {"robust": self.robust, "clean": self.clean}, companions)

    def batch(self, epoch: int = 1, step: int = 0, steps: int = 1) -> Batch:
        x, y, noise = (torch.from_numpy(value) for value in (self.np_x, self.np_y, self.np_noise))
        return Batch(x, y, epoch, step, noise=noise, steps=steps)

    def loss(self, defense: Defense, epoch: int = 1, epochs: int = 300) -> Loss:
        """What the defense computes in its first step."""
        defense.begin(self.models, epochs)
        self.student.train()
        return defense.loss(self.batch(epoch), self.models)

    def check(self, loss: Loss, expected: float, outer: Callable[[NumpyNetwork], float]) -> None:
        """Value, gradient with respect to the student's weights, and batch-norm statistics after the step.

        Args:
            loss: the defense's, before any backward pass.
            expected: its value by NumPy; `np_student` has made the same forward passes.
            outer: the loss as a function of the student alone, x* and targets fixed; its central difference along a
                random direction is what the gradient has to agree with.
        """
        assert loss.total.item() == pytest.approx(expected, rel=1e-9)
        assert outer(copy.deepcopy(self.np_student)) == pytest.approx(expected, rel=1e-9)

        loss.total.backward()
        rng = np.random.default_rng(0)
        direction = {name: rng.standard_normal(value.shape) for name, value in self.np_student.weights.items()}
        slope = sum(
            (0 if value.grad is None else float((value.grad.numpy() * direction[name]).sum()))
            for name, value in self.student.named_parameters()
        )
        h = 1e-6
        numeric = (outer(self.np_student.moved(direction, h)) - outer(self.np_student.moved(direction, -h))) / (2 * h)
        assert slope == pytest.approx(numeric, rel=1e-5, abs=1e-7)

        assert self.student.norm.running_mean is not None
        assert self.student.norm.running_var is not None
        np.testing.assert_allclose(self.student.norm.running_mean.numpy(), self.np_student.mean, rtol=1e-12)
        np.testing.assert_allclose(self.student.norm.running_var.numpy(), self.np_student.var, rtol=1e-12)
        assert self.student.norm.num_batches_tracked == self.np_student.count


@pytest.fixture
def make_case() -> type[Case]:
    """Case(classes=10, seed=0, noise="gaussian")."""
    return Case


@pytest.fixture
def ref() -> SimpleNamespace:
    """The ingredients in NumPy."""
    return SimpleNamespace(
        Network=NumpyNetwork,
        softmax=softmax,
        log_softmax=log_softmax,
        cross_entropy=cross_entropy,
        batch_kl=batch_kl,
        mean_kl=mean_kl,
        entropy=entropy,
        one_hot=one_hot,
        climb=climb,
        ce_gradient=ce_gradient,
        kl_gradient=kl_gradient,
        disagreement_gradient=disagreement_gradient,
        dice_gradient=dice_gradient,
    )
