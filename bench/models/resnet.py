"""ResNets for small images (He et al. 2016), with the layer names of the field's public CIFAR checkpoints.

Sums and ReLUs are computed in place, here as in the other networks: no backward pass needs what they overwrite.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from bench.errors import BenchError


class PadShortcut(nn.Module):
    """He et al.'s option A, a shortcut without parameters: every second pixel, zeros in the new channels."""

    def __init__(self, in_width: int, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.padding = (width - in_width) // 2

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.padding, self.padding))


def projection(in_width: int, width: int, stride: int) -> nn.Module:
    """He et al.'s option B: a strided 1x1 convolution and batch-norm."""
    return nn.Sequential(nn.Conv2d(in_width, width, 1, stride, bias=False), nn.BatchNorm2d(width))


Shortcut = Callable[[int, int, int], nn.Module]
"""Makes the shortcut of a block that changes the shape: (in_width, width, stride) -> module."""


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut: (B, in_width, H, W) to (B, width, H / stride, W / stride)."""

    def __init__(self, in_width: int, width: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_width, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        same_shape = stride == 1 and in_width == width
        self.shortcut = nn.Identity() if same_shape else shortcut(in_width, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return F.relu(out, inplace=True)


class ResNet(nn.Module):
    """A 3x3 stem, stages of basic blocks, global pooling, a linear layer.

    Maps images (B, in_channels, H, W) to logits (B, num_classes).

    Args:
        widths: channels of each stage; the stem has those of the first.
        blocks: blocks in each stage.
        strides: by how much each stage shrinks the image; by default every one but the first halves it.
        shortcut: what stands beside a block that changes the shape.
    """

    def __init__(
        self,
        widths: Sequence[int],
        blocks: Sequence[int],
        num_classes: int,
        in_channels: int,
        shortcut: Shortcut = projection,
        strides: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.stages = [f"layer{number}" for number in range(1, len(widths) + 1)]
        in_width = widths[0]
        strides = strides or [1, *[2] * (len(widths) - 1)]
        for stage, width, depth, stride in zip(self.stages, widths, blocks, strides, strict=True):
            stage_blocks = []
            for number in range(depth):
                stage_blocks.append(BasicBlock(in_width, width, stride if number == 0 else 1, shortcut))
                in_width = width
            self.add_module(stage, nn.Sequential(*stage_blocks))
        self.linear = nn.Linear(in_width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        for stage in self.stages:
            out = self.get_submodule(stage)(out)
        return self.linear(F.adaptive_avg_pool2d(out, 1).flatten(1))


def build_resnet18(name: str, num_classes: int, in_channels: int) -> nn.Module:
    """The CIFAR ResNet-18 of the robustness papers: 3x3 stem, no max-pool, widths 64 to 512.

    `resnet18-strides-1122`: with these strides of its four stages, as LBGAT's guide has; those of `resnet18` are 1222.
    The weights do not show them, so a file of such a network has to be named with its architecture.
    """
    digits = "1222" if name == "resnet18" else name.removeprefix("resnet18-strides-")
    if len(digits) != 4 or set(digits) - {"1", "2"}:
        raise BenchError(f"{name}: a ResNet-18 has four stages.\nName a 1 or a 2 for each: resnet18-strides-1122.")
    strides = [int(digit) for digit in digits]
    return ResNet((64, 128, 256, 512), (2, 2, 2, 2), num_classes, in_channels, strides=strides)


def build_resnet(name: str, num_classes: int, in_channels: int) -> nn.Module:
    """He et al.'s CIFAR networks of three stages, widths 16, 32, 64, with their initialisation.

    `resnetD` has depth D = 6n + 2 and projection shortcuts, `resnetD-option-a` those of option A.
    """
    depth = int(name.removeprefix("resnet").removesuffix("-option-a"))
    shortcut: Shortcut = PadShortcut if name.endswith("-option-a") else projection
    network = ResNet((16, 32, 64), ((depth - 2) // 6,) * 3, num_classes, in_channels, shortcut)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
    return network
