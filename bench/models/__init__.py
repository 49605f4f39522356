"""Models: `build_model("resnet18", 10)`, `build_model("wrn-34-10@cifar10", 10)`; one file an architecture."""

from __future__ import annotations

from torch import nn

from bench import registry
from bench.errors import BenchError, unknown_name
from bench.models import normalise

__all__ = ["build_model", "split_spec"]


def build_model(spec: str, num_classes: int, in_channels: int = 3) -> nn.Module:
    """Build a model with fresh weights, drawn from torch's global random generator.

    Args:
        spec: `NAME` or `NAME@NORM`: a registered architecture ("resnet18", "wrn-34-10", "timm:resnet18") and
            the normalisation in front of it: "none" (the default), "cifar10", "cifar100", "imagenet", "half".
        num_classes: number of logits.
        in_channels: channels of the images: 3, or 1 for grey ones.

    Returns:
        A network in train mode that maps images in [0, 1], shape (B, in_channels, H, W), to logits
        (B, num_classes). Its normalisation lives inside it and adds nothing to its state dict.

    Raises:
        BenchError: the architecture or the normalisation is unknown, or a plug-in does not build a network.
    """
    name, norm = split_spec(spec)
    network = _build_network(name, num_classes, in_channels)
    if norm != normalise.NONE and normalises_itself(network):
        raise BenchError(f"The model {name!r} normalises its images itself.\nUse it without '@{norm}'.")
    return normalise.normalise(network, norm, in_channels)


def split_spec(spec: str) -> tuple[str, str]:
    """The architecture's name and the normalisation ("none" if left out) of a model's spec.

    Raises:
        BenchError: what follows the last '@' is no known normalisation.
    """
    name, at, norm = spec.rpartition("@")
    if not at:
        return spec, normalise.NONE
    if norm not in normalise.NAMES:
        raise unknown_name("normalisation", norm, normalise.NAMES)
    return name, norm


def normalises_itself(network: nn.Module) -> bool:
    """Whether normalisation is part of the architecture, so that none may be put in front of it."""
    return bool(getattr(network, "normalises_itself", False))


def _build_network(name: str, num_classes: int, in_channels: int) -> nn.Module:
    factory = registry.load("models", name)
    source = f"The model plug-in for {name!r}, from {registry.origin(registry.find('models', name))},"
    try:
        network = factory(name, num_classes, in_channels)
    except BenchError:
        raise
    except Exception as error:  # a stranger's factory may raise anything
        raise BenchError(
            f"{source} failed: {type(error).__name__}: {error}\n"
            f"It was called as factory({name!r}, {num_classes}, {in_channels}); its author has to repair it."
        ) from error
    if not isinstance(network, nn.Module):
        raise BenchError(
            f"{source} returned a {type(network).__name__}, not a torch.nn.Module.\nIts author has to repair it."
        )
    return network
