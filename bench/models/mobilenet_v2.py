"""MobileNet-V2 (Sandler et al. 2018) for small images, with the layer names of public CIFAR checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn


class Stage(NamedTuple):
    """Inverted residuals in a row; only the first of them has the stride."""

    expansion: int
    width: int
    blocks: int
    stride: int


CIFAR_STAGES = (
    Stage(1, 16, 1, 1),
    Stage(6, 24, 2, 1),  # stride 2 in the paper, as in its stem: images of 32x32 would shrink too early
    Stage(6, 32, 3, 2),
    Stage(6, 64, 4, 2),
    Stage(6, 96, 3, 1),
    Stage(6, 160, 3, 2),
    Stage(6, 320, 1, 1),
)


class InvertedResidual(nn.Module):
    """Expand, filter depth-wise, project; with a shortcut where the image keeps its size.

    Maps (B, in_width, H, W) to (B, width, H / stride, W / stride).
    """

    def __init__(self, in_width: int, width: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = expansion * in_width
        self.conv1 = nn.Conv2d(in_width, hidden, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.conv2 = nn.Conv2d(hidden, hidden, 3, stride, padding=1, groups=hidden, bias=False)
        self.bn2 = nn.BatchNorm2d(hidden)
        self.conv3 = nn.Conv2d(hidden, width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.has_shortcut = stride == 1
        self.shortcut = nn.Sequential()
        if self.has_shortcut and in_width != width:
            # Not in the paper, but the public CIFAR network projects where the paper has no shortcut.
            self.shortcut = nn.Sequential(nn.Conv2d(in_width, width, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        out = self.bn3(self.conv3(out))
        if self.has_shortcut:
            out += self.shortcut(x)
        return out


class MobileNetV2(nn.Module):
    """A 3x3 stem of stride 1, stages of inverted residuals, a 1x1 head, global pooling, a linear layer.

    Maps images (B, in_channels, H, W) to logits (B, num_classes).
    """

    def __init__(self, stem: int, stages: Sequence[Stage], head: int, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, stem, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        blocks: list[nn.Module] = []
        in_width = stem
        for stage in stages:
            for number in range(stage.blocks):
                stride = stage.stride if number == 0 else 1
                blocks.append(InvertedResidual(in_width, stage.width, stage.expansion, stride))
                in_width = stage.width
        self.layers = nn.Sequential(*blocks)
        self.conv2 = nn.Conv2d(in_width, head, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(head)
        self.linear = nn.Linear(head, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.layers(out)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        return self.linear(F.adaptive_avg_pool2d(out, 1).flatten(1))


def build_mobilenet_v2(name: str, num_classes: int, in_channels: int) -> nn.Module:
    """The CIFAR MobileNet-V2 of the distillation papers: stride 1 in the stem and in the second stage."""
    return MobileNetV2(32, CIFAR_STAGES, 1280, num_classes, in_channels)
