"""WideResNets (Zagoruyko and Komodakis 2016), with the layer names of the TRADES authors' checkpoints."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from bench.errors import BenchError

Block = Callable[[int, int, int], nn.Module]
"""Makes a block: (in_width, width, stride) -> module."""


class WideBlock(nn.Module):
    """Pre-activation residual block: (B, in_width, H, W) to (B, width, H / stride, W / stride)."""

    def __init__(self, in_width: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_width)
        self.conv1 = nn.Conv2d(in_width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.convShortcut = nn.Conv2d(in_width, width, 1, stride, bias=False) if in_width != width else None

    def forward(self, x: Tensor) -> Tensor:
        activated = F.relu(self.bn1(x), inplace=True)
        out = self.conv2(F.relu(self.bn2(self.conv1(activated)), inplace=True))
        # A projection starts from the activated input, the identity from the raw one.
        out += x if self.convShortcut is None else self.convShortcut(activated)
        return out


def group(name: str, block: Block, in_width: int, width: int, stride: int, blocks: int) -> nn.Module:
    """Blocks of one width, under a name of their own in the state dict; only the first has the stride."""
    rest = [block(width, width, 1) for _ in range(blocks - 1)]
    return nn.Sequential(OrderedDict({name: nn.Sequential(block(in_width, width, stride), *rest)}))


class WideResNet(nn.Module):
    """WRN-D-W with D = 6 * blocks + 4: images (B, in_channels, H, W) to logits (B, num_classes)."""

    def __init__(self, blocks: int, widen: int, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.block1 = group("layer", WideBlock, 16, 16 * widen, 1, blocks)
        self.block2 = group("layer", WideBlock, 16 * widen, 32 * widen, 2, blocks)
        self.block3 = group("layer", WideBlock, 32 * widen, 64 * widen, 2, blocks)
        self.bn1 = nn.BatchNorm2d(64 * widen)
        self.fc = nn.Linear(64 * widen, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        out = self.block3(self.block2(self.block1(self.conv1(x))))
        out = F.relu(self.bn1(out), inplace=True)
        return self.fc(F.adaptive_avg_pool2d(out, 1).flatten(1))


_DEEPEST, _WIDEST = 1000, 64


def build_wide_resnet(name: str, num_classes: int, in_channels: int) -> nn.Module:
    """Build `wrn-D-W`: depth D = 6n + 4, W times as wide as a ResNet.

    Raises:
        BenchError: the name has not this form, or there is no WideResNet of that depth.
    """
    return WideResNet(*blocks_and_width(name), num_classes, in_channels)


def blocks_and_width(name: str) -> tuple[int, int]:
    """The blocks of a group and the width of `wrn-D-W`, with or without `-swish` behind it.

    Raises:
        BenchError: the name has not this form, or there is no WideResNet of that depth.
    """
    match = re.fullmatch(r"wrn-(\d+)-(\d+)(-swish)?", name)
    if match is None:
        raise BenchError(
            f"{name!r} is no WideResNet.\nWrite wrn-DEPTH-WIDTH, for example wrn-34-10; with Swish wrn-28-10-swish."
        )
    depth, widen, swish = int(match[1]), int(match[2]), match[3] or ""
    if depth > _DEEPEST or widen > _WIDEST:  # the name may come from a file that means harm
        raise BenchError(
            f"{name!r} is larger than any WideResNet.\nDepth and width are at most {_DEEPEST} and {_WIDEST}."
        )
    if depth < 10 or depth % 6 != 4 or widen < 1:
        nearest = max(10, 6 * round((depth - 4) / 6) + 4)
        raise BenchError(
            f"There is no WideResNet {name!r}: the depth must be 6n + 4 with n >= 1, the width at least 1.\n"
            f"The nearest is wrn-{nearest}-{max(1, widen)}{swish}."
        )
    return (depth - 4) // 6, widen


def name_from_weights(state: Mapping[str, Tensor]) -> str | None:
    """The `wrn-D-W` or `wrn-D-W-swish` whose layer names a state dict has; None where it is no WideResNet's."""
    for first, conv, ending in (("block1.layer", "conv1", ""), ("layer.0.block", "conv_0", "-swish")):
        pattern = rf"{re.escape(first)}\.(\d+)\.{conv}\.weight"
        blocks = {match[1] for key in state if (match := re.fullmatch(pattern, key))}
        if "0" in blocks:
            shape = state[f"{first}.0.{conv}.weight"].shape
            width = shape[0] if len(shape) == 4 else 0
            return f"wrn-{6 * len(blocks) + 4}-{width // 16}{ending}" if width >= 16 else None
    return None
