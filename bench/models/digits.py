"""Small networks for 8x8 grey digits: what the full-size ones are to CIFAR, in seconds on a CPU.

Each is its big sister with fewer stages, so a run on digits exercises the same code. Larger images work too.
"""

from __future__ import annotations

from torch import nn

from bench.models.mobilenet_v2 import MobileNetV2, Stage
from bench.models.resnet import ResNet

_MOBILE_STAGES = (Stage(2, 24, 1, 2), Stage(4, 32, 1, 2))


def build_digits_cnn(name: str, num_classes: int, in_channels: int) -> nn.Module:
    """The student in ResNet-18's place: two residual blocks, both on the smaller image, for speed."""
    return ResNet((16, 24), (0, 2), num_classes, in_channels)


def build_digits_mobile(name: str, num_classes: int, in_channels: int) -> nn.Module:
    """The student in MobileNet-V2's place: two inverted residuals, each halving the image."""
    return MobileNetV2(16, _MOBILE_STAGES, 64, num_classes, in_channels)


def build_digits_teacher(name: str, num_classes: int, in_channels: int) -> nn.Module:
    """The teacher: as `digits-cnn`, more than twice as wide."""
    return ResNet((32, 64), (0, 2), num_classes, in_channels)
