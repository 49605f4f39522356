"""The student's optimizer, of torch.optim: its arguments checked, weight decay where it belongs, gradients clipped."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from bench.errors import BenchError, unknown_name
from bench.recipes.training import Optimizer
from bench.system.text import one_line

_LEFT_OUT = {"LBFGS", "SparseAdam", "Muon"}
"""They ask for the loss several times a step, take no dense gradients, or train matrices alone."""
_NOT_OURS = {"params", "lr", "foreach", "fused", "capturable", "differentiable", "maximize"}
"""Arguments that are no user's matter: how the step is computed, and in which direction."""


def kinds() -> dict[str, type[torch.optim.Optimizer]]:
    """The classes of torch.optim that can train a student, by name in lower case."""
    found = {name: value for name, value in vars(torch.optim).items() if isinstance(value, type)}
    return {
        name.lower(): value
        for name, value in found.items()
        if issubclass(value, torch.optim.Optimizer) and value is not torch.optim.Optimizer and name not in _LEFT_OUT
    }


def arguments_of(kind: str) -> dict[str, Any]:
    """What an optimizer takes besides `lr`, with its defaults as plain values.

    Raises:
        BenchError: there is none of that name.
    """
    known = kinds()
    if kind not in known:
        raise unknown_name("optimizer", kind, known)
    parameters = inspect.signature(known[kind]).parameters
    return {
        name: list(each.default) if isinstance(each.default, tuple) else each.default
        for name, each in parameters.items()
        if name not in _NOT_OURS and each.default is not inspect.Parameter.empty
    }


def completed(optimizer: Optimizer) -> Optimizer:
    """The same with every argument that its class has by default, so that a run's configuration holds them all.

    Raises:
        BenchError: an optimizer that there is not, an argument that it does not have, or a value that it refuses.
    """
    known, given = arguments_of(optimizer.kind), optimizer.arguments
    for name in given.keys() - {"lr"} - known.keys():
        others = {"kind", "lr", "decay_norms", "clip", *known}
        raise unknown_name(f"field of training.optimizer ({optimizer.kind})", name, others)
    if not optimizer.decay_norms and "weight_decay" not in known:
        raise BenchError(f"decay_norms=false: {optimizer.kind} has no weight decay.\nLeave decay_norms out.")
    if optimizer.kind != "sgd":
        optimizer = Optimizer.model_validate(known | optimizer.model_dump())
    sample = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(1, 1))
    made(sample, optimizer)
    return optimizer


def made(
    network: nn.Module, optimizer: Optimizer, fused: bool = False, companions: Sequence[nn.Module] = ()
) -> torch.optim.Optimizer:
    """The optimizer of a network's weights, and of those of others that learn beside it as if each had one of its own.

    Args:
        fused: whether its step is one kernel, where its class has one; the same up to rounding.

    Raises:
        BenchError: its class refuses an argument.
    """
    kind, arguments = kinds()[optimizer.kind], optimizer.arguments
    if "fused" in inspect.signature(kind).parameters:
        arguments["fused"] = fused
    try:
        groups = [group for each in (network, *companions) for group in _groups(each, optimizer)]
        found = kind(groups, **arguments)
    except (ValueError, TypeError, RuntimeError, AssertionError) as error:
        raise BenchError(
            f"The optimizer {optimizer.kind} refuses its arguments: {one_line(str(error)).rstrip('.')}.\n"
            f"Set others, of {', '.join(['lr', *arguments_of(optimizer.kind)])}."
        ) from error
    clip = optimizer.clip
    if clip is not None:
        each_weights = [list(each.parameters()) for each in (network, *companions)]

        def shorten(*_: Any) -> None:
            # Where several processes train, the gradient here is the whole batch's already.
            for weights in each_weights:
                nn.utils.clip_grad_norm_(weights, clip)

        found.register_step_pre_hook(shorten)
    return found


def set_pace(optimizer: torch.optim.Optimizer, rate: float, momentum: float | None) -> None:
    """Give an optimizer the learning rate of its next step, and the momentum where that moves and it has one."""
    for group in optimizer.param_groups:
        group["lr"] = rate
        if momentum is not None and "momentum" in group:
            group["momentum"] = momentum
        elif momentum is not None and "betas" in group:
            group["betas"] = (momentum, *group["betas"][1:])


def _groups(network: nn.Module, optimizer: Optimizer) -> list[dict[str, Any]]:
    """All weights together, or those with weight decay and those without."""
    weights = list(network.parameters())
    if optimizer.decay_norms:
        return [{"params": weights}]
    decayed: dict[str, Any] = {"params": [each for each in weights if each.ndim > 1]}
    bare: dict[str, Any] = {"params": [each for each in weights if each.ndim <= 1], "weight_decay": 0.0}
    return [group for group in (decayed, bare) if group["params"]]
