"""Pre-activation ResNet-18 (He et al. 2016, "Identity mappings") for small images, as public robustness code has it.

Three forms with the same layer names are in use; they differ in what nobody sees from outside, so each has a name.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

_WIDTHS = (64, 128, 256, 512)

FORMS = {
    "preact-resnet18": (True, True),
    "preact-resnet18-kuangliu": (False, True),
    "preact-resnet18-wong": (False, False),
}
"""By name: whether batch-norm and ReLU stand before the pooling, and whether a projection starts from the activated
input. The first is Rice et al.'s (2020; AWP's too), the second kuangliu's pytorch-cifar, the third Wong et al.'s (2020)
and RobustBench's `PreActResNet` as it is by default."""


class PreActBlock(nn.Module):
    """Pre-activation residual block: (B, in_width, H, W) to (B, width, H / stride, W / stride)."""

    def __init__(self, in_width: int, width: int, stride: int, from_activated: bool) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_width)
        self.conv1 = nn.Conv2d(in_width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.from_activated = from_activated
        self.shortcut: nn.Module | None = None
        if stride != 1 or in_width != width:
            self.shortcut = nn.Sequential(nn.Conv2d(in_width, width, 1, stride, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        activated = F.relu(self.bn1(x), inplace=True)
        out = self.conv2(F.relu(self.bn2(self.conv1(activated)), inplace=True))
        if self.shortcut is None:
            out += x
        else:
            out += self.shortcut(activated if self.from_activated else x)
        return out


class PreActResNet18(nn.Module):
    """A 3x3 stem, four stages of two blocks, global pooling, a linear layer.

    Maps images (B, in_channels, H, W) to logits (B, num_classes). Every stage but the first halves the image.

    Args:
        final_norm, from_activated: as in `FORMS`.
    """

    def __init__(self, num_classes: int, in_channels: int, final_norm: bool, from_activated: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, _WIDTHS[0], 3, padding=1, bias=False)
        in_width = _WIDTHS[0]
        for number, width in enumerate(_WIDTHS, start=1):
            first = PreActBlock(in_width, width, 1 if number == 1 else 2, from_activated)
            self.add_module(f"layer{number}", nn.Sequential(first, PreActBlock(width, width, 1, from_activated)))
            in_width = width
        self.bn = nn.BatchNorm2d(in_width) if final_norm else None
        self.linear = nn.Linear(in_width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(x)
        for number in range(1, len(_WIDTHS) + 1):
            out = self.get_submodule(f"layer{number}")(out)
        if self.bn is not None:
            out = F.relu(self.bn(out), inplace=True)
        return self.linear(F.adaptive_avg_pool2d(out, 1).flatten(1))


def build_preact_resnet18(name: str, num_classes: int, in_channels: int) -> nn.Module:
    """One of `FORMS`."""
    return PreActResNet18(num_classes, in_channels, *FORMS[name])
