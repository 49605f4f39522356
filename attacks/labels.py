"""Labels as the definitions write them."""

from __future__ import annotations

import torch
from torch import Tensor


def one_hot(y: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
    """Y: 1 at each sample's label and 0 elsewhere; shape (B, classes).

    Unlike `torch.nn.functional.one_hot`, which reads the labels to check them, it never waits for the device.

    Args:
        y: shape (B,), int64, 0 to classes - 1.
    """
    return (y[:, None] == torch.arange(classes, device=y.device)).to(dtype)
