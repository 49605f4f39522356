"""Normalisation inside the model: whoever calls it, attacks included, passes images in [0, 1].

There is no setting to forget: a normalised network and a bare one are called the same way, and both have the
same parameter and state-dict names, so a checkpoint of one loads into the other.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bench.errors import BenchError

NONE = "none"

_TABLES = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}

_ROUNDED = 1e-3
"""By how much published statistics may differ from the tables': they are written with three digits or more."""

NAMES = (NONE, *_TABLES)
"""Every normalisation a model's spec may end in (`NAME@NORM`)."""


def applicable(in_channels: int) -> tuple[str, ...]:
    """The normalisations that exist for images of this number of channels."""
    return NAMES if in_channels in (1, 3) else (NONE,)


def statistics(name: str, in_channels: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of a named normalisation, each of shape (in_channels, 1, 1).

    Grey images take the mean of the three colours' values.

    Raises:
        BenchError: images with neither 1 nor 3 channels, for which the tables say nothing.
    """
    if name == NONE:
        return torch.zeros(in_channels, 1, 1), torch.ones(in_channels, 1, 1)
    if name not in applicable(in_channels):
        raise BenchError(
            f"The normalisation {name!r} is for images of 1 or 3 channels; these have {in_channels}.\n"
            f"Use the model without '@{name}'."
        )
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in _TABLES[name])
    return (mean, std) if in_channels == 3 else (mean.mean(0, keepdim=True), std.mean(0, keepdim=True))


def name_of(mean: Tensor, std: Tensor, in_channels: int) -> str | None:
    """The normalisation of these statistics, which may be rounded and of any shape; None where none here has them."""
    for name in applicable(in_channels):
        pairs = zip(statistics(name, in_channels), (mean, std), strict=True)
        if all(
            theirs.numel() in (1, in_channels)
            and torch.allclose(ours.flatten(), theirs.flatten().to(ours).expand(in_channels), rtol=0, atol=_ROUNDED)
            for ours, theirs in pairs
        ):
            return name
    return None


def normalise(network: nn.Module, name: str, in_channels: int) -> nn.Module:
    """Make a network normalise its input, (x - mean) / std, before its first layer; returns the same network.

    `name` is one of `NAMES`; "none" leaves the network as it is.
    """
    if name == NONE:
        return network
    mean, std = statistics(name, in_channels)
    # Buffers follow .to() and .double(); not persistent, because the spec records the normalisation already.
    network.register_buffer("input_mean", mean, persistent=False)
    network.register_buffer("input_std", std, persistent=False)
    # A hook instead of a wrapping module: a wrapper would prefix every parameter's name.
    network.register_forward_pre_hook(_normalise_input)
    return network


def _normalise_input(network: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    return (inputs[0] - network.get_buffer("input_mean")) / network.get_buffer("input_std")
