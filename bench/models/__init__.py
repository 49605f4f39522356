"""Models: `build_model("resnet18", 10)`, `build_model("wrn-34-10@cifar10", 10)`; one file an architecture."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from bench import registry
from bench.data.dataset import Split, to_float
from bench.defense import mode
from bench.errors import BenchError, unknown_name
from bench.models import normalise

__all__ = ["build_model", "check_finite", "split_spec", "try_out"]


LONGEST_SPEC = 120
"""Signs of a model's spec: it is part of the names of files, and of what strangers' files say of themselves."""


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
    if len(spec) > LONGEST_SPEC:
        raise BenchError(
            f"The model's name {spec[:40]}... has {len(spec)} signs, and may have at most {LONGEST_SPEC}.\n"
            "Leave arguments away, or give the architecture a short name as a plug-in."
        )
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


def try_out(network: nn.Module, spec: str, samples: Split, num_classes: int) -> None:
    """Notice before any work that a network, on any device, wants images of another size, or gives no logits.

    Raises:
        BenchError: it cannot take such an image, its output is not of shape (1, num_classes), or it or its weights are
            not finite.
    """
    check_finite(network, spec)
    parameter = next(network.parameters(), torch.empty(0))
    image = to_float(samples.images[:1].to(parameter.device), parameter.dtype)
    try:
        with mode(network, training=False), torch.no_grad():
            output = network(image)
        shape = tuple(output.shape)
    except Exception as error:  # whatever a stranger's network raises for a size it cannot take
        size, reason = "x".join(map(str, image.shape[1:])), str(error).split("\n")[0].rstrip(".")
        advice = "Choose a network for such images (`bench list models`), or another dataset."
        if spec.startswith("timm:") and "img_size" not in spec:
            advice = f"Many of timm's can be told: timm:NAME?img_size={image.shape[-1]}. Or c{advice[1:]}"
        raise BenchError(f"{spec} cannot take images of {size}: {reason}.\n{advice}") from error
    if shape != (1, num_classes):
        raise BenchError(
            f"{spec} gives an output of shape {shape} for one image, not (1, {num_classes}) logits.\n"
            "Choose a classifier (`bench list models`)."
        )
    if not output.isfinite().all():
        raise not_finite(f"{spec} gives NaN or infinity for an image")


def check_finite(network: nn.Module, name: str) -> None:
    """A BenchError where a network's weights or statistics hold NaN or infinity; `name`: what to call it."""
    for key, value in network.state_dict().items():
        if isinstance(value, Tensor) and value.is_floating_point() and not value.isfinite().all():
            raise not_finite(f"{name} has NaN or infinite weights, in {key}")


def not_finite(what: str) -> BenchError:
    """The error for a network that computes no numbers; the arg-max of NaN is a class like any other."""
    return BenchError(
        f"{what}.\nIts accuracy would mean nothing: choose another checkpoint, or train it again (with a smaller step)."
    )


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
    if any(is_lazy(parameter) for parameter in network.parameters()):
        raise BenchError(
            f"{source} returned a network with lazy modules, whose weights no file can be compared with.\n"
            "Its author has to give their sizes."
        )
    return network
