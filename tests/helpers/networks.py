"""Networks that are trained within seconds."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attacks.pgd import PGD

DigitsModel = Callable[[str], nn.Module]
"""digits_model("natural"), digits_model("sat"): a small network trained on the digits; each call a copy."""


def fit(network: nn.Module, x: Tensor, y: Tensor, epochs: int, eps: float = 0.0) -> nn.Module:
    """Train a network for some seconds by SGD, for eps > 0 on PGD-5's images; it comes back in eval mode."""
    order = torch.Generator().manual_seed(0)
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
    steps = epochs * -(-len(y) // 128)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=steps)
    for _ in range(epochs):
        for batch in torch.randperm(len(y), generator=order).split(128):
            images = x[batch]
            if eps:
                attack = PGD(eps=eps, step_size=eps / 3, steps=5)
                images = attack(network.eval(), images, y[batch], generator=order)
            optimizer.zero_grad()
            F.cross_entropy(network.train()(images), y[batch]).backward()
            optimizer.step()
            schedule.step()
    return network.eval()
