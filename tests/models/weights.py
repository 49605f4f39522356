"""Files of weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

METADATA = {"model_spec": "digits-cnn@half", "num_classes": "10", "in_channels": "1"}


def write(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
