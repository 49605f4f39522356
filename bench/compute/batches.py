"""How many images go through a network together where the number is free: as many as the device likes best."""

from __future__ import annotations

from collections.abc import Sequence

import torch

PIXELS = {"cpu": 32 * 32**2, "cuda": 1000 * 32**2}
"""Of all images together: what a CPU's caches hold, what keeps a GPU (or another device) busy."""


def at_once(shape: Sequence[int], device: torch.device) -> int:
    """Images of this shape (..., H, W), 32 of CIFAR's on a CPU and 512 of the digits'; at least one."""
    return max(1, PIXELS.get(device.type, PIXELS["cuda"]) // (shape[-2] * shape[-1]))
