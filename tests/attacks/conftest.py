"""A network that can be differentiated by hand: logits = W x + b."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn


class Linear(nn.Module):
    """Logits W x + b, float64; `iterates` are the images it has seen."""

    def __init__(self, classes: int = 5, pixels: int = 12, seed: int = 0) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        self.weight = nn.Parameter(torch.from_numpy(rng.standard_normal((classes, pixels))))
        self.bias = nn.Parameter(torch.from_numpy(rng.standard_normal(classes)))
        self.iterates: list[Tensor] = []
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        self.iterates.append(x.detach().clone())
        return x.flatten(1) @ self.weight.T + self.bias

    def numpy(self, x: np.ndarray) -> np.ndarray:
        """Logits by NumPy."""
        return x.reshape(len(x), -1) @ self.weight.detach().numpy().T + self.bias.detach().numpy()

    def input_gradient(self, logits_gradient: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """From a gradient with respect to logits, that with respect to images."""
        return (logits_gradient @ self.weight.detach().numpy()).reshape(shape)


@pytest.fixture
def linear() -> type[Linear]:
    return Linear


@pytest.fixture
def make_images() -> Callable[..., tuple[Tensor, Tensor]]:
    """make_images(model, n=16, seed=0, wrong=4): images of shape (n, 3, 2, 2), float64, some pixels at 0 and 1, with
    labels of which the last `wrong` are not what the model says."""

    def make(model: nn.Module, n: int = 16, seed: int = 0, wrong: int = 4) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng(seed)
        x = torch.from_numpy(np.clip(1.4 * rng.random((n, 3, 2, 2)) - 0.2, 0, 1))
        with torch.no_grad():
            logits = model(x)
        y = logits.argmax(1)
        y[n - wrong :] = (y[n - wrong :] + 1) % logits.shape[1]
        if isinstance(model, Linear):
            model.iterates.clear()
        return x, y

    return make
