"""A network whose weights tests write and read."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bench.models import build_model


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return build_model("digits-cnn@half", 10, 1).eval()
