"""Device and precision of a run."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bench.config import Precision
from bench.errors import BenchError


def choose_device(name: str) -> torch.device:
    """`auto`, `cpu` or `cuda` as a device; `auto` takes a GPU where there is one."""
    if name == "cuda" and not torch.cuda.is_available():
        raise BenchError(
            "--device cuda: PyTorch sees no GPU here.\nUse --device cpu, or install a CUDA build and driver."
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


class Autocast(nn.Module):
    """A network that computes in bfloat16 where that is safe, and gives float32 logits.

    Weights stay float32. The network itself is wrapped, not the training step: losses and attack steps are then
    always computed in float32.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16):
            logits: Tensor = self.network(x)
        return logits.float()


def with_precision(network: nn.Module, precision: Precision) -> nn.Module:
    """The network as it is used in training at a precision."""
    return Autocast(network) if precision == "bf16" else network
