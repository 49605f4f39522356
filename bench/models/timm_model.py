"""Any architecture of timm's, without its pretrained weights: `timm:resnet18`."""

from __future__ import annotations

import timm
from torch import nn

from bench.errors import BenchError, suggestion


def build_timm(name: str, num_classes: int, in_channels: int) -> nn.Module:
    """Build `timm:NAME`, freshly initialised. Many of timm's networks want images of 224x224 or more.

    Raises:
        BenchError: timm has no such model; or it cannot be built with this number of classes or channels.
    """
    wanted = name.removeprefix("timm:")
    if not timm.is_model(wanted):
        hint = suggestion(wanted, timm.list_models(), lambda close: f"'timm:{close}'")
        raise BenchError(
            f"timm {timm.__version__} has no model {wanted!r}.{hint}\n"
            f"List its models: python -c \"import timm; print(*timm.list_models(), sep='\\n')\""
        )
    try:
        return timm.create_model(wanted, pretrained=False, num_classes=num_classes, in_chans=in_channels)
    except Exception as error:  # each of timm's families refuses in its own way
        raise BenchError(
            f"timm cannot build {wanted!r} for {num_classes} classes and {in_channels} channels: {error}\n"
            "Choose another of its models."
        ) from error
