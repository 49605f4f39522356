"""WideResNets with Swish (Gowal et al. 2020), with the layer names of DeepMind's checkpoints.

They are the robust networks trained on generated images: RobustBench's `DMWideResNet` with SiLU.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from bench.models.normalise import statistics
from bench.models.wide_resnet import blocks_and_width, group

_PUBLISHED = "wrn-70-16"
"""The one that had a name here before the others, and normalises its images itself."""


def pad_same(x: Tensor, stride: int) -> Tensor:
    """Zero padding for a 3x3 convolution as TensorFlow's "SAME" does it, shape (B, C, H, W).

    At stride 2 an even side is padded at its end only, an odd side at both.
    """
    if stride == 1:
        return F.pad(x, (1, 1, 1, 1))
    height, width = x.shape[-2:]
    return F.pad(x, (width % 2, 1, height % 2, 1))


class SwishBlock(nn.Module):
    """Pre-activation residual block: (B, in_width, H, W) to (B, width, H / stride, W / stride)."""

    def __init__(self, in_width: int, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.batchnorm_0 = nn.BatchNorm2d(in_width)
        self.conv_0 = nn.Conv2d(in_width, width, 3, stride, bias=False)
        self.batchnorm_1 = nn.BatchNorm2d(width)
        self.conv_1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(in_width, width, 1, stride, bias=False) if in_width != width else None

    def forward(self, x: Tensor) -> Tensor:
        activated = F.silu(self.batchnorm_0(x))
        out = self.conv_0(pad_same(activated, self.stride))
        out = self.conv_1(F.silu(self.batchnorm_1(out)))
        # A projection starts from the activated input, the identity from the raw one.
        out += x if self.shortcut is None else self.shortcut(activated)
        return out


class SwishWideResNet(nn.Module):
    """WRN-D-W with Swish, D = 6 * blocks + 4: images (B, in_channels, H, W) to logits (B, num_classes)."""

    def __init__(self, blocks: int, widen: int, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.init_conv = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.layer = nn.Sequential(
            group("block", SwishBlock, 16, 16 * widen, 1, blocks),
            group("block", SwishBlock, 16 * widen, 32 * widen, 2, blocks),
            group("block", SwishBlock, 32 * widen, 64 * widen, 2, blocks),
        )
        self.batchnorm = nn.BatchNorm2d(64 * widen)
        self.logits = nn.Linear(64 * widen, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        out = F.silu(self.batchnorm(self.layer(self.init_conv(x))))
        return self.logits(F.adaptive_avg_pool2d(out, 1).flatten(1))


class NormalisingSwishWideResNet(SwishWideResNet):
    """The same for images in [0, 1], which it normalises as its authors trained it.

    By CIFAR-10's statistics for ten classes, by CIFAR-100's for any other number.
    """

    mean: Tensor
    std: Tensor
    normalises_itself = True

    def __init__(self, blocks: int, widen: int, num_classes: int, in_channels: int) -> None:
        super().__init__(blocks, widen, num_classes, in_channels)
        mean, std = statistics("cifar10" if num_classes == 10 else "cifar100", in_channels)
        # Not persistent: not all of the published files hold them.
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward((x - self.mean) / self.std)


def build_swish_wide_resnet(name: str, num_classes: int, in_channels: int) -> nn.Module:
    """Build `wrn-D-W-swish`, without a normalisation; or `wrn-70-16`, which has one (267 million parameters, 1 GB).

    Raises:
        BenchError: the name has not this form, or there is no WideResNet of that depth.
    """
    kind = NormalisingSwishWideResNet if name == _PUBLISHED else SwishWideResNet
    return kind(*blocks_and_width(name), num_classes, in_channels)
